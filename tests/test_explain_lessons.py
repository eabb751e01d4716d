"""The pictures of the lessons on visualization, and how a guess in words is answered."""

import numpy as np
import pytest
import torch

from tlutils import checks, plots


@pytest.mark.parametrize(
    ("guess", "answer", "says"),
    [
        (None, True, "No guess"),
        (True, True, "so it is"),
        (False, True, "it is True"),
        ("stage4", {"stage3", "stage4"}, "so it is"),
        ("stem", {"stage4", "stage3"}, "it is stage3 or stage4"),
    ],
)
def test_a_guess_of_a_word_is_compared_kindly(guess, answer, says, capsys):
    checks.compare_choice(guess, answer)
    assert says in capsys.readouterr().out


def pixels(picture):
    picture.canvas.draw()
    return np.asarray(picture.canvas.buffer_rgba())[..., :3].astype(int)


def test_rows_of_images_show_what_they_are_given():
    dark, bright = torch.zeros(3, 8, 8), torch.ones(3, 8, 8)
    picture = plots.image_rows(
        {"a": [dark, bright], "b": [bright]}, title="t", alt="two rows", captions=[["x", "y"], ["z"]]
    )
    texts = [t.get_text() for ax in picture.axes for t in (ax.yaxis.label, ax.title)]
    assert {"a", "b", "x", "y", "z"} <= set(texts)
    shown = [ax.images[0].get_array() for ax in picture.axes if ax.images]
    assert [float(s.mean()) for s in shown] == [0.0, 1.0, 1.0]
    assert picture.alt == "two rows"
    headed = plots.image_rows({"a": [dark], "b": [bright]}, title="t", alt="a", captions=[["x"]])
    assert [ax.get_title() for ax in headed.axes] == ["x", ""]  # captions for the first row alone


def test_a_long_title_stays_inside_a_narrow_picture():
    photo = torch.zeros(3, 8, 8)
    picture = plots.image_rows(
        {"": [photo, photo]},
        title="Pixels that the map calls important bring the answer back early",
        alt="a",
        captions=[["one", "two"]],
        width=3.0,
    )
    picture.canvas.draw()
    box = picture._suptitle.get_window_extent()
    assert box.x1 <= 100 * picture.get_figwidth()


def test_maps_are_brought_to_contrast_whatever_their_scale():
    ramp = torch.linspace(-3, 900, 64).view(8, 8)
    scaled = plots.looking.contrast(ramp)
    assert scaled.min() == 0
    assert scaled.max() == 1
    assert plots.looking.contrast(torch.zeros(4, 4)).tolist() == np.zeros((4, 4)).tolist()
    signed = plots.looking.contrast(torch.tensor([[-2.0, 0.0], [1.0, 2.0]]), signed=True)
    assert signed[0, 1] == 0.5
    assert signed[0, 0] < 0.01 < 0.7 < signed[1, 0]


def test_a_map_over_a_photograph_colours_where_it_is_strong():
    photo, heat = torch.full((3, 16, 16), 0.5), torch.zeros(16, 16)
    heat[:, 8:] = 1
    picture = plots.overlays(photo, {"half": heat}, title="t", alt="a")
    colours = pixels(picture)
    spread = colours.max(2) - colours.min(2)
    half = spread[:, colours.shape[1] // 2 :]
    assert (half[:, half.shape[1] // 2 + 20 :] > 60).any()
    assert len(plots.overlays(photo, {"a": heat, "b": -heat}, title="t", alt="a", signed=True).axes) == 3


def test_curves_carry_their_values_and_names():
    triples = [(0.5, 0.4, 0.6), (0.8, 0.7, 0.9)]
    picture = plots.by_stage(
        {"probe": triples, "random": triples[::-1]}, ["stem", "stage1"], title="t", ylabel="y", alt="a"
    )
    (ax,) = picture.axes
    assert ax.lines[0].get_ydata().tolist() == [0.5, 0.8]
    tied = plots.by_stage({"a": triples, "b": triples}, ["stem", "stage1"], title="t", ylabel="y", alt="a")
    heights = [text.get_position()[1] for text in tied.axes[0].texts]
    assert heights[1] - heights[0] > 0.02  # labels of lines that end together do not lie on each other
    assert {t.get_text() for t in ax.texts} == {"frozen pretrained backbone", "random frozen backbone"}
    picture = plots.share_curves(
        [0, 0.5, 1], {"a": [1, 0.2, 0], "b": [1, 0.9, 0]}, title="t", xlabel="x", ylabel="y", alt="a"
    )
    (ax,) = picture.axes
    assert {t.get_text() for t in ax.texts} == {"a", "b"}
    assert sorted(line.get_ydata()[1] for line in ax.lines) == [0.2, 0.9]


def test_a_curve_keeps_its_colour_when_it_comes_out_elsewhere():
    def colours(curves):
        picture = plots.share_curves([0, 1], curves, title="t", xlabel="x", ylabel="y", alt="a")
        return {text.get_text(): text.get_color() for text in picture.axes[0].texts}

    assert colours({"a": [0, 1], "b": [0, 2], "random order": [0, 0]}) == colours(
        {"a": [0, 2], "b": [0, 1], "random order": [0, 3]}
    )
