"""What can be done with a pretrained network and some images: nine policies, the most frozen first."""

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from torch import nn

from .. import claims, data, metrics, surgery, train
from ..probe import COARSE_FOLDS, COARSE_PENALTIES, Probe, assign_folds, fit_probe, install_head

POLICIES = {
    "knn": "nearest neighbours in the final features of the frozen network",
    "probe": "a linear probe on the final features of the frozen network",
    "probe, best depth": "a linear probe on the features of the frozen network's best stage",
    "probe, all depths": "a linear probe on selected features of all stages of the frozen network",
    "last stage": "a solved head, then the last stage and the head are finetuned",
    "lp-ft": "a solved head, then all stages are finetuned",
    "finetune": "a random head, and all stages are finetuned at once",
    "first stages": "a solved head, then the first stages and the head are finetuned",
    "scratch": "a small network is trained from random weights",
}
"""What each policy does, from the most frozen and cheapest to the most expensive."""

FROM_PROBE = ("last stage", "lp-ft", "first stages")
"""Policies that train, and start from a solved head: Kumar et al. 2022, arXiv:2202.10054."""

SEARCHED = {"last stage": "few", "lp-ft": "lp-ft", "finetune": "finetune", "scratch": "scratch"}
"""The policies that train, by the strategy of `claims.STRATEGIES` that the course searched settings for.

Of "few", which trains the last two stages, the settings stand in for those of the last one alone.
"""

FIRST_RATE = 1e-3
"""Learning rate of the first stages, for which nothing was searched: between those of the other policies."""


class Images(data.LabelledImages, Protocol):
    """Images with labels, of which some can be taken."""

    def select(self, indices: Any, /) -> "Images":
        """Return some of them, by position."""
        ...


Features = Mapping[str, np.ndarray]
"""By stage: what leaves it, (N, D)."""


def final(x: Features) -> np.ndarray:
    """Return the final features: those of the last stage before the head, which comes last."""
    return list(x.values())[-1]


Classifier = Callable[[Features], np.ndarray]
"""From the features of images to the probability of each class, (N, C)."""


def fit(x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int, **settings: Any) -> Probe:
    """Return the probe of some features, (N, D), for labels and groups, (N,)."""
    chosen = {"penalties": COARSE_PENALTIES} | settings
    return fit_probe(x, y, groups=groups, folds=COARSE_FOLDS, seed=seed, **chosen)


def _knn(x: Features, y: np.ndarray, groups: np.ndarray, seed: int) -> Classifier:
    found = fit(final(x), y, groups, seed, kind="knn")
    return lambda new: found.predict_proba(final(new))


def _final(x: Features, y: np.ndarray, groups: np.ndarray, seed: int) -> Classifier:
    found = fit(final(x), y, groups, seed)
    return lambda new: found.predict_proba(final(new))


def best_depth(x: Features, y: np.ndarray, groups: np.ndarray, seed: int) -> tuple[str, Probe]:
    """Return the stage whose probe has the lowest loss in cross-validation, and that probe.

    Among equals, and where there are too few groups to cross-validate, it is the last.
    """
    probes = {stage: fit(x[stage], y, groups, seed) for stage in reversed(list(x))}
    return min(probes.items(), key=lambda item: item[1].cv["log_loss"].min() if len(item[1].cv) else np.inf)


def _best(x: Features, y: np.ndarray, groups: np.ndarray, seed: int) -> Classifier:
    stage, found = best_depth(x, y, groups, seed)
    return lambda new: found.predict_proba(new[stage])


SHARES = (0.02, 0.1, 0.3, 1.0)
"""Shares of the features of all depths that are tried; Head2Toe tries 0.0005 to 0.1, and 1."""


def _join(features: Features, stages: Iterable[str]) -> np.ndarray:
    return np.concatenate([features[stage] for stage in stages], axis=1)


