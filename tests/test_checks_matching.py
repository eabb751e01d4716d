"""The exercises of lesson 01c that match a stage: right answers pass, each mistake is named."""

import pytest
import torch

from tlutils import checks


def length(values):
    return values.square().sum((1, 2, 3))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda f, w: length(f - w) / length(w), "Right"),
        (lambda f, w: length(f - w), "squared distance"),
        (lambda f, w: (f - w).square().mean((1, 2, 3)), "mean squared error"),
        (lambda f, w: (length(f - w) / length(w)).sqrt(), "squares are missing"),
        (lambda f, w: length(f - w) / length(f), "what was found"),
        (lambda f, w: length(f - w) / length(w).sqrt(), "without its square"),
        (lambda f, w: (length(f - w) / length(w)).mean(), "whole batch"),
        (lambda f, w: length(f - w).sum() / length(w).sum(), "all images first"),
        (lambda f, w: length(w) / length(f - w), "Upside down"),
        (lambda f, w: 1 - length(f - w) / length(w), "was kept"),
        (lambda f, w: (f - w).abs().sum((1, 2, 3)) / w.abs().sum((1, 2, 3)), "absolute values"),
        (lambda f, w: f, "(2, 3, 4, 4) came"),
        (lambda f, w: f @ w.flatten(), "stopped with RuntimeError"),
    ],
)
def test_inversion_exercise(function, says, capsys):
    checks.check_missed(function)
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


def together(maps):
    return torch.einsum("nihw,njhw->nij", maps, maps)


def gram(maps):
    return together(maps) / maps[0, 0].numel()


def missed(found, wanted):
    return (found - wanted).flatten(1).square().sum(1) / wanted.flatten(1).square().sum(1)


def content(f, photo, stage="late"):
    return missed(f[stage], photo[stage])


def style(f, cloth, stage="early"):
    return missed(gram(f[stage]), gram(cloth[stage]))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda f, photo, cloth, b: None, "Not answered"),
        (lambda f, photo, cloth, b: content(f, photo) + b * style(f, cloth), "Right"),
        (
            lambda f, photo, cloth, b: (
                content(f, photo) + b * missed(together(f["early"]), together(cloth["early"]))
            ),
            "divide by their number",
        ),
        (
            lambda f, photo, cloth, b: content(f, photo, "early") + b * style(f, cloth),
            "content at the stage of the style",
        ),
        (
            lambda f, photo, cloth, b: content(f, photo) + b * style(f, cloth, "late"),
            "style at the stage of the content",
        ),
        (lambda f, photo, cloth, b: content(f, photo, "early") + b * style(f, cloth, "late"), "swapped"),
        (lambda f, photo, cloth, b: content(f, photo) + b * style(f, photo), "the cloth's"),
        (
            lambda f, photo, cloth, b: style(f, photo, "late") + b * style(f, cloth),
            "Content keeps its places",
        ),
        (lambda f, photo, cloth, b: b * content(f, photo) + style(f, cloth), "belongs to the style"),
        (lambda f, photo, cloth, b: content(f, photo) + style(f, cloth), "weight is missing"),
        (lambda f, photo, cloth, b: content(f, photo), "content alone"),
        (lambda f, photo, cloth, b: style(f, cloth), "style alone"),
        (lambda f, photo, cloth, b: b * style(f, cloth), "style alone"),
        (
            lambda f, photo, cloth, b: (
                content(f, photo) + b * (gram(f["early"]) - gram(cloth["early"])).square().sum((1, 2))
            ),
            "drowns the other",
        ),
        (lambda f, photo, cloth, b: (content(f, photo) + b * style(f, cloth)).mean(), "whole batch"),
        (lambda f, photo, cloth, b: f["late"], "(2, 3, 2, 2) came"),
        (lambda f, photo, cloth, b: f, "dict came"),
        (lambda f, photo, cloth, b: f["late"] - cloth["late"], "stopped with RuntimeError"),
        (lambda f, photo, cloth, b: f["middle"], "stopped with KeyError"),
    ],
)
def test_style_transfer_exercise(function, says, capsys):
    checks.check_painted(function)
    assert says in capsys.readouterr().out
