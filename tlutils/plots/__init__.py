"""Arrays in, matplotlib figures out: one function for each kind of picture; nothing is computed or shown."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from .. import runtime
from ..errors import LearnerError

_THEIRS = (
    Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "matplotlib",
    Path.home() / ".matplotlib",
)
# Whoever uses matplotlib keeps their settings; a home where it never was is left alone.
if "matplotlib" not in sys.modules and not any(folder.exists() for folder in _THEIRS):
    with suppress(LearnerError):
        os.environ.setdefault("MPLCONFIGDIR", runtime.homes()["MPLCONFIGDIR"])

from . import explorers  # noqa: E402
from .curves import lines  # noqa: E402
from .estimates import effects, intervals, panels  # noqa: E402
from .grids import confusion, stage_costs, weight_change  # noqa: E402
from .images import image_rows, overlays, right_and_wrong  # noqa: E402
from .style import COLOURS, NAMES, Picture, figure, small_png  # noqa: E402

__all__ = [
    "COLOURS",
    "NAMES",
    "Picture",
    "confusion",
    "effects",
    "explorers",
    "figure",
    "image_rows",
    "intervals",
    "lines",
    "overlays",
    "panels",
    "right_and_wrong",
    "small_png",
    "stage_costs",
    "weight_change",
]
