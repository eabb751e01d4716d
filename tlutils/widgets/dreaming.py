"""DeepDream, live: a button starts it and stops it, and the picture changes while it climbs."""

import copy
import time
from threading import Event, Thread
from typing import Any

import ipywidgets
import numpy as np
from IPython.core.getipython import get_ipython
from PIL import Image
from torch import Tensor, nn

from .. import explain, runtime, surgery
from ..errors import LearnerError, unknown
from .base import Panel, dropdown, one_image

SIDE = 300  # pixels of each of the two pictures on the screen
PAUSE = 0.2  # seconds between two pictures, so that drawing them does not slow the dream


def explore_deepdream(
    model: nn.Module,
    image: Tensor,
    *,
    at: str | None = None,
    dream: explain.Synthesis | None = None,
    octaves: int = 3,
    steps: int = 12,
    seed: int = 0,
) -> "Dream":
    """Return a DeepDream that a button starts and stops, the photograph at its left.

    It works in a thread on a copy of the model, so the kernel stays free for the click on stop. Running
    another cell stops it, so that no cell shares its random numbers or the processor with a dream.
    Mordvintsev, Olah and Tyka 2015.

    Args:
        model: An image classifier.
        image: One preprocessed photograph (C, H, W) or (1, C, H, W).
        at: The stage to begin with, the middle one unless given.
        dream: A result of `explain.deepdream` to show before the first start.
        octaves: At how many sizes it dreams, from small to full size.
        steps: How many steps it takes at each size.
        seed: Of the jitter.

    Returns:
        A panel; its `start()`, `stop()` and `wait()` do by hand what the button does.

    Raises:
        LearnerError: If there is no such stage, the image is too small for so many octaves, or the batch is
            not one that the model takes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import widgets
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> panel = widgets.explore_deepdream(model, torch.randn(3, 32, 32), octaves=1, steps=2)
        >>> panel.start()
        >>> panel.wait()
        >>> panel.screen.message[:24]
        'Done after 2 of 2 steps:'
    """
    x = explain.checked_batch(model, one_image(image))
    stages = surgery.stages(model, input_size=(x.shape[1], x.shape[2], x.shape[3]))
    names = [s.name for s in stages if isinstance(s.layout, str)]
    if at is not None and at not in names:
        raise unknown("stage", at, names)
    chosen = dropdown("at", names, at or names[len(names) // 2])
    # No steps: whatever is wrong with the settings is said here, and not at the first click.
    explain.deepdream(model, x, at=chosen.value, octaves=octaves, steps=0, seed=seed)
    if steps < 1:
        raise LearnerError(f"steps={steps}. Expected at least 1 for each size.")
    return Dream(model, x, chosen, dream, octaves=octaves, steps=steps, seed=seed)


class Dream(Panel):
    """A panel with a start and stop button; `start`, `stop` and `wait` do by hand what it does."""

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        at: ipywidgets.Dropdown,
        dream: explain.Synthesis | None,
        **settings: int,
    ) -> None:
        self.model, self.x, self.at = model, x, at
        self.settings: dict[str, Any] = settings
        self.button = ipywidgets.ToggleButton(description="Start", icon="play", tooltip="Start or stop")
        self.bar = ipywidgets.IntProgress(description="steps", layout={"width": "16em"})
        note = "a photograph, and beside it what the network dreams into it after a click on Start"
        super().__init__("DeepDream", note, {"at": self.at, "run": self.button, "progress": self.bar})
        self.photo = explain.denormalize(model, self.x)
        message = "The photograph, twice. Start lets the network dream into the one at the right."
        if dream is not None:
            message = "The photograph, and a dream that was computed before. Start begins again."
        self._show(self.photo if dream is None else dream.images, message)
        self._halt = Event()
        self._worker: Thread | None = None
        self.button.observe(self._pressed, "value")

    def start(self) -> None:
        """Begin a dream from the photograph in a thread; does nothing while one runs."""
        self.button.value = True

    def stop(self) -> None:
        """End the dream after the step in hand, and wait for that."""
        self._halt.set()
        self.wait()

    def wait(self) -> None:
        """Return when no dream runs any more."""
        if self._worker is not None:
            self._worker.join()

    def _pressed(self, change: Any) -> None:
        if not change.new:
            self._halt.set()
            return
        self.wait()  # for one that was told to stop and is in its last step
        self._halt.clear()
        self.button.description, self.button.icon = "Stop", "stop"
        if shell := get_ipython():
            shell.events.register("pre_run_cell", self._cell_begins)
        task = (copy.deepcopy(self.model), self.at.value)
        self._worker = Thread(target=self._work, args=task, name="deepdream", daemon=True)
        self._worker.start()

    def _cell_begins(self, info: Any) -> None:
        self.stop()

    def _work(self, model: nn.Module, at: str) -> None:
        shown = 0.0
        total = self.bar.max = self.settings["octaves"] * self.settings["steps"]

        def on_step(step: int, images: Tensor, values: Tensor) -> bool:
            nonlocal shown
            self.bar.value = step + 1
            if time.monotonic() - shown > PAUSE:
                height, width = images.shape[2:]
                self._show(images, f"Dreaming at {at}, on {height}×{width} pixels.")
                shown = time.monotonic()
            return not self._halt.is_set()

        try:
            with runtime.silent():
                result = explain.deepdream(model, self.x, at=at, on_step=on_step, **self.settings)
            done, (first, last) = len(result.curve), result.curve[[0, -1], 0].tolist()
            message = "Done" if done == total else "Stopped"
            message += f" after {done} of {total} steps: the activation of {at} went from {first:.2g} to "
            self._show(result.images, f"{message}{last:.2g}.")
        except Exception as error:  # nobody catches it in a thread; the learner reads it where the picture is
            self.screen.message = f"The dream broke off. {type(error).__name__}: {error}"
        finally:
            if shell := get_ipython():
                shell.events.unregister("pre_run_cell", self._cell_begins)
            self.button.description, self.button.icon = "Start", "play"
            self.button.value = False

    def _show(self, images: Tensor, message: str) -> None:
        """Show the photograph beside the first of `images`; no matplotlib, which is not made for threads."""
        height, width = self.photo.shape[2:]
        size = (round(SIDE * width / height), SIDE)
        sheet = Image.new("RGB", (2 * size[0] + 8, SIDE), "white")
        for k, picture in enumerate((self.photo, images)):
            pixels = (255 * picture[0].detach().cpu()).permute(1, 2, 0).byte().numpy()
            tile = Image.fromarray(np.ascontiguousarray(pixels.repeat(3 // pixels.shape[2], axis=2)))
            sheet.paste(tile.resize(size, Image.Resampling.BICUBIC), (k * (size[0] + 8), 0))
        self.screen.show(sheet, message)
