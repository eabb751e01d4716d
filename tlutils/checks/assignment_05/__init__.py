"""Checks of assignment 05, one's own folder: each raises `Mistake`, or says that all is right."""

from .choosing import check_choose, check_interval
from .measuring import check_experiment, check_measure, check_split
from .reporting import check_predict_one, check_report

__all__ = [
    "check_choose",
    "check_experiment",
    "check_interval",
    "check_measure",
    "check_predict_one",
    "check_report",
    "check_split",
]
