"""The reproduction as a page with tables and pictures; every number and verdict in it comes from the runs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from .. import plots, runtime
from ..intervals import Estimate
from .effects import Effect, Evidence
from .materials import BACKBONE, FAR, MATERIALS, NEAR, SIZE, STAGES
from .matrix import LECTURE, NOTES, SLIDES, probe, training, tuned_probe
from .pilot import PILOT
from .probing import VIEWS
from .reproduction import IMAGES, TABLE, VERDICTS, committed_folder, evidence, verdict_table, verdicts
from .shifts import OTHER_SOURCE
from .tiers import FULL, QUICK, Tier
from .training import STRATEGIES
from .verdicts import BROKEN, HOLDS, MIXED, OPEN, REVERSED, SAME, Verdict
from .verdicts import VERDICTS as KINDS

PAGE = "reproduction.md"
FROZEN = {
    "pixels": probe(backbone="pixels", at="pixels"),
    "random": probe(backbone="random"),
    "probe": tuned_probe(),
}
"""What every strategy is shown beside: no network, a frozen network without training, and with."""

COMPARED = {"linear_probe", "tuned_probe", "training"}

RULE = f"""
An effect is a difference between runs that share a seed: the same training images, judged by the same images,
image by image. Its interval, of 95 %, is that of a two-way analysis of variance in which both the seeds (draw
of the training images, start, order) and the judging images could have been others; crops of one photograph
count once. Data sets are averaged, not drawn.

- **{HOLDS}**: the effect is surely above 0 (for advice to take the cheaper of two: the cheaper one is
  surely not worse by more than the margin). **{REVERSED}**: surely below. "Surely" is p < 0.05.
- **{SAME}**: surely smaller than the margin in either direction, by two one-sided tests (TOST).
- **{MIXED}**: it holds on one of the data sets and is reversed on another.
- **{BROKEN}**: a strategy that the claim compares did not get a fair chance: training from scratch is surely
  below a linear classifier of the pixels or of a random frozen backbone, or a finetuned network below the
  probe.
- **{OPEN}**: none of these; more seeds or more images would decide.

