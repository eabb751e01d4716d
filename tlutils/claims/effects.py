"""What a claim is about, as an effect: the mean of some runs minus that of others that share their seeds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import pandas as pd

from ..errors import LearnerError


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of a column over the runs of a protocol that have some axes, seed by seed.

    Two of them can be subtracted, and so can the differences.

    Attributes:
        protocol: name of the protocol, a key of `PROTOCOLS`.
        axes: by name, the value that a run must have, or a tuple of values to average over.
        value: the column to average.
        pick: an axis along which one run is picked instead of averaging, such as "at": a stage is chosen by
            cross-validation, and judged by its score.
        by: the column whose largest value picks that run.
    """

    protocol: str
    axes: Mapping[str, Any]
    value: str = "score"
    pick: str | None = None
    by: str = "cv"

    def __sub__(self, other: "Effect") -> "MeanDifference":
        return MeanDifference(self, other)

    def means(self) -> Iterator["Mean"]:
        """Yield the means that this effect is made of: itself."""
        yield self

    def restrict(self, axis: str, value: Any) -> "Mean":
        """Return this mean over one value of an axis; the same where it does not average over that axis.

        Args:
            axis: name of an axis.
            value: one of the values that are averaged over.
        """
        several = value in _values(self.axes.get(axis)) and axis != self.pick
        return replace(self, axes={**self.axes, axis: value}) if several else self

    def matches(self, protocol: str, run: Mapping[Any, Any]) -> bool:
        """Return whether a run is one that this mean is over.

        Args:
            protocol: name of the run's protocol.
            run: its axes.
        """
        return protocol == self.protocol and all(run.get(k) in _values(v) for k, v in self.axes.items())

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a table that this mean is over and that did not fail.

        Args:
            table: one row per run.

        Raises:
            LearnerError: the table lacks a column.
        """
        unknown = {*self.axes, self.value, "seed"} - set(table.columns)
        if unknown:
            raise LearnerError(f"This table has no columns {sorted(unknown)}, which a claim is about.")
        chosen = table["protocol"] == self.protocol
        for name, value in self.axes.items():
            chosen &= table[name].isin(_values(value))
        return table[chosen].dropna(subset=[self.value])

    def per_seed(self, table: pd.DataFrame) -> pd.Series:
        """Return the mean of each seed; a seed that lacks one of the runs to average over does not count.

        Args:
            table: one row per run.
        """
        rows = self.rows(table)
        several = {k: v for k, v in self.axes.items() if k != self.pick and len(_values(v)) > 1}
        if self.pick:
            ranked = rows.sort_values(self.by, kind="stable")
            rows = ranked.groupby([*several, "seed"], sort=False).tail(1)
        found = rows[[*several, "seed"]].drop_duplicates().groupby("seed").size()
        complete = found[found == prod(len(v) for v in several.values())].index
        return rows[rows["seed"].isin(complete)].groupby("seed")[self.value].mean()


@dataclass(frozen=True)
class MeanDifference:
    """One effect minus another, seed by seed.

    Attributes:
        first: a mean, or a difference of means.
        second: what is subtracted from it.
    """

    first: "Effect"
    second: "Effect"

    def __sub__(self, other: "Effect") -> "MeanDifference":
        return MeanDifference(self, other)

    def means(self) -> Iterator[Mean]:
        """Yield the means that this effect is made of."""
        yield from self.first.means()
        yield from self.second.means()

    def restrict(self, axis: str, value: Any) -> "MeanDifference":
        """Return the effect over one of the values of an axis."""
        return MeanDifference(self.first.restrict(axis, value), self.second.restrict(axis, value))

    def per_seed(self, table: pd.DataFrame) -> pd.Series:
        """Return the difference of each seed that both have."""
        return (self.first.per_seed(table) - self.second.per_seed(table)).dropna()


Effect = Mean | MeanDifference


@dataclass(frozen=True)
class Measurement:
    """Names a protocol so that effects read well: `probe(at="pool") - probe(at="stage5")`.

    Attributes:
        name: a key of `PROTOCOLS`.
        value: the column that its means are of, unless they say otherwise.
        defaults: the axes of its means, unless they say otherwise.
    """

    name: str
    value: str = "score"
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, *, pick: str | None = None, value: str | None = None, **axes: Any) -> Mean:
        """Return the mean over the runs with these axes; those not named are the protocol's defaults."""
        return Mean(protocol=self.name, axes={**self.defaults, **axes}, value=value or self.value, pick=pick)


def _values(axis: Any) -> tuple[Any, ...]:
    return axis if isinstance(axis, tuple) else (axis,)
