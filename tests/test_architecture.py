"""The picture in docs/architecture.md is true; each rule is a function that finds its faults in sources."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

PACKAGE = Path(__file__).parent.parent / "tlutils"


def picture() -> tuple[list[set[str]], set[tuple[str, str]]]:
    """Return the rows that docs/architecture.md draws, lowest first, and the arrows within them."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    rows: list[set[str]] = []
    arrows: set[tuple[str, str]] = set()
    for line in reversed(text.split("```")[1].strip().splitlines()):
        drawn = line[15:].replace("/", "")  # after the row's title
        rows.append(set(re.findall(r"\w+", drawn)))
        arrows |= set(re.findall(r"(\w+) → (?=(\w+))", drawn))
        arrows |= {(right, left) for left, right in re.findall(r"(\w+) ← (?=(\w+))", drawn)}
    return rows, arrows


ROWS, SIDEWAYS = picture()
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}
MOST_LINES = 450

parse = cache(ast.parse)
Sources = dict[str, str]
"""{path within the package, as "surgery/stages.py": the text of the file}."""


def sources() -> Sources:
    files = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in files}


def noun(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


class Import(NamedTuple):
    """`from tlutils.ORIGIN import NAME`, with the origin in parts; `import tlutils.x.y` has the name None."""

    origin: tuple[str, ...]
    name: str | None


@cache
def imports(path: str, source: str) -> list[Import]:
    """Return what a file imports from the package, at the top or in a function, but not for types alone."""
    taken: list[Import] = []
    folder = ("tlutils", *path.split("/")[:-1])
    waiting: list[ast.AST] = [parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found = [(tuple(alias.name.split(".")), None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            origin = (*base, *(node.module.split(".") if node.module else ()))
            found = [(origin, alias.name) for alias in node.names]
        else:
            continue
        taken += [Import(origin[1:], name) for origin, name in found if origin[0] == "tlutils"]
    return taken


def upward(files: Sources) -> list[str]:
    """Return where a module imports from its own row, without an arrow, or from one above."""
    found = []
    for path, source in files.items():
        here = noun(path)
        for there in {(*origin, name)[0] for origin, name in imports(path, source)} & set(LEVEL) - {here}:
            if here != "__init__" and LEVEL[there] >= LEVEL[here] and (here, there) not in SIDEWAYS:
                found.append(f"{path} imports {there}")
    return found


def inside(files: Sources) -> list[str]:
    """Return where a module takes from another room what that one does not offer."""
    doors = {f"{room}{end}": room for room in map(noun, files) for end in (".py", "/__init__.py")}
    offered = {doors[path]: _offered(source) for path, source in files.items() if path in doors}
    found = []
    for path, source in files.items():
        taken = [i for i in imports(path, source) if i.origin and i.origin[0] != noun(path)]
        rooms = {name for origin, name in imports(path, source) if not origin and name != noun(path)}
        used = [
            Import((node.value.id,), node.attr)
            for node in ast.walk(parse(source))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in rooms
        ]
        for origin, name in [*taken, *used]:
            names = offered.get(origin[0])
            private = name is not None and (name.startswith("_") or (names is not None and name not in names))
            if len(origin) > 1 or private:
                found.append(f"{path} takes {'.'.join((*origin, name or ''))}")
    return found


def _offered(source: str) -> set[str] | None:
    """Return the names in `__all__`, None for a module without."""
    for node in parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return None


def circles(files: Sources) -> list[str]:
    """Return the files of a room that import each other, at once or by way of others."""
    paths = sorted(files)
    arrows = np.zeros((len(paths), len(paths)))
    for i, path in enumerate(paths):
        for there in _files(files, path, files[path]):
            arrows[i, paths.index(there)] = noun(there) == noun(path)
    _, labels = connected_components(arrows, connection="strong")
    return [
        " ⇄ ".join(paths[i] for i in np.flatnonzero(labels == k))
        for k in np.flatnonzero(np.bincount(labels) > 1)
    ]


def _files(files: Sources, path: str, source: str) -> Iterator[str]:
    """Yield the files among `files` that a source imports."""
    for origin, name in imports(path, source):
        for target in ((*origin, name or ""), origin):
            where = "/".join(target)
            known = [file for file in (f"{where}.py", f"{where}/__init__.py") if file in files]
            if known:
                yield known[0]
                break


def large(files: Sources) -> list[str]:
    """Return the modules that have outgrown one idea, docstrings apart."""
    return [path for path, source in files.items() if _lines(source) > MOST_LINES]


def _lines(source: str) -> int:
    texts = [
        node.value
        for node in ast.walk(parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    return len(source.splitlines()) - sum((text.end_lineno or 0) - text.lineno + 1 for text in texts)


def slow(files: Sources) -> list[str]:
    """Return the files that import at their top what takes a second and few need: all would wait for it."""
    found = []
    for path, source in files.items():
        for node in parse(source).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found += [f"{path} imports {n}" for n in names if n.startswith(("sklearn", "scipy.stats"))]
            if isinstance(node, ast.ImportFrom) and node.module == "scipy":
                found += [f"{path} imports scipy.stats" for alias in node.names if alias.name == "stats"]
    return found


RULES = [upward, inside, circles, large, slow]


def test_every_module_has_a_row():
    assert {noun(path) for path in sources()} - {"__init__"} <= set(LEVEL)


def test_a_slash_marks_a_folder_in_the_picture_and_in_the_table():
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    shown = re.findall(r"(\w+)(/?)", "".join(line[15:] + " " for line in text.split("```")[1].splitlines()))
    shown += re.findall(r"^\| `(\w+)(/?)` \|", text, flags=re.MULTILINE)
    assert len(shown) == 2 * len(LEVEL)
    assert [name for name, slash in shown if bool(slash) != (PACKAGE / name).is_dir()] == []


def test_every_arrow_within_a_row_is_an_import():
    files = sources()
    taken = {(noun(p), (*i.origin, i.name)[0]) for p, source in files.items() for i in imports(p, source)}
    assert taken >= SIDEWAYS


@pytest.mark.parametrize("rule", RULES)
def test_the_picture_is_true(rule):
    assert list(rule(sources())) == []


@pytest.mark.parametrize(
    ("rule", "files", "says"),
    [
        (upward, {"surgery/a.py": "from ..train import fit"}, "surgery/a.py imports train"),
        (upward, {"surgery/a.py": "def f():\n    from .. import features"}, "surgery/a.py imports features"),
        (upward, {"runtime.py": "import tlutils.models"}, "runtime.py imports models"),
        (inside, {"widgets/a.py": "from ..claims.tiers import DATA"}, "widgets/a.py takes claims.tiers.DATA"),
        (inside, {"widgets/a/b.py": "from ...claims import _x"}, "widgets/a/b.py takes claims._x"),
        (
            inside,
            {"claims/__init__.py": "from .a import b\n__all__ = ['b']", "cli.py": "from .claims import a"},
            "cli.py takes claims.a",
        ),
        (
            inside,
            {"claims/__init__.py": "__all__ = ['b']", "cli.py": "from . import claims\nclaims.tiers.DATA"},
            "cli.py takes claims.tiers",
        ),
        (inside, {"cli.py": "from . import runtime\nruntime._x()"}, "cli.py takes runtime._x"),
        (
            circles,
            {"data/a.py": "from .b import x", "data/b.py": "def f():\n    from . import a"},
            "data/a.py ⇄ data/b.py",
        ),
        (
            circles,
            {"data/__init__.py": "from .a import x", "data/c/a.py": "", "data/a.py": "from . import y"},
            "data/__init__.py ⇄ data/a.py",
        ),
        (large, {"data/a.py": "x = 1\n" * (MOST_LINES + 1)}, "data/a.py"),
        (slow, {"metrics.py": "from sklearn.metrics import log_loss"}, "metrics.py imports sklearn.metrics"),
        (slow, {"checks/a.py": "from scipy import stats"}, "checks/a.py imports scipy.stats"),
    ],
)
def test_a_fault_would_be_found(rule, files, says):
    assert rule(files) == [says]


@pytest.mark.parametrize(
    ("rule", "files"),
    [
        (upward, {"surgery/a.py": "from .. import models\nfrom ..errors import LearnerError"}),
        (inside, {"cli.py": "from .claims import b", "claims/__init__.py": "__all__ = ['b']"}),
        (inside, {"cli.py": "from . import claims\nclaims.b()", "claims/__init__.py": "__all__ = ['b']"}),
        (circles, {"data/a.py": "from .b import x", "data/b.py": "", "data/__init__.py": "from . import a"}),
        (
            slow,
            {"metrics.py": "from scipy import sparse\ndef f():\n    from sklearn.metrics import log_loss"},
        ),
        (large, {"data/a.py": 'def f():\n    """' + "\n" * MOST_LINES + '"""\n' + "x = 1\n" * 9}),
        (
            circles,
            {
                "data/a.py": "from .b import x",
                "data/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import y",
            },
        ),
    ],
)
def test_what_is_allowed_is_no_fault(rule, files):
    assert rule(files) == []


def test_library_code_does_not_print():
    """Words for people come from checks and the command line alone."""
    speaking = {
        noun(path)
        for path, source in sources().items()
        for node in ast.walk(parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    }
    assert speaking <= {"checks", "cli"}


def test_nothing_in_the_library_reads_the_test_split():
    """Nothing is ever chosen on the test split: no module touches `.test` but `data`, which makes it, the one
    of the claims that draws from it the judges of their runs, and those of `deploy` that count and judge."""
    readers = {
        path if noun(path) in ("claims", "deploy") else noun(path)
        for path, source in sources().items()
        for node in ast.walk(parse(source))
        if isinstance(node, ast.Attribute) and node.attr == "test"
    }
    assert readers <= {"data", "claims/materials.py", "deploy/building.py", "deploy/doubts.py"}


def test_no_test_imports_another():
    """What two of them need has a module of its own, which says what it is."""
    files = Path(__file__).parent.glob("*.py")
    found = {
        f"{path.name} imports {name}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported_by(node)
        if name.startswith("test_")
    }
    assert found == set()


def imported_by(node):
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
