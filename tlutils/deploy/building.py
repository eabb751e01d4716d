"""From a data set to a folder with the model, its report and its card; an interrupted run goes on."""

import contextlib
import io
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .. import data, features, fingerprint, models, novelty, probe, runtime, surgery, train
from ..errors import LearnerError
from ..intervals import Estimate
from .card import write_card
from .doubts import list_doubts
from .judging import Judgement, judge
from .page import render
from .prediction import EMBEDDINGS, MODEL
from .preprocessing import describe_preprocessing
from .results import Results, ShownSuspect

RUN, REPORT, CARD, HISTORY = "run.json", "report.html", "README.md", "history.csv"
TRAINING = "training"  # where an unfinished training keeps its checkpoint
SUSPECTS = 12  # that are shown
SUSPICIOUS = 0.02  # share of labels that look wrong; from here on, the report begins with it
THUMBNAIL = 144  # pixels
NAME = 60  # letters of the data set's name in that of its folder


@dataclass(frozen=True)
class Built:
    """A folder with a finished model.

    Attributes:
        folder: It holds the model (`models.load(folder)`), `report.html`, the model card `README.md`, and the
            embeddings by which images unlike the training images are noticed.
        balanced_accuracy: On the test images, with its interval; NaN where there are none.
        images: How many test images there were.
        doubts: What makes the result less sure than it looks, and what followed from it.
        trained: How it was trained, in words.
    """

    folder: Path
    balanced_accuracy: Estimate
    images: int
    doubts: list[str]
    trained: str


def recipe_from(from_stage: str, *, seed: int = 0) -> train.Recipe:
    """Return the recipe that trains from a stage on, gently, with every class counting alike.

    `build` solves the head on the frozen features first (LP-FT, Kumar et al. 2022, arXiv:2202.10054), so that
    head and stages share one small learning rate. Images are moved a little, and not mirrored, since what is
    mirrored may be another thing.

    Args:
        from_stage: Name of the first stage that trains; "all" for the whole network.
        seed: What all random numbers are drawn from.

    Example:
        >>> from tlutils import deploy
        >>> deploy.recipe_from("stage6").phases[0].from_stage
        'stage6'
    """
    shared: dict[str, Any] = {"class_weight": "balanced", "augment": "shift", "head_lr": 3e-4, "seed": seed}
    if from_stage == "all":
        return train.Recipe.finetune(**shared)
    return train.Recipe.partial(from_stage, views=4, **shared)


