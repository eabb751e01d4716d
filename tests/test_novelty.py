"""Images unlike the training images are noticed, false alarms are as rare as promised, groups count once."""

import numpy as np
import pytest

from tlutils import data, features, models, novelty
from tlutils.errors import LearnerError
from tlutils.features.rows import with_groups


def draws(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    """Embeddings around one direction, or around another."""
    rows = np.random.default_rng(seed).normal(size=(count, 6))
    rows[:, 0] += 4
    rows[:, 1] += shift
    return rows


@pytest.fixture(scope="module")
def photographs():
    """Embeddings of photographs to learn from and of others of their kind, and of digits."""
    model = models.load(models.DEFAULT, input_size=96)
    cells = data.load("elpv-wafers")
    splits = cells.train.subsample(50), cells.val.subsample(20), data.load("digits").val.subsample(4)
    return [np.asarray(features.extract(model, split, at="pool")["pool"]) for split in splits]


def test_digits_look_unlike_photographs_and_other_photographs_do_not(photographs):
    known, near, far = photographs
    detector = novelty.fit_detector(known)
    assert detector.unlike(far).mean() > 0.9
    assert detector.unlike(near).mean() < 0.2
    assert detector.compare(far).shifted
    assert not detector.compare(near).shifted
    assert "more than chance explains" in str(detector.compare(far))


def test_of_images_of_the_same_kind_as_many_look_unlike_as_was_promised():
    shares, shifted = [], []
    for seed in range(200):
        detector = novelty.fit_detector(draws(seed, 120), false_alarm_rate=0.1)
        found = detector.compare(draws(1000 + seed, 40))
        shares.append(found.share)
        shifted.append(found.shifted)
        assert found.expected.low <= found.expected.value <= found.expected.high
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)
    assert np.mean(shifted) <= 0.06


def test_a_network_that_learned_the_images_is_judged_by_images_held_out():
    """Training draws the embeddings of its own images together; only others show how far new ones lie."""
    known, held, new = draws(0, 200) * [1, 0.3, 0.3, 0.3, 0.3, 0.3], draws(1, 200), draws(2, 400)
    assert novelty.fit_detector(known).unlike(new).mean() > 0.3
    assert novelty.fit_detector(known, held_out=held).unlike(new).mean() == pytest.approx(0.05, abs=0.03)


def test_frames_of_one_video_are_not_held_out_against_each_other():
    videos = np.repeat(draws(0, 100), 3, axis=0) + 0.01 * draws(1, 300)
    groups, new = np.repeat(np.arange(100), 3), draws(2, 200)
    assert novelty.fit_detector(videos, n_neighbors=1).unlike(new).mean() > 0.5
    detector = novelty.fit_detector(videos, n_neighbors=1, groups=groups, false_alarm_rate=0.1)
    assert len(detector.held_out_scores) == 100
    assert detector.unlike(new).mean() == pytest.approx(0.1, abs=0.07)


def test_of_the_images_of_one_group_one_counts():
    detector = novelty.fit_detector(draws(0, 100))
    stranger = np.repeat(draws(1, 1, shift=-20), 30, axis=0)
    found = detector.compare(stranger, groups=["one video"] * 30)
    assert (found.images, found.unlike) == (1, 1)
    assert found.p_value > 0.01
    assert detector.compare(stranger).p_value < 1e-6


def test_embeddings_that_know_their_groups_are_compared_by_them():
    detector, groups = novelty.fit_detector(draws(0, 100)), np.repeat(np.arange(10), 3)
    videos = with_groups(np.repeat(draws(1, 10, shift=-20), 3, axis=0), groups)
    assert detector.compare(videos) == detector.compare(np.asarray(videos), groups=groups)
    assert detector.compare(videos).images == 10
    assert detector.compare(videos, groups=range(30)).images == 30


def test_with_too_few_held_out_images_nothing_is_called_unlike():
    detector = novelty.fit_detector(draws(0, 15))
    assert detector.threshold == float("inf")
    assert not detector.unlike(draws(1, 5, shift=-50)).any()
    assert detector.compare(draws(1, 5, shift=-50)).p_value == 1


@pytest.mark.parametrize("rate", [0.03, 0.05, 0.1, 0.15, 1 / 3, 0.4, 0.7])
def test_as_many_held_out_images_as_are_asked_for_are_enough_and_one_fewer_is_not(rate):
    def detector(held_out):
        return novelty.Detector(np.eye(2, dtype=np.float32), 1, np.zeros(held_out), rate)

    needed = detector(0).held_out_needed
    assert detector(needed).threshold < float("inf")
    assert not needed or detector(needed - 1).threshold == float("inf")
    assert needed == next(n for n in range(99) if rate * (n + 1) > 1 - 1e-6)


def test_the_p_values_the_verdict_and_the_threshold_agree():
    detector = novelty.fit_detector(draws(0, 80), false_alarm_rate=0.1)
    new = draws(1, 60, shift=2)
    assert detector.unlike(new).tolist() == (detector.scores(new) > detector.threshold).tolist()
    assert ((detector.p_values(new) <= 0.1) == detector.unlike(new)).all()


def test_the_score_is_the_distance_to_the_kth_nearest_of_unit_length():
    bank, x = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]), [[5.0, 0.0]]
    for k, distance in ((1, 0.0), (2, 2**0.5), (3, 2.0)):
        found = novelty.fit_detector(bank, held_out=bank, n_neighbors=k).scores(x)[0]
        assert found == pytest.approx(distance, abs=1e-6)


def test_a_saved_detector_gives_the_same_scores(tmp_path):
    detector = novelty.fit_detector(draws(0, 60), n_neighbors=3, false_alarm_rate=0.1)
    again = novelty.load_detector(detector.save(tmp_path / "embeddings.safetensors"))
    assert np.array_equal(again.scores(draws(1, 9)), detector.scores(draws(1, 9)))
    assert (again.threshold, again.n_neighbors, again.false_alarm_rate) == (detector.threshold, 3, 0.1)


@pytest.mark.parametrize("content", [b"", b"not a tensor", None])
def test_a_file_of_something_else_is_named(tmp_path, content):
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LearnerError, match="cannot be read as embeddings"):
        novelty.load_detector(path)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: novelty.fit_detector(np.zeros(4)), "shape"),
        (lambda: novelty.fit_detector([[np.nan, 1.0]]), "NaN"),
        (lambda: novelty.fit_detector(draws(0, 9), groups=["a"] * 9), "two groups"),
        (lambda: novelty.fit_detector(draws(0, 9), groups=["a"]), "number or name for each"),
        (lambda: novelty.fit_detector(draws(0, 9), false_alarm_rate=1.0), "false_alarm_rate"),
        (lambda: novelty.fit_detector(draws(0, 9)).scores([[1.0]]), "6"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(build, says):
    with pytest.raises(LearnerError, match=says):
        build()
