"""Which of several backbones fits some images: judged on the same folds before any of them trains."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from .. import data, features, models, surgery
from ..errors import LearnerError
from ..intervals import Estimate, compare_classifiers, wilson_interval
from .race import DEFAULT, LEVEL, Race

JUDGE = DEFAULT
"""The policy by whose score a backbone is chosen: one for all, fixed before anybody looks.

The best of several policies of each would be the luck of a maximum, more of it where they differ more, and
the paired interval knows nothing of that. This one chooses its depth within the images that it learns from,
so that a network is not dismissed for a last stage that knows its own classes too well.
"""

CHEAPER = 0.8
"""A backbone counts as cheaper below this share of another's seconds per image: clocks vary by less."""

TIMED = 8
"""Images by which the time of one is measured, after a first that warms up."""


class Choice(NamedTuple):
    """The backbone that is taken, and how it compares with the others.

    Attributes:
        name: as it was given.
        model: the network.
        race: its race, in which the policies that train nothing have run.
        table: one row per backbone, as `compare` returns it; empty where there was one alone.
    """

    name: str
    model: nn.Module
    race: Race
    table: pd.DataFrame


def check_names(backbone: str | Sequence[str]) -> list[str]:
    """Return the names of one backbone or of several, each known to `models.load`, none of them twice.

    Args:
        backbone: a name, or several.

    Raises:
        LearnerError: there is no name, one is unknown, or comes twice.
    """
    several = isinstance(backbone, Sequence) and not isinstance(backbone, str)
    names: list[Any] = list(backbone) if several else [backbone]
    if not names:
        raise LearnerError("No backbone was named. Expected one name of models.catalog(), or several.")
    for name in names:
        models.check_name(name)
        if names.count(name) > 1:
            raise LearnerError(f"The backbone {name!r} was named twice. Expected each name once.")
    return names


def choose(
    names: Sequence[str],
    known: data.Split,
    enter: Callable[[str], tuple[nn.Module, Race]],
    say: Callable[[str], object],
) -> Choice:
    """Return the backbone that scores highest by `JUDGE`, with its network and race.

    Of those whose scores are equal to the digit it is the first, unless a later one is cheaper. Features and
    network of one are let go before the next is read, but for those of the best so far.

    Args:
        names: of the backbones; where it is one, nothing is compared.
        known: the images.
        enter: gives the network of a name, and its race, in which the policies that train nothing have run.
        say: called with each line on how it goes.

    Raises:
        LearnerError: a backbone cannot be loaded or cut, or not read these images. Of several, it says
            which; what a few images tell, it says before any has read them all.
    """
    if len(names) == 1:
        return Choice(names[0], *enter(names[0]), pd.DataFrame())
    seconds: dict[str, float] = {}
    for name in names:
        with _naming(name):
            seconds[name] = _try_out(name, known)
        say(
            f"{name}: {1000 * seconds[name]:.1f} ms an image, about {len(known) * seconds[name]:.0f} s to "
            f"read all {len(known)}"
        )
    hits: dict[str, np.ndarray] = {}
    scores: dict[str, float] = {}
    best = None
    for number, name in enumerate(names, 1):
        start = time.monotonic()
        with _naming(name):
            new = Choice(name, *enter(name), pd.DataFrame())
        hits[name], scores[name] = new.race.hits(JUDGE), round(new.race.score(JUDGE), 9)
        if best is None or _goes_before(name, best.name, scores, seconds):
            best = new
        spent, left = time.monotonic() - start, len(names) - number
        more = f"; about {left * spent:.0f} s to go, for {left} more" if left else ""
        say(f"{name}: balanced accuracy {scores[name]:.3f} by {JUDGE!r}, after {spent:.0f} s{more}")
        del new  # its features, before those of the next are read
    assert best is not None
    table = compare(hits, seconds, best.name, best.race.labels, best.race.groups)
    say(describe(table, best.name))
    return best._replace(table=table)


