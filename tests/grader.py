"""A class in nbgrader, in a process of its own: `grade(COURSE)` grades COURSE/submitted.

`processes.run` calls it: nbgrader's configuration limits the memory of its process and of the kernels that it
starts. Writes what is said to COURSE/grading.log, and, as JSON, {student: {assignment: {cell: points,
"errors": the log of what failed}}}. A student called "untouched" hands in what was handed out. An assignment
that nobody handed in is made, and no more.
"""

import json
import os
import shutil
from pathlib import Path

import processes
from nbgrader.api import Gradebook
from nbgrader.apps import NbGrader, NbGraderAPI


def grade(course):
    log = os.open(course / "grading.log", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(log, stream)
    processes.warm_kernels()
    os.chdir(course)
    app = NbGrader()
    app.load_config_file()
    api = NbGraderAPI(config=app.config)
    grades = {}
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
    Path("grades.json").write_text(json.dumps(grades, indent=1), encoding="utf-8")
