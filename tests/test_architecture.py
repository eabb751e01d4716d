"""The picture in docs/architecture.md is true: a module imports only from the rows below its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tlutils"
ROWS = [
    {"errors", "runtime", "inference", "download"},
    {"data", "models"},
    {"surgery", "features"},
    {"metrics", "probe", "train", "explain", "checks", "plots"},
    {"experiments", "transferability"},
    {"claims"},
    {"lessons", "cli", "widgets"},
]
# Arrows within a row, each drawn in the picture.
SIDEWAYS = {
    ("runtime", "errors"),
    ("inference", "runtime"),
    ("inference", "errors"),
    ("download", "runtime"),
    ("data", "models"),
    ("features", "surgery"),
    ("probe", "metrics"),
    ("train", "metrics"),
    ("cli", "lessons"),
}
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}
FILES = sorted(PACKAGE.rglob("*.py"))


def noun(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_nouns(path: Path) -> set[str]:
    """The tlutils modules that a file imports, relative or absolute, at the top or inside a function."""
    package = ("tlutils", *path.relative_to(PACKAGE).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            targets = [f"{prefix}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {
            parts[1] for parts in (t.split(".") for t in targets) if parts[0] == "tlutils" and len(parts) > 1
        }
    return found & set(LEVEL)


def test_every_module_has_a_row():
    assert {noun(path) for path in FILES} - {"__init__"} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rows_below(path):
    here = noun(path)
    for there in imported_nouns(path) - {here}:
        below = here == "__init__" or LEVEL[there] < LEVEL[here]
        assert below or (here, there) in SIDEWAYS, f"{here} imports {there}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_stays_small(path):
    assert len(path.read_text().splitlines()) <= 450


def test_library_code_does_not_print():
    """Words for people come from checks and the command line alone."""
    speaking = {
        noun(path)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    }
    assert speaking <= {"checks", "cli"}


def test_nothing_in_the_library_reads_the_test_split():
    """Nothing is ever chosen on the test split: no module but `data`, which makes it, touches `.test`."""
    readers = {
        noun(path)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "test"
    }
    assert readers <= {"data"}
