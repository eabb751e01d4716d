"""A probe is the optimum that it says it is, its setting is chosen fairly, and bad input is told apart."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from families import few
from PIL import Image
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn

from tlutils import data, models, runtime, surgery
from tlutils.errors import LearnerError
from tlutils.features import extract as features_of
from tlutils.features.rows import with_groups
from tlutils.probe import COARSE_PENALTIES, cross_val_predict, fit_probe, install_head
from tlutils.probe.fitting import assign_folds
from tlutils.probe.linear import fit_logistic


def features(n=120, d=30, classes=3, *, signal=1.0, seed=0, support=None):
    """Features of unlike deviations and means whose first columns lean towards the class."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), support) if support else np.arange(n) % classes
    x = rng.normal(size=(len(y), d))
    x[:, :classes] += signal * np.eye(classes)[y]
    return x * 10 ** rng.uniform(-0.5, 0.5, size=d) + rng.normal(size=d), y


def loss(probe, x, y, penalty, class_weight):
    """The objective, written down once more: weighted cross-entropy plus penalised weights."""
    weights = np.full(len(y), 1 / len(y))
    if class_weight:
        weights = 1 / (np.bincount(y)[y] * len(np.unique(y)))
    entropy = -np.log(probe.predict_proba(x)[np.arange(len(y)), y]) @ weights
    return entropy + penalty / 2 * ((probe.model.weight * x.std(0)[:, None]) ** 2).sum()


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize(("n", "d"), [(120, 30), (24, 200)])
@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_the_probe_is_scikit_learns_logistic_regression(n, d, penalty, class_weight):
    # More features than rows is the case in which the solver works in the space of the rows.
    x, y = features(n, d, support=(n // 2, n // 3, n - n // 2 - n // 3))
    probe = fit_probe(x, y, penalties=[penalty], class_weight=class_weight)
    scaler = StandardScaler().fit(x)
    oracle = LogisticRegression(
        C=1 / (penalty * n), class_weight=class_weight, tol=1e-9, max_iter=20_000
    ).fit(scaler.transform(x), y)
    fresh = features(50, d, seed=1)[0]
    assert np.abs(probe.predict_proba(fresh) - oracle.predict_proba(scaler.transform(fresh))).max() < 1e-4


def test_two_classes_have_two_columns_and_the_same_optimum():
    # The softmax over two classes splits one weight vector in two, each half as long: the penalty doubles.
    x, y = features(classes=2)
    probe = fit_probe(x, y, penalties=[0.1])
    scaler = StandardScaler().fit(x)
    oracle = LogisticRegression(C=2 / (0.1 * len(y)), tol=1e-9, max_iter=10_000).fit(scaler.transform(x), y)
    assert probe.predict_proba(x).shape == (120, 2)
    assert np.abs(probe.predict_proba(x) - oracle.predict_proba(scaler.transform(x))).max() < 1e-4


@pytest.mark.parametrize("classes", [2, 3])
def test_the_objective_is_flat_at_the_probe(classes):
    x, y = features(classes=classes)
    z = torch.from_numpy((x - x.mean(0)) / x.std(0))
    probe = fit_probe(x, y, penalties=[0.05], class_weight=None)
    weight = torch.from_numpy(probe.model.weight * x.std(0)[:, None]).requires_grad_()
    bias = torch.from_numpy(probe.model.bias + x.mean(0) @ probe.model.weight).requires_grad_()
    entropy = torch.nn.functional.cross_entropy(z @ weight + bias, torch.from_numpy(y))
    (entropy + 0.05 / 2 * weight.square().sum()).backward()
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("present", [[0], [0, 2]])
def test_a_class_without_rows_is_never_predicted(present):
    x, y = features(classes=3)
    some = np.isin(y, present)
    (model,) = fit_logistic(x[some], y[some], 3, [0.1], floor=0.0, class_weight="balanced", tolerance=1e-6)
    proba = model.predict_proba(x)
    assert proba[:, present].sum(axis=1) == pytest.approx(1)
    assert (proba.argmax(axis=1) == y)[some].mean() > 0.6


def test_sgd_ends_where_the_solver_does():
    x, y = features(300, 40, support=(150, 100, 50))
    exact = fit_probe(x, y, penalties=[0.05])
    taught = fit_probe(x, y, penalties=[0.05], kind="sgd", epochs=200)
    assert np.abs(exact.predict_proba(x) - taught.predict_proba(x)).max() < 0.02
    best, reached = (loss(p, x, y, 0.05, "balanced") for p in (exact, taught))
    assert best <= reached <= best + 1e-3
    assert reached == pytest.approx(taught.losses[-1])
    assert taught.losses[0] > taught.losses[-1]


def test_neighbours_are_those_of_scikit_learn():
    x, y = features()
    fresh, _ = features(40, seed=1)
    scaler = StandardScaler().fit(x)
    oracle = KNeighborsClassifier(5, metric="cosine").fit(scaler.transform(x), y)
    right = oracle.predict_proba(scaler.transform(fresh))
    got = fit_probe(x, y, kind="knn", n_neighbors=[5]).predict_proba(fresh)
    assert got == pytest.approx((5 * right + 1 / 3) / 6)


def test_of_rows_that_are_equally_near_the_first_votes():
    # Every row stands here twice, under two labels: a neighbour's vote is that of the row that came first.
    x, y = features(60)
    twice, labels = np.vstack([x, x]), np.concatenate([y, (y + 1) % 3])
    fresh, _ = features(200, seed=1)
    for k in (1, 3, 20):
        got = fit_probe(twice, labels, kind="knn", n_neighbors=[k]).predict_proba(fresh)
        bank, asking = (StandardScaler().fit(x).transform(z) for z in (twice, fresh))
        alike = cosine_similarity(asking, bank)
        nearest = [sorted(range(120), key=lambda j: (-round(row[j], 9), j))[:k] for row in alike]
        votes = np.eye(3)[labels[np.array(nearest)]].sum(1)
        assert got == pytest.approx((votes + 1 / 3) / (k + 1))


def test_the_penalty_is_chosen_on_rows_that_were_held_out():
    rng = np.random.default_rng(0)
    noise, y = rng.normal(size=(60, 300)), np.arange(60) % 2
    probe = fit_probe(noise, y)
    # In training a weak penalty looks perfect on noise; held out, only strong ones are no worse than chance.
    assert probe.setting >= 1
    assert (fit_probe(noise, y, penalties=[1e-3]).predict(noise) == y).all()
    clear, y = features(300, 10, signal=4.0)
    assert fit_probe(clear, y).setting < 1


def test_the_table_is_what_one_gets_by_holding_out_by_hand():
    x, y = features(50, 12)
    table = fit_probe(x, y, penalties=[0.1, 1.0], class_weight=None, folds=4, seed=3).cv
    fold = assign_folds(y, np.arange(50), 4, 3)
    for _, row in table.iterrows():
        proba = np.empty((50, 3))
        for k in range(4):
            inner = fit_probe(x[fold != k], y[fold != k], penalties=[row["penalty"]], class_weight=None)
            proba[fold == k] = inner.predict_proba(x[fold == k])
        assert row["log_loss"] == pytest.approx(-np.log(proba[np.arange(50), y]).mean(), rel=1e-3)
    assert table.loc[table["chosen"], "log_loss"].item() == table["log_loss"].min()


def test_each_class_is_spread_over_the_folds_and_a_single_row_is_never_held_out():
    y = np.array([0] * 23 + [1] * 10 + [2] * 2 + [3])
    fold = assign_folds(y, np.arange(36), 5, 0)
    assert fold[y == 3].tolist() == [-1]
    assert sorted(np.bincount(fold[y == 0], minlength=5)) == [4, 4, 5, 5, 5]
    assert np.bincount(fold[y == 1], minlength=5).tolist() == [2] * 5
    assert len(set(fold[y == 2])) == 2
    assert not np.array_equal(fold, assign_folds(y, np.arange(36), 5, 1))


def test_few_rows_are_enough():
    x, y = features(support=(9, 2, 1))
    assert set(fit_probe(x, y).predict(x)) == {0, 1, 2}
    one_each = fit_probe(x[[0, 9, 11]], y[[0, 9, 11]])
    assert one_each.cv.empty
    assert (one_each.predict(x[[0, 9, 11]]) == [0, 1, 2]).all()
    for kind in ("knn", "sgd"):
        assert fit_probe(x[[0, 1, 9, 11]], y[[0, 1, 9, 11]], kind=kind).predict_proba(x).shape == (12, 3)


def test_rare_classes_count_alike_when_balanced_and_not_otherwise():
    fresh, truth = features(400, classes=2, signal=0.7, seed=0)
    x, y = np.vstack([fresh[truth == 0][:190], fresh[truth == 1][:10]]), np.repeat([0, 1], (190, 10))
    recall = {
        weights: fit_probe(x, y, class_weight=weights).predict(fresh)[truth == 1].mean()
        for weights in ("balanced", None)
    }
    assert recall["balanced"] > recall[None] + 0.2


def test_units_and_constant_features_do_not_matter():
    x, y = features()
    plain = fit_probe(x, y, penalties=[0.1]).predict_proba(x)
    stretched = x * 1e4 + 7
    with_constants = np.hstack([stretched, np.full((len(x), 2), 0.1), np.zeros((len(x), 1))])
    for kind in ("logistic", "knn", "sgd"):
        assert np.isfinite(fit_probe(with_constants, y, kind=kind).predict_proba(with_constants)).all()
    assert fit_probe(with_constants, y, penalties=[0.1]).predict_proba(with_constants) == pytest.approx(
        plain, abs=1e-5
    )


def test_a_feature_that_sleeps_through_training_cannot_outvote_all_others():
    x, y = features(signal=3.0)
    asleep = np.random.default_rng(0).normal(scale=1e-5, size=(len(x), 5))
    probe = fit_probe(np.hstack([x, asleep]), y)
    awake = np.hstack([x, np.full((len(x), 5), 0.1)])
    assert (
        probe.report(awake, y).log_loss.value < 1.5 * probe.report(np.hstack([x, asleep]), y).log_loss.value
    )


def test_features_that_never_vary_leave_the_classes_equally_likely():
    y = np.arange(12) % 3
    for kind in ("logistic", "sgd"):
        assert fit_probe(np.ones((12, 4)), y, kind=kind).predict_proba(np.ones((2, 4))) == pytest.approx(
            1 / 3
        )


def test_float32_tensors_and_arrays_give_the_same_probe():
    x, y = features()
    small = (x / np.abs(x).max(0)).astype(np.float32)
    one = fit_probe(small, y).predict_proba(small)
    assert np.array_equal(one, fit_probe(torch.from_numpy(small), torch.from_numpy(y)).predict_proba(small))
    assert one == pytest.approx(fit_probe(small.astype(np.float64), y).predict_proba(small))


def test_the_head_is_the_probe_as_a_layer():
    x, y = features()
    state = torch.get_rng_state()
    probe = fit_probe(x, y)
    with torch.no_grad():
        logits = probe.head().double()(torch.from_numpy(x))
    assert softmax(logits.numpy(), axis=1) == pytest.approx(probe.predict_proba(x), abs=1e-3)
    assert torch.equal(state, torch.get_rng_state()), "fitting draws nothing from the global generator"
    with pytest.raises(LearnerError, match="logistic"):
        fit_probe(x, y, kind="knn").head()


@pytest.mark.parametrize("kind", ["logistic", "knn", "sgd"])
def test_the_same_seed_gives_the_same_probe(kind):
    x, y = features(signal=0.5)
    one, two = (fit_probe(x, y, kind=kind, seed=4) for _ in range(2))
    assert np.array_equal(one.predict_proba(x), two.predict_proba(x))
    assert one.cv.equals(two.cv)
    assert not one.cv.equals(fit_probe(x, y, kind=kind, seed=5).cv)


def test_a_probe_reports_on_new_images_reads_well_and_pickles():
    x, y = features(signal=3.0)
    probe = fit_probe(x, y, classes=["ant", "bee", "cat"])
    fresh, truth = features(signal=3.0, seed=0)
    report = probe.report(fresh, truth)
    assert report.accuracy.value == (probe.predict(fresh) == truth).mean()
    assert report.classes == ["ant", "bee", "cat"]
    assert "penalty" in repr(probe)
    assert not re.search(r"0x[0-9a-f]{6,}", repr(probe))
    assert np.array_equal(pickle.loads(pickle.dumps(probe)).predict_proba(x), probe.predict_proba(x))


X, Y = features(12, 4)


@pytest.mark.parametrize(
    ("x", "y", "options", "says"),
    [
        (X, Y[:-1], {}, "12 rows of features and 11 labels"),
        (X, np.zeros(12, int), {}, "one class"),
        (X, Y * 2, {}, "no rows to learn from: '1', '3'"),
        (X, Y, {"classes": ["a", "b", "c", "d"]}, "'d'"),
        (X, Y, {"classes": ["a", "b"]}, "0 to 1"),
        (X, Y - 1, {}, "from -1"),
        (np.where(np.arange(12)[:, None] == 5, np.nan, X), Y, {}, "row 5"),
        (X.reshape(12, 2, 2), Y, {}, "pool"),
        (X[:0], Y[:0], {}, "Features of shape"),
        (X, Y.astype(float), {}, "integers"),
        (X, Y, {"kind": "knm"}, "knn"),
        (X, Y, {"penalties": []}, "positive"),
        (X, Y, {"penalties": [0.0]}, "positive"),
        (X, Y, {"folds": 1}, "2 folds"),
    ],
)
def test_what_does_not_fit_is_said_in_words(x, y, options, says):
    with pytest.raises(LearnerError, match=re.escape(says)):
        fit_probe(x, y, **options)


def test_features_of_another_width_are_said_in_words():
    with pytest.raises(LearnerError, match="4 features"):
        fit_probe(X, Y).predict(X[:, :3])


# --- each feature in its own unit ---


@pytest.mark.parametrize("kind", ["logistic", "knn", "sgd"])
@pytest.mark.parametrize("unit", few([1e-9, 1e-3, 3e4], 1e-9), ids="{:g}".format)
def test_the_unit_of_a_block_of_features_does_not_matter(kind, unit):
    # Five loud features know nothing, and two in another unit know all.
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    x = np.hstack([20 * rng.normal(size=(80, 5)), rng.normal(size=(80, 2)) + 4 * y[:, None]])
    options = {"kind": kind, "penalties": [0.01, 0.1], "epochs": 20}
    plain = fit_probe(x[:40], y[:40], **options).predict(x[40:])
    x[:, 5:] *= unit
    assert (fit_probe(x[:40], y[:40], **options).predict(x[40:]) == plain).all()
    assert (plain == y[40:]).mean() > 0.9


@pytest.mark.parametrize("kind", ["logistic", "sgd", "knn"])
@pytest.mark.parametrize("rows", [12, 60])
def test_features_that_say_nothing_give_every_class_its_share(kind, rows):
    """As those of a network that a large rate has wrecked: the same for every image."""
    y = np.arange(rows) % 3
    fitted = fit_probe(np.full((rows, 30), 0.7), y, kind=kind)
    assert fitted.predict_proba(np.full((2, 30), 0.7)) == pytest.approx(np.full((2, 3), 1 / 3), abs=0.2)


@pytest.mark.parametrize(
    "still",
    few([np.float32(0.1), np.float32(-7e5), 0.1, 1e12], np.float32(-7e5), 1e12),
)
def test_what_rounding_leaves_of_a_constant_is_no_feature(still):
    x, y = features(signal=3.0)
    x = x.astype(np.asarray(still).dtype)
    noisy = np.full((len(x), 4), still)
    for column in range(4):  # one of the neighbouring numbers
        noisy[column::7, column] = np.nextafter(still, still * 2)
    probe = fit_probe(np.hstack([x, noisy]), y)
    fresh = np.hstack([x, noisy * np.asarray(1.001, noisy.dtype)])
    assert np.allclose(probe.predict_proba(fresh), fit_probe(x, y).predict_proba(x), atol=1e-4)


# --- rows that belong together ---


def pictures(count, views, *, classes=2, seed=0):
    """Views of pictures that say nothing of their classes: each view is its picture, and a little noise."""
    rng = np.random.default_rng(seed)
    picture = np.repeat(np.arange(count), views)
    return rng.normal(size=(count, 20))[picture] + 0.1 * rng.normal(
        size=(len(picture), 20)
    ), picture % classes, picture  # fmt: skip


def judged(probe):
    return probe.cv.loc[probe.cv["chosen"], "balanced_accuracy"].item()


@pytest.mark.parametrize("kind", ["logistic", "knn", "sgd"])
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(lambda g: g, marks=pytest.mark.full),
        lambda g: [f"patient {i}" for i in g],
        pytest.param(lambda g: g - 0.5, marks=pytest.mark.full),
    ],
)
def test_rows_of_one_group_are_never_on_both_sides(kind, names):
    x, y, picture = pictures(60, 4)
    alone = fit_probe(x, y, kind=kind, epochs=1)
    together = fit_probe(x, y, kind=kind, epochs=1, groups=names(picture))
    assert judged(together) < 0.65
    if kind == "knn":
        assert judged(alone) > 0.85


