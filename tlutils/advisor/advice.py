"""How much to freeze, for these images: an advice with the evidence that it rests on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import claims, data, models, novelty, train, transferability
from ..intervals import Difference, Estimate
from . import backbones, page
from .code import write_recipe
from .images import ImageFinding
from .policies import POLICIES, PROBES, make_recipe, settings_for
from .race import LEVEL, Decision
from .tables import ELSEWHERE, TABLES

ENOUGH = 0.1
"""Half-width of the expected accuracy's interval above which the first advice is to collect more images."""

BUILDABLE = ("probe", "probe, best depth", "last stage", "lp-ft", "finetune")
"""Policies that are a head or a recipe for the network, or for its first stages."""

ANCHORS = ("scenes", "elpv-defects")
"""Data sets that come with the packages, similar to ImageNet and different, measured beside the images."""


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
        expected: balanced accuracy to expect on images of the same kind, labelled alike, after learning from
            all images, with its 90 % interval: what the folds measured, and for the probe at the best depth
            what the third of the images brings that a fold leaves out.
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
        if self.trained == "probe, best depth" and not self.at:
            where = ", the last"
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
        """What `recipe` and `at` carry out: the advised policy, where that leaves a network with a head."""
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
            "Expected balanced accuracy on images of the same kind, after learning from all of these: "
            f"{self.expected}, {LEVEL:.0%} interval.",
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
