"""Transferability scores: values that can be derived by hand, and other formulas for the same numbers."""

from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, mutual_info_score
from sklearn.model_selection import LeaveOneOut, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny import tiny_data, tiny_net

from tlutils import features, transferability
from tlutils.errors import LearnerError
from tlutils.features.rows import with_groups
from tlutils.transferability import gbc, h_score, leep, logme, nce, nearest_neighbour, parc, transrate

FROM_FEATURES = (gbc, h_score, logme, nearest_neighbour, parc, transrate, leep)


def sample(apart, *, images=60, width=5, classes=3, seed=0):
    """Gaussian features whose class means are `apart` times a random direction from 0, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(images) % classes)
    return rng.normal(size=(images, width)) + apart * rng.normal(size=(classes, width))[labels], labels


# More features than images, and fewer.
SHAPES = [{"images": 20, "width": 30}, {"images": 40, "width": 5}, {"images": 30, "width": 7, "classes": 2}]


@pytest.mark.parametrize("score", FROM_FEATURES)
def test_classes_further_apart_score_higher(score):
    values = [np.mean([score(*sample(apart, seed=seed)) for seed in range(5)]) for apart in (0, 1, 3)]
    assert values[0] < values[1] < values[2]


@pytest.mark.parametrize("score", FROM_FEATURES)
def test_the_order_of_images_and_the_names_of_classes_do_not_matter(score):
    x, y = sample(1)
    order = np.random.default_rng(1).permutation(len(y))
    renamed = np.array([40, -3, 7])[y]
    assert score(x[order], renamed[order]) == pytest.approx(score(x, y), abs=1e-6)
    assert score(torch.tensor(x), torch.tensor(y)) == pytest.approx(score(x, y), abs=1e-4)


@pytest.mark.parametrize("score", [gbc, h_score, logme, nearest_neighbour, transrate])
def test_turning_the_features_changes_nothing(score):
    x, y = sample(1)
    turn = stats.ortho_group.rvs(x.shape[1], random_state=0)
    assert score(x @ turn, y) == pytest.approx(score(x, y), abs=1e-6)


def copies():
    """Features of twenty pictures without meaning, each three times, that know which show one picture."""
    pictures = np.arange(60) % 20
    x = sample(0, images=20)[0][pictures] + 0.01 * sample(0, seed=1)[0]
    return with_groups(x, pictures), pictures % 2


@pytest.mark.parametrize("score", [nearest_neighbour, parc])
def test_copies_of_a_picture_do_not_make_features_better_that_know_them(score):
    x, y = copies()
    assert score(np.asarray(x), y) > score(x, y) + 0.02


@pytest.mark.parametrize("score", [nearest_neighbour, parc])
def test_images_of_one_group_are_not_compared_with_each_other(score):
    x, y = copies()
    with pytest.raises(LearnerError, match="one group"):
        score(with_groups(x, np.zeros(60)), y)


# --- LogME -----------------------------------------------------------------------------------------------


def direct_evidence(x, y):
    """The largest log density of y under a Gaussian with covariance I / beta + x xᵀ / alpha, per image."""

    def loss(logs):
        covariance = np.eye(len(y)) * exp(-logs[0]) + x @ x.T * exp(-logs[1])
        return -stats.multivariate_normal.logpdf(y, np.zeros(len(y)), covariance) / len(y)

    starts = [(a, b) for a in (0, 3) for b in (1, 5)]
    return -min(optimize.minimize(loss, start, method="Nelder-Mead").fun for start in starts)


@pytest.mark.parametrize("shape", SHAPES)
def test_logme_is_the_largest_evidence(shape):
    x, y = sample(1, **shape)
    expected = np.mean([direct_evidence(x, (y == k).astype(float)) for k in np.unique(y)])
    assert logme(x, y) == pytest.approx(expected, abs=1e-4)


def test_logme_of_features_that_say_nothing_is_that_of_noise():
    # The weights are best at 0, and y is noise of variance 1/2, its mean square.
    x = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    assert logme(x, [0, 0, 1, 1]) == pytest.approx(-log(2 * np.pi * np.e / 2) / 2)


# --- H-score ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_h_score_is_the_trace_with_explicit_covariances(shape):
    x, y = sample(1, **shape)
    fitted = LedoitWolf().fit(x)
    means = np.stack([x[y == k].mean(axis=0) for k in y])
    between = np.cov(means, rowvar=False, bias=True)
    expected = np.trace(np.linalg.solve(fitted.covariance_, (1 - fitted.shrinkage_) * between))
    assert h_score(x, y) == pytest.approx(expected)


def test_h_score_of_one_feature_is_the_share_of_variance_between_classes():
    # Values 0, 2 and 4, 6: means 1 and 5 are 2 from the middle, and the variance within is 1.
    assert h_score([[0.0], [2.0], [4.0], [6.0]], [0, 0, 1, 1]) == pytest.approx(4 / (4 + 1))
    assert h_score(np.ones((4, 3)), [0, 0, 1, 1]) == 0


# --- TransRate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_transrate_by_determinants(shape):
    x, y = sample(1, **shape)
    x = x - x.mean(axis=0)

    def rate(z):
        return np.linalg.slogdet(np.eye(z.shape[1]) + z.T @ z / (len(z) * 1e-4))[1] / 2

    expected = rate(x) - sum(rate(x[y == k]) * (y == k).mean() for k in np.unique(y))
    assert transrate(x, y) == pytest.approx(expected)


def test_transrate_by_hand():
    # All rows: variance 1/2 along each axis. A class: variance 1 along its own.
    x = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    assert transrate(x, [0, 0, 1, 1]) == pytest.approx(log(1 + 0.5e4) - log(1 + 1e4) / 2)


def test_transrate_does_not_see_two_classes_whose_means_alone_differ():
    assert transrate([[9.0], [9.0], [-9.0], [-9.0]], [0, 0, 1, 1]) == pytest.approx(0)


# --- GBC -------------------------------------------------------------------------------------------------


def test_gbc_is_the_integral_of_the_root_of_two_densities():
    x = np.array([0.0, 2.0, 3.0, 9.0])
    one, other = stats.norm(1, sqrt(2)), stats.norm(6, sqrt(18))
    overlap = integrate.quad(lambda v: sqrt(one.pdf(v) * other.pdf(v)), -30, 40)[0]
    assert gbc(x[:, None], [0, 0, 1, 1]) == pytest.approx(-2 * overlap)


@pytest.mark.parametrize("shape", SHAPES)
def test_gbc_by_determinants(shape):
    x, y = sample(0.3, **shape)
    classes = np.unique(y)
    width = min(x.shape)  # components, of which those without variance count in the mean
    means = [x[y == k].mean(axis=0) for k in classes]
    spreads = [np.trace(np.cov(x[y == k], rowvar=False)) / width * np.eye(width) for k in classes]
    total = 0.0
    for i, j in ((i, j) for i in classes for j in classes if i != j):
        middle = (spreads[i] + spreads[j]) / 2
        gap = np.sum((means[i] - means[j]) ** 2) / middle[0, 0]
        roots = sqrt(np.linalg.det(spreads[i]) * np.linalg.det(spreads[j]))
        total += exp(-gap / 8) * sqrt(roots / np.linalg.det(middle))
    assert gbc(x, y) == pytest.approx(-total)


def test_gbc_of_copies_that_are_apart_is_no_overlap():
    assert gbc([[0.0], [0.0], [1.0], [1.0]], [0, 0, 1, 1]) == pytest.approx(0)


# --- Neighbours and pairs --------------------------------------------------------------------------------


def test_nearest_neighbour_is_leave_one_out_by_cosine():
    x, y = sample(1, images=61)
    guess = cross_val_predict(KNeighborsClassifier(1, metric="cosine"), x, y, cv=LeaveOneOut())
    assert nearest_neighbour(x, y) == pytest.approx(balanced_accuracy_score(y, guess))


def test_a_copy_answers_for_its_neighbour():
    x, y = sample(0)
    assert nearest_neighbour(x, y) < 0.6
    assert nearest_neighbour(np.concatenate([x, x]), np.concatenate([y, y])) == 1


def test_parc_with_correlations_of_rows():
    x, y = sample(1)
    below = np.tril_indices(len(y), k=-1)
    one_hot = np.eye(3)[y]
    expected = stats.spearmanr((1 - np.corrcoef(x))[below], (1 - np.corrcoef(one_hot))[below].round(6))
    assert parc(x, y) == pytest.approx(expected.statistic)


def test_parc_by_hand():
    # Classes ideally apart: of 6 pairs the 2 nearest are within a class. Their ranks are 1.5 on average and
    # those of the others 4.5, each tied: the two orders are the same.
    x = [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 3.0]]
    assert parc(x, [0, 0, 1, 1]) == pytest.approx(1)
    assert parc(np.ones((4, 3)), [0, 0, 1, 1]) == 0


# --- Depth probe -----------------------------------------------------------------------------------------


def test_depth_probe_is_that_of_the_best_stage():
    (noise, y), (good, _) = sample(0), sample(3)
    each = [transferability.depth_probe({"one": x}, y) for x in (noise, good)]
    assert transferability.depth_probe({"stage1": noise, "pool": good}, y) == max(each) == each[1]
    assert each[0] < 0.6


def test_depth_probe_never_learns_from_a_view_of_the_picture_that_it_is_judged_by():
    rng = np.random.default_rng(0)
    pictures, y = rng.normal(size=(30, 60)), np.repeat(np.arange(30) % 2, 4)
    views = np.repeat(pictures, 4, axis=0) + 0.01 * rng.normal(size=(120, 60))
    blind = transferability.depth_probe({"pool": views}, y)
    rows = views.view(type("Rows", (np.ndarray,), {}))
    rows.groups = np.repeat(np.arange(30), 4)
    assert blind > 0.8 > transferability.depth_probe({"pool": rows}, y)


def test_depth_probe_takes_a_store_as_it_is():
    split = tiny_data(train=30).train
    store = features.extract(tiny_net(), split, at=["stem", "pool"])
    by_name = {stage: store[stage] for stage in store.at}
    assert transferability.depth_probe(store, store.labels) == transferability.depth_probe(
        by_name, split.labels
    )


def test_depth_probe_is_near_to_a_probe_by_scikit_learn():
    x, y = sample(0.8, images=150)
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    guess = cross_val_predict(model, x, y, cv=StratifiedKFold(5, shuffle=True, random_state=0))
    expected = balanced_accuracy_score(y, guess)
    assert 0.4 < expected < 0.95
    assert transferability.depth_probe({"pool": x}, y) == pytest.approx(expected, abs=0.06)


# --- The source's head -----------------------------------------------------------------------------------


def test_leep_image_by_image():
    logits, y = sample(1, width=4)
    theta = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    likelihoods = []
    for i in range(len(y)):
        chance = 0.0
        for z in range(4):
            together = sum(theta[j, z] for j in range(len(y)) if y[j] == y[i]) / len(y)
            chance += together / (theta[:, z].sum() / len(y)) * theta[i, z]
        likelihoods.append(log(chance))
    assert leep(logits, y) == pytest.approx(np.mean(likelihoods))


def test_a_head_that_says_nothing_leaves_the_entropy_of_the_labels():
    y = np.array([0, 0, 0, 0, 1, 1])
    expected = -stats.entropy([4, 2])
    assert leep(np.zeros((6, 5)), y) == pytest.approx(expected)
    assert nce(np.zeros(6, dtype=int), y) == pytest.approx(expected)


def test_a_head_that_is_sure_makes_leep_the_negative_conditional_entropy():
    rng = np.random.default_rng(0)
    z, y = rng.integers(4, size=50), rng.integers(3, size=50)
    assert leep(1e3 * np.eye(4)[z], y) == pytest.approx(nce(z, y))


def test_nce_is_mutual_information_minus_entropy():
    rng = np.random.default_rng(0)
    z, y = rng.integers(4, size=50), rng.integers(3, size=50)
    assert nce(z, y) == pytest.approx(mutual_info_score(y, z) - stats.entropy(np.bincount(y)))
    assert nce([5, 5, -1, -1], [0, 0, 1, 1]) == 0


# --- What cannot be scored -------------------------------------------------------------------------------


@pytest.mark.parametrize("score", FROM_FEATURES)
@pytest.mark.parametrize(
    ("features", "labels", "says"),
    [
        (np.ones((4, 2, 2)), [0, 0, 1, 1], r"shape \(4, 2, 2\).*pool"),
        (np.ones((0, 2)), [], "shape"),
        (np.array([[1, 2], [1, 2], [np.nan, 1], [3, 4]]), [0, 0, 1, 1], "1 images.*row 2"),
        (np.eye(4), [0, 0, 1], r"\(3,\).*4 images"),
        (np.eye(4), [0.0, 0.0, 1.0, 1.0], "float64"),
        (np.eye(4), [3, 3, 3, 3], "All 4 labels are 3"),
        (np.eye(4), [0, 0, 0, 9], "Class 9 has one image"),
    ],
)
def test_what_cannot_be_scored_is_told(score, features, labels, says):
    with pytest.raises(LearnerError, match=says):
        score(features, labels)


def test_the_others_say_it_as_well():
    with pytest.raises(LearnerError, match="by the name of their stage"):
        transferability.depth_probe(np.eye(4), [0, 0, 1, 1])
    with pytest.raises(LearnerError, match="row 1"):
        transferability.depth_probe({"pool": [[1.0], [np.inf], [0.0], [0.0]]}, [0, 0, 1, 1])
    with pytest.raises(LearnerError, match="float64"):
        nce([0.5, 0.5, 1.0, 1.0], [0, 0, 1, 1])
    with pytest.raises(LearnerError, match="Class 1 has one image"):
        nce([0, 0, 1], [0, 0, 1])
