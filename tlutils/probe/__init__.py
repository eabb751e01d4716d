"""Classifiers on frozen features: logistic regression at its optimum, neighbours, and a head by SGD."""

from .fitting import PENALTIES, Probe, assign_folds, fit_probe
from .suspects import Suspect, find_suspects

__all__ = ["PENALTIES", "Probe", "Suspect", "assign_folds", "find_suspects", "fit_probe"]
