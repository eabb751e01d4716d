"""Answers to the exercises of lesson 07: check -> (answer, word of what is said of it)."""

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from tlutils.checks import lesson_07

ANSWERS = {}

HEADS = {
    "VGG": ("classifier", 6),
    "ResNet": ("fc", None),
    "EfficientNet": ("classifier", 1),
    "ConvNeXt": ("classifier", 2),
    "VisionTransformer": ("heads", 0),
}


def set_head(model, classes):
    name, place = HEADS[type(model).__name__]
    part = getattr(model, name)
    if place is None:
        setattr(model, name, nn.Linear(part.in_features, classes))
    else:
        part[place] = nn.Linear(part[place].in_features, classes)
    return model


def by_walking(model, classes):
    name, old = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    where, _, last = name.rpartition(".")
    setattr(model.get_submodule(where), last, nn.Linear(old.in_features, classes))
    return model


def renamed_outputs(model, classes):
    [m for m in model.modules() if isinstance(m, nn.Linear)][-1].out_features = classes
    return model


def attribute_of_resnets(model, classes):
    model.fc = nn.Linear(512, classes)
    return model


def whole_classifier(model, classes):
    if hasattr(model, "classifier"):
        first = next(m for m in model.classifier if isinstance(m, nn.Linear))
        model.classifier = nn.Linear(first.in_features, classes)
        return model
    return set_head(model, classes)


def on_top(model, classes):
    return nn.Sequential(model, nn.Linear(1000, classes))


def fresh_network(model, classes):
    return torchvision.models.resnet18(num_classes=classes)


def one_width(model, classes):
    name, place = HEADS[type(model).__name__]
    if place is None:
        setattr(model, name, nn.Linear(4096, classes))
    else:
        getattr(model, name)[place] = nn.Linear(4096, classes)
    return model


def thousand(model, classes):
    return set_head(model, 1000)


def with_softmax(model, classes):
    set_head(model, classes)
    name, place = HEADS[type(model).__name__]
    if place is None:
        setattr(model, name, nn.Sequential(getattr(model, name), nn.Softmax(1)))
    else:
        getattr(model, name).append(nn.Softmax(1))
    return model


def frozen(model, classes):
    for parameter in model.parameters():
        parameter.requires_grad = False
    return set_head(model, classes)


ANSWERS[lesson_07.check_heads] = [
    (set_head, "Right"),
    (by_walking, "Right"),
    (renamed_outputs, "setting out_features on an existing layer changes nothing"),
    (attribute_of_resnets, "VGG: the old head is still there"),
    (whole_classifier, "VGG: classifier.0 went, too"),
    (on_top, "on its 1000 logits"),
    (fresh_network, "another network came back"),
    (one_width, "reads as many features as the old one"),
    (thousand, "two images give (2, 1000)"),
    (with_softmax, "a softmax follows the head"),
    (frozen, "weights were frozen"),
    (lambda model, classes: nn.Linear(4096, classes), "the new layer came back alone"),
    (lambda model, classes: classes, "a int came back"),
    (lambda model, classes: model, "the old head is still there"),
    (lambda model, classes: 1 / 0, "ZeroDivisionError"),
    (None, "Not answered yet"),
]


def beaten(accuracy, cost, *, more, less):
    return {
        n
        for n in accuracy
        for o in accuracy
        if n != o and more(accuracy[o], accuracy[n]) and less(cost[o], cost[n])
    }


def front(accuracy, cost):
    points = {n: (accuracy[n], -cost[n]) for n in accuracy}
    return {
        n
        for n, own in points.items()
        if not any(p[0] >= own[0] and p[1] >= own[1] and p != own for p in points.values())
    }


def front_by_sorting(accuracy, cost):
    found, best, before = [], -np.inf, None
    for name in sorted(accuracy, key=lambda n: (cost[n], -accuracy[n])):
        point = (accuracy[name], cost[name])
        if accuracy[name] > best or point == before:
            found.append(name)
            best, before = accuracy[name], point
    return found


def without(rule):
    return lambda accuracy, cost: set(accuracy) - rule(accuracy, cost)


def at_least(a, b):
    return a >= b


def at_most(a, b):
    return a <= b


def above(a, b):
    return a > b


def below(a, b):
    return a < b


