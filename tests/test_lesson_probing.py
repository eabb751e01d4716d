"""Lesson 02: what it writes out is what the library does; its checks and its picture say what they see."""

from pathlib import Path

import nbformat
import numpy as np
import pytest

from tlutils.checks import lesson_02
from tlutils.probe import fit_probe

LESSON = Path(__file__).parent.parent / "notebooks" / "02_linear_probing.ipynb"


def written_out(name):
    """The function of this name, from the cell of the lesson that defines it."""
    (source,) = (c.source for c in nbformat.read(LESSON, as_version=4).cells if f"def {name}(" in c.source)
    scope = {"np": np}
    exec(source, scope)
    return scope[name]


def test_the_neighbours_of_the_lesson_are_those_of_the_library():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    known, new = rng.normal(size=(90, 12)) + labels[:, None], rng.normal(size=(40, 12)) + 1
    known[:, 0], new[:, 0] = 4.0, 5.0  # a feature that never varies
    probe = fit_probe(known, labels, kind="knn", n_neighbors=[5], class_weights=None)
    assert (written_out("vote")(new, known, labels) == probe.predict(new)).all()


def nearest_in_distance(query, bank):
    return np.argmin(np.linalg.norm(bank - query, axis=1))


def furthest(query, bank):
    return np.argmin(bank @ query / np.linalg.norm(bank, axis=1))


def dot_product(query, bank):
    return np.argmax(bank @ query)


def cosine(query, bank):
    return np.argmax(bank @ query / np.linalg.norm(bank, axis=1) / np.linalg.norm(query))


@pytest.mark.parametrize(
    ("mine", "says"),
    [
        (None, "Not written yet"),
        (cosine, "Right"),
        (dot_product, "long row"),
        (nearest_in_distance, "nearest in distance"),
        (furthest, "least"),
        (lambda query, bank: bank @ query, "one integer"),
        (lambda query, bank: 17, "does not exist"),
    ],
)
def test_the_check_of_nearest_names_the_mistake(mine, says, capsys):
    lesson_02.check_nearest_neighbour(mine)
    assert says in capsys.readouterr().out


def test_the_check_of_the_penalty_reads_the_table_as_one_should(capsys):
    rng = np.random.default_rng(0)
    table = fit_probe(rng.normal(size=(60, 5)), np.arange(60) % 2, penalties=[10, 1, 0.1]).cv
    table["log_loss"], table["balanced_accuracy"] = [0.5, 0.4, 0.6], [0.7, 0.7, 0.8]
    for answer, says in [(None, "Not answered"), (1, "Right"), (0.1, "by a hair"), (10, "Not yet")]:
        lesson_02.check_penalty(answer, table)
        assert says in capsys.readouterr().out