def build(
    dataset: data.DatasetSplits,
    out: str | Path | None = None,
    *,
    backbone: str | Path = models.DEFAULT,
    recipe: train.Recipe | None = None,
    head: probe.Probe | None = None,
    at: str | None = None,
    seed: int = 0,
    say: Callable[[str], object] = lambda line: None,
) -> Built:
    """Train a model on a data set, judge it on the test images, and leave it in a folder with its card.

    The same call again goes on after an interruption; once finished, it only tells the result again.

    Args:
        dataset: Images with three splits, as `data.load` gives them.
        out: The folder; one that is there must be that of the same run. Unless given, NAME-model in the
            current folder, or beside the images where that is among them, with a number where the name is
            taken.
        backbone: Name of a pretrained model, or a file of `models.save`.
        recipe: How to train, from a solved head on, unless its `reset` says that the head, or all weights,
            are initialised at random. None keeps the backbone frozen.
        head: A probe fitted on the output of the stage before the head, which becomes the head as it is. None
            solves one: a linear probe, its penalty chosen by cross-validation, on the features of train, and
            of val without a recipe.
        at: The stage after which the network ends (`surgery.truncate`): the head reads what leaves it. None
            keeps all stages. The stages of a recipe are those of the network that ends there.
        seed: What the cross-validation of the probe, and a new head, are drawn from.
        say: Called with each line on how it goes.

    Raises:
        LearnerError: When the folder holds something else, the backbone is unknown, cannot be cut or cannot
            end after `at`, or recipe or head do not fit it, or each other.

    Example:
        >>> from dataclasses import replace
        >>> from tlutils import data, deploy, models
        >>> digits = data.load("digits")
        >>> sizes = {"train": 4, "val": 1, "test": 1}
        >>> few = {name: getattr(digits, name).subsample(n) for name, n in sizes.items()}
        >>> path = models.save(models.load("test_resnet", pretrained=False, input_size=32), "tiny")
        >>> built = deploy.build(replace(digits, **few), "digits-model", backbone=path)
        >>> built.images, sorted(p.name for p in built.folder.iterdir())
        (10, ['README.md', 'embeddings.safetensors', 'model.safetensors', 'report.html', 'run.json'])
        >>> models.info(models.load("digits-model")).classes[:3]
        ['0', '1', '2']
    """
    _check_kinds(recipe, head)
    key = _identify(dataset, backbone, recipe, head, at, seed)
    folder = runtime.user_path(out) if out is not None else _choose_folder(dataset.name, dataset.root, key)
    if folder.resolve().is_relative_to(dataset.root.resolve()):
        raise LearnerError(f"{folder} lies among the images of {dataset.root}. Choose a folder elsewhere.")
    if found := _open(folder, key):
        return found
    model = models.load(backbone)
    begun = models.info(model)
    ends = ""
    if at is not None:
        surgery.truncate(model, at, num_classes=len(dataset.classes), seed=seed)
        ends = (
            f"The network ends after {at}: its head reads the mean, over all places, of what leaves there. "
        )
    if recipe is not None:
        _check_stages(model, recipe)
    _write_json(folder / RUN, {"key": key, "built": None})
    if at is None:
        surgery.replace_head(model, len(dataset.classes), seed=seed)
    done = _train(model, dataset, recipe, head, folder, seed, say)
    models.describe(model, classes=list(dataset.classes))
    say(ends + done.words)
    say("judging on the test images")
    judgement = judge(model, dataset.test, done.detector, dataset.name_of) if len(dataset.test) else None
    doubts = [*list_doubts(dataset), *done.doubts]
    about_suspects = _describe_suspects(done)
    if len(done.suspects) >= SUSPICIOUS * done.labels:
        doubts.append(about_suspects)
    results = Results(
        name=dataset.name,
        backbone=begun.name,
        weights=begun.weights or "of unknown origin",
        classes=list(dataset.classes),
        counts={split.name: list(split.counts.values()) for split in _splits(dataset)},
        split_rule=dataset.card.split_rule,
        problems=dataset.noted,
        doubts=doubts,
        judgement=judgement,
        suspects=[_show(suspect, done.learned, dataset) for suspect in done.suspects[:SUSPECTS]],
        suspects_words=about_suspects,
        novelty=_describe_detector(done.detector, judgement),
        trained=ends + done.words,
        preprocessing=describe_preprocessing(model),
    )
    return _write(folder, key, model, done.detector, results)


@dataclass(frozen=True, eq=False)
class _Trained:
    """How a training went: in words, and what it leaves beside the model."""

    words: str
    detector: novelty.Detector
    learned: list[data.Split]  # whose labels were looked at
    labels: int
    suspects: list[probe.LabelIssue]
    doubts: list[str]


def _train(
    model: nn.Module,
    dataset: data.DatasetSplits,
    recipe: train.Recipe | None,
    head: probe.Probe | None,
    folder: Path,
    seed: int,
    say: Callable[[str], object],
) -> _Trained:
    """Train a model with a new random head, in place: by a probe that becomes it, by a recipe, or by both."""
    at = surgery.stages(model).embedding
    learned = [dataset.train]
    if recipe is None and len(dataset.val):
        learned.append(dataset.val)  # nothing else is chosen on it
    images = sum(map(len, learned))
    say(f"features of {images} images")
    stores = [features.extract(model, split, at=at) for split in learned]
    x = np.concatenate([features.as_rows(store[at]) for store in stores])
    labels = np.concatenate([store.labels for store in stores])
    groups = np.concatenate([store.groups for store in stores])

    weights = recipe.class_weight if recipe else head.class_weight if head else "balanced"
    solving: dict[str, Any] = {"groups": groups, "class_weight": weights, "seed": seed}
    solved, doubts = False, list[str]()
    if not (recipe and recipe.reset):
        fitted = head or probe.fit_probe(x, labels, classes=dataset.classes, **solving)
        try:
            probe.install_head(model, fitted, dataset.train)
            solved = True
        except LearnerError as reason:
            if head:
                raise
            say(f"{reason} Its head is trained in steps, from random weights.")
            recipe = recipe or train.Recipe.probe(class_weight="balanced", seed=seed)
    suspects = probe.find_label_issues(labels, probe.cross_val_predict(x, labels, **solving))
    if recipe is not None:
        history = _fit(model, dataset, recipe, folder, say)
        words = _describe_training(history, dataset, solved)
        if history.stopped:
            doubts.append(f"Training ended early: {history.stopped}")
        bank, held = (
            features.extract(model, split, at=at) if len(split) else None
            for split in (dataset.train, dataset.val)
        )
        assert bank is not None
        detector = novelty.fit_detector(
            features.as_rows(bank[at]),
            groups=bank.groups,
            held_out=None if held is None else features.as_rows(held[at]),
            held_out_groups=None if held is None else held.groups,
        )
    else:
        words = (
            f"The backbone stayed as it was. Its head is a linear probe with the penalty {fitted.setting:g}, "
        )
        words += (
            "which was given."
            if head
            else f"solved on the features of {images} images, every class counting alike."
        )
        detector = novelty.fit_detector(x, groups=groups)
    return _Trained(words, detector, learned, len(labels), suspects, doubts)


