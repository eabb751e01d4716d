"""From a contrast and its interval to a verdict: computed, never written down."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..intervals import Estimate, SampleMean
from .controls import controls
from .effects import Effect, Evidence

HOLDS, REVERSED, SAME = "holds", "reversed", "no difference"
MIXED, BROKEN, OPEN = "mixed", "control failed", "undecided"
VERDICTS = (HOLDS, REVERSED, SAME, MIXED, BROKEN, OPEN)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a lecture or a paper says, and the contrast that would make it hold.

    Attributes:
        id: a short name.
        says: the claim in a sentence.
        source: where it is said, with year and section.
        effect: what is measured, a mean of some runs minus that of others.
        contrast: the same in words.
        margin: a difference below it is of no practical relevance.
        why: in a line, why that margin.
        expects: "more", the claim holds if the effect is above 0; "no less", if it is above `-margin`, as for
            advice to take the cheaper of two that do as well.
        unit: of the effect.
        note: what the protocol leaves out.
        also: a function from the evidence to a further sentence.
    """

    id: str
    says: str
    source: str
    effect: Effect
    contrast: str
    margin: float = 0.02
    why: str = "two images of a hundred: a difference that a person who deploys the model would notice"
    expects: Literal["more", "no less"] = "more"
    unit: str = "balanced accuracy"
    note: str = ""
    also: Callable[[Evidence], str] | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: an effect, its interval, and the verdict that follows.

    Attributes:
        claim: the claim.
        mean: the effect and how sure it is; None where runs are missing.
        n: number of seeds.
        parts: the effect by data set, where it is a mean over several.
        broken: what is wrong with the controls that it needs.
        failed: messages of runs that the claim needs and that failed.
        also: a further sentence.
    """

    claim: Claim
    mean: SampleMean | None
    n: int = 0
    parts: Mapping[str, SampleMean] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    also: str = ""

    @property
    def effect(self) -> Estimate:
        """The effect with its 95 % interval; NaN where it was not measured."""
        return self.mean.interval() if self.mean else Estimate(np.nan, np.nan, np.nan)

    @property
    def verdict(self) -> str:
        """What follows from the effect, its parts and its controls: one of `VERDICTS`."""
        if self.mean is None:
            return OPEN
        if self.broken:
            return BROKEN
        if {HOLDS, REVERSED} <= {decide(part, self.claim) for part in self.parts.values()}:
            return MIXED
        return decide(self.mean, self.claim)

    @property
    def p(self) -> float:
        """The p-value of the test that the verdict comes from; that of a difference where nothing follows."""
        if self.mean is None:
            return np.nan
        return p_values(self.mean, self.claim).get(self.verdict, _two_sided(self.mean))

    def __str__(self) -> str:
        if self.mean is None:
            why = "; ".join(self.failed) or "runs are missing"
            return f"{self.claim.id}: {self.verdict} (not measured: {why})"
        value, low, high = self.effect
        return f"{self.claim.id}: {self.verdict} ({value:+.3f} [{low:+.3f}, {high:+.3f}], {self.n} seeds)"

    __repr__ = __str__


def _two_sided(mean: SampleMean) -> float:
    return min(1.0, 2 * min(mean.p_value(0), (mean * -1).p_value(0)))


def p_values(mean: SampleMean, claim: Claim) -> dict[str, float]:
    """Return the p-value of each verdict that a claim can have by its effect alone; small speaks for it.

    "holds" and "reversed" are two-sided tests against 0 (against -margin for "no less"); "no difference" is
    that of equivalence, two one-sided tests against both margins (Schuirmann 1987, doi:10.1007/BF01068419).
    """
    turned = mean * -1
    if claim.expects == "no less":
        return {HOLDS: 2 * mean.p_value(-claim.margin), REVERSED: 2 * turned.p_value(claim.margin)}
    same = max(mean.p_value(-claim.margin), turned.p_value(-claim.margin))
    return {SAME: same, HOLDS: 2 * mean.p_value(0), REVERSED: 2 * turned.p_value(0)}


def decide(mean: SampleMean, claim: Claim) -> str:
    """Return the verdict that an effect alone gives: "no difference", "holds", "reversed" or "undecided".

    Each needs a p-value below 0.05. A difference that is surely smaller than the margin is none, even where
    it is surely not 0.

    Args:
        mean: the effect and how sure it is.
        claim: what was expected, and the margin.

    Example:
        >>> from tlutils import claims
        >>> from tlutils.intervals import SampleMean
        >>> claims.decide(SampleMean(0.05, variance=0.0001, dof=9), claims.claim("random-control"))
        'holds'
    """
    return next((verdict for verdict, p in p_values(mean, claim).items() if p < 0.05), OPEN)


def judge(claim: Claim, evidence: Evidence) -> Verdict:
    """Return the verdict on a claim that follows from runs and the images that judged them.

    Args:
        claim: one of `CLAIMS`, or your own.
        evidence: as `evidence` and `reproduce` return it.

    Example:
        >>> from tlutils import claims
        >>> claims.judge(claims.claim("gabor-filters"), claims.evidence()).verdict
        'holds'
    """
    effect = claim.effect * 1
    measured = effect.measure(evidence)
    wrong = evidence.runs[evidence.runs["error"] != ""].to_dict("records")
    failed = tuple(dict.fromkeys(row["error"] for row in wrong if needs_run(claim, row)))
    also = claim.also(evidence) if claim.also else ""
    if measured is None:
        return Verdict(claim, None, failed=failed, also=also)
    mean, seeds = measured
    parts = {}
    if len(effect.datasets) > 1:
        found = {name: effect.restrict("dataset", name).measure(evidence) for name in effect.datasets}
        parts = {name: part[0] for name, part in found.items() if part}
    broken = tuple(text for text, own in controls(effect) if _is_below(own, evidence))
    return Verdict(claim, mean, seeds, parts, broken, failed, also)


def _is_below(control: Effect, evidence: Evidence) -> bool:
    """Return whether a difference that has to be 0 or more is surely less: there are many, so 99 % sure."""
    measured = (control * 1).measure(evidence)
    return measured is not None and measured[0].interval(0.99).high < 0


def needs_run(claim: Claim, row: Mapping[Any, Any]) -> bool:
    """Return whether a run, with its protocol's name, is one of a claim or of its controls."""
    effects = [claim.effect * 1, *(own * 1 for _, own in controls(claim.effect * 1))]
    return any(mean.matches(row["protocol"], row) for effect in effects for mean in effect.means())


def adjust(found: Iterable[Verdict]) -> list[float]:
    """Return the p-values of verdicts, adjusted for their number.

    Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x: of the verdicts with a value below
    0.05, one in twenty is expected to be there by chance.

    Args:
        found: verdicts on several claims; those that were not measured have no p-value.
    """
    from scipy import stats

    p = np.array([verdict.p for verdict in found])
    known = np.isfinite(p)
    p[known] = stats.false_discovery_control(p[known]) if known.any() else []
    return p.tolist()
