"""Classifiers on frozen features: logistic regression at its optimum, neighbours, and a head by SGD."""

from .fitting import PENALTIES, Probe, assign_folds, fit_probe

__all__ = ["PENALTIES", "Probe", "assign_folds", "fit_probe"]
