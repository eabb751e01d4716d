"""Checks of the exercises in lesson 06, how transferable."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import runtime
from .common import attempt, judge_effects


def _stack(seed: int) -> nn.Sequential:
    with runtime.seeded(seed):
        return nn.Sequential(
            *(nn.Sequential(nn.Conv2d(k, k + 1, 3), nn.ReLU()) for k in range(1, 4)), nn.Flatten()
        )


def check_copied_layers(copy_layers: Callable[[nn.Sequential, nn.Sequential, int], object] | None) -> None:
    """Print whether a function copies the first layers of one network into another and freezes them there.

    Yosinski et al. 2014 copy layers in this way.

    Args:
        copy_layers: The learner's `copy_layers(source, target, layers)`, for the first `layers` modules.

    Example:
        >>> from tlutils.checks import lesson_06
        >>> def copy_layers(source, target, layers):
        ...     target[:layers].load_state_dict(source[:layers].state_dict())
        >>> lesson_06.check_copied_layers(copy_layers)
        The copied layers can still learn: take the gradients of weights and biases away.
    """
    if copy_layers is None:
        print("Not written yet. state_dict gives the weights of a module, load_state_dict sets them.")
        return
    source, target = _stack(0), _stack(1)
    own = [[p.clone() for p in module.parameters()] for module in target]
    copy_layers(source, target, 2)

    def same(a: nn.Module, tensors: list[torch.Tensor]) -> bool:
        return all(torch.equal(p, q) for p, q in zip(a.parameters(), tensors, strict=True))

    copied = [[p.clone() for p in module.parameters()] for module in source]
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)
    mistakes = {
        "Nothing was copied: the first layer is still the target's own.": same(target[0], own[0]),
        "One layer too few: the second is still the target's own.": same(target[1], own[1]),
        "One layer too many: the third should keep its own weights.": not same(target[2], own[2]),
        "The networks share their weights: when the source trains, the target changes. Copy the values.": (
            same(target[0], list(source[0].parameters()))
        ),
        "The weights are copied, the biases are not.": not same(target[0], copied[0])
        and torch.equal(target[0][0].weight, copied[0][0]),  # type: ignore[index]
        "The first layers do not have the source's values.": not (
            same(target[0], copied[0]) and same(target[1], copied[1])
        ),
        "The copied layers can still learn: take the gradients of weights and biases away.": any(
            p.requires_grad for module in target[:2] for p in module.parameters()
        ),
        "The rest is frozen, too, and nothing is left to train.": not all(
            p.requires_grad for p in target[2].parameters()
        ),
        "The source was frozen. Only the target should be.": not all(
            p.requires_grad for p in source.parameters()
        ),
    }
    judge_effects(mistakes, praise="values copied, frozen there, and the source is free to train.")


def check_report(report: Callable[[np.ndarray, np.ndarray], Any] | None) -> None:
    """Print whether a function chooses a stage on some images and judges on others, or which mistake it is.

    Args:
        report: The learner's `report(choose, judge)` for two tables of hits, (stages, n) and (stages, m): the
            number of the chosen stage, and the accuracy to publish for it.

    Example:
        >>> from tlutils.checks import lesson_06
        >>> lesson_06.check_report(lambda choose, judge: (1, choose.mean(1).max()))
        That is how the chosen stage looks to those that chose it: too good on average.
    """
    choose, judge = np.zeros((4, 10)), np.zeros((4, 8))
    for row, (chosen, judged) in enumerate(((6, 3), (8, 5), (8, 2), (7, 6))):
        choose[row, :chosen], judge[row, :judged] = 1, 1
    todo = "Return two values: the row number of a stage, and its accuracy."
    found = attempt(report, choose.copy(), judge.copy(), todo=todo)
    if found is None:
        return
    try:
        stage, accuracy = map(float, found)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        print(f"Not yet. {todo}")
        return

    def is_about(value: float) -> bool:
        return bool(np.isclose(accuracy, value))

    mistakes = {
        "The two are swapped: first the stage, then its accuracy.": np.isclose(stage, 5 / 8)
        and accuracy == 1,
        "That stage is the best for the judges: then the judges have chosen.": stage == 3,
        "That stage is right on fewest images.": stage == 0 and is_about(3 / 8),
        "Two stages are equal for those that choose: take the earlier one.": stage == 2,
        "The first column points at one image, not at a stage: take the mean of each row.": stage == 0,
        f"There is no stage {stage:g} that the first table speaks for.": stage != 1,
        "That is how the chosen stage looks to those that chose it: too good on average.": is_about(0.8),
        "That is the best accuracy for the judges, at whatever stage: then the judges have chosen.": is_about(
            6 / 8
        ),
        "That is the mean over all stages, and one of them was chosen.": is_about(judge.mean()),
        "The images that chose have no say in the judgement.": is_about((8 + 5) / 18)
        or is_about((0.8 + 5 / 8) / 2),
        "That is how many are right. Divide by their number.": is_about(5),
        "In percent: a share is between 0 and 1.": is_about(500 / 8),
        "Not yet. The first table chooses a row, the second judges it.": not is_about(5 / 8),
    }
    judge_effects(mistakes, praise="one table chooses, the other judges.")


def check_gaps(gaps: Callable[[np.ndarray, np.ndarray], Any] | None) -> None:
    """Print whether a function names the stages at which one network is surely ahead, or which mistake it is.

    Args:
        gaps: The learner's `gaps(pretrained, random)` for two tables of hits (stages, seeds, images): a list
            of the numbers of the stages.

    Example:
        >>> from tlutils.checks import lesson_06
        >>> def gaps(pretrained, random):
        ...     return [k for k in range(len(random)) if pretrained[k].mean() > random[k].mean()]
        >>> lesson_06.check_gaps(gaps)
        Stage 1 is ahead by less than the noise: the whole interval of the difference has to be above 0.
    """
    luck = np.random.default_rng(1).random((1, 3, 60))
    pretrained = (luck < np.array([0.3, 0.62, 0.8, 0.5, 0.9])[:, None, None]).astype(float)
    random = (luck[:, :, ::-1] < np.array([0.7, 0.6, 0.3, 0.5, 0.88])[:, None, None]).astype(float)
    random[4] = pretrained[4]
    random[4, :, :9] = 0  # a small difference, on the same images and for every seed
    todo = "Return a list of stage numbers."
    found = attempt(gaps, pretrained.copy(), random.copy(), todo=todo)
    if found is None:
        return
    try:
        stages = [int(k) for k in np.asarray(found).ravel().tolist()]
    except (TypeError, ValueError):
        print(f"Not yet. {todo}")
        return
    if np.asarray(found).dtype == bool and len(stages) == len(pretrained):
        print("True and False for each stage came back: return the numbers of those that are ahead.")
        return
    mistakes = {
        "Stage 0 is surely *behind*. An interval that leaves 0 out may lie on either side of it.": 0
        in stages,
        "Stage 1 is ahead by less than the noise: the whole interval of the difference has to be above 0.": (
            1 in stages
        ),
        "No stage came back, and at stage 2 pretrained is far ahead. Which way round is the difference?": (
            not stages
        ),
        "Stage 2 is surely ahead, and missing.": 2 not in stages,
        "Stage 4 is missing: its two intervals overlap, and image by image the difference is sure. Compare "
        "the hits of the same images.": 4 not in stages,
        "Stage 3 is the same for both.": 3 in stages,
        "Those are not the stages that are surely ahead.": stages != [2, 4],
    }
    judge_effects(mistakes, praise="ahead on the same images, beyond the luck of seeds and images.")
