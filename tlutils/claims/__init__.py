"""What lectures and papers say about transfer learning, each as an effect that is measured here.

`CLAIMS` has them by id; `evaluate_claim(id)` gives the verdict that follows from the committed runs, `evidence()`
the runs; `reproduce()` makes them again. To add a claim, add a `Claim` to `statements.OTHERS`: its effect is
the mean of some runs minus that of others.
"""

from .effects import Mean, MeanDifference, Protocol
from .report import write
from .reproduction import as_table, evaluate_claim, evidence, reproduce, verdicts
from .statements import CLAIMS, claim
from .tiers import FULL, PROTOCOLS, QUICK, TIERS, Tier, runs
from .verdicts import FAILS, HOLDS, OPEN, Claim, Verdict, decide, judge

__all__ = [
    "CLAIMS",
    "FAILS",
    "FULL",
    "HOLDS",
    "OPEN",
    "PROTOCOLS",
    "QUICK",
    "TIERS",
    "Claim",
    "Mean",
    "MeanDifference",
    "Protocol",
    "Tier",
    "Verdict",
    "as_table",
    "claim",
    "decide",
    "evaluate_claim",
    "evidence",
    "judge",
    "reproduce",
    "runs",
    "verdicts",
    "write",
]
