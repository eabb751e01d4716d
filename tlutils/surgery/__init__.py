"""See, cut, freeze and refit a model: any image classifier as an ordered list of stages."""

from .split import outputs, split_at
from .stages import Stage, Stages, stages

__all__ = ["Stage", "Stages", "outputs", "split_at", "stages"]
