"""Checks of assignment 01, finetune in plain PyTorch: each raises `Mistake`, or says that all is right."""

from .choosing import BAND, check_choose, check_experiment
from .layers import check_make_optimizer, check_prepare
from .training import check_evaluate, check_finetune, check_train_epoch

__all__ = [
    "BAND",
    "check_choose",
    "check_evaluate",
    "check_experiment",
    "check_finetune",
    "check_make_optimizer",
    "check_prepare",
    "check_train_epoch",
]
