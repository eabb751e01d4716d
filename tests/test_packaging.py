"""The promises of the top level: one set of packages, one version, a README that cannot drift, clean code."""

import ast
import functools
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
import processes
import pytest
import yaml

import tlutils

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TEST = EXTRAS["test"]
CONDA_NAMES = {"pytorch": "torch", "python-xxhash": "xxhash"}


def bounds(requirement: str) -> tuple[str, str]:
    name, rest = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", requirement).groups()
    return CONDA_NAMES.get(name, name), rest


def test_conda_and_pip_users_get_the_same_packages_and_bounds():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = [entry for entry in environment if isinstance(entry, str) and entry != "pip"]
    (pip,) = [entry["pip"] for entry in environment if isinstance(entry, dict)]
    assert "-e ." in pip
    assert f"python{PROJECT['requires-python']}" in conda
    listed = {bounds(entry) for entry in conda + pip if entry != "-e ." and not entry.startswith("python>")}
    assert listed == {bounds(r) for r in PROJECT["dependencies"] + TEST}


def test_every_dependency_is_justified():
    text = (ROOT / "docs" / "dependencies.md").read_text()
    names = [bounds(r)[0] for r in PROJECT["dependencies"] + TEST]
    assert [name for name in names if f"`{name}`" not in text] == []


def source(path: Path) -> str:
    """The Python of a module, or of a notebook's cells."""
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def imported(paths: list[Path]) -> set[str]:
    """The first part of each name that files import from other packages, lazy imports included."""
    found = set()
    for node in (node for path in paths for node in ast.walk(ast.parse(source(path)))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    helpers = {
        path.stem for folder in ("tests", "instructor", "benchmarks") for path in (ROOT / folder).glob("*.py")
    }
    return found - helpers - sys.stdlib_module_names - {"tlutils"}


@functools.cache
def distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


with_instructor = pytest.mark.skipif(not (ROOT / "instructor").is_dir(), reason="it is withheld")


@pytest.mark.parametrize(
    ("pattern", "declared"),
    [
        (
            "tlutils/**/*.py",
            PROJECT["dependencies"] + EXTRAS["advisor"] + EXTRAS["export"] + EXTRAS["openvino"],
        ),
        ("notebooks/**/*.ipynb", PROJECT["dependencies"]),
        pytest.param(
            "instructor/**/*.py",
            PROJECT["dependencies"] + EXTRAS["teach"],
            marks=with_instructor,
        ),
        ("benchmarks/*.py", PROJECT["dependencies"] + TEST),
        pytest.param("tests/*.py", PROJECT["dependencies"] + TEST, marks=with_instructor),  # some import it
    ],
)
def test_every_import_is_a_declared_dependency(pattern, declared):
    """A package that comes with another one today may not tomorrow."""
    names = {bounds(requirement)[0] for requirement in declared}
    modules = imported(list(ROOT.glob(pattern)))
    assert modules
    if pattern.startswith("benchmarks"):  # what is measured beside us lives in an environment of its own
        modules -= {"fastai", "lightning"}
    missing = [
        m for m in modules if not {d.lower().replace("_", "-") for d in distributions().get(m, [])} & names
    ]
    assert missing == []


def test_one_version_everywhere():
    assert PROJECT["dynamic"] == ["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = re.findall(
        r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert [citation["version"], changes[0]] == [tlutils.__version__] * 2


def test_the_citation_the_licence_and_the_package_name_the_same_authors():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["authors"] == PROJECT["authors"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"][0]["name"] in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_ruff_before_a_commit_is_the_ruff_of_the_tests():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (ruff,) = (requirement for requirement in TEST if requirement.startswith("ruff"))
    assert re.findall(r'"(ruff\S*)"', hooks) == [ruff]


def test_contributing_names_files_that_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tlutils|tests|data|docs|notebooks|benchmarks|\.github)/[\w./]*)`", text)
    assert len(named) > 10
    assert [path for path in named if not list(ROOT.glob(re.sub("NOUN|NAME|NN", "*", path)))] == []


def test_the_workflow_tests_from_the_oldest_python_that_is_admitted():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    for job in ("unix", "windows"):
        versions = workflow["jobs"][job]["strategy"]["matrix"]["python"]
        assert f">={versions[0]}" == PROJECT["requires-python"]


def test_the_gate_runs_the_command_that_the_readme_shows():
    shown = subprocess.run(
        ["bash", ".ci/run", "--show"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert shown in (ROOT / "README.md").read_text().splitlines()
    assert shown.endswith("pytest")


def look_around(folder):
    """In a process of its own, write what the package in FOLDER/site finds of its data."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tlutils"]:
        del sys.modules[name]
    sys.path.insert(0, str(folder / "site"))
    os.chdir(folder)
    from tlutils import claims, data, lessons

    found = [len(claims.evidence().runs), len(lessons.catalog()), data.card("elpv-defects").name]
    (folder / "found.json").write_text(json.dumps([*found, lessons.__file__]), encoding="utf-8")


def test_an_installed_package_has_lessons_cards_and_evidence_outside_a_checkout(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    assert processes.run(look_around, tmp_path) == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    evidence = (ROOT / "docs" / "full" / "reproduction.csv").read_text().splitlines()
    assert found[:3] == [
        len(evidence) - 1,
        len(list((ROOT / "notebooks").glob("[0-9]*.ipynb"))),
        "elpv-defects",
    ]
    assert found[3].startswith(str(tmp_path))


def test_the_top_level_holds_nothing_unexpected():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    allowed = {
        *("README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE"),
        *("pyproject.toml", "environment.yml"),
        *("conftest.py", "notebooks", "tlutils", "tests", "data", "docs", "benchmarks", "instructor"),
    }
    assert {name for name in top - allowed if not name.startswith(".")} == set()


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        pytest.param(("mypy",), marks=pytest.mark.full),  # a minute
    ],
    ids=["lint", "format", "types"],
)
def test_code_is_clean(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_importing_the_package_needs_no_widgets_and_loads_nothing_heavy():
    code = "import sys; sys.modules['ipywidgets'] = None; import tlutils; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
