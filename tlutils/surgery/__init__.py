"""See, cut, freeze and refit a model: any image classifier as an ordered list of stages."""

from .auditing import Audit, Finding, audit
from .editable import require_editable
from .freeze import (
    freeze,
    freeze_batchnorm,
    freeze_to,
    frozen_options,
    frozen_to,
    prefrozen_parameters,
    unfreeze,
)
from .head import head_layers, linear_head, replace_head
from .param_groups import add_unfrozen, param_groups
from .split import outputs, split_at
from .stages import Stage, Stages, assume_unchanged, stages
from .stem import replace_stem
from .tracing.receptive_field import module_layouts
from .truncate import truncate

__all__ = [
    "Audit",
    "Finding",
    "Stage",
    "Stages",
    "add_unfrozen",
    "assume_unchanged",
    "audit",
    "freeze",
    "freeze_batchnorm",
    "freeze_to",
    "frozen_options",
    "frozen_to",
    "head_layers",
    "linear_head",
    "module_layouts",
    "outputs",
    "param_groups",
    "prefrozen_parameters",
    "replace_head",
    "replace_stem",
    "require_editable",
    "split_at",
    "stages",
    "truncate",
    "unfreeze",
]
