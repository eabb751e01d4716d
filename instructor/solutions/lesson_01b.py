"""Worked solutions of lesson 01b: run it, and each check says that it is right."""

import torch
from scipy.stats import spearmanr

from tlutils import explain
from tlutils.checks import lesson_01b


def occlusion_drop(model, x, target, rows, columns):
    covered = x.clone()
    covered[..., rows, columns] = 0
    return (model(x) - model(covered))[:, target]


lesson_01b.check_occlusion(occlusion_drop)


def integrated(slope, x, steps, first=1):
    return x * torch.stack([slope(x * (k + first) / steps) for k in range(steps)]).mean(0)


lesson_01b.check_integrated_gradients(integrated)
lesson_01b.check_integrated_gradients(lambda *inputs: integrated(*inputs, first=0.5))  # the middles
lesson_01b.check_integrated_gradients(lambda *inputs: integrated(*inputs, first=0))  # the left ends


def deleted(score, x, heat, steps):
    """Return the score of each picture, from the whole one to one with all pixels black."""
    ranks = (-heat).flatten().argsort().argsort().view_as(heat)
    counts = [round(heat.numel() * step / steps) for step in range(steps + 1)]
    return torch.stack([score(torch.where(ranks < count, 0.0, x)) for count in counts])


lesson_01b.check_deletion(lambda *inputs: torch.trapezoid(deleted(*inputs), dx=1 / inputs[-1]))
lesson_01b.check_deletion(lambda *inputs: deleted(*inputs).mean())
lesson_01b.check_deletion(lambda *inputs: deleted(*inputs)[1:].mean().item())
lesson_01b.check_deletion(lambda *inputs: deleted(*inputs)[:-1].sum() / inputs[-1])


def ranks(values):
    return values.abs().flatten().argsort().argsort().double()


lesson_01b.check_rank_correlation(lambda a, b: torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1])
lesson_01b.check_rank_correlation(lambda a, b: spearmanr(a.abs().flatten(), b.abs().flatten()).statistic)


def saliency(model, x, target):
    x.requires_grad_()
    return torch.autograd.grad(model(x)[:, target].sum(), x)[0].abs().amax(1)


lesson_01b.check_saliency(saliency)
lesson_01b.check_saliency(explain.saliency)

lesson_01b.check_grad_cam(lambda maps, g: (g.mean((2, 3), keepdim=True) * maps).sum(1).relu())
lesson_01b.check_grad_cam(lambda maps, g: torch.einsum("nc,nchw->nhw", g.mean((2, 3)), maps).clamp(min=0))
