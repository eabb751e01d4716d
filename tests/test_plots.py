"""Pictures are small, say in words what they show, and draw the data that they were given."""

import io

import numpy as np
import pytest
from PIL import Image

from tlutils import plots

CLASSES = ["functional", "defective"]
RESULTS = {"random": (0.66, 0.62, 0.70), "probe": (0.74, 0.70, 0.78), "majority": (0.5, 0.5, 0.5)}


def strategies(results=RESULTS):
    return plots.strategies(results, title="Title", xlabel="accuracy", alt="Probe beats random.")


def test_a_picture_shows_itself_as_a_small_png_with_its_words_and_without_addresses():
    picture = strategies()
    shown = picture._repr_mimebundle_()
    assert shown["text/plain"] == repr(picture) == "[picture] Probe beats random."
    assert len(shown["image/png"]) < 60_000
    image = Image.open(io.BytesIO(shown["image/png"]))
    assert image.size[0] == 750
    assert 600 <= image.size[0] <= 900


def test_a_picture_of_photographs_is_a_small_jpeg_whatever_is_in_it():
    noise = np.random.default_rng(0).random((200, 200, 3))
    picture = plots.image_rows({"": [noise, noise]}, title="Noise", alt="Two squares of noise.")
    shown = picture._repr_mimebundle_()
    assert set(shown) == {"image/jpeg", "text/plain"}
    assert Image.open(io.BytesIO(shown["image/jpeg"])).format == "JPEG"
    assert len(shown["image/jpeg"]) < 60_000


def test_strategies_are_drawn_at_their_values_best_at_the_top():
    (ax,) = strategies().axes
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [float(dot.get_xdata()[0]) for dot in dots] == [0.5, 0.66, 0.74]
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == plots.NAMES["probe"]
    assert [dot.get_color() for dot in dots][-1] == plots.COLOURS["probe"]


def test_changed_data_change_the_picture():
    assert strategies().png() != strategies({**RESULTS, "probe": (0.9, 0.85, 0.95)}).png()


def test_confusion_writes_each_count_and_shades_by_row():
    picture = plots.confusion([[40, 10], [13, 37]], CLASSES, title="t", alt="a")
    (ax,) = picture.axes
    assert [text.get_text() for text in ax.texts] == ["40", "10", "13", "37"]
    np.testing.assert_allclose(ax.images[0].get_array()[0], [0.8, 0.2])


def test_curves_draw_train_dashed_and_val_solid_on_one_scale():
    runs = {
        "probe": {"train": [0.5, 0.7], "val": [0.4, 0.6]},
        "finetune": {"train": [0.6, 0.9], "val": [0.5, 0.6]},
    }
    picture = plots.curves(runs, title="t", alt="a")
    left, right = picture.axes
    assert [line.get_linestyle() for line in left.lines] == ["--", "-"]
    assert left.get_ylim() == right.get_ylim()


def test_right_and_wrong_puts_the_surest_first_and_names_the_truth_of_errors():
    proba = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]])
    images = [Image.new("RGB", (8, 8)) for _ in proba]
    picture = plots.right_and_wrong(images, [0, 0, 0], proba, CLASSES, title="t", alt="a", columns=3)
    titles = [ax.get_title() for ax in picture.axes]
    assert titles == [
        "says functional\n90% sure",
        "says functional\n60% sure",
        "",
        "says defective\nis functional",
        "",
        "",
    ]


def test_a_gallery_shows_every_image_once():
    images = [Image.new("L", (8, 8), shade) for shade in (0, 60, 120)]
    picture = plots.gallery(images, ["a", "b", "c"], title="t", alt="a", columns=2)
    assert [ax.get_title() for ax in picture.axes] == ["a", "b", "c", ""]


def luminance(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", list(plots.NAMES))
def test_each_strategy_has_one_colour_that_shows_on_white(name):
    assert luminance(plots.COLOURS[name]) < 0.75
    assert len(set(plots.COLOURS.values())) == len(plots.COLOURS)
