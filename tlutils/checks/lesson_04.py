"""Checks of the exercises in lesson 04, full finetuning."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .. import surgery
from .common import attempt, judge, judge_effects, judge_number


def check_layer_decay(
    answer: float | None, stages: surgery.Stages, stage: str, *, lr: float, decay: float
) -> None:
    """Print whether `answer` is the learning rate of a stage under layer-wise decay, or which mistake it is.

    Args:
        answer: The learner's rate, right within 2 %; None where nothing was answered.
        stages: The model's stages, of `surgery.stages`.
        stage: The stage that was asked about.
        lr: The rate of the last stage with parameters before the head.
        decay: The factor from each stage to the one before it, between 0 and 1.

    Example:
        >>> from torch import nn
        >>> from tlutils import surgery
        >>> from tlutils.checks import lesson_04
        >>> blocks = [nn.Sequential(nn.Conv2d(3, 3, 3, 2), nn.ReLU()) for _ in range(3)]
        >>> model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> lesson_04.check_layer_decay(1e-3 * 0.5, surgery.stages(model), "stage1", lr=1e-3, decay=0.5)
        Not yet. Start at lr and multiply by the decay once for each stage.
    """
    weighted = [s.name for s in stages if s.parameters][:-1]
    steps = len(weighted) - 1 - weighted.index(stage)
    mistakes = {
        lr: "That is the rate of the stage nearest to the head. Each stage before it is slower.",
        lr * decay ** (steps + 1): "One factor too many: the stage nearest to the head learns at lr itself.",
        lr * decay ** (steps + 2): "Two factors too many: neither pooling nor the head counts.",
        lr * decay * steps: "The factor is applied once for each stage: it is a power, not a product.",
        lr / decay**steps: "The wrong way round: earlier stages are slower.",
    }
    judge_number(
        answer,
        lr * decay**steps,
        mistakes,
        todo="Count the stages from the one nearest to the head back to this one.",
        praise="one factor for each stage on the way back.",
        hint="Start at lr and multiply by the decay once for each stage.",
        rtol=0.02,
    )


def check_recipe(recipe: Any) -> None:
    """Print whether a recipe trains the head first and then everything, gently, or which mistake it makes.

    Args:
        recipe: The learner's `train.Recipe`.

    Example:
        >>> from tlutils.checks import lesson_04
        >>> from tlutils.train import Recipe
        >>> lesson_04.check_recipe(Recipe.finetune())
        It trains everything from the first step: the head alone should come first.
    """
    if recipe is None:
        print("Not written yet. Recipe.lp_ft(...) has most of it.")
        return
    if not hasattr(recipe, "phases"):
        print(f"A {type(recipe).__name__} arrived, and a train.Recipe was expected.")
        return
    first, last = recipe.phases[0], recipe.phases[-1]
    mistakes = {
        "It forgets the pretrained weights before it starts.": recipe.reset,
        "It trains everything from the first step: the head alone should come first.": first.from_stage
        is None,
        "The first phase trains more than the head.": first.from_stage not in ("head", None),
        "It stops after the head: nothing pretrained ever learns.": last.from_stage == "head",
        "The last phase keeps a part frozen. Give it from_stage=None, the whole network.": last.from_stage
        not in ("head", None),
        "Everything trains at a rate as large as the head's in the first phase. Take a tenth, or less.": max(
            last.lr, last.head_lr
        )
        > first.head_lr / 10 * 1.001,
        "BatchNorm would learn from these few images. Hold it: train_bn=False.": recipe.train_bn,
    }
    judge_effects(mistakes, praise="head first, then everything at a small rate, with BatchNorm frozen.")


def check_cka(function: Callable[[Any, Any], Any] | None) -> None:
    """Print whether a function computes linear CKA (Kornblith et al. 2019), or which mistake it is.

    Args:
        function: The learner's `function(x, y)` for features (n, p) and (n, q) of the same images, as NumPy
            arrays: one number.

    Example:
        >>> import numpy as np
        >>> from tlutils.checks import lesson_04
        >>> def uncentred(x, y):
        ...     return np.linalg.norm(y.T @ x) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
        >>> lesson_04.check_cka(uncentred)
        The features are not centred: take off the mean of each column first, or their common offset is all
        that it sees.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5)) + 3
    y = x[:, :3] + rng.normal(size=(40, 3))

    def norm(a: np.ndarray) -> float:
        return float(np.linalg.norm(a))

    a, b = x - x.mean(0), y - y.mean(0)
    right = norm(b.T @ a) ** 2 / (norm(a.T @ a) * norm(b.T @ b))
    mistakes = {
        "The features are not centred: take off the mean of each column first, or their common offset is all "
        "that it sees.": norm(y.T @ x) ** 2 / (norm(x.T @ x) * norm(y.T @ y)),
        "The scale is still in it: divide by the sizes of both.": norm(b.T @ a) ** 2,
        "The numerator is a square.": norm(b.T @ a) / (norm(a.T @ a) * norm(b.T @ b)),
        "Close: this is its square root.": np.sqrt(right),
        "Divide by the sizes of XᵀX and YᵀY, not of X and Y.": norm(b.T @ a) ** 2 / (norm(a) * norm(b)) ** 2,
    }
    found = attempt(function, x, y, todo="Return one number: 1 for features that are alike.")
    judge(
        found,
        torch.tensor(right),
        {text: torch.tensor(wrong) for text, wrong in mistakes.items()},
        praise="the same as tlutils.metrics.cka.",
    )
