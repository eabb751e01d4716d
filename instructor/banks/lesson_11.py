"""Answers to the exercises of lesson 11: check -> (answer, word of what is said of it)."""

import re

import numpy as np

from tlutils import intervals
from tlutils.checks import lesson_11

ANSWERS = {}


def camera_of(path):
    return path.stem.split("_")[1]


def camera_by_pattern(path):
    return re.search(r"_([a-z]+)_", str(path.name))[1].upper()


ANSWERS[lesson_11.check_groups] = [
    (camera_of, "Right"),
    (camera_by_pattern, "Right"),
    (lambda path: hash(camera_of(path)) % 1_000_003, "Right"),
    (lambda path: path.parent.name, "groups by class"),
    (lambda path: path.parent, "groups by class"),
    (lambda path: path, "a group of its own"),
    (lambda path: (path.parent.name, path.stem), "a group of its own"),
    (lambda path: path.stem.split("_")[0], "groups by day"),
    (lambda path: path.stem[:10], "groups by day"),
    (lambda path: path.stem.split("_")[2], "groups by frame number"),
    (lambda path: (path.parent.name, camera_of(path)), "groups by camera and class"),
    (lambda path: path.stem.rsplit("_", 1)[0], "groups by camera and day"),
    (lambda path: path.stem.split("_")[1:], "A list arrived"),
    (lambda path: path.stem.split("_", 1)[1], "groups by camera and frame number"),
    (lambda path: path.suffix, "Everything is one group"),
    (lambda path: (path.parent.name, path.stem[:10]), "The class is not part of a frame's name"),
    (lambda path: path.stem, "these are 16 groups"),
    (lambda path: camera_of(path)[-1], "Right"),
    (lambda path: len(camera_of(path)), "Everything is one group"),
    (lambda path: path.split("_")[1], "AttributeError"),
    (lambda path: None, "Not answered yet"),
    (None, "Not answered yet"),
]


def verdict(first, second):
    difference = first - second
    half = 1.96 * difference.std(ddof=1) / len(difference) ** 0.5
    if abs(difference.mean()) <= half:
        return "a tie"
    return "first" if difference.mean() > 0 else "second"


