"""The bands of the assignments over seeds, and the time that a class takes to grade.

    python benchmarks/assignments.py bands 04_matrix --seeds 20       # right answers, other photographs
    python benchmarks/assignments.py class 01_finetune --students 30  # nbgrader on a class that solved it

A band is fair where a right answer falls below it less than once in 10,000, by the t-distribution for the
next seed, and a wrong one does not reach it.
"""

import argparse
import contextlib
import functools
import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbgrader.api import Gradebook
from scipy import stats

from tlutils.checks import assignment_01, assignment_02, assignment_04

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "instructor" / "source"
World = dict[str, Any]  # the names that a notebook ends with


def solved(name: str, seed: int) -> World:
    """Return what a solved assignment ends with, with photographs and runs of another seed."""
    world: World = {}
    for cell in nbformat.read(SOURCE / name / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type != "code" or (name, cell.id) == ("01_finetune", "check-experiment"):
            continue  # that check asks for scratch, which has no band and is left out
        source = cell.source.replace("VARIANT = 0", f"VARIANT = {seed}")
        source = source.replace("for seed in range(2)", f"for seed in ({2 * seed}, {2 * seed + 1})")
        source = source.replace('("scratch", "head", "all")', '("head", "all")')
        source = source.replace("(few, range(5))", f"(few, range({5 * seed}, {5 * seed + 5}))")
        with contextlib.redirect_stdout(io.StringIO()):
            if (name, cell.id) == ("04_matrix", "run"):  # first with the labels of other images
                world["read"] = functools.cache(world["read"])
                world["mixed"] = np.random.default_rng(seed).permutation
                exec(source.replace("y[rows], pen", "mixed(y[rows]), pen"), world)
                world["mislabelled"] = world["table"]
            exec(source, world)
    return world


def finetuned(world: World) -> float:
    """Return the mean accuracy of the better of head and all."""
    values = {s: [row["val"] for row in world["table"] if row["strategy"] == s] for s in ("head", "all")}
    return max(float(np.mean(v)) for v in values.values())


def of_scenes(table: list[dict[str, Any]]) -> float:
    """Return the mean accuracy on scenes with 10 labels of each class."""
    return float(np.mean([row["val"] for row in table if (row["data"], row["labels"]) == ("scenes", 10)]))


# assignment -> what is measured: the least that its check takes, and how it is measured
BANDS: dict[str, dict[str, tuple[float, Callable[[World], float]]]] = {
    "01_finetune": {"the better of head and all": (assignment_01.BAND, finetuned)},
    "02_probe": {
        "pretrained features": (
            assignment_02.BAND,
            lambda world: float(np.mean(world["results"]["pretrained"])),
        )
    },
    "04_matrix": {
        "scenes with 10 labels": (assignment_04.BAND, lambda world: of_scenes(world["table"])),
        "the same, labels of other images": (
            assignment_04.BAND,
            lambda world: of_scenes(world["mislabelled"]),
        ),
        "different accuracies": (
            assignment_04.DISTINCT,
            lambda world: len({row["val"] for row in world["table"]}),
        ),
    },
    "05_own_folder": {
        "validation images on which runs differ": (
            1,
            lambda world: np.ptp([row["right"] for row in world["table"]], axis=0).sum(),
        )
    },
}


def bands(name: str, seeds: int) -> None:
    """Print what right answers reach, and how far that is from what the check asks for."""
    reached = defaultdict(list)
    for seed in range(seeds):
        world = solved(name, seed)
        for what, (_, measure) in BANDS[name].items():
            reached[what].append(measure(world))
        print(f"seed {seed}: {', '.join(f'{values[-1]:.3f}' for values in reached.values())}", flush=True)
    for what, values in reached.items():
        band, mean, spread = BANDS[name][what][0], np.mean(values), np.std(values, ddof=1)
        away = (mean - band) / spread
        below = stats.t.sf(away / np.sqrt(1 + 1 / seeds), seeds - 1)
        print(
            f"{name}, {what}: band {band}, measured {min(values):.3f} to {max(values):.3f}, mean {mean:.3f}, "
            f"{away:.1f} standard deviations of {spread:.4f} above the band; the next seed falls below it "
            f"with probability {below:.1e}"
        )


def grade(name: str, students: int) -> None:
    """Print what nbgrader takes for a class that solved an assignment, by an instructor's own commands."""
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        shutil.copytree(SOURCE / name, course / "source" / name)
        for file in ("nbgrader_config.py", "grading.py"):
            shutil.copy(ROOT / "instructor" / file, course)
        for student in range(students):
            shutil.copytree(SOURCE / name, course / "submitted" / f"s{student}" / name)
        path = os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ["PATH"]]
        )  # nbgrader calls alembic
        env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "TLUTILS_CACHE": str(course / "cache")}
        for command in ("generate_assignment", "autograde", "generate_feedback"):
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            run = [sys.executable, "-W", "ignore", "-m", "nbgrader", command, name]
            done = subprocess.run(run, cwd=course, env=env, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"nbgrader {command} failed:\n{done.stderr[-2000:]}")
            seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            busy = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
            most = used.ru_maxrss / 2**20  # of one process; Linux gives KiB
            cost = f"{seconds:.0f} s, the processors busy for {busy:.0f} s, {most:.1f} GiB at most"
            print(f"{name}, {command}: {cost}", flush=True)
        with Gradebook(f"sqlite:///{course}/gradebook.db", "transfer-learning") as book:
            totals = {book.find_submission(name, f"s{student}").score for student in range(students)}
        print(f"{students} submissions; points of those who solved it: {totals}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["bands", "class"])
    parser.add_argument("name", choices=sorted(path.name for path in SOURCE.iterdir()))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--students", type=int, default=30)
    options = parser.parse_args()
    if options.what == "bands":
        bands(options.name, options.seeds)
    else:
        grade(options.name, options.students)
