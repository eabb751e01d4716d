"""Axes in, one tidy table out: every run is a row that survives a kill, and a run that fails is a row."""

import hashlib
import json
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from joblib import Parallel, delayed
from joblib.externals.loky import process_executor
from threadpoolctl import threadpool_limits

from . import runtime
from .errors import LearnerError
from .intervals import t_interval

LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow")
"""The libraries whose versions are part of a run's key: rows from other versions are made again."""

ABOUT = ("seconds", "peak_memory_mib", "error", "threads", "machine", "versions", "key")
"""Columns of every table that are about how a run went, beside its axes and what it measured."""

TABLE = "runs.parquet"
"""The table of the last call for a folder, which lies among its rows."""

installed = cache(metadata.version)  # which reads a file each time

Run = dict[str, Any]
Protocol = Callable[..., Mapping[str, Any]]


def grid(**axes: Any) -> list[Run]:
    """Return a run for every combination of the axes' values, the last axis changing fastest.

    Lists of runs can be added.

    Args:
        **axes: by name, a sequence of values, or one value that all runs share.

    Raises:
        LearnerError: there is no axis, or one without values.

    Example:
        >>> from tlutils.experiments import grid
        >>> grid(size=[64, 96], strategy="probe", seed=range(2))[1:3]
        [{'size': 64, 'strategy': 'probe', 'seed': 1}, {'size': 96, 'strategy': 'probe', 'seed': 0}]
    """
    values = {name: [v] if isinstance(v, str) or not np.iterable(v) else list(v) for name, v in axes.items()}
    if not axes or not all(values.values()):
        empty = [name for name, own in values.items() if not own]
        raise LearnerError(f"There is nothing to combine (empty: {empty}). Expected a value for every axis.")
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


def run_grid(
    grids: Mapping[Protocol, Sequence[Run]],
    *,
    out: str | Path,
    versions: Mapping[str, str] | None = None,
    resume: bool = True,
    n_jobs: int = 1,
    threads: int = 1,
) -> pd.DataFrame:
    """Return one row per run, in the order of `grids`: its axes, what its function measured, and `ABOUT`.

    Each row is a file that appears in one step when its run ends. After a kill at any moment the same call
    does only what is missing, and what failed before; an error is kept as its row's `error` and stops no
    other run. A row is known by the function's name, the axes, the function's version and the `LIBRARIES`.
    The table is kept beside the rows, as `TABLE`; there, a column with values of several kinds holds texts.

    Runs go to the backend of a surrounding `joblib.parallel_config`: with "dask" or "ray" they spread over a
    cluster, whose machines have to see the folder `out`. A run whose worker dies is made by another one.

    Args:
        grids: by function, its runs. A function is called with a run's axes as keywords and returns a mapping
            from names to numbers or texts; it decides by its axes alone, so that a row can be made again. A
            run is a mapping from axes to numbers, texts or bools, `seed` among them, as `grid` makes them.
            Several functions share the workers: give first what takes longest.
        out: the folder in which the rows are kept.
        versions: by the functions' names; raise one with every change to a function that changes results.
        resume: whether rows that are there already count; False makes all of them again.
        n_jobs: how many runs go on at once, as in joblib; -1 is one for each core.
        threads: threads of each run, whatever `n_jobs` is, so that results do not depend on it.

    Raises:
        LearnerError: there are no runs, two equal runs, a run without a seed, or an axis that is no plain
            value.

    Example:
        >>> from tlutils.experiments import grid, run_grid
        >>> def double(size, seed):
        ...     return {"score": 2 * size + seed}
        >>> table = run_grid({double: grid(size=[1, 2], seed=[0])}, out="rows")
        >>> table[["size", "seed", "score"]].values.tolist()
        [[1, 0, 2], [2, 0, 4]]
    """
    tasks: list[tuple[Protocol, Run, Path, str]] = []
    for function, runs in grids.items():
        name = function.__name__
        keys = [key_of(name, run, (versions or {}).get(name, "")) for run in runs]
        _check(runs, keys, n_jobs, threads)
        files = [runtime.user_path(out) / f"{name}-{key}.json" for key in keys]
        tasks += [(function, *rest) for rest in zip(runs, files, keys, strict=True)]
    missing = [task for task in tasks if not resume or _read(task[2]).get("error", "?")]
    if missing:
        calls = (delayed(_run_one)(*task, threads) for task in missing)
        done = Parallel(n_jobs=n_jobs, return_as="generator_unordered", max_nbytes=None)(calls)
        for _ in runtime.progress(done, desc="runs", total=len(missing)):
            pass
    table = tidy([_read(file) for _, _, file, _ in tasks])
    with runtime.atomic_write(runtime.user_path(out) / TABLE) as temporary:
        table.apply(_of_one_kind).to_parquet(temporary, index=False)
    return table


