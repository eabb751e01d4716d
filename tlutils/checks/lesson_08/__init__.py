"""Checks of the exercises in lesson 08, few images."""

from .ablation import check_ablation
from .low_rank import check_low_rank
from .tricks import check_early_stop, check_hold_out, check_mixup, check_views

__all__ = [
    "check_ablation",
    "check_early_stop",
    "check_hold_out",
    "check_low_rank",
    "check_mixup",
    "check_views",
]
