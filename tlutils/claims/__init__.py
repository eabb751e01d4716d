"""What lectures and papers say about transfer learning, each as an effect that is measured here.

`CLAIMS` has them by id; `test_claim(id)` gives the verdict that follows from the committed runs, `evidence()`
the runs; `reproduce()` makes them again. To add a claim, add a `Claim` to `statements.OTHERS`: its effect is
the mean of some runs minus that of others.
"""

from .effects import Difference, Mean, Protocol
from .report import write
from .reproduction import as_table, evidence, reproduce, test_claim, verdicts
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
    "Difference",
    "Mean",
    "Protocol",
    "Tier",
    "Verdict",
    "as_table",
    "claim",
    "decide",
    "evidence",
    "judge",
    "reproduce",
    "runs",
    "test_claim",
    "verdicts",
    "write",
]
