"""Lesson 02: what it writes out is what the library does."""

from pathlib import Path

import nbformat
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tlutils.probe import fit_probe

LESSON = Path(__file__).parent.parent / "notebooks" / "02_linear_probing.ipynb"


def written_out(name):
    """The function of this name, from the cell of the lesson that defines it."""
    (source,) = (c.source for c in nbformat.read(LESSON, as_version=4).cells if f"def {name}(" in c.source)
    scope = {"np": np, "torch": torch, "nn": nn, "F": F, "num_classes": 3}
    exec(source, scope)
    return scope[name]


def test_the_neighbours_of_the_lesson_are_those_of_the_library():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    known, new = rng.normal(size=(90, 12)) + labels[:, None], rng.normal(size=(40, 12)) + 1
    known[:, 0], new[:, 0] = 4.0, 5.0  # a feature that never varies
    probe = fit_probe(known, labels, kind="knn", n_neighbors=[5], class_weight=None)
    assert (written_out("vote")(known, labels, new) == probe.predict(new)).all()


def test_the_softmax_regression_of_the_lesson_is_the_probe_of_the_library():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    known, new = rng.normal(size=(90, 12)) + labels[:, None], rng.normal(size=(200, 12)) + 1
    known[:, 0], new[:, 0] = 4.0, 5.0  # a feature that never varies
    probe = fit_probe(known, labels, penalties=[0.3])
    assert (written_out("softmax_regression")(known, labels, new, 0.3) == probe.predict(new)).mean() > 0.98
    assert (written_out("softmax_regression")(known, labels, new, 30.0) != probe.predict(new)).any()
