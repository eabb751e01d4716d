"""Every public name says what it gives and what each argument is, and an example shows it at work."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pdoc
import pytest

import tlutils

PACKAGE = Path(tlutils.__file__).parent
DOORS = sorted(module.name for module in pkgutil.iter_modules(tlutils.__path__, "tlutils."))
FILES = sorted(
    p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py") if ">>> " in p.read_text("utf-8")
)
LONG = (
    # an advice, a page of evidence, a data set written as shards
    "advisor/advice.py",
    "claims/report.py",
    "data/shards.py",
    # a folder with model and report, three exporters, a kernel, a trained explorer
    "deploy/building.py",
    "deploy/export.py",
    "lessons.py",
    "widgets/deciding.py",
)
HEADS = "Args|Attributes|Returns|Yields|Raises|Example"


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield the functions and classes that a module offers, those of modules in its `__all__` included."""
    own = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
    for name in getattr(module, "__all__", [name for name in own if not name.startswith("_")]):
        value = getattr(module, name, None) or importlib.import_module(f"{module.__name__}.{name}")
        if inspect.ismodule(value):
            yield from public(value)
        elif inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value)):
            yield f"{module.__name__}.{name}", value


def sections(doc: str) -> dict[str, str]:
    """Return the text of each section of a docstring; what precedes the first is under "" ."""
    parts = re.split(rf"^({HEADS}):$", inspect.cleandoc(doc), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def entries(text: str) -> list[str]:
    return re.findall(r"^ {4}(\*{0,2}\w+): \S", text, flags=re.MULTILINE)


def parameters(function: Any) -> list[str]:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    signature = inspect.signature(function).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in signature if p.name not in ("self", "cls")]


def lacking(name: str, value: Any, example: bool) -> Iterator[str]:
    """Yield what is wrong with the docstring of a function or class, its public methods included."""
    doc = value.__doc__ or ""
    found = sections(doc)
    if not re.match(r"\S.*[.?]$", doc.split("\n")[0]):
        yield f"{name}: the first line is not one sentence"
    head, expected = "Args", []
    if not inspect.isclass(value):
        expected = parameters(value)
        if example and ">>> " not in found.get("Example", ""):
            yield f"{name}: no example"
    elif dataclasses.is_dataclass(value):
        head = "Attributes"
        expected = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
    elif "__init__" in vars(value) and not getattr(value, "_is_protocol", False):
        expected = parameters(value.__init__)
    if (listed := entries(found.get(head, ""))) != expected:
        yield f"{name}: {head} lists {listed}, expected {expected}"
    for own, member in vars(value).items() if inspect.isclass(value) else ():
        member = getattr(member, "fget", None) or getattr(member, "__func__", member)
        inherited = any(own in vars(base) for base in value.__mro__[1:])
        ours = inspect.isfunction(member) and member.__module__.startswith("tlutils")
        if ours and not own.startswith("_") and not (inherited and not member.__doc__):
            yield from lacking(f"{name}.{own}", member, example=False)


@pytest.mark.parametrize("door", DOORS)
def test_every_public_name_is_documented(door):
    found = dict(public(importlib.import_module(door)))
    assert found, f"{door} offers nothing"
    faults = [fault for name, value in found.items() for fault in lacking(name, value, example=True)]
    assert not faults, "\n".join(faults)


@pytest.mark.full
def test_the_reference_shows_every_public_name_and_builds_without_a_warning(tmp_path):
    pdoc.render.configure(docformat="google", show_source=False)  # which takes most of the time
    pdoc.pdoc("tlutils", output_directory=tmp_path)
    for name in (name for door in DOORS for name, _ in public(importlib.import_module(door))):
        page, _, own = name.rpartition(".")
        assert f'<section id="{own}">' in (tmp_path / f"{page.replace('.', '/')}.html").read_text("utf-8"), (
            name
        )


def examples(path: Path) -> Iterator[doctest.DocTest]:
    """Yield the examples of each docstring in a file, each to start from an empty namespace."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (doc := ast.get_docstring(node)):
            name, line = getattr(node, "name", path.stem), node.body[0].lineno - 1
            test = doctest.DocTestParser().get_doctest(doc, {}, name, str(path), line)
            if test.examples:
                yield test


@pytest.mark.parametrize(
    "file", [pytest.param(file, marks=[pytest.mark.full] * (file in LONG)) for file in FILES]
)
def test_examples_give_what_they_show(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    written: list[str] = []
    for test in examples(PACKAGE / file):
        runner.run(test, out=written.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(written)
