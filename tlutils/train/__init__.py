"""The three ways to transfer and their control: one loop, recipes for each, repeatable, resumable."""

from .drift import cka, drift
from .history import History
from .looking import Prediction, evaluate, predict
from .loop import fit
from .recipes import Phase, Recipe
from .seeds import over_seeds

__all__ = [
    "History",
    "Phase",
    "Prediction",
    "Recipe",
    "cka",
    "drift",
    "evaluate",
    "fit",
    "over_seeds",
    "predict",
]
