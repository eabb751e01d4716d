"""Worked solutions of lesson 01: run it, and each check says that it is right."""

import numpy as np
import torch
from sklearn.decomposition import PCA

from tlutils import explain
from tlutils.checks import lesson_01


def energy(filters):
    return filters.square().sum((1, 2, 3))


def energy_explained(filters, fit):
    return 1 - energy(filters - fit) / energy(filters)


lesson_01.check_energy_explained(energy_explained)
lesson_01.check_energy_explained(lambda w, fit: energy(fit) / energy(w))  # the same where the fit is the best

lesson_01.check_dead_channels(lambda maps: maps.amax((0, 2, 3)) <= 0)
lesson_01.check_dead_channels(lambda maps: (maps <= 0).all(3).all(2).all(0))


def output_of(model, module, x):
    seen = []
    handle = module.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    try:
        model(x)
    finally:
        handle.remove()
    return seen[0]


lesson_01.check_forward_hook(output_of)


def pca(features):
    centred = features - features.mean(0)
    return centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T


def pca_by_covariance(features):
    vectors = torch.linalg.eigh(torch.cov(features.T)).eigenvectors  # the widest comes last
    return (features - features.mean(0)) @ vectors[:, -2:].flip(1)


lesson_01.check_pca(pca)
lesson_01.check_pca(lambda features: -pca(features))  # a direction has no sign
lesson_01.check_pca(lambda features: PCA(2).fit_transform(features.numpy()))
lesson_01.check_pca(pca_by_covariance)


def neighbours(places):
    return torch.cdist(places, places).fill_diagonal_(torch.inf).argmin(1)


def neighbours_kept(features, points):
    return (neighbours(features) == neighbours(points)).float().mean()


def neighbours_kept_by_the_library(features, points):
    one, other = (explain.nearest(places, n_neighbors=1)[1] for places in (features, points))
    return np.mean(one == other)


lesson_01.check_neighbours_kept(neighbours_kept)
lesson_01.check_neighbours_kept(neighbours_kept_by_the_library)

lesson_01.check_participation_ratio(lambda variances: variances.sum() ** 2 / (variances**2).sum())
lesson_01.check_participation_ratio(lambda v: float(v.sum() ** 2 / v.square().sum()))
lesson_01.check_receptive_field(7)
lesson_01.check_cosine_similarity(lambda a, b: (a * b).sum() / (a.norm() * b.norm()))
