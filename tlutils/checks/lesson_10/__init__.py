"""Checks of the exercises in lesson 10, plain PyTorch."""

from .epoch import check_epoch
from .files import check_save_and_load
from .layers import check_freeze_backbone, check_parameter_groups, check_replace_head
from .prediction import check_predict

__all__ = [
    "check_epoch",
    "check_freeze_backbone",
    "check_parameter_groups",
    "check_predict",
    "check_replace_head",
    "check_save_and_load",
]
