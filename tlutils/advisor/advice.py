"""How much to freeze, for these images: an advice with the evidence that it rests on."""

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from .. import claims, data, features, models, novelty, runtime, surgery, train, transferability
from ..errors import LearnerError
from ..intervals import Difference, Estimate, wilson_interval
from ..probe import COARSE_FOLDS, install_head
from . import backbones, page
from .code import write_recipe
from .images import ImageFinding, audit_images, inferred, suspect_labels
from .policies import POLICIES, PROBES, best_depth, best_share, final, fit, make_recipe, settings_for
from .race import LEVEL, Decision, Race, decide, learning_curve
from .tables import ELSEWHERE, TABLES

log = logging.getLogger(__name__)

ENOUGH = 0.1
"""Half-width of the expected accuracy's interval above which the first advice is to collect more images."""

BUILDABLE = ("probe", "probe, best depth", "last stage", "lp-ft", "finetune")
"""Policies that are a head or a recipe for the network, or for its first stages."""

ANCHORS = ("scenes", "elpv-defects")
"""Data sets that come with the packages, similar to ImageNet and different, measured beside the images."""

SAMPLE, DEPLOYED = 32, 200
"""Images by which a distance is measured, and that are compared of a `deploy` folder."""


@dataclass(frozen=True, eq=False, repr=False)
class Advice:
    """What to do with some images, and why. Printing it shows the short form, `write` the page.

    Attributes:
        name: of the data set.
        source: what was given to `advise`: a name, a folder, or "".
        group_by: the regular expression that was given, "" for none; None where it was a function.
        deploy: the folder, or files, of images as the model will meet them.
        classes: names of the classes.
        images: number of images that it rests on, those of the train and val splits.
        learned: number of those in the train split, from which a network learns.
        inferred: what was found: classes and counts.
        findings: what an engineer should know of the images, the most pressing first.
        backbone: the pretrained network.
        backbones: of several that were given, one row each: balanced accuracy of one frozen policy with
            its interval, how far the best is ahead, and milliseconds per image, the median of some that
            went one at a time; empty where one was given.
        stages: those of its stages whose output was read, the last of them before the head.
        linear: whether a probe can become its head.
        depth: the stage whose probe is best in cross-validation.
        ends: whether the network can end there, so that this probe becomes its head.
        policy: what to do, a key of `POLICIES`.
        stage: the stage whose output is read, or the first stage that trains; "" where none is named.
        share: which part of the features of all stages is kept, where the policy selects them.
        expected: balanced accuracy to expect on images of the same kind, with its 90 % interval.
        decision: which policies tie, and how far the others are behind.
        table: one row per policy: balanced accuracy with interval, how far behind the best, seconds predicted
            and spent, and why it did not run.
        curve: one row per number of images: balanced accuracy of the linear probe with its interval.
        distance: how far the images are from those of pretraining; NaN where the network cannot say.
        anchors: the same for data sets that everybody has; halfway between them is the border of similarity.
        deployed: how the images of a `deploy` folder compare, or None.
        budget: minutes that were allowed.
        seconds: seconds that it took.
        seed: the random seed, of the splits, too.
        probabilities: by policy, (N, C), out of fold.
        known: the images.
    """

    name: str
    source: str
    group_by: str | None
    deploy: list[str]
    classes: list[str]
    images: int
    learned: int
    inferred: str
    findings: list[ImageFinding]
    backbone: str
    backbones: pd.DataFrame
    stages: list[str]
    linear: bool
    depth: str
    ends: bool
    policy: str
    stage: str
    share: float
    expected: Estimate
    decision: Decision
    table: pd.DataFrame
    curve: pd.DataFrame
    distance: float
    anchors: dict[str, float]
    deployed: novelty.Comparison | None
    budget: float
    seconds: float
    seed: int
    probabilities: dict[str, np.ndarray]
    known: data.Split

    @property
    def code(self) -> str:
        """Python that does what is advised, from the folder to a classifier."""
        return write_recipe(
            self.policy,
            self.backbone,
            self.source,
            group_by=self.group_by,
            grey_bits=self.known.grey_bits,
            stages=self.stages,
            linear=self.linear,
            ends=self.ends,
            stage=self.stage,
            share=self.share,
            recipe=None if self.policy in PROBES else self._make_recipe(self.policy),
            seed=self.seed,
        )

    @property
    def recipe(self) -> train.Recipe | None:
        """The recipe with which `deploy.build` carries it out; None is a linear probe, after the stage `at`.

        Where the advice is not a head or a recipe for a network, such as nearest neighbours, this is the best
        policy that is one.
        """
        return None if self.trained in PROBES else self._make_recipe(self.trained)

    @property
    def at(self) -> str | None:
        """The stage after which the network ends, as `deploy.build` takes it; None where it stays whole."""
        ends = self.trained == "probe, best depth" and self.depth != self.stages[-1]
        return self.depth if ends else None

    def _make_recipe(self, policy: str) -> train.Recipe:
        settings = settings_for(policy, self.learned)
        return make_recipe(policy, models.load(self.backbone), self.learned, settings, self.seed)

    @property
    def training(self) -> str:
        """What `recipe` trains, in a sentence."""
        where = f", {self.at}, after which the network ends" if self.at else ""
        if self.trained == self.policy:
            return f"Training as advised: {POLICIES[self.policy]}{where}."
        behind = -100 * self.decision.behind[self.trained].value
        reason = (
            "ties with the best"
            if self.trained in self.decision.tied
            else f"is {behind:.1f} points behind the best ({self.decision.best})"
        )
        return (
            f"Advised is {self.policy}, which leaves no network with one head. Training {self.trained}, "
            f"which {reason}: {POLICIES[self.trained]}{where}."
        )

    @property
    def trained(self) -> str:
        """The policy that `recipe` and `at` carry out: the advised one, if it leaves a network with one head."""
        behind = self.decision.behind
        can = [n for n in BUILDABLE if n in behind and (self.ends or n != "probe, best depth")]
        return self.policy if self.policy in can else max(can, key=lambda name: behind[name].value)

    @property
    def verdict(self) -> str:
        """What to do, in a sentence."""
        tie = len(self.decision.tied) > 1
        among = f", one of {len(self.decision.tied)} that tie" if tie else ""
        return f"{self.policy}: {POLICIES[self.policy]}{among}."

    @property
    def compared(self) -> str:
        """Which of several backbones it is, and which others would do as well; "" where one was given."""
        return backbones.describe(self.backbones, self.backbone) if len(self.backbones) else ""

    @property
    def collect(self) -> str:
        """Why more images come first, or ""."""
        half = (self.expected.high - self.expected.low) / 2
        few = any(finding.code == "few images" for finding in self.findings)
        if half <= ENOUGH and not few:
            return ""
        return f"Collect more images first: the expected accuracy is known to ±{100 * half:.0f} points" + (
            ", and classes have too few images to say anything of them." if few else "."
        )

    @property
    def more_images(self) -> str:
        """What the learning curve says that more labels would buy."""
        if len(self.curve) < 2:
            return "Too few images for a learning curve."
        before, now = self.curve.iloc[-2], self.curve.iloc[-1]
        gain, low, high = now["gain"], now["gain_low"], now["gain_high"]
        verdict = Difference("balanced_accuracy", gain, low, high, LEVEL).verdict
        return (
            f"From {before['images']:.0f} to {now['images']:.0f} images the linear probe gained "
            f"{100 * gain:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], {verdict}. Another doubling "
            "seldom brings more than the last one did."
        )

    @property
    def runner_up(self) -> str:
        """What comes next, and what would change the answer."""
        other = self.decision.runner_up
        if not other:
            return "No other policy was measured."
        behind = self.decision.behind[other]
        if other in self.decision.tied:
            frozen = self.decision.tied[0]
            most = f" Of those that tie, {frozen} freezes most." if frozen not in (self.policy, other) else ""
            return f"Runner-up: {other}, which ties. More images could tell them apart.{most}"
        return (
            f"Runner-up: {other}, behind the best by {-100 * behind.value:.1f} points "
            f"[{-100 * behind.high:.1f}, {-100 * behind.low:.1f}]."
        )

    @property
    def published(self) -> list[str]:
        """What three published tables say of such images, and whether the measurement agrees."""
        if np.isnan(self.distance):
            return ["The published tables go by similarity, which this network cannot measure."]
        similar, different = (self.anchors[name] for name in ANCHORS)
        border = transferability.similarity_border([similar], [different])
        many, different = cell = claims.is_many(self.images), self.distance >= border
        amount = f"many, {claims.MANY} or more" if many else f"few, below {claims.MANY}"
        place = f"{amount}, and {'different' if different else 'similar'} images"
        found = []
        for table in TABLES.values():
            policy = table.cells[cell]
            if table.says[cell] == ELSEWHERE:
                agrees = "none of the policies here is that"
            elif policy in self.decision.tied:
                agrees = f'read as "{policy}", which ties with the best here'
            elif policy in self.decision.behind:
                behind = self.decision.behind[policy]
                agrees = (
                    f'read as "{policy}", which is {-100 * behind.value:.1f} points behind the best here: '
                    "the rule is contradicted"
                )
            else:
                agrees = f'read as "{policy}", which was not measured to the end here'
            found.append(f"{table.source} ({place}): {table.says[cell]}; {agrees}.")
        return found

    def __str__(self) -> str:
        parts = [
            f"Advice for {self.name}: {self.verdict}",
            f"Expected balanced accuracy on images of the same kind: {self.expected}, {LEVEL:.0%} interval.",
            *([self.collect] if self.collect else []),
            *([self.compared, self._backbones] if self.compared else []),
            self.runner_up,
            self.more_images,
            *([f"Deployment: {self.deployed}."] if self.deployed else []),
            *(f"{finding.code}: {finding.message}" for finding in self.findings),
            *self.published,
            self.table[["score", "low", "high", "seconds", "left_out"]].to_string(
                float_format="{:.3f}".format
            ),
        ]
        return "\n".join(parts)

    __repr__ = __str__

    @property
    def _backbones(self) -> str:
        shown = self.backbones.drop(columns="ties")
        return shown.to_string(
            float_format="{:.3f}".format, formatters={"milliseconds": "{:.1f}".format}, index_names=False
        )

    def _repr_html_(self) -> str:
        return page.body(self)

    def write(self, folder: str | Path, *, command: str | None = None) -> Path:
        """Write the page, the recipe and a notebook into a folder, and return the page.

        Args:
            folder: where to; what is there under these names is replaced.
            command: what gives the same advice again; the call in Python unless given.

        Raises:
            LearnerError: the disk is full, or the folder cannot be written.
        """
        return page.write_files(self, folder, command or self._call)

    @property
    def _call(self) -> str:
        given = [f"{self.source!r}" if self.source else "dataset", f"budget={self.budget:g}"]
        if self.group_by != "":
            given.append(f"group_by={'group_by' if self.group_by is None else repr(self.group_by)}")
        given += [f"deploy={self.deploy!r}"] if self.deploy else []
        backbone = list(self.backbones.index) or self.backbone
        return f"advisor.advise({', '.join(given)}, backbone={backbone!r}, seed={self.seed})"


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
            expected=decision.expected,
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
