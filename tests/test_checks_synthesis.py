"""The exercises of lesson 01c: right answers pass, each mistake is named, and none ends the lesson."""

import pytest
import torch

from tlutils import checks


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda maps, c: maps[:, c].mean((1, 2)), "Right"),
        (lambda maps, c: maps[:, c].mean(), "whole batch"),
        (lambda maps, c: maps[c].mean((1, 2)), "batch comes first"),
        (lambda maps, c: maps.mean((1, 2, 3)), "all channels"),
        (lambda maps, c: maps[:, c].amax((1, 2)), "strongest place"),
        (lambda maps, c: maps[:, c].sum((1, 2)), "sum"),
        (lambda maps, c: maps[:, c], "places"),
        (lambda maps, c: torch.zeros(7), "(7,)"),
    ],
)
def test_excitement_exercise(function, says, capsys):
    checks.check_excitement(function)
    assert says in capsys.readouterr().out


def rms(gradient):
    return gradient.square().mean((1, 2, 3), keepdim=True).sqrt()


def stepped(by):
    return lambda p, g, size: (p + size * by(g)).clamp(0, 1)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda p, g, size: None, "Not answered"),
        (stepped(lambda g: g / rms(g)), "Right"),
        (stepped(lambda g: g), "happens to be"),
        (stepped(lambda g: -g / rms(g)), "went down"),
        (stepped(lambda g: g / g.square().mean().sqrt()), "whole batch"),
        (stepped(lambda g: g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1)), "whole length"),
        (stepped(lambda g: g / rms(g) ** 2), "root is missing"),
        (stepped(lambda g: g / g.std((1, 2, 3), keepdim=True)), "spread"),
        (stepped(lambda g: g / g.abs().amax((1, 2, 3), keepdim=True)), "largest"),
        (stepped(lambda g: g.sign()), "fast gradient sign"),
        (lambda p, g, size: p + size * g / rms(g), "darker than black"),
        (lambda p, g, size: size * g / rms(g), "Add it to the picture"),
        (lambda p, g, size: p[0], "(3, 4, 4) came"),
        (lambda p, g, size: p + g[:, :2], "stopped with RuntimeError"),
    ],
)
def test_fooling_step_exercise(function, says, capsys):
    checks.check_fooling_step(function)
    assert says in capsys.readouterr().out


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
        (lambda maps: maps.square().mean((1, 2, 3)), "Right"),
        (lambda maps: maps.mean((1, 2, 3)), "below zero"),
        (lambda maps: maps.mean((1, 2, 3)) ** 2, "squared the mean"),
        (lambda maps: maps.abs().mean((1, 2, 3)), "absolute values"),
        (lambda maps: maps.square().sum((1, 2, 3)), "grows with the picture"),
        (lambda maps: maps.square().mean(), "whole batch"),
        (lambda maps: maps.square().mean((1, 2, 3)).sqrt(), "root"),
        (lambda maps: maps.square().mean((2, 3)), "channels are still"),
        (lambda maps: maps.flatten(1).var(1, correction=0), "subtracted the mean"),
        (lambda maps: maps, "(2, 3, 4, 5) came"),
        (lambda maps: maps.mean(8), "stopped with IndexError"),
    ],
)
def test_dream_exercise(function, says, capsys):
    checks.check_dream(function)
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


def moved(images, down, right):
    return images.roll((down, right), (2, 3))


def there(slope, p, s):
    return slope(moved(p, *s))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda slope, p, s: moved(there(slope, p, s), -s[0], -s[1]), "Right"),
        (lambda slope, p, s: there(slope, p, s), "shift it back"),
        (lambda slope, p, s: moved(there(slope, p, s), *s), "twice the same way"),
        (lambda slope, p, s: slope(p), "Shift it first"),
        (lambda slope, p, s: moved(slope(p), -s[0], -s[1]), "gradient alone"),
        (lambda slope, p, s: moved(there(slope, p, s[::-1]), -s[1], -s[0]), "swapped: height"),
        (lambda slope, p, s: moved(there(slope, p, s), -s[1], -s[0]), "On the way back"),
        (lambda slope, p, s: slope(p.roll(s, (0, 1))).roll((-s[0], -s[1]), (0, 1)), "first two axes"),
        (lambda slope, p, s: p[0], "(3, 6, 7) came"),
        (lambda slope, p, s: p.roll(s, 2), "stopped with RuntimeError"),
    ],
)
def test_jitter_exercise(function, says, capsys):
    checks.check_jitter(function)
    assert says in capsys.readouterr().out
