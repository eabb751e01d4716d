"""What lectures and papers say about transfer learning, each as an effect that is measured here.

`CLAIMS` has them by id; `evaluate_claim(id)` gives the verdict that follows from the committed runs,
`evidence()` the runs; `reproduce()` makes them again. To add a claim, add a `Claim` to `statements.OTHERS`:
its effect is the mean of some runs minus that of others.
"""

from .effects import Evidence, Mean, Measurement
from .explaining import draw_images
from .materials import FAR, MATERIALS, NEAR, small_network
from .matrix import MANY, MATRIX, is_many
from .pilot import PILOT, SEARCH_IMAGES, chosen_settings, search
from .report import score_strategies, write_report
from .reproduction import (
    evaluate_claim,
    evidence,
    missing_datasets,
    missing_networks,
    reproduce,
    select_runs,
    verdict_table,
    verdicts,
)
from .statements import CLAIMS, claim
from .tiers import FULL, PROTOCOLS, QUICK, Tier, runs
from .training import BATCH, FROM_STAGES, STRATEGIES, Settings
from .verdicts import BROKEN, HOLDS, MIXED, OPEN, REVERSED, SAME, Claim, Verdict, decide, judge

__all__ = [
    "BATCH",
    "BROKEN",
    "CLAIMS",
    "FAR",
    "FROM_STAGES",
    "FULL",
    "HOLDS",
    "MANY",
    "MATERIALS",
    "MATRIX",
    "MIXED",
    "NEAR",
    "OPEN",
    "PILOT",
    "PROTOCOLS",
    "QUICK",
    "REVERSED",
    "SAME",
    "SEARCH_IMAGES",
    "STRATEGIES",
    "Claim",
    "Evidence",
    "Mean",
    "Measurement",
    "Settings",
    "Tier",
    "Verdict",
    "chosen_settings",
    "claim",
    "decide",
    "draw_images",
    "evaluate_claim",
    "evidence",
    "is_many",
    "judge",
    "missing_datasets",
    "missing_networks",
    "reproduce",
    "runs",
    "score_strategies",
    "search",
    "select_runs",
    "small_network",
    "verdict_table",
    "verdicts",
    "write_report",
]
