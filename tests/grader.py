"""A class in nbgrader, in a process of its own: `python grader.py COURSE` grades COURSE/submitted.

Prints, as JSON, {student: {assignment: {cell: points, "errors": the log of what failed}}}. A student called
"untouched" hands in what was handed out.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.apps import NbGrader, NbGraderAPI


def grade(course):
    os.chdir(course)
    app = NbGrader()
    app.load_config_file()
    api = NbGraderAPI(config=app.config)
    grades = {}
    for assignment in sorted(path.name for path in Path("source").iterdir()):
        made = api.generate_assignment(assignment)
        assert made["success"], made["log"]
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


if __name__ == "__main__":
    found = grade(Path(sys.argv[1]).resolve())
    Path(sys.argv[1], "grades.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
