"""All claims measured again, and the committed evidence that their verdicts follow from."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from .. import runtime
from ..errors import LearnerError
from ..experiments import ABOUT, Run, run_grid
from .statements import CLAIMS, claim
from .tiers import PROTOCOLS, QUICK, VERSION, Tier, runs
from .verdicts import Claim, Verdict, judge, needs_run

TABLE, VERDICTS = "reproduction.csv", "reproduction-claims.csv"
_HERE = Path(__file__).resolve()
# In a wheel the evidence lies in the package; in a checkout it lies in docs, where people read it.
_FOLDERS = (_HERE.parents[1] / "_evidence", _HERE.parents[2] / "docs")


def evidence(folder: str | Path | None = None) -> pd.DataFrame:
    """Return a table of runs, one row each: the committed one of the quick tier, or the one in a folder.

    Args:
        folder: where `write_report` wrote it.

    Raises:
        LearnerError: there is no table.

    Example:
        >>> from tlutils import claims
        >>> set(claims.evidence()["protocol"]) == set(claims.PROTOCOLS)
        True
    """
    folders = [runtime.user_path(folder)] if folder is not None else _FOLDERS
    for place in folders:
        if (place / TABLE).exists():
            table = pd.read_csv(place / TABLE, dtype={"error": object})
            return table.assign(error=table["error"].fillna(""))
    raise LearnerError(
        f"There is no {TABLE} in {' or '.join(map(str, folders))}. `tlutils reproduce` makes one."
    )


def evaluate_claim(id: str, table: pd.DataFrame | None = None) -> Verdict:
    """Return the verdict on a claim that follows from a table of runs.

    Args:
        id: a key of `CLAIMS`.
        table: one row per run; the committed table unless given.

    Raises:
        LearnerError: there is no such claim.

    Example:
        >>> from tlutils import claims
        >>> claims.evaluate_claim("random-control").verdict
        'holds'
    """
    return judge(claim(id), evidence() if table is None else table)


def reproduce(
    tier: Tier = QUICK, *, only: Iterable[str] = (), n_jobs: int = 1, out: str | Path | None = None
) -> pd.DataFrame:
    """Return the table of all runs of a tier, one row each; what is finished already is not run again.

    Every finished run is a file, so the same call goes on after a kill, and does nothing when all is there.

    Args:
        tier: `QUICK` or `FULL`.
        only: ids of claims; only the runs that they need are made.
        n_jobs: how many runs go on at once.
        out: the folder of the finished runs; one in the cache folder unless given.

    Example:
        >>> from tlutils import claims
        >>> claims.reproduce(only=["gabor-filters"])  # doctest: +SKIP
    """
    wanted = [claim(id) for id in only]
    plan = select_runs(wanted, tier) if wanted else runs(tier)
    folder = runtime.user_path(out) if out is not None else runtime.cache_dir("claims") / tier.name
    tables = [
        run_grid(PROTOCOLS[protocol], own, out=folder, version=VERSION, n_jobs=n_jobs)
        for protocol, own in plan.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[[name for name in table if name not in ABOUT] + list(ABOUT)]


def select_runs(claims: Iterable[Claim], tier: Tier) -> dict[str, list[Run]]:
    """Return the runs of a tier that some claims need, by protocol."""
    claims = list(claims)
    found = {
        protocol: [run for run in own if any(needs_run(c, {"protocol": protocol} | run) for c in claims)]
        for protocol, own in runs(tier).items()
    }
    return {protocol: own for protocol, own in found.items() if own}


def verdicts(table: pd.DataFrame, *, only: Iterable[str] = ()) -> list[Verdict]:
    """Return the verdicts that follow from a table of runs.

    Args:
        table: one row per run.
        only: ids of claims; all of them unless given.

    Example:
        >>> from tlutils import claims
        >>> found = claims.verdicts(claims.evidence(), only=["gabor-filters", "decaf-depth"])
        >>> [verdict.n for verdict in found]
        [6, 6]
    """
    return [judge(c, table) for c in [claim(id) for id in only] or CLAIMS.values()]


def verdict_table(found: Iterable[Verdict]) -> pd.DataFrame:
    """Return a row per verdict: id, verdict, effect, low, high, n, threshold, unit, claim, contrast, source.

    Args:
        found: what `verdicts` returns.

    Example:
        >>> from tlutils import claims
        >>> found = claims.verdicts(claims.evidence(), only=["gabor-filters"])
        >>> claims.verdict_table(found)["verdict"].tolist()
        ['holds']
    """
    return pd.DataFrame(
        {
            "id": v.claim.id,
            "verdict": v.verdict,
            "effect": v.effect.value,
            "low": v.effect.low,
            "high": v.effect.high,
            "n": v.n,
            "threshold": v.claim.threshold,
            "unit": v.claim.unit,
            "claim": v.claim.says,
            "contrast": v.claim.contrast,
            "source": v.claim.source,
        }
        for v in found
    )
