"""How much a rule about freezing loses: every policy run to the end, and every rule judged by its regret.

    python benchmarks/advisor_regret.py run --out DIR      # hours on one core; what is done is not done again
    python benchmarks/advisor_regret.py keep --out DIR     # the rows that are done, as docs/regret.parquet
    python benchmarks/advisor_regret.py report             # the rules on their tasks, as docs/advice.md

A task is a data set, a number of images, and what is wrong with them. Every policy learns from the same
images of a task and is judged by the same pool of others, at least `POOL`; a rule may look at what is known
without that pool: the number of images, their distance from ImageNet, scores from cross-validation, and the
whole table of the *other* data sets. Settings of a policy, too, are those that suited other data sets in the
course's search (docs/pilot.csv).

The regret of a rule on a task is the score of the task's best policy minus that of the one which the rule
takes, in points of balanced accuracy, both as means over the seeds. The best is known only afterwards, and is
best by luck as well: where all policies are alike, every rule has some points of regret. That cancels in the
difference of two rules; "without luck" is the mean regret beside a policy that other seeds of the task chose.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, lru_cache
from itertools import product
from math import ceil
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.special import stdtrit

from tlutils import data, runtime, surgery, transferability
from tlutils.advisor import POLICIES, TABLES, Decision, decide
from tlutils.advisor.policies import FROM_PROBE, PROBES, fit, settings_for, train_policy
from tlutils.advisor.race import LEVEL, Race, expect, learning_curve, survivors
from tlutils.advisor.tables import Cells, table_of
from tlutils.claims.materials import (
    BACKBONE,
    MATERIALS,
    STAGES,
    Shrunk,
    judge_by,
    load_dataset,
    load_network,
    predict,
    prepare_images,
    reset_network,
    small_network,
)
from tlutils.claims.shifts import corrupt
from tlutils.experiments import key_of, run_grid, tidy
from tlutils.inference import evaluating
from tlutils.intervals import SampleMean, macro_average
from tlutils.probe import COARSE_FOLDS, assign_folds

POOL, SEEDS = 200, range(3)

# --- Tasks -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What is learned: some images of a data set, and what is wrong with them.

    Attributes:
        dataset: a key of `MATERIALS`.
        per_class: images of each class, of the most frequent one where they differ.
        wrong: share of the training labels that name another class, drawn evenly.
        ratio: images of the most frequent class for each of the rarest; a geometric series between them.
        corruption: what befell all images, those that judge included: one of `shifts.CORRUPTIONS`, or "".
    """

    dataset: str
    per_class: int
    wrong: float = 0.0
    ratio: float = 1.0
    corruption: str = ""

    @property
    def counts(self) -> list[int]:
        """Images of each class, the most frequent first."""
        shares = self.ratio ** -np.linspace(0, 1, MATERIALS[self.dataset].classes)
        return [round(share * self.per_class) for share in shares]

    @property
    def name(self) -> str:
        """The task in words."""
        return (
            f"{self.dataset}, {self.per_class} per class"
            + (f", {self.wrong:.0%} wrong labels" if self.wrong else "")
            + (f", {self.ratio:g} to 1" if self.ratio > 1 else "")
            + (f", {self.corruption}" if self.corruption else "")
        )


TASKS = (
    Task("hymenoptera", 30),
    Task("cifar-10", 8),
    Task("elpv-defects", 40),
    Task("mnist-5k", 40),
    Task("dtd", 10),
    Task("scenes", 10, wrong=0.3),
    Task("digits", 6),
    Task("elpv-defects", 150, ratio=10),
    Task("dtd", 20, corruption="contrast"),
    Task("hymenoptera", 90),
    Task("cifar-10", 20, wrong=0.2),
    Task("cifar-10", 60, ratio=10),
    Task("mnist-5k", 20, corruption="noise"),
    Task("digits", 30, wrong=0.1),
    Task("hymenoptera", 60, corruption="pixelate"),
    Task("cifar-10", 40),
    Task("elpv-defects", 200),
    Task("elpv-defects", 100, wrong=0.2),
    Task("mnist-5k", 8),
    Task("dtd", 40),
)
"""In the order of their runs: the first seven are of seven data sets, so that a part says something."""


