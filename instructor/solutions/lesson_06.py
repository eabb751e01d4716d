"""Worked solutions of lesson 06: run it, and each check says that it is right."""

import numpy as np

from tlutils import intervals
from tlutils.checks import lesson_06


def copy_layers(source, target, layers):
    for k in range(layers):
        target[k].load_state_dict(source[k].state_dict())
        target[k].requires_grad_(False)


def report(choose, judge):
    stage = choose.mean(1).argmax()
    return stage, judge[stage].mean()


def report_in_a_loop(choose, judge):
    best = 0
    for stage in range(1, len(choose)):
        if sum(choose[stage]) > sum(choose[best]):
            best = stage
    return best, sum(judge[best]) / judge.shape[1]


def gaps(pretrained, random):
    return [k for k in range(len(random)) if intervals.compare_hits(pretrained[k], random[k]).low > 0]


def gaps_as_array(pretrained, random):
    return np.flatnonzero(
        [intervals.compare_hits(a, b).low > 0 for a, b in zip(pretrained, random, strict=True)]
    )


lesson_06.check_copied_layers(copy_layers)
lesson_06.check_report(report)
lesson_06.check_report(report_in_a_loop)
lesson_06.check_gaps(gaps)
lesson_06.check_gaps(gaps_as_array)
