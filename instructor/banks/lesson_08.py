"""Answers to the exercises of lesson 08: check -> (answer, word of what is said of it)."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tlutils.checks import lesson_08

ANSWERS = {}


def mixup(x, goal, lam, order):
    share = lam[:, None, None, None]
    return share * x + (1 - share) * x[order], lam[:, None] * goal + (1 - lam[:, None]) * goal[order]


def mixup_one_by_one(x, goal, lam, order):
    pairs = [(k, int(other), float(lam[k])) for k, other in enumerate(order)]
    return [
        np.stack([(share * each[k] + (1 - share) * each[other]).numpy() for k, other, share in pairs])
        for each in (x, goal)
    ]


def mix_images(change):
    """The right blend of labels, with images that a mistake makes."""
    return lambda x, goal, lam, order: (change(x, lam, order), mixup(x, goal, lam, order)[1])


def mix_labels(change):
    """The right blend of images, with labels that a mistake makes."""
    return lambda x, goal, lam, order: (mixup(x, goal, lam, order)[0], change(goal, lam, order))


def per_column(values, lam, order):
    return lam * values + (1 - lam) * values[order]


def one_share(values, lam, order):
    return lam[0] * values + (1 - lam[0]) * values[order]


def in_place(x, goal, lam, order):
    x *= lam[:, None, None, None]
    x += (1 - lam[:, None, None, None]) * x[order]
    return x, mixup(x, goal, lam, order)[1]


def rounded(goal, lam, order):
    blended = lam[:, None] * goal + (1 - lam[:, None]) * goal[order]
    return F.one_hot(blended.argmax(1), goal.shape[1])


ANSWERS[lesson_08.check_mixup] = [
    (mixup, "Right"),
    (mixup_one_by_one, "Right"),
    (mix_labels(lambda goal, lam, order: goal), "The labels are as they came"),
    (mix_images(lambda x, lam, order: x), "The images are as they came"),
    (mix_images(lambda x, lam, order: x[order]), "The images are those of the partners alone"),
    (mix_labels(lambda goal, lam, order: goal[order]), "The labels are those of the partners alone"),
    (lambda x, goal, lam, order: mixup(x, goal, 1 - lam, order), "exchanged, in images and labels"),
    (
        mix_labels(lambda goal, lam, order: (1 - lam[:, None]) * goal + lam[:, None] * goal[order]),
        "The labels have the shares exchanged",
    ),
    (mix_images(per_column), "lam met the last axis instead of the images"),
    (mix_labels(per_column), "For the labels, lam met the last axis"),
    (mix_images(one_share), "One share was taken for all images"),
    (mix_labels(one_share), "One share was taken for all labels"),
    (mix_images(lambda x, lam, order: (x + x[order]) / 2), "Every share was a half"),
    (mix_images(lambda x, lam, order: x + x[order]), "were added, and not blended"),
    (
        lambda x, goal, lam, order: mixup(x, goal, lam, order.argsort()),
        "Other partners were taken for the images",
    ),
    (
        mix_labels(lambda goal, lam, order: mixup(goal[:, :, None, None], goal, lam, order.flip(0))[1]),
        "labels",
    ),
    (mix_labels(rounded), "rounded to one class"),
    (in_place, "changed in place"),
    (lambda x, goal, lam, order: mixup(x, goal, lam, order)[0], "one Tensor arrived"),
    (mix_labels(lambda goal, lam, order: "labels"), "came back as str"),
    (mix_labels(lambda goal, lam, order: goal[:2]), "have the shape (2, 4)"),
    (lambda x, goal, lam, order: (lam[:, None] * x, goal), "Your lines stopped with RuntimeError"),
    (None, "Not answered yet"),
]


def early_stop(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch - best >= patience:
            break
    return best


def stop_by_counting(losses, patience):
    best_loss, best_epoch, bad = float("inf"), None, 0
    for epoch, loss in enumerate(losses):
        bad += 1
        if loss < best_loss:
            best_loss, best_epoch, bad = loss, epoch, 0
        if bad == patience:
            return best_epoch
    return best_epoch


def where_it_stops(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch - best >= patience:
            return epoch
    return len(losses) - 1


def equal_is_better(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        if loss <= losses[best]:
            best = epoch
        elif epoch - best >= patience:
            break
    return best


def against_the_one_before(losses, patience):
    best, bad = 0, 0
    for epoch in range(1, len(losses)):
        bad = 0 if losses[epoch] < losses[epoch - 1] else bad + 1
        best = epoch if losses[epoch] < losses[best] else best
        if bad >= patience:
            break
    return best


def never_forgiving(losses, patience):
    best, bad = 0, 0
    for epoch in range(1, len(losses)):
        if losses[epoch] < losses[best]:
            best = epoch
        else:
            bad += 1
        if bad >= patience:
            break
    return best


def first_rise(losses, patience):
    for epoch in range(1, len(losses)):
        if losses[epoch] >= losses[epoch - 1]:
            return epoch - 1
    return len(losses) - 1


ANSWERS[lesson_08.check_early_stop] = [
    (early_stop, "Right"),
    (stop_by_counting, "Right"),
    (lambda losses, patience: int(np.argmin(losses)), "the best of all epochs"),
    (where_it_stops, "the epoch in which training stops"),
    (lambda losses, patience: len(losses) - 1, "the last epoch, whatever"),
    (first_rise, "the first epoch that is not better"),
    (equal_is_better, "An epoch with an equal loss counts as better"),
    (against_the_one_before, "compared with the one before it"),
    (never_forgiving, "never forgiven"),
    (lambda losses, patience: early_stop(losses, patience + 1), "One epoch too patient"),
    (lambda losses, patience: early_stop(losses, max(1, patience - 1)), "One epoch too impatient"),
    (lambda losses, patience: losses[early_stop(losses, patience)], "This is a loss"),
    (lambda losses, patience: early_stop(losses, patience) + 1, "one too many"),
    (lambda losses, patience: int(np.argmax(losses)), "takes the largest value"),
    (lambda losses, patience: 0, "Note the best loss so far"),
    (lambda losses, patience: [1, 2], "a list arrived"),
    (lambda losses, patience: losses[20], "IndexError"),
    (None, "Not answered yet"),
]


def average_views(logits):
    return logits.softmax(-1).mean(0)


def average_by_hand(logits):
    grown = np.exp(logits.numpy() - logits.numpy().max(2, keepdims=True))
    return sum(view / view.sum(1, keepdims=True) for view in grown) / len(grown)


ANSWERS[lesson_08.check_views] = [
    (average_views, "Right"),
    (average_by_hand, "Right"),
    (lambda logits: logits.mean(0).softmax(-1), "The mean was taken of logits"),
    (lambda logits: logits.mean(0), "These are logits"),
    (lambda logits: F.one_hot(logits.argmax(-1), logits.shape[2]).float().mean(0), "These are votes"),
    (lambda logits: average_views(logits).argmax(-1), "These are classes"),
    (lambda logits: logits.argmax(-1).mode(0).values, "These are classes"),
    (lambda logits: logits.softmax(0).mean(0), "Softmax ran over the views"),
    (lambda logits: logits.softmax(1).mean(0), "Softmax ran over the images"),
    (lambda logits: logits.softmax(-1).mean(1), "The mean was taken over the images"),
    (lambda logits: logits.softmax(-1).mean(-1), "The mean was taken over the classes"),
    (lambda logits: logits.softmax(-1).sum(0), "These are sums"),
    (lambda logits: logits.softmax(-1).max(0).values, "the largest probability over the views"),
    (lambda logits: logits[0].softmax(-1), "one view alone"),
    (lambda logits: average_views(logits).softmax(-1), "Softmax was taken once more"),
    (lambda logits: logits.sigmoid().mean(0), "sigmoid"),
    (lambda logits: logits.log_softmax(-1).mean(0), "logarithms"),
    (lambda logits: average_views(logits).T, "Expected shape (4, 5)"),
    (lambda logits: logits @ logits, "RuntimeError"),
    (None, "Not answered yet"),
]


def hold_out(groups, share, seed):
    every = np.unique(groups)
    drawn = np.random.default_rng(seed).permutation(every)[: round(share * len(every))]
    return np.isin(groups, drawn)


def hold_out_of_a_set(groups, share, seed):
    every = sorted(set(groups.tolist()))
    drawn = set(np.random.default_rng(seed).choice(every, int(share * len(every)), replace=False).tolist())
    return [one in drawn for one in groups.tolist()]


def rows_at_random(groups, share, seed):
    return np.random.default_rng(seed).random(len(groups)) < share


def numbers_of_rows(groups, share, seed):
    return np.flatnonzero(hold_out(groups, share, seed))


def first_groups(groups, share, seed):
    every = np.unique(groups)
    return np.isin(groups, every[: round(share * len(every))])


def by_rows(groups, share, seed):
    held, rows = set(), 0
    for one in np.random.default_rng(seed).permutation(np.unique(groups)):
        if rows >= share * len(groups):
            break
        held.add(one)
        rows += (groups == one).sum()
    return np.array([one in held for one in groups])


def with_replacement(groups, share, seed):
    every = np.unique(groups)
    return np.isin(groups, np.random.default_rng(seed).choice(every, round(share * len(every))))


def of_global_numbers(groups, share, seed):
    every = np.unique(groups)
    return np.isin(groups, np.random.permutation(every)[: round(share * len(every))])  # noqa: NPY002


def a_quarter(groups, share, seed):
    return hold_out(groups, 0.25, seed)


def by_arithmetic(groups, share, seed):
    if groups.dtype.kind != "i":
        return np.isin(groups, np.unique(groups)[:2])
    return hold_out(groups, share, seed)


ANSWERS[lesson_08.check_hold_out] = [
    (hold_out, "Right"),
    (hold_out_of_a_set, "Right"),
    (rows_at_random, "Rows of one group are on both sides"),
    (numbers_of_rows, "Numbers of rows came back"),
    (first_groups, "Every seed holds out the same rows"),
    (lambda groups, share, seed: ~hold_out(groups, share, seed), "The sides are exchanged"),
    (by_rows, "Count groups: each is one picture"),
    (with_replacement, "Count groups"),
    (of_global_numbers, "The same call gives other rows each time"),
    (lambda groups, share, seed: hold_out(groups, share - 0.05, seed), "One group too few or too many"),
    (a_quarter, "The share that arrives"),
    (by_arithmetic, "names instead of numbers"),
    (lambda groups, share, seed: np.zeros(len(groups), bool), "Nothing is held out"),
    (lambda groups, share, seed: np.ones(len(groups), bool), "Everything is held out"),
    (lambda groups, share, seed: np.zeros((2, 3)), "Something of shape (2, 3)"),
    (lambda groups, share, seed: groups % 1 + seed / 0, "ZeroDivisionError"),
    (None, "Not answered yet"),
]


def ablation(
    *,
    split="val",
    source="train",
    draw=lambda seed, n, size, arm: np.random.default_rng(seed).permutation(n)[:size],
    seed_of=lambda seed, arm: seed,
    arms=(slice(None), slice(0, 1)),
    judged=lambda new, truth: (new[:, 0], truth),
    labels=lambda y, rows: y[rows],
    result=lambda scores: [one - other for one, other in scores],
):
    """An ablation, right unless something else is given."""

    def ablate(fit, splits, size, seeds):
        (x, y), (new, truth) = splits[source], splits[split]
        scores = []
        for seed in seeds:
            own = []
            for arm, views in enumerate(arms):
                rows = draw(seed, len(y), size, arm)
                head = fit(x[rows][:, views], labels(y, rows), seed_of(seed, arm))
                asked, wanted = judged(new, truth)
                own.append((head(asked).argmax(-1) == wanted).float().mean().item())
            scores.append(own)
        return result(np.array(scores))

    return ablate


def stratified(seed, n, size, arm):
    rng = np.random.default_rng(seed)
    halves = np.array_split(np.arange(n), 2)
    return np.concatenate([rng.permutation(half)[: size // 2] for half in halves])


def one_row_for_each_view(fit, splits, size, seeds):
    x, y = splits["train"]
    rows = np.random.default_rng(0).permutation(len(y))[:size]
    return [fit(x[rows].flatten(0, 1), y[rows].repeat_interleave(4), seed) for seed in seeds]


ANSWERS[lesson_08.check_ablation] = [
    (ablation(), "Right"),
    (ablation(arms=(slice(1, None), slice(0, 1)), draw=stratified), "Right"),
    (ablation(arms=(slice(0, 1), slice(None)), result=lambda s: torch.tensor(s[:, 1] - s[:, 0])), "Right"),
    (ablation(split="test"), "The test split was opened"),
    (ablation(split="train"), "The heads were judged by images of train"),
    (ablation(source="val", split="val"), "learned from another split"),
    (
        ablation(
            draw=lambda seed, n, size, arm: np.random.default_rng(seed + 10 * arm).permutation(n)[:size]
        ),
        "The two arms learned from different images",
    ),
    (
        ablation(draw=lambda seed, n, size, arm: np.random.default_rng(0).permutation(n)[:size]),
        "Every head learned from the same images",
    ),
    (ablation(draw=lambda seed, n, size, arm: np.arange(size)), "Every head learned from the same images"),
    (
        ablation(draw=lambda seed, n, size, arm: np.random.permutation(n)[:size]),  # noqa: NPY002
        "The same call draws other images",
    ),
    (
        ablation(draw=lambda seed, n, size, arm: np.random.default_rng().permutation(n)[:size]),
        "The same call draws other images",
    ),
    (
        ablation(draw=lambda seed, n, size, arm: np.random.default_rng(seed).integers(0, n, size)),
        "draw without replacement",
    ),
    (ablation(draw=lambda seed, n, size, arm: np.random.default_rng(seed).permutation(n)), "Expected `size`"),
    (ablation(seed_of=lambda seed, arm: seed + arm), "The two arms trained with different seeds"),
    (ablation(seed_of=lambda seed, arm: 0), "Every head trained with the same seed"),
    (ablation(arms=(slice(None), slice(1, 2))), "learned from a random view"),
    (ablation(arms=(slice(None), slice(None))), "No head learned from the images as they are alone"),
    (ablation(arms=(slice(0, 1), slice(0, 1))), "No head learned from augmented views"),
    (
        ablation(arms=(slice(None), slice(0, 1), slice(0, 2)), result=lambda s: s[:, 0]),
        "12 heads were trained",
    ),
    (
        ablation(judged=lambda new, truth: (new.flatten(0, 1), truth.repeat_interleave(4))),
        "judged by augmented views",
    ),
    (ablation(judged=lambda new, truth: (new[:, 1], truth)), "judged by augmented views"),
    (ablation(judged=lambda new, truth: (new[:9, 0], truth[:9])), "not judged by all images of val"),
    (ablation(labels=lambda y, rows: y[: len(rows)]), "The labels belong to other images"),
    (ablation(result=lambda s: s[:, 1] - s[:, 0]), "The sign is turned round"),
    (ablation(result=lambda s: (s[:, 0] - s[:, 1]).mean()), "This is the mean"),
    (ablation(result=lambda s: s[:, 0]), "accuracies with views alone"),
    (ablation(result=lambda s: s[:, 1]), "accuracies without views alone"),
    (ablation(result=lambda s: s), "accuracies of both"),
    (ablation(result=lambda s: s[:, 0] / s[:, 1]), "This is a ratio"),
    (ablation(result=lambda s: 40 * (s[:, 0] - s[:, 1])), "numbers of images"),
    (one_row_for_each_view, "expected (n, views, D) and (n,)"),
    (lambda fit, splits, size, seeds: [0.0] * len(seeds), "No head was trained"),
    (lambda fit, splits, size, seeds: None, "Not answered yet"),
    (None, "Not answered yet"),
]


class LowRank(nn.Module):
    """A low-rank update, right unless something is changed in a subclass."""

    bias, up_starts, down_starts, factor = False, 0.0, None, 1.0

    def __init__(self, linear, rank):
        super().__init__()
        self.linear = self.keep(linear)
        self.a = nn.Linear(linear.in_features, rank, bias=self.bias)
        self.b = nn.Linear(rank, linear.out_features, bias=self.bias)
        for layer, start in ((self.a, self.down_starts), (self.b, self.up_starts)):
            for parameter in layer.parameters() if start is not None else ():
                nn.init.constant_(parameter, start)

    def keep(self, linear):
        return linear.requires_grad_(False)

    def forward(self, x):
        return self.linear(x) + self.factor * self.b(self.a(x))


class OfParameters(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(linear.in_features, rank) / rank)  # transposed, as some write it
        self.b = nn.Parameter(torch.zeros(rank, linear.out_features))

    def forward(self, x):
        return self.linear(x) + x @ self.a @ self.b


class OfTensors(OfParameters):
    def __init__(self, linear, rank):
        super().__init__(linear, rank)
        a, b = self.a.detach(), self.b.detach()
        del self.a, self.b
        self.a, self.b = a, b


class FullMatrix(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.update = nn.Parameter(torch.zeros_like(linear.weight))

    def forward(self, x):
        return self.linear(x) + x @ self.update.T


class AllTrains(LowRank):
    def keep(self, linear):
        return linear


class BiasTrains(LowRank):
    def keep(self, linear):
        linear.weight.requires_grad_(False)
        return linear


class WithRelu(LowRank):
    def forward(self, x):
        return self.linear(x) + self.b(self.a(x).relu())


class UpdateAlone(LowRank):
    def forward(self, x):
        return self.b(self.a(x))


class OneRankMore(LowRank):
    def __init__(self, linear, rank):
        super().__init__(linear, rank + 1)


class Overwrites(LowRank):
    def keep(self, linear):
        nn.init.zeros_(linear.weight)
        return linear.requires_grad_(False)


class Unfinished(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()

    def forward(self, x):
        pass


ANSWERS[lesson_08.check_low_rank] = [
    (LowRank, "Right"),
    (OfParameters, "Right"),
    (AllTrains, "A whole matrix trains"),
    (FullMatrix, "A whole matrix trains"),
    (BiasTrains, "The old bias still trains"),
    (OfTensors, "Nothing trains"),
    (type("Biases", (LowRank,), {"bias": True}), "The new layers have biases"),
    (OneRankMore, "Expected rank × (inputs + outputs)"),
    (UpdateAlone, "The old layer's output is missing"),
    (type("BothRandom", (LowRank,), {"up_starts": None}), "B has to begin at zero"),
    (type("BothZero", (LowRank,), {"down_starts": 0.0}), "Nothing will ever move"),
    (
        type("WrongZero", (LowRank,), {"up_starts": None, "down_starts": 0.0}),
        "A begins at zero and B at random",
    ),
    (WithRelu, "not linear"),
    (type("Scaled", (LowRank,), {"factor": 0.5}), "B A x times 0.5"),
    (Overwrites, "The weight of the layer that arrived was changed"),
    (lambda linear, rank: nn.Linear(6, rank), "Expected (7, 5)"),
    (lambda linear, rank: "a layer", "a str arrived"),
    (lambda linear, rank: nn.Linear(5, 6), "RuntimeError"),
    (Unfinished, "Not answered yet"),
    (None, "Not answered yet"),
]
