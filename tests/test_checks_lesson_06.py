"""An honest layer study: right answers pass, each mistake is named."""

import numpy as np
import pytest

from tlutils import intervals
from tlutils.checks import lesson_06


def report(choose, judge):
    stage = choose.mean(1).argmax()
    return stage, judge[stage].mean()


def told(stage, accuracy):
    return lambda choose, judge: (stage(choose, judge), accuracy(choose, judge))


def best(choose, judge):
    return choose.mean(1).argmax()


@pytest.mark.parametrize(
    ("function", "says"),
    [
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
    ],
)
def test_one_table_chooses_and_the_other_judges(function, says, capsys):
    lesson_06.check_report(function)
    assert says in capsys.readouterr().out


def gaps(pretrained, random):
    return [k for k in range(len(random)) if intervals.compare(pretrained[k], random[k]).low > 0]


def any_side(pretrained, random):
    return [k for k in range(len(random)) if not intervals.compare(pretrained[k], random[k]).tie]


def by_overlap(pretrained, random):
    both = [[intervals.two_way_mean(t).interval() for t in table] for table in (pretrained, random)]
    return [k for k, (a, b) in enumerate(zip(*both, strict=True)) if a.low > b.high]


@pytest.mark.parametrize(
    ("function", "says"),
    [
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
    ],
)
def test_a_gap_is_what_lies_beyond_noise(function, says, capsys):
    lesson_06.check_gaps(function)
    assert says in capsys.readouterr().out
