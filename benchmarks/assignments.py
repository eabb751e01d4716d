"""The bands of the assignments over seeds, and the time that a class takes to grade.

    python benchmarks/assignments.py bands --seeds 20     # right answers, other seeds and photographs
    python benchmarks/assignments.py class --students 30  # nbgrader on a class that solved 01

A band is fair where a right answer falls below it less than once in 10,000: the table shows the smallest
value, and the mean less four standard deviations.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np

from tlutils.checks import assignment_01, assignment_02

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "instructor" / "source"


def solved(name: str, seed: int) -> dict[str, object]:
    """Return the names that a solved assignment ends with, with photographs and runs of another seed."""
    world: dict[str, object] = {}
    for cell in nbformat.read(SOURCE / name / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and not cell.id.startswith("check-"):
            source = cell.source.replace("VARIANT = 0", f"VARIANT = {seed}")
            source = source.replace("for seed in range(2)", f"for seed in ({2 * seed}, {2 * seed + 1})")
            source = source.replace('("scratch", "head", "all")', '("head", "all")')  # no band is on scratch
            with contextlib.redirect_stdout(io.StringIO()):
                exec(source, world)
    return world


def bands(seeds: int) -> None:
    """Print what right answers reach, and the band that the check asks for."""
    reached: dict[str, list[float]] = {"01_finetune": [], "02_probe": []}
    for seed in range(seeds):
        table = solved("01_finetune", seed)["table"]
        values = {s: [row["val"] for row in table if row["strategy"] == s] for s in ("head", "all")}  # type: ignore
        reached["01_finetune"].append(max(np.mean(v) for v in values.values()))
        results = solved("02_probe", seed)["results"]
        reached["02_probe"].append(float(np.mean(results["pretrained"])))  # type: ignore[index]
    for name, band in (("01_finetune", assignment_01.BAND), ("02_probe", assignment_02.BAND)):
        values = np.array(reached[name])
        least = values.mean() - 4 * values.std(ddof=1)
        low = f"smallest {values.min():.3f}, mean less four standard deviations {least:.3f}"
        print(f"{name}: band {band}, {low}")


def grade(students: int) -> None:
    """Print the seconds that nbgrader takes for each submission of a class."""
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        shutil.copytree(SOURCE / "01_finetune", course / "source" / "01_finetune")
        for file in ("nbgrader_config.py", "grading.py"):
            shutil.copy(ROOT / "instructor" / file, course)
        for student in range(students):
            shutil.copytree(SOURCE / "01_finetune", course / "submitted" / f"s{student}" / "01_finetune")
        start = time.perf_counter()
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        grader = str(ROOT / "tests" / "grader.py")
        env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-W", "ignore", grader, folder], env=env, check=True)
        seconds = time.perf_counter() - start
        graded = json.loads((course / "grades.json").read_text(encoding="utf-8"))
        print(f"{len(graded)} submissions in {seconds:.0f} s, {seconds / len(graded):.0f} s for each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["bands", "class"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--students", type=int, default=30)
    options = parser.parse_args()
    bands(options.seeds) if options.what == "bands" else grade(options.students)
