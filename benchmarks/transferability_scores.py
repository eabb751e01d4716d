"""Do transferability scores rank networks and depths as training does?

    python benchmarks/transferability_scores.py run --out DIR   # an hour or two; docs/transferability.parquet
    python benchmarks/transferability_scores.py report          # docs/transferability.md

For the smaller clean task of each data set, each network and each depth that is frozen: every score of the
features there, and the balanced accuracy on the pool after all that follows was finetuned. A score is good if
it ranks as these results do, and useful if it ranks better than somebody who has not looked at the images.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from advisor_regret import (
    SEEDS,
    TASKS,
    Task,
    draw,
    lines,
    mean_interval,
    read_features,
    settings_elsewhere,
)

from tlutils import claims, models, surgery, train, transferability
from tlutils.advisor.policies import fit
from tlutils.claims.materials import (
    BACKBONE,
    LARGER,
    SIZE,
    find_head,
    judge_by,
    predict,
    prepare_images,
)
from tlutils.experiments import run_grid

ELSEWHERE = "the order elsewhere"
OVER = {"all": [], "networks": ["at"], "depths": ["backbone"]}
"""What is ranked together, and what stays the same meanwhile."""

NETWORKS = (BACKBONE, *LARGER, "random")
FROZEN = ("stage2", "stage4", "stage6", "pool")
"""The last stage that is frozen; with "pool" nothing but the head is trained."""

SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "LogME": transferability.logme,
    "H-score": transferability.h_score,
    "TransRate": transferability.transrate,
    "GBC": transferability.gbc,
    "PARC": transferability.parc,
    "nearest neighbour": transferability.nearest_neighbour,
    "depth probe": lambda x, y: transferability.depth_probe({"": x}, y),
}
SOURCE_SCORES = ("LEEP", "NCE")
"""Of the logits of the source's head, which are the same wherever the network is frozen."""


def finetune_after(
    *, backbone: str, at: str, seed: int, lr: float, steps: int, **task: Any
) -> dict[str, Any]:
    """Every score of what leaves the stage `at` of a network, and the `result` of training all after it."""
    known, pool = draw(Task(**task), seed)
    labels, classes = np.array(known.labels), len(known.classes)
    x, _ = read_features(known, backbone, (*FROZEN, "head"))
    found = {name: score(x[at], labels) for name, score in SCORES.items()}
    found["LEEP"] = transferability.leep(x["head"], labels)
    found["NCE"] = transferability.nce(x["head"].argmax(1), labels)
    pretrained = backbone != "random"
    model = models.load(backbone if pretrained else BACKBONE, pretrained, input_size=SIZE, seed=0)
    model = surgery.replace_head(model, classes)
    find_head(model).load_state_dict(
        fit(x["pool"], labels, np.array(known.split.groups), seed).head().state_dict()
    )
    if at != "pool":
        names = [stage.name for stage in surgery.stages(model)]
        recipe = train.Recipe.partial(
            names[names.index(at) + 1],
            batch_size=claims.BATCH,
            epochs=claims.Settings(lr=lr, steps=steps).epochs(len(known)),
            lr=lr,
            head_lr=lr,
            freeze_batchnorm=True,
            keep="last",
            seed=seed,
        )
        train.fit(model, SimpleNamespace(train=known, val=known.select([]), classes=known.classes), recipe)
    return found | {"result": judge_by(pool.labels, predict(model, prepare_images(model, pool)))["score"]}


def score_runs() -> list[dict[str, Any]]:
    """Return the runs that scores are compared with: the smaller clean task of each data set."""
    clean = [task for task in TASKS if task == Task(task.dataset, task.per_class)]
    tasks = {task.dataset: task for task in reversed(clean)}
    found = []
    for seed, task, backbone, at in product(SEEDS, tasks.values(), NETWORKS, FROZEN):
        settings = settings_elsewhere("lp-ft", task.dataset, sum(task.counts))
        own = {"lr": settings["lr"], "steps": settings["steps"]}
        found.append({"backbone": backbone, "at": at, "seed": seed, **asdict(task), **own})
    return found


