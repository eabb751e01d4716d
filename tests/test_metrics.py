"""The figures of a report are right, their intervals honest, and a tie is called a tie."""

import pickle
import re

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, ttest_rel
from sklearn import metrics as oracle
from sklearn.utils.class_weight import compute_class_weight

from tlutils import metrics
from tlutils.advisor import decide
from tlutils.advisor.race import LEVEL
from tlutils.errors import LearnerError
from tlutils.intervals import compare_classifiers, wilson_interval
from tlutils.train.evaluate import compute_val_metrics


def classifier(n=300, classes=4, skill=1.5, seed=0):
    """Labels and the softmax of noisy logits that favour them by `skill`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes)) + skill * np.eye(classes)[labels]
    proba = np.exp(logits)
    return labels, proba / proba.sum(1, keepdims=True)


def test_the_figures_are_those_of_scikit_learn():
    labels, proba = classifier()
    got = metrics.report(labels, proba)
    guess = proba.argmax(1)
    assert got.accuracy.value == pytest.approx(oracle.accuracy_score(labels, guess))
    assert got.balanced_accuracy.value == pytest.approx(oracle.balanced_accuracy_score(labels, guess))
    assert got.log_loss.value == pytest.approx(oracle.log_loss(labels, proba))
    precision, recall, _, support = oracle.precision_recall_fscore_support(labels, guess)
    assert got.per_class["precision"].to_numpy() == pytest.approx(precision)
    assert got.per_class["recall"].to_numpy() == pytest.approx(recall)
    assert got.per_class["support"].tolist() == support.tolist()
    assert (got.confusion == oracle.confusion_matrix(labels, guess)).all()


def test_calibration_error_is_what_one_gets_by_hand():
    # Two images at 0.9, one of them right: |0.9 - 0.5|. Two at 0.6, both right: |0.6 - 1|. Each weighs 2/4.
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    got = metrics.report([0, 1, 0, 1], proba)
    assert got.calibration_error.value == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_a_classifier_that_is_right_and_sure_scores_perfectly_and_four_images_say_little():
    got = metrics.report([0, 1, 2, 1], np.eye(3)[[0, 1, 2, 1]])
    for score in (got.accuracy, got.balanced_accuracy):
        assert (score.value, score.high) == (1, 1)
        assert score.low < 0.6
    assert got.calibration_error == (0, 0, 0)
    assert got.log_loss.value == pytest.approx(0, abs=1e-12)


def test_a_class_without_images_is_undefined_and_not_zero():
    # 90 / 9 / 1 in training, and a validation part in which the rare class does not occur at all.
    labels = np.array([0] * 18 + [1] * 2)
    proba = np.full((20, 3), 0.1)
    proba[np.arange(20), [0] * 17 + [2] + [1, 0]] = 0.8
    got = metrics.report(labels, proba, classes=["common", "seldom", "rare"])
    rare = got.per_class.loc["rare"]
    assert rare["support"] == 0
    assert rare.drop("support").isna().all()
    assert got.balanced_accuracy.value == pytest.approx((17 / 18 + 1 / 2) / 2)
    assert "undefined" in str(got)
    assert "undefined" in got._repr_html_()


def test_balanced_accuracy_is_one_rule():
    labels, proba = classifier(n=80, classes=5, skill=0.5)
    kept = labels != 3  # a class that does not occur, although it is predicted
    labels, proba = labels[kept], proba[kept]
    guess = proba.argmax(1)
    assert 3 in guess
    by_hand = np.mean([(guess[labels == k] == k).mean() for k in (0, 1, 2, 4)])
    assert metrics.balanced_accuracy(labels, guess) == pytest.approx(by_hand)
    assert metrics.report(labels, proba).balanced_accuracy.value == pytest.approx(by_hand)


def test_balanced_weights_are_scikit_learns_and_a_class_without_images_has_none():
    labels = np.array([0] * 6 + [2] * 3 + [3])
    weights = metrics.balanced_weights(labels, 5)
    known = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    assert weights[[0, 2, 3]] == pytest.approx(known)
    assert weights[[1, 4]].tolist() == [0, 0]


def test_a_class_that_is_never_predicted_has_recall_zero_and_no_precision():
    got = metrics.report([0, 0, 1], [[0.9, 0.1]] * 3)
    assert got.per_class.loc["1", "recall"] == 0
    assert np.isnan(got.per_class.loc["1", "precision"])


def test_the_bootstrap_repeats_with_a_seed():
    labels, proba = classifier(n=120)
    got, again, other = (metrics.report(labels, proba, seed=s).calibration_error for s in (3, 3, 4))
    assert got == again
    assert got != other


def test_the_interval_of_the_log_loss_is_that_of_a_plain_bootstrap():
    labels, proba = classifier(n=120)
    rng, plain = np.random.default_rng(0), []
    losses = -np.log(proba[np.arange(120), labels])
    assert losses.mean() == pytest.approx(oracle.log_loss(labels, proba))
    for _ in range(600):
        rows = rng.integers(120, size=120)
        plain.append(losses[rows].mean())
    found = metrics.report(labels, proba).log_loss
    assert found[1:] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.05)


def test_every_copy_of_an_image_counts_once():
    labels, proba = classifier(n=60)
    once = metrics.report(labels, proba)
    copied = np.repeat(labels, 3), np.repeat(proba, 3, axis=0)
    known = metrics.report(*copied, groups=np.repeat(np.arange(60), 3))
    unknown = metrics.report(*copied)
    for name in metrics.METRICS:
        assert getattr(known, name) == pytest.approx(getattr(once, name), abs=0.02)
        assert getattr(unknown, name).high < getattr(once, name).high
    for one, other in zip(once.recalls, known.recalls, strict=True):
        assert other == pytest.approx(one, abs=0.02)
    worse = np.roll(copied[1], 1, axis=1)
    groups = np.repeat(np.arange(60), 3)
    paired = metrics.compare(known, metrics.report(copied[0], worse, groups=groups), metric="accuracy")
    alone = metrics.compare(once, metrics.report(labels, np.roll(proba, 1, axis=1)), metric="accuracy")
    assert (paired.low, paired.high) == pytest.approx((alone.low, alone.high), abs=1e-9)


def test_a_report_and_the_interval_of_wilson_say_the_same():
    labels, proba = classifier(n=50, skill=3)
    groups = np.arange(50) // 2
    got, hits = metrics.report(labels, proba, groups=groups), proba.argmax(1) == labels
    assert got.balanced_accuracy == wilson_interval(hits, labels, groups=groups)
    assert got.accuracy == wilson_interval(hits, groups=groups)
    assert got.recalls[1] == wilson_interval(hits[labels == 1], groups=groups[labels == 1])
    said = proba.argmax(1) == 2
    row = got.per_class.loc["2", ["precision", "precision_low", "precision_high"]]
    assert tuple(row) == wilson_interval(hits[said], groups=groups[said])


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(100):
        hits = np.random.default_rng(seed).random(150) < 0.8
        got = metrics.report(
            np.zeros(150, int), np.where(hits[:, None], [0.9, 0.1], [0.1, 0.9]), resamples=300
        )
        held += got.accuracy.low <= 0.8 <= got.accuracy.high
    assert 88 <= held <= 100


def test_every_headline_interval_holds_its_own_figure():
    labels, proba = classifier(n=60, skill=3)
    got = metrics.report(labels, proba)
    for name in metrics.METRICS:
        value, low, high = getattr(got, name)
        assert low <= value <= high


def test_resampling_in_blocks_changes_nothing(monkeypatch):
    labels, proba = classifier(n=50)
    whole = metrics.report(labels, proba).calibration_error
    monkeypatch.setattr(metrics, "CELLS", 50 * 7)
    assert metrics.report(labels, proba).calibration_error == pytest.approx(whole)


def test_a_small_difference_is_a_tie_and_a_large_one_is_not():
    labels, proba = classifier(n=200, skill=2)
    good = metrics.report(labels, proba)
    nudged = metrics.report(labels, 0.97 * proba + 0.03 / 4)
    poor = metrics.report(labels, np.roll(proba, 1, axis=1))
    same = metrics.compare(good, nudged, metric="accuracy")
    assert same.tie
    assert same.outcome == "a tie"
    assert "tie" in str(same)
    width = 1 - wilson_interval(np.ones(200)).low
    assert (same.low, same.high) == pytest.approx((-width, width)), "the same hits are no proof"
    assert metrics.compare(good, nudged).low < 0
    far = metrics.compare(good, poor)
    assert not far.tie
    assert far.outcome == "higher"
    assert far.value == pytest.approx(good.balanced_accuracy.value - poor.balanced_accuracy.value)
    assert metrics.compare(poor, good).value == pytest.approx(-far.value)


@pytest.mark.parametrize("skill", [0.5, 20])
def test_of_one_log_loss_against_itself_nothing_is_known_however_large_it_is(skill):
    report = metrics.report(*classifier(n=60, skill=skill))
    found = metrics.compare(report, report, metric="log_loss")
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_report_and_an_advice_judge_the_same_images_alike():
    labels = np.repeat([0, 1], 4)
    hits = {"probe": np.array([1, 0, 0, 0, 1, 1, 1, 0.0]), "finetune": np.array([1, 1, 1, 0, 1, 1, 1, 1.0])}
    first, second = (
        metrics.report(labels, np.eye(2)[np.where(own, labels, 1 - labels)]) for own in hits.values()
    )
    found = metrics.compare(first, second, level=LEVEL)
    assert found == decide(hits, labels, np.arange(8)).behind["probe"]
    assert found == compare_classifiers(*hits.values(), labels, metric="balanced_accuracy", level=LEVEL)
    for metric in ("accuracy", "balanced_accuracy"):
        assert metrics.compare(first, second, metric=metric).tie, "by a bootstrap it is lower beyond noise"


@pytest.mark.parametrize("images", [[1] * 8, [3] * 8, [20, 20], [20, 1], [8, 8, 1, 1]])
def test_two_classifiers_that_are_alike_seldom_differ_however_few_images_a_class_has(images):
    rng, labels, wrong = np.random.default_rng(0), np.repeat(np.arange(len(images)), images), 0
    for _ in range(300):
        first, second = rng.random((2, len(labels))) < 0.6
        wrong += not compare_classifiers(first, second, labels).tie
    assert wrong / 300 < 0.08


def test_where_each_class_is_one_photograph_another_draw_has_other_photographs():
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(13), 40)
    photographs = rng.random((2, 13))
    first, second = (rng.random(520) < p[labels] for p in photographs)
    found = compare_classifiers(first, second, labels, groups=labels)
    means = [[own[labels == k].mean() for k in range(13)] for own in (first, second)]
    known = ttest_rel(*means).confidence_interval()
    assert (found.low, found.high) == pytest.approx((known.low, known.high))


def test_a_wrong_answer_that_is_certain_costs_the_same_everywhere():
    logits, labels = np.array([[0.0, 300.0], [0.0, -1.0], [2.0, 0.0]]), np.array([0, 0, 0])
    proba = torch.tensor(logits).softmax(1).numpy()
    loss = metrics.report(labels, proba).log_loss.value
    assert loss == pytest.approx(oracle.log_loss(labels, proba, labels=[0, 1]))
    seen = compute_val_metrics(torch.tensor(logits, dtype=torch.float32), torch.tensor(labels))
    assert seen["val_loss"] == pytest.approx(loss, rel=1e-6)
    assert metrics.log_losses(labels, proba).max() == pytest.approx(36.04, abs=0.01)


def test_pairing_sees_a_steady_gain_that_unpaired_intervals_hide():
    labels, proba = classifier(n=200, skill=1)
    better = proba.copy()
    wrong = np.flatnonzero(proba.argmax(1) != labels)[:8]
    better[wrong] = 0.05
    better[wrong, labels[wrong]] = 0.85
    one, two = metrics.report(labels, better), metrics.report(labels, proba)
    assert one.accuracy.low < two.accuracy.high
    assert not metrics.compare(one, two, metric="accuracy").tie


def test_a_report_reads_well_without_addresses_and_pickles():
    labels, proba = classifier()
    got = metrics.report(labels, proba, classes=["ant", "bee", "cat", "dog"])
    for text in (repr(got), got._repr_html_(), str(metrics.compare(got, got))):
        assert not re.search(r"0x[0-9a-f]{6,}", text)
    assert "ant" in repr(got)
    assert "balanced accuracy" in repr(got)
    assert str(pickle.loads(pickle.dumps(got))) == str(got)


@pytest.mark.parametrize(
    ("labels", "proba", "says"),
    [
        ([0, 1], [[0.5, 0.5]], "do not fit"),
        ([0, 1], [0.5, 0.5], "do not fit"),
        ([0, 1], [[1.0], [1.0]], "two classes"),
        ([], np.zeros((0, 2)), "no images"),
        ([0, 2], [[0.5, 0.5]] * 2, "from 0 to 1"),
        ([0.0, 1.0], [[0.5, 0.5]] * 2, "integer labels"),
        ([0, 1], [[3.0, -2.0]] * 2, "softmax"),
        ([0, 1], [[np.nan, 1.0]] * 2, "NaN"),
    ],
)
def test_what_does_not_fit_is_said_in_words(labels, proba, says):
    with pytest.raises(LearnerError, match=says):
        metrics.report(labels, proba)


def test_reports_that_cannot_be_paired_are_refused():
    one, two = (metrics.report(*classifier(seed=s)) for s in (0, 1))
    with pytest.raises(LearnerError, match="different images"):
        metrics.compare(one, two)
    with pytest.raises(LearnerError, match="balanced_accuracy"):
        metrics.compare(one, one, metric="balancedaccuracy")
    with pytest.raises(LearnerError, match="3 class names"):
        metrics.report(*classifier(), classes=["a", "b", "c"])


@pytest.mark.parametrize(
    ("images", "recalls"),
    [
        pytest.param(*([5, 5], [0.9, 0.9]), marks=pytest.mark.full),
        ([1, 1, 1], [0.9, 0.9, 0.9]),
        ([20] * 5, [0.6, 0.7, 0.8, 0.9, 1.0]),
        pytest.param(*([2] * 60, [0.9] * 60), marks=pytest.mark.full),
        pytest.param(*([5] * 60, [0.98] * 60), marks=pytest.mark.full),
        pytest.param(*([40, 3], [0.99, 0.5]), marks=pytest.mark.full),
        ([40, 3], [0.5, 0.99]),
        ([100, 3, 3], [0.99, 0.6, 0.6]),
    ],
)
def test_intervals_for_few_images_contain_the_truth_as_often_as_they_say(images, recalls):
    rng, covered = np.random.default_rng(0), 0
    classes = range(len(images))
    for _ in range(1000):
        hits = rng.binomial(images, recalls)
        right = np.concatenate([np.arange(n) < hit for n, hit in zip(images, hits, strict=True)])
        mean = wilson_interval(right, np.repeat(classes, images))
        covered += mean.low <= np.mean(recalls) <= mean.high
    assert covered / 1000 >= 0.9


def test_with_few_images_all_right_nothing_is_sure():
    few = wilson_interval(np.ones(15), np.repeat([0, 1, 2], 5))
    assert (few.value, few.high) == (1, 1)
    assert few.low < 0.8
    assert wilson_interval(np.ones(5)).low < 0.6
    assert wilson_interval(np.ones(1500), np.repeat([0, 1, 2], 500)).low > 0.99


def test_the_interval_of_a_share_is_wilsons():
    for hits, images in [(0, 4), (3, 4), (50, 60)]:
        theirs = binomtest(hits, images).proportion_ci(method="wilson")
        found = wilson_interval(np.arange(images) < hits)
        assert found[1:] == pytest.approx((theirs.low, theirs.high))
