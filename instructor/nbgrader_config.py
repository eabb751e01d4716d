"""The course for nbgrader: run its commands in this folder. Limits are set here, and nowhere else."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import grading

c = get_config()  # noqa: F821  (nbgrader defines it)
c.CourseDirectory.course_id = "transfer-learning"
c.CourseDirectory.root = str(Path(__file__).parent)
grading.configure(c)
