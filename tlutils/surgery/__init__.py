"""See, cut, freeze and refit a model: any image classifier as an ordered list of stages."""

from .auditing import Audit, Finding, audit
from .freeze import fixed_parameters, freeze, freeze_batchnorm, freeze_to, frozen_to, unfreeze
from .head import head_layers, replace_head
from .param_groups import add_unfrozen, param_groups
from .split import outputs, split_at
from .stages import Stage, Stages, stages, unchanged
from .stem import replace_stem
from .tracing.reach import module_layouts

__all__ = [
    "Audit",
    "Finding",
    "Stage",
    "Stages",
    "add_unfrozen",
    "audit",
    "fixed_parameters",
    "freeze",
    "freeze_batchnorm",
    "freeze_to",
    "frozen_to",
    "head_layers",
    "module_layouts",
    "outputs",
    "param_groups",
    "replace_head",
    "replace_stem",
    "split_at",
    "stages",
    "unchanged",
    "unfreeze",
]
