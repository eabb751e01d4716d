"""Policies raced on the same folds: frozen ones from one pass, those that train by successive halving."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from torch import nn

from .. import claims, runtime, train
from ..errors import LearnerError
from ..intervals import Difference, Estimate, compare_classifiers, macro_average, wilson_interval
from ..probe import COARSE_FOLDS, assign_folds
from .policies import (
    FROM_PROBE,
    POLICIES,
    PROBES,
    Features,
    Images,
    final,
    fit,
    settings_for,
    train_policy,
)

LEVEL = 0.9
"""Confidence level of what an advice says."""

DEFAULT = "probe, best depth"
"""What is recommended unless the folds say that another policy is better.

Of the rules that were compared on the course's data sets (`benchmarks/advisor_regret.py`), none beat this one
beyond noise. To take the most frozen of the policies that tie lost most: where few images judge, nearly
everything ties, nearest neighbours among it.
"""


@dataclass
class Runner:
    """A policy in the race.

    Attributes:
        policy: its name, a key of `POLICIES`.
        probabilities: (N, C), of each image by a classifier that has not learned from its fold; NaN where it
            has not run yet, and for images that are never held out.
        predicted: seconds that all folds were expected to take.
        seconds: seconds that the folds took.
        folds: how many folds it ran on.
        left_out: why it did not run, or not on every fold; "" if it did.
    """

    policy: str
    probabilities: np.ndarray
    predicted: float = 0.0
    seconds: float = 0.0
    folds: int = 0
    left_out: str = ""


def survivors(scores: Mapping[str, float]) -> list[str]:
    """Return the better half, rounded up, of policies by their scores: a rung of successive halving.

    Jamieson and Talwalkar 2016, arXiv:1502.07943. The field is halved as there; what a doubled budget is
    there, is here the next fold.

    Args:
        scores: By policy, what it scored on the folds so far.

    """
    return sorted(scores, key=lambda name: -scores[name])[: (len(scores) + 1) // 2]


@dataclass
class Race:
    """All policies on the same images and folds, within a budget of seconds.

    Attributes:
        images: what is learned from, and judged by fold.
        features: what leaves the stages of the frozen network, for these images.
        groups: (N,), equal for images that must stay on one side.
        load: gives a fresh network for a policy that trains, with a head for the classes.
        pass_seconds: what one pass of these images through the frozen network takes.
        deadline: when, by `time.monotonic`, the last fold must have ended.
        seed: what folds and all that is random are drawn from.
        say: called with each line on how it goes.
        runners: by policy, what came out so far.
    """

    images: Images
    features: Features
    groups: np.ndarray
    load: Callable[[str], nn.Module]
    pass_seconds: float
    deadline: float
    seed: int = 0
    say: Callable[[str], object] = lambda line: None
    runners: dict[str, Runner] = field(init=False)

    def __post_init__(self) -> None:
        self.labels = np.asarray(self.images.labels)
        self.fold = assign_folds(self.labels, self.groups, COARSE_FOLDS, self.seed)
        for fold in range(COARSE_FOLDS):
            absent = set(self.labels) - set(self.labels[self.fold != fold])
            if absent:
                names = ", ".join(repr(self.images.classes[k]) for k in sorted(absent))
                raise LearnerError(
                    f"All images of {names} are one group, as copies or by your `group_by`, so that none is "
                    "left to judge by. Add images from elsewhere, or use smaller groups."
                )
        empty = np.full((len(self.labels), len(self.images.classes)), np.nan)
        self.runners = {name: Runner(name, empty.copy()) for name in POLICIES}

    def run_frozen(self) -> None:
        """Run the policies that train nothing within the network, on every fold."""
        for policy in runtime.progress(list(PROBES), desc="frozen policies"):
            for fold in range(COARSE_FOLDS):
                self.run(policy, fold)

    def run_training(self) -> None:
        """Run the policies that train: on each fold the better half of the fold before, if in time."""
        alive = [name for name in POLICIES if name not in PROBES]
        for policy in list(alive):
            try:
                self.runners[policy].predicted = self._predict_seconds(policy)
            except LearnerError as error:  # this network has another head, say
                self._leave_out(policy, str(error), alive)
                continue
            each = self.runners[policy].predicted / COARSE_FOLDS
            self.say(f"{policy}: about {each:.0f} s for each of {COARSE_FOLDS} folds")
        steps = ((fold, policy) for fold in range(COARSE_FOLDS) for policy in self._field(alive, fold))
        for fold, policy in runtime.progress(steps, desc="policies that train", total=None):
            try:
                self.run(policy, fold)
            except LearnerError as error:
                self._leave_out(policy, str(error), alive)

    def _leave_out(self, policy: str, why: str, alive: list[str]) -> None:
        self.runners[policy].left_out = why
        alive.remove(policy)

    def _field(self, alive: list[str], fold: int) -> Iterator[str]:
        """Yield who runs on a fold, once the folds before are done; the cheapest first."""
        if fold:
            kept = survivors({name: self.score(name) for name in alive if self.runners[name].folds == fold})
            for name in set(alive) - set(kept):
                alive.remove(name)
                if not self.runners[name].left_out:
                    self.runners[name].left_out = f"behind others after {fold} of {COARSE_FOLDS} folds"
        for name in sorted(alive, key=lambda name: self.runners[name].predicted):
            runner = self.runners[name]
            each = max(runner.predicted / COARSE_FOLDS, runner.seconds / max(1, runner.folds))
            if time.monotonic() + each > self.deadline:
                why = f"no time left for fold {fold + 1} of {COARSE_FOLDS}, of about {each:.0f} s"
                self._leave_out(name, why, alive)
            else:
                yield name

    def rows(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows that a fold learns from, and those that judge it."""
        return np.flatnonzero(self.fold != fold), np.flatnonzero(self.fold == fold)

    def run(self, policy: str, fold: int) -> None:
        """Let a policy learn from all folds but one, and note its probabilities there."""
        runner, (learn, held), start = self.runners[policy], self.rows(fold), time.monotonic()
        known = {stage: x[learn] for stage, x in self.features.items()}
        if policy in PROBES:
            classify = PROBES[policy](known, self.labels[learn], self.groups[learn], self.seed)
            found = classify({stage: x[held] for stage, x in self.features.items()})
        else:
            model, _ = self._train(policy, learn, settings_for(policy, len(learn)).steps)
            found = train.predict(model, self.images.select(held)).probabilities
        runner.probabilities[held] = found
        runner.folds += 1
        runner.seconds += time.monotonic() - start

    def _train(self, policy: str, learn: np.ndarray, steps: int) -> tuple[nn.Module, train.History]:
        solved = None
        if policy in FROM_PROBE:
            solved = fit(final(self.features)[learn], self.labels[learn], self.groups[learn], self.seed)
        model, known = self.load(policy), self.images.select(learn)
        settings = replace(settings_for(policy, len(learn)), steps=steps)
        return model, train_policy(policy, model, known, settings, solved=solved, seed=self.seed)

    def _predict_seconds(self, policy: str) -> float:
        """Return about how long all folds will take, from a few steps on a few images."""
        one_of_each = np.unique(self.labels, return_index=True)[1]
        few = np.union1d(one_of_each, np.arange(min(len(self.labels), claims.BATCH)))
        steps_each = train.steps_per_epoch(len(few), claims.BATCH)
        start = time.monotonic()
        _, history = self._train(policy, few, steps=2 * steps_each)
        epochs, share = history.table["seconds"], (COARSE_FOLDS - 1) / COARSE_FOLDS
        around = time.monotonic() - start - epochs.sum()
        steps = settings_for(policy, round(share * len(self.labels))).steps
        each = epochs.min() / steps_each
        frozen = share * self.pass_seconds if policy == "last stage" else 0.0
        return float(COARSE_FOLDS * (around + frozen + steps * each))

    def hits(self, policy: str) -> np.ndarray:
        """Return 1 or 0 for each image, right or wrong; NaN where it was not judged."""
        chances = self.runners[policy].probabilities
        judged = ~np.isnan(chances).any(axis=1)
        return np.where(judged, np.nan_to_num(chances).argmax(axis=1) == self.labels, np.nan)

    def score(self, policy: str) -> float:
        """Return the balanced accuracy of a policy on the folds that it ran on."""
        hits = self.hits(policy)
        judged = ~np.isnan(hits)
        return macro_average(hits[judged], self.labels[judged]).value

    @property
    def finished(self) -> dict[str, np.ndarray]:
        """The hits of each policy that ran on every fold."""
        return {
            name: self.hits(name) for name, runner in self.runners.items() if runner.folds == COARSE_FOLDS
        }


