"""Run somebody's model without leaving a trace, and read the logits in whatever it returns."""

from .model_copies import empty_like, mirror, twin
from .outputs import DRIFT, DRIFT_IMAGES, auxiliary_logits, find_logits, logits_of, measure_drift, parts_of
from .running import evaluating, watch_draws
from .state import device_of, dtype_of, in_float32, refuse_quantised, set_mode
from .wrappers import require_module, unwrap

__all__ = [
    "DRIFT",
    "DRIFT_IMAGES",
    "auxiliary_logits",
    "device_of",
    "dtype_of",
    "empty_like",
    "evaluating",
    "find_logits",
    "in_float32",
    "logits_of",
    "measure_drift",
    "mirror",
    "parts_of",
    "refuse_quantised",
    "require_module",
    "set_mode",
    "twin",
    "unwrap",
    "watch_draws",
]
