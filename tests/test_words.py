"""A learner can search the literature with our words: no private dialect in lessons, docs and messages."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tlutils import lessons

ROOT = Path(__file__).parent.parent
PER = "image|row|class|stage|batch|step|channel|head|cut|seed|filter|pixel|line|run|epoch|cell|claim|copy"
COUNTED = "logits?|numbers?|values?|rows?|images?|map|entry|entries|one|matrix|seconds|features|multiply-adds"

# pattern, why, a sentence in which it must be found
DIALECT = [
    (r"\b(XX+|TODO|TBD)\b", "a sentence is missing", "A draw from XX."),
    (rf"\b({COUNTED}) an? ({PER})\b", "say per image, per row, per class", "It gives three logits a class."),
    (r"(?<!CNN )\b[Cc]odes\b", "vectors are features or embeddings", "Neighbours by pretrained codes."),
    (r"\b(pretrained|random|image's|nearest|[Bb]y) code\b", "a vector is an embedding", "near by code"),
    (r"\b(trainable|million) numbers\b|\bnumbers (learn|train)\b", "parameters", "Two million numbers."),
    (r"\b(last|stage's|channel's) maps?\b", "feature maps, or activations", "the last maps"),
    (r"\b(first|learned|convolution's) kernels?\b", "a convolution has filters", "the first kernels"),
    (r"\bexcit(e[sd]?|ing|ement)\b", "a channel is activated", "excites it"),
    (r"\bfavourites?\b", "an image that maximises the activation", "its favourite image"),
    (r"\blikeness\b", "similarity", "the likeness of features"),
    (r"(?<![Ss]tandard )\bdeviations?\b", "the spread is a standard deviation", "mean 0 and deviation 1"),
    (r"\b(givers?|takers?)\b", "source and target network", "The giver trains on."),
    (r"\bBatchNorm('s statistics)? (is |was |are |were )?held\b", "frozen", "with BatchNorm held"),
    (r"\b(can|cannot) be had\b", "is not available, cannot be downloaded", "The weights cannot be had."),
    (r"\bmend(s|ed|ing)?\b", "fix", "Nothing to mend."),
    (r"\banew\b", "again", "It is computed anew."),
    (r"\bdear(er|est)?\b|\bmood\b", "expensive, depends on the machine", "dear to run"),
    (r"\b(lays?|laid)\b(?!( it| them)? out)", "is, are; put, give", "where it lay"),
    (r"\bshall\b", "is to, should", "and it shall train, too"),
]  # fmt: skip


def faults(text: str) -> list[str]:
    """What a text says in dialect; code in backticks, links and the changelog's old names are not text."""
    text = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)|\|\s*was\s*\|\s*is\s*\|.*", " ", text, flags=re.DOTALL)
    text = re.sub(r"^\s*(>>>|\.\.\. ).*$", " ", text, flags=re.MULTILINE)  # an example is code
    text = " ".join(text.split())
    return [f"“{m[0]}”: {why}" for pattern, why, _ in DIALECT for m in re.finditer(pattern, text)]


def python_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each string, docstring and comment."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (place, text) of all that a file says to people."""
    if path.suffix == ".ipynb":
        for index, cell in enumerate(nbformat.read(path, as_version=4).cells):
            if cell.cell_type == "markdown":
                yield f"cell {index}", cell.source
                continue
            yield from ((f"cell {index}, line {line}", text) for line, text in python_texts(cell.source))
            for out in cell.outputs:
                yield f"cell {index}, output", out.get("text", "") + out.get("data", {}).get("text/plain", "")
    elif path.suffix == ".py":
        yield from ((f"line {line}", text) for line, text in python_texts(path.read_text(encoding="utf-8")))
    else:
        yield "", path.read_text(encoding="utf-8")


FILES = sorted(
    path
    for where in (
        "*.md",
        "docs/**/*.md",
        "data/*.toml",
        "notebooks/**/*.ipynb",
        "instructor/**/*.ipynb",
        "instructor/**/*.py",
        "tlutils/**/*.py",
        "benchmarks/**/*.py",
    )
    for path in ROOT.glob(where)
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_speaks_the_words_of_the_field(path):
    found = [f"{place}: {fault}" for place, text in texts(path) for fault in faults(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("pattern", "why", "example"), DIALECT, ids=[row[2] for row in DIALECT])
def test_each_word_of_the_dialect_is_found_wherever_it_stands(pattern, why, example, tmp_path):
    written = {
        "page.md": f"A page.\n\n{example}\n",
        "docstring.py": f'def f():\n    """{example}"""\n',
        "message.py": f'x = 1\nprint(f"{{x}} {example}")\n',
        "comment.py": f"x = 1  # {example}\n",
    }
    cell = nbformat.v4.new_markdown_cell(example)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "lesson.ipynb")
    for name, text in written.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for path in tmp_path.iterdir():
        assert any(why in fault for _, text in texts(path) for fault in faults(text)), path.name


def test_plain_words_and_code_are_let_through():
    assert not faults(
        "The features of an image, one row per image; `audit(model).codes`; CS231n's CNN codes."
    )
    assert not faults("A dictionary maps a stage to the standard deviation; files are laid out by class.")


def test_readme_asks_the_question_of_each_lessons_title():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"\]\(notebooks/(\S+)\) \| (.*?) \|", readme))
    asked = {lesson.path.name: lesson.title.partition(": ")[2] for lesson in lessons.catalog()}
    assert {name: question.casefold() for name, question in rows.items()} == {
        name: question.casefold() for name, question in asked.items()
    }