@dataclass(frozen=True)
class Decision:
    """Which policy is recommended, and why.

    Attributes:
        policy: `DEFAULT`, where it cannot be told from the best; else the best.
        best: the one with the highest balanced accuracy on the folds.
        tied: those that cannot be told from the best, `policy` among them, the most frozen first.
        measured: balanced accuracy of the recommended one on the folds, with its interval.
        behind: by policy, how far it is behind the best, on the same images.
        runner_up: the next that one would take, or "".
    """

    policy: str
    best: str
    tied: list[str]
    measured: Estimate
    behind: dict[str, Difference]
    runner_up: str


def decide(hits: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray) -> Decision:
    """Return `DEFAULT`, unless the best policy on the folds is better beyond noise: then return that.

    Args:
        hits: By policy, (N,): 1 or 0 for each image by a classifier that has not learned from it, NaN for
            images that nobody was judged by.
        labels: (N,), the class of each image.
        groups: (N,), equal for images that vary together.

    Example:
        >>> import numpy as np
        >>> from tlutils.advisor import decide
        >>> labels = np.arange(40) % 2
        >>> hits = {"probe, best depth": np.arange(40) < 36, "finetune": np.arange(40) < 37}
        >>> decision = decide(hits, labels, np.arange(40))
        >>> decision.policy, decision.best, decision.tied
        ('probe, best depth', 'finetune', ['probe, best depth', 'finetune'])
    """
    order = list(POLICIES)
    judged = ~np.any([np.isnan(own) for own in hits.values()], axis=0)
    own = {name: np.asarray(values, dtype=float)[judged] for name, values in hits.items()}
    labels, groups = labels[judged], groups[judged]

    ranked = sorted(own, key=lambda name: (-macro_average(own[name], labels).value, order.index(name)))
    best = ranked[0]
    behind = {
        name: compare_classifiers(
            hits, own[best], labels, groups=groups, metric="balanced_accuracy", level=LEVEL
        )
        for name, hits in own.items()
    }
    tied = sorted((name for name in own if behind[name].tie), key=order.index)
    chosen = DEFAULT if DEFAULT in tied else best
    rest = [name for name in ranked if name != chosen]
    return Decision(
        policy=chosen,
        best=best,
        tied=tied,
        measured=wilson_interval(own[chosen], labels, groups=groups, level=LEVEL),
        behind=behind,
        runner_up=rest[0] if rest else "",
    )