def _fit(
    model: nn.Module,
    dataset: data.DatasetSplits,
    recipe: train.Recipe,
    folder: Path,
    say: Callable[[str], object],
) -> train.History:
    """Train by a recipe; the checkpoint lies in the folder until the model does."""

    def tell(history: train.History) -> None:
        row = history.rows[-1]
        score = row.get("val_balanced_accuracy")
        judged = "" if score is None else f", balanced accuracy on the validation images {score:.3f}"
        say(f"epoch {len(history)} of {recipe.epochs}: loss {row['train_loss']:.3f}{judged}")

    history = train.fit(model, dataset, recipe, out=folder / TRAINING, on_epoch=tell)
    history.to_csv(folder / HISTORY)
    return history


def _check_kinds(recipe: object, head: object) -> None:
    """Raise LearnerError for a recipe that is none, a head that is none, or two that exclude each other."""
    if not isinstance(recipe, train.Recipe | None):
        raise LearnerError(
            f"recipe is a {type(recipe).__name__}. Expected a train.Recipe, or None, which trains the head "
            "alone. A solved probe is given as head=…"
        )
    if not isinstance(head, probe.Probe | None):
        raise LearnerError(
            f"head is a {type(head).__name__}. Expected what probe.fit_probe returns, or None, which solves "
            "one. How to train is given as recipe=…"
        )
    if head and recipe and recipe.reset:
        raise LearnerError(
            f"recipe.reset is {recipe.reset!r}, which initialises the head at random, and head is a solved "
            "probe. Leave one of them out."
        )


def _check_stages(model: nn.Module, recipe: train.Recipe) -> None:
    """Raise LearnerError for a stage that the model does not have, before any time is spent."""
    for phase in recipe.phases:
        if phase.from_stage != "all":
            surgery.split_at(model, phase.from_stage)


def _describe_training(history: train.History, dataset: data.DatasetSplits, solved: bool) -> str:
    recipe, stages = history.recipe, [row["from_stage"] for row in history.rows]
    start = "with random weights"
    if recipe.reset is not True:
        head = "solved as a linear probe on frozen features" if solved else "random"
        start = f"from the pretrained weights, the head {head}"
    chosen = ", the best on the validation images" if recipe.keep == "best" and len(dataset.val) else ""
    weights = "every class counting alike" if recipe.class_weight else "every image counting alike"
    trained = ", then ".join(
        "all stages trained" if stage == "all" else f"trained from {stage} on"
        for stage in dict.fromkeys(stages)
    )
    return (
        f"Recipe {recipe.name!r} on {len(dataset.train)} images: {start}, {trained}, "
        f"{len(history)} epochs, {weights}. The weights are those of epoch {history.kept_epoch}{chosen}."
    )


def _describe_suspects(done: _Trained) -> str:
    count = len(done.suspects)
    if not count:
        return ""
    return (
        f"{count} of {done.labels} labels ({count / done.labels:.0%}) look wrong to a probe that had not "
        "seen the image. Some of these images are merely hard: look at them, and correct what is wrong. "
        "Among the test images presumably as many labels are wrong, and each makes the model look worse than "
        "it is."
    )


