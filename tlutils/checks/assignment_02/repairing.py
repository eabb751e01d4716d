"""Check of a script that was repaired with the help of an audit."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ... import runtime, surgery
from ...errors import LearnerError
from ..common import Mistake, answer, require


def check_repaired(repaired: Callable[[int], Any], *, seed: int = 0) -> None:
    """Print that a repaired script trains the head alone, or raise what an audit or a step of training finds.

    Args:
        repaired: The learner's `function(classes)`, which returns a network and its optimizer.
        seed: The number of classes and the images of the check are drawn from it.

    Raises:
        Mistake: If the head does not fit, something else moves, or nothing does.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils.checks import assignment_02
        >>> def as_it_was(classes):
        ...     block = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        ...     model = nn.Sequential(block, nn.Linear(8, 10))
        ...     return model.train(), torch.optim.SGD(model.parameters(), lr=0.01)
        >>> assignment_02.check_repaired(as_it_was)
        Traceback (most recent call last):
        tlutils.checks.Mistake: audit says head-width: The model gives 10 scores per image, and you have 3
        classes.
        Fix: replace_head(model, 3)
    """
    with runtime.seeded(seed):
        classes = 3 + seed % 4
        found = answer(repaired, classes, todo="Return the network and the optimizer.")
        if not isinstance(found, tuple | list) or len(found) != 2 or not isinstance(found[0], nn.Module):
            raise Mistake("Return two things: the network and the optimizer.")
        model, optimizer = found
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise Mistake(f"A {type(optimizer).__name__} came second. Return the network and the optimizer.")
        relabelled = [
            name
            for name, m in model.named_modules()
            if isinstance(m, nn.Linear) and m.out_features != m.weight.shape[0]
        ]
        if relabelled:
            raise Mistake(
                f"{relabelled[0]} calls itself a layer with {classes} outputs, and its weight has another "
                "number: "
                "out_features is a label. surgery.replace_head puts a new layer there."
            )
        try:
            audit = surgery.audit(model, optimizer, num_classes=classes)
        except LearnerError as error:
            raise Mistake(f"audit cannot read the network: {error}") from error
        for finding in audit:
            if finding.severity in ("error", "warning"):
                raise Mistake(f"audit says {finding.code}: {finding.message} Fix: {finding.fix}")
        before = copy.deepcopy(model.state_dict())
        images = torch.randn(4, 3, 32, 32)
        for _ in range(2):
            loss = F.cross_entropy(model.train()(images), torch.arange(4) % classes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
        body = [name for name in moved if not name.startswith("fc.")]
        require(
            {
                "Nothing moved in two steps of training: the optimizer's rate is 0, or it holds other "
                "tensors.": (not moved),
                f"More than the head trains: {body[0] if body else ''} moved. The script is about a probe "
                "by gradient "
                "descent: freeze up to the head.": bool(body),
                "A part of the head stays as it was drawn.": {"fc.weight", "fc.bias"} - set(moved) != set(),
            },
            praise="the audit finds nothing, and two steps of training move the head and nothing else.",
        )
