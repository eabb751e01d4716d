"""Lesson 02: what it writes out is what the library does."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tlutils.probe import fit_probe

LESSON = Path(__file__).parent.parent / "notebooks" / "02_linear_probing.ipynb"


@pytest.fixture(scope="module")
def written_out():
    """The functions of the lesson, as the learner has them after running its cells."""
    names = {"np": np, "torch": torch, "nn": nn, "F": F, "num_classes": 3, "y_val": None, "EACH": None}
    for cell in nbformat.read(LESSON, as_version=4).cells:
        if cell.cell_type == "code":
            defined = [part for part in ast.parse(cell.source).body if isinstance(part, ast.FunctionDef)]
            exec(compile(ast.Module(defined, type_ignores=[]), cell.id, "exec"), names)
    return names


def test_the_neighbours_of_the_lesson_are_those_of_the_library(written_out):
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    known, new = rng.normal(size=(90, 12)) + labels[:, None], rng.normal(size=(40, 12)) + 1
    known[:, 0], new[:, 0] = 4.0, 5.0  # a feature that never varies
    probe = fit_probe(known, labels, kind="knn", n_neighbors=[5], class_weight=None)
    assert (written_out["vote"](known, labels, new) == probe.predict(new)).all()


def test_the_softmax_regression_of_the_lesson_is_the_probe_of_the_library(written_out):
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    known, new = rng.normal(size=(90, 12)) + labels[:, None], rng.normal(size=(200, 12)) + 1
    known[:, 0], new[:, 0] = 4.0, 5.0  # a feature that never varies
    probe = fit_probe(known, labels, penalties=[0.3])
    assert (written_out["softmax_regression"](known, labels, new, 0.3) == probe.predict(new)).mean() > 0.98
    assert (written_out["softmax_regression"](known, labels, new, 30.0) != probe.predict(new)).any()


def test_what_hardly_varies_counts_as_a_small_share_of_what_features_vary_by(written_out):
    known = np.random.default_rng(0).normal(size=(50, 5)) * [2, 1, 0.5, 1e-6, 0]
    std = written_out["spread"](known)
    assert (std[:3] == known.std(0)[:3]).all()
    assert std[3:] == pytest.approx(0.03 * np.sort(known.std(0))[2:4].mean())  # of those that vary
