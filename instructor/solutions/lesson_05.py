"""Worked solutions of lesson 05: run it, and each check says that it is right."""

import numpy as np

from tlutils.checks import lesson_05
from tlutils.intervals import two_way_mean


def choose(hits):
    best = max(hits, key=lambda name: hits[name].mean())
    for name in hits:  # the cheapest comes first
        if name == best or two_way_mean(hits[name] - hits[best]).interval().high >= 0:
            return name


def is_fair(scratch, pixels):
    return two_way_mean(scratch - pixels).interval().high >= 0


rng = np.random.default_rng(0)
table = (rng.random((4, 200)) < rng.random(200)).astype(float)  # seeds × judges
S, N = table.shape
of_judges = S * table.mean(0).var(ddof=1)
rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
left = (rest**2).sum() / ((S - 1) * (N - 1))
still = 1.96 * ((of_judges - left) / (S * N)) ** 0.5

lesson_05.check_cheapest(choose)
lesson_05.check_gate(is_fair)
lesson_05.check_endless_seeds(still, table)
