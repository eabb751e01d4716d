"""Arrays in, matplotlib figures out: one function a picture, nothing computed, nothing shown by itself."""

from .style import COLOURS, DIVERGING, NAMES, SEQUENTIAL, Picture, figure, show_image

__all__ = ["COLOURS", "DIVERGING", "NAMES", "SEQUENTIAL", "Picture", "figure", "show_image"]