@dataclass(eq=False)
class Corrupted(Shrunk):
    """A split whose images are corrupted, each always in the same way; not at all where `kind` is ""."""

    kind: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.fingerprint += f", {self.kind}"

    def __getitem__(self, i: int, /) -> tuple[Image.Image, int]:
        image, label = super().__getitem__(i)
        number = int(self.split.hashes[i][:8], 16)
        return (corrupt(image, number, kind=self.kind) if self.kind else image), label

    def select(self, indices: Sequence[int]) -> "Corrupted":
        return Corrupted(self.split.select(list(indices)), self.kind)


@cache
def load_sides(name: str) -> tuple[data.Split, data.Split]:
    """Return what is learned from and the pool that judges; one below `POOL` is filled up from the other."""
    known, pool = load_dataset(name).train, load_dataset(name).val
    if len(pool) < POOL:
        moved = known.subsample(ceil((POOL - len(pool)) / len(known.classes))).groups
        more = known.select([i for i, group in enumerate(known.groups) if group in moved])
        known = known.select([i for i, group in enumerate(known.groups) if group not in moved])
        pool = pool.join(more)
    return known, pool


@lru_cache(maxsize=4)
def draw(task: Task, seed: int) -> tuple[Corrupted, Corrupted]:
    """Return the images that a task is learned from, drawn by `seed`, and the pool that judges."""
    known, pool = load_sides(task.dataset)
    known = known.subsample(task.per_class, seed=seed)
    rng, labels, classes = np.random.default_rng([seed, 18]), np.array(known.labels), len(known.classes)
    kept = [
        rng.permutation(np.flatnonzero(labels == k))[:count]
        for k, count in zip(rng.permutation(classes), task.counts, strict=True)
    ]
    known = known.select(sorted(np.concatenate(kept).tolist()))
    labels = np.array(known.labels)
    flipped = rng.choice(len(labels), round(task.wrong * len(labels)), replace=False)
    labels[flipped] = (labels[flipped] + rng.integers(1, classes, len(flipped))) % classes
    known = replace(known, labels=labels.tolist())
    return Corrupted(known, task.corruption), Corrupted(pool, task.corruption)


