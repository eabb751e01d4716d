"""Checks of lesson 07: heads, the Pareto front, a choice, shuffled squares, a contrastive loss, names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torchvision.models as zoo
from torch import Tensor, nn
from torch.nn import functional as F

from .. import runtime
from .common import attempt, judge

CLASSES = 3
FAMILIES: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "VGG": (zoo.vgg11, "classifier.6"),
    "ResNet": (zoo.resnet18, "fc"),
    "EfficientNet": (zoo.efficientnet_b0, "classifier.1"),
    "ConvNeXt": (zoo.convnext_tiny, "classifier.2"),
    "ViT": (zoo.vit_b_32, "heads.head"),
}
"""A network of each family, and the name of its head."""


def check_heads(set_head: Callable[[nn.Module, int], nn.Module] | None) -> None:
    """Print whether a function gives networks of five families a new head, or what it did to one of them.

    The networks have shapes and no numbers (PyTorch's "meta" device), so that none of them takes memory.

    Args:
        set_head: The learner's `function(model, classes)`.

    Example:
        >>> from torch import nn
        >>> from tlutils.checks import lesson_07
        >>> def of_resnets(model, classes):
        ...     model.fc = nn.Linear(512, classes)
        ...     return model
        >>> lesson_07.check_heads(of_resnets)
        VGG: the old head is still there, with 1000 outputs. Here it is called classifier.6: print(model)
        shows it.
    """
    for family, (build, where) in FAMILIES.items():
        with torch.device("meta"):
            model = build(weights=None).eval()
            before = dict(model.named_modules())
            found = attempt(set_head, model, CLASSES, todo="Return the model with its new head.")
        if found is None:
            return
        if fault := _fault_of_head(found, model, before, where):
            print(f"{family}: {fault}")
            return
    print("Right: five names for one thing, and the features that it reads are counted by the old head.")


def _fault_of_head(found: Any, model: nn.Module, before: Mapping[str, nn.Module], where: str) -> str | None:
    """Return what is wrong with a model whose head at `where` should be new, and all else the same."""
    old = before[where]
    assert isinstance(old, nn.Linear)
    if isinstance(found, nn.Linear):
        return "the new layer came back alone. Return the whole model."
    if not isinstance(found, nn.Module):
        return f"a {type(found).__name__} came back. Return the model."
    if found is not model:
        inside = any(part is model for part in found.modules())
        return (
            "a layer stands after the whole model, on its 1000 logits. Put it in the old head's place."
            if inside
            else "another network came back: its weights are not the pretrained ones. Change the one you got."
        )
    now = dict(model.named_modules())
    head = now.get(where)
    if head is old:
        return (
            f"the old head was told that it has {CLASSES} outputs, and its weights are still those of "
            f"1000: setting out_features on an existing layer changes nothing. Make a new nn.Linear."
            if old.out_features != len(old.weight)
            else f"the old head is still there, with 1000 outputs. Here it is called {where}: print(model) "
            "shows it."
        )
    lost = [
        name
        for name, part in before.items()
        if name
        and name != where
        and any(True for _ in part.parameters(recurse=False))
        and now.get(name) is not part
    ]
    if lost:
        return (
            f"{lost[0]} went, too, and what it had learned with it. Replace the last layer, {where}, alone."
        )
    softmax = any(isinstance(part, nn.Softmax) for part in now.values())
    if softmax:
        return "a softmax follows the head. Cross-entropy takes logits and does that itself."
    try:
        with torch.no_grad():
            out = found(torch.empty(2, 3, 224, 224, device="meta"))
    except RuntimeError as error:
        return (
            f"the network does not run any more ({str(error).splitlines()[0]}). The new layer reads as many "
            f"features as the old one: {where}.in_features."
        )
    if out.shape != (2, CLASSES):
        return f"two images give {tuple(out.shape)}. Expected a logit for each class, (2, {CLASSES})."
    if not all(parameter.requires_grad for parameter in found.parameters()):
        return "weights were frozen. What to freeze is another step: this function changes the head alone."
    return None


Cards = tuple[dict[str, float], dict[str, float]]
CARDS: tuple[Cards, ...] = (
    ({"a": 70, "b": 76, "c": 78, "d": 82, "e": 81}, {"a": 15, "b": 4, "c": 0.4, "d": 4.5, "e": 17}),
    ({"a": 80, "b": 80, "c": 79, "d": 80}, {"a": 2, "b": 3, "c": 2, "d": 2}),
    ({"a": 40, "b": 90, "c": 91}, {"a": 1, "b": 2, "c": 9}),
)
"""Accuracies and costs: some beaten clearly, some equal on one count or on both, and none beaten."""


def _over_cards(rule: Callable[[float, float, float, float], bool]) -> list[set[str]]:
    """Return the names that no other one beats, where `rule(a, c, other a, other c)` says what beating is."""
    return [
        {
            name
            for name in accuracy
            if not any(
                rule(accuracy[name], cost[name], accuracy[other], cost[other])
                for other in accuracy
                if other != name
            )
        }
        for accuracy, cost in CARDS
    ]


def check_front(front: Callable[[dict[str, float], dict[str, float]], Iterable[str]] | None) -> None:
    """Print whether a function returns the names on the Pareto front, or which mistake it makes.

    Args:
        front: The learner's `function(accuracy, cost)`.

    Example:
        >>> from tlutils.checks import lesson_07
        >>> lesson_07.check_front(lambda accuracy, cost: {max(accuracy, key=accuracy.get)})
        This is the most accurate one alone. Cheaper ones that nothing beats belong to it.
    """
    todo = "Return a set of names."
    answers = []
    for accuracy, cost in CARDS:
        found = attempt(front, dict(accuracy), dict(cost), todo=todo)
        if found is None:
            return
        if isinstance(found, str) or not isinstance(found, Iterable):
            print(f"Not yet: a {type(found).__name__} arrived. {todo}")
            return
        answers.append(set(found))

    def beats(a: float, c: float, other_a: float, other_c: float) -> bool:
        return other_a >= a and other_c <= c and (other_a, other_c) != (a, c)

    def each(pick: Callable[[dict[str, float], dict[str, float]], set[str]]) -> list[set[str]]:
        return [pick(accuracy, cost) for accuracy, cost in CARDS]

    everything = each(lambda accuracy, cost: set(accuracy))
    right = _over_cards(beats)
    _name_mistake(
        answers,
        right,
        {
            "This is the most accurate one alone. Cheaper ones that nothing beats belong to it.": each(
                lambda accuracy, cost: {max(accuracy, key=lambda name: accuracy[name])}
            ),
            "This is the cheapest one alone. More accurate ones that nothing beats belong to it.": each(
                lambda accuracy, cost: {min(accuracy, key=lambda name: cost[name])}
            ),
            "This is the best accuracy for its cost. A ratio picks one point of the front, at an exchange "
            "rate that nobody asked for.": each(
                lambda accuracy, cost: {max(accuracy, key=lambda name: accuracy[name] / cost[name])}
            ),
            "Two that are equal on both counts beat each other here, and both go. Beating needs one count on "
            "which the other is better.": _over_cards(lambda a, c, oa, oc: oa >= a and oc <= c),
            "One that is as accurate and needs more is still here, or one that needs as much and is less "
            "accurate: equal on one count and better on the other is beaten, too.": (
                _over_cards(lambda a, c, oa, oc: oa > a and oc < c)
            ),
            "Equally accurate ones that need more are still here: equal on one count and worse on the other "
            "is beaten.": _over_cards(lambda a, c, oa, oc: oa > a and oc <= c),
            "Ones that cost as much and are less accurate are still here: equal on one count and worse on "
            "the other is beaten.": _over_cards(lambda a, c, oa, oc: oa >= a and oc < c),
            "Cost was read as a merit: less of it is better.": _over_cards(
                lambda a, c, oa, oc: beats(a, -c, oa, -oc)
            ),
            "Better on one count is not enough to beat: it takes both.": _over_cards(
                lambda a, c, oa, oc: oa > a or oc < c
            ),
            "These are the beaten ones: the front is the others.": [
                all_ - good for all_, good in zip(everything, right, strict=True)
            ],
            "Nothing was left out. Some names are beaten on both counts.": everything,
        },
        praise="what is not on it can be forgotten, whatever a multiply-add is worth to you.",
        hint="Take one name, and ask of each other one: as good on both counts, and better on one?",
    )


Folds = dict[str, list[float]]
COSTS = {"small": 1.0, "middle": 2.0, "large": 4.0}
SCORES: tuple[Folds, ...] = (
    {
        "large": [0.90, 0.70, 0.84, 0.76, 0.80],
        "middle": [0.78, 0.79, 0.77, 0.78, 0.78],
        "small": [0.73, 0.74, 0.735, 0.735, 0.735],
    },
    {
        "middle": [0.895, 0.896, 0.894, 0.895, 0.895],
        "large": [0.93, 0.89, 0.92, 0.90, 0.91],
        "small": [0.98, 0.80, 0.98, 0.78, 0.86],
    },
    {
        "small": [0.80, 0.8002, 0.7998, 0.80, 0.80],
        "middle": [0.8405, 0.7605, 0.8305, 0.7705, 0.8005],
        "large": [0.90, 0.75, 0.775, 0.775, 0.775],
    },
)
"""Folds: the best is unsteady; the best is steady, and another has lucky folds; all are near."""


def check_choice(choose: Callable[[Folds, dict[str, float]], str] | None) -> None:
    """Print whether a function follows the one-standard-error rule, or which other rule it follows.

    Args:
        choose: The learner's `function(scores, cost)`.

    Example:
        >>> from tlutils.checks import lesson_07
        >>> lesson_07.check_choice(lambda scores, cost: min(cost, key=cost.get))
        This is the cheapest one, whatever it scores.
    """

    def rule(
        allowance: Callable[[Sequence[float]], float],
        *,
        centre: Callable[[Sequence[float]], float] = lambda own: float(np.mean(own)),
        own_allowance: bool = False,
        most_expensive: bool = False,
    ) -> list[str]:
        found = []
        for scores in SCORES:
            best = max(scores, key=lambda name: centre(scores[name]))
            level = centre(scores[best])
            near = [
                name
                for name in scores
                if centre(scores[name]) >= level - allowance(scores[name if own_allowance else best]) - 1e-12
            ]
            found.append((max if most_expensive else min)(near, key=lambda name: COSTS[name]))
        return found

    def deviation(own: Sequence[float]) -> float:
        return float(np.std(own, ddof=1))

    def error(own: Sequence[float]) -> float:
        return deviation(own) / len(own) ** 0.5

    todo = "Return one name."
    answers = []
    for scores in SCORES:
        found = attempt(choose, {k: list(v) for k, v in scores.items()}, dict(COSTS), todo=todo)
        if found is None:
            return
        if not isinstance(found, str):
            print(f"Not yet: a {type(found).__name__} arrived. {todo}")
            return
        answers.append(found)
    _name_mistake(
        answers,
        rule(error),
        {
            "This is the best mean. The rule asks for the cheapest one that cannot be told from it.": rule(
                lambda own: 0
            ),
            "This is the cheapest one, whatever it scores.": rule(lambda own: np.inf),
            "The allowance is a standard deviation. The error of a *mean* is that divided by the root of "
            "n.": rule(deviation),
            "The allowance is two standard errors; the rule is named after one.": rule(
                lambda own: 2 * error(own)
            ),
            "The allowance is each one's own error, so the unsteadiest is forgiven most. Take the best "
            "one's.": rule(error, own_allowance=True),
            "Luckiest folds were compared. Compare means.": (
                rule(lambda own: 0, centre=max),
                rule(error, centre=max),
            ),
            "Worst folds were compared. Compare means.": (
                rule(lambda own: 0, centre=min),
                rule(error, centre=min),
            ),
            "Among those within reach this is the most expensive. Take the cheapest.": rule(
                error, most_expensive=True
            ),
            "This goes by the order in which names arrive, and not by their cost.": [
                next(iter(scores)) for scores in SCORES
            ],
            "The variance stands where the standard deviation belongs: take its root.": rule(
                lambda own: deviation(own) ** 2
            ),
        },
        praise="with few images a best mean is half luck, and the cheaper one costs you nothing.",
        hint="Best mean, its standard error, all with a mean at most that much below, the cheapest of them.",
    )


def _name_mistake(answers: Any, right: Any, mistakes: Mapping[str, Any], *, praise: str, hint: str) -> None:
    """Print `praise` where the answers to all cases are right, else which rule gives them, else `hint`."""
    if answers == right:
        print(f"Right: {praise}")
        return
    rules = (
        text
        for text, wrong in mistakes.items()
        if answers in (wrong if isinstance(wrong, tuple) else (wrong,))
    )
    print(next(rules, f"Not yet. {hint}"))


def check_squares(shuffle_squares: Callable[[Tensor, int, Sequence[int]], Tensor] | None) -> None:
    """Print whether a function puts the squares of an image into another order, or what it did instead.

    Args:
        shuffle_squares: The learner's `function(image, grid, order)`.

    Example:
        >>> from tlutils.checks import lesson_07
        >>> lesson_07.check_squares(lambda image, grid, order: image)
        This is the image as it came.
    """
    grid, side, order = 3, 4, [5, 7, 0, 2, 4, 8, 6, 1, 3]
    image = torch.arange(2.0 * (grid * side) ** 2).reshape(2, grid * side, grid * side)
    found = attempt(shuffle_squares, image.clone(), grid, list(order), todo="Return an image (C, H, W).")

    def cut(image: Tensor) -> Tensor:
        """The squares of an image, (grid * grid, C, side, side)."""
        parts = image.unfold(1, side, side).unfold(2, side, side)
        return parts.permute(1, 2, 0, 3, 4).flatten(0, 1)

    def join(squares: Tensor, *, columns_first: bool = False) -> Tensor:
        rows = squares.unflatten(0, (grid, grid))
        rows = rows.transpose(0, 1) if columns_first else rows
        return rows.permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3)

    squares, back = cut(image), list(np.argsort(order))
    right = join(squares[order])
    judge(
        found,
        right,
        {
            "This is the image as it came.": image,
            "The order was read backwards: old square number k went to place order[k]. New square number k "
            "is old square number order[k].": join(squares[back]),
            "The squares were counted column by column. Row by row: the second one is to the right of the "
            "first.": (
                join(
                    cut(image).unflatten(0, (grid, grid)).transpose(0, 1).flatten(0, 1)[order],
                    columns_first=True,
                ),
                join(squares[order], columns_first=True),
            ),
            "Every square was turned on its side: rows and columns within it are exchanged.": join(
                squares.transpose(2, 3)[order]
            ),
            "Pixels were put into another order within each square, or the image was reshaped without moving "
            "axes: (C, grid, h, grid, w) has to become (grid, grid, C, h, w) before squares are counted.": (
                image.reshape(2, grid * grid, side, side)[:, order].reshape(image.shape),
                image.reshape(grid * grid, 2, side, side)[order].reshape(image.shape),
                squares[order].reshape(image.shape),
            ),
            "The channels were put into another order, too.": right.flip(0),
            "These are the squares. Put them together again.": (squares[order], squares),
            "Only whole rows of squares have moved.": _blocks(
                image, 1, side, [k // grid for k in order[::grid]]
            ),
            "Only whole columns of squares have moved.": _blocks(
                image, 2, side, [k % grid for k in order[:grid]]
            ),
        },
        praise="textures stay, and the shape is gone.",
    )


def _blocks(image: Tensor, axis: int, side: int, order: Sequence[int]) -> Tensor:
    """Return an image whose strips of `side` pixels along an axis are in another order."""
    strips = image.split(side, dim=axis)
    return torch.cat([strips[k] for k in order], dim=axis)


def check_contrastive(contrastive: Callable[[Tensor, Tensor, float], Tensor] | None) -> None:
    """Print whether a function is the contrastive loss of two sets of embeddings, or what it is instead.

    Args:
        contrastive: The learner's `function(a, b, temperature)`.

    Example:
        >>> from tlutils.checks import lesson_07
        >>> lesson_07.check_contrastive(lambda a, b, temperature: -(a * b).sum(1).mean())
        Only the right pairs count here. They have to win against the other rows: cross-entropy over each row.
    """
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(6, 5, generator=rng)
    b, temperature = 3 * (a + torch.randn(6, 5, generator=rng)), 0.2
    todo = "Return one number: the mean cross-entropy."
    found = attempt(contrastive, a.clone(), b.clone(), temperature, todo=todo)
    own, cosines = torch.arange(len(a)), F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    forward, back = (F.cross_entropy(table / temperature, own) for table in (cosines, cosines.T))
    judge(
        found,
        forward,
        {
            "These are dot products. For cosines divide each row by its length first.": (
                F.cross_entropy(a @ b.T / temperature, own)
            ),
            "The temperature multiplies here. It divides: a small one makes the question sharper.": (
                F.cross_entropy(cosines * temperature, own)
            ),
            "The temperature has no part in it.": F.cross_entropy(cosines, own),
            "This asks the other way round: which row of a belongs to a row of b.": back,
            "These are both questions. One was asked: which row of b belongs to a row of a.": (
                (forward + back) / 2,
                forward + back,
            ),
            "This is the sum over rows. Take the mean.": len(a) * forward,
            "Only the right pairs count here. They have to win against the other rows: cross-entropy over "
            "each row.": tuple(
                sign * pairs.mean() / by
                for pairs in (cosines.diagonal(), (a * b).sum(1))
                for sign in (-1, 1)
                for by in (1, temperature)
            ),
        },
        praise="no label was needed to ask, and with more rows the question is harder.",
    )


def check_named_head(name_head: Callable[[Tensor], nn.Module] | None) -> None:
    """Print whether a function makes a head of what classes are called, as CLIP does, or what else.

    Args:
        name_head: The learner's `function(texts)`; it returns an `nn.Linear` without bias.

    Example:
        >>> from torch import nn
        >>> from tlutils.checks import lesson_07
        >>> def of_sums(texts):
        ...     head = nn.Linear(texts.shape[2], len(texts), bias=False)
        ...     head.weight = nn.Parameter(100 * nn.functional.normalize(texts.mean(1), dim=1))
        ...     return head
        >>> lesson_07.check_named_head(of_sums)
        Wordings with long embeddings count more here. Bring each to length 1 before the mean.
    """
    with runtime.seeded(0):
        texts = torch.randn(4, 3, 6) * torch.linspace(0.5, 4, 12).view(4, 3, 1)
        images = F.normalize(torch.randn(5, 6), dim=1)
        found = attempt(name_head, texts.clone(), todo="Return an nn.Linear without bias.")
    if found is None:
        return
    if not isinstance(found, nn.Module):
        print(f"Not yet: a {type(found).__name__} arrived. Put it into an nn.Linear, as its weight.")
        return
    if getattr(found, "bias", None) is not None:
        print("The head has a bias, which no text has given it: bias=False.")
        return
    with torch.no_grad():
        out = attempt(found, images, todo="Its weight is (classes, D).")
    alike = F.normalize(texts, dim=2)
    rows = F.normalize(alike.mean(1), dim=1)
    right = 100 * images @ rows.T
    judge(
        out,
        right,
        {
            "Wordings with long embeddings count more here. Bring each to length 1 before the mean.": (
                100 * images @ F.normalize(texts.mean(1), dim=1).T
            ),
            "The mean of several directions is shorter than 1, and classes whose wordings differ lose by "
            "that. Bring the mean to length 1, too.": (
                100 * images @ alike.mean(1).T,
                images @ alike.mean(1).T,
            ),
            "Nothing was brought to length 1: these are no cosines.": (
                100 * images @ texts.mean(1).T,
                images @ texts.mean(1).T,
            ),
            "These are cosines. As logits they are taken times 100.": (
                images @ rows.T,
                images @ rows.T / 100,
            ),
            "These are probabilities. A head gives logits.": right.softmax(1),
            "This is one wording alone. Take the mean of all.": tuple(
                100 * images @ alike[:, k].T for k in range(3)
            ),
            "The mean was taken over the classes. It is over the wordings, the second axis.": (
                100 * images @ F.normalize(alike.mean(0), dim=1).T
            ),
        },
        praise="with the texts of a trained network no image of yours is needed.",
    )
