"""Every lesson whose images can be exchanged runs on others, to its result."""

import nbformat
import numpy as np
import pytest
from PIL import Image

from tlutils import data, lessons

OTHERS = ("elpv-defects", "elpv-wafers", "mnist-5k", "digits", "scenes", "photographs")


def parameters(lesson):
    """The source of the cell of parameters."""
    cells = nbformat.read(lesson.path, as_version=4).cells
    return next(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))


ASKING = [lesson for lesson in lessons.catalog() if "DATASET = " in parameters(lesson)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of 240 photographs in colour: parts of four, which are the classes; some are upright."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for label in ("cat", "coffee", "flower", "rocket"):
        (folder / label).mkdir()
        whole = data.load_photograph(label)
        for k in range(60):
            width, height = (int(rng.uniform(0.3, 0.8) * side) for side in whole.size)
            left, top = (
                int(rng.integers(0, a - b)) for a, b in zip(whole.size, (width, height), strict=True)
            )
            part = whole.crop((left, top, left + width, top + height))
            part.resize((192, 128) if k % 3 else (128, 192), Image.Resampling.BICUBIC).save(
                folder / label / f"{k:03}.jpg"
            )
    return folder


@pytest.mark.full
@pytest.mark.parametrize("images", OTHERS)
@pytest.mark.parametrize("lesson", ASKING, ids=lambda own: own.number)
def test_a_lesson_runs_on_other_images(lesson, images, photographs):
    chosen = str(photographs) if images == "photographs" else images
    notebook = lessons.execute(lesson.path, parameters={"DATASET": chosen})
    assert lessons.result(notebook)