def _rank(x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return the features in the order of their weights, in standardised units, in a probe of all."""
    linear: Any = fit(x, y, groups, seed, penalties=[0.03]).model
    weights = np.linalg.norm(linear.weight * x.std(0)[:, None], axis=1)
    return np.argsort(-weights, kind="stable")


def best_share(x: Features, y: np.ndarray, groups: np.ndarray, seed: int) -> float:
    """Return the share of the features of all stages with the highest score in cross-validation.

    Every fold selects for itself, at one penalty, so that it costs fifteen fits.
    """
    together, scores, fold = _join(x, x), np.zeros(len(SHARES)), assign_folds(y, groups, COARSE_FOLDS, seed)
    for number in range(COARSE_FOLDS):
        learn, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if not len(held):  # too few groups for so many folds
            continue
        known = together[learn], y[learn], groups[learn], seed
        ranked = _rank(*known)
        for i, share in enumerate(SHARES):
            kept = ranked[: ceil(share * len(ranked))]
            found = fit(known[0][:, kept], *known[1:], penalties=[0.3])
            scores[i] += metrics.balanced_accuracy(y[held], found.predict(together[np.ix_(held, kept)]))
    return SHARES[int(scores.argmax())]


def _selected(x: Features, y: np.ndarray, groups: np.ndarray, seed: int) -> Classifier:
    """Probe the features of all depths that matter most, after Head2Toe (Evci et al. 2022, arXiv:2201.03529).

    A feature matters by the norm of its weights. (Head2Toe has a group lasso there; its selection, too, is by
    this norm.) The share that is kept is chosen by cross-validation.
    """
    together = _join(x, x)
    kept = _rank(together, y, groups, seed)[: ceil(best_share(x, y, groups, seed) * together.shape[1])]
    final = fit(together[:, kept], y, groups, seed)
    return lambda new: final.predict_proba(_join(new, x)[:, kept])


PROBES: dict[str, Callable[[Features, np.ndarray, np.ndarray, int], Classifier]] = {
    "knn": _knn,
    "probe": _final,
    "probe, best depth": _best,
    "probe, all depths": _selected,
}
"""Policies that train nothing within the network, from (features, labels, groups, seed) to a classifier."""


def settings_for(policy: str, images: int, *, without: str = "") -> claims.Settings:
    """Return the settings of a policy that trains: what the course's search found best on its data sets.

    That is the geometric mean of their rates, the most steps (80 at least: a rate that is a little low needs
    them), and augmentation where most have it. Steps go with the square root of the number of images; the
    search had about 200.

    Args:
        policy: one of `POLICIES` that trains.
        images: how many it learns from, of all classes together.
        without: the data set whose search has no part in it.
    """
    searched = [
        claims.chosen_settings(name, SEARCHED[policy], per_class)
        for name, per_class in claims.SEARCH_IMAGES.items()
        if name != without and policy in SEARCHED
    ]
    steps = max(80, *(s.steps for s in searched)) if searched else 80
    rate = np.exp(np.mean([np.log(s.lr) for s in searched])) if searched else FIRST_RATE
    return claims.Settings(
        lr=float(f"{rate:.2g}"),
        steps=max(20, round(steps * (images / 200) ** 0.5)),
        augment=2 * sum(bool(s.augment) for s in searched) > len(searched),
        freeze_batchnorm=policy != "scratch",
        network="small" if policy == "scratch" else "backbone",
    )


def make_recipe(
    policy: str, model: nn.Module, images: int, settings: claims.Settings, seed: int
) -> train.Recipe:
    """Return the recipe of a policy that trains; first it freezes, where a recipe cannot say what to freeze.

    Args:
        policy: one of `POLICIES` that trains.
        model: the network, as it was loaded.
        images: how many it learns from.
        settings: as `settings_for` returns them.
        seed: what random numbers are drawn from.
    """
    own: dict[str, Any] = {
        "batch_size": claims.BATCH,
        "epochs": settings.epochs(images),
        "lr": settings.lr,
        "augment": settings.augment,
        "freeze_batchnorm": settings.freeze_batchnorm,
        "class_weight": "balanced",
        "keep": "last",
        "seed": seed,
    }
    if policy == "scratch":
        return train.Recipe.scratch(**own)
    stages = surgery.stages(model)
    if policy == "last stage":
        return train.Recipe.partial(stages.body[-1], **own, head_lr=settings.lr)
    if policy == "first stages":
        # Surgical finetuning (Lee et al. 2022, arXiv:2210.11466) trains the first stages where the input
        # shifted; the head follows, since it was solved for other features.
        trained = {
            name for stage in stages if stage.name in (*stages.body[:3], "head") for name in stage.parameters
        }
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
    if policy == "finetune":
        return train.Recipe.finetune(**own, head_lr=10 * settings.lr, reset="head")
    return train.Recipe.finetune(**own, head_lr=settings.lr)


def train_policy(
    policy: str,
    model: nn.Module,
    known: Images,
    settings: claims.Settings,
    *,
    solved: Probe | None,
    seed: int,
) -> train.History:
    """Train `model` in place on the images `known` as a policy says, and return the history of it.

    Args:
        policy: one of `POLICIES` that trains.
        model: pretrained, with a head for the classes; for "scratch" the network to train.
        known: the images to learn from.
        settings: as `settings_for` returns them.
        solved: the probe on the final features of `known`, with which `FROM_PROBE` start.
        seed: what random numbers are drawn from.

    Raises:
        LearnerError: `solved` cannot be the head of this network.
    """
    if solved is not None:
        install_head(model, solved, known)
    recipe = make_recipe(policy, model, len(known), settings, seed)
    nothing_to_judge = known.select([])
    splits = SimpleNamespace(train=known, val=nothing_to_judge, classes=known.classes)
    return train.fit(model, splits, recipe)
