"""Answers to the exercises of lesson 01: check -> (answer, word of what is said of it)."""

import numpy as np
import torch

from tlutils.checks import lesson_01

ANSWERS = {}


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


def places(maps, count, *, across=None, score=lambda maps: maps.flatten(1).amax(1)):
    across = across or maps.shape[2]
    order = score(maps).argsort(descending=True)[:count]
    place = maps.flatten(1).argmax(1)[order]
    return torch.stack([order, place // across, place % across], 1)


def over_all(maps, count):
    places = maps.flatten().argsort(descending=True)[:count]
    return torch.stack(torch.unravel_index(places, maps.shape), 1)


ANSWERS[lesson_01.check_top_places] = [
    (None, "Not answered"),
    (lambda maps, count: None, "Not answered"),
    (places, "Right"),
    (lambda maps, count: [tuple(map(int, row)) for row in places(maps, count)], "Right"),
    (over_all, "appears twice"),
    (lambda maps, count: places(maps, count, score=lambda m: -m.flatten(1).amax(1)), "weakest"),
    (lambda maps, count: places(maps, count, score=lambda m: m.mean((1, 2))), "by their mean"),
    (lambda maps, count: places(maps, count).flip(0), "turn the order round"),
    (lambda maps, count: places(maps, count)[:, [0, 2, 1]], "swapped"),
    (lambda maps, count: places(maps, count, across=maps.shape[1]), "divided by the height"),
    (lambda maps, count: places(maps, count)[places(maps, count)[:, 0].argsort()], "order of the images"),
    (lambda maps, count: places(maps, count)[:, 0], "where in them"),
    (lambda maps, count: places(maps, count, across=10**6)[:, [0, 2]], "still one number"),
    (lambda maps, count: places(maps, len(maps)), "first `count`"),
    (lambda maps, count: places(maps, count)[:2], "got (2, 3)"),
    (lambda maps, count: maps @ maps[0], "stopped with RuntimeError"),
]


def similar(known, queries):
    return torch.cosine_similarity(queries[:, None], known[None], dim=2)  # (M, N)


ANSWERS[lesson_01.check_nearest] = [
    (None, "Not answered"),
    (lambda known, queries: None, "Not answered"),
    (lambda known, queries: similar(known, queries).argmax(1), "Right"),
    (lambda known, queries: np.array([int(similar(known, q[None]).argmax()) for q in queries]), "Right"),
    (lambda known, queries: (queries @ known.T).argmax(1), "long vector"),
    (lambda known, queries: torch.cdist(queries, known).argmin(1), "plain distance"),
    (lambda known, queries: similar(known, queries).argmin(1), "least similar"),
    (lambda known, queries: similar(known, queries).argmax(0), "each known image"),
    (similar, "Say which row"),
    (lambda known, queries: similar(known, queries).amax(1), "Say which row"),
    (lambda known, queries: similar(known, queries).argmax(), "got ()"),
    (lambda known, queries: queries @ known, "stopped with RuntimeError"),
]


def ratio(values):
    return values.sum() ** 2 / (values**2).sum()


def variances(points):
    return torch.linalg.eigvalsh(torch.cov(points.T))


ANSWERS[lesson_01.check_directions] = [
    (None, "Not answered"),
    (lambda p: None, "Not answered"),
    (lambda p: ratio(variances(p)), "Right"),
    (lambda p: float(ratio(torch.linalg.svdvals(centred(p)) ** 2)), "Right"),
    (lambda p: ratio(torch.linalg.eigvalsh(p.T @ p / len(p))), "mean is still there"),
    (lambda p: ratio(torch.linalg.svdvals(centred(p))), "are lengths"),
    (lambda p: ratio(p.var(0)), "along the axes"),
    (lambda p: 1 / ratio(variances(p)), "Upside down"),
    (lambda p: (variances(p) ** 2).sum() / (variances(p) ** 2).sum(), "squared before you added"),
    (lambda p: variances(p).sum() / (variances(p) ** 2).sum(), "above the line"),
    (lambda p: (variances(p) > 1e-6).sum(), "counts the directions"),
    (lambda p: variances(p).sum(), "size of the cloud"),
    (lambda p: variances(p).sum() / variances(p).max(), "largest alone"),
    (variances, "got (4,)"),
    (lambda p: p.eigenvalues(), "stopped with AttributeError"),
]
