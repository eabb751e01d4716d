"""What lectures and papers say about transfer learning, each as an effect that is measured here.

`CLAIMS` has them by id; `evaluate_claim(id)` gives the verdict that follows from the committed runs,
`evidence()` the runs; `reproduce()` makes them again. To add a claim, add a `Claim` to `statements.OTHERS`:
its effect is the mean of some runs minus that of others.
"""

from .effects import Mean, Measurement
from .explaining import draw_images
from .materials import FAR, NEAR
from .matrix import MATRIX
from .report import score_strategies, write_report
from .reproduction import evaluate_claim, evidence, reproduce, verdict_table, verdicts
from .statements import CLAIMS, claim
from .tiers import FULL, PROTOCOLS, QUICK, Tier, runs
from .verdicts import FAILS, HOLDS, OPEN, Claim, Verdict, decide, judge

__all__ = [
    "CLAIMS",
    "FAILS",
    "FAR",
    "FULL",
    "HOLDS",
    "MATRIX",
    "NEAR",
    "OPEN",
    "PROTOCOLS",
    "QUICK",
    "Claim",
    "Mean",
    "Measurement",
    "Tier",
    "Verdict",
    "claim",
    "decide",
    "draw_images",
    "evaluate_claim",
    "evidence",
    "judge",
    "reproduce",
    "runs",
    "score_strategies",
    "verdict_table",
    "verdicts",
    "write_report",
]
