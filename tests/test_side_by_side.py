"""The page that sets this package beside its peers says what was measured, and what was typed."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

spec = importlib.util.spec_from_file_location(
    "side_by_side", Path(__file__).parent.parent / "benchmarks" / "side_by_side" / "run.py"
)
side = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = side  # dataclasses look there
spec.loader.exec_module(side)

ROWS = pd.read_csv(side.ROWS)


def test_the_page_is_written_from_the_rows_and_the_programs():
    assert side.PAGE.read_text("utf-8") == side.write_page(ROWS)


def test_lines_typed_are_neither_blank_nor_comment_nor_docstring(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        '"""Two\n\nlines."""\n\nimport os\n\n# a comment\nprint(\n    os.name\n)\n', encoding="utf-8"
    )
    assert side.typed(program) == 4


def test_a_peer_that_is_shorter_and_as_honest_is_named(monkeypatch):
    peer = replace(side.CONTESTANTS["with_fastai.py"], honest=side.OURS)
    monkeypatch.setitem(side.CONTESTANTS, "with_fastai.py", peer)
    assert "* shorter and as honest: none" in side.write_page(ROWS)  # its lines are still more
    monkeypatch.setattr(side, "typed", lambda program: 0 if program.suffix == ".py" else 1)
    assert "* shorter and as honest: fastai\n" in side.write_page(ROWS)
