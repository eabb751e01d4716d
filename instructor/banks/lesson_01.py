"""Answers to the exercises of lesson 01: check -> (answer, word of what is said of it)."""

import numpy as np
import torch

from tlutils.checks import lesson_01

ANSWERS = {}


def energy(filters):
    return filters.square().sum((1, 2, 3))


ANSWERS[lesson_01.check_energy_explained] = [
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
]


ANSWERS[lesson_01.check_dead_channels] = [
    (None, "Not answered"),
    (lambda maps: maps.amax((0, 2, 3)) > 0, "alive"),
    (lambda maps: (maps.amax((2, 3)) <= 0).any(0), "*some* image"),
    (lambda maps: maps.amin((0, 2, 3)) <= 0, "*some* place"),
    (lambda maps: maps.amax((2, 3)) <= 0, "images are still"),
    (lambda maps: (maps <= 0).float().mean((0, 2, 3)), "share of zeros"),
    (lambda maps: (maps.amax((0, 2, 3)) <= 0).sum(), "Say which"),
    (lambda maps: (maps.amax((0, 2, 3)) <= 0).nonzero()[:, 0], "their numbers"),
    (lambda maps: maps.amax((1, 2, 3)) <= 0, "second axis"),
    (lambda maps: [True, False], "got (2,)"),
    (lambda maps: maps.amax(7), "stopped with IndexError"),
]


ANSWERS[lesson_01.check_receptive_field] = [
    (None, "Not answered"),
    (5, "stride 1"),
    (49, "one side"),
    (11, "Not yet"),
    ([7], "Not yet"),
]


def cosine(a, b):
    return (a * b).sum() / (a.norm() * b.norm())


ANSWERS[lesson_01.check_cosine_similarity] = [
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
]


ANSWERS[lesson_01.check_participation_ratio] = [
    (None, "Not answered"),
    (lambda v: (v**2).sum() / v.sum() ** 2, "Upside down"),
    (lambda v: (v**2).sum() / (v**2).sum(), "squared before you added"),
    (lambda v: v.sum() / (v**2).sum(), "above the line"),
    (lambda v: v.sum() ** 2 / v.norm(), "root"),
    (lambda v: (v > 0).sum(), "counts"),
    (lambda v: v.sum(), "size of the cloud"),
    (lambda v: v.sum() / v.max(), "largest alone"),
    (lambda v: v, "got (5,)"),
    (lambda v: v.squared(), "stopped with AttributeError"),
]


def recording(keep, *, removed="always"):
    """An answer that keeps `keep(inputs, output)` of a module in a hook."""

    def record(model, module, x):
        seen = []
        handle = module.register_forward_hook(
            lambda module, inputs, output: seen.append(keep(inputs, output))
        )
        try:
            model(x)
            if removed == "at the end":
                handle.remove()
        finally:
            if removed == "always":
                handle.remove()
        return seen[0]

    return record


ANSWERS[lesson_01.check_forward_hook] = [
    (None, "Not answered"),
    (lambda model, module, x: None, "Not answered"),
    (recording(lambda inputs, output: output.clone()), "Right"),
    (recording(lambda inputs, output: output), "wrote into what you kept"),
    (recording(lambda inputs, output: inputs[0].clone()), "goes into the module"),
    (recording(lambda inputs, output: output.clone(), removed="never"), "hook is still there"),
    (recording(lambda inputs, output: output.clone(), removed="at the end"), "in `finally`"),
    (lambda model, module, x: model(x), "whole model"),
    (lambda model, module, x: x[0], "got (3, 8, 8)"),
    (lambda model, module, x: "maps", "got str"),
    (lambda model, module, x: module(x), "stopped with RuntimeError"),
]


def directions(features):
    """The directions of variance of features (N, D), a direction each row, the widest first."""
    return torch.linalg.svd(features, full_matrices=False).Vh


def centred(features):
    return features - features.mean(0)


def scaled(features):
    return centred(features) / features.std(0)


ANSWERS[lesson_01.check_pca] = [
    (None, "Not answered"),
    (lambda c: centred(c) @ directions(centred(c))[:2].T, "Right"),
    (lambda c: -centred(c) @ directions(centred(c))[:2].T, "Right"),
    (lambda c: centred(c) @ torch.linalg.eigh(torch.cov(c.T)).eigenvectors[:, -2:].flip(1), "Right"),
    (lambda c: c @ directions(c)[:2].T, "did not centre"),
    (lambda c: centred(c) @ directions(c)[:2].T, "did not centre"),
    (lambda c: c @ directions(centred(c))[:2].T, "mean is still there"),
    (lambda c: centred(c) @ directions(centred(c))[:, :2], "*rows*"),
    (lambda c: torch.linalg.svd(centred(c), full_matrices=False).U[:, :2], "same spread. Use"),
    (lambda c: centred(c) @ torch.linalg.eigh(torch.cov(c.T)).eigenvectors[:, :2], "*least*"),
    (lambda c: centred(c) @ directions(centred(c))[-2:].T, "*least*"),
    (lambda c: centred(c) @ torch.linalg.eigh(torch.cov(c.T)).eigenvectors[:, -2:], "swapped"),
    (lambda c: scaled(c) @ directions(scaled(c))[:2].T, "same spread first"),
    (lambda c: centred(c)[:, :2], "two of the features"),
    (lambda c: directions(centred(c))[:2], "the directions. Multiply"),
    (lambda c: directions(centred(c))[:2].T, "the directions. Multiply"),
    (lambda c: centred(c) @ directions(centred(c)).T, "all directions"),
    (lambda c: c[:, 0], "got (12,)"),
    (lambda c: torch.zeros(0, 2), "got (0, 2)"),
    (lambda c: "pca", "got str"),
    (lambda c: c @ c, "stopped with RuntimeError"),
]


def neighbours(places):
    return torch.cdist(places, places).fill_diagonal_(torch.inf).argmin(1)


def kept(features, points):
    return (neighbours(features) == neighbours(points)).float().mean()


def alike_distances(features, points):
    pairs = torch.triu_indices(len(features), len(features), 1)
    apart = [torch.cdist(places, places)[*pairs] for places in (features, points)]
    return torch.corrcoef(torch.stack(apart))[0, 1]


ANSWERS[lesson_01.check_neighbours_kept] = [
    (None, "Not answered"),
    (kept, "Right"),
    (lambda c, p: float(kept(c, p)), "Right"),
    (alike_distances, "moved one group far away"),
    (lambda c, p: alike_distances(c, p).item(), "moved one group far away"),
    (lambda c, p: np.float64(alike_distances(c, p)), "moved one group far away"),
    (lambda c, p: (torch.cdist(c, c).argmin(1) == torch.cdist(p, p).argmin(1)).float().mean(), "its own"),
    (lambda c, p: (neighbours(c) == neighbours(p)).sum(), "Divide by all"),
    (lambda c, p: neighbours(c) == neighbours(p), "take the mean"),
    (lambda c, p: 1 - kept(c, p), "were lost"),
    (
        lambda c, p: (torch.cdist(c, c).argmax(1) == torch.cdist(p, p).argmax(1)).float().mean(),
        "farthest away",
    ),
    (lambda c, p: c, "got (15, 3)"),
    (lambda c, p: "0.5", "got str"),
    (lambda c, p: c - p, "stopped with RuntimeError"),
]