def test_a_group_is_in_one_fold_also_when_it_spans_classes_and_a_classs_only_group_is_never_held_out():
    rng = np.random.default_rng(0)
    groups, y = rng.integers(15, size=80), rng.integers(3, size=80)
    groups[y == 2] = 99
    fold = assign_folds(y, np.unique(groups, return_inverse=True)[1], 5, 0)
    assert all(len(set(fold[groups == g])) == 1 for g in groups)
    assert (fold[groups == 99] == -1).all()
    assert set(fold) == {-1, 0, 1, 2, 3, 4}


def test_rows_are_judged_by_a_probe_that_saw_nothing_of_their_picture_nor_chose_its_penalty_by_them():
    """Views of pictures without meaning are known from their neighbours, unless these are held out, too."""
    x, y, picture = pictures(30, 4)
    told, alone = (
        np.mean(cross_val_predict(rows, y, **given).argmax(axis=1) == y)
        for rows, given in ((with_groups(x, picture), {}), (x, {"groups": np.arange(120)}))
    )
    assert told < 0.65 < 0.7 < alone
    fold = assign_folds(y, picture, 3, 5)
    held, learn = fold == 1, fold != 1
    options = {"groups": picture[learn], "penalties": COARSE_PENALTIES, "folds": 3, "seed": 5}
    one = fit_probe(x[learn], y[learn], class_weight=None, **options)
    found = cross_val_predict(x, y, groups=picture, class_weight=None, seed=5)
    assert np.array_equal(found[held], one.predict_proba(x[held]))


