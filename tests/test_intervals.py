"""A nominal 95 % interval covers the truth that often, whatever varies: seeds, images, groups of images."""

import numpy as np
import pytest
from scipy import stats

from tlutils.errors import LearnerError
from tlutils.experiments import interval
from tlutils.intervals import (
    SampleMean,
    compare_classifiers,
    compare_hits,
    kendall_tau,
    macro_average,
    two_way_interval,
    two_way_mean,
    wilson_interval,
)

HITS = [[1, 1, 0, 1, 1, 0], [1, 1, 0, 1, 0, 0], [1, 0, 0, 1, 1, 1]]


def test_one_value_a_seed_gives_students_interval():
    values = [0.05, 0.06, 0.08]
    assert two_way_mean([[v] for v in values]).interval() == pytest.approx(interval(values))


def test_seeds_without_any_effect_leave_the_interval_over_images():
    """Three equal rows say no more than one: Student's interval over the images."""
    row = np.array(HITS[0], dtype=float)
    assert two_way_mean([row, row, row]).interval() == pytest.approx(interval(row))


def test_images_without_any_effect_leave_the_interval_over_seeds():
    seeds = np.array([0.2, 0.4, 0.9])
    assert two_way_mean(seeds[:, None].repeat(50, axis=1)).interval() == pytest.approx(interval(seeds))


def test_the_variance_is_that_of_the_mean_squares():
    """By hand: seeds 4/6, 3/6, 4/6; images 1, 2/3, 0, 1, 2/3, 1/3; mean 11/18."""
    y = np.array(HITS, dtype=float)
    seeds = 6 * np.var([4 / 6, 3 / 6, 4 / 6], ddof=1)
    images = 3 * np.var([1, 2 / 3, 0, 1, 2 / 3, 1 / 3], ddof=1)
    rest = ((y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()) ** 2).sum() / (2 * 5)
    found = two_way_mean(HITS)
    assert found.value == pytest.approx(11 / 18)
    assert found.variance == pytest.approx(max(seeds + images - rest, seeds, images) / 18)


def test_weights_give_the_balanced_accuracy():
    labels = np.array([0, 0, 0, 0, 1, 1])
    weights = 1 / np.bincount(labels)[labels]
    recall = [np.mean([row[:4] for row in HITS]), np.mean([row[4:] for row in HITS])]
    assert two_way_mean(HITS, weights=weights).value == pytest.approx(np.mean(recall))


def test_a_group_of_equal_images_counts_as_one_image():
    wide = np.repeat(HITS, 7, axis=1)
    groups = np.repeat(np.arange(6), 7)
    assert two_way_mean(wide, groups=groups).interval() == pytest.approx(two_way_mean(HITS).interval())
    assert two_way_mean(wide).variance < two_way_mean(HITS).variance / 2


def test_means_of_independent_draws_add_up_as_in_welchs_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=8), rng.normal(1, 3, size=5)
    difference = two_way_mean(a[:, None]) + two_way_mean(b[:, None]) * -1
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert 2 * min(difference.p_value(0), (difference * -1).p_value(0)) == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert difference.interval() == pytest.approx((a.mean() - b.mean(), low, high))


def test_one_seed_is_no_evidence():
    alone = two_way_mean([HITS[0]])
    assert alone.interval()[1:] == (-np.inf, np.inf)
    assert alone.p_value(0) == 0.5
    assert (SampleMean(0.0, 0.0, 1) + alone).interval()[1:] == (-np.inf, np.inf)


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(LearnerError, match="seeds, images"):
        two_way_mean([0.1, 0.2])
    with pytest.raises(LearnerError, match="5 weights"):
        two_way_mean(HITS, weights=np.ones(5))


