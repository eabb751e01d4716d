"""Learning rates by stage, and an optimizer that keeps up when more of the model is unfrozen."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..errors import LearnerError
from ..models import layers
from .editable import require_editable
from .stages import stages

_TOKENS = (
    "pos_embed",
    "position_embedding",
    "pos_embedding",
    "relative_position",
    "cls_token",
    "class_token",
)


def param_groups(
    model: nn.Module, lr: float, *, layer_decay: float = 1.0, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Return parameter groups for a torch optimizer, every trainable parameter in exactly one of them.

    Groups come stem to head, at most two per stage, and carry `stage`, `ratio` (rate / lr) and `layer_decay`.
    Stages without weights do not count, frozen ones do, so that a rate does not change when more is unfrozen.

    Args:
        model: An image classifier.
        lr: Learning rate of the last stage, above 0.
        layer_decay: Each earlier stage learns at this share of the next one's rate: above 0, at most 1.
        weight_decay: Weight decay, 0 or more. It spares norms, biases, tokens, position embeddings, and what
            timm's `no_weight_decay` names.

    Raises:
        LearnerError: When nothing trains, or a number is out of its range.

    Example:
        >>> import torch
        >>> from tlutils import models, surgery
        >>> model = surgery.freeze_to(models.load("test_resnet", pretrained=False), "stage4")
        >>> groups = surgery.param_groups(model, lr=0.1, layer_decay=0.5, weight_decay=1e-4)
        >>> [(g["stage"], g["lr"], g["weight_decay"]) for g in groups]
        [('stage4', 0.05, 0.0001), ('stage4', 0.05, 0.0), ('head', 0.1, 0.0001), ('head', 0.1, 0.0)]
        >>> optimizer = torch.optim.AdamW(groups)
    """
    if not lr > 0 or not 0 < layer_decay <= 1 or not weight_decay >= 0:
        raise LearnerError(
            f"lr={lr!r}, layer_decay={layer_decay!r}, weight_decay={weight_decay!r} arrived. Expected lr "
            "above 0, layer_decay above 0 and at most 1 (0.7: each earlier stage is 30 % slower), and "
            "weight_decay 0 or more."
        )
    model = require_editable(model)
    parameters = dict(model.named_parameters())
    spared = _spared(model)
    weighted = [stage for stage in stages(model) if stage.parameters]
    groups = []
    for k, stage in enumerate(weighted):
        ratio = layer_decay ** (len(weighted) - 1 - k)
        names = [name for name in stage.parameters if parameters[name].requires_grad]
        for decays in (True, False):
            own = [name for name in names if (name in spared) != decays]
            if own:
                groups.append(
                    {
                        "params": [parameters[name] for name in own],
                        "lr": lr * ratio,
                        "weight_decay": weight_decay if decays else 0.0,
                        "stage": stage.name,
                        "ratio": ratio,
                        "layer_decay": layer_decay,
                    }
                )
    if not groups:
        raise LearnerError(
            "Nothing trains: every parameter is frozen. Call unfreeze(model, '*'), or "
            "freeze_to(model, 'head') to let the head train."
        )
    return groups


def add_unfrozen(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    *,
    layer_decay: float | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> list[str]:
    """Add the trainable parameters that `optimizer` lacks, each once, and return their names.

    For going deeper stage by stage: after `freeze_to` with an earlier stage, in the middle of training. What
    the optimizer knows of the others stays. New groups are made as by `param_groups`; their rates are in
    proportion to the present rate of the group nearest to the head.

    Args:
        optimizer: Any torch optimizer of this model; it is changed.
        model: An image classifier.
        layer_decay: As in `param_groups`; that of the optimizer's groups for None.
        scheduler: A scheduler of this optimizer, which goes on with the new groups in the same proportion.

    Example:
        >>> import torch
        >>> from tlutils import models, surgery
        >>> model = surgery.freeze_to(models.load("test_resnet", pretrained=False), "head")
        >>> optimizer = torch.optim.AdamW(surgery.param_groups(model, lr=1e-3))
        >>> surgery.add_unfrozen(optimizer, surgery.freeze_to(model, "stage4"))[0]
        'layer4.0.conv1.weight'
    """
    model = require_editable(model)
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    names = {id(p): name for name, p in model.named_parameters()}
    ratios = [group.get("ratio", 1.0) for group in optimizer.param_groups]
    like = ratios.index(max(ratios))
    base = optimizer.param_groups[like]
    weight_decay = max(group.get("weight_decay", 0.0) for group in optimizer.param_groups)
    added: list[str] = []
    for group in param_groups(
        model, 1.0, layer_decay=layer_decay or base.get("layer_decay", 1.0), weight_decay=weight_decay
    ):
        group["params"] = [p for p in group["params"] if id(p) not in known]
        if not group["params"]:
            continue
        share = group["ratio"] / ratios[like]
        settings = {k: v for k, v in base.items() if k not in ("params", *group)}
        rates = {k: v * share for k, v in base.items() if k in _RATES}
        optimizer.add_param_group({**settings, **group, **rates})
        for each in _schedulers(scheduler):
            _tell(each, like, share)
        added += [names[id(p)] for p in group["params"]]
    return added


_RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")


def _schedulers(scheduler: Any) -> Iterable[Any]:
    """Yield a scheduler and those inside it (SequentialLR, ChainedScheduler)."""
    if scheduler is not None:
        yield scheduler
        for inner in getattr(scheduler, "_schedulers", ()):
            yield from _schedulers(inner)


def _tell(scheduler: Any, like: int, share: float) -> None:
    """Give a scheduler an entry for a new group, that of group `like` with rates times `share`."""
    for name in ("base_lrs", "max_lrs", "min_lrs", "_last_lr"):
        values = getattr(scheduler, name, None)
        if isinstance(values, list) and len(values) > like:
            values.append(values[like] * share)
    for name in ("base_momentums", "max_momentums"):
        if isinstance(values := getattr(scheduler, name, None), list):
            values.append(values[like])
    functions = getattr(scheduler, "lr_lambdas", None)
    if functions is not None:
        functions.append(functions[like])


def _spared(model: nn.Module) -> set[str]:
    """Return the names of the parameters that weight decay leaves alone."""
    listed = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()  # type: ignore[operator]
    plain = {
        id(m.weight) for m in model.modules() if isinstance(m, layers.LINEAR_OR_CONV) and m.weight is not None
    }
    return {
        name
        for name, p in model.named_parameters()
        if name in listed
        or any(token in name for token in _TOKENS)
        # A vector, also one of shape (C, 1, 1), but not the weights of a layer with one output.
        or (sum(side > 1 for side in p.shape) <= 1 and id(p) not in plain)
    }