def test_groups_that_do_not_fit_are_refused():
    x, y = features()
    for groups in (np.arange(5), np.zeros((len(y), 2)), "one"):
        with pytest.raises(LearnerError, match="Groups of shape"):
            fit_probe(x, y, groups=groups)


class Copies:
    """Twenty pictures without meaning, each three times."""

    def __init__(self):
        self.groups = [i % 20 for i in range(60)]
        self.labels = [g % 2 for g in self.groups]
        self.classes, self.fingerprint = ["a", "b"], "copies"

    def __len__(self):
        return 60

    def __getitem__(self, i):
        pixels = np.random.default_rng(self.groups[i]).integers(256, size=(4, 4, 3), dtype=np.uint8)
        return Image.fromarray(pixels).resize((16, 16)), self.labels[i]


@pytest.fixture(scope="module")
def flat():
    """A network whose pooled features are some pixels."""
    with runtime.seeded(0):
        network = nn.Sequential(nn.Conv2d(3, 48, 4, 4), nn.Flatten(), nn.Linear(768, 2))
    return models.describe(network, input_size=(3, 16, 16))


def test_a_store_knows_the_views_and_the_copies_of_a_picture(flat):
    split = Copies()
    (first, *_) = surgery.stages(flat).names
    transform = data.transform_for(flat, train=True)
    copies = features_of(flat, split, at=first)
    views = features_of(flat, split, at=first, transform=transform, views=2)
    assert copies.groups.tolist() == split.groups
    assert views.groups.tolist() == list(np.repeat(split.groups, 2))
    for store in (copies, views):
        x = store[first]
        leaking = judged(fit_probe(np.asarray(x), store.labels, kind="knn"))
        assert leaking > 0.8
        assert judged(fit_probe(x, store.labels, kind="knn")) < leaking - 0.1
        some = np.random.default_rng(0).permutation(len(x))[:50]
        assert x[some].groups.tolist() == store.groups[some].tolist()
        assert x[store.labels == 1, 3:].groups.tolist() == store.groups[store.labels == 1].tolist()
        assert (2 * x + 1)[::-2].groups.tolist() == store.groups[::-2].tolist()
        assert x[3:5].groups.tolist() == store.groups[3:5].tolist()
        assert x.T.groups is None
        assert x.mean(axis=0).ndim == 1