Each verdict is about these images, sizes and this network, not about the claim everywhere. With so many
claims some come out by chance: the adjusted p-values are Benjamini and Hochberg's for all claims of the
page.
""".strip()


def write_report(known: Evidence, tier: Tier, folder: str | Path, *, only: Sequence[str] = ()) -> Path:
    """Write the page, its pictures, and the tables of runs, judges and verdicts to a folder; return the page.

    Args:
        known: runs and their judges, as `reproduce` returns them.
        tier: the tier that they are of.
        folder: where to write.
        only: ids of the claims that the page is about; all of them unless given.

    Example:
        >>> from tlutils import claims
        >>> page = claims.write_report(claims.evidence(), claims.FULL, "out", only=["gabor-filters"])
        >>> page.read_text(encoding="utf-8").splitlines()[0]
        '# What the lectures claim, measured'
    """
    folder = runtime.user_path(folder)
    _write_table(known.runs, folder / TABLE)
    _write_table(known.images, folder / IMAGES)
    known = evidence(folder)  # what is in the file, rounded: all else follows from it
    found = verdicts(known, only=only)
    _write_table(verdict_table(found), folder / VERDICTS)
    drawn = []
    for name, picture in pictures(known, found).items():
        with runtime.atomic_write(folder / "reproduction" / f"{name}.png") as temporary:
            temporary.write_bytes(picture.png())
        drawn.append(f"![{picture.alt}](reproduction/{name}.png)")
    with runtime.atomic_write(folder / PAGE) as temporary:
        temporary.write_text(page(known, tier, found, drawn), encoding="utf-8")
    return folder / PAGE


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with runtime.atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def page(known: Evidence, tier: Tier, found: Sequence[Verdict], drawn: Sequence[str]) -> str:
    """Return the page as Markdown."""
    runs, table = known.runs, verdict_table(found)
    counts = "; ".join(f"{kind}: {n}" for kind in KINDS if (n := sum(table["verdict"] == kind)))
    if unmeasured := int((table["n"] == 0).sum()):
        counts += f", {unmeasured} of them not measured"
    decided = table[table["verdict"].isin([HOLDS, REVERSED, SAME])]
    survive = int((decided["adjusted"] < 0.05).sum())
    flag = "" if tier.name == "quick" else f" --{tier.name}"
    taken = sorted(set(runs[runs["origin"] == "committed"].get("dataset", pd.Series(dtype=object)).dropna()))
    stopped = int(runs.get("stopped", pd.Series(dtype=int)).sum())
    whole = set(runs["protocol"]) >= COMPARED and len(found) > 1
    parts = [
        "# What the lectures claim, measured",
        f"{len(found)} claims. {counts}. Of the {len(decided)} that hold, are reversed or show no "
        f"difference, {survive} survive the adjustment for so many claims.",
        f"This page is made by `tlutils reproduce{flag}`; `{TABLE}` has one row per run with a hit for each "
        f"judging image, `{IMAGES}` the judging images, `{VERDICTS}` one row per claim. Of {len(runs)} runs, "
        f"{int((runs['error'] != '').sum())} failed, and {stopped} trainings were stopped since their loss "
        "was no number any more. Their seconds by the clock, each on one core of a machine that may have had "
        f"other work ({', '.join(sorted(set(runs['machine'])))}), add up to "
        f"{runs['seconds'].sum() / 60:.0f} minutes."
        + (
            f" Not measured again but taken from the committed evidence: {', '.join(taken)}." if taken else ""
        ),
        "## How a verdict comes about",
        RULE,
        "## What was measured on what",
        _sizes(known, tier),
        "Nothing is chosen on the images that judge: they are each data set's test split. Penalties, and the "
        "stage or the network where one is picked, are chosen by cross-validation within the training "
        "images. Learning rate, number of steps, augmentation, BatchNorm and, from scratch, the network were "
        "chosen by one search of seven trials for each strategy and data set, on draws of about 200 training "
        f"images with seeds that no run here has (`{PILOT}` has every trial); the number of steps goes with "
        "the square root of the number of images. A linear probe has seven penalties to choose from, in each "
        f"run; where it is compared with training, the search had chosen whether it learns from {VIEWS} "
        "augmented views of each image.",
        f"Every run is made with {len(tier.seeds)} seeds, linear probes with little data with "
        f"{len(tier.draws)}. {tier.note}",
        *(["## Every strategy beside its controls", *_strategies(known, tier)] if whole else []),
        "## Pictures",
        *drawn,
        "## The matrix in its three versions",
        *_matrix(found),
        "## All claims",
        rows_of(
            ["claim", "source", "effect [95 % interval]", "seeds", "margin", "p, adjusted", "verdict"],
            [
                [
                    link(v),
                    v.claim.source,
                    _effect(v),
                    v.n,
                    f"{v.claim.margin:g}",
                    f"{q:.3f}" if v.mean else "–",
                    v.verdict,
                ]
                for v, q in zip(found, table["adjusted"], strict=True)
            ],
        ),
        "## Claim by claim",
        *(paragraph(v) for v in found),
        *_replication(table, tier),
    ]
    return "\n\n".join(parts) + "\n"


def _replication(table: pd.DataFrame, tier: Tier) -> Iterator[str]:
    """Yield where the verdicts of a tier and of the other one differ, if the other one is committed."""
    other = QUICK if tier.name == FULL.name else FULL
    committed = committed_folder(other) / VERDICTS
    if not committed.exists():
        return
    both = table.merge(pd.read_csv(committed), on="id", suffixes=("", "_other"))
    both = both[(both["n"] > 0) & (both["n_other"] > 0)]
    differ = both[both["verdict"] != both["verdict_other"]]
    yield f"## Beside the {other.name} tier"
    yield (
        f"The tiers share no draw and no seed. Of {len(both)} claims that both measured "
        f"{len(both) - len(differ)} have the same verdict in both; these differ, also where one tier has too "
        "little data to decide:"
    )
    rows = [
        [r.id, f"{r.verdict} ({r.effect:+.3f})", f"{r.verdict_other} ({r.effect_other:+.3f})"]
        for r in differ.itertuples()
    ]
    yield rows_of(["claim", tier.name, other.name], rows)


def paragraph(v: Verdict) -> str:
    """Return what a claim says, what was measured, and what follows, in a few sentences."""
    claim = v.claim
    words = [f"### {claim.id}", f"*{claim.says}* ({claim.source})"]
    if v.mean is None:
        words.append(f"Not measured: {'; '.join(v.failed) or 'runs are missing.'} Verdict: **{v.verdict}**.")
        return "\n\n".join([*words, *(part for part in (v.also, claim.note) if part)])
    bar = "0" if claim.expects == "more" else f"{-claim.margin:g}"
    words.append(
        f"Measured: {claim.contrast}. Effect {_effect(v)} in {claim.unit}, over {v.n} seeds. The claim holds "
        f"above {bar}; a difference below {claim.margin:g} counts as none ({claim.why}). "
        f"Verdict: **{v.verdict}**."
    )
    if v.broken:
        words.append(f"The control failed: {'; '.join(v.broken)}.")
    if v.failed:
        words.append(f"Some runs failed: {'; '.join(v.failed)}")
    if v.parts:
        words.append(
            f"By data set: {'; '.join(f'{n} {interval(m.interval())}' for n, m in v.parts.items())}."
        )
    words += [part for part in (v.also, claim.note) if part]
    return "\n\n".join(words)


def pictures(known: Evidence, found: Sequence[Verdict]) -> dict[str, plots.Picture]:
    """Return the pictures of the page by name; those that there are runs for."""
    drawn = {}
    protocols = set(known.runs["protocol"])
    if protocols >= COMPARED and len(found) > 1:
        drawn["corners"] = plots.panels(
            score_strategies(known),
            ylabel="balanced accuracy",
            title="The four corners: what each strategy reaches",
            alt="Balanced accuracy with intervals of every strategy and control, by level and data set.",
        )
    if "linear_probe" in protocols and (depths := score_stages(known)):
        drawn["depth"] = plots.lines(
            STAGES,
            depths,
            xlabel="features after stage",
            ylabel="balanced accuracy",
            title="Where in the network the useful features are",
            alt="Balanced accuracy of linear probes by stage, with little and lots of data, by data set.",
        )
    rows: list[Any] = verdict_table(found).to_dict("records")
    rows = [r for r in rows if r["unit"] == "balanced accuracy" and r["n"] > 1]
    if rows:
        drawn["claims"] = plots.effects(
            rows,
            xlabel="effect in balanced accuracy, 95 % interval; the band is the margin",
            title="",
            alt="Effect and interval of each claim measured in balanced accuracy, coloured by verdict.",
        )
    return drawn


def score_strategies(known: Evidence) -> dict[tuple[str, str], dict[str, tuple[float, float, float]]]:
    """Return what each strategy and control reaches, {(level, data set): {strategy: (mean, low, high)}}.

    Args:
        known: runs, those of the protocols `COMPARED` among them, and their judges.

    Example:
        >>> from tlutils import claims
        >>> scores = claims.score_strategies(claims.evidence())
        >>> scores["lots", "hymenoptera"]["probe"][0] > scores["lots", "hymenoptera"]["pixels"][0]
        True
    """
    runs = known.runs
    own = runs[runs["protocol"] == "training"]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for level in ("little", "lots"):
        for name in [n for n in (*NEAR, *FAR) if n in set(own["dataset"])]:
            panel = {"majority": (1 / MATERIALS[name].classes,) * 3}
            for strategy, effect in _list_strategies(name, level):
                measured = (effect * 1).measure(known)
                if measured:
                    value, low, high = measured[0].interval()
                    panel[strategy] = value, low, high
            found[level, name] = panel
    return found


def _list_strategies(name: str, level: str) -> Iterator[tuple[str, Effect]]:
    place: dict[str, Any] = {"dataset": name, "level": level}
    for strategy, mean in FROZEN.items():
        yield strategy, replace(mean, axes={**mean.axes, **place})
    for strategy in STRATEGIES:
        yield strategy, training(strategy=strategy, **place)


def score_stages(known: Evidence) -> dict[str, dict[str, list[tuple[Any, ...]]]]:
    """Return {data set: {level: (mean, low, high) for each stage}} of linear probes."""
    found: dict[str, dict[str, list[tuple[Any, ...]]]] = {}
    for name in MATERIALS:
        for level in ("little", "lots"):
            measured = [probe(at=stage, dataset=name, level=level) * 1 for stage in STAGES]
            values = [own.measure(known) for own in measured]
            if all(values):
                found.setdefault(name, {})[level] = [tuple(v[0].interval()) for v in values if v]
    return found


def _strategies(known: Evidence, tier: Tier) -> Iterator[str]:
    names = [*FROZEN, *STRATEGIES]
    for level, images in tier.levels.items():
        rows = []
        for dataset in tier.trained:
            cells = []
            for _, effect in _list_strategies(dataset, level):
                measured = (effect * 1).measure(known)
                cells.append(interval(measured[0].interval(), sign="") if measured else "–")
            rows.append([dataset, f"{1 / MATERIALS[dataset].classes:.3f}", *cells])
        yield f"{level.capitalize()}, {images} images of each class: balanced accuracy [95 % interval]."
        yield rows_of(["data set", "majority", *names], rows)
    yield (
        "`few` finetunes the last two stages, `more` the last five of nine, `finetune` everything from a "
        "random head, `lp-ft` everything from the solved probe; `random` is a probe of an untrained frozen "
        "backbone."
        + ("" if tier.unclaimed else " – stands for what no claim asks about, which this tier does not run.")
    )


def _sizes(known: Evidence, tier: Tier) -> str:
    far = known.runs[known.runs["protocol"] == "domain_distance"]
    distance = far.groupby("dataset")["distance"].mean() if len(far) else pd.Series(dtype=float)
    judges = known.images.groupby("dataset").size()
    rows = [
        [
            name,
            MATERIALS[name].says,
            MATERIALS[name].column or "beside the matrix",
            f"{distance[name]:.2f}" if name in distance else "–",
            MATERIALS[name].classes,
            judges.get(name, 0),
            "another source, judges alone"
            if name in OTHER_SOURCE.values()
            else "yes"
            if name in (*tier.trained, *OTHER_SOURCE)
            else "heads alone",
        ]
        for name in dict.fromkeys([*tier.probed, *chain(*OTHER_SOURCE.items())])
    ]
    ends = [f"{n} {distance[n]:.2f}" for n in ("photographs", "noise") if n in distance]
    columns = [
        "data set",
        "what it is",
        "column",
        "distance",
        "classes",
        "judging images",
        "networks trained",
    ]
    levels = ", ".join(f"{level} is {images}" for level, images in tier.levels.items())
    scale = f" The ends of that scale: {', '.join(ends)}." if ends else ""
    return (
        f"{rows_of(columns, rows)}\n\nImages of each class to learn from: {levels} (all, where a class has "
        f"fewer). All images are shown to the network at {SIZE} pixels. The distance is how far the images "
        "are from ImageNet in the network's own features (`transferability.domain_distance`): 0 is ImageNet "
        f"itself.{scale} The network is `{BACKBONE}` unless a claim says otherwise."
    )


def _matrix(found: Sequence[Verdict]) -> list[str]:
    by_id = {v.claim.id: v for v in found}
    cells = [("little", "similar"), ("little", "different"), ("lots", "similar"), ("lots", "different")]
    tables = {"lecture": LECTURE, "slides": SLIDES, "notes": NOTES}
    rows = [
        [f"{amount}, {likeness}"]
        + [
            f"{by_id[i].claim.says} **{by_id[i].verdict}** ({_effect(by_id[i])})" if i in by_id else "–"
            for i in (f"{t}-{amount}-{likeness}" for t in tables)
        ]
        for amount, likeness in cells
    ]
    return [rows_of(["cell", *tables.values()], rows)]


def link(v: Verdict) -> str:
    """Return a link to a claim's paragraph."""
    return f"[{v.claim.id}](#{v.claim.id})"


def _effect(v: Verdict) -> str:
    return interval(v.effect) if v.mean else "not measured"


def interval(effect: Estimate, *, sign: str = "+") -> str:
    """Return an effect and its interval as text."""
    return f"{effect.value:{sign}.3f} [{effect.low:{sign}.3f}, {effect.high:{sign}.3f}]"


def rows_of(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
