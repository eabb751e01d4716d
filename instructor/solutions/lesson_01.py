"""Worked solutions of lesson 01: run it, and each check says that it is right."""

import torch
from sklearn.decomposition import PCA

from tlutils import explain
from tlutils.checks import lesson_01


def output_of(model, module, x):
    seen = []

    def keep(module, inputs, output):
        seen.append(output.clone())

    handle = module.register_forward_hook(keep)
    try:
        model(x)
    finally:
        handle.remove()
    return seen[0]


lesson_01.check_forward_hook(output_of)


def top_places(maps, count):
    width = maps.shape[2]
    values, places = maps.flatten(1).max(1)
    best = values.argsort(descending=True)[:count]
    return [(int(i), int(places[i]) // width, int(places[i]) % width) for i in best]


lesson_01.check_top_places(top_places)


def nearest(known, queries):
    known = known / known.norm(dim=1, keepdim=True)
    queries = queries / queries.norm(dim=1, keepdim=True)
    return (queries @ known.T).argmax(1)


lesson_01.check_nearest(nearest)
lesson_01.check_nearest(lambda *both: explain.nearest(*both, n_neighbors=1, metric="cosine")[1][:, 0])


def pca(features):
    centred = features - features.mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh
    return centred @ directions[:2].T


def pca_by_covariance(features):
    vectors = torch.linalg.eigh(torch.cov(features.T)).eigenvectors  # the widest comes last
    return (features - features.mean(0)) @ vectors[:, -2:].flip(1)


lesson_01.check_pca(pca)
lesson_01.check_pca(lambda features: -pca(features))  # a direction has no sign
lesson_01.check_pca(lambda features: PCA(2).fit_transform(features.numpy()))
lesson_01.check_pca(pca_by_covariance)


def number_of_directions(points):
    centred = points - points.mean(0)
    covariance = centred.T @ centred / len(points)
    eigenvalues = torch.linalg.eigvalsh(covariance)
    return eigenvalues.sum() ** 2 / eigenvalues.square().sum()


lesson_01.check_directions(number_of_directions)
lesson_01.check_directions(
    lambda points: torch.cov(points.T).trace() ** 2 / torch.cov(points.T).square().sum()
)