PICKED = {
    "take": lambda x: x.take([4, 0], axis=0),
    "a function that takes": lambda x: np.take(x, [4, 0], axis=-2),
    "compress": lambda x: x.compress(np.arange(60) % 3 == 0, axis=0),
    "repeat": lambda x: x.repeat(2, axis=0),
    "copy": lambda x: x.copy(),
    "a copy of all within": copy.deepcopy,
    "a shallow copy": copy.copy,
    "another number type": lambda x: x.astype(np.float64),
    "the same number type": lambda x: x.astype(x.dtype, copy=False),
    "pickled": lambda x: pickle.loads(pickle.dumps(x)),
    "some columns": lambda x: x[..., :5],
    "turned round": lambda x: np.flip(x, axis=0),
}


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Rows, each of which says in its first column of which picture it is."""
    numbers = np.arange(60) % 20
    place = tmp_path_factory.mktemp("rows") / "rows"
    rows = np.memmap(place, mode="w+", shape=(60, 8), dtype=np.float32)
    rows[:] = np.random.default_rng(0).normal(size=(60, 8))
    rows[:, 0] = numbers
    return with_groups(rows, numbers)


@pytest.mark.parametrize("pick", PICKED)
def test_rows_know_their_picture_however_they_are_picked_and_copied(copies, pick):
    picked = PICKED[pick](copies)
    assert picked.groups.tolist() == np.asarray(picked)[:, 0].astype(int).tolist()


def test_a_report_counts_the_rows_of_one_picture_once_as_the_fit_does():
    x, y, picture = pictures(20, 6)
    known, fitted = with_groups(x, picture), fit_probe(x, y, penalties=[3.0])
    once, each = fitted.report(known, y), fitted.report(x, y)
    assert str(once) == str(fitted.report(x, y, groups=picture))
    assert np.ptp(once.accuracy) > 1.5 * np.ptp(each.accuracy)
    assert str(fitted.report(known, y, groups=range(120))) == str(each)


@pytest.mark.parametrize(
    "loses",
    [
        lambda x: x.reshape(60, -1),
        lambda x: np.delete(x, 0, axis=1),
        lambda x: np.nan_to_num(x),
        lambda x: np.roll(x, 1, axis=0),
    ],
    ids=["reshape", "delete", "nan_to_num", "roll"],
)
def test_a_probe_says_that_rows_have_lost_their_pictures(copies, loses, caplog):
    y = np.arange(60) % 20 % 2
    fit_probe(copies, y, penalties=[1.0])
    fit_probe(np.asarray(copies), y, penalties=[1.0])
    assert "groups=" not in caplog.text
    lost = loses(copies)
    assert lost.groups is None
    fit_probe(lost, y, penalties=[1.0], groups=copies.groups)
    assert "groups=" not in caplog.text
    fit_probe(lost, y, penalties=[1.0])
    assert "groups=store.groups" in caplog.text


@pytest.mark.parametrize("x", [np.ones((4, 2)) * 1j, torch.ones(4, 2) * 1j, [[1j, 2], [3, 4]]])
def test_complex_features_are_refused(x):
    with pytest.raises(LearnerError, match="complex"):
        fit_probe(x, [0, 1, 0, 1])


def test_a_split_of_a_folder_knows_its_copies(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(6):
            pixels = rng.integers(256, size=(5, 5, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels).resize((60, 60), Image.Resampling.BICUBIC)
            picture.save(tmp_path / label / f"{i}.png")
            if i < 2:
                picture.save(tmp_path / label / f"{i}.jpg", quality=60)
    train = data.load(tmp_path).train
    numbers = {path.name + path.parent.name: g for path, g in zip(train.paths, train.groups, strict=True)}
    assert numbers["0.pnga"] == numbers["0.jpga"] != numbers["1.pnga"]
    assert len(set(train.groups)) == len(train) - 4
    assert train.select([3, 0]).groups == [train.groups[3], train.groups[0]]


class Scaled(nn.Module):
    """A linear classifier of pictures, whose scores are multiplied at the end."""

    def __init__(self, head, factor=1.0):
        super().__init__()
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head, self.factor = head, factor

    def forward(self, x):
        return self.factor * self.head(self.body(x))


@pytest.mark.parametrize(
    ("head", "factor", "changes", "words"),
    [
        (nn.Linear(12, 10), 1.0, {}, ""),
        (nn.Linear(12, 10, bias=False), 1.0, {}, "does not give the probe's answers"),
        (nn.Linear(12, 10), 0.1, {}, "does not give the probe's answers"),
        (nn.Linear(12, 9), 1.0, {}, "which has 12 features and 9 classes; the probe has 12 features and 10"),
        (nn.Linear(12, 10), 1.0, {"kind": "knn"}, "Neighbours have no weights"),
    ],
)
def test_a_probe_becomes_the_head_where_the_network_then_answers_alike_and_else_changes_nothing(
    head, factor, changes, words
):
    few = data.load("digits").train.subsample(4)
    model = models.describe(Scaled(head, factor), input_size=(3, 16, 16), mean=0.5, std=0.5).eval()
    at = surgery.stages(model).embedding
    x = features_of(model, few, at=at)[at]
    found = fit_probe(x, few.labels, classes=few.classes, folds=2, **changes)
    before = head.weight.clone()
    if words:
        with pytest.raises(LearnerError, match=words):
            install_head(model, found, few)
        assert torch.equal(head.weight, before)
    else:
        install_head(model, found, few)
        picture = torch.rand(1, 3, 16, 16)
        said = model(picture).softmax(1).detach().numpy()
        assert np.allclose(said, found.predict_proba(model.body(picture).numpy()), atol=1e-4)
