"""The one look of the course: palette, figure sizes, and small pictures that read well in a notebook."""

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator
from PIL import Image

from .pixels import as_picture

# Okabe and Ito's colours, which readers with any colour vision tell apart (https://jfly.uni-koeln.de/color/).
COLOURS = {
    "majority": "#999999",
    "pixels": "#56B4E9",
    "random": "#CC79A7",
    "probe": "#0072B2",
    "partial": "#009E73",
    "few": "#44AA99",
    "more": "#117733",
    "finetune": "#D55E00",
    "lp-ft": "#882255",
    "scratch": "#E69F00",
    "ink": "#222222",
    "quiet": "#BBBBBB",
}
NAMES = {
    "majority": "majority class",
    "pixels": "pixels",
    "random": "random frozen backbone",
    "probe": "frozen pretrained backbone",
    "partial": "partly frozen",
    "few": "last two stages finetuned",
    "more": "finetuned from the middle on",
    "finetune": "finetuned",
    "lp-ft": "probed, then finetuned",
    "scratch": "from scratch",
}
MOST_BYTES = 60_000  # of one picture, so that a lesson stays quick to open
PHOTO_BYTES = 26_000  # of one picture made of photographs, of which a lesson has several
SEQUENTIAL = "viridis"
DIVERGING = "PuOr"

# Settings that matplotlib names by strings.
RC: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": COLOURS["ink"],
    "text.color": COLOURS["ink"],
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "savefig.dpi": 100,
}


class _Layout(ConstrainedLayoutEngine):
    """Constrained layout in which the names on an axis never touch, whatever draws them.

    They stay level where they fit beside each other; else those of an x axis are turned upright; and where
    even so lines would touch, every second, third … name is written.
    """

    def execute(self, fig: Any) -> None:
        self._place(fig)
        axes = [axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis) if _has_names(axis)]
        crowded = [axis for axis in axes if axis.axis_name == "x" and _touching(axis, apart=4)]
        if crowded:
            for axis in crowded:
                axis.set_tick_params(labelrotation=90)
            self._place(fig)
        for axis in filter(_touching, axes):
            places, names = axis.get_ticklocs(), [label.get_text() for label in axis.get_ticklabels()]
            every = next(k for k in range(2, len(names) + 1) if not _touching(axis, k))
            axis.set_ticks(places, [name * (i % every == 0) for i, name in enumerate(names)])

    def _place(self, fig: Any) -> None:
        super().execute(fig)
        for ax in fig.axes:
            ax.apply_aspect()  # where axes with square cells will be drawn


def _has_names(axis: Any) -> bool:
    return isinstance(axis.get_major_locator(), FixedLocator) and len(axis.get_ticklabels()) > 1


def _touching(axis: Any, every: int = 1, apart: int = 0) -> bool:
    """Return whether names are less than `apart` pixels from each other, if each `every`-th is written."""
    boxes = [label.get_window_extent() for label in axis.get_ticklabels()[::every] if label.get_text()]
    ends = sorted((box.intervalx if axis.axis_name == "x" else box.intervaly).tolist() for box in boxes)
    return any(after[0] - before[1] < apart for before, after in pairwise(ends))


class Picture(Figure):
    """A matplotlib figure that shows itself in a notebook as a small PNG, with its alt text as plain text.

    It lives outside pyplot, so nothing stays open and nothing is shown twice; `savefig` works as ever.
    With a photograph in it, it shows itself as a JPEG: all colours in a fraction of the bytes. `alt` is its
    alt text.
    """

    alt = ""

    def __repr__(self) -> str:
        return f"[picture] {self.alt}"

    def image(self) -> Image.Image:
        """Return the picture as a PIL image (RGB)."""
        raw = io.BytesIO()
        with rc_context(RC):
            self.savefig(raw, format="png", pil_kwargs={"compress_level": 1})
        return Image.open(raw).convert("RGB")

    def png(self) -> bytes:
        """Return the picture as PNG bytes, at most 60 KB where 16 colours allow it."""
        return small_png(self.image())

    def jpeg(self) -> bytes:
        """Return the picture as JPEG bytes, at most 26 KB where a middling quality allows it."""
        image = self.image()
        for quality in (85, 75, 65, 55, 45, 35):
            small = io.BytesIO()
            image.save(small, format="jpeg", quality=quality, optimize=True)
            if small.tell() <= PHOTO_BYTES:
                break
        return small.getvalue()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # Smaller ones are grids of cells, whose few colours a PNG keeps.
        photo = any(min(image.get_size()) >= 60 for ax in self.axes for image in ax.images)
        image = {"image/jpeg": self.jpeg()} if photo else {"image/png": self.png()}
        return {**image, "text/plain": repr(self)}


def small_png(image: Image.Image) -> bytes:
    """Return an image as PNG bytes: as many of 256 colours as fit in 60 KB (but at least 16).

    Args:
        image: A PIL image (RGB).

    Example:
        >>> from PIL import Image
        >>> from tlutils import plots
        >>> plots.small_png(Image.new("RGB", (8, 8)))[1:4]
        b'PNG'
    """
    for colours in (256, 128, 64, 32, 16):
        small = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
        if small.tell() <= MOST_BYTES:
            break
    return small.getvalue()


def figure(
    width: float = 7.5,
    height: float = 3.2,
    *,
    title: str,
    alt: str,
    rows: int = 1,
    cols: int = 1,
    **subplots: Any,
) -> tuple[Picture, np.ndarray]:
    """Return a `Picture` in the look of the course and its axes as an array (rows, cols).

    Args:
        width: In inches, of 100 pixels each.
        height: In inches.
        title: What the picture shows, as a sentence; it belongs to the whole picture, so that long names of
            rows do not push it to the right.
        alt: What a reader who cannot see the picture should know, in a sentence.
        rows: How many rows of axes.
        cols: How many columns of axes.
        **subplots: What `matplotlib.figure.Figure.subplots` takes, for example `sharey=True`.

    Example:
        >>> from tlutils import plots
        >>> picture, axes = plots.figure(6, 2, title="Two panels", alt="Nothing is drawn yet.", cols=2)
        >>> axes.shape
        (1, 2)
    """
    with rc_context(RC):
        picture = Picture(figsize=(width, height), dpi=100, layout=_Layout())
        FigureCanvasAgg(picture)
        picture.alt = alt
        picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = picture.subplots(rows, cols, squeeze=False, **subplots)
    return picture, axes


def draw_interval(
    ax: Any, place: int, interval: Sequence[float], colour: str, *, size: float = 6, upright: bool = False
) -> None:
    """Draw (value, low, high) as a dot on a pale bar, in row `place`, or in that column where `upright`."""
    value, low, high = interval
    bar, dot = ([low, high], [place, place]), (value, place)
    ax.plot(*bar[:: -1 if upright else 1], color=colour, linewidth=size / 2, alpha=0.4, solid_capstyle="butt")
    ax.plot(*dot[:: -1 if upright else 1], "o", color=colour, markersize=size)


def show_image(ax: Any, image: Any, title: str = "") -> None:
    """Draw a picture, grey where it is (H, W), without ticks; changes `ax`."""
    ax.imshow(as_picture(image), cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_visible(False)
    if title:
        ax.set_title(title, fontsize=9, fontweight="normal", loc="center")