def halves(known: Corrupted, fold: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which images a fold learns from and which it judges by; copies of a picture stay together."""
    groups = np.unique(known.split.groups, return_inverse=True)[1]
    folds = assign_folds(np.array(known.labels), groups, COARSE_FOLDS, seed)
    return np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


# --- Features --------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def read_features(
    split: Corrupted, backbone: str = BACKBONE, at: Sequence[str] = STAGES
) -> tuple[dict[str, np.ndarray], float]:
    """Return what leaves some stages of a network, averaged over places, (N, D), and the seconds spent."""
    start = time.process_time()
    model = load_network(backbone)
    x = prepare_images(model, split).to(memory_format=torch.channels_last)
    parts: dict[str, list[torch.Tensor]] = {stage: [] for stage in at}
    with evaluating(model) as bare, torch.no_grad():
        read = surgery.outputs(bare, at=at)
        for batch in x.split(64):
            for stage, out in read(batch).items():
                parts[stage].append(out.flatten(2).mean(2) if out.dim() > 2 else out)
    return {stage: torch.cat(own).numpy() for stage, own in parts.items()}, time.process_time() - start


# --- Runs ------------------------------------------------------------------------------------------------


def race(
    *, policy: str, judge: str, seed: int, lr: float, steps: int, augment: Any, **task: Any
) -> dict[str, Any]:
    """A policy on a task: `hits` and `score` by the pool, or by the fold whose number `judge` is.

    `cpu` is what learning took, the pass over the images included, judging not. `groups` are those of the
    images that judge.
    """
    known, pool = draw(Task(**task), seed)
    features, pass_seconds = read_features(known)
    learn, held = halves(known, int(judge), seed) if judge != "pool" else (np.arange(len(known)), None)
    judges = pool if held is None else known.select(held)
    start = time.process_time()
    own = {stage: x[learn] for stage, x in features.items()}
    labels, groups = np.array(known.labels)[learn], np.array(known.split.groups)[learn]
    if policy in PROBES:
        classify = PROBES[policy](own, labels, groups, seed)
        spent = time.process_time() - start
        new = read_features(pool)[0] if held is None else {stage: x[held] for stage, x in features.items()}
        guessed = classify(new).argmax(axis=1)
    else:
        settings = replace(settings_for(policy, len(learn)), lr=lr, steps=steps, augment=augment)
        classes = len(known.classes)
        model = small_network(classes, seed) if policy == "scratch" else reset_network(classes, seed)
        solved = fit(own["pool"], labels, groups, seed) if policy in FROM_PROBE else None
        train_policy(policy, model, known.select(learn), settings, solved=solved, seed=seed)
        spent = time.process_time() - start
        guessed = predict(model, prepare_images(model, judges))
    if policy not in ("finetune", "scratch"):  # these alone need no features
        spent += pass_seconds * len(learn) / len(known)
    return judge_by(judges.labels, guessed) | {
        "truth": " ".join(map(str, judges.labels)),
        "groups": " ".join(map(str, judges.split.groups)),
        "images": len(learn),
        "cpu": spent,
    }


def describe(*, seed: int, **task: Any) -> dict[str, Any]:
    """What a rule may know of a task before anything is trained: number of images, distance from ImageNet."""
    known, _ = draw(Task(**task), seed)
    return {
        "images": len(known),
        "classes": len(known.classes),
        "distance": transferability.domain_distance(load_network(BACKBONE), known).value,
    }


def curve(*, seed: int, **task: Any) -> dict[str, Any]:
    """What the last doubling of the images brought a linear probe, with its interval, as an advice tells."""
    known, _ = draw(Task(**task), seed)
    groups = np.unique(known.split.groups, return_inverse=True)[1]
    own = Race(
        known, read_features(known)[0], groups, load=load_network, pass_seconds=0, deadline=0, seed=seed
    )
    for fold in range(COARSE_FOLDS):
        own.run("probe", fold)
    return learning_curve(own)[GAIN].iloc[-1].to_dict()


def settings_elsewhere(policy: str, dataset: str, images: int) -> dict[str, Any]:
    """Return lr, steps and augment of a policy by what was found best for other data sets."""
    if policy in PROBES:
        return {"lr": 0.0, "steps": 0, "augment": False}
    found = settings_for(policy, images, without=dataset)
    # What is another thing when mirrored is shifted instead: its owner would say so.
    augment = MATERIALS[dataset].augment if found.augment else False
    return {"lr": found.lr, "steps": found.steps, "augment": augment}


def races_of(task: Task, seed: int, judge: str, policies: Sequence[str]) -> list[dict[str, Any]]:
    """Return the runs of some policies on a task, judged by the pool or by a fold."""
    images = round(sum(task.counts) * (1 if judge == "pool" else 1 - 1 / COARSE_FOLDS))
    axes = {"judge": judge, "seed": seed, **asdict(task)}
    return [{"policy": name, **axes, **settings_elsewhere(name, task.dataset, images)} for name in policies]


def run_task(task: Task, seed: int, out: Path) -> None:
    """Run every policy on the pool, and on each fold those that the advisor's race lets run there."""
    races, folds = races_of(task, seed, "pool", list(POLICIES)), {}
    for fold in range(COARSE_FOLDS):
        races += races_of(task, seed, str(fold), who_runs(folds, list(POLICIES), fold))
        about = [{"seed": seed, **asdict(task)}]
        grids = {describe: about, curve: about, race: races}
        rows = run_grid(grids, out=out, versions=VERSIONS, n_jobs=-1)
        failed = rows[rows["error"] != ""]
        if len(failed):
            print(f"{task.name}, seed {seed}: {failed['error'].iloc[0]}")
            return
        folds = read_table(rows).known["folds"].iloc[0]


# --- Rows ------------------------------------------------------------------------------------------------

KEPT = Path(__file__).resolve().parents[1] / "docs" / "regret.parquet"
"""The rows that `run_grid` made, axes and values as JSON; each names the versions that it was made with."""

VERSIONS = {"describe": "1", "curve": "1", "race": "1"}
"""Of the functions that make rows; where one is raised, `KEPT` has to be deleted and made again."""


def keep(out: Path) -> None:
    """Write the rows of a folder that did not fail as `KEPT`, beside what is there."""
    lay(out)
    rows = [json.loads(file.read_text("utf-8")) for file in sorted(out.glob("*.json"))]
    packed = [
        row | {part: json.dumps(row[part]) for part in ("axes", "values")} for row in rows if not row["error"]
    ]
    pd.DataFrame(packed).to_parquet(KEPT, index=False, compression="zstd")


def kept_rows() -> list[dict[str, Any]]:
    """Return the rows of `KEPT`."""
    rows = pd.read_parquet(KEPT).to_dict("records")
    return [row | {part: json.loads(row[part]) for part in ("axes", "values")} for row in rows]


def lay(out: Path) -> None:
    """Write the rows of `KEPT` where `run_grid` looks for them, whatever versions they were made with."""
    out.mkdir(parents=True, exist_ok=True)
    for row in kept_rows() if KEPT.exists() else []:
        key = key_of(row["protocol"], row["axes"], VERSIONS[row["protocol"]])
        file = out / f"{row['protocol']}-{key}.json"
        if not file.exists():
            file.write_text(json.dumps(row | {"key": key}), encoding="utf-8")


# --- Rules -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """What came out, one row per (dataset, task, seed), which is the index of all three.

    Attributes:
        scores: by policy, balanced accuracy in percent on the pool, which no rule sees of its own task.
        known: what a rule may see: `images`, `distance`, by "cv POLICY" the score of cross-validation, in
            `folds` by policy and fold (hits, labels, groups) of the images that judged there, and `GAIN`.
        cpu: by policy, seconds of the processor.
    """

    scores: pd.DataFrame
    known: pd.DataFrame
    cpu: pd.DataFrame

    def rows(self, chosen: np.ndarray) -> "Table":
        """Return some of the rows."""
        return Table(self.scores[chosen], self.known[chosen], self.cpu[chosen])


INDEX = ["dataset", "task", "seed"]
GAIN = ["gain", "gain_low", "gain_high"]
"""Columns of a learning curve: what the last doubling of the images brought, and the ends of its interval."""


def read_table(rows: pd.DataFrame) -> Table:
    """Return the tasks and seeds of which every policy was judged by the pool; missing folds are NaN."""
    rows = rows[rows["error"] == ""].copy()
    axes = rows[[field.name for field in fields(Task)]].to_dict("records")
    rows["task"] = [Task(**own).name for own in axes]
    told = rows[rows["protocol"] == "describe"].set_index(INDEX)[["images", "distance"]]
    gains = rows[rows["protocol"] == "curve"].set_index(INDEX).reindex(columns=GAIN)
    races = rows[rows["protocol"] == "race"]
    pool, folds = races[races["judge"] == "pool"], races[races["judge"] != "pool"]
    scores, cpu = (
        pool.pivot(index=INDEX, columns="policy", values=value).reindex(columns=POLICIES).dropna()
        for value in ("score", "cpu")
    )
    by_fold = folds.groupby([*INDEX, "policy"])["score"].agg(["mean", "size"])
    cv = by_fold["mean"].where(by_fold["size"] == COARSE_FOLDS).unstack().reindex(columns=POLICIES)
    known = told.join([cv.add_prefix("cv "), gains]).assign(folds=_read_folds(folds))
    done = scores.index.intersection(known.index)
    return Table(100 * scores.loc[done], known.loc[done], cpu.loc[done])


Judged = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Hits, labels and groups of the images that judged."""


def _read_folds(rows: pd.DataFrame) -> pd.Series:
    """Return for each task and seed what the folds said, by policy and number of the fold."""
    found: dict[tuple[Any, ...], dict[str, dict[str, Judged]]] = {}
    for row in rows.itertuples():
        judged = (
            np.array(list(row.hits), dtype=float),
            *(np.array(v.split(), int) for v in (row.truth, row.groups)),
        )
        key = (row.dataset, row.task, row.seed)
        found.setdefault(key, {}).setdefault(row.policy, {})[row.judge] = judged
    return pd.Series(found.values(), index=pd.MultiIndex.from_tuples(found, names=INDEX), dtype=object)


Choice = Callable[[pd.Series], Sequence[str]]
Rule = Callable[[Table], Choice]
"""From the tasks of other data sets to a choice: from what is known of a task to a policy, or to several, of
which one is taken at random."""


def always(policy: str) -> Rule:
    return lambda others: lambda known: [policy]


def best_default(others: Table) -> Choice:
    """Take the policy that is best on average elsewhere."""
    return lambda known: [others.scores.mean().idxmax()]


def at_random(others: Table) -> Choice:
    return lambda known: list(others.scores.columns)


def best_cross_validated(policies: Sequence[str]) -> Rule:
    """Try all these policies on the folds, and take the best; none where folds are missing."""

    def choose(known: pd.Series) -> list[str]:
        scores = known[[f"cv {policy}" for policy in policies]].to_numpy(dtype=float)
        return [] if np.isnan(scores).any() else [policies[int(scores.argmax())]]

    return lambda others: choose


def who_runs(folds: Mapping[str, Mapping[str, Judged]], policies: Sequence[str], fold: int) -> list[str]:
    """Return who runs on a fold when the advisor races these policies, by what the folds before said.

    Frozen policies run on every fold, and of those that train the better half of a fold runs on the next.
    """
    alive = [name for name in policies if name not in PROBES]
    for before in range(1, fold + 1):
        seen = [str(number) for number in range(before)]
        alive = survivors({name: _over(folds[name], seen).value for name in alive})
    return [name for name in policies if name in PROBES] + alive


def raced(known: pd.Series, policies: Sequence[str]) -> list[list[str]] | None:
    """Return who ran on each fold; None where a run is missing."""
    found: list[list[str]] = []
    for fold in range(COARSE_FOLDS):
        found.append(who_runs(known["folds"], policies, fold))
        if any(str(fold) not in known["folds"].get(name, {}) for name in found[-1]):
            return None
    return found


def advised(known: pd.Series, policies: Sequence[str] = tuple(POLICIES)) -> Decision | None:
    """Return what the advisor decides when it races these policies; None where a run is missing."""
    ran = raced(known, policies)
    if ran is None:
        return None
    folds: dict[str, dict[str, Judged]] = known["folds"]
    parts = {name: [folds[name][str(n)] for n in range(COARSE_FOLDS)] for name in ran[-1]}
    hits = {name: np.concatenate([part[0] for part in own]) for name, own in parts.items()}
    labels, groups = (np.concatenate([part[k] for part in parts[ran[-1][0]]]) for k in (1, 2))
    return decide(hits, labels, groups)


def judge_advice(table: Table, policies: Sequence[str] = tuple(POLICIES)) -> dict[str, float]:
    """Return how the advisor fares beside its choice, over all tasks and seeds of which the folds are done.

    `covered` is how often the expected accuracy's interval and the pool's score agree, the pool's own chance
    allowed for, in all and where no label of the task is wrong; `ties` how often several policies tied;
    `share of the cost` what its runs took of the time that every policy on every fold takes; `tasks` how many
    tasks and seeds there were.
    """
    rows = []
    for key, known in table.known.iterrows():
        decision, ran = advised(known, policies), raced(known, policies)
        if decision is None or ran is None:
            continue
        score, cpu = table.scores.loc[key, decision.policy] / 100, table.cpu.loc[key]
        value, low, high = expect(decision, known[GAIN].astype(float).to_frame().T)
        chance = stdtrit(POOL, (1 + LEVEL) / 2) * (score * (1 - score) / POOL) ** 0.5
        half = high - value if score > value else value - low
        covered = abs(score - value) <= (half**2 + chance**2) ** 0.5
        rows.append(
            {
                "covered": covered,
                "covered, right labels": np.nan if "wrong labels" in key[1] else covered,
                "ties": len(decision.tied) > 1,
                "share of the cost": sum(cpu[names].sum() for names in ran) / (COARSE_FOLDS * cpu.sum()),
            }
        )
    return pd.DataFrame(rows).mean().to_dict() | {"tasks": len(rows)} if rows else {"tasks": 0}


def _over(folds: Mapping[str, Judged], numbers: Sequence[str]) -> SampleMean:
    hits, labels, groups = (np.concatenate([folds[n][k] for n in numbers]) for k in range(3))
    return macro_average(hits, labels, groups=groups)


def by_advisor(policies: Sequence[str], takes: Callable[[Decision], str] = attrgetter("policy")) -> Rule:
    """Race these policies, and take what the advisor recommends or `takes` takes of what it found."""

    def choose(known: pd.Series) -> list[str]:
        decision = advised(known, policies)
        return [takes(decision)] if decision else []

    return lambda others: choose


SIZES, DISTANCES = (100, 150, 200, 300), (0.12, 0.2, 0.28)
"""Where many and different may begin. No published table says; each gets what suits it best elsewhere."""


def by_table(tables: Sequence[Cells]) -> Rule:
    """Take the cell of the table, and of the limits between its cells, that are best on average elsewhere."""

    def rule(others: Table) -> Choice:
        values, column = others.scores.to_numpy(), {name: i for i, name in enumerate(others.scores)}
        images, distances = (others.known[name].to_numpy() for name in ("images", "distance"))

        def mean_score(option: tuple[Cells, int, float]) -> float:
            cells, size, distance = option
            keys = zip(images >= size, distances >= distance, strict=True)
            taken = [column[cells[key]] for key in keys]
            return float(values[np.arange(len(values)), taken].mean())

        cells, size, distance = max(product(tables, SIZES, DISTANCES), key=mean_score)
        return lambda known: [cells[known["images"] >= size, known["distance"] >= distance]]

    return rule


BY_COUNT = [table_of(few, few, many, many) for few, many in product(POLICIES, repeat=2)]
RULES: dict[str, Rule] = {
    **{f"always {policy}": always(policy) for policy in POLICIES},
    "best fixed default": best_default,
    "number of images": by_table(BY_COUNT),
    **{f"table of the {name}": by_table([table.cells]) for name, table in TABLES.items()},
    "best probe in cross-validation": best_cross_validated(list(PROBES)),
    "advisor, frozen policies alone": by_advisor(list(PROBES)),
    "advisor": by_advisor(list(POLICIES)),
    "race, the most frozen that ties": by_advisor(list(POLICIES), lambda decision: decision.tied[0]),
    "race, the best on the folds": by_advisor(list(POLICIES), attrgetter("best")),
    "random": at_random,
}


def best_scores(scores: pd.DataFrame) -> pd.Series:
    """Return the score of the best policy on each (dataset, task), the same for all its seeds."""
    return scores.groupby(level=INDEX[:2]).mean().max(axis=1)


def best_by_other_seeds(scores: pd.DataFrame) -> pd.Series:
    """Return, for each (dataset, task), the mean score of the policy that is best on the other seeds."""

    def score(own: pd.DataFrame) -> float:
        if len(own) == 1:
            return np.nan
        taken = (own.sum() - own).to_numpy().argmax(axis=1)
        return float(own.to_numpy()[np.arange(len(own)), taken].mean())

    return scores.groupby(level=INDEX[:2]).apply(score)


def taken_scores(rule: Rule, table: Table) -> pd.Series:
    """Return the mean score of what a rule takes on each (dataset, task); it learns from other data sets."""
    dataset = table.scores.index.get_level_values("dataset")
    taken = {}
    for own in dataset.unique():
        choose = rule(table.rows(dataset != own))
        for key, known in table.known[dataset == own].iterrows():
            taken[key] = table.scores.loc[key, choose(known)].mean()
    means = pd.Series(taken).rename_axis(INDEX).groupby(level=INDEX[:2])
    return means.agg(lambda values: values.to_numpy().mean())  # NaN where one is


def mean_interval(values: np.ndarray, *, level: float = 0.95, draws: int = 10_000) -> tuple[float, float]:
    """Return the interval of the mean over tasks, by the percentiles of a bootstrap that draws tasks.

    The draws are the same at each call: of differences, it is a paired bootstrap.
    """
    drawn = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def judge_rules(table: Table, rules: Mapping[str, Rule] = RULES) -> pd.DataFrame:
    """Return one row per rule, the least mean regret first, with intervals over tasks."""
    default, found = taken_scores(best_default, table), []
    best, lucky = best_by_other_seeds(table.scores), best_scores(table.scores)
    for name, rule in rules.items():
        taken = taken_scores(rule, table)
        if taken.isna().any():  # cross-validation is not done yet
            continue
        regret, gain = lucky - taken, taken - default
        found.append(
            {
                "rule": name,
                "mean": regret.mean(),
                "interval": mean_interval(regret.to_numpy()),
                "without luck": (best - taken).mean(),
                "worst": regret.max(),
                "within 1 point": (regret <= 1).mean(),
                "minus default": -gain.mean(),
                "its interval": mean_interval(-gain.to_numpy()),
            }
        )
    return pd.DataFrame(found).sort_values("mean", ignore_index=True)


# --- The page --------------------------------------------------------------------------------------------

PAGE = KEPT.with_name("advice.md")

START = """\
# How good is the advice?

`tlutils advise` was judged where everything is known: on {tasks} tasks of {datasets} data sets ({runs} runs
with their seeds), every policy was run to its end and judged by at least {pool} images that no rule sees.
The *regret* of a rule is the score of the task's best policy minus that of the one which the rule takes, in
points of balanced accuracy. The best is known only afterwards, and is best by luck as well, so that every
rule has some regret; that cancels in the difference of two rules. Intervals (95 %) are over tasks. The best
fixed default, the limits within a table and the settings of all policies were chosen on *other* data sets.

The rule that the advisor follows was chosen among three ways to take from its race (the most frozen policy
that ties, the best on the folds, a default unless it is behind) on a part of these very tasks: its lead over
the two others is flattered. So are its intervals: what the images bring that a fold leaves out is added to
what the folds said of the default, and of nothing else; that was settled after a look at these runs.

This page is written by `python benchmarks/advisor_regret.py report`.
"""


def write_page(table: Table) -> str:
    """Return, as Markdown, how the advisor and the other rules fared."""
    judged, advice = judge_rules(table).set_index("rule"), judge_advice(table)
    own, frozen, scores = judged.loc["advisor"], judged.loc["advisor, frozen policies alone"], table.scores
    quick = judge_advice(table, list(PROBES))
    low, high = own["its interval"]
    asked = [
        (
            "less regret than the best fixed default, beyond noise",
            f"{own['minus default']:+.1f} [{low:+.1f}, {high:+.1f}] points",
            high < 0,
        ),
        ("a mean regret of one point at most", f"{own['mean']:.2f} points", own["mean"] <= 1),
        (
            "a fifth of the cost of every policy on every fold, at most",
            f"{advice['share of the cost']:.0%}",
            advice["share of the cost"] <= 0.2,
        ),
        (
            "intervals of 90 % that are right in 85 to 95 %",
            f"{advice['covered']:.0%}; where all labels are right {advice['covered, right labels']:.0%}",
            0.85 <= advice["covered"] <= 0.95,
        ),
    ]
    about = {
        "tasks": len(scores.groupby(level=INDEX[:2])),
        "datasets": scores.index.get_level_values("dataset").nunique(),
        "runs": len(scores),
        "pool": POOL,
    }
    simpler = judged.index[judged["mean"] < own["mean"]]
    parts = [
        START.format(**about),
        "## What was asked of the advisor\n",
        lines(["asked", "measured", "met"], [[*row[:2], "yes" if row[2] else "no"] for row in asked]),
        f"Several policies tie in {advice['ties']:.0%} of the runs. "
        + (f"Ahead of it on average: {', '.join(simpler)}. " if len(simpler) else "No rule is ahead of it. ")
        + f"With frozen policies alone (`budget=0`) its regret is {frozen['mean']:.1f} points, at "
        f"{quick['share of the cost']:.0%} of the cost of everything, and {quick['covered']:.0%} of its "
        f"intervals are right ({quick['covered, right labels']:.0%} where all labels are). What is expected "
        "is agreement with labels like those that came with the images: where some of these are wrong, the "
        "judges here, whose labels are right, agree more often.",
        "\n## Rules\n",
        lines(
            ["rule", "mean regret", "worst", "within a point", "more than the best fixed default"],
            [
                [
                    name,
                    f"{row['mean']:.1f} [{row['interval'][0]:.1f}, {row['interval'][1]:.1f}]",
                    f"{row['worst']:.1f}",
                    f"{row['within 1 point']:.0%}",
                    "{:+.1f} [{:+.1f}, {:+.1f}]".format(row["minus default"], *row["its interval"]),
                ]
                for name, row in judged.iterrows()
            ],
        ),
        "\n## Policies\n",
        lines(
            ["policy", "mean score", "seconds of learning"],
            [[name, f"{scores[name].mean():.1f}", f"{table.cpu[name].mean():.1f}"] for name in POLICIES],
        ),
        "\n## Tasks\n",
        lines(
            ["task", "seeds", *POLICIES],
            [
                [task, str(len(runs)), *(f"{runs[name].mean():.1f}" for name in POLICIES)]
                for (_, task), runs in scores.groupby(level=INDEX[:2])
            ],
        ),
    ]
    return "\n".join(parts)


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "keep", "report"])
    parser.add_argument("--out", type=Path, default=Path("build/regret"), help="the folder of the runs")
    options = parser.parse_args()
    if options.command == "run":
        lay(options.out)
        for seed, task in runtime.progress(list(product(SEEDS, TASKS)), desc="tasks"):
            run_task(task, seed, options.out)
        return
    if options.command == "keep":
        keep(options.out)
        return
    table = read_table(tidy(kept_rows()))
    table = table.rows(
        np.array([raced(own, list(POLICIES)) is not None for _, own in table.known.iterrows()])
    )
    if table.scores.index.get_level_values("dataset").nunique() < 2:
        raise SystemExit(
            "Every policy has to be done on tasks of two data sets at least: `run` first, or go on with it."
        )
    PAGE.write_text(write_page(table), encoding="utf-8")
    print(PAGE.read_text("utf-8"))


if __name__ == "__main__":
    main()
