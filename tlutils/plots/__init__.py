"""Arrays in, matplotlib figures out: one function a picture, nothing computed, nothing shown by itself."""

from .claims import corners, effects, profiles
from .depth import by_cut, lines, movement, shares
from .explorers import channel, covered, cut, rates, two_maps
from .finetuning import stage_panels
from .looking import by_stage, image_rows, overlays, share_curves
from .matrix import matrix_place
from .probing import bands
from .results import confusion, curves, gallery, right_and_wrong, strategies
from .style import COLOURS, DIVERGING, NAMES, SEQUENTIAL, Picture, figure, show_image, small_png

__all__ = [
    "COLOURS",
    "DIVERGING",
    "NAMES",
    "SEQUENTIAL",
    "Picture",
    "bands",
    "by_cut",
    "by_stage",
    "channel",
    "confusion",
    "corners",
    "covered",
    "curves",
    "cut",
    "effects",
    "figure",
    "gallery",
    "image_rows",
    "lines",
    "matrix_place",
    "movement",
    "overlays",
    "profiles",
    "rates",
    "right_and_wrong",
    "share_curves",
    "shares",
    "show_image",
    "small_png",
    "stage_panels",
    "strategies",
    "two_maps",
]
