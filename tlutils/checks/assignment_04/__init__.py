"""Checks of assignment 04, the decision matrix as an experiment: each raises `Mistake`, or is content."""

from .matrix import BAND, DISTINCT, check_decide, check_draw, check_experiment, check_paired

__all__ = ["BAND", "DISTINCT", "check_decide", "check_draw", "check_experiment", "check_paired"]