ANSWERS[lesson_07.check_front] = [
    (front, "Right"),
    (front_by_sorting, "Right"),
    (lambda accuracy, cost: {max(accuracy, key=accuracy.get)}, "most accurate one alone"),
    (lambda accuracy, cost: {min(cost, key=cost.get)}, "cheapest one alone"),
    (lambda accuracy, cost: {max(cost, key=lambda n: accuracy[n] / cost[n])}, "exchange rate"),
    (without(lambda a, c: beaten(a, c, more=at_least, less=at_most)), "both go"),
    (
        without(lambda a, c: beaten(a, c, more=above, less=below)),
        "equal on one count and better on the other",
    ),
    (without(lambda a, c: beaten(a, c, more=above, less=at_most)), "Equally accurate ones that need more"),
    (without(lambda a, c: beaten(a, c, more=at_least, less=below)), "Ones that cost as much"),
    (lambda accuracy, cost: front(accuracy, {n: -c for n, c in cost.items()}), "Cost was read as a merit"),
    (
        lambda accuracy, cost: {
            n for n in accuracy if not any(accuracy[o] > accuracy[n] or cost[o] < cost[n] for o in accuracy)
        },
        "it takes both",
    ),
    (without(front), "These are the beaten ones"),
    (lambda accuracy, cost: set(accuracy), "Nothing was left out"),
    (lambda accuracy, cost: {"z"}, "Not yet"),
    (lambda accuracy, cost: "abc", "a str arrived"),
    (lambda accuracy, cost: accuracy + cost, "TypeError"),
    (None, "Not answered yet"),
]


def choose(scores, cost):
    best = max(scores, key=lambda n: np.mean(scores[n]))
    error = np.std(scores[best], ddof=1) / np.sqrt(len(scores[best]))
    near = [n for n in scores if np.mean(scores[n]) >= np.mean(scores[best]) - error]
    return min(near, key=cost.get)


def choose_in_order(scores, cost):
    means = {n: torch.tensor(own).mean() for n, own in scores.items()}
    best = max(means, key=means.get)
    error = torch.tensor(scores[best]).std() / len(scores[best]) ** 0.5
    return next(n for n in sorted(cost, key=cost.get) if means[n] >= means[best] - error)


def choose_by(allowance, centre=np.mean, own=False, pick=min):
    def rule(scores, cost):
        best = max(scores, key=lambda n: centre(scores[n]))
        floor = {n: centre(scores[best]) - allowance(scores[n if own else best]) for n in scores}
        return pick([n for n in scores if centre(scores[n]) >= floor[n]], key=cost.get)

    return rule


def error(own):
    return np.std(own, ddof=1) / len(own) ** 0.5


ANSWERS[lesson_07.check_choice] = [
    (choose, "Right"),
    (choose_in_order, "Right"),
    (lambda scores, cost: max(scores, key=lambda n: np.mean(scores[n])), "This is the best mean"),
    (lambda scores, cost: min(cost, key=cost.get), "whatever it scores"),
    (choose_by(lambda own: np.std(own, ddof=1)), "The allowance is a standard deviation"),
    (choose_by(lambda own: 2 * error(own)), "two standard errors"),
    (choose_by(error, own=True), "each one's own error"),
    (lambda scores, cost: max(scores, key=lambda n: max(scores[n])), "Luckiest folds"),
    (lambda scores, cost: max(scores, key=lambda n: min(scores[n])), "Worst folds"),
    (choose_by(error, pick=max), "the most expensive"),
    (lambda scores, cost: next(iter(scores)), "order in which names arrive"),
    (choose_by(lambda own: np.var(own, ddof=1)), "The variance stands"),
    (lambda scores, cost: list(scores)[-1], "Not yet"),
    (lambda scores, cost: 3, "a int arrived"),
    (lambda scores, cost: scores["none"], "KeyError"),
    (None, "Not answered yet"),
]


def shuffle_squares(image, grid, order):
    channels, height, width = image.shape
    h, w = height // grid, width // grid
    squares = image.reshape(channels, grid, h, grid, w).permute(1, 3, 0, 2, 4).reshape(-1, channels, h, w)
    new = squares[order].reshape(grid, grid, channels, h, w)
    return new.permute(2, 0, 3, 1, 4).reshape(image.shape)


def by_slices(image, grid, order):
    side = image.shape[1] // grid
    new = torch.empty_like(image)
    for k, old in enumerate(order):
        (i, j), (a, b) = divmod(k, grid), divmod(old, grid)
        new[:, i * side : (i + 1) * side, j * side : (j + 1) * side] = image[
            :, a * side : (a + 1) * side, b * side : (b + 1) * side
        ]
    return new


def turned(image, grid, order):
    side = image.shape[1] // grid
    parts = shuffle_squares(image, grid, order).reshape(len(image), grid, side, grid, side)
    return parts.transpose(2, 4).reshape(image.shape)


def by_columns(image, grid, order):
    turn = image.transpose(1, 2)
    return shuffle_squares(turn, grid, order).transpose(1, 2)