def draw(rng, seeds, groups, size, spread, *, gain=0.0):
    """Hits of `seeds` × (`groups` × `size`) images, or of two ways' differences where there is a gain.

    Spreads: of the seed, of the group, of the image, of seed and group, and of what is left.
    """
    of_seed, of_group, of_image, both, rest = spread
    group = np.repeat(np.arange(groups), size)

    def difficulty():
        return of_group * rng.normal(size=groups)[group] + of_image * rng.normal(size=groups * size)

    def way(skill, shared):
        own = of_seed * rng.normal(size=(seeds, 1)) + both * rng.normal(size=(seeds, groups))[:, group]
        own = own + rest * rng.normal(size=(seeds, groups * size))
        return (skill + 0.8 * shared + 0.6 * difficulty() + own > 0).astype(float)

    shared = difficulty()
    return way(0.8 + gain, shared) - (way(0.8, shared) if gain else 0), group


def truth(spread, gain):
    total = np.sqrt(np.square(spread).sum())
    return stats.norm.cdf((0.8 + gain) / total) - (stats.norm.cdf(0.8 / total) if gain else 0)


SPREADS = {
    "images": (0.05, 0.0, 1.0, 0.0, 0.5),
    "groups": (0.1, 1.0, 0.5, 0.3, 0.5),
    "seeds": (0.3, 0.3, 1.0, 0.2, 0.5),
}


@pytest.mark.parametrize("gain", [0.0, 0.4], ids=["a score", "a difference"])
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize(
    ("seeds", "groups", "size"),
    [
        pytest.param(4, 500, 1, id="digits", marks=pytest.mark.full),
        pytest.param(6, 153, 1, id="insects"),
        pytest.param(10, 240, 1, id="textures", marks=pytest.mark.full),
        pytest.param(5, 13, 40, id="crops of photographs"),
    ],
)
def test_coverage_is_nominal_in_every_design(seeds, groups, size, spread, gain):
    rng = np.random.default_rng(seeds)
    expected, covered, draws = truth(SPREADS[spread], gain), 0, 600
    for _ in range(draws):
        hits, group = draw(rng, seeds, groups, size, SPREADS[spread], gain=gain)
        _, low, high = two_way_mean(hits, groups=group).interval()
        covered += low <= expected <= high
    assert 0.92 <= covered / draws <= 0.98


