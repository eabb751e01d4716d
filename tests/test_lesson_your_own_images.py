"""Lesson 11: the folder that it writes has the flaws that it says, and no others."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image, ImageEnhance

LESSON = Path(__file__).parent.parent / "notebooks" / "11_your_own_images.ipynb"


class Images(list):
    """Forty grey squares of two classes, each of its own brightness."""

    classes = ("bright", "other")

    def __init__(self):
        super().__init__((Image.new("RGB", (8, 8), (100 + 3 * i,) * 3), i % 2) for i in range(40))


@pytest.fixture
def written(tmp_path):
    """What the lesson's function leaves: its folder, and the flaws that it noted."""
    cells = [c.source for c in nbformat.read(LESSON, as_version=4).cells if c.cell_type == "code"]
    flaws = {"wrong": set(), "copy": set(), "dark": set()}
    names = {"SEED": 0, "np": np, "ImageEnhance": ImageEnhance, "folder": tmp_path, "flaws": flaws}
    exec(next(source for source in cells if source.startswith("def write_folder")), names)
    names["write_folder"](Images())
    return tmp_path, flaws


def test_each_image_is_there_once_and_has_the_flaws_that_were_noted(written):
    folder, flaws = written
    files = {path.stem: path for path in folder.rglob("*.png")}
    for i, (image, label) in enumerate(Images()):
        file = files[f"{i:03}"]
        assert (file.parent.name != Images.classes[label]) == (file.stem in flaws["wrong"])
        assert file.with_suffix(".jpg").exists() == (file.stem in flaws["copy"])
        dark = np.asarray(Image.open(file)).mean() < 0.2 * np.asarray(image).mean()
        assert dark == (file.stem in flaws["dark"])
    assert files.keys() - {f"{i:03}" for i in range(40)} == {"broken"}
    with pytest.raises(OSError, match=r"truncated|identify"):
        Image.open(files["broken"]).load()


def test_no_image_has_two_flaws(written):
    _, flaws = written
    assert len(set().union(*flaws.values())) == sum(map(len, flaws.values())) == 16
