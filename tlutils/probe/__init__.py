"""Classifiers on frozen features: logistic regression at its optimum, neighbours, and a head by SGD."""

from .fitting import PENALTIES, Probe, assign_folds, fit_probe
from .heads import install_head
from .suspects import COARSE_PENALTIES, FOLDS, LabelIssue, find_label_issues, predict_held_out

__all__ = [
    "COARSE_PENALTIES",
    "FOLDS",
    "PENALTIES",
    "LabelIssue",
    "Probe",
    "assign_folds",
    "find_label_issues",
    "fit_probe",
    "install_head",
    "predict_held_out",
]