def _goes_before(name: str, best: str, scores: Mapping[str, float], seconds: Mapping[str, float]) -> bool:
    cheaper = seconds[name] < CHEAPER * seconds[best]
    return scores[name] > scores[best] or (scores[name] == scores[best] and cheaper)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Let an error say which backbone it is about."""
    try:
        yield
    except LearnerError as error:
        raise LearnerError(f"With the backbone {name}: {error}") from error


def _try_out(name: str, known: data.Split) -> float:
    """Return the seconds that one image takes alone, prepared and passed, in a network that can be cut."""
    model = models.load(name)
    prepare, run = data.transform_for(model), features.make_predictor(model)
    taken = []
    for i in np.linspace(0, len(known) - 1, 1 + TIMED):
        start = time.monotonic()
        run(prepare(data.read_for(prepare, known, int(i)))[None])
        taken.append(time.monotonic() - start)
    surgery.replace_head(model, len(known.classes))
    return float(np.median(taken[1:]))


def compare(
    hits: Mapping[str, np.ndarray],
    seconds: Mapping[str, float],
    best: str,
    labels: np.ndarray,
    groups: np.ndarray,
) -> pd.DataFrame:
    """Return one row per backbone: how good it is, and how far behind the best, on the same images.

    Args:
        hits: by name, (N,): 1 or 0 for each image, right or wrong out of fold; NaN where nobody was judged.
        seconds: by name, what one image takes.
        best: the name of the one that scores highest.
        labels: (N,), the class of each image.
        groups: (N,), equal for images that vary together.

    Returns:
        A table by backbone: the balanced accuracy (score, low, high), the lead of the best over it (lead,
        lead_low, lead_high), whether the two tie (ties), all with intervals of 90 %, and milliseconds per
        image.
    """
    judged = ~np.isnan(hits[best])
    labels, groups, top = labels[judged], groups[judged], hits[best][judged]
    rows: list[dict[str, Any]] = []
    for name in hits:
        own = hits[name][judged]
        lead = compare_classifiers(top, own, labels, groups=groups, level=LEVEL)
        rows.append(
            {
                "backbone": name,
                **wilson_interval(own, labels, groups=groups, level=LEVEL)._asdict(),
                "lead": max(0.0, lead.value),  # never -0.0
                "lead_low": lead.low,
                "lead_high": lead.high,
                "ties": lead.tie,
                "milliseconds": 1000 * seconds[name],
            }
        )
    return pd.DataFrame(rows).set_index("backbone").rename(columns={"value": "score"})


def describe(table: pd.DataFrame, chosen: str) -> str:
    """Return which backbone is taken, which tie with it, and how far the others are behind, in sentences.

    Args:
        table: as `compare` returns it.
        chosen: the one that is taken.
    """
    own, others = table.loc[chosen], table.drop(index=chosen)
    says = [
        f"Backbone: {chosen}, the best of {len(table)} by {JUDGE!r} on the same folds: balanced "
        f"accuracy {Estimate(own['score'], own['low'], own['high'])}, {own['milliseconds']:.1f} ms an image."
    ]
    tied, behind = others[others["ties"]], others[~others["ties"]]
    if len(tied):
        says.append(
            f"It ties with {', '.join(tied.index)}: that it comes first may be luck, so expect a little less "
            "than it scores here."
        )
    cheaper = tied[tied["milliseconds"] < CHEAPER * own["milliseconds"]].sort_values("milliseconds")
    if len(cheaper):
        times = ", ".join(f"{name} ({ms:.1f} ms an image)" for name, ms in cheaper["milliseconds"].items())
        says.append(f"As good within noise, and cheaper: {times}.")
    if len(behind):
        gaps = ", ".join(f"{name} by {points(row)}" for name, row in behind.iterrows())
        says.append(f"Behind it: {gaps}.")
    return " ".join(says)


def points(row: pd.Series) -> str:
    """Return the lead of the best over a backbone, in points with the interval.

    Args:
        row: of the table that `compare` returns.
    """
    return f"{100 * row['lead']:.1f} points [{100 * row['lead_low']:.1f}, {100 * row['lead_high']:.1f}]"
