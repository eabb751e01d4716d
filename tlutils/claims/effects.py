"""What a claim is about: a contrast between runs that share their seeds and the images that judge them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import pandas as pd

from ..errors import LearnerError
from ..intervals import SampleMean, kendall_tau, two_way_mean


@dataclass(frozen=True)
class Evidence:
    """Runs, and the images that they were judged by.

    Attributes:
        runs: One row per run.
        images: One row per held-out image: `dataset`, `label`, and the `group` that it varies with.
    """

    runs: pd.DataFrame
    images: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of a column over the runs of a protocol that have some axes.

    Means can be added, subtracted and multiplied by numbers, which gives a `Contrast`.

    Attributes:
        protocol: name of the protocol, a key of `PROTOCOLS`.
        axes: by name, the value that a run must have, or a tuple of values to average over.
        value: the column to average: numbers, or texts of a 0 or 1 for each judging image, as in "hits",
            whose mean is the balanced accuracy.
        pick: an axis along which one run is picked instead of averaging, such as "at": a stage is chosen by
            cross-validation, and judged by its hits.
        by: the column whose largest value picks that run; among equals the first of the axis' values wins.
        judges: the data set whose images judge, by the one that was trained on, where that is another.
    """

    protocol: str
    axes: Mapping[str, Any]
    value: str = "hits"
    pick: str | None = None
    by: str = "cv"
    judges: Mapping[str, str] = field(default_factory=dict)

    def __mul__(self, factor: float) -> "Contrast":
        return Contrast(((factor, self),))

    def __add__(self, other: "Mean | Contrast") -> "Contrast":
        return self * 1 + other

    def __sub__(self, other: "Mean | Contrast") -> "Contrast":
        return self * 1 - other

    __rmul__ = __mul__

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets that are averaged over; one without a name where the axes name none."""
        return values_of(self.axes.get("dataset", ""))

    def matches(self, protocol: str, run: Mapping[Any, Any]) -> bool:
        """Return whether a run is one that this mean is over.

        Args:
            protocol: name of the run's protocol.
            run: its axes.
        """
        return protocol == self.protocol and all(run.get(k) in values_of(v) for k, v in self.axes.items())

    def rows(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Return the runs that this mean is over and that did not fail.

        Args:
            runs: one row per run.

        Raises:
            LearnerError: the table lacks a column.
        """
        unknown = {*self.axes, self.value, "seed"} - set(runs.columns)
        if unknown:
            raise LearnerError(f"This table has no columns {sorted(unknown)}, which a claim is about.")
        chosen = (runs["protocol"] == self.protocol) & runs[self.value].notna()
        for name, value in self.axes.items():
            chosen &= runs[name].isin(values_of(value))
        return runs[chosen]

    def per_seed(self, runs: pd.DataFrame, dataset: str) -> dict[int, np.ndarray]:
        """Return by seed a number of each image (or one), the mean over the axes with several values.

        A seed that lacks one of the runs to average over does not count.

        Args:
            runs: one row per run.
            dataset: one of `datasets`.
        """
        read = {"protocol", "seed", "dataset", self.by, self.value, *self.axes}
        rows = self.rows(runs[[name for name in runs.columns if name in read]])  # few are soon filtered
        if dataset:
            rows = rows[rows["dataset"] == dataset]
        apart = (self.pick, "dataset")
        several = [k for k, v in self.axes.items() if k not in apart and len(values_of(v)) > 1]
        if self.pick:
            order = {value: k for k, value in enumerate(values_of(self.axes[self.pick]))}
            rows = rows.assign(_order=rows[self.pick].map(order)).sort_values(
                [self.by, "_order"], ascending=[False, True], kind="stable"
            )
            rows = rows.groupby([*several, "seed"], sort=False).head(1)
        wanted = prod(len(values_of(self.axes[k])) for k in several)
        found: dict[int, list[np.ndarray]] = {}
        for seed, value in zip(rows["seed"], rows[self.value], strict=True):
            found.setdefault(seed, []).append(_numbers(value))
        return {seed: np.mean(own, axis=0) for seed, own in found.items() if len(own) == wanted}


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of means: a difference, a difference of differences, a trend.

    Attributes:
        terms: the weight and the mean of each.
    """

    terms: tuple[tuple[float, Mean], ...]

    def __mul__(self, factor: float) -> "Contrast":
        return Contrast(tuple((factor * weight, mean) for weight, mean in self.terms))

    def __add__(self, other: "Mean | Contrast") -> "Contrast":
        return Contrast(self.terms + (other * 1).terms)

    def __sub__(self, other: "Mean | Contrast") -> "Contrast":
        return self + other * -1

    __rmul__ = __mul__

    def means(self) -> Iterator[Mean]:
        """Yield the means that this contrast is made of."""
        return (mean for _, mean in self.terms)

    def restrict(self, axis: str, value: Any) -> "Contrast":
        """Return the contrast over one value of an axis, wherever it averages over several.

        Args:
            axis: name of an axis.
            value: one of the values that are averaged over.
        """
        own = [
            (w, replace(m, axes={**m.axes, axis: value}) if value in values_of(m.axes.get(axis)) else m)
            for w, m in self.terms
        ]
        return Contrast(tuple(own))

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets that are averaged over, where all means average over the same."""
        first, *others = [mean.datasets for mean in self.means()]
        return first if all(other == first for other in others) else ()

    def measure(self, evidence: Evidence) -> tuple[SampleMean, int] | None:
        """Return the contrast, and the smallest number of seeds of a data set; None where runs are missing.

        Runs of one seed on one data set saw the same training images and are judged by the same ones, so
        they are compared image by image. Data sets with judges of their own are independent of each other;
        one that lacks some of the runs is left out.

        Args:
            evidence: the runs, and the images that judged them.
        """
        tables = {}
        for name in dict.fromkeys(chain.from_iterable(mean.datasets for mean in self.means())):
            own = [(w, m, m.per_seed(evidence.runs, name)) for w, m in self.terms if name in m.datasets]
            shared = sorted(set.intersection(*(set(table) for _, _, table in own)))
            if shared:
                tables[name] = own, shared
        if not all(set(mean.datasets) & set(tables) for mean in self.means()):
            return None
        judged: dict[str, list[dict[int, np.ndarray]]] = {}
        for name, (own, shared) in tables.items():
            shares = [weight / len(set(mean.datasets) & set(tables)) for weight, mean, _ in own]
            judged.setdefault(own[0][1].judges.get(name, name), []).append(
                {s: np.dot(shares, [part[s] for _, _, part in own]) for s in shared}
            )
        total = SampleMean(0.0, 0.0, 1)
        for name, parts in judged.items():
            seeds = sorted(set.intersection(*map(set, parts)))
            if not seeds:
                return None
            table = np.stack([np.sum([part[seed] for part in parts], axis=0) for seed in seeds])
            judges = evidence.images[evidence.images["dataset"] == name]
            weights, groups = None, None
            if table.shape[1] == len(judges):
                weights, groups = 1 / judges.groupby("label")["label"].transform("size"), judges["group"]
            total += two_way_mean(table, weights=weights, groups=groups)
        return total, min(len(shared) for _, shared in tables.values())


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Whether a mean ranks networks as a number that is known of each does: Kendall's tau.

    Attributes:
        mean: one number of each run, such as its "score", over several backbones.
        known: by backbone, what should order them.
        families: by backbone, the family, which counts once.
        least: with fewer backbones than that nothing is measured.
        factor: what tau is multiplied by.
    """

    mean: Mean
    known: Mapping[str, float]
    families: Mapping[str, str]
    least: int = 8
    factor: float = 1.0

    def __mul__(self, factor: float) -> "Ranking":
        return replace(self, factor=factor * self.factor)

    __rmul__ = __mul__

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets that are averaged over."""
        return self.mean.datasets

    def means(self) -> Iterator[Mean]:
        """Yield the mean of all runs that count."""
        yield self.mean

    def restrict(self, axis: str, value: Any) -> "Ranking":
        """Return the ranking over one value of an axis that it averages over.

        Args:
            axis: name of an axis.
            value: one of the values that are averaged over.
        """
        return replace(self, mean=replace(self.mean, axes={**self.mean.axes, axis: value}))

    def table(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Return the numbers, a row per seed and a column per data set and backbone.

        A backbone without runs on one of the data sets has no columns.

        Args:
            runs: one row per run.
        """
        rows = self.mean.rows(runs)
        found = rows.pivot_table(index="seed", columns=["dataset", "backbone"], values=self.mean.value)
        names = [name for name in self.known if all((own, name) in found for own in self.datasets)]
        return found.reindex(columns=pd.MultiIndex.from_product([self.datasets, names]))

    def measure(self, evidence: Evidence) -> tuple[SampleMean, int] | None:
        """Return tau and the number of seeds; None where fewer backbones than `least` have runs.

        The same networks are ranked on every data set, so their correlations are averaged network by network.

        Args:
            evidence: the runs, and the images that judged them.
        """
        table = self.table(evidence.runs).dropna()
        names = table.columns.unique(1)
        if len(names) < self.least or table.empty:
            return None
        values = table.to_numpy().reshape(len(table), len(self.datasets), len(names)).swapaxes(0, 1)
        known, families = [self.known[name] for name in names], [self.families[name] for name in names]
        return kendall_tau(values, known, groups=families) * self.factor, len(table)


Effect = Mean | Contrast | Ranking


@dataclass(frozen=True)
class Measurement:
    """Names a protocol so that effects read well: `probe(at="pool") - probe(at="stage5")`.

    Attributes:
        name: a key of `PROTOCOLS`.
        value: the column that its means are of, unless they say otherwise.
        defaults: the axes of its means, unless they say otherwise.
    """

    name: str
    value: str = "hits"
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self,
        *,
        pick: str | None = None,
        value: str | None = None,
        judges: Mapping[str, str] | None = None,
        **axes: Any,
    ) -> Mean:
        """Return the mean over the runs with these axes; those not named are the protocol's defaults."""
        own = {**self.defaults, **axes}
        return Mean(protocol=self.name, axes=own, value=value or self.value, pick=pick, judges=judges or {})


def values_of(axis: Any) -> tuple[Any, ...]:
    """Return the values of an axis to average over: those of a tuple, or the value alone."""
    return axis if isinstance(axis, tuple) else (axis,)


def _numbers(value: Any) -> np.ndarray:
    """Return the numbers of a cell: the hits of a text, or the number alone."""
    if isinstance(value, str):
        return np.frombuffer(value.encode(), np.uint8) - float(ord("0"))
    return np.array([value], dtype=float)
