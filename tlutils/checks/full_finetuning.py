"""Checks of the exercises in lesson 04."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import surgery


def check_stage_rate(
    answer: float | None, stages: surgery.Stages, stage: str, *, lr: float, decay: float
) -> None:
    """Print whether `answer` is the learning rate of `stage` under layer-wise decay, or which mistake it is.

    `lr` is the rate of the last stage with parameters before the head.
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
    if answer is None:
        print("Not answered yet. Count the stages from the one nearest to the head back to this one.")
    elif np.isclose(answer, lr * decay**steps, rtol=0.02):
        print("Right: one factor for each stage on the way back.")
    else:
        near = [words for value, words in mistakes.items() if np.isclose(answer, value, rtol=0.02)]
        print(near[0] if near else "Not yet. Start at lr and multiply by the decay once for each stage.")


def check_recipe(recipe: Any) -> None:
    """Print whether `recipe` trains the head first and then everything, gently, or which mistake it makes."""
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
    found = [words for words, made in mistakes.items() if made]
    print(found[0] if found else "Right: head first, then everything at a small rate, with BatchNorm held.")


def check_cka(function: Callable[[Any, Any], Any]) -> None:
    """Print whether `function(x, y)` is the linear CKA of codes (n, p) and (n, q), or which mistake it is."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5)) + 3
    y = x[:, :3] + rng.normal(size=(40, 3))
    got = function(x, y)
    if got is None:
        print("Not written yet: the function returns nothing.")
        return
    if np.ndim(got) != 0:
        print(f"It returns an array of shape {np.shape(got)}. CKA is one number.")
        return

    def norm(a: np.ndarray) -> float:
        return float(np.linalg.norm(a))

    a, b = x - x.mean(0), y - y.mean(0)
    right = norm(b.T @ a) ** 2 / (norm(a.T @ a) * norm(b.T @ b))
    mistakes = {
        norm(y.T @ x) ** 2 / (norm(x.T @ x) * norm(y.T @ y)): "The codes are not centred: take off the mean "
        "of each column first, or their common offset is all that it sees.",
        norm(b.T @ a) ** 2: "The scale is still in it: divide by the sizes of both codes.",
        norm(b.T @ a) / (norm(a.T @ a) * norm(b.T @ b)): "The numerator is a square.",
        norm(b.T @ a) / np.sqrt(norm(a.T @ a) * norm(b.T @ b)): "Close: this is its square root.",
        norm(b.T @ a) ** 2 / (norm(a) * norm(b)) ** 2: "Divide by the sizes of XᵀX and YᵀY, not of X and Y.",
    }
    if np.isclose(float(got), right):
        print("Right: the same as tlutils.train.cka.")
    else:
        near = [words for value, words in mistakes.items() if np.isclose(float(got), value)]
        print(near[0] if near else f"Not yet: it gives {float(got):.3f} where CKA is {right:.3f}.")