def test_more_seeds_on_the_same_images_without_the_images_would_not_cover():
    """The reason for all this: Student's interval over seeds misses the truth more often the more seeds."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        hits, _ = draw(rng, 10, 13, 40, SPREADS["groups"])
        _, low, high = interval(hits.mean(axis=1))
        covered += low <= truth(SPREADS["groups"], 0.0) <= high
    assert covered / 300 < 0.75


def test_two_ways_that_differ_by_less_than_the_noise_tie():
    rng = np.random.default_rng(0)
    luck = rng.random((3, 100))
    first, same, worse = luck < 0.8, rng.random((3, 100)) < 0.8, luck < 0.4
    assert compare_hits(first, same).tie
    found = compare_hits(first, worse)
    assert not found.tie
    assert found.low > 0
    assert str(found).endswith("higher beyond noise")
    assert (found.value, found.low) == pytest.approx(two_way_mean(first * 1.0 - worse).interval()[:2])


def test_two_ways_are_compared_on_the_same_images():
    with pytest.raises(LearnerError, match="the same seeds and images"):
        compare_hits(HITS, np.array(HITS)[:, :5])


def test_a_rank_correlation_is_the_mean_of_kendalls_tau():
    rng = np.random.default_rng(0)
    known, tasks = rng.normal(size=9), rng.normal(size=(2, 3, 9))
    taus = [[stats.kendalltau(known, row).statistic for row in seeds] for seeds in tasks]
    assert kendall_tau(tasks[0], known).value == pytest.approx(np.mean(taus[0]))
    assert kendall_tau(tasks, known).value == pytest.approx(np.mean(taus))
    assert kendall_tau([known, known**3], known).interval() == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(("alike", "share"), [(0.0, 0.05), (0.5, 0.05)])
def test_unrelated_ranks_seem_related_one_time_in_twenty_however_alike_a_family_is(alike, share):
    family = np.array([0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5])
    rng = np.random.default_rng(0)

    def draw():
        return alike**0.5 * rng.normal(size=6)[family] + (1 - alike) ** 0.5 * rng.normal(size=15)

    wrong = 0
    for _ in range(400):
        scores = draw() + 0.3 * rng.normal(size=(3, 15))
        low, high = kendall_tau(scores, draw(), groups=family).interval()[1:]
        wrong += not low <= 0 <= high
    assert wrong / 400 == pytest.approx(share, abs=0.03)


def test_ranks_of_other_shapes_are_refused_in_words():
    with pytest.raises(LearnerError, match=r"\(2, 3\).*\(4,\)"):
        kendall_tau(np.zeros((2, 3)), np.zeros(4))
    with pytest.raises(LearnerError, match="three"):
        kendall_tau(np.zeros((2, 2)), np.zeros(2))


def test_a_share_and_a_difference_of_shares_stay_where_they_can_lie():
    nearly = np.ones((3, 6))
    nearly[:, 2] = [1, 0, 1]
    whole = two_way_mean(nearly).interval()
    assert whole.high > 1
    assert two_way_interval(nearly) == (whole.value, whole.low, 1)
    assert two_way_interval(1 - nearly) == pytest.approx((1 - whole.value, 0, 1 - whole.low))
    assert two_way_interval([[1, 1, 0]]) == pytest.approx((2 / 3, 0, 1)), (
        "one seed says nothing of the others"
    )
    apart = compare_hits(nearly, 1 - nearly)
    assert apart.high == 1
    assert two_way_mean(2 * nearly - 1).interval().high > 1
    losses = compare_hits(5 * nearly, np.zeros_like(nearly), metric="loss")
    assert losses.high > 1, "what is no share is not cut"
    for table in ([[1.0, -0.1]], [[2, 0]]):
        with pytest.raises(LearnerError, match="from 0 to 1"):
            two_way_interval(table)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_right_or_all_wrong_is_no_proof(value):
    table, names, weights = np.full((3, 40), value), np.arange(40) // 4, np.repeat([1, 3], 20)
    assert two_way_interval(table) == pytest.approx(wilson_interval(table[0]))
    by_name = wilson_interval(table[0, :10])
    assert two_way_interval(table, groups=names) == pytest.approx(by_name), "a group counts once"
    by_weight = wilson_interval(table[0, :32])
    assert two_way_interval(table, weights=weights) == pytest.approx(by_weight), "Kish: 80² / 200"
    assert two_way_interval(table[:, :1]) == pytest.approx(wilson_interval(table[:, 0])), (
        "one share of each seed"
    )


def test_two_ways_that_are_right_about_the_same_images_are_not_proved_the_same():
    table = np.tile([1.0, 1, 0, 1], (3, 10))
    width = 1 - wilson_interval(np.ones(40)).low
    found = compare_hits(table, table)
    assert (found.value, found.low, found.high) == pytest.approx((0, -width, width))
    assert found.tie
    apart = compare_hits(np.ones((3, 40)), np.zeros((3, 40)))
    assert (apart.value, apart.low, apart.high) == pytest.approx((1, 1 - width, 1))
    log_losses = compare_hits(5 * table, 5 * table, metric="log loss")
    assert (log_losses.low, log_losses.high) == (0, 0), "of what is no share nothing is known"


def test_two_classifiers_that_are_right_about_the_same_images_are_not_proved_the_same():
    hits, labels = np.tile([1.0, 1, 0, 1], 10), np.arange(40) // 20
    width = 1 - wilson_interval(np.ones(40), level=0.9).low
    found = compare_classifiers(hits, hits, labels, level=0.9)
    assert (found.value, found.low, found.high) == pytest.approx((0, -width, width))
    by_group = compare_classifiers(hits, hits, labels, groups=labels)  # crops of one photograph
    assert by_group.high == pytest.approx(1 - wilson_interval(np.ones(2)).low)
    better = compare_classifiers(np.ones(40), hits, labels)
    assert (better.value, better.low) == pytest.approx(macro_average(1 - hits, labels).interval()[:2])
    assert not better.tie
    with pytest.raises(LearnerError, match="the same images"):
        compare_classifiers(hits, hits[:3])
