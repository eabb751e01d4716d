"""From an effect and its interval to a verdict: computed, never written down."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from ..experiments import interval
from ..metrics import Estimate
from .effects import Effect

HOLDS, FAILS, OPEN = "holds", "does not hold here", "undecided at this sample size"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a lecture or a paper says, and the effect that would make it hold.

    `says` is the claim in a sentence, `source` where it stands, with year and section. `effect` is in the
    units of what it is a mean of (balanced accuracy, from 0 to 1, unless `unit` says otherwise). A difference
    below `margin` is of no practical relevance. `expects` "more": the claim holds if the effect is above
    `margin`; "no less": if it is above `-margin`, as for advice to take the cheaper of two that do as well.
    `note` says what the protocol leaves out; `also(table)` computes a further sentence.
    """

    id: str
    says: str
    source: str
    effect: Effect
    contrast: str
    margin: float = 0.01
    expects: Literal["more", "no less"] = "more"
    unit: str = "balanced accuracy"
    note: str = ""
    also: Callable[[pd.DataFrame], str] | None = None

    @property
    def threshold(self) -> float:
        """The effect above which the claim holds."""
        return self.margin if self.expects == "more" else -self.margin

    @property
    def protocols(self) -> list[str]:
        """Names of the protocols that measure it."""
        return list(dict.fromkeys(mean.protocol for mean in self.effect.means()))


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: effect with its 95 % interval over `n` seeds, and the verdict that follows.

    `parts` are the effects by data set, where it is a mean over several; `failed` the errors of runs that the
    claim needs, in words; `also` is a further computed sentence.
    """

    claim: Claim
    effect: Estimate
    n: int
    parts: Mapping[str, Estimate] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    also: str = ""

    @property
    def verdict(self) -> str:
        """ "holds", "does not hold here" or "undecided at this sample size"; see `decide`."""
        return decide(self.effect, self.claim.threshold)

    def __str__(self) -> str:
        if not self.n:
            return f"{self.claim.id}: {self.verdict} (not measured: {'; '.join(self.failed) or 'no runs'})"
        value, low, high = self.effect
        sign = f"{value:+.3f} [{low:+.3f}, {high:+.3f}], {self.n} seeds"
        return f"{self.claim.id}: {self.verdict} ({sign}; holds above {self.claim.threshold:+.3f})"

    __repr__ = __str__


def decide(effect: Estimate, threshold: float) -> str:
    """Return the verdict: the whole interval above `threshold` holds, the whole below does not, else open.

    So "holds" and "does not hold here" are both findings, at the interval's level; an interval around the
    threshold, or none, decides nothing: more seeds or more images would.
    """
    if effect.low > threshold:
        return HOLDS
    return FAILS if effect.high < threshold else OPEN


def judge(claim: Claim, table: pd.DataFrame) -> Verdict:
    """Return the verdict on a claim that follows from a table of runs."""
    effects = claim.effect.per_seed(table)
    failed = tuple(dict.fromkeys(r["error"] for r in _rows(table) if needs_run(claim, r) and r["error"]))
    also = claim.also(table) if claim.also and len(effects) else ""
    several = [m.axes.get("dataset") for m in claim.effect.means()]
    names = dict.fromkeys(name for axis in several if isinstance(axis, tuple) for name in axis)
    parts = {name: interval(claim.effect.restrict("dataset", name).per_seed(table)) for name in names}
    return Verdict(claim, interval(effects), len(effects), parts, failed, also)


def needs_run(claim: Claim, row: Mapping[str, Any]) -> bool:
    """Return whether a run, with its protocol's name, is one that a claim is about."""
    return any(mean.matches(row["protocol"], row) for mean in claim.effect.means())


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
