"""One front door to models: packaged weights, torchvision, timm, transformers, and files that `save` wrote.

`load` gives a model, `info` says what it expects, `describe` corrects that for a model of your own, `save`
keeps one in a file, and `load_weights` reads a checkpoint of somebody else's.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from torch import nn

from .. import runtime
from ..errors import LearnerError
from ..runtime import user_path
from . import layers
from .checkpoints import LoadReport, load_file, load_weights, save
from .fetch import list_offline
from .metadata import ModelInfo, check_facts, sides_before_crop
from .recognise import check_input, describe, info
from .registry import catalog, resolve
from .zoo import build

DEFAULT = "tf_efficientnet_lite0"
FILE = "model.safetensors"  # the model in a folder that holds more than it

__all__ = [
    "DEFAULT",
    "LoadReport",
    "ModelInfo",
    "catalog",
    "check_facts",
    "check_input",
    "check_name",
    "describe",
    "info",
    "layers",
    "list_offline",
    "load",
    "load_weights",
    "save",
    "sides_before_crop",
]


def load(
    name_or_path: str | Path,
    pretrained: bool = True,
    *,
    num_classes: int | None = None,
    input_size: int | Sequence[int] | None = None,
    in_chans: int = 3,
    seed: int = 0,
    into: nn.Module | None = None,
) -> nn.Module:
    """Return a model in eval mode, on the CPU, with its facts attached: `info(model)`.

    Args:
        name_or_path: A name, looked for in the packages that carry weights, then in torchvision, then in
            timm; "torchvision/resnet18" and "timm/resnet18" choose, and a tag chooses among sets of weights
            ("resnet50.IMAGENET1K_V1", "resnet18.a1_in1k"). "transformers/owner/name" is an image classifier
            of the Hugging Face hub, "transformers/" and a folder one that save_pretrained wrote. A path, or a
            name that ends in .safetensors, is a file of `save`, and its model comes back as it was saved, as
            does that of a folder with such a file called model.safetensors, as `tlutils train` leaves one.
        pretrained: The published weights, from the cache or a download; never random ones in their place.
            With False the architecture's own random initialisation.
        num_classes: Width of a new, randomly initialised last layer; the published one by default.
        input_size: Side in pixels, (H, W) or (C, H, W). Convolutional networks take many sizes, so it changes
            `info` only; transformers are built for it, and their position embedding is resized.
        in_chans: 1 for grey images: the pretrained first layer is summed over RGB, so that x gives exactly
            what (x, x, x) gives the original. (The average would be that divided by three.) The normalisation
            is then one mean and std, the average of the colours', which is exact where they are equal. For
            other numbers the RGB weights are repeated in order and scaled by 3 / in_chans.
        seed: What random weights are drawn from; the global generators stay as they were.
        into: A model of your own class, for a file that was saved from one.

    Raises:
        LearnerError: For unknown names, weights that are not available, damaged files and impossible sizes.

    Example:
        >>> from tlutils import models
        >>> model = models.load("test_resnet", pretrained=False, num_classes=10, in_chans=1)
        >>> models.info(model).num_classes, models.info(model).input_size
        (10, (1, 160, 160))
    """
    runtime.keep_freed_memory()
    path = _as_path(name_or_path)
    if path is None:
        if into is not None:
            raise LearnerError(
                f"into= goes with a file that models.save wrote, and {name_or_path!r} is a name."
            )
        return build(
            str(name_or_path),
            pretrained,
            num_classes=num_classes,
            input_size=input_size,
            in_chans=in_chans,
            seed=seed,
        )
    if not pretrained or num_classes is not None or input_size is not None or in_chans != 3:
        raise LearnerError(
            f"{path} is a saved model and comes back as it was saved; pretrained, num_classes, input_size "
            "and in_chans go with names. Load it first, then give it another head with surgery.replace_head."
        )
    return load_file(path, into=into)


def check_name(name_or_path: str | Path) -> None:
    """Raise LearnerError for what `load` does not know: no model has the name, or no file is there.

    Nothing is read, so that a name may be known whose weights are not here.

    Args:
        name_or_path: As `load` takes it.

    Raises:
        LearnerError: For an unknown name, with the nearest ones, and for a missing file.

    Example:
        >>> from tlutils import models
        >>> models.check_name("tf_efficientnet_lite1")
    """
    path = _as_path(name_or_path)
    if path is None:
        resolve(str(name_or_path))
    elif not _is_file(path):
        raise LearnerError(f"There is no file {path}. Expected one of models.save, or a name of a model.")


def _is_file(path: Path) -> bool:
    """Whether a file is there, with or without its ending written."""
    return path.is_file() or path.with_name(f"{path.name}.safetensors").is_file()


def _is_known(name: str) -> bool:
    """Whether a text is the name of a model, which goes before a folder of the same name."""
    try:
        return bool(resolve(name))
    except LearnerError:
        return False


def _as_path(name: str | Path) -> Path | None:
    """Return the file that is meant, or None when it is the name of a model."""
    if not isinstance(name, str | Path):
        raise LearnerError(
            f"Expected the name of a model or the path of a file, and got {type(name).__name__}."
        )
    path = user_path(name)
    with suppress(OSError):  # of a text that is too long for a path
        if (path / FILE).is_file() and (isinstance(name, Path) or not _is_known(name)):
            return path / FILE
    if isinstance(name, Path) or path.suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt"):
        return path
    if name.partition("/")[0] in ("timm", "torchvision", "transformers") or not ("/" in name or "\\" in name):
        return None
    if not _is_file(path):
        raise LearnerError(
            f"{name!r} is neither a file that is there nor a model's name. Of the names, only those that "
            "begin with torchvision/, timm/ or transformers/ have a slash."
        )
    return path
