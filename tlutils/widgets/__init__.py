"""Explorers for a notebook: thin controls over pure functions, one function an explorer.

Each returns one object. Shown in a notebook it has controls that a keyboard reaches, a picture, and a line
that says in words what the picture shows; where no kernel runs, the picture is there alone. Setting
`explorer.controls[name].value` is the same as moving the control.
"""

from .base import Explorer, along, choice, whole
from .deciding import matrix_explorer
from .dreaming import Dream, live_deepdream
from .looking import occluder, saliency_comparer, stage_explorer
from .training import freeze_slider, rate_explorer

__all__ = [
    "Dream",
    "Explorer",
    "along",
    "choice",
    "freeze_slider",
    "live_deepdream",
    "matrix_explorer",
    "occluder",
    "rate_explorer",
    "saliency_comparer",
    "stage_explorer",
    "whole",
]