def by_bootstrap(first, second):
    rng, difference = np.random.default_rng(0), first - second
    means = rng.choice(difference, (5000, len(difference))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return "first" if low > 0 else "second" if high < 0 else "a tie"


def by_the_course(first, second):
    outcome = intervals.compare_classifiers(first, second).outcome
    return {"higher": "first", "lower": "second"}.get(outcome, outcome)


def by_single_intervals(first, second):
    ends = [
        (own.mean() - 1.96 * own.std() / len(own) ** 0.5, own.mean() + 1.96 * own.std() / len(own) ** 0.5)
        for own in (first, second)
    ]
    (low, high), (other_low, other_high) = ends
    return "first" if low > other_high else "second" if other_low > high else "a tie"


def by_standard_errors_of_each(first, second):
    error = np.hypot(first.std(), second.std()) / len(first) ** 0.5
    mean = first.mean() - second.mean()
    return "a tie" if abs(mean) <= 1.96 * error else "first" if mean > 0 else "second"


def without_the_root(first, second):
    difference = first - second
    if abs(difference.mean()) <= difference.std():
        return "a tie"
    return "first" if difference.mean() > 0 else "second"


def one_standard_error(first, second):
    difference = first - second
    if abs(difference.mean()) <= difference.std() / len(difference) ** 0.5:
        return "a tie"
    return "first" if difference.mean() > 0 else "second"


ANSWERS[lesson_11.check_tie] = [
    (verdict, "Right"),
    (by_bootstrap, "Right"),
    (by_the_course, "Right"),
    (
        lambda first, second: "first" if first.mean() > second.mean() else "second",
        "Whoever has more hits wins",
    ),
    (
        lambda first, second: {1: "first", 0: "a tie", -1: "second"}[
            int(np.sign(first.sum() - second.sum()))
        ],
        "Whoever has more hits wins",
    ),
    (lambda first, second: verdict(second, first), "exchanged"),
    (by_single_intervals, "by themselves"),
    (by_standard_errors_of_each, "by themselves"),
    (without_the_root, "tie here"),
    (one_standard_error, "one standard error"),
    (lambda first, second: "a tie", "Everything is a tie"),
    (
        lambda first, second: "a tie" if abs(first.mean() - second.mean()) < 0.05 else verdict(first, second),
        "Take first - second",
    ),
    (lambda first, second: first.mean() > second.mean(), "True_ arrived"),
    (lambda first, second: "both", "'both' arrived"),
    (lambda first, second: first[1000], "IndexError"),
    (None, "Not answered yet"),
]


def next_step(low, high, wanted):
    if low >= wanted:
        return "ship"
    return "change something" if high < wanted else "collect more"


def by_the_middle(low, high, wanted):
    return "ship" if (low + high) / 2 >= wanted else "change something"


def by_the_width(low, high, wanted):
    if high - low > 0.1:
        return "collect more"
    return "ship" if low >= wanted else "change something"


ANSWERS[lesson_11.check_next_step] = [
    (next_step, "Right"),
    (lambda low, high, wanted: next_step(100 * low, 100 * high, 100 * wanted), "Right"),
    (by_the_middle, "The middle of the interval"),
    (lambda low, high, wanted: "ship" if high >= wanted else "change something", "the upper end"),
    (by_the_width, "The width alone"),
    (
        lambda low, high, wanted: (
            "ship" if low >= wanted else "collect more" if high < wanted else "change something"
        ),
        "are exchanged",
    ),
    (
        lambda low, high, wanted: "ship" if low >= wanted else "collect more",
        'Nothing says "change something"',
    ),
    (
        lambda low, high, wanted: "ship" if low >= wanted else "change something",
        'Nothing says "collect more"',
    ),
    (lambda low, high, wanted: "collect more", "Nothing says"),
    (
        lambda low, high, wanted: "change something" if wanted > 0.85 else next_step(low, high, wanted),
        "Is what is wanted below",
    ),
    (lambda low, high, wanted: "wait", "'wait' arrived"),
    (lambda low, high, wanted: low[0], "TypeError"),
    (None, "Not answered yet"),
]


def distances(rows, known):
    return np.linalg.norm(rows[:, None] - known, axis=2)


def unlike(known, held_out, new):
    return distances(new, known).min(1) > np.quantile(distances(held_out, known).min(1), 0.95)


def unlike_by_loops(known, held_out, new):
    def nearest(row):
        return min(((row - other) ** 2).sum() for other in known)

    usual = sorted(nearest(row) for row in held_out)
    return [bool(nearest(row) > usual[int(0.95 * len(usual))]) for row in new]


def by_distance_to(known_point):
    def unlike(known, held_out, new):
        away, usual = (np.linalg.norm(rows - known_point(known), axis=1) for rows in (new, held_out))
        return away > np.quantile(usual, 0.95)

    return unlike


def nearest_beyond(border):
    return lambda known, held_out, new: distances(new, known).min(1) > border(known, held_out, new)


ANSWERS[lesson_11.check_unlike] = [
    (unlike, "Right"),
    (unlike_by_loops, "Right"),
    (nearest_beyond(lambda known, held_out, new: np.quantile(distances(known, known).min(1), 0.95)), "Every"),
    (lambda known, held_out, new: ~unlike(known, held_out, new), "exchanged"),
    (lambda known, held_out, new: distances(new, known).min(1), "These are distances. "),
    (
        nearest_beyond(lambda known, held_out, new: np.quantile(distances(new, known).min(1), 0.95)),
        "whatever",
    ),
    (by_distance_to(lambda known: known.mean(0)), "middle of all known"),
    (
        lambda known, held_out, new: (
            distances(new, known).mean(1) > np.quantile(distances(held_out, known).mean(1), 0.95)
        ),
        "middle of all known",
    ),
    (
        nearest_beyond(lambda known, held_out, new: np.quantile(distances(held_out, known).min(1), 0.05)),
        "smallest",
    ),
    (
        nearest_beyond(lambda known, held_out, new: np.median(distances(held_out, known).min(1))),
        "every second",
    ),
    (lambda known, held_out, new: unlike(known, held_out, new).mean(), "shape (9,)"),
    (lambda known, held_out, new: distances(new, known) > 1, "shape (9,)"),
    (lambda known, held_out, new: known @ new, "stopped with ValueError"),
    (None, "Not answered yet"),
]
