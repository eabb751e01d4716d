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
import torch
from PIL import Image

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
    for folder, number in (("train", 12), ("val", 4), ("new", 2)):
        for seed, kind in enumerate(["plain", "striped"] * number):
            file = (
                tmp_path / "photographs" / folder / ("" if folder == "new" else kind) / f"{kind} {seed}.png"
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            photograph(kind, [number, seed]).save(file)
    assert processes.run(run_without_course, tmp_path) == 0
    said = (tmp_path / "said.txt").read_text()
    named = dict(re.findall(r"^(\w+) \d+\.png: (\w+), \d+%$", said, re.MULTILINE))
    assert named == {"plain": "plain", "striped": "striped"}, said
    saved = torch.load(tmp_path / "finetuned.pth", weights_only=True)
    assert saved["classes"] == ["plain", "striped"]


def test_the_script_is_made_of_cells_that_the_lesson_ran(cells, script):
    parts = [cell.source for cell in cells if cell.source.startswith("# finetune.py, part")]
    assert len(parts) == 8
    assert script.startswith("\n\n\n".join(parts))


def test_after_the_preparation_the_lesson_takes_nothing_but_checks_from_the_course(cells):
    imports = [
        line
        for cell in cells
        for line in cell.source.splitlines()
        if re.match(r"\s*(from|import) tlutils", line)
    ]
    assert imports == [
        "from tlutils import data, runtime",
        "from tlutils import checks",
        "from tlutils.checks import lesson_10",
    ]


def test_the_script_ends_with_the_weights_of_the_best_epoch(cells):
    (part,) = (cell.source for cell in cells if cell.source.startswith("# finetune.py, part 5"))
    names = {
        "torch": torch,
        "copy": copy,
        "train_loader": range(3),
        "val_loader": None,
        "freeze_batchnorm": None,
    }
    exec(part, names)
    scores = iter([0.5, 0.9, 0.7])

    def train_epoch(model, *_):
        with torch.no_grad():
            model.weight.add_(1)

    names |= {"train_epoch": train_epoch, "accuracy": lambda *_: next(scores)}
    model = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(model.weight)
    assert names["fit"](model, [{"params": model.parameters(), "lr": 0.1}], epochs=3) == [0.5, 0.9, 0.7]
    assert model.weight.item() == 2
