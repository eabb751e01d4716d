"""Answers to the exercises of lesson 01b: check -> (answer, word of what is said of it)."""

import torch

from tlutils import explain
from tlutils.checks import lesson_01b

ANSWERS = {}


def covered(x, rows, columns):
    x = x.clone()
    x[..., rows, columns] = 0
    return x


def falls(m, x, t, rows, columns):
    return (m(x) - m(covered(x, rows, columns)))[:, t]


def painted(m, x, t, rows, columns):
    before = m(x)
    x[..., rows, columns] = 0
    return (before - m(x))[:, t]


ANSWERS[lesson_01b.check_occlusion] = [
    (None, "Not answered"),
    (lambda m, x, t, r, c: None, "Not answered"),
    (falls, "Right"),
    (painted, "photograph itself"),
    (lambda *a: -falls(*a), "turned round"),
    (lambda m, *a: falls(lambda x: m(x).softmax(1), *a), "probability"),
    (lambda m, x, t, r, c: m(x) - m(covered(x, r, c)), "every class"),
    (lambda m, x, t, r, c: falls(m, x, 0, r, c), "class 0"),
    (lambda m, x, t, r, c: m(covered(x, r, c))[:, t], "score that is left"),
    (lambda m, x, t, r, c: (m(x) - m(x - covered(x, r, c)))[:, t], "everything *but*"),
    (lambda *a: falls(*a).relu(), "cut off at zero"),
    (lambda *a: falls(*a).abs(), "sign is gone"),
    (lambda *a: falls(*a).mean(), "whole batch"),
    (lambda *a: falls(*a).sum(), "added up the images"),
    (lambda *a: torch.zeros(7), "got (7,)"),
    (lambda m, x, t, r, c: m(x)[t, 9], "stopped with IndexError"),
]


def gradient(model, x, target):
    x.requires_grad_()
    return torch.autograd.grad(model(x)[:, target].sum(), x)[0]


ANSWERS[lesson_01b.check_saliency] = [
    (None, "Not answered"),
    (lambda m, x, t: gradient(m, x, t).abs().amax(1), "Right"),
    (lambda m, x, t: gradient(m, x, t).amax(1), "signs"),
    (lambda m, x, t: gradient(m, x, t).abs().mean(1), "averaged"),
    (lambda m, x, t: gradient(m, x, t).abs().sum(1), "added"),
    (lambda m, x, t: gradient(m, x, t).abs(), "colours are still"),
    (lambda m, x, t: gradient(m, x, t), "raw gradient"),
    (lambda m, x, t: gradient(m, x, 0).abs().amax(1), "class 0"),
    (lambda m, x, t: gradient(lambda y: m(y).softmax(1), x, t).abs().amax(1), "probability"),
    (lambda m, x, t: torch.zeros(3), "(2, 8, 8)"),
    (lambda m, x, t: m(x)[:, t].sum().backward(), "stopped with RuntimeError"),
]


def along(slope, x, steps, first=1):
    return torch.stack([slope(x * (k + first) / steps) for k in range(steps)])


ANSWERS[lesson_01b.check_integrated_gradients] = [
    (None, "Not answered"),
    (lambda slope, x, n: x * along(slope, x, n).mean(0), "Right"),
    (lambda slope, x, n: x * along(slope, x, n, first=0).mean(0), "Right"),
    (lambda slope, x, n: x * along(slope, x, n, first=0.5).mean(0), "Right"),
    (lambda slope, x, n: x * slope(x), "end of the way"),
    (lambda slope, x, n: x * slope(x / 2), "half-way"),
    (lambda slope, x, n: along(slope, x, n, first=0.5).mean(0), "Multiply it by x"),
    (lambda slope, x, n: x * along(slope, x, n).sum(0), "too large"),
    (lambda slope, x, n: (x * along(slope, x, n).mean(0)).abs(), "Keep the signs"),
    (lambda slope, x, n: (x * along(slope, x, n).mean(0)).sum(), "one share for each number"),
    (lambda slope, x, n: (x * along(slope, x, n).mean(0)).sum(0), "over the colours"),
    (lambda slope, x, n: torch.zeros(2), "(3, 4, 5)"),
    (lambda slope, x, n: x * slope(x, n), "stopped with TypeError"),
]


