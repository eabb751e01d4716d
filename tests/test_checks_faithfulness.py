"""The exercises of lesson 01b that judge a map: right answers pass, each mistake is named."""

import pytest
import torch
from scipy.stats import spearmanr

from tlutils import checks, explain


def top(heat, share):
    kept = torch.zeros(heat.numel(), dtype=torch.bool)
    kept[heat.flatten().topk(round(share * heat.numel())).indices] = True
    return kept.view_as(heat)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda x, h, s: x * top(h, s), "Right"),
        (lambda x, h, s: torch.where(h >= h.quantile(1 - s), x, 0.0), "Right"),
        (lambda x, h, s: x * ~top(h, s), "deletion"),
        (lambda x, h, s: x * top(-h, s), "weakest"),
        (lambda x, h, s: x * (h > h.quantile(s)), "the other share"),
        (lambda x, h, s: x * (h > s), "compared the heat with the share"),
        (lambda x, h, s: x * h, "multiply by the heat"),
        (lambda x, h, s: x * h * top(h, s), "multiply by the heat"),
        (lambda x, h, s: top(h, s), "Put the photograph"),
        (lambda x, h, s: top(h, s).expand(3, -1, -1), "Put the photograph"),
        (lambda x, h, s: x[0], "(3, 4, 5)"),
        (lambda x, h, s: x[h], "stopped with IndexError"),
    ],
)
def test_insertion_exercise(function, says, capsys):
    checks.check_revealed(function)
    assert says in capsys.readouterr().out


def hiding(change=lambda x, hidden: torch.where(hidden, 0.0, x), order=lambda heat: heat):
    """The curve of a learner: in each picture the strongest pixels of `order(heat)` are changed."""

    def curve(p, x, heat, steps):
        ranks = (-order(heat)).flatten().argsort().argsort().view_as(heat)
        counts = [round(heat.numel() * step / steps) for step in range(steps + 1)]
        return torch.stack([p(change(x, ranks < count)) for count in counts])

    return curve


def painting(p, x, heat, steps):
    """Cumulative, and in the photograph itself."""
    values = []
    for places in heat.flatten().argsort(descending=True).chunk(steps):
        x.view(3, -1)[:, places] = 0
        values.append(p(x))
    return torch.stack(values).mean()


def one_at_a_time(p, x, heat, steps):
    values = []
    for places in heat.flatten().argsort(descending=True).chunk(steps):
        covered = x.clone()
        covered.view(3, -1)[:, places] = 0
        values.append(p(covered))
    return torch.stack(values).mean()


deleted = hiding()


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda *a: None, "Not answered"),
        (lambda *a: torch.trapezoid(deleted(*a), dx=1 / a[3]), "Right"),
        (lambda *a: deleted(*a).mean(), "Right"),
        (lambda *a: deleted(*a)[1:].mean().item(), "Right"),
        (lambda *a: deleted(*a)[:-1].sum() / a[3], "Right"),
        (lambda *a: hiding(lambda x, hidden: torch.where(hidden, x, 0.0))(*a).mean(), "insertion"),
        (lambda *a: hiding(order=torch.neg)(*a).mean(), "descending"),
        (lambda *a: hiding(lambda x, hidden: torch.where(hidden, -1.0, x))(*a).mean(), "black"),
        (lambda *a: hiding(lambda x, hidden: torch.where(hidden, x.min(), x))(*a).mean(), "black"),
        (lambda *a: 1 - deleted(*a).mean(), "one minus"),
        (lambda *a: deleted(*a).sum(), "added up"),
        (lambda *a: torch.trapezoid(deleted(*a)), "added up"),
        (one_at_a_time, "steps before stay hidden"),
        (painting, "photograph itself"),
        (deleted, "This is the curve"),
        (lambda *a: deleted(*a)[1:], "This is the curve"),
        (lambda p, x, heat, steps: x, "(3, 10, 10) came"),
        (lambda p, x, heat, steps: "small", "str came"),
        (lambda p, x, heat, steps: p(x[heat]), "stopped with IndexError"),
    ],
)
def test_deletion_exercise(function, says, capsys):
    checks.check_deletion(function)
    assert says in capsys.readouterr().out


def test_the_deletion_exercise_accepts_what_the_library_computes(capsys):
    class Asked(torch.nn.Module):
        """Two classes, whose probabilities are that of the exercise and the rest."""

        def __init__(self, p):
            super().__init__()
            self.p, self.scale = p, torch.nn.Parameter(torch.ones(()))

        def forward(self, x):
            seen = torch.stack([self.p(picture) for picture in x]).clamp(1e-6, 1 - 1e-6)
            return self.scale * torch.stack([seen.logit(), torch.zeros_like(seen)], 1)

    checks.check_deletion(
        lambda p, x, heat, steps: explain.deletion(Asked(p), x[None], heat[None], 0, steps=steps).area[0]
    )
    assert "Right" in capsys.readouterr().out


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1]


def ranks(values):
    return values.flatten().argsort().argsort()


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda a, b: correlation(ranks(a.abs()), ranks(b.abs())), "Right"),
        (lambda a, b: spearmanr(a.abs().flatten(), b.abs().flatten()).statistic, "Right"),
        (lambda a, b: correlation(a.abs(), b.abs()), "a few strong pixels"),
        (lambda a, b: correlation(a, b), "with their signs"),
        (lambda a, b: correlation(ranks(a), ranks(b)), "signs took part"),
        (lambda a, b: correlation(a.abs().flatten().argsort(), b.abs().flatten().argsort()), "One argsort"),
        (lambda a, b: 1 - correlation(ranks(a.abs()), ranks(b.abs())), "distance"),
        (lambda a, b: a, "(6, 7) came"),
        (lambda a, b: correlation(a[:2], b), "stopped with RuntimeError"),
    ],
)
def test_map_similarity_exercise(function, says, capsys):
    checks.check_map_similarity(function)
    assert says in capsys.readouterr().out


def place(heat):
    return divmod(int(heat.argmax()), heat.shape[1])


def inside(row, column, box):
    top, left, bottom, right = box
    return top <= row < bottom and left <= column < right


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda heat, box: None, "Not answered"),
        (lambda heat, box: inside(*place(heat), box), "Right"),
        (lambda heat, box: explain.pointing_game(heat[None], [box]).hits, "Right"),
        (lambda heat, box: inside(*place(heat)[::-1], box), "swapped"),
        (lambda heat, box: inside(*place(heat), (*box[:2], box[2] + 1, box[3] + 1)), "*outside*"),
        (lambda heat, box: inside(*place(heat), (box[0] + 1, box[1] + 1, *box[2:])), "Top and left"),
        (lambda heat, box: inside(*divmod(int(heat.argmax()), heat.shape[0]), box), "*width*"),
        (lambda heat, box: heat[box[0] : box[2], box[1] : box[3]].sum() > heat.sum() / 2, "most of the heat"),
        (lambda heat, box: not inside(*place(heat), box), "misses"),
        (lambda heat, box: True, "numbers are not"),
        (lambda heat, box: heat > 0, "stopped with RuntimeError"),
    ],
)
def test_pointing_game_exercise(function, says, capsys):
    checks.check_hit(function)
    assert says in capsys.readouterr().out
