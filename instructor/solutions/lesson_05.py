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


def half_with_endless_seeds(hits):
    S, N = hits.shape
    of_judges = S * hits.mean(0).var(ddof=1)
    rest = hits - hits.mean(1, keepdims=True) - hits.mean(0) + hits.mean()
    left = (rest**2).sum() / ((S - 1) * (N - 1))
    return 1.96 * ((of_judges - left) / (S * N)) ** 0.5


def layer_gap(z, mean, var):
    z = z.transpose(0, 1).flatten(1)
    gap = (z.mean(1) - mean) ** 2 + (z.std(1) - var.sqrt()) ** 2
    return (gap / var).median()


def layer_gap_in_numpy(z, mean, var):
    z, mean, var = z.numpy(), mean.numpy(), var.numpy()
    gap = (z.mean((0, 2, 3)) - mean) ** 2 + (z.std((0, 2, 3)) - var**0.5) ** 2
    return np.median(gap / var)


lesson_05.check_layer_gap(layer_gap)
lesson_05.check_layer_gap(layer_gap_in_numpy)
lesson_05.check_cheapest(choose)
lesson_05.check_gate(is_fair)
lesson_05.check_endless_seeds(half_with_endless_seeds)
