"""From images to a model that works elsewhere: trained and judged, with report and card, and exported."""

from .building import Built, build, recipe_from
from .doubts import list_doubts
from .export import OPSET, TOLERANCE, Exported, export_onnx, export_torch
from .prediction import predict
from .preprocessing import describe_preprocessing

__all__ = [
    "OPSET",
    "TOLERANCE",
    "Built",
    "Exported",
    "build",
    "describe_preprocessing",
    "export_onnx",
    "export_torch",
    "list_doubts",
    "predict",
    "recipe_from",
]
