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

    Attributes:
        id: a short name.
        says: the claim in a sentence.
        source: where it is said, with year and section.
        effect: what is measured, a mean of some runs minus that of others.
        contrast: the same in words.
        margin: a difference below it is of no practical relevance.
        expects: "more", the claim holds if the effect is above `margin`; "no less", if it is above `-margin`,
            as for advice to take the cheaper of two that do as well.
        unit: of the effect.
        note: what the protocol leaves out.
        also: a function from the table of runs to a further sentence.
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


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: an effect, its interval, and the verdict that follows.

    Attributes:
        claim: the claim.
        effect: mean over seeds with Student's 95 % interval.
        n: number of seeds.
        parts: the effect by data set, where it is a mean over several.
        failed: messages of runs that the claim needs and that failed.
        also: a further sentence.
    """

    claim: Claim
    effect: Estimate
    n: int
    parts: Mapping[str, Estimate] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    also: str = ""

    @property
    def verdict(self) -> str:
        """What follows from the effect: "holds", "does not hold here" or "undecided at this sample size"."""
        return decide(self.effect, self.claim.threshold)

    def __str__(self) -> str:
        if not self.n:
            return f"{self.claim.id}: {self.verdict} (not measured: {'; '.join(self.failed) or 'no runs'})"
        value, low, high = self.effect
        sign = f"{value:+.3f} [{low:+.3f}, {high:+.3f}], {self.n} seeds"
        return f"{self.claim.id}: {self.verdict} ({sign}; holds above {self.claim.threshold:+.3f})"

    __repr__ = __str__


def decide(effect: Estimate, threshold: float) -> str:
    """Return `HOLDS` if a whole interval is above a threshold, `FAILS` if it is below, else `OPEN`.

    So "holds" and "does not hold here" are both findings, at the interval's level; an interval around the
    threshold, or none, decides nothing: more seeds or more images would.

    Args:
        effect: value, low and high.
        threshold: in the same units.

    Example:
        >>> from tlutils import claims
        >>> from tlutils.metrics import Estimate
        >>> claims.decide(Estimate(0.05, 0.02, 0.08), 0.01)
        'holds'
    """
    if effect.low > threshold:
        return HOLDS
    return FAILS if effect.high < threshold else OPEN


def judge(claim: Claim, table: pd.DataFrame) -> Verdict:
    """Return the verdict on a claim that follows from a table of runs.

    Args:
        claim: one of `CLAIMS`, or your own.
        table: one row per run, as `evidence` and `reproduce` return it.

    Example:
        >>> from tlutils import claims
        >>> claims.judge(claims.claim("gabor-filters"), claims.evidence()).verdict
        'holds'
    """
    effects = claim.effect.per_seed(table)
    broken = table[table["error"] != ""].to_dict("records")
    failed = tuple(dict.fromkeys(row["error"] for row in broken if needs_run(claim, row)))
    also = claim.also(table) if claim.also and len(effects) else ""
    several = [m.axes.get("dataset") for m in claim.effect.means()]
    names = dict.fromkeys(name for axis in several if isinstance(axis, tuple) for name in axis)
    parts = {name: interval(claim.effect.restrict("dataset", name).per_seed(table)) for name in names}
    return Verdict(claim, interval(effects), len(effects), parts, failed, also)


def needs_run(claim: Claim, row: Mapping[Any, Any]) -> bool:
    """Return whether a run, with its protocol's name, is one that a claim is about."""
    return any(mean.matches(row["protocol"], row) for mean in claim.effect.means())
