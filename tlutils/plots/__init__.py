"""Arrays in, matplotlib figures out: one function a picture, nothing computed, nothing shown by itself."""

from .results import confusion, curves, gallery, right_and_wrong, strategies
from .style import COLOURS, DIVERGING, NAMES, SEQUENTIAL, Picture, figure, show_image

__all__ = [
    "COLOURS",
    "DIVERGING",
    "NAMES",
    "SEQUENTIAL",
    "Picture",
    "confusion",
    "curves",
    "figure",
    "gallery",
    "right_and_wrong",
    "show_image",
    "strategies",
]