def learning_curve(race: Race) -> pd.DataFrame:
    """Return the balanced accuracy of the linear probe by how many images it learns from.

    From all of them it is the probe of the race, from some the same but for the images that are left out.
    """
    x, y, groups = final(race.features), race.labels, race.groups
    rng, rows, hits = np.random.default_rng(race.seed), [], {}
    for share in (0.25, 0.5, 1.0):
        found = race.hits("probe") if share == 1 else np.full(len(y), np.nan)
        used = []
        for fold in range(COARSE_FOLDS):
            learn, held = race.rows(fold)
            drawn = [rng.permutation(own)[: max(1, round(share * len(own)))] for own in _by_class(learn, y)]
            kept = np.sort(np.concatenate(drawn))  # inner folds go by the order
            if share < 1:
                found[held] = fit(x[kept], y[kept], groups[kept], race.seed).predict(x[held]) == y[held]
            used.append(len(kept))
        judged = ~np.isnan(found)
        hits[share] = found[judged], y[judged], groups[judged]
        score = wilson_interval(*hits[share][:2], groups=hits[share][2], level=LEVEL)
        line = {"images": round(np.mean(used))} | dict(zip(("score", "low", "high"), score, strict=True))
        if share > 0.25:
            now, kinds, together = hits[share]
            gain = compare_classifiers(now, hits[share / 2][0], kinds, groups=together, level=LEVEL)
            line |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
        rows.append(line)
    return pd.DataFrame(rows)


def expect(decision: Decision, curve: pd.DataFrame) -> Estimate:
    """Return the balanced accuracy to expect of the recommended policy once it has learned from all images.

    On each fold it learned from two thirds of them. What the others bring is told by the learning curve:
    accuracy grows about evenly from doubling to doubling (Hestness et al. 2017, arXiv:1712.00409), and from
    two thirds to all is log2(3 / 2) = 0.58 of one. A policy that was taken because it is best on the folds is
    best by luck as well, which made up for that on the course's data sets (`benchmarks/advisor_regret.py`).

    Args:
        decision: What was decided.
        curve: What `learning_curve` returns.
    """
    value, low, high = decision.measured
    if decision.policy != DEFAULT:
        return decision.measured
    doublings = np.log2(COARSE_FOLDS / (COARSE_FOLDS - 1))
    gain, least, most = doublings * curve[["gain", "gain_low", "gain_high"]].iloc[-1].to_numpy()
    more = value + gain
    ends = more - np.hypot(value - low, gain - least), more + np.hypot(high - value, most - gain)
    return Estimate(*(float(end) for end in np.clip([more, *ends], 0, 1)))


def _by_class(rows: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    return [rows[labels[rows] == k] for k in np.unique(labels)]