def rank_correlations(rows: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """Return the rank correlation of each score with `result`, a mean over data sets, with its interval.

    Over all networks and depths of a task, over networks frozen at the same depth, and over depths of the
    same network. `ELSEWHERE` knows no image of the data set: it is the mean result of a network and
    depth on the others.
    """
    rows, point = rows.copy(), ["backbone", "at"]
    for name in rows["dataset"].unique():
        others = rows[rows["dataset"] != name].groupby(point)["result"].mean()
        own = rows["dataset"] == name
        rows.loc[own, ELSEWHERE] = others.reindex(pd.MultiIndex.from_frame(rows.loc[own, point])).to_numpy()
    found = []
    for score in (*scores, ELSEWHERE):
        line: dict[str, Any] = {"score": score}
        for over, same in OVER.items():
            each = rows.groupby(["dataset", "seed", *same])[[score, "result"]].apply(
                lambda group: group.corr("spearman").iloc[0, 1] if len(group) > 2 else np.nan
            )
            means = each.groupby("dataset").mean().dropna().to_numpy()
            line |= {over: means.mean(), f"its interval, {over}": mean_interval(means)} if len(means) else {}
        found.append(line)
    return pd.DataFrame(found).sort_values("all", ascending=False, ignore_index=True)


# --- The page --------------------------------------------------------------------------------------------

KEPT = Path(__file__).resolve().parents[1] / "docs" / "transferability.parquet"
PAGE = KEPT.with_suffix(".md")

START = """\
# Do transferability scores rank as training does?

{networks} networks (EfficientNet-Lite0 to 2, and Lite0 with random weights), each frozen up to {depths}
depths, on {datasets} data sets (seeds: {seeds}): every score of the features at that depth, beside the
balanced accuracy on images that nobody learned from, after everything behind it was finetuned. A row has
Spearman's rank correlation of a score with these results, from -1 to 1, over networks and depths
together, over networks at one depth, and over depths of one network: means over data sets, with 95 %
intervals. *{elsewhere}* has not looked at the images: it is the mean result of that network and depth on
the other data sets. LEEP and NCE read the logits of the source's classes, which are the same at every
depth.

This page is written by `python benchmarks/transferability_scores.py report`.
"""


def write_page(rows: pd.DataFrame) -> str:
    """Return, as Markdown, how well each score ranks."""
    found = rank_correlations(rows, [*SCORES, *SOURCE_SCORES]).set_index("score")

    def told(score: str, over: str) -> str:
        value, interval = found.loc[score, over], found.loc[score, f"its interval, {over}"]
        return "–" if np.isnan(value) else "{:+.2f} [{:+.2f}, {:+.2f}]".format(value, *interval)

    ahead = [s for s in found.index if found.loc[s, "all"] > found.loc[ELSEWHERE, "all"]]
    about = {
        "networks": rows["backbone"].nunique(),
        "depths": rows["at"].nunique(),
        "datasets": rows["dataset"].nunique(),
        "seeds": rows["seed"].nunique(),
        "elsewhere": ELSEWHERE.capitalize(),
    }
    return "\n".join(
        [
            START.format(**about),
            lines(["score", *OVER], [[s, *(told(s, over) for over in OVER)] for s in found.index]),
            f"Ahead of {ELSEWHERE}, over networks and depths: {', '.join(ahead) or 'none'}.\n",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--out", type=Path, default=Path("build/scores"), help="the folder of the runs")
    options = parser.parse_args()
    if options.command == "run":
        columns = ["dataset", "seed", "backbone", "at", *SCORES, *SOURCE_SCORES, "result"]
        for seed in SEEDS:  # so that a part of the seeds says something
            runs = [run for run in score_runs() if run["seed"] <= seed]
            done = run_grid(
                {finetune_after: runs}, out=options.out, versions={"finetune_after": "1"}, n_jobs=-1
            )
            done.loc[done["error"] == "", columns].to_parquet(KEPT, index=False)
        return
    PAGE.write_text(write_page(pd.read_parquet(KEPT)), encoding="utf-8")
    print(PAGE.read_text("utf-8"))


if __name__ == "__main__":
    main()