def only_reshaped(image, grid, order):
    side = image.shape[1] // grid
    return image.reshape(len(image), grid**2, side, side)[:, order].reshape(image.shape)


def as_squares(image, grid, order):
    side = image.shape[1] // grid
    return image.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4).flatten(0, 1)[order]


def strips(axis):
    def move(image, grid, order):
        parts = image.chunk(grid, dim=axis)
        places = [k // grid for k in order[::grid]] if axis == 1 else [k % grid for k in order[:grid]]
        return torch.cat([parts[k] for k in places], dim=axis)

    return move


ANSWERS[lesson_07.check_squares] = [
    (shuffle_squares, "Right"),
    (by_slices, "Right"),
    (lambda image, grid, order: image, "as it came"),
    (lambda image, grid, order: shuffle_squares(image, grid, np.argsort(order)), "read backwards"),
    (by_columns, "column by column"),
    (turned, "turned on its side"),
    (only_reshaped, "without moving"),
    (lambda image, grid, order: as_squares(image, grid, order).reshape(image.shape), "without moving"),
    (lambda image, grid, order: shuffle_squares(image, grid, order).flip(0), "channels"),
    (as_squares, "Put them together again"),
    (strips(1), "whole rows"),
    (strips(2), "whole columns"),
    (lambda image, grid, order: image[:1], "Expected shape"),
    (lambda image, grid, order: image[order], "IndexError"),
    (None, "Not answered yet"),
]


def cosines(a, b):
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def contrastive(a, b, temperature):
    return F.cross_entropy(cosines(a, b) / temperature, torch.arange(len(a)))


def by_logarithms(a, b, temperature):
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    return -(a @ b.T / temperature).log_softmax(1).diagonal().mean()


ANSWERS[lesson_07.check_contrastive] = [
    (contrastive, "Right"),
    (by_logarithms, "Right"),
    (lambda a, b, t: F.cross_entropy(a @ b.T / t, torch.arange(len(a))), "dot products"),
    (lambda a, b, t: F.cross_entropy(cosines(a, b) * t, torch.arange(len(a))), "multiplies"),
    (lambda a, b, t: contrastive(a, b, 1), "no part"),
    (lambda a, b, t: contrastive(b, a, t), "other way round"),
    (lambda a, b, t: (contrastive(a, b, t) + contrastive(b, a, t)) / 2, "both questions"),
    (lambda a, b, t: contrastive(a, b, t) * len(a), "sum over rows"),
    (lambda a, b, t: -cosines(a, b).diagonal().mean(), "right pairs"),
    (lambda a, b, t: -(a * b).sum(1).mean() / t, "right pairs"),
    (lambda a, b, t: cosines(a, b) / t, "Expected"),
    (lambda a, b, t: F.cross_entropy(cosines(a, b) / t, torch.ones(99).long()), "ValueError"),
    (None, "Not answered yet"),
]


def head_of(rows):
    """A function that makes a head of rows (classes, D)."""

    def make(texts):
        found = rows(texts)
        head = nn.Linear(found.shape[1], len(found), bias=False)
        head.weight = nn.Parameter(found)
        return head

    return make


def unit(x):
    return F.normalize(x, dim=-1)


def with_bias(texts):
    return nn.Linear(texts.shape[2], len(texts))


ANSWERS[lesson_07.check_named_head] = [
    (head_of(lambda texts: 100 * unit(unit(texts).mean(1))), "Right"),
    (head_of(lambda texts: 100 * unit(sum(unit(texts)[:, k] for k in range(3)))), "Right"),
    (head_of(lambda texts: 100 * unit(texts.mean(1))), "count more"),
    (head_of(lambda texts: 100 * unit(texts).mean(1)), "Bring the mean to length 1"),
    (head_of(lambda texts: 100 * texts.mean(1)), "Nothing was brought to length 1"),
    (head_of(lambda texts: unit(unit(texts).mean(1))), "times 100"),
    (head_of(lambda texts: 100 * unit(texts)[:, 0]), "one wording alone"),
    (head_of(lambda texts: 100 * unit(unit(texts).mean(0))), "over the classes"),
    (
        lambda texts: nn.Sequential(head_of(lambda t: 100 * unit(unit(t).mean(1)))(texts), nn.Softmax(1)),
        "probabilities",
    ),
    (with_bias, "has a bias"),
    (head_of(lambda texts: unit(texts).mean((1, 2))[:, None]), "RuntimeError"),
    (head_of(lambda texts: 100 * unit(unit(texts).mean(1)).flip(0)), "Not yet"),
    (lambda texts: 100 * unit(unit(texts).mean(1)), "a Tensor arrived"),
    (None, "Not answered yet"),
]
