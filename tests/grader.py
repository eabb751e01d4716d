"""A class in nbgrader: `grade(COURSE)` grades COURSE/submitted, and leaves this process as it was.

Returns {student: {assignment: {cell: points, "errors": the log of what failed}}}. A student called
"untouched" hands in what was handed out. An assignment that nobody handed in is made, and no more.
"""

import contextlib
import functools
import shutil
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbgrader.api
import processes
import pytest
from nbgrader.api import Gradebook
from nbgrader.apps import NbGrader, NbGraderAPI


class Quick(sqlite3.Connection):
    """A database that does not wait for the disk: nobody cuts the power."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.execute("PRAGMA synchronous=OFF")


@contextlib.contextmanager
def _apart(course: Path, environment: dict[str, str]) -> Iterator[None]:
    """What nbgrader and its configuration change: the folder, modules, the memory that may be allocated."""
    resource = processes.resource
    limits = resource and resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(course)
        patch.setattr(sys, "path", sys.path.copy())
        patch.delitem(sys.modules, "grading", raising=False)  # the course has its own
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(nbgrader.api, "get_alembic_version", str)  # a process of its own would find it out
        engine = functools.partial(nbgrader.api.create_engine, connect_args={"factory": Quick})
        patch.setattr(nbgrader.api, "create_engine", engine)
        try:
            yield
        finally:
            if limits:
                resource.setrlimit(resource.RLIMIT_DATA, limits)


def grade(course: Path, **environment: str) -> dict[str, Any]:
    with _apart(course, environment):
        app = NbGrader()
        app.load_config_file()
        api = NbGraderAPI(config=app.config)
        grades: dict[str, Any] = {}
        for assignment in sorted(path.name for path in Path("source").iterdir()):
            made = api.generate_assignment(assignment)
            assert made["success"], made["log"]
            if not list(Path("submitted").glob(f"*/{assignment}")):
                continue
            shutil.copytree(Path("release", assignment), Path("submitted", "untouched", assignment))
            for student in sorted(path.parent.name for path in Path("submitted").glob(f"*/{assignment}")):
                graded = api.autograde(assignment, student)
                returned = api.generate_feedback(assignment, student)
                failed = [done["log"] for done in (graded, returned) if not done["success"]]
                with Gradebook(f"sqlite:///{course}/gradebook.db", "transfer-learning") as book:
                    notebooks = book.find_submission(assignment, student).notebooks
                    cells = {g.name: g.score for notebook in notebooks for g in notebook.grades}
                grades.setdefault(student, {})[assignment] = cells | {"errors": "".join(failed)}
        return grades
