"""One front door to models: weights that packages carry, torchvision, timm, and files that `save` wrote."""

from typing import Any

from torch import nn

from .metadata import ModelInfo, check_input, describe, info, unwrap
from .zoo import build, catalog, offline

DEFAULT = "tf_efficientnet_lite0"
__all__ = ["DEFAULT", "ModelInfo", "catalog", "check_input", "describe", "info", "load", "offline", "unwrap"]


def load(
    name_or_path: str,
    pretrained: bool = True,
    *,
    num_classes: int | None = None,
    input_size: Any = None,
    in_chans: int = 3,
    seed: int = 0,
) -> nn.Module:
    """Return a model in eval mode, with its `info` attached."""
    return build(
        name_or_path, pretrained, num_classes=num_classes, input_size=input_size, in_chans=in_chans, seed=seed
    )
