"""How an advice is measured: the images read and audited, the policies raced, the network tried."""

import copy
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from .. import claims, data, features, models, novelty, runtime, surgery, transferability
from ..errors import LearnerError
from ..intervals import wilson_interval
from ..probe import COARSE_FOLDS, install_head
from . import backbones
from .advice import ANCHORS, Advice
from .images import audit_images, inferred, suspect_labels
from .policies import best_depth, best_share, final, fit
from .race import LEVEL, Decision, Race, decide, expect, learning_curve

log = logging.getLogger(__name__)

SAMPLE, DEPLOYED = 32, 200
"""Images by which a distance is measured, and that are compared of a `deploy` folder."""


def advise(
    dataset: str | Path | data.DatasetSplits,
    *,
    budget: float = 10.0,
    group_by: data.GroupBy | None = None,
    deploy: str | Path | Sequence[str | Path] | None = None,
    backbone: str | Sequence[str] = models.DEFAULT,
    seed: int = 0,
    say: Callable[[str], object] = log.info,
) -> Advice:
    """Return how much of a pretrained network to freeze for some images, measured on these images.

    Every policy of `POLICIES` learns from two thirds of the images and is judged on the rest, three times;
    the test split stays closed. Policies that train nothing within the network share one pass over the
    images. Those that train are raced: all on the first fold, the better half on the next, as far as the
    budget reaches. The probe at the best depth is recommended, unless the folds say, at 90 %, that the best
    policy is better (`race.DEFAULT` says why).

    Of several backbones, each runs the policies that train nothing, on the same folds. One of these, fixed
    beforehand, says which backbone scores highest (`backbones.JUDGE`); the policies that train are raced on
    that one alone. Those that tie with it are named, with what an image costs in each.

    Args:
        dataset: a folder, a name, or what `data.load` returns.
        budget: minutes that the whole may take. The frozen policies always run, of every backbone.
        group_by: which images stay together, such as those of a patient: a function from a path to a key, or
            a regular expression, as in `data.load`.
        deploy: a folder, or files, of images as the model will meet them, without labels.
        backbone: a name of `models.catalog`, or several.
        seed: the random seed, of the splits, too.
        say: called with each line on how it goes: what was found, the answer from the frozen
            policies alone, and how long each policy that trains is expected to take.

    Raises:
        LearnerError: the data cannot be loaded or split, a class has no image, or a network is unknown,
            named twice, missing, or cannot be cut.

    Example:
        >>> from dataclasses import replace
        >>> from tlutils import advisor, data, models
        >>> wafers = data.load("elpv-wafers")
        >>> few = replace(wafers, train=wafers.train.subsample(6), val=wafers.val.select([]))
        >>> path = models.save(models.load("test_resnet", pretrained=False, input_size=32), "tiny")
        >>> advice = advisor.advise(few, budget=0, backbone=str(path))
        >>> advice.policy in advisor.POLICIES
        True
    """
    start = time.monotonic()
    if not budget >= 0:
        raise LearnerError(f"budget={budget!r}. Expected minutes, 0 or more.")
    names = backbones.check_names(backbone)
    source = str(dataset) if isinstance(dataset, str | Path) else ""
    if isinstance(dataset, Path) and source in {card.name for card in data.catalog()}:
        source = f"./{source}"  # a folder that has the name of a data set
    loaded = dataset
    if not isinstance(loaded, data.DatasetSplits):
        loaded = data.load(loaded, seed=seed, too_few="train", group_by=group_by)
    known = loaded.train.join(loaded.val).grouped(group_by)
    _check(known)
    unsorted = [deploy] if isinstance(deploy, str | Path) else list(deploy or [])
    say(inferred(known))

    def enter(name: str) -> tuple[nn.Module, Race]:
        """Read the images by a network, and run what trains nothing."""
        model = data.read_files_as(models.load(name), known)
        before = time.monotonic()
        read = _read(model, known)
        race = Race(
            images=known,
            features=read,
            groups=np.unique(known.groups, return_inverse=True)[1],
            pass_seconds=time.monotonic() - before,
            load=_loader(name, len(known.classes)),
            deadline=start + 60 * budget,
            seed=seed,
            say=say,
        )
        race.run_frozen()
        return model, race

    chosen, model, race, compared = backbones.choose(names, known, enter, say)
    linear = _takes_probe(race)
    depth, _ = best_depth(race.features, race.labels, race.groups, seed)
    ends = linear if depth == list(race.features)[-1] else _can_end(chosen, depth)
    findings = audit_images(known, loaded.problems)
    findings += suspect_labels(known, race.runners["probe"].probabilities)
    distance, anchors = _distances(model, known)
    curve = learning_curve(race)
    deployed = _compare(model, race, unsorted, say) if unsorted else None

    def advice() -> Advice:
        decision = decide(race.finished, race.labels, race.groups)
        stage = depth if decision.policy == "probe, best depth" else ""
        if decision.policy == "last stage":
            stage = surgery.stages(model).body[-1]
        return Advice(
            name=loaded.name,
            source=source,
            group_by=None if callable(group_by) else group_by or "",
            deploy=[str(path) for path in unsorted],
            classes=list(known.classes),
            images=len(known),
            learned=len(loaded.train),
            inferred=inferred(known),
            findings=findings,
            backbone=chosen,
            backbones=compared,
            stages=list(race.features),
            linear=linear,
            depth=depth,
            ends=ends,
            policy=decision.policy,
            stage=stage,
            share=best_share(race.features, race.labels, race.groups, seed)
            if decision.policy == "probe, all depths"
            else 1.0,
            expected=expect(decision, curve),
            decision=decision,
            table=_tabulate(race, decision),
            curve=curve,
            distance=distance,
            anchors=anchors,
            deployed=deployed,
            budget=budget,
            seconds=time.monotonic() - start,
            seed=seed,
            probabilities={name: r.probabilities for name, r in race.runners.items() if r.folds},
            known=known,
        )

    first = advice()
    say(
        f"After {first.seconds:.0f} s, from the frozen policies alone: {first.verdict} Expected balanced "
        f"accuracy {first.expected}."
    )
    if time.monotonic() > race.deadline:
        return first
    race.run_training()
    return advice()


