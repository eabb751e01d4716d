"""Worked solutions of lesson 11: run it, and each check says that it is right."""

import numpy as np

from tlutils.checks import lesson_11


def camera_of(path):
    return path.stem.split("_")[1]


def verdict(first, second):
    difference = first - second  # image by image
    mean, half = difference.mean(), 1.96 * difference.std(ddof=1) / len(difference) ** 0.5
    if abs(mean) <= half:
        return "a tie"
    return "first" if mean > 0 else "second"


def next_step(low, high, wanted):
    if low >= wanted:
        return "ship"
    return "change something" if high < wanted else "collect more"


def unlike(known, held_out, new):
    def nearest(rows):
        return np.linalg.norm(rows[:, None] - known, axis=2).min(1)

    return nearest(new) > np.quantile(nearest(held_out), 0.95)


lesson_11.check_groups(camera_of)
lesson_11.check_tie(verdict)
lesson_11.check_next_step(next_step)
lesson_11.check_unlike(unlike)
