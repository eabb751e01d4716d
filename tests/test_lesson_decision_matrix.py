"""Lesson 05: what it writes out is what the library does; its checks and its explorer say what they see."""

from pathlib import Path

import nbformat
import numpy as np
import pytest

from tlutils import claims, experiments, models, transferability, widgets
from tlutils.checks import lesson_05
from tlutils.claims import materials, probing, training
from tlutils.errors import LearnerError

LESSON = Path(__file__).parent.parent / "notebooks" / "05_decision_matrix.ipynb"
CELLS = ["import", "from", "DATASET", "PENALTIES", "STAGES", "ADVICE", "nets", "@cache"]
DEFINING = (*CELLS, "def distance", "def balanced", "def verdict")


@pytest.fixture(scope="module")
def lesson():
    """The names that the lesson defines: its imports, settings and functions; nothing is measured."""
    scope = {}
    for cell in nbformat.read(LESSON, as_version=4).cells:
        if cell.cell_type == "code" and cell.source.startswith(DEFINING):
            with experiments.limited(1):  # the lesson sets the threads of its own process
                exec(cell.source, scope)
    return scope


def test_little_and_lots_are_those_of_the_claims(lesson):
    for name, (pixels, little, lots, held) in lesson["SETTINGS"].items():
        assert claims.QUICK.images[name] == {"little": little, "lots": lots}
        assert (materials.MATERIALS[name].size, materials.MATERIALS[name].held_out) == (pixels, held)
    pixels, little, lots, held = lesson["OTHERWISE"]
    assert claims.QUICK.images["elpv-defects"] == {"little": little, "lots": lots}
    own = materials.MATERIALS["elpv-defects"]
    assert (own.size, own.held_out) == (pixels, held)


def test_the_distance_that_is_written_out_is_that_of_the_library(lesson):
    model = models.load(models.DEFAULT, input_size=96)
    pictures = lesson["claims"].draw_images("mnist-5k", 12, 0)
    written = lesson["distance"](model, [image for image, _ in pictures])
    assert written == pytest.approx(transferability.domain_distance(model, pictures).value, rel=0.01)
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(("column", "stage", "said"), [("far", "stage5", "stage5"), ("near", "pool", "pool")])
def test_a_probe_of_the_lesson_scores_as_that_of_the_claims(lesson, column, stage, said):
    _, cv, score = lesson["probed"](column, "little", 1)[stage]
    axes = {"dataset": lesson["COLUMNS"][column], "backbone": materials.BACKBONE, "at": said}
    theirs = probing.linear_probe(**axes, level="little", images=3, seed=1)
    assert (cv, score) == (pytest.approx(theirs["cv"]), pytest.approx(theirs["score"]))


def test_a_training_of_the_lesson_does_what_that_of_the_claims_does(lesson):
    _, score = lesson["trained"]("near", "little", "partial", 0)
    axes = {"dataset": "scenes", "strategy": "few", "level": "little", "images": 3}
    theirs = training.training(**axes, epochs=8, rate=training.RATE, seed=0)
    assert score == pytest.approx(
        theirs["score"], abs=0.04
    )  # in another order of memory, so not to the digit


@pytest.mark.parametrize("seed", range(12))
def test_the_verdict_that_is_written_out_is_that_of_the_claims(lesson, seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0.7 + 0.02 * (seed - 5), 0.02, 5), rng.normal(0.7, 0.02, 3)
    found = lesson["verdict"](first, second, 0.01)
    estimate = experiments.interval(first[:3] - second)
    assert (found["effect"], found["low"], found["high"]) == pytest.approx(tuple(estimate))
    assert found["verdict"] == claims.decide(estimate, 0.01)


