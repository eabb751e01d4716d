"""Run a model in eval mode under one seed, and notice what draws random numbers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

from .. import fingerprint, runtime
from ..errors import LearnerError
from .state import set_modes, tensors_in
from .wrappers import require_module

_Out = TypeVar("_Out")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Yield `model` without wrappers, in eval mode; afterwards all is as it was, also after an error.

    Each module gets its own mode back. Modes are set module by module, because a model may define `train()`
    itself (frozen parts do). The block runs under one seed, because some models draw numbers in eval mode,
    too; the random generators come back. Gradients are the caller's: add `torch.no_grad()` where none are
    needed.

    Args:
        model: Any model.

    Raises:
        LearnerError: As `require_module` does, and for weights without values.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import inference
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
        >>> with inference.evaluating(model) as quiet, torch.no_grad():
        ...     print(quiet.training, quiet(torch.zeros(1, 3)).shape)
        False torch.Size([1, 2])
        >>> model.training
        True
    """
    bare = require_module(model)
    modes = [(module, module.training) for module in model.modules()]
    if any(t is not None and t.is_meta for t in tensors_in(module for module, _ in modes)):
        raise LearnerError(
            "The model's weights are on the meta device: they have shapes and no values, so it cannot run. "
            "Make it again on a real device, or call model.to_empty(device='cpu') and load weights."
        )
    try:
        set_modes((module, False) for module, _ in modes)
        with runtime.seeded(0):
            yield bare
    finally:
        set_modes(modes)


def watch_draws(work: Callable[[], _Out]) -> tuple[_Out, bool]:
    """Return what a piece of work returns, and whether it draws from the global random generators.

    Other threads may draw at the same moment, as those of a cluster's worker do. What the work itself draws
    it draws again under the same seed, so it is repeated before it is said to. The generators come back.

    Args:
        work: a function that can be called again.

    Example:
        >>> import random
        >>> from tlutils import inference
        >>> inference.watch_draws(lambda: 1), inference.watch_draws(random.random)[1]
        ((1, False), True)
    """
    for _ in range(3):
        # Another seed than the one that features are made under: what follows it, differs.
        with runtime.seeded(1):
            before = fingerprint.of_generators()
            found = work()
            if fingerprint.of_generators() == before:
                return found, False
    return found, True