ANSWERS[lesson_01b.check_grad_cam] = [
    (None, "Not answered"),
    (lambda a, g: (g.mean((2, 3), keepdim=True) * a).sum(1), "ReLU is missing"),
    (lambda a, g: (g.mean((2, 3), keepdim=True) * a).mean(1).relu(), "Sum over the channels"),
    (lambda a, g: (g * a).sum(1).relu(), "place by place"),
    (lambda a, g: (g.mean((2, 3), keepdim=True) * a).relu().sum(1), "after the sum"),
    (lambda a, g: (g.mean((2, 3), keepdim=True) * a).relu(), "channels are still"),
    (lambda a, g: (g.mean((0, 2, 3), keepdim=True) * a).sum(1).relu(), "own weights"),
    (lambda a, g: a, "(2, 4, 5)"),
]


def hiding(change=lambda x, hidden: torch.where(hidden, 0.0, x), order=lambda heat: heat):
    """The curve of a learner: in each picture the strongest pixels of `order(heat)` are changed."""

    def curve(p, x, heat, steps):
        ranks = (-order(heat)).flatten().argsort().argsort().view_as(heat)
        counts = [round(heat.numel() * step / steps) for step in range(steps + 1)]
        return torch.stack([p(change(x, ranks < count)) for count in counts])

    return curve


def painting(p, x, heat, steps):
    """Cumulative, and in the photograph itself."""
    values = []
    for places in heat.flatten().argsort(descending=True).chunk(steps):
        x.view(3, -1)[:, places] = 0
        values.append(p(x))
    return torch.stack(values).mean()


def one_at_a_time(p, x, heat, steps):
    values = []
    for places in heat.flatten().argsort(descending=True).chunk(steps):
        covered = x.clone()
        covered.view(3, -1)[:, places] = 0
        values.append(p(covered))
    return torch.stack(values).mean()


deleted = hiding()


ANSWERS[lesson_01b.check_deletion] = [
    (None, "Not answered"),
    (lambda *a: None, "Not answered"),
    (lambda *a: hiding(lambda x, hidden: torch.where(hidden, x, 0.0))(*a).mean(), "insertion"),
    (lambda *a: hiding(order=torch.neg)(*a).mean(), "descending"),
    (lambda *a: hiding(lambda x, hidden: torch.where(hidden, -1.0, x))(*a).mean(), "black"),
    (lambda *a: hiding(lambda x, hidden: torch.where(hidden, x.min(), x))(*a).mean(), "black"),
    (lambda *a: 1 - deleted(*a).mean(), "one minus"),
    (lambda *a: deleted(*a).sum(), "added up"),
    (lambda *a: torch.trapezoid(deleted(*a)), "added up"),
    (one_at_a_time, "steps before stay hidden"),
    (painting, "photograph itself"),
    (deleted, "This is the curve"),
    (lambda *a: deleted(*a)[1:], "This is the curve"),
    (lambda p, x, heat, steps: x, "got (3, 10, 10)"),
    (lambda p, x, heat, steps: "small", "got str"),
    (lambda p, x, heat, steps: p(x[heat]), "stopped with IndexError"),
]


class Asked(torch.nn.Module):
    """Two classes, whose probabilities are that of the exercise and the rest."""

    def __init__(self, p):
        super().__init__()
        self.p, self.scale = p, torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        seen = torch.stack([self.p(picture) for picture in x]).clamp(1e-6, 1 - 1e-6)
        return self.scale * torch.stack([seen.logit(), torch.zeros_like(seen)], 1)


def by_the_library(p, x, heat, steps):
    return explain.deletion(Asked(p), x[None], heat[None], 0, steps=steps).area[0]


ANSWERS[lesson_01b.check_deletion].append((by_the_library, "Right"))


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1]


def ranks(values):
    return values.flatten().argsort().argsort()


ANSWERS[lesson_01b.check_rank_correlation] = [
    (None, "Not answered"),
    (lambda a, b: correlation(ranks(a.abs()), ranks(b.abs())), "Right"),
    (lambda a, b: correlation(a.abs(), b.abs()), "a few strong pixels"),
    (lambda a, b: correlation(a, b), "with their signs"),
    (lambda a, b: correlation(ranks(a), ranks(b)), "signs took part"),
    (lambda a, b: correlation(a.abs().flatten().argsort(), b.abs().flatten().argsort()), "One argsort"),
    (lambda a, b: 1 - correlation(ranks(a.abs()), ranks(b.abs())), "distance"),
    (lambda a, b: a, "got (6, 7)"),
    (lambda a, b: correlation(a[:2], b), "stopped with RuntimeError"),
]
