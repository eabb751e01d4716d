"""The bounds in pyproject.toml are true: the ordinary tests pass at both ends of them."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def oldest() -> str:
    """Constraints that hold each direct dependency to the lower end of its bounds."""
    lines = []
    for requirement in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]:
        name, version = re.match(r"([A-Za-z0-9_-]+)[=>]=([\w.]+)", requirement).groups()
        lines.append(f"{name}=={version}")
    return "\n".join(lines)


@pytest.mark.full
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_the_ordinary_tests_pass_at_both_ends_of_the_bounds(end, tmp_path):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(oldest() if end == "oldest" else "")
    copy = tmp_path / "project"
    subprocess.run(["git", "clone", "-q", ROOT, copy], check=True)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "-e", ".[test]", "-c", constraints]
    installed = subprocess.run(install, cwd=copy, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr[-3000:]
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run([python, "-m", "pytest"], cwd=copy, env=ours, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
