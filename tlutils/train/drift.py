"""How far training moved a network: its weights, stage by stage, and what its stages make of images."""

from collections.abc import Mapping, Sequence

import torch
from numpy.typing import ArrayLike
from torch import nn

from .. import surgery
from ..errors import LearnerError


def drift(model: nn.Module, before: nn.Module | Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return, for each stage with parameters, the length of their change over their length before.

    `before` is the network before training (a copy), or its state dict. 0 means that no bit moved; 1 that the
    change is as long as the weights themselves. A new head is compared with its random beginning. Raises
    LearnerError when the two have different parameters.
    """
    then = before.state_dict() if isinstance(before, nn.Module) else before
    now = model.state_dict()
    moved = {}
    for stage in surgery.stages(model):
        if not stage.parameters:
            continue
        odd = [n for n in stage.parameters if n not in then or then[n].shape != now[n].shape]
        if odd:
            raise LearnerError(
                f"{odd[0]} of stage {stage.name} has no counterpart of its shape from before. Compare two "
                "states of one network: keep a copy.deepcopy(model)."
            )
        old, new = (_flat(tensors, stage.parameters) for tensors in (then, now))
        moved[stage.name] = ((new - old).norm() / old.norm()).item()
    return moved


def _flat(tensors: Mapping[str, torch.Tensor], names: Sequence[str]) -> torch.Tensor:
    return torch.cat([tensors[name].detach().cpu().flatten() for name in names])


def cka(x: ArrayLike, y: ArrayLike) -> float:
    """Return the linear CKA of two codes of the same images, (n, p) and (n, q): 1 the same, 0 unrelated.

    Unlike a distance it does not change when a code is rotated or scaled as a whole, which a later layer
    could undo. Kornblith et al. 2019, arXiv 1905.00414. Raises LearnerError for other shapes and constant
    codes.
    """
    a, b = (torch.as_tensor(v, dtype=torch.float64) for v in (x, y))
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        raise LearnerError(
            f"Codes of shapes {tuple(a.shape)} and {tuple(b.shape)} came. Expected (n, p) and (n, q), "
            "one row an image, of the same images in the same order."
        )
    a, b = a - a.mean(0), b - b.mean(0)
    size = (a.T @ a).norm() * (b.T @ b).norm()
    if not size > 0:
        raise LearnerError("One of the codes is the same for all images: there is nothing to compare.")
    return ((b.T @ a).norm() ** 2 / size).item()
