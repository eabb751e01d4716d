"""Worked solutions of lesson 05: run it, and each check says that it is right."""

import numpy as np
from scipy import stats

from tlutils import experiments
from tlutils.checks import lesson_05


def choose(scores):
    best = max(scores, key=lambda name: scores[name].mean())
    for name in scores:  # the cheapest comes first
        if name == best or experiments.interval(scores[name] - scores[best]).high >= 0:
            return name


differences = np.array([0.04, 0.01, 0.07])
mean, s = differences.mean(), differences.std(ddof=1)
how_many = next(n for n in range(2, 99) if stats.t.ppf(0.975, n - 1) * s / n**0.5 < mean - 0.01)

lesson_05.check_cheapest(choose)
lesson_05.check_seeds(how_many, differences, 0.01)
