"""Axes in, one tidy table out: every run is a row that survives a kill, and a run that fails is a row."""

import hashlib
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version as installed
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from scipy import stats
from threadpoolctl import threadpool_limits

from . import runtime
from .errors import LearnerError
from .metrics import Estimate

LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow")
"""The libraries whose versions are part of a run's key: rows from other versions are made again."""

ABOUT = ("seconds", "error", "threads", "machine", "versions", "key")
"""Columns of every table that are about how a run went, beside its axes and what it measured."""

Run = dict[str, Any]


def grid(**axes: Any) -> list[Run]:
    """Return a run for every combination of the axes' values, the last axis changing fastest.

    An axis is a sequence of values, or one value that all runs share: `grid(size=[64, 96], seed=range(3))`.
    Lists of runs can be added. Raises LearnerError for an axis without values.
    """
    values = {name: [v] if isinstance(v, str) or not np.iterable(v) else list(v) for name, v in axes.items()}
    if not axes or not all(values.values()):
        empty = [name for name, own in values.items() if not own]
        raise LearnerError(f"There is nothing to combine (empty: {empty}). Expected a value for every axis.")
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


def run_grid(
    function: Callable[..., Mapping[str, Any]],
    runs: Sequence[Run],
    *,
    out: str | Path,
    version: str = "",
    n_jobs: int = 1,
    threads: int = 1,
) -> pd.DataFrame:
    """Return one row per run, in the order of `runs`: its axes, what `function(**run)` measured, and `ABOUT`.

    Each row is a file in the folder `out` that appears in one step when its run ends. After a kill at any
    moment the same call does only what is missing, and what failed before; an error is kept as its row's
    `error`, in words, and stops no other run. `function` returns a mapping from names to numbers or texts,
    and decides by its axes alone, of which one is `seed`. A row is known by the function's name, the axes,
    `version` and the `LIBRARIES`: raise `version` with every change that changes results.

    `jobs` runs go on at once, as joblib does it (loky, or the backend of a surrounding
    `joblib.parallel_config`), each on `threads` threads whatever `jobs` is, so that results do not depend on
    it and n_jobs * threads cores are busy. Raises LearnerError for no runs, a run without a seed, two equal
    runs, and axes that are no plain values.
    """
    folder, name = Path(out), function.__name__
    keys = [key_of(name, run, version) for run in runs]
    _check(runs, keys, n_jobs, threads)
    files = {key: folder / f"{name}-{key}.json" for key in keys}
    missing = [(key, run) for key, run in zip(keys, runs, strict=True) if _read(files[key]).get("error", "?")]
    if missing:
        tasks = (delayed(_do)(function, run, files[key], key, threads) for key, run in missing)
        with warnings.catch_warnings():
            # loky renews a worker whose memory has grown, by the networks that it keeps: nothing is lost.
            warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
            done = Parallel(n_jobs=n_jobs, return_as="generator_unordered", max_nbytes=None)(tasks)
            for _ in runtime.progress(done, desc=name, total=len(missing)):
                pass
    return tidy([_read(files[key]) for key in keys])