def key_of(protocol: str, run: Run, version: str = "") -> str:
    """Return 16 hex digits that identify a run: those of its protocol, axes, version and the `LIBRARIES`.

    Args:
        protocol: name of the function that makes the run.
        run: its axes.
        version: that of the function.

    Raises:
        LearnerError: an axis is not a number, a text or a bool.

    Example:
        >>> from tlutils.experiments import key_of
        >>> len(key_of("probe", {"seed": 0}))
        16
    """
    libraries = {library: installed(library) for library in LIBRARIES}
    try:
        text = json.dumps([protocol, run, version, libraries], sort_keys=True, default=_plain)
    except TypeError as error:
        raise LearnerError(
            f"The run {run} has an axis that is not a number, a text or a bool ({error})."
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tidy(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a table: protocol, axes, measured values, then `ABOUT`; what a row lacks is NaN.

    Args:
        rows: the content of the files that `run_grid` writes.

    Example:
        >>> from tlutils.experiments import ABOUT, tidy
        >>> row = {"protocol": "probe", "axes": {"seed": 0}, "values": {"score": 0.9}, **dict.fromkeys(ABOUT)}
        >>> list(tidy([row]).columns)[:3]
        ['protocol', 'seed', 'score']
    """
    about = [{name: row.get(name) for name in ABOUT} for row in rows]
    flat = [
        {"protocol": row["protocol"]} | row["axes"] | row["values"] | own
        for row, own in zip(rows, about, strict=True)
    ]
    first = dict.fromkeys(["protocol", *(name for r in rows for name in r["axes"])])
    measured = dict.fromkeys(name for r in rows for name in r["values"])
    return pd.DataFrame(flat, columns=[*first, *(m for m in measured if m not in first), *ABOUT])


def summarize(
    table: pd.DataFrame,
    *,
    by: str | Sequence[str],
    value: str,
    against: Mapping[str, Any] | None = None,
    over: str = "seed",
    level: float = 0.95,
) -> pd.DataFrame:
    """Return a row per group of runs: mean, low and high of Student's interval, and the number of seeds n.

    Rows of one seed are averaged first; failed runs do not count.

    Args:
        table: one row per run, as `run_grid` returns it.
        by: one or more columns; runs that agree in all of them are a group.
        value: the column to average.
        against: values of some of the `by` columns, {"strategy": "probe"}: the group with them is subtracted
            from the others, seed by seed, which is surer than a difference of two means.
        over: the column that tells independent repetitions apart.
        level: confidence level of the interval, between 0 and 1.

    Raises:
        LearnerError: a column is not in the table, or one of `against` not in `by`.

    Example:
        >>> import pandas as pd
        >>> from tlutils.experiments import summarize
        >>> table = pd.DataFrame({"way": list("aabb"), "seed": [0, 1, 0, 1], "score": [1.0, 3.0, 2.0, 4.0]})
        >>> summarize(table, by="way", value="score", against={"way": "a"})
          way  score  low  high  n
        0   a    0.0  0.0   0.0  2
        1   b    1.0  1.0   1.0  2
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
        (*group, *t_interval(values, level=level), len(values))
        for group, values in means.groupby(by, sort=False)[value]
    ]
    return pd.DataFrame(rows, columns=[*by, value, "low", "high", "n"])


def _run_one(function: Protocol, run: Run, file: Path, key: str, threads: int) -> None:
    """Make one run and write its row, in whatever process this is."""
    # loky takes networks that a worker keeps for a leak, and would renew it, with all that it keeps.
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
    values: Mapping[str, Any] = {}
    error, begin = "", time.perf_counter()
    with limit_threads(threads), _watch_memory() as memory:
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
        "peak_memory_mib": round(max(memory)),
        "error": error,
        "threads": threads,
        "machine": platform.machine(),
        "versions": " ".join(f"{name}={number}" for name, number in versions.items()),
        "key": key,
    }
    with runtime.atomic_write(file) as temporary:
        temporary.write_text(json.dumps(row, default=_plain))


@contextmanager
def _watch_memory(every: float = 0.02) -> Iterator[list[float]]:
    """Yield a list that gets, every few milliseconds, the MiB of memory that this process holds."""
    process, ended = psutil.Process(), threading.Event()
    found = [process.memory_info().rss / 2**20]

    def watch() -> None:
        while not ended.wait(every):
            found.append(process.memory_info().rss / 2**20)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


@contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Run a block on so many threads: those of torch, and of every linear algebra library.

    Args:
        threads: at least 1; afterwards the numbers are what they were.

    Example:
        >>> import torch
        >>> from tlutils.experiments import limit_threads
        >>> with limit_threads(1):
        ...     print(torch.get_num_threads())
        1
    """
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


def _of_one_kind(column: pd.Series) -> pd.Series:
    """Return a column as a table in a file has it, where all values are of one type."""
    kinds = {type(value) for value in column.dropna()} if column.dtype == object else set()
    return column.map(str, na_action="ignore") if len(kinds) > 1 else column


def _plain(value: Any) -> Any:
    """Return NumPy's and torch's numbers as Python's; json calls this for what it does not know."""
    if isinstance(value, np.generic | torch.Tensor) and np.ndim(value) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} is neither a number nor a text")


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
