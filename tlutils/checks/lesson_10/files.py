"""Check of saving a network with its classes, and of loading it on another machine."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from ... import runtime
from ..common import is_close, say_nothing_came

CLASSES = [["cat", "dog"], ["oak", "elm", "ash"]]
TODO = "save writes one file at `path`; load returns (network, classes)."


def _build(classes: int) -> nn.Module:
    """Return a small network with random weights, in training mode, as every new network is."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, classes),
    )


class _Wrapped(nn.Module):
    """A network in another one, as for several GPUs: the names of its weights begin with "module."."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)  # type: ignore[no-any-return]


def check_save_and_load(
    save: Callable[[Path, Any, list[str]], Any], load: Callable[[Path, Callable[[int], nn.Module]], Any]
) -> None:
    """Print whether what one function saves another can load elsewhere, or which mistake they make.

    The files are as if they came from a machine with a GPU that is not here.

    Args:
        save: The learner's `function(path, model, classes)`, which writes one file.
        load: The learner's `function(path, build)`, which returns the network, ready to be asked, and the
            names of the classes. `build(n)` gives the network with n logits and random weights.

    Example:
        >>> import torch
        >>> from tlutils.checks import lesson_10
        >>> def save(path, model, classes):
        ...     torch.save(model, path)
        >>> lesson_10.check_save_and_load(save, lambda path, build: (torch.load(path), None))
        The whole network is in the file. It opens only where the same code is in the same place, and whoever
        opens it runs what is in it. Save model.state_dict().
    """
    with runtime.seeded(0), tempfile.TemporaryDirectory(dir=runtime.cache_dir()) as folder:
        for number, classes in enumerate(CLASSES):
            places = [Path(folder) / f"{number}-{machine}" / "network.pth" for machine in ("here", "there")]
            if fault := _fault(save, load, classes, places):
                print(fault)
                return
        places = [Path(folder) / f"wrapped-{machine}" / "network.pth" for machine in ("here", "there")]
        if _loads_nothing(save, load, places):
            print(
                'The names in this file begin with "module.", as those of a network for several GPUs do. '
                "None fits, so nothing was loaded, and no error said so: leave strict=False out."
            )
            return
    print("Right: one file with weights and classes, opened on another machine, and ready to be asked.")


def _trained(classes: int) -> nn.Module:
    """Return a network whose BatchNorm has seen something."""
    model = _build(classes)
    model(3 + torch.rand(8, 3, 8, 8))
    return model


def _answers(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(images)  # type: ignore[no-any-return]


def _carry(save: Callable[..., Any], model: nn.Module, classes: list[str], places: list[Path]) -> None:
    """Save as on a machine with GPUs, and take the file alone to another place."""
    here, there = places
    for place in places:
        place.parent.mkdir()
    with mock.patch("torch.serialization.location_tag", return_value="cuda:9"):
        save(here, model, list(classes))
    if here.exists():
        here.rename(there)


def _fault(
    save: Callable[..., Any], load: Callable[..., Any], classes: list[str], places: list[Path]
) -> str | None:
    """Return what is wrong with what was saved and loaded, or None."""
    images, model = 3 + torch.rand(5, 3, 8, 8), _trained(len(classes))
    wanted = _answers(model, images)
    try:
        _carry(save, model.train(), classes, places)
    except Exception as error:  # a learner's lines may stop in any way
        return f"Your save stopped with {_name(error)}. {TODO}"
    if not places[1].exists():
        return f"Not answered yet. {TODO}"
    if fault := _fault_of_file(places[1], classes):
        return fault
    try:
        with mock.patch("torch.load", wraps=torch.load) as opened:
            found = load(places[1], _build)
    except FileNotFoundError:
        return "The file alone was carried to another machine, and load looks for one more. Save one file."
    except Exception as error:
        if "CUDA device" in str(error) or "cuda" in str(error).lower():
            return (
                "The network was saved on a GPU, and here is none, so torch.load stops. "
                'torch.load(path, map_location="cpu") opens it everywhere.'
            )
        return f"Your load stopped with {_name(error)}. Does the file have the whole state_dict()?"
    if found is None:
        return f"{say_nothing_came(load)} {TODO}"
    if not isinstance(found, tuple | list) or len(found) != 2 or not isinstance(found[0], nn.Module):
        return f"load returned a {type(found).__name__}. Return two things: the network, and its classes."
    if any(call.kwargs.get("weights_only") is False for call in opened.call_args_list):
        return "weights_only=False runs whatever code is in a file. Leave it out, and only tensors are read."
    if list(found[1]) != classes:
        return f"load gives the classes {list(found[1])}; saved were {classes}. Read them from the file."
    if found[0].training:
        return (
            "The network comes back in training mode, as every new one is: BatchNorm and dropout make its "
            "answers depend on chance and on the batch. Call eval() before you return it."
        )
    if not is_close(_answers(found[0], images), wanted):
        return (
            "The network that was loaded gives other answers than the one that was saved. Were all tensors "
            "of state_dict(), BatchNorm's averages too, saved and handed to load_state_dict?"
        )
    return None


def _fault_of_file(path: Path, classes: list[str]) -> str | None:
    """Return what a file has that it should not have, or has not."""
    try:
        parts = _parts(torch.load(path, map_location="cpu", weights_only=False))
    except Exception:  # another format: what load makes of it will tell
        return None
    if any(isinstance(part, nn.Module) for part in parts):
        return (
            "The whole network is in the file. It opens only where the same code is in the same place, and "
            "whoever opens it runs what is in it. Save model.state_dict()."
        )
    if not {part for part in parts if isinstance(part, str)} >= set(classes):
        return (
            "The names of the classes are not in the file: in a year nobody knows what the first logit "
            "stands for. Save them with the weights."
        )
    return None


def _parts(content: Any) -> list[Any]:
    """Return what is in a file, with the keys and values of its dicts and lists."""
    if isinstance(content, dict):
        return [part for pair in content.items() for one in pair for part in _parts(one)]
    if isinstance(content, list | tuple):
        return [part for one in content for part in _parts(one)]
    return [content]


def _loads_nothing(save: Callable[..., Any], load: Callable[..., Any], places: list[Path]) -> bool:
    """Return whether weights that do not fit are left out without an error."""
    images, model = 3 + torch.rand(5, 3, 8, 8), _trained(2)
    wanted = _answers(model, images)
    try:
        _carry(save, _Wrapped(model), CLASSES[0], places)
        found, _ = load(places[1], _build)
    except Exception:  # an error is what should come
        return False
    return not is_close(_answers(found, images), wanted)


def _name(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