def test_each_piece_of_advice_is_a_claim_with_its_threshold(lesson):
    words = {"near": "similar", "far": "different"}
    for name, (first, second, threshold) in lesson["ADVICE"].items():
        table, level, column = name.partition(":")[0].split(", ")
        scratch = "-scratch" * ("scratch" in name)
        claim = claims.claim(f"{table}-{level}-{words[column]}{scratch}")
        assert claim.threshold == pytest.approx(threshold), name
        strategies = [mean.axes.get("strategy", "probe") for mean in claim.effect.means()]
        kinds = {"partial": "few", "earlier": "probe", "picked": "probe"}
        if name != "slides, lots, far":  # more layers there are all of them here
            assert [kinds.get(s, s) for s in (first.split()[2], second.split()[2])] == strategies, name
    ids = {
        claim.id for claim in claims.CLAIMS.values() if claim.id.startswith(("lecture", "slides", "notes"))
    }
    assert len(lesson["ADVICE"]) == len(ids)


def unpaired(scores):
    best = max(scores, key=lambda name: scores[name].mean())
    floor = experiments.interval(scores[best]).low
    return next(name for name in scores if experiments.interval(scores[name]).high >= floor)


@pytest.mark.parametrize(
    ("choose", "says"),
    [
        (None, "Not written yet"),
        (unpaired, "Subtract seed by seed"),
        (lambda scores: max(scores, key=lambda name: scores[name].mean()), "by the mean alone"),
        (lambda scores: max(scores, key=lambda name: scores[name].max()), "lucky seed"),
        (lambda scores: next(iter(scores)), "keep the cheapest"),
        (lambda scores: 0, "Expected one of probe"),
        (lambda scores: scores["scratch"], "stopped with KeyError"),
    ],
)
def test_the_check_of_a_choice_names_the_mistake(choose, says, capsys):
    lesson_05.check_cheapest(choose)
    assert says in capsys.readouterr().out


def test_the_check_of_seeds_names_the_mistake(capsys):
    differences = np.array([0.04, 0.01, 0.07])
    for answer, says in [
        (None, "Not answered"),
        (4, "Student"),
        (5, "The threshold is the margin"),
        (6, "ddof=1"),
        (3, "left it undecided"),
        (40, "Half the interval"),
    ]:
        lesson_05.check_seeds(answer, differences, 0.01)
        assert says in capsys.readouterr().out


def test_the_explorer_reads_advice_and_evidence_from_the_committed_runs():
    explorer = widgets.explore_decision_matrix(distance=0.3, images=3)
    for table in ("lecture", "slides", "notes"):
        verdict = claims.evaluate_claim(f"{table}-little-different")
        assert f"“{verdict.claim.says}” Measured: {verdict.verdict}." in explorer.screen.message
    assert "Nearest measured: mnist-5k" in explorer.screen.message
    explorer.set(distance=0.08, images=100)
    assert explorer.screen.message.startswith("Distance 0.08, 100 images of each class: lots, similar.")
    assert "Nearest measured: scenes" in explorer.screen.message
    assert "take this with care" not in explorer.screen.message
    explorer.controls["distance"].value = 0.2
    assert "lots, different" in explorer.screen.message
    assert "take this with care" in explorer.screen.message


def test_the_explorer_follows_another_table_of_runs():
    runs = claims.evidence()
    scratch = (runs["strategy"] == "scratch") & (runs["level"] == "lots")
    explorer = widgets.explore_decision_matrix(
        runs.assign(score=runs["score"].mask(scratch, 1.0)), distance=0.3, images=99
    )
    says = claims.claim("notes-lots-different").says
    assert f"“{says}” Measured: does not hold here." in explorer.screen.message
    assert "the best mean there is from scratch, 1.00" in explorer.screen.message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"distance": -1.0}, "0 or more"),
        ({"distance": float("nan")}, "0 or more"),
        ({"images": 0}, "at least 1 image"),
        ({"table": claims.evidence().query("protocol == 'linear_probe'")}, "lacks runs of domain_distance"),
    ],
)
def test_the_explorer_refuses_in_words(options, says):
    with pytest.raises(LearnerError, match=says):
        widgets.explore_decision_matrix(**options)


def test_where_no_data_set_was_measured_with_little_the_explorer_says_what_it_needs():
    runs = claims.evidence()
    with pytest.raises(LearnerError, match="Expected the table"):
        widgets.explore_decision_matrix(runs[runs["level"] != "little"])
