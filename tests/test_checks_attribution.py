"""The exercises of lesson 01b: right answers pass, each mistake is named, and none ends the lesson."""

import pytest
import torch

from tlutils import checks, explain


def covered(x, rows, columns):
    x = x.clone()
    x[..., rows, columns] = 0
    return x


def falls(m, x, t, rows, columns):
    return (m(x) - m(covered(x, rows, columns)))[:, t]


def painted(m, x, t, rows, columns):
    before = m(x)
    x[..., rows, columns] = 0
    return (before - m(x))[:, t]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda m, x, t, r, c: None, "Not answered"),
        (falls, "Right"),
        (painted, "photograph itself"),
        (lambda *a: -falls(*a), "turned round"),
        (lambda m, *a: falls(lambda x: m(x).softmax(1), *a), "probability"),
        (lambda m, x, t, r, c: m(x) - m(covered(x, r, c)), "every class"),
        (lambda m, x, t, r, c: falls(m, x, 0, r, c), "class 0"),
        (lambda m, x, t, r, c: m(covered(x, r, c))[:, t], "score that is left"),
        (lambda m, x, t, r, c: (m(x) - m(x - covered(x, r, c)))[:, t], "everything *but*"),
        (lambda *a: falls(*a).relu(), "cut off at zero"),
        (lambda *a: falls(*a).abs(), "sign is gone"),
        (lambda *a: falls(*a).mean(), "whole batch"),
        (lambda *a: falls(*a).sum(), "added up the images"),
        (lambda *a: torch.zeros(7), "(7,) came"),
        (lambda m, x, t, r, c: m(x)[t, 9], "stopped with IndexError"),
    ],
)
def test_occlusion_exercise(function, says, capsys):
    checks.check_occlusion(function)
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
        (lambda m, x, t: m(x)[:, t].sum().backward(), "stopped with RuntimeError"),
    ],
)
def test_saliency_exercise(function, says, capsys):
    checks.check_saliency(function)
    assert says in capsys.readouterr().out


@pytest.mark.parametrize("rule", ["guided backprop", "deconvnet"])
@pytest.mark.parametrize(
    ("function", "guided", "deconvnet"),
    [
        (None, "Not answered", "Not answered"),
        (lambda a, g: g.relu() * (a > 0), "Right", "rule of guided backprop"),
        (lambda a, g: g.clamp(min=0), "rule of deconvnet", "Right"),
        (lambda a, g: g * (a > 0), "rule of plain backprop", "rule of plain backprop"),
        (lambda a, g: g.relu() * a.relu(), "do not multiply", "do not multiply"),
        (lambda a, g: a.relu(), "way forward", "way forward"),
        (lambda a, g: g.abs() * (a > 0), "turned round", "turned round"),
        (lambda a, g: g.abs(), "turned round", "turned round"),
        (lambda a, g: g, "nothing was dropped", "nothing was dropped"),
        (lambda a, g: (g > 0) & (a > 0), "where something passes", "numbers are not"),
        (lambda a, g: g > 0, "numbers are not", "where something passes"),
        (lambda a, g: g.max(), "(6,), and () came", "(6,), and () came"),
        (lambda a, g: g.relux(), "stopped with AttributeError", "stopped with AttributeError"),
    ],
)
def test_relu_rule_exercise(function, guided, deconvnet, rule, capsys):
    checks.check_relu_rule(function, rule)
    assert {"guided backprop": guided, "deconvnet": deconvnet}[rule] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda g: g.mean(0).abs().amax(0), "Right"),
        (lambda g: g.abs().mean(0).amax(0), "Average first"),
        (lambda g: g.abs().amax(1).mean(0), "mean of saliency maps"),
        (lambda g: g.sum(0).abs().amax(0), "number of copies"),
        (lambda g: g.mean(0).amax(0), "signs are still"),
        (lambda g: g.mean(0).abs().mean(0), "colours, too"),
        (lambda g: g.mean(1).abs().amax(0), "strongest copy"),
        (lambda g: g.mean(0), "colours are still"),
        (lambda g: g.mean(0).abs(), "colours are still"),
        (lambda g: g.abs().amax(1), "average over the copies"),
        (lambda g: g, "(4, 6)"),
        (lambda g: g.mean(9), "stopped with IndexError"),
    ],
)
def test_smooth_exercise(function, says, capsys):
    checks.check_smooth(function)
    assert says in capsys.readouterr().out


def along(slope, x, steps, first=1):
    return torch.stack([slope(x * (k + first) / steps) for k in range(steps)])


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (None, "Not answered"),
        (lambda slope, x, n: x * along(slope, x, n).mean(0), "Right"),
        (lambda slope, x, n: x * along(slope, x, n, first=0).mean(0), "Right"),
        (lambda slope, x, n: x * along(slope, x, n, first=0.5).mean(0), "Right"),
        (lambda slope, x, n: x * slope(x), "end of the way"),
        (lambda slope, x, n: x * slope(x / 2), "half-way"),
        (lambda slope, x, n: along(slope, x, n, first=0.5).mean(0), "Multiply it by x"),
        (lambda slope, x, n: x * along(slope, x, n).sum(0), "too large"),
        (lambda slope, x, n: (x * along(slope, x, n).mean(0)).abs(), "Keep the signs"),
        (lambda slope, x, n: (x * along(slope, x, n).mean(0)).sum(), "one share for each number"),
        (lambda slope, x, n: (x * along(slope, x, n).mean(0)).sum(0), "over the colours"),
        (lambda slope, x, n: torch.zeros(2), "(3, 4, 5)"),
        (lambda slope, x, n: x * slope(x, n), "stopped with TypeError"),
    ],
)
def test_integrated_gradients_exercise(function, says, capsys):
    checks.check_integrated(function)
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
        (lambda a, head, t: (head.weight[t].view(-1, 1, 1) * a).sum(1), "Right"),
        (lambda a, head, t: torch.einsum("c,nchw->nhw", head.weight[t], a), "Right"),
        (lambda a, head, t: a.mean(1), "plain mean"),
        (lambda a, head, t: a.sum(1), "plain sum"),
        (lambda a, head, t: torch.einsum("c,nchw->nhw", head.weight[0], a), "another class"),
        (lambda a, head, t: head(a.movedim(1, 3))[..., t], "bias"),
        (lambda a, head, t: torch.einsum("c,nchw->nhw", head.weight[t], a).relu(), "keeps its signs"),
        (lambda a, head, t: (head.weight[t].view(-1, 1, 1) * a).mean(1), "a mean over the channels"),
        (
            lambda a, head, t: torch.einsum("c,nchw->nhw", head.weight[t], a) / a[0, 0].numel(),
            "gradient does",
        ),
        (lambda a, head, t: head(a.mean((2, 3)))[:, t], "the score"),
        (lambda a, head, t: torch.einsum("c,nchw->n", head.weight[t], a) / a[0, 0].numel(), "the score"),
        (lambda a, head, t: torch.einsum("kc,nchw->nkhw", head.weight, a), "every class"),
        (lambda a, head, t: head(a.movedim(1, 3)).movedim(3, 1), "every class"),
        (lambda a, head, t: head.weight[t].view(-1, 1, 1) * a, "channels are still"),
        (lambda a, head, t: a[0], "(3, 4, 5) came"),
        (lambda a, head, t: "map", "str came"),
        (lambda a, head, t: head(a), "stopped with RuntimeError"),
    ],
)
def test_cam_exercise(function, says, capsys):
    checks.check_cam(function)
    assert says in capsys.readouterr().out
