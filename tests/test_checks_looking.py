"""The exercises of lesson 01: right answers pass, each mistake is named, and none ends the lesson."""

import pytest

from tlutils import checks


def energy(filters):
    return filters.square().sum((1, 2, 3))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda w, fit: None, "Not answered"),
        (lambda w, fit: 1 - energy(w - fit) / energy(w), "Right"),
        (lambda w, fit: energy(fit) / energy(w), "Right"),  # the same where the fit is the best one
        (lambda w, fit: energy(w - fit) / energy(w), "left over"),
        (lambda w, fit: 1 - (w - fit).flatten(1).norm(dim=1) / w.flatten(1).norm(dim=1), "divided lengths"),
        (lambda w, fit: fit.flatten(1).norm(dim=1) / w.flatten(1).norm(dim=1), "lengths of fit"),
        (lambda w, fit: (1 - energy(w - fit) / energy(w)).mean(), "for each, (K,)"),
        (lambda w, fit: 1 - energy(w - fit).sum() / energy(w).sum(), "all filters first"),
        (lambda w, fit: 1 - energy(w - fit) / energy(fit), "energy of the fit"),
        (lambda w, fit: energy(fit), "Divide by the filter's."),
        (lambda w, fit: energy(w - fit), "take it from one"),
        (lambda w, fit: 1 - (w - fit).square() / w.square(), "weights are still"),
        (lambda w, fit: energy(w)[:2], "(2,)"),
        (lambda w, fit: w @ fit.flatten(), "stopped with RuntimeError"),
    ],
)
def test_share_explained_exercise(function, says, capsys):
    checks.check_explained(function)
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda maps: maps.amax((0, 2, 3)) <= 0, "Right"),
        (lambda maps: (maps <= 0).all(3).all(2).all(0), "Right"),
        (lambda maps: maps.amax((0, 2, 3)) > 0, "alive"),
        (lambda maps: (maps.amax((2, 3)) <= 0).any(0), "*some* image"),
        (lambda maps: maps.amin((0, 2, 3)) <= 0, "*some* place"),
        (lambda maps: maps.amax((2, 3)) <= 0, "images are still"),
        (lambda maps: (maps <= 0).float().mean((0, 2, 3)), "share of zeros"),
        (lambda maps: (maps.amax((0, 2, 3)) <= 0).sum(), "Say which"),
        (lambda maps: (maps.amax((0, 2, 3)) <= 0).nonzero()[:, 0], "their numbers"),
        (lambda maps: maps.amax((1, 2, 3)) <= 0, "second axis"),
        (lambda maps: [True, False], "list came"),
        (lambda maps: maps.amax(7), "stopped with IndexError"),
    ],
)
def test_dead_channels_exercise(function, says, capsys):
    checks.check_dead(function)
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "Not answered"),
        (7, "Right"),
        (5, "stride 1"),
        (49, "one side"),
        (11, "Not yet"),
        ([7], "Not yet"),
    ],
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
        (lambda a, b: (a * b).sum() / a.norm(), "one length"),
        (lambda a, b: (a - b).norm(), "distance"),
        (lambda a, b: 1 - cosine(a, b), "one minus"),
        (lambda a, b: cosine(a, b).acos(), "angle itself"),
        (lambda a, b: a.norm(), "numbers are not"),
        (lambda a, b: a @ b[:1], "stopped with RuntimeError"),
    ],
)
def test_similarity_exercise(function, says, capsys):
    checks.check_similar_channels(function)
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda v: v.sum() ** 2 / (v**2).sum(), "Right"),
        (lambda v: float(v.sum() ** 2 / (v**2).sum()), "Right"),
        (lambda v: (v**2).sum() / v.sum() ** 2, "Upside down"),
        (lambda v: (v**2).sum() / (v**2).sum(), "squared before you added"),
        (lambda v: v.sum() / (v**2).sum(), "above the line"),
        (lambda v: v.sum() ** 2 / v.norm(), "root"),
        (lambda v: (v > 0).sum(), "counts"),
        (lambda v: v.sum(), "size of the cloud"),
        (lambda v: v.sum() / v.max(), "largest alone"),
        (lambda v: v, "(5,) came"),
        (lambda v: v.squared(), "stopped with AttributeError"),
    ],
)
def test_directions_exercise(function, says, capsys):
    checks.check_directions(function)
    assert says in capsys.readouterr().out
