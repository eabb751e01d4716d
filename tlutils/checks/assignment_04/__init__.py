"""Checks of assignment 04, the decision matrix as an experiment: each raises `Mistake`, or is content."""

from .matrix import check_decide, check_draw, check_experiment, check_paired

__all__ = ["check_decide", "check_draw", "check_experiment", "check_paired"]
