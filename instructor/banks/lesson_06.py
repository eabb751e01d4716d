"""Answers to the exercises of lesson 06: check -> (answer, word of what is said of it)."""

import numpy as np
import torch

from tlutils import intervals
from tlutils.checks import lesson_06

ANSWERS = {}


def report(choose, judge):
    stage = choose.mean(1).argmax()
    return stage, judge[stage].mean()


def told(stage, accuracy):
    return lambda choose, judge: (stage(choose, judge), accuracy(choose, judge))


def best(choose, judge):
    return choose.mean(1).argmax()


ANSWERS[lesson_06.check_report] = [
    (None, "Not answered"),
    (lambda choose, judge: 0.5, "Not yet"),
    (report, "Right"),
    (lambda choose, judge: report(choose, judge)[::-1], "swapped"),
    (told(best, lambda choose, judge: choose.mean(1).max()), "too good on average"),
    (told(best, lambda choose, judge: judge.mean(1).max()), "at whatever stage"),
    (lambda choose, judge: report(judge, judge), "judges have chosen"),
    (told(best, lambda choose, judge: judge.mean()), "mean over all stages"),
    (told(best, lambda c, j: np.concatenate([c, j], 1)[1].mean()), "no say"),
    (told(best, lambda c, j: j[1].sum()), "Divide"),
    (told(best, lambda c, j: 100 * j[1].mean()), "percent"),
    (told(lambda c, j: 3 - c[::-1].mean(1).argmax(), lambda c, j: j[2].mean()), "earlier one"),
    (told(lambda c, j: c.mean(1).argmin(), lambda c, j: j[0].mean()), "fewest"),
    (told(lambda c, j: c.argmax(), lambda c, j: 0.1), "mean of each row"),
    (told(best, lambda c, j: 0.123), "Not yet"),
]


def gaps(pretrained, random):
    return [k for k in range(len(random)) if intervals.compare_hits(pretrained[k], random[k]).low > 0]


def any_side(pretrained, random):
    return [k for k in range(len(random)) if not intervals.compare_hits(pretrained[k], random[k]).tie]


def by_overlap(pretrained, random):
    both = [[intervals.two_way_mean(t).interval() for t in table] for table in (pretrained, random)]
    return [k for k, (a, b) in enumerate(zip(*both, strict=True)) if a.low > b.high]


ANSWERS[lesson_06.check_gaps] = [
    (None, "Not answered"),
    (lambda pretrained, random: "two", "Not yet"),
    (gaps, "Right"),
    (any_side, "surely *behind*"),
    (lambda p, r: [k for k in range(5) if p[k].mean() > r[k].mean()], "less than the noise"),
    (by_overlap, "intervals overlap"),
    (lambda p, r: [], "Which way round"),
    (lambda p, r: gaps(r, p), "surely *behind*"),
    (lambda p, r: [4], "missing"),
    (lambda p, r: [2, 3, 4], "same for both"),
    (lambda p, r: [k in gaps(p, r) for k in range(5)], "True and False"),
    (lambda p, r: [2, 4, 9], "not the stages"),
]


def copy_layers(source, target, layers):
    for k in range(layers):
        target[k].load_state_dict(source[k].state_dict())
        target[k].requires_grad_(False)


def shares(source, target, layers):
    for k in range(layers):
        for name in ("weight", "bias"):
            setattr(target[k][0], name, getattr(source[k][0], name))


def forgets_biases(source, target, layers):
    for k in range(layers):
        with torch.no_grad():
            target[k][0].weight.copy_(source[k][0].weight)
        target[k].requires_grad_(False)


def does_not_freeze(source, target, layers):
    for k in range(layers):
        target[k].load_state_dict(source[k].state_dict())


def freezes_all(source, target, layers):
    copy_layers(source, target, layers)
    target.requires_grad_(False)


def freezes_the_source(source, target, layers):
    copy_layers(source, target, layers)
    source.requires_grad_(False)


ANSWERS[lesson_06.check_copied_layers] = [
    (None, "Not written yet"),
    (copy_layers, "Right"),
    (lambda source, target, layers: None, "Nothing was copied"),
    (lambda source, target, layers: copy_layers(source, target, layers - 1), "One layer too few"),
    (lambda source, target, layers: copy_layers(source, target, layers + 1), "One layer too many"),
    (shares, "share their weights"),
    (forgets_biases, "the biases are not"),
    (does_not_freeze, "can still learn"),
    (freezes_all, "The rest is frozen"),
    (freezes_the_source, "The source was frozen"),
]
