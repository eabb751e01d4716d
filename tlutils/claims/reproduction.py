"""All claims measured again, and the committed evidence that their verdicts follow from."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from .. import models, runtime
from ..errors import LearnerError
from ..experiments import ABOUT, Run, run_grid
from .effects import Evidence
from .materials import FETCHED, MATERIALS, load_dataset
from .shifts import OTHER_SOURCE
from .statements import CLAIMS, claim
from .tiers import FULL, PROTOCOLS, QUICK, VERSIONS, Tier, runs
from .verdicts import Verdict, adjust, judge, needs_run

TABLE, IMAGES, VERDICTS = "reproduction.csv", "reproduction-images.csv", "reproduction-claims.csv"
_HERE = Path(__file__).resolve()
# In a wheel the evidence lies in the package; in a checkout it lies in docs, where people read it.
_ROOTS = (_HERE.parents[1] / "_evidence", _HERE.parents[2] / "docs")
TEXT = {
    "error": object,
    "hits": object,
    "shifted": object,
    "real": object,
    "kept": object,
}


def evidence(folder: str | Path | None = None) -> Evidence:
    """Return runs and the images that judged them: the committed ones of the full tier, or those in a folder.

    Args:
        folder: where `write_report` wrote them.

    Raises:
        LearnerError: there are none.

    Example:
        >>> from tlutils import claims
        >>> set(claims.evidence().runs["protocol"]) == set(claims.PROTOCOLS)
        True
    """
    committed = [root / tier for root in _ROOTS for tier in (FULL.name, "")]
    folders = [runtime.user_path(folder)] if folder is not None else committed
    for place in folders:
        if (place / TABLE).exists():
            table = pd.read_csv(place / TABLE, dtype=TEXT)
            return Evidence(table.assign(error=table["error"].fillna("")), pd.read_csv(place / IMAGES))
    raise LearnerError(
        f"There is no {TABLE} in {' or '.join(map(str, folders))}. `tlutils reproduce` makes one."
    )


Plan = dict[str, list[Run]]


def select_runs(tier: Tier, only: Iterable[str] = ()) -> Plan:
    """Return the runs of a tier by protocol: all of them, or those that some claims and their controls need.

    Args:
        tier: `QUICK` or `FULL`.
        only: ids of claims.

    Example:
        >>> from tlutils import claims
        >>> list(claims.select_runs(claims.QUICK, ["gabor-filters"]))
        ['gabor_likeness']
    """
    wanted = [claim(id) for id in only or (() if tier.unclaimed else CLAIMS)]
    found = {
        protocol: [
            run
            for run in own
            if not wanted or any(needs_run(c, {"protocol": protocol} | run) for c in wanted)
        ]
        for protocol, own in runs(tier).items()
    }
    return {protocol: own for protocol, own in found.items() if own}


def missing_datasets(plan: Plan) -> dict[str, str]:
    """Return which data sets of some runs are not available here, and why.

    Args:
        plan: runs by protocol, as `select_runs` returns them.

    Example:
        >>> from tlutils import claims
        >>> claims.missing_datasets(claims.select_runs(claims.QUICK, ["gabor-filters"]))
        {}
    """
    missing = {}
    for name in _list_datasets(plan):
        try:
            load_dataset(name)
        except LearnerError as error:
            missing[name] = str(error)
    return missing


def missing_networks(plan: Plan) -> list[str]:
    """Return which networks of some runs have no weights here, of those that no package carries.

    Args:
        plan: runs by protocol, as `select_runs` returns them.

    Example:
        >>> from tlutils import claims
        >>> claims.missing_networks(claims.select_runs(claims.QUICK, ["gabor-filters"]))
        []
    """
    named = {run.get("backbone") for own in plan.values() for run in own}
    here = models.list_offline() if named & set(FETCHED) else ()
    return [name for name in FETCHED if name in named and name not in here]


def _list_datasets(plan: Plan) -> list[str]:
    named = dict.fromkeys(run.get("dataset") for own in plan.values() for run in own)
    return [name for name in MATERIALS if name in named]


def list_judges(names: Iterable[str]) -> pd.DataFrame:
    """Return the images that judge, one row each: `dataset`, `label`, and the `group` that they vary with.

    Those of another source than a data set's are among them.
    """
    names = list(names)
    names += [OTHER_SOURCE[name] for name in names if name in OTHER_SOURCE]
    found = pd.DataFrame({"dataset": [], "label": [], "group": []})
    for name in names:
        labels = load_dataset(name).val.labels
        groups = labels if MATERIALS[name].clusters else range(len(labels))
        found = pd.concat([found, pd.DataFrame({"dataset": name, "label": labels, "group": groups})])
    return found.reset_index(drop=True)


def evaluate_claim(id: str, known: Evidence | None = None) -> Verdict:
    """Return the verdict on a claim that follows from runs.

    Args:
        id: a key of `CLAIMS`.
        known: runs and their judges; the committed ones unless given.

    Raises:
        LearnerError: there is no such claim.

    Example:
        >>> from tlutils import claims
        >>> claims.evaluate_claim("random-control").verdict
        'holds'
    """
    return judge(claim(id), evidence() if known is None else known)


def reproduce(
    tier: Tier = QUICK, *, only: Iterable[str] = (), n_jobs: int = 1, out: str | Path | None = None
) -> Evidence:
    """Return all runs of a tier, one row each; what is finished already is not run again.

    Every finished run is a file, so the same call goes on after a kill, and does nothing when all is there.
    Runs on data sets that are not available here are taken from the committed evidence of the tier; the
    column `origin` says so. Networks that no package carries are measured where their weights are in the
    cache, and else left out.

    Args:
        tier: `QUICK` or `FULL`.
        only: ids of claims; only the runs that they need are made.
        n_jobs: how many runs go on at once.
        out: the folder of the finished runs; one in the cache folder unless given.

    Example:
        >>> from tlutils import claims
        >>> claims.reproduce(only=["gabor-filters"])  # doctest: +SKIP
    """
    plan = select_runs(tier, only)
    folder = runtime.user_path(out) if out is not None else runtime.cache_dir("claims") / tier.name
    missing, absent = missing_datasets(plan), missing_networks(plan)
    grids = {
        PROTOCOLS[protocol]: here
        for protocol, own in plan.items()
        if (here := [r for r in own if r.get("dataset") not in missing and r.get("backbone") not in absent])
    }
    tables = []
    if grids:
        tables.append(run_grid(grids, out=folder, versions=VERSIONS, n_jobs=n_jobs).assign(origin="here"))
    images = [list_judges(name for name in _list_datasets(plan) if name not in missing)]
    if missing:
        known = evidence(committed_folder(tier))
        kept = known.runs["dataset"].isin(missing) & known.runs["protocol"].isin(plan)
        tables.append(known.runs[kept].assign(origin="committed"))
        images.append(known.images[known.images["dataset"].isin(missing)])
    table = pd.concat(tables, ignore_index=True)
    last = [name for name in ABOUT if name in table]
    ordered = table[[name for name in table if name not in last] + last]
    return Evidence(ordered, pd.concat(images, ignore_index=True))


def committed_folder(tier: Tier) -> Path:
    """Return where the evidence of a tier lies."""
    root = next((root for root in _ROOTS if root.is_dir()), _ROOTS[-1])
    return root / ("" if tier is QUICK else tier.name)


def verdicts(known: Evidence, *, only: Iterable[str] = ()) -> list[Verdict]:
    """Return the verdicts that follow from runs.

    Args:
        known: runs and their judges.
        only: ids of claims; all of them unless given.

    Example:
        >>> from tlutils import claims
        >>> found = claims.verdicts(claims.evidence(), only=["gabor-filters", "random-control"])
        >>> [verdict.verdict for verdict in found]
        ['holds', 'holds']
    """
    return [judge(c, known) for c in [claim(id) for id in only] or CLAIMS.values()]


def verdict_table(found: Iterable[Verdict]) -> pd.DataFrame:
    """Return a row per verdict: what was measured, `p`, and `adjusted`, the p-value for this many claims.

    Args:
        found: what `verdicts` returns.

    Example:
        >>> from tlutils import claims
        >>> found = claims.verdicts(claims.evidence(), only=["gabor-filters"])
        >>> claims.verdict_table(found)["verdict"].tolist()
        ['holds']
    """
    found = list(found)
    return pd.DataFrame(
        {
            "id": v.claim.id,
            "verdict": v.verdict,
            "effect": v.effect.value,
            "low": v.effect.low,
            "high": v.effect.high,
            "n": v.n,
            "p": v.p,
            "adjusted": adjusted,
            "margin": v.claim.margin,
            "expects": v.claim.expects,
            "unit": v.claim.unit,
            "claim": v.claim.says,
            "contrast": v.claim.contrast,
            "source": v.claim.source,
        }
        for v, adjusted in zip(found, adjust(found), strict=True)
    )
