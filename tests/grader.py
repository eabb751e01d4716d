"""A class in nbgrader, in a process of its own: `python grader.py COURSE` grades what lies in COURSE/submitted.

Student "untouched" hands in what was handed out. Writes COURSE/grades.json:
{student: {assignment: {"check-x": points, ..., "errors": the log where something failed}}}.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.apps import NbGrader, NbGraderAPI


def grade(course: Path) -> dict[str, dict[str, dict[str, object]]]:
    os.chdir(course)
    app = NbGrader()
    app.load_config_file()
    api = NbGraderAPI(config=app.config)
    grades: dict[str, dict[str, dict[str, object]]] = {}
    for assignment in sorted(path.name for path in Path("source").iterdir()):
        made = api.generate_assignment(assignment)
        assert made["success"], made["log"]
        if not Path("submitted").exists() or "untouched" in os.environ.get("ALSO", ""):
            shutil.copytree(Path("release", assignment), Path("submitted", "untouched", assignment))
        for student in sorted(path.parent.name for path in Path("submitted").glob(f"*/{assignment}")):
            done = api.autograde(assignment, student)
            logs = "" if done["success"] else done["log"]
            back = api.generate_feedback(assignment, student)
            logs += "" if back["success"] else back["log"]
            with Gradebook(app.config.CourseDirectory.get("db_url", f"sqlite:///{course}/gradebook.db")) as book:
                submission = book.find_submission(assignment, student)
                cells = {g.name: g.score for notebook in submission.notebooks for g in notebook.grades}
                waits = [g.name for n in submission.notebooks for g in n.grades if g.needs_manual_grade]
            grades.setdefault(student, {})[assignment] = cells | {"errors": logs, "by hand": waits}
    return grades


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    (folder / "grades.json").write_text(json.dumps(grade(folder), indent=1))
