"""Explorers for a notebook: thin controls over pure functions, one function for each explorer.

Each returns one object. Shown in a notebook it has controls that a keyboard reaches, a picture, and a line
that says in words what the picture shows; where no kernel runs, the picture is there alone. Setting
`explorer.controls[name].value` is the same as moving the control.
"""

from .base import Explorer
from .deciding import explore_decision_matrix
from .dreaming import explore_deepdream
from .exploring import explore_attributions, explore_channels, explore_occlusion
from .training import explore_freezing, explore_learning_rates

__all__ = [
    "Explorer",
    "explore_attributions",
    "explore_channels",
    "explore_decision_matrix",
    "explore_deepdream",
    "explore_freezing",
    "explore_learning_rates",
    "explore_occlusion",
]
