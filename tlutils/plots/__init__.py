"""Arrays in, matplotlib figures out: one function for each kind of picture; nothing is computed or shown."""

from . import explorers
from .curves import lines
from .estimates import corners, effects, intervals
from .grids import confusion, shares, weight_change
from .images import image_rows, overlays, right_and_wrong
from .style import COLOURS, NAMES, Picture, figure, small_png

__all__ = [
    "COLOURS",
    "NAMES",
    "Picture",
    "confusion",
    "corners",
    "effects",
    "explorers",
    "figure",
    "image_rows",
    "intervals",
    "lines",
    "overlays",
    "right_and_wrong",
    "shares",
    "small_png",
    "weight_change",
]
