"""The pictures and exercise checks of the lessons on visualization."""

import numpy as np
import pytest
import torch

from tlutils import checks, explain, plots


@pytest.mark.parametrize(
    ("answer", "says"),
    [(None, "Not answered"), (7, "Right"), (5, "stride 1"), (49, "one side"), (11, "Not yet")],
)
def test_receptive_field_exercise(answer, says, capsys):
    checks.check_receptive_field(answer)
    assert says in capsys.readouterr().out


def cosine(a, b):
    return (a * b).sum() / (a.norm() * b.norm())


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda a, b: None, "Not answered"),
        (cosine, "Right"),
        (lambda a, b: (a * b).sum(), "dot product"),
        (lambda a, b: a * b, "one number"),
        (lambda a, b: (a * b).sum() / 25, "made longer"),
        (lambda a, b: (a - b).norm(), "24"),
    ],
)
def test_similarity_exercise(function, says, capsys):
    checks.check_similar_channels(function)
    assert says in capsys.readouterr().out


def gradient(model, x, target):
    x.requires_grad_()
    return torch.autograd.grad(model(x)[:, target].sum(), x)[0]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda m, x, t: explain.saliency(m, x, t), "Right"),
        (lambda m, x, t: gradient(m, x, t).abs().amax(1), "Right"),
        (lambda m, x, t: gradient(m, x, t).amax(1), "signs"),
        (lambda m, x, t: gradient(m, x, t).abs().mean(1), "averaged"),
        (lambda m, x, t: gradient(m, x, t).abs().sum(1), "added"),
        (lambda m, x, t: gradient(m, x, t).abs(), "colours are still"),
        (lambda m, x, t: gradient(m, x, t), "raw gradient"),
        (lambda m, x, t: gradient(m, x, 0).abs().amax(1), "class 0"),
        (lambda m, x, t: gradient(lambda y: m(y).softmax(1), x, t).abs().amax(1), "probability"),
        (lambda m, x, t: torch.zeros(3), "(2, 8, 8)"),
    ],
)
def test_saliency_exercise(function, says, capsys):
    checks.check_saliency(function)
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda maps, c: maps[:, c].mean((1, 2)), "Right"),
        (lambda maps, c: maps[:, c].mean(), "whole batch"),
        (lambda maps, c: maps[c].mean((1, 2)), "batch comes first"),
        (lambda maps, c: maps.mean((1, 2, 3)), "all channels"),
        (lambda maps, c: maps[:, c].amax((1, 2)), "strongest place"),
        (lambda maps, c: maps[:, c], "places"),
        (lambda maps, c: torch.zeros(7), "(7,)"),
    ],
)
def test_excitement_exercise(function, says, capsys):
    checks.check_excitement(function)
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda a, g: (g.mean((2, 3), keepdim=True) * a).sum(1).relu(), "Right"),
        (lambda a, g: torch.einsum("nc,nchw->nhw", g.mean((2, 3)), a).clamp(min=0), "Right"),
        (lambda a, g: (g.mean((2, 3), keepdim=True) * a).sum(1), "ReLU is missing"),
        (lambda a, g: (g.mean((2, 3), keepdim=True) * a).mean(1).relu(), "Sum over the channels"),
        (lambda a, g: (g * a).sum(1).relu(), "place by place"),
        (lambda a, g: (g.mean((2, 3), keepdim=True) * a).relu().sum(1), "after the sum"),
        (lambda a, g: (g.mean((2, 3), keepdim=True) * a).relu(), "channels are still"),
        (lambda a, g: (g.mean((0, 2, 3), keepdim=True) * a).sum(1).relu(), "own weights"),
        (lambda a, g: a, "(2, 4, 5)"),
    ],
)
def test_grad_cam_exercise(function, says, capsys):
    checks.check_grad_cam(function)
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda m: torch.einsum("nihw,njhw->nij", m, m) / m[0, 0].numel(), "Right"),
        (lambda m: m.flatten(2) @ m.flatten(2).mT, "sum over the places"),
        (lambda m: m.flatten(2).mT @ m.flatten(2) / m.shape[1], "places with places"),
        (lambda m: torch.stack([torch.cov(one.flatten(1), correction=0) for one in m]), "covariance"),
        (lambda m: (m.flatten(2) @ m.flatten(2).mT / m[0, 0].numel()).mean(0), "each image"),
        (lambda m: m.flatten(2) @ m.flatten(2).mT / m[0].numel(), "channels, too"),
        (lambda m: m, "(2, 3, 3)"),
    ],
)
def test_gram_exercise(function, says, capsys):
    checks.check_gram(function)
    assert says in capsys.readouterr().out


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
