"""Check that a model will do in training what its user thinks: the frozen part still, the rest moving."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...errors import LearnerError
from ...models import layers
from ..editable import require_editable
from ..freeze import frozen_to, is_held
from .effects import Effects, try_out
from .finding import MARKS, Audit, Finding
from .model import effect_findings, freeze_findings, model_findings, trial_findings
from .optimizer import optimizer_findings
from .transform import input_findings


def audit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    num_classes: int | None = None,
    transform: Callable[[Any], torch.Tensor] | None = None,
) -> Audit:
    """Return what is wrong with a model that is about to train, each finding with its fix.

    The model is tried on a few small random images; neither its weights, buffers and modes nor the random
    generators change. A fingerprint of the frozen tensors is noted on it: the next audit says whether they
    moved since.

    Args:
        model: An image classifier.
        optimizer: The optimizer that will train it, to have it checked: does it move all that trains, once,
            and nothing else?
        num_classes: How many classes your images have, to have the head checked.
        transform: Your transform of a PIL image, to have it checked against what the weights expect.

    Raises:
        LearnerError: For what is no torch module, and for a scripted or exported one.

    Example:
        >>> from tlutils import models, surgery
        >>> model = models.load("test_resnet", pretrained=False).train()
        >>> found = surgery.audit(model, num_classes=10)
        >>> found.ok, found.codes
        (False, {'head-width'})
        >>> found.errors[0].fix
        'replace_head(model, 10)'
    """
    bare = require_editable(model)
    trial: layers.Layers | None = None
    findings: list[Finding] = []
    effects = Effects()
    try:
        trial = layers.find_layers(bare)
    except LearnerError as error:
        findings.append(
            Finding(
                "not-tried", "warning", type(bare).__name__, str(error), "Fix this first, then audit again."
            )
        )
    if trial is not None:
        findings += trial_findings(bare, trial, num_classes)
        effects = Effects() if trial.images.is_meta else try_out(bare, trial.images)
        findings += effect_findings(bare, effects)
    findings += model_findings(bare, training=optimizer is not None)
    findings += freeze_findings(bare, effects)
    if optimizer is not None:
        findings += optimizer_findings(bare, optimizer)
    if transform is not None:
        findings += input_findings(bare, transform)
    findings.sort(key=lambda f: list(MARKS).index(f.severity))
    return Audit(_summary(bare, trial), tuple(findings))


def _summary(model: nn.Module, trial: layers.Layers | None) -> str:
    heads, dropouts = (trial.heads, trial.dropouts) if trial else ([], [])
    words = [type(model).__name__]
    for name in heads:
        weight: Any = model.get_submodule(name).weight
        words.append(f"head {name}: {weight.shape[1]} to {weight.shape[0]}")
    words += [f"dropout {name}: {layers.drop_rate(model.get_submodule(name)):g}" for name in dropouts]
    total = sum(p.numel() for p in model.parameters())
    free = sum(p.numel() for p in model.parameters() if p.requires_grad)
    words.append(f"{free:,} of {total:,} parameters train")
    norms = sum(is_held(m) for m in model.modules() if layers.is_norm(m))
    if norms:
        words.append(f"frozen to {frozen_to(model) or 'a pattern'}, {norms} norm layers held")
    return "; ".join(words)
