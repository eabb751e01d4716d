"""The three ways to transfer and their control: one loop, recipes for each, repeatable, resumable."""

from .data import steps_per_epoch
from .evaluate import Prediction, evaluate, predict
from .fit import fit
from .history import History, weight_change
from .recipe import Phase, Recipe

__all__ = [
    "History",
    "Phase",
    "Prediction",
    "Recipe",
    "evaluate",
    "fit",
    "predict",
    "steps_per_epoch",
    "weight_change",
]
