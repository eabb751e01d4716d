"""Every committed verdict, computed once more from the tables alone, with pandas and without the package."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

DOCS = Path(__file__).parents[1] / "docs"
TIERS = {"quick": DOCS, "full": DOCS / "full"}
NEAR, FAR = ["hymenoptera", "cifar-10"], ["elpv-defects", "mnist-5k"]
ALL = NEAR + FAR
STAGES = [f"stage{k}" for k in range(1, 8)] + ["pool"]
LITE = [f"tf_efficientnet_lite{k}" for k in range(3)]
RATES = [1e-4, 1e-3, 1e-2]
ELSEWHERE = {"mnist-5k": "digits", "elpv-mono": "elpv-poly"}  # what is learned from, and what judges


class Tables:
    """The three tables of a tier, and what can be asked of them."""

    def __init__(self, folder):
        texts = dict.fromkeys(["hits", "shifted", "real", "kept"], str)
        self.runs = pd.read_csv(folder / "reproduction.csv", dtype=texts)
        self.images = pd.read_csv(folder / "reproduction-images.csv")
        self.verdicts = pd.read_csv(folder / "reproduction-claims.csv", keep_default_na=False).set_index("id")

    @functools.cache  # noqa: B019
    def of(self, protocol, column="hits", dataset="", **axes):
        """A row per seed and a column per image (or one) of the runs with these axes, on one data set."""
        runs = self.runs[(self.runs["protocol"] == protocol) & self.runs[column].notna()]
        for name, value in (axes | ({"dataset": dataset} if dataset else {})).items():
            runs = runs[runs[name] == value]
        runs = runs.set_index("seed")[column].sort_index()
        assert runs.index.is_unique
        if pd.api.types.is_numeric_dtype(runs):
            return runs.to_frame()
        return pd.DataFrame(np.array([list(row) for row in runs], dtype=int), index=runs.index)

    def probe(self, dataset, level, at="pool", backbone=LITE[0], column="hits"):
        return self.of("linear_probe", column, dataset, level=level, at=at, backbone=backbone)

    def tuned(self, dataset, level, column="hits"):
        return self.of("tuned_probe", column, dataset, level=level)

    def train(self, dataset, level, strategy, column="hits"):
        return self.of("training", column, dataset, level=level, strategy=strategy)

    def picked(self, dataset, level, axis, values):
        """Of each seed the hits of the probe with the best cross-validated score; the first among equals."""
        other = {"backbone": {"at": "pool"}, "at": {"backbone": LITE[0]}}[axis]
        hits = [self.of("linear_probe", "hits", dataset, level=level, **{axis: v}, **other) for v in values]
        cv = [self.of("linear_probe", "cv", dataset, level=level, **{axis: v}, **other)["cv"] for v in values]
        best = np.argmax(np.stack(cv), axis=0)
        return pd.DataFrame([hits[k].iloc[row] for row, k in enumerate(best)], index=hits[0].index)


def mean(tables):
    return sum(tables) / len(tables)


def slope(tables):
    steps = np.arange(len(tables)) - (len(tables) - 1) / 2
    return sum(step * table for step, table in zip(steps, tables, strict=True)) / (steps**2).sum()


def over(datasets, contrast):
    """The contrast of each data set, all with the same sign."""
    return {name: (1, contrast, name) for name in datasets}


def against(contrast, more=FAR, less=NEAR):
    """The contrast of the first data sets minus that of the second."""
    return {n: (1, contrast, n) for n in more} | {n: (-1, contrast, n) for n in less}


def same(contrast):
    return {"": (1, lambda t, _: contrast(t), "")}


def copied(t, source, n, layers="frozen"):
    return t.of("layer_transfer", source=source, copied=n, layers=layers)


def tuned(t, shift, block, dataset="mnist-5k"):
    return t.of("surgical_finetuning", "hits", dataset, shift=shift, tune=block)


def forgotten(t, dataset):
    small, large = (t.of("rate_scan", "kept", dataset, lr=lr, head_factor=10) for lr in (RATES[0], RATES[-1]))
    return small - large


CONTRASTS = {
    "lecture-little-similar": over(NEAR, lambda t, d: t.tuned(d, "little") - t.train(d, "little", "lp-ft")),
    "lecture-little-different": over(FAR, lambda t, d: t.probe(d, "lots") - t.probe(d, "little")),
    "lecture-lots-similar": over(NEAR, lambda t, d: t.train(d, "lots", "finetune") - t.tuned(d, "lots")),
    "lecture-lots-different": over(FAR, lambda t, d: t.train(d, "lots", "finetune") - t.tuned(d, "lots")),
    "lecture-lots-different-scratch": over(
        FAR, lambda t, d: t.train(d, "lots", "scratch") - t.train(d, "lots", "finetune")
    ),
    "slides-little-similar": over(NEAR, lambda t, d: t.tuned(d, "little") - t.train(d, "little", "few")),
    "slides-little-different": over(
        FAR, lambda t, d: t.picked(d, "little", "at", STAGES) - t.probe(d, "little")
    ),
    "slides-lots-similar": over(NEAR, lambda t, d: t.train(d, "lots", "few") - t.tuned(d, "lots")),
    "slides-lots-different": over(FAR, lambda t, d: t.train(d, "lots", "more") - t.train(d, "lots", "few")),
    "notes-little-similar": over(NEAR, lambda t, d: t.tuned(d, "little") - t.train(d, "little", "finetune")),
    "notes-little-different": against(
        lambda t, d: t.picked(d, "little", "at", STAGES) - t.probe(d, "little")
    ),
    "notes-lots-similar": over(NEAR, lambda t, d: t.train(d, "lots", "lp-ft") - t.tuned(d, "lots")),
    "notes-lots-different": over(
        FAR, lambda t, d: t.train(d, "lots", "finetune") - t.train(d, "lots", "scratch")
    ),
    "similarity-measured": against(lambda t, d: t.of("domain_distance", "distance", d)),
    "gabor-filters": same(
        lambda t: (
            t.of("gabor_likeness", "similarity", backbone=LITE[0])
            - t.of("gabor_likeness", "similarity", backbone="random")
        )
    ),
    "early-general-late-specific": against(
        lambda t, d: t.probe(d, "lots") - t.probe(d, "lots", at="stage4"), more=NEAR, less=FAR
    ),
    "early-unfreezing-far": against(lambda t, d: t.train(d, "lots", "finetune") - t.train(d, "lots", "few")),
    "scratch-needs-images": over(ALL, lambda t, d: t.tuned(d, "little") - t.train(d, "little", "scratch")),
    "million-images": over(ALL, lambda t, d: t.train(d, "lots", "finetune") - t.train(d, "lots", "scratch")),
    "smaller-rate": over(
        ALL,
        lambda t, d: (
            mean([t.of("rate_scan", dataset=d, lr=r, head_factor=10) for r in RATES])
            - mean([t.of("rate_scan", dataset=d, lr=r, head_factor=1) for r in RATES])
        ),
    ),
    "large-rate-forgets": {  # photographs judge, whatever was trained on, and their crops go together
        "scenes": (1, lambda t, _: mean([own for d in ALL if len(own := forgotten(t, d))]), "scenes")
    },
    "feature-neighbours": over(
        ALL,
        lambda t, d: (
            t.of("nearest_neighbour", dataset=d, backbone=LITE[0])
            - t.of("nearest_neighbour", dataset=d, backbone="pixels")
        ),
    ),
    "batchnorm-drift": over(
        ALL,
        lambda t, d: t.train(d, "little", "lp-ft") - t.train(d, "little", "BatchNorm on"),
    ),
    "random-control": over(
        ALL,
        lambda t, d: mean([t.probe(d, n) - t.probe(d, n, backbone="random") for n in ("little", "lots")]),
    ),
    "random-control-lots-far": over(
        FAR, lambda t, d: t.probe(d, "lots") - t.probe(d, "lots", backbone="random")
    ),
    "off-the-shelf": over(
        ALL, lambda t, d: t.probe(d, "lots") - t.probe(d, "lots", at="pixels", backbone="pixels")
    ),
    "zeiler-fergus-layers": over(NEAR, lambda t, d: slope([t.probe(d, "lots", at=s) for s in STAGES])),
    "yosinski-specific": same(
        lambda t: slope([copied(t, "same", n) - copied(t, "other", n) for n in range(1, 6)])
    ),
    "yosinski-coadapted": same(
        lambda t: mean([copied(t, "same", n, "finetuned") - copied(t, "same", n) for n in (2, 4)])
    ),
    "yosinski-boost": same(
        lambda t: mean(
            [copied(t, "other", n, "finetuned") - copied(t, "same", n, "finetuned") for n in (2, 4)]
        )
    ),
    "kornblith-near": over(NEAR, lambda t, d: slope([t.probe(d, "lots", backbone=b) for b in LITE])),
    "kornblith-far": over(FAR, lambda t, d: t.picked(d, "little", "backbone", LITE) - t.probe(d, "little")),
    "kumar-id": over(ALL, lambda t, d: t.train(d, "little", "lp-ft") - t.train(d, "little", "finetune")),
    "kumar-lp-ft-ood": over(
        ALL,
        lambda t, d: t.train(d, "lots", "lp-ft", "shifted") - t.train(d, "lots", "finetune", "shifted"),
    ),
    "kumar-probe-ood": over(
        ALL,
        lambda t, d: t.tuned(d, "lots", column="shifted") - t.train(d, "lots", "finetune", "shifted"),
    ),
    "kumar-probe-source": over(
        list(ELSEWHERE),
        lambda t, d: t.tuned(d, "lots", column="real") - t.train(d, "lots", "finetune", "real"),
    ),
    "lee-input": same(lambda t: tuned(t, "noise", "first") - tuned(t, "noise", "all")),
    "lee-feature": over(
        list(ELSEWHERE), lambda t, d: tuned(t, "source", "middle", d) - tuned(t, "source", "all", d)
    ),
    "lee-output": same(lambda t: tuned(t, "relabel", "last") - tuned(t, "relabel", "all")),
    "he-scratch-catches-up": over(
        ALL,
        lambda t, d: (
            t.train(d, "little", "finetune")
            - t.train(d, "little", "scratch")
            - t.train(d, "lots", "finetune")
            + t.train(d, "lots", "scratch")
        ),
    ),
    "he-faster": over(
        ALL,
        lambda t, d: (
            t.train(d, "lots", "scratch", "steps_to_fit").set_axis([0], axis=1)
            - t.train(d, "lots", "finetune", "steps_to_fit").set_axis([0], axis=1)
        ),
    ),
    "saliency-points": same(
        lambda t: (
            t.of("pointing_game", method="saliency")
            - mean([t.of("pointing_game", method=m) for m in ("edges", "random weights")])
        )
    ),
    "guided-backprop-weights": same(
        lambda t: (
            t.of("cascading_randomization", "similarity", method="guided_backprop")
            - t.of("cascading_randomization", "similarity", method="saliency")
        )
    ),
    "guided-backprop-labels": same(
        lambda t: (
            t.of("data_randomization", "guided_backprop").set_axis([0], axis=1)
            - t.of("data_randomization", "saliency").set_axis([0], axis=1)
        )
    ),
}


def analyse(table, labels, groups):
    """Mean, variance and degrees of freedom of a table of seeds × images."""
    weight = pd.Series(1.0, index=table.columns)
    if labels is not None:
        weight = 1 / labels.map(labels.value_counts())
    weight.index = table.columns
    units = pd.Series(range(table.shape[1]) if groups is None else groups.to_numpy(), index=table.columns)
    cells = (table * weight / weight.sum()).T.groupby(units).sum().T * units.nunique()
    centre, (s, u) = cells.mean(axis=None), cells.shape
    seed, unit = cells.mean(axis=1) - centre, cells.mean(axis=0) - centre
    rest = cells.sub(seed + centre, axis=0).sub(unit, axis=1)
    a = u * (seed**2).sum() / (s - 1)
    b = s * (unit**2).sum() / max(1, u - 1)
    c = (rest**2).sum(axis=None) / max(1, (s - 1) * (u - 1))
    if a + b - c < max(a, b):
        total, parts = max(a, b), a**2 / (s - 1) + b**2 / max(1, u - 1)
    else:
        total = a + b - c
        parts = a**2 / (s - 1) + b**2 / max(1, u - 1) + c**2 / max(1, (s - 1) * (u - 1))
    return centre, total / (s * u), total**2 / parts if parts else s - 1


def estimate(tables, contrast, elsewhere=None):
    """Value, variance and degrees of freedom over data sets, which are independent of each other."""
    found = {}
    for name, (sign, of, dataset) in contrast.items():
        try:
            table = of(tables, dataset).dropna()
        except KeyError:
            continue
        if len(table):
            source = (elsewhere or {}).get(dataset, dataset)
            judges = tables.images[tables.images["dataset"] == source].reset_index(drop=True)
            known = len(judges) == table.shape[1]
            found[name] = (
                sign,
                *analyse(table, *((judges["label"], judges["group"]) if known else (None, None))),
            )
    groups = pd.DataFrame(found, index=["sign", "value", "variance", "dof"]).T
    size = groups.groupby("sign")["sign"].transform("size")
    variance = (groups["variance"] / size**2).sum()
    parts = ((groups["variance"] / size**2) ** 2 / groups["dof"]).sum()
    dof = variance**2 / parts if parts else groups["dof"].min()
    return (groups["sign"] * groups["value"] / size).sum(), variance, dof, groups


def verdict(value, variance, dof, margin, expects):
    def above(bar, turn=1):
        if variance == 0:
            return float(turn * value <= bar)
        return stats.t.sf((turn * value - bar) / variance**0.5, dof)

    if expects == "no less":
        return (
            "holds"
            if 2 * above(-margin) < 0.05
            else "reversed"
            if 2 * above(margin, -1) < 0.05
            else "undecided"
        )
    if max(above(-margin), above(-margin, -1)) < 0.05:
        return "no difference"
    return "holds" if 2 * above(0) < 0.05 else "reversed" if 2 * above(0, -1) < 0.05 else "undecided"


def is_broken(tables, id):
    """Whether a strategy of the claim is surely below its bar, 99 % sure, on one of the data sets."""
    asked = []

    class Watching:
        def __getattr__(self, name):
            return getattr(tables, name)

        def train(self, dataset, level, strategy, column="hits"):
            asked.append((dataset, level, strategy))
            return tables.train(dataset, level, strategy, column)

        def probe(self, *args, **options):
            return tables.probe(*args, **options)

    for _, of, dataset in CONTRASTS[id].values():
        of(Watching(), dataset)
    for dataset, level, strategy in asked:
        own = tables.train(dataset, level, strategy)
        if strategy.startswith("BatchNorm") or own.empty:
            continue
        bars = (
            [{}]
            if strategy != "scratch"
            else [{"at": "pixels", "backbone": "pixels"}, {"backbone": "random"}]
        )
        for bar in bars:
            against_it = own - tables.probe(dataset, level, **bar)
            value, variance, dof, _ = estimate(tables, {dataset: (1, lambda t, d, x=against_it: x, dataset)})
            if value + stats.t.ppf(0.995, dof) * variance**0.5 < 0:
                return True
    return False


@pytest.mark.full
@pytest.mark.parametrize("tier", ["quick", "full"])
def test_every_verdict_follows_from_the_tables_by_another_way(tier):
    tables = Tables(TIERS[tier])
    unmeasured = tables.verdicts.index[tables.verdicts["n"].astype(int) == 0]
    assert list(unmeasured) == ["kornblith-ranks"]  # it needs eight networks
    assert (tables.verdicts.loc[unmeasured, ["effect", "verdict"]] == ["", "undecided"]).all(axis=None)
    assert tables.runs.query("protocol == 'linear_probe' and level == 'lots'")["backbone"].nunique() < 8 + 2
    assert set(CONTRASTS) == set(tables.verdicts.index.drop(unmeasured))
    wrong = {}
    for id, row in tables.verdicts.drop(unmeasured).iterrows():
        moves = ELSEWHERE if id in ("kumar-probe-source", "lee-feature") else None
        value, variance, dof, groups = estimate(tables, CONTRASTS[id], moves)
        own = verdict(value, variance, dof, float(row["margin"]), row["expects"])
        parts = {
            verdict(*part, float(row["margin"]), row["expects"]) for part in groups.iloc[:, 1:].to_numpy()
        }
        if groups["sign"].nunique() == 1 and {"holds", "reversed"} <= parts:
            own = "mixed"
        if is_broken(tables, id):
            own = "control failed"
        if own != row["verdict"] or not np.isclose(value, float(row["effect"]), atol=1e-5):
            wrong[id] = own, row["verdict"], value, row["effect"]
    assert not wrong, json.dumps(wrong, indent=1, default=str)
