"""Answers to the exercises of lesson 05: check -> (answer, word of what is said of it)."""

import numpy as np

from tlutils.checks import lesson_05
from tlutils.intervals import two_way_mean

ANSWERS = {}


def paired(hits):
    best = max(hits, key=lambda name: hits[name].mean())
    return next(n for n in hits if n == best or two_way_mean(hits[n] - hits[best]).interval().high >= 0)


def unpaired(hits):
    best = max(hits, key=lambda name: hits[name].mean())
    floor = two_way_mean(hits[best]).interval().low
    return next(name for name in hits if two_way_mean(hits[name]).interval().high >= floor)


ANSWERS[lesson_05.check_cheapest] = [
    (None, "Not written yet"),
    (paired, "Right"),
    (unpaired, "Subtract image by image"),
    (lambda hits: max(hits, key=lambda name: hits[name].mean()), "by the mean alone"),
    (lambda hits: next(iter(hits)), "keep a cheaper one"),
    (lambda hits: 0, "Expected one of probe"),
    (lambda hits: hits["scratch"], "stopped with KeyError"),
]

ANSWERS[lesson_05.check_gate] = [
    (None, "Not written yet"),
    (lambda scratch, pixels: not two_way_mean(scratch - pixels).interval().high < 0, "Right"),
    (lambda scratch, pixels: two_way_mean(pixels - scratch).interval().low <= 0, "Right"),
    (lambda scratch, pixels: scratch.mean() >= pixels.mean(), "less than the noise"),
    (lambda scratch, pixels: two_way_mean(scratch - pixels).interval().low > 0, "less than the noise"),
    (lambda scratch, pixels: True, "far below the pixels"),
    (lambda scratch, pixels: scratch.mean() < pixels.mean(), "ahead of the pixels"),
    (lambda scratch, pixels: scratch.tobias(), "stopped with AttributeError"),
]

rng = np.random.default_rng(0)
hits = (rng.random((4, 200)) < rng.random(200)).astype(float)
judges = 4 * hits.mean(0).var(ddof=1)
rest = ((hits - hits.mean(1, keepdims=True) - hits.mean(0) + hits.mean()) ** 2).sum() / (3 * 199)
low, high = two_way_mean(hits).interval()[1:]


def endless_seeds(answer):
    lesson_05.check_endless_seeds(answer, hits)


ANSWERS[endless_seeds] = [
    (None, "Not answered"),
    (1.96 * ((judges - rest) / 800) ** 0.5, "Right"),
    (0.0, "so does their luck"),
    (1.96 * (judges / 800) ** 0.5, "averages out"),
    ((high - low) / 2, "the seeds that you have"),
    (0.5, "two are left"),
]