def _check(known: data.Split) -> None:
    counts = known.counts
    absent = [name for name, n in counts.items() if not n]
    alone = [name for name, n in counts.items() if n == 1]
    if len(counts) < 2 or absent or len(alone) == len(counts):
        raise LearnerError(
            f"{len(known)} images of {len(counts)} classes arrived"
            + (f", none of {', '.join(map(repr, absent))}" if absent else "")
            + f". Expected two classes or more, each with images, better {data.FEW_IMAGES} of each."
        )


def _read(model: nn.Module, known: data.Split) -> dict[str, np.ndarray]:
    before = surgery.stages(model).names[:-1]
    at = before[1:] or before
    store = features.extract(model, known, at=at)
    return {stage: features.as_rows(store[stage]).astype(np.float32) for stage in at}


def _loader(backbone: str, classes: int) -> Callable[[str], nn.Module]:
    """Return a function that gives a network as it was loaded, for a policy.

    Finding the stages of a network takes longer than putting its weights back, so it is the same one each
    time.
    """
    model = surgery.replace_head(models.load(backbone), classes)
    weights = copy.deepcopy(model.state_dict())

    def load(policy: str) -> nn.Module:
        if policy == "scratch":
            return claims.small_network(classes, seed=0)
        model.load_state_dict(weights)
        return surgery.unfreeze(model, "*").eval()

    return load


def _takes_probe(race: Race) -> bool:
    """Return whether a probe can become the head of the network."""
    found = fit(final(race.features), race.labels, race.groups, race.seed)
    try:
        install_head(race.load("probe"), found, race.images)
    except LearnerError:
        return False
    return True


def _can_end(backbone: str, stage: str) -> bool:
    """Return whether a network can end after a stage, with a linear head behind it."""
    try:
        surgery.truncate(models.load(backbone), stage)
    except LearnerError:
        return False
    return True


def _distances(model: nn.Module, known: data.Split) -> tuple[float, dict[str, float]]:
    """Return how far the images are from those of pretraining, and how far others are."""

    def measure(split: data.Split) -> float:
        rows = np.random.default_rng(0).permutation(len(split))[:SAMPLE]
        return transferability.domain_distance(model, split.select(sorted(rows))).value

    try:
        own = measure(known)
    except LearnerError as error:  # no BatchNorm
        log.info("%s", error)
        return float("nan"), {}
    return own, {name: measure(data.load(name).train) for name in ANCHORS}


def _compare(
    model: nn.Module, race: Race, unsorted: Sequence[str | Path], say: Callable[[str], object]
) -> novelty.Comparison:
    """Return how the images of a folder, or files, compare with those that are learned from."""
    paths = [file for path in map(runtime.user_path, unsorted) for file in data.list_files(path)]
    drawn = np.random.default_rng(race.seed).permutation(len(paths))[:DEPLOYED]
    transform, read = data.transform_for(model), features.make_predictor(model)
    rows, unreadable = [], []
    for i in runtime.progress(sorted(drawn), desc="deploy"):
        try:
            rows.append(read(transform(paths[i])[None])[1][0])
        except data.UnreadableImage as error:
            unreadable.append(f"{paths[i].name}: {error.message}")
    if unreadable:
        say(f"{len(unreadable)} of {len(drawn)} files to compare with could not be read. {unreadable[0]}")
    if not rows:
        raise LearnerError(
            f"No image was found in {', '.join(map(str, unsorted))}. Expected a folder, or files."
        )
    detector = novelty.fit_detector(final(race.features), groups=race.groups, seed=race.seed)
    return detector.compare(np.stack(rows), seed=race.seed)


def _tabulate(race: Race, decision: Decision) -> pd.DataFrame:
    """Return one row per policy, the most frozen first."""
    rows: list[dict[str, Any]] = []
    for name, runner in race.runners.items():
        hits = race.hits(name)
        judged = ~np.isnan(hits)
        line: dict[str, Any] = {"policy": name, "folds": runner.folds}
        if judged.any():
            shown = hits[judged], race.labels[judged]
            score = wilson_interval(*shown, groups=race.groups[judged], level=LEVEL)
            line |= dict(zip(("score", "low", "high"), score, strict=True))
        behind = decision.behind.get(name)
        line |= {
            "behind": behind.value if behind else np.nan,
            "ties": name in decision.tied,
            "predicted": runner.predicted,
            "seconds": runner.seconds,
            "left_out": runner.left_out
            or ("" if runner.folds == COARSE_FOLDS else "not tried within the budget"),
        }
        rows.append(line)
    columns = [
        "policy",
        "folds",
        "score",
        "low",
        "high",
        "behind",
        "ties",
        "predicted",
        "seconds",
        "left_out",
    ]
    return pd.DataFrame(rows, columns=columns).set_index("policy")
