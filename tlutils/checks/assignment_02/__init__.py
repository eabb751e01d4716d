"""Checks of assignment 02, probe and report: each raises `Mistake`, or says that all is right."""

from .probing import check_choose_penalty, check_embed, check_standardise
from .repairing import check_repaired
from .reporting import BAND, check_experiment, check_interval, check_verdict

__all__ = [
    "BAND",
    "check_choose_penalty",
    "check_embed",
    "check_experiment",
    "check_interval",
    "check_repaired",
    "check_standardise",
    "check_verdict",
]