def _describe_detector(detector: novelty.Detector, judgement: Judgement | None) -> str:
    if detector.threshold == float("inf"):
        return (
            f"{len(detector.held_out_scores)} held-out images are too few to say which images look unlike "
            f"the training images; {detector.held_out_needed} would do."
        )
    words = (
        "An image is called unlike the training images when its embedding lies farther from them than those "
        f"of {1 - detector.false_alarm_rate:.0%} of {len(detector.held_out_scores)} held-out images."
    )
    return words + (f" Of the test images: {judgement.unlike}." if judgement else "")


def _show(
    suspect: probe.LabelIssue, learned: Sequence[data.Split], dataset: data.DatasetSplits
) -> ShownSuspect:
    """Return a suspect with its picture."""
    row, split = suspect.row, learned[0]
    if row >= len(split):
        row, split = row - len(split), learned[1]
    picture, kept = split.read(row, min_side=THUMBNAIL), io.BytesIO()
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    picture.save(kept, "jpeg", quality=80)
    return ShownSuspect(
        dataset.name_of(split.paths[row]),
        dataset.classes[suspect.label],
        dataset.classes[suspect.suggested],
        suspect.probability,
        kept.getvalue(),
    )


def _splits(dataset: data.DatasetSplits) -> tuple[data.Split, data.Split, data.Split]:
    return dataset.train, dataset.val, dataset.test


def _identify(
    dataset: data.DatasetSplits,
    backbone: str | Path,
    recipe: train.Recipe | None,
    head: probe.Probe | None,
    at: str | None,
    seed: int,
) -> dict[str, Any]:
    """Return what makes a run this run, as plain values."""
    words = repr(recipe) if recipe else "a linear probe"
    if head:
        words += f", {head!r} {fingerprint.of_tensors(head.head())}"
    return {
        "images": {split.name: split.fingerprint for split in _splits(dataset)},
        "backbone": str(backbone),
        "training": words,
        "last stage": at,
        "seed": seed,
    }


def _open(folder: Path, key: dict[str, Any]) -> Built | None:
    """Return the result of a finished run in a folder, None where it is free or the run goes on.

    Raises LearnerError for a folder with anything else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        found = json.loads((folder / RUN).read_text("utf-8"))
        there, built = dict(found["key"]), found["built"]
    except (OSError, ValueError, KeyError, TypeError):
        raise LearnerError(
            f"{folder} exists and was not written by this command; nothing was changed. Choose another "
            "folder."
        ) from None
    if differs := [name for name in key if there.get(name) != key[name]]:
        raise LearnerError(
            f"{folder} holds a run with a different {', '.join(differs)}; nothing was changed. Choose "
            "another folder."
        )
    if built is None or not (folder / MODEL).is_file():
        return None
    return Built(
        folder,
        Estimate(*map(float, built["balanced_accuracy"])),
        built["images"],
        built["doubts"],
        built["trained"],
    )


def _choose_folder(name: str, root: Path, key: dict[str, Any]) -> Path:
    """Return the first of NAME-model, NAME-model-2, … that is free, or holds the same run."""
    place = runtime.place_beside(root)
    for number in itertools.count(1):
        folder = place / f"{name[:NAME]}-model{f'-{number}' * (number > 1)}"
        with contextlib.suppress(LearnerError):
            _open(folder, key)
            return folder
    raise AssertionError


def _write(
    folder: Path, key: dict[str, Any], model: nn.Module, detector: novelty.Detector, results: Results
) -> Built:
    """Write model, embeddings, report and card, and at last that the run is finished."""
    judged = results.judgement
    score = judged.report.balanced_accuracy if judged else Estimate(np.nan, np.nan, np.nan)
    extra = {"trained": results.trained, "images": results.name, "balanced_accuracy": list(score)}
    models.save(model, folder / MODEL, extra=extra)
    detector.save(folder / EMBEDDINGS)
    for name, content in ((REPORT, render(results)), (CARD, str(write_card(results)))):
        with runtime.atomic_write(folder / name) as temporary:
            temporary.write_text(content, "utf-8", "backslashreplace")
    built = Built(folder, score, judged.report.n if judged else 0, results.doubts, results.trained)
    kept = asdict(built) | {"folder": None}
    _write_json(folder / RUN, {"key": key, "built": kept})
    if (folder / TRAINING).is_dir():
        shutil.rmtree(folder / TRAINING)
    return built


def _write_json(path: Path, values: dict[str, Any]) -> None:
    with runtime.atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1), "utf-8")
