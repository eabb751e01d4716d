"""Choosing a cut inside the training images: right ways pass, each mistake is named."""

import numpy as np
import pytest

from tlutils.checks import lesson_03


def by_folds(pick=max, parts=4, shuffle=True, name=lambda cuts, score: max(cuts, key=score.get)):
    """A way to choose, right as it stands."""

    def choose_cut(cuts, labels, hits):
        order = np.random.default_rng(0).permutation(len(labels)) if shuffle else np.arange(len(labels))
        folds = np.array_split(order, parts)
        score = {
            cut: np.concatenate([hits(cut, np.setdiff1d(order, held), held) for held in folds]).mean()
            for cut in cuts
        }
        return name(cuts, score)

    return choose_cut


def leaking(cuts, labels, hits):
    rows = np.arange(len(labels))
    return max(cuts, key=lambda cut: hits(cut, rows, rows[::2]).mean())


def two_judges(cuts, labels, hits):
    return max(cuts, key=lambda cut: hits(cut, range(4, 36), [0, 39]).mean())


def one_cut(cuts, labels, hits):
    hits(cuts[0], range(0, 40, 2), range(1, 40, 2))
    return "stage8"


def other_judges(cuts, labels, hits):
    rows = np.arange(40)
    return max(cuts, key=lambda cut: hits(cut, rows[::2], rows[1 : 19 + 2 * len(cut) : 2]).mean())


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda cuts, labels, hits: None, "Not answered"),
        (by_folds(), "Right"),
        (leaking, "by heart"),
        (by_folds(shuffle=False, parts=2), "sorted by class"),
        (by_folds(name=lambda cuts, score: max(reversed(cuts), key=score.get)), "more expensive"),
        (by_folds(name=lambda cuts, score: min(cuts, key=score.get)), "which way round"),
        (by_folds(name=lambda cuts, score: cuts.index(max(cuts, key=score.get))), "A int arrived"),
        (by_folds(name=lambda cuts, score: max(score.values())), "return the cut's name"),
        (by_folds(name=lambda cuts, score: cuts[-1]), "Not the cut"),
        (lambda cuts, labels, hits: "stage8", "Nothing was trained"),
        (two_judges, "choosing by luck"),
        (one_cut, "Not every cut"),
        (other_judges, "different numbers"),
        (
            lambda cuts, labels, hits: max(cuts, key=lambda cut: len(hits(cut, range(40), []))),
            "Nobody judges",
        ),
        (lambda cuts, labels, hits: hits("stage9", [0], [1]), "KeyError"),
    ],
)
def test_a_cut_is_chosen_by_held_out_training_images(function, says, capsys):
    lesson_03.check_choose_cut(function)
    assert says in capsys.readouterr().out
