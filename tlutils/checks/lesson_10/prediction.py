"""Check of a prediction on one new photograph."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from ... import runtime
from ..common import attempt, is_close, say_nothing_came


class _Colours(nn.Module):
    """A network that names the strongest colour, and notes what it was given and how."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.seen: list[tuple[Tensor, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x.detach().clone(), self.training, torch.is_grad_enabled()))
        return self.norm(x).mean((2, 3))


COLOURS = ["red", "green", "blue"]
# The mode of a file -> its one colour in that mode, and the index of the class that it belongs to.
PHOTOGRAPHS: dict[str, tuple[Any, int]] = {
    "RGB": ((40, 60, 210), 2),
    "RGBA": ((30, 200, 50, 128), 1),
    "L": (150, 2),
}


def check_predict(predict: Callable[[Any, list[str], Any, Path], Any] | None) -> None:
    """Print whether a function names what is on one new photograph, or which mistake it makes.

    Args:
        predict: The learner's `function(model, classes, prepare, path)`, which returns one of the classes.

    Example:
        >>> from PIL import Image
        >>> from tlutils.checks import lesson_10
        >>> def predict(model, classes, prepare, path):
        ...     return classes[model.eval()(prepare(Image.open(path).convert("RGB"))).argmax(1)]
        >>> lesson_10.check_predict(predict)
        The network wants a batch, (1, 3, height, width), and got (3, 16, 16): unsqueeze(0) makes a batch of
        one.
    """
    prepare = transforms.Compose(
        [
            transforms.Resize(20),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.45, 0.4), (0.3, 0.3, 0.2)),  # grey is nearest to blue in it
        ]
    )
    todo = "Open the photograph, prepare it, run the network, and return the name of the class."
    if predict is None:
        attempt(predict, todo=todo)
        return
    with tempfile.TemporaryDirectory(dir=runtime.cache_dir()) as folder:
        for mode, (colour, index) in PHOTOGRAPHS.items():
            path = Path(folder) / f"{mode}.png"
            picture = Image.linear_gradient("L").resize((30, 24)).convert(mode)
            Image.blend(picture, Image.new(mode, (30, 24), colour), 0.9).save(path)
            with Image.open(path) as image:
                photograph = image.convert("RGB")
            swapped = Image.merge("RGB", photograph.split()[::-1])
            wanted, bgr = (prepare(one).unsqueeze(0) for one in (photograph, swapped))
            model, found, error = _Colours().train(), None, None
            try:
                found = predict(model, list(COLOURS), prepare, path)
            except Exception as raised:  # a learner's lines may stop in any way
                error = f"{type(raised).__name__}: {(str(raised).splitlines() or [''])[0]}"
            if found is None and error is None:
                print(f"{say_nothing_came(predict)} {todo}")
                return
            if fault := _fault_of_prediction(found, error, model, (wanted, bgr), mode, index):
                print(fault)
                return
    print("Right: colour, grey and transparent photographs, one by one.")


def _fault_of_prediction(
    found: Any, error: str | None, model: _Colours, inputs: tuple[Tensor, Tensor], mode: str, index: int
) -> str | None:
    """Return what is wrong with the answer for a photograph, or with the way to it."""
    wanted, bgr = inputs
    stopped = f"Your lines stopped with {error}."
    if not model.seen:
        if error and mode != "RGB":
            what = {"L": "a grey file has one channel", "RGBA": "a transparent file has four"}[mode]
            return f"{stopped} It is no RGB photograph: {what}. Image.open(path).convert('RGB') gives three."
        return stopped if error else "The network was never asked."
    seen, training, grad = model.seen[-1]
    if seen.ndim != 4:
        return (
            f"The network wants a batch, (1, 3, height, width), and got {tuple(seen.shape)}: "
            "unsqueeze(0) makes a batch of one."
        )
    if seen.shape[1] != 3:
        return f"The network got {seen.shape[1]} channels, from a {mode} file: .convert('RGB') gives three."
    if training:
        return (
            "The network is in training mode: BatchNorm takes the mean of this one photograph, and the "
            "answer is worth nothing. model.eval() is missing."
        )
    if is_close(seen, bgr) and not is_close(seen, wanted):
        return "Red and blue are swapped: OpenCV reads BGR. Use Image.open(path).convert('RGB')."
    if not is_close(seen, wanted):
        return (
            "The photograph was prepared in another way than those of the training: hand it to `prepare`, "
            "which has the size, the mean and the standard deviation."
        )
    if error and "index" in error:
        return f"{stopped} The classes are along axis 1, so argmax(1) has one number per photograph."
    if error:
        return stopped
    if not isinstance(found, str):
        return f"A {type(found).__name__} came back. Return the name: classes[index]."
    if found not in COLOURS:
        return f"{found!r} is not one of the classes {COLOURS}."
    if found == COLOURS[0]:
        return (
            "Always the first class: along axis 0 photographs are compared, and there is only one. "
            "The classes are along axis 1."
        )
    if found != COLOURS[index]:
        return f"The network gives {COLOURS[index]!r} the largest logit, and you say {found!r}: argmax(1)."
    if grad:
        return "The answer is right, and all that a backward pass needs was kept for it: torch.no_grad()."
    return None
