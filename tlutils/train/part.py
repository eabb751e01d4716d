"""What one phase trains: the network, or its suffix behind the cut, with what feeds it and what moves it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import data, features, surgery
from ..errors import LearnerError
from . import checkpoint
from .batches import Images, Maps
from .machine import Machine
from .recipes import Phase, Recipe


@dataclass(eq=False)
class Part:
    """What trains (`inner`, and `module`, the same as Accelerate wraps it), what moves it, and what feeds it.

    `held` are BatchNorm layers that stay in eval mode.
    """

    phase: Phase
    model: nn.Module
    inner: nn.Module
    module: nn.Module
    optimizer: Any
    train: Images | Maps
    val: Images | Maps
    held: list[nn.Module]

    @property
    def uses_batchnorm(self) -> bool:
        """Whether a forward pass in training needs two images, for BatchNorm's statistics."""
        return any(isinstance(m, _BatchNorm) and m not in self.held for m in self.inner.modules())

    def train_mode(self) -> None:
        """Set what trains to train mode; frozen stages and held BatchNorm stay in eval mode.

        Raises LearnerError when somebody froze or thawed weights since the phase began.
        """
        moved = {id(p) for p in self.trainable}
        changed = [n for n, p in self.model.named_parameters() if p.requires_grad != (id(p) in moved)]
        if changed:
            raise LearnerError(
                f"What trains changed within a phase ({len(changed)} tensors, first {changed[0]}), and the "
                "optimizer does not know. Let the recipe say it: Recipe.gradual([...]) unfreezes in phases."
            )
        self.module.train()
        for norm in self.held:
            norm.eval()

    def set_rates(self, share: float) -> None:
        """Set each group's learning rate to this share of its full rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * share

    def rates(self, share: float) -> dict[str, float]:
        """Return the learning rate of each stage that trains, at this share of the full rates."""
        return {group["stage"]: group["full_lr"] * share for group in self.optimizer.param_groups}

    @property
    def trainable(self) -> list[nn.Parameter]:
        """The parameters that the optimizer moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def open_part(
    model: nn.Module,
    dataset: Any,
    recipe: Recipe,
    phase: Phase,
    machine: Machine,
    moments: checkpoint.Moments,
) -> Part:
    """Freeze the model as the phase says and return what trains; a frozen prefix runs here, once per view."""
    if phase.from_stage is None:
        surgery.unfreeze(model)
    else:
        surgery.freeze_to(model, phase.from_stage)
    held = [] if recipe.train_bn else _hold_batchnorm(model)
    optimizer = _optimizer(model, recipe, phase)
    model.to(machine.device)
    inner, train, val = _fed(model, dataset, recipe)
    checkpoint.recall(optimizer, model, moments)
    module, prepared = machine.prepare(inner, optimizer)
    return Part(phase, model, inner, module, prepared, train, val, held)


def _hold_batchnorm(model: nn.Module) -> list[nn.Module]:
    """Freeze all BatchNorm layers' weights and return the layers, whose statistics eval mode holds."""
    norms: list[nn.Module] = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for norm in norms:
        norm.requires_grad_(False)
    return norms


def _optimizer(model: nn.Module, recipe: Recipe, phase: Phase) -> torch.optim.Optimizer:
    """Return an optimizer with one group a stage (two where norms and biases are spared weight decay)."""
    groups = surgery.param_groups(model, 1.0, decay=recipe.layer_decay, weight_decay=recipe.weight_decay)
    head = surgery.stages(model)[-1].name
    for group in groups:
        # Ratios count from the head, and `lr` is the rate of the stage before it.
        pretrained = phase.lr * group["ratio"] / recipe.layer_decay
        group["full_lr"] = phase.head_lr if group["stage"] == head else pretrained
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=phase.lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=phase.lr)


def _fed(model: nn.Module, dataset: Any, recipe: Recipe) -> tuple[nn.Module, Images | Maps, Images | Maps]:
    """Return what trains, and what feeds it in training and on val: images, or a prefix' kept outputs."""
    train, val = data.transform_for(model, train=recipe.augment), data.transform_for(model)
    names = [stage.name for stage in surgery.stages(model)]
    start = surgery.frozen_to(model) or names[0]  # as the stages call it, were it given by a module's name
    if not recipe.views or start == names[0]:
        augmented = Images(dataset.train, train, seed=recipe.seed, fixed=not recipe.augment)
        return model, augmented, Images(dataset.val, val, seed=recipe.seed, fixed=True)

    _, suffix = surgery.split_at(model, start)
    before = names[names.index(start) - 1]
    views = recipe.views if recipe.augment else None

    def kept(split: Any, transform: Any, views: int | None) -> Maps:
        if not len(split):
            return Maps((), (), views=1)
        store = features.extract(
            model,
            split,
            at=[before],
            pool=False,
            transform=transform,
            views=views,
            seed=recipe.seed,
            # What is kept must be what the prefix would give in each step.
            precision="float32",
        )
        arrays = store[before]
        return Maps(arrays if isinstance(arrays, tuple) else (arrays,), split.labels, views=views or 1)

    return suffix, kept(dataset.train, train, views), kept(dataset.val, val, None)
