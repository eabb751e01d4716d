"""Lesson 05: what it writes out is what the library does; its explorer says what it sees."""

from pathlib import Path

import nbformat
import numpy as np
import pytest

from tlutils import claims, models, transferability, widgets
from tlutils.errors import LearnerError
from tlutils.intervals import two_way_mean

LESSON = Path(__file__).parent.parent / "notebooks" / "05_decision_matrix.ipynb"
DEFINING = ("import", "from", "DATASET", "def distance", "def two_way", "def small_network")


@pytest.fixture(scope="module")
def lesson():
    """The names that the lesson defines: its imports, settings and functions; nothing is measured."""
    scope = {}
    for cell in nbformat.read(LESSON, as_version=4).cells:
        if cell.cell_type == "code" and cell.source.startswith(DEFINING):
            exec(cell.source, scope)
    return scope


@pytest.fixture(scope="module")
def known():
    return claims.evidence()


def test_the_distance_that_is_written_out_is_that_of_the_library(lesson):
    model = models.load(models.DEFAULT, input_size=96)
    pictures = claims.draw_images("mnist-5k", 12, 0)
    written = lesson["distance"](model, [image for image, _ in pictures])
    assert written == pytest.approx(transferability.domain_distance(model, pictures).value, rel=0.01)
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("seed", range(12))
def test_the_interval_that_is_written_out_is_that_of_the_library(lesson, seed):
    rng = np.random.default_rng(seed)
    hits = (rng.random((2 + seed % 4, 30)) < rng.random(30)).astype(float)
    assert lesson["two_way"](hits) == pytest.approx(tuple(two_way_mean(hits).interval()))


def test_the_small_network_is_that_of_the_study(lesson):
    from tlutils.claims.materials import small_network

    shapes = [
        [tuple(p.shape) for p in net.parameters()]
        for net in (lesson["small_network"](10), small_network(10, 0))
    ]
    assert shapes[0] == shapes[1]


def test_the_explorer_reads_advice_and_evidence_from_the_committed_runs(known):
    explorer = widgets.explore_decision_matrix(distance=0.3, images=50)
    for table in ("lecture", "slides", "notes"):
        verdict = claims.evaluate_claim(f"{table}-little-different", known)
        assert f"“{verdict.claim.says}” Measured: {verdict.verdict}." in explorer.screen.message
    assert "Nearest measured: " in explorer.screen.message
    explorer.set(distance=0.02, images=1000)
    assert explorer.screen.message.startswith("Distance 0.02, 1000 images: lots (200 or more), similar.")
    explorer.controls["distance"].value = 0.5
    assert "lots (200 or more), different" in explorer.screen.message
    assert "take this with care" in explorer.screen.message


def test_lots_of_images_begin_at_one_number_for_the_explorer_and_the_study(known):
    explorer = widgets.explore_decision_matrix(distance=0.3)
    for images, words in ((150, "150 images: little (below 200)"), (200, "200 images: lots (200 or more)")):
        explorer.set(images=images)
        assert words in explorer.screen.message
    runs = known.runs.query("protocol == 'training'")
    assert runs["labels"][runs["level"] == "lots"].map(claims.is_many).all()
    assert not runs["labels"][runs["level"] == "little"].map(claims.is_many).any()


def test_the_explorer_follows_other_runs(known):
    scratch = (known.runs["strategy"] == "scratch") & (known.runs["level"] == "lots")
    hits = known.runs["hits"].where(~scratch, known.runs["hits"].str.replace("0", "1"))
    other = claims.Evidence(known.runs.assign(hits=hits), known.images)
    explorer = widgets.explore_decision_matrix(other, distance=0.3, images=300)
    says = claims.claim("notes-lots-different").says
    assert f"“{says}” Measured: {claims.REVERSED}." in explorer.screen.message
    assert "the best mean there is from scratch, 1.00" in explorer.screen.message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"distance": -1.0}, "0 or more"),
        ({"distance": float("nan")}, "0 or more"),
        ({"images": 0}, "at least 1 image"),
    ],
)
def test_the_explorer_refuses_in_words(options, says):
    with pytest.raises(LearnerError, match=says):
        widgets.explore_decision_matrix(**options)


def test_where_runs_are_missing_the_explorer_says_what_it_needs(known):
    with pytest.raises(LearnerError, match="Expected the table"):
        widgets.explore_decision_matrix(
            claims.Evidence(known.runs[known.runs["level"] != "little"], known.images)
        )
