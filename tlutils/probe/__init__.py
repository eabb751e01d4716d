"""Classifiers on frozen features: logistic regression at its optimum, neighbours, and a head by SGD."""

from .fitting import PENALTIES, Probe, assign_folds, fit_probe
from .suspects import LabelIssue, find_label_issues

__all__ = ["PENALTIES", "LabelIssue", "Probe", "assign_folds", "find_label_issues", "fit_probe"]
