"""Classifiers on frozen features: logistic regression at its optimum, neighbours, and a head by SGD."""

from .fitting import PENALTIES, Probe, assign_folds, fit_probe
from .heads import install_head
from .suspects import COARSE_FOLDS, COARSE_PENALTIES, LabelIssue, cross_val_predict, find_label_issues

__all__ = [
    "COARSE_FOLDS",
    "COARSE_PENALTIES",
    "PENALTIES",
    "LabelIssue",
    "Probe",
    "assign_folds",
    "cross_val_predict",
    "find_label_issues",
    "fit_probe",
    "install_head",
]
