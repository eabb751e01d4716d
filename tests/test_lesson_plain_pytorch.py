"""Lesson 10: the script that one takes away is what the lesson ran, and runs where this course is not."""

import contextlib
import copy
import os
import re
import runpy
import sys
from pathlib import Path

import nbformat
import numpy as np
import processes
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from tlutils import models

LESSON = Path(__file__).parent.parent / "notebooks" / "10_plain_pytorch.ipynb"


@pytest.fixture(scope="module")
def cells():
    return [c for c in nbformat.read(LESSON, as_version=4).cells if c.cell_type == "code"]


@pytest.fixture
def script(cells):
    (output,) = cells[-1].outputs
    return output.text


def photograph(kind, seed):
    """A grey photograph of stripes, or of nothing but noise."""
    pixels = np.random.default_rng(seed).integers(0, 60, (90, 120))
    if kind == "striped":
        pixels[::20] = pixels[1::20] = pixels[2::20] = 255
    return Image.fromarray(pixels.astype(np.uint8))


def run_without_course(folder):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tlutils"]:
        sys.modules[name] = None
    os.chdir(folder)
    with Path("said.txt").open("w", encoding="utf-8") as said, contextlib.redirect_stdout(said):
        runpy.run_path("finetune.py")


def test_the_script_runs_on_a_folder_of_photographs_without_the_course(script, tmp_path):
    (tmp_path / "finetune.py").write_text(script, encoding="utf-8")
    for folder, number in (("train", 6), ("val", 3)):
        for seed, kind in enumerate(["plain", "striped"] * number):
            file = tmp_path / "photographs" / folder / kind / f"{seed}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            photograph(kind, [number, seed]).save(file)
    photograph("striped", 0).save(tmp_path / "new.png")
    network = models.load(models.DEFAULT)
    network.pretrained_cfg["input_size"] = (3, 64, 64)
    timm.models.save_for_hf(network, tmp_path / "network")
    assert processes.run(run_without_course, tmp_path) == 0
    said = (tmp_path / "said.txt").read_text()
    assert re.search(r"^new\.png: striped, \d+%$", said, re.MULTILINE), said
    saved = torch.load(tmp_path / "finetuned.pth", weights_only=True)
    assert saved["classes"] == ["plain", "striped"]
    moved = {
        name for name, own in network.state_dict().items() if not torch.equal(own, saved["weights"][name])
    }
    assert "conv_stem.weight" in moved
    assert not [name for name in moved if "running" in name or "num_batches" in name]


def test_the_script_is_short_enough_to_take_away(script):
    lines = [line for line in script.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert 40 <= len(lines) < 50


def test_the_script_is_made_of_cells_that_the_lesson_ran(cells, script):
    parts = [cell.source for cell in cells if cell.source.startswith("# finetune.py, part")]
    assert len(parts) == 7
    assert script.startswith("\n\n\n".join(parts))


def test_after_the_preparation_the_lesson_takes_nothing_but_checks_from_the_course(cells):
    imports = [
        line
        for cell in cells
        for line in cell.source.splitlines()
        if re.match(r"\s*(from|import) tlutils", line)
    ]
    assert imports == [
        "from tlutils import data, models, runtime",
        "from tlutils import checks, intervals",
        "from tlutils.checks import lesson_10",
    ]


def test_the_script_trains_the_head_first_lets_rates_fall_and_keeps_the_weights_of_the_best_epoch(cells):
    how, run = (c.source for c in cells if re.match("# finetune.py, part [56]", c.source))
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(1, 1))
    nn.init.zeros_(model[0].weight)
    scores, trains, rates = iter([0.5, 0.6, 0.4, 0.9, 0.9, 0.7]), [], []

    def hits(model, _):
        trains.append([p.requires_grad for p in model.parameters()])
        rates.append([group["lr"] for group in names["optimizer"].param_groups])
        assert (model[0].training, model[1].training) == (True, False)
        with torch.no_grad():
            model[0].weight.add_(1)
        return torch.tensor([next(scores)])

    batch = torch.zeros(2, 1, 1, 1), torch.zeros(2, dtype=torch.long)  # of one class: its loss is 0
    names = {"torch": torch, "copy": copy, "model": model, "head": model[3], "hits": hits, "device": "cpu"}
    names |= {"train_loader": [batch] * 3, "val_loader": None}
    exec(how, names)
    exec(run, names)
    assert trains == [[False] * 4 + [True] * 2] * 3 + [[True] * 6] * 3
    assert names["kept"]["0.weight"].item() == pytest.approx(5, abs=0.01)  # of equals the last
    assert (np.diff(rates, axis=0) < 0).all()
    assert rates[-1] == pytest.approx([0, 0])
