"""Lesson 06: what it writes out does what it says."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tlutils import runtime

LESSON = Path(__file__).parent.parent / "notebooks" / "06_how_transferable.ipynb"


@pytest.fixture(scope="module")
def written():
    """What the lesson writes out: net, learn and transfer_layers."""
    names = {"np": np, "torch": torch, "nn": nn, "F": F, "runtime": runtime}
    for cell in nbformat.read(LESSON, as_version=4).cells:
        if cell.cell_type == "code" and cell.source.startswith(("WIDTHS", "def half", "def transfer_layers")):
            exec(cell.source, names)
    return names


@pytest.mark.parametrize("freeze", [True, False])
def test_copied_layers_stand_still_when_frozen_and_the_rest_learns(written, freeze):
    source, x = written["net"](0), torch.rand(32, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    model = written["transfer_layers"](source, 2, 1, freeze=freeze)
    assert all(torch.equal(model[k][0].weight, source[k][0].weight) for k in range(2))
    start = {name: value.clone() for name, value in model.state_dict().items()}
    written["learn"](model, x, torch.arange(32) % 5, 0, epochs=1)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, start[name])}
    copied = {name for name in start if name.startswith(("0.", "1."))}
    assert moved == set(start) - (copied if freeze else set())
    assert all(
        torch.equal(p, q) for p, q in zip(source.parameters(), written["net"](0).parameters(), strict=True)
    )
