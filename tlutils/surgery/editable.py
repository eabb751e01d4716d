"""Whether a model can be looked into and changed at all."""

import torch
from torch import nn

from ..errors import LearnerError
from ..inference import mirror, require_module


def require_editable(model: object) -> nn.Module:
    """Return `model` without wrappers, once it is sure that its layers can be seen and their mode set.

    Args:
        model: What arrived where a model is expected.

    Raises:
        LearnerError: It is no model of images, is scripted, or cannot be put in training mode.

    Example:
        >>> from tlutils import models, surgery
        >>> model = models.load("test_resnet", pretrained=False)
        >>> surgery.require_editable(model) is model
        True
    """
    bare = require_module(model)
    if isinstance(bare, torch.jit.ScriptModule):
        raise LearnerError(
            "This is a scripted model, whose layers can neither be seen nor changed. Use the model before "
            "scripting."
        )
    if type(bare).train is not nn.Module.train or "train" in vars(bare):
        try:
            with mirror(bare, meta=True) as copy:
                copy.train()
        except Exception as error:
            raise LearnerError(
                f"{type(bare).__name__} cannot be put in training mode: {error} An exported program is fixed "
                "to one mode. Use the model before export."
            ) from error
    return bare