def key_of(protocol: str, run: Run, version: str = "") -> str:
    """Return 16 hex digits of all that decides a run: protocol, axes, version, libraries."""
    libraries = {library: installed(library) for library in LIBRARIES}
    try:
        text = json.dumps([protocol, run, version, libraries], sort_keys=True, default=_plain)
    except TypeError as error:
        raise LearnerError(f"The run {run} has an axis that is no plain value ({error}).") from error
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tidy(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a table: protocol, axes, measured values, then `ABOUT`; what a row lacks is NaN."""
    flat = [{"protocol": r["protocol"]} | r["axes"] | r["values"] | {k: r[k] for k in ABOUT} for r in rows]
    first = dict.fromkeys(["protocol", *(name for r in rows for name in r["axes"])])
    measured = dict.fromkeys(name for r in rows for name in r["values"])
    return pd.DataFrame(flat, columns=[*first, *(m for m in measured if m not in first), *ABOUT])


def summarise(
    table: pd.DataFrame,
    *,
    by: str | Sequence[str],
    value: str,
    against: Mapping[str, Any] | None = None,
    over: str = "seed",
    level: float = 0.95,
) -> pd.DataFrame:
    """Return a row for each combination of the columns `by`: mean of `value`, low, high (t-interval), n.

    n counts seeds: rows of one seed are averaged first. `against` names the level of some of the `by`
    columns that all others are compared with, {"strategy": "probe"}: the mean is then that of the differences
    between runs that share a seed, which is surer than the difference of two means. Failed runs do not count.
    """
    by = [by] if isinstance(by, str) else list(by)
    unknown = sorted({value, over, *by, *(against or {})} - set(table.columns))
    if unknown or set(against or {}) - set(by):
        raise LearnerError(
            f"by={by}, value={value!r}, against={dict(against or {})}: expected columns of the table "
            f"({', '.join(table.columns)}), and in `against` columns that are in `by`; unknown: {unknown}."
        )
    means = table.dropna(subset=[value]).groupby([*by, over], sort=False)[value].mean().reset_index()
    if against:
        base = means[np.logical_and.reduce([means[k] == v for k, v in against.items()])]
        shared = [k for k in [*by, over] if k not in against]
        means = means.merge(base[[*shared, value]], on=shared, suffixes=("", "_base"))
        means[value] -= means.pop(f"{value}_base")
    rows = [
        (*group, *interval(values, level=level), len(values))
        for group, values in means.groupby(by, sort=False)[value]
    ]
    return pd.DataFrame(rows, columns=[*by, value, "low", "high", "n"])


def interval(values: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Return the mean of independent `values` (n,) with Student's t-interval; one value says nothing: ±inf.

    NaN for no values.
    """
    numbers = np.asarray(values, dtype=float)
    if not len(numbers):
        return Estimate(np.nan, np.nan, np.nan)
    mean = float(numbers.mean())
    if len(numbers) == 1:
        return Estimate(mean, -np.inf, np.inf)
    # The scale stands outside because scipy's interval of values without spread (scale=0) is NaN.
    low, high = mean + stats.sem(numbers) * np.array(stats.t.interval(level, len(numbers) - 1))
    return Estimate(mean, float(low), float(high))


def _do(function: Callable[..., Mapping[str, Any]], run: Run, file: Path, key: str, threads: int) -> None:
    """Make one run and write its row, in whatever process this is."""
    values: Mapping[str, Any] = {}
    error, begin = "", time.perf_counter()
    with limited(threads):
        try:
            values = function(**run)
            if clash := set(values) & {*run, *ABOUT, "protocol"}:
                raise LearnerError(f"The protocol returned {sorted(clash)}, which are columns already.")
        except Exception as problem:
            values, error = {}, str(problem) if isinstance(problem, LearnerError) else repr(problem)
    versions = {"python": platform.python_version()} | {name: installed(name) for name in LIBRARIES}
    row = {
        "protocol": function.__name__,
        "axes": run,
        "values": dict(values),
        "seconds": round(time.perf_counter() - begin, 3),
        "error": error,
        "threads": threads,
        "machine": platform.machine(),
        "versions": " ".join(f"{name}={number}" for name, number in versions.items()),
        "key": key,
    }
    with runtime.atomic_write(file) as temporary:
        temporary.write_text(json.dumps(row, default=_plain))


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Run a block on so many threads: torch's, and those of every linear algebra library."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        torch.set_num_threads(before)


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not done yet
        return {}


def _plain(value: Any) -> Any:
    """Return NumPy's and torch's numbers as Python's; json calls this for what it does not know."""
    if isinstance(value, np.generic | torch.Tensor) and np.ndim(value) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} is no number and no text")


def _check(runs: Sequence[Run], keys: Sequence[str], n_jobs: int, threads: int) -> None:
    if not runs or not all("seed" in run for run in runs):
        raise LearnerError(
            f"{len(runs)} runs arrived. Expected at least one, each with a seed: grid(seed=range(5), …)."
        )
    if len(set(keys)) < len(keys):
        twice = next(run for k, run in enumerate(runs) if keys[k] in keys[:k])
        raise LearnerError(f"The run {twice} is asked for twice. Expected different runs.")
    if n_jobs == 0 or threads < 1:
        raise LearnerError(
            f"n_jobs={n_jobs}, threads={threads}. Expected at least 1 of each (n_jobs=-1: all cores)."
        )
