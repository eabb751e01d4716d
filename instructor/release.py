"""Make what learners get from the solved notebooks: `python release.py`, or `--variant 7` for another class.

nbgrader strips solutions and hidden tests; the notebooks are written to notebooks/assignments. A variant
changes the solved notebooks here: other photographs, and other numbers in the hidden tests.
"""

import argparse
import re
import shutil
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.apps import NbGraderAPI
from traitlets.config import Config

HERE = Path(__file__).parent
HIDDEN = re.compile(r"(### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS)", re.DOTALL)


def vary(notebook: NotebookNode, variant: int) -> NotebookNode:
    """Give a solved notebook the data and the hidden numbers of a variant; changes and returns it."""
    for cell in notebook.cells:
        cell.source = re.sub(r"^VARIANT = \d+", f"VARIANT = {variant}", cell.source, flags=re.MULTILINE)
        parts = HIDDEN.split(cell.source)
        parts[1::2] = [
            re.sub(r"seed=\d+?(\d{3})\b", lambda m: f"seed={variant + 1}{m[1]}", p) for p in parts[1::2]
        ]
        cell.source = "".join(parts)
    return notebook


def release(course: Path) -> dict[str, NotebookNode]:
    """Return the release of each assignment in `course`/source, as nbgrader makes it."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(course / "source", Path(folder, "source"))
        config = Config()
        config.CourseDirectory.root = folder
        api = NbGraderAPI(config=config)
        made = {}
        for path in sorted(Path(folder, "source").glob("*/*.ipynb")):
            done = api.generate_assignment(path.stem)
            if not done["success"]:
                raise SystemExit(done["log"])
            made[path.stem] = nbformat.read(Path(folder, "release", path.stem, path.name), as_version=4)
    return made


def main() -> None:
    """Renew notebooks/assignments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", type=int, help="a number for a class; 0 is the one that is committed")
    variant = parser.parse_args().variant
    for path in sorted(HERE.glob("source/*/*.ipynb")):
        if variant is not None:
            nbformat.write(vary(nbformat.read(path, as_version=4), variant), path)
    for name, notebook in release(HERE).items():
        nbformat.write(notebook, HERE.parent / "notebooks" / "assignments" / f"{name}.ipynb")


if __name__ == "__main__":
    main()
