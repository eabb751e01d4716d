"""Forget what a network learned: the from-scratch control."""

import torch
from torch import nn

from .. import models, runtime
from ..errors import LearnerError


def forget(model: nn.Module, *, seed: int) -> None:
    """Give all weights of `model` fresh initial values drawn from `seed`, in place; the global generators
    stay.

    Known architectures get their own authors' initialisation; other networks that of each layer's
    `reset_parameters`. Raises LearnerError for weights that neither knows how to draw.
    """
    info = models.info(model)
    if info.source != "custom":
        fresh = models.load(
            info.name,
            pretrained=False,
            num_classes=info.num_classes,
            input_size=info.input_size[1:],
            in_chans=info.input_size[0],
            seed=seed,
        )
        own = {name: tensor.shape for name, tensor in model.state_dict().items()}
        if own == {name: tensor.shape for name, tensor in fresh.state_dict().items()}:
            model.load_state_dict(fresh.state_dict())
            return
    drawn: set[int] = set()
    with runtime.seeded(seed), torch.no_grad():
        for module in model.modules():
            if callable(draw := getattr(module, "reset_parameters", None)):
                draw()
                drawn |= {id(p) for p in module.parameters(recurse=False)}
    left = [name for name, p in model.named_parameters() if id(p) not in drawn]
    if left:
        raise LearnerError(
            f"{info.name} has weights that no layer knows how to draw anew ({', '.join(left[:3])}). "
            "Build a fresh model yourself, and train it by dataclasses.replace(recipe, reset=False)."
        )
