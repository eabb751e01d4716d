"""From images to a model that works elsewhere: trained and judged, with report and card, and exported."""

from .export import OPSET, TOLERANCE, Exported, export_onnx, export_torch
from .preprocessing import describe_preprocessing

__all__ = ["OPSET", "TOLERANCE", "Exported", "describe_preprocessing", "export_onnx", "export_torch"]
