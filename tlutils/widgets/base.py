"""What explorers share: controls that a keyboard reaches, a picture, and a line that says it in words."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import traitlets
from anywidget import AnyWidget
from PIL import Image
from torch import Tensor

from .. import runtime
from ..errors import LearnerError
from ..plots import Picture, small_png


class Screen(AnyWidget):
    """A picture (JPEG bytes) with its description under it; where `pointed`, a mouse sets `place`.

    `place` is where the pointer was last pressed or dragged: [right, down], as shares of the picture.
    """

    _esm = (Path(__file__).parent / "screen.js").read_text(encoding="utf-8")
    _css = """
    .tlutils-screen img {max-width: 100%; height: auto; display: block;}
    .tlutils-screen img.pointed {cursor: crosshair; touch-action: none;}
    .tlutils-screen p {margin: 0.3em 0; max-width: 46em; min-height: 2.6em; line-height: 1.3;}
    """
    title = traitlets.Unicode().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)
    pointed = traitlets.Bool(False).tag(sync=True)
    place = traitlets.List(traitlets.Float()).tag(sync=True)

    def show(self, image: Image.Image, message: str) -> None:
        """Change picture and words in one message; `image` (RGB) stays at hand for `static`."""
        self.image = image
        with self.hold_sync():
            self.picture, self.message = jpeg(image, 90), message

    def static(self) -> tuple[str, bytes]:
        """Return (MIME type, bytes) of the picture as it is now, small enough to be committed.

        Drawings are smaller as PNG, photographs as JPEG: 10 to 35 KB for 750×300 pixels.
        """
        kinds = {"image/png": small_png(self.image), "image/jpeg": jpeg(self.image, 65)}
        return min(kinds.items(), key=lambda item: len(item[1]))


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Return a PIL image (RGB) as JPEG bytes."""
    raw = io.BytesIO()
    image.save(raw, "jpeg", quality=quality, optimize=True)
    return raw.getvalue()


class Panel(ipywidgets.VBox):
    """Named controls over a screen.

    `note` says in a sentence, without measured numbers, what there is to see. Where no kernel runs (in an
    export, in a committed notebook) the picture of the time of display stands instead.
    """

    def __init__(self, title: str, note: str, controls: dict[str, Any], *, pointed: bool = False) -> None:
        self.note, self.controls = note, controls
        self.screen = Screen(title=title, pointed=pointed)
        row = ipywidgets.Box(list(controls.values()), layout={"flex_flow": "row wrap"})
        super().__init__([row, self.screen])
        self.add_class("tlutils-panel")

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the live view, and beside it the picture as it is now, with its words as alt text.

        The plain text holds no number, so that it is the same on each run.
        """
        data = super()._repr_mimebundle_(**kwargs)
        kind, picture = self.screen.static()
        data |= {kind: picture, "text/plain": f"[{self.screen.title}] {self.note}"}
        return data, {kind: {"alt": self.screen.message}}


class Explorer(Panel):
    """A panel whose picture is `draw(**values)` of its controls' values; the alt text stands below it.

    A change of any control draws again. What `draw` refuses (a LearnerError) is said in words, and the last
    picture stays; at the start it is raised.

    Args:
        title: What the explorer is about, in a word or two.
        draw: From the values of the controls, by name, to a `plots.Picture`.
        note: What there is to see, in a sentence without measured numbers.
        pointed: Whether a mouse on the picture sets `screen.place`.
        **controls: ipywidgets with a `value`, by name.

    Example:
        >>> from ipywidgets import IntSlider
        >>> from tlutils import plots, widgets
        >>> def draw(power):
        ...     curve = {"": [x**power for x in (1, 2, 3)]}
        ...     return plots.lines([1, 2, 3], curve, title="Powers", alt=f"To the {power}.")
        >>> slider = IntSlider(1, 1, 3, description="power")
        >>> explorer = widgets.Explorer("Powers", draw, note="a curve", power=slider)
        >>> explorer.set(power=2)
        >>> explorer.screen.message
        'To the 2.'
    """

    def __init__(
        self,
        title: str,
        draw: Callable[..., Picture],
        *,
        note: str,
        pointed: bool = False,
        **controls: ipywidgets.Widget,
    ) -> None:
        super().__init__(title, note, controls, pointed=pointed)
        self.draw = draw
        self._drawn: dict[str, Any] = {}
        self._waiting = False
        self._redraw()
        for control in controls.values():
            control.observe(self._changed, "value")

    def set(self, **values: Any) -> None:
        """Set several controls, and draw once.

        Args:
            **values: The new values, by the names of their controls.
        """
        self._waiting = True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self._waiting = False
        self._changed()

    def _redraw(self) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        if values != self._drawn:
            self._drawn = {}
            with runtime.silent():
                self.picture = self.draw(**values)
            self.screen.show(self.picture.image(), self.picture.alt)
            self._drawn = values

    def _changed(self, change: Any = None) -> None:
        try:
            if not self._waiting:
                self._redraw()
        except LearnerError as error:
            self.screen.message = str(error)


LOOK: dict[str, Any] = {
    "layout": {"width": "15em", "max_width": "100%", "margin": "2px 1em 2px 0"},
    "style": {"description_width": "initial"},
}


def int_slider(label: str, low: int, high: int, value: int, *, step: int = 1) -> ipywidgets.IntSlider:
    """Return a slider over whole numbers from `low` to `high`; arrow keys move it by `step`."""
    return ipywidgets.IntSlider(value, low, high, step, description=label, **LOOK)


def option_slider(label: str, options: Sequence[Any], value: Any) -> ipywidgets.SelectionSlider:
    """Return a slider over ordered options: values, or pairs (words, value)."""
    return ipywidgets.SelectionSlider(options=options, value=value, description=label, **LOOK)


def dropdown(label: str, options: Sequence[Any], value: Any) -> ipywidgets.Dropdown:
    """Return a list to choose one option from: values, or pairs (words, value)."""
    return ipywidgets.Dropdown(options=options, value=value, description=label, **LOOK)


def one_image(image: Any) -> Any:
    """Return a preprocessed image (C, H, W) as a batch of one; what is no image is left to later checks."""
    batch = image[None] if isinstance(image, Tensor) and image.ndim == 3 else image
    if isinstance(batch, Tensor) and batch.ndim == 4 and len(batch) != 1:
        raise LearnerError(f"{len(batch)} images arrived. Expected one: take x[:1] of the batch.")
    return batch
