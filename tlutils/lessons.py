"""The numbered notebooks: find them, run them from start to end, clean them for committing."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from . import runtime
from .errors import LearnerError, unknown

OnCell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Lesson:
    """One notebook of the course.

    Attributes:
        number: "00", "01b", as its file begins.
        title: Its first heading.
        path: Where it lies.
    """

    number: str
    title: str
    path: Path


def folder() -> Path:
    """Return the folder with the lessons: beside the package in a checkout, inside it in a wheel.

    Raises:
        LearnerError: For an installation without lessons.

    Example:
        >>> from tlutils import lessons
        >>> (lessons.folder() / "00_six_steps.ipynb").is_file()
        True
    """
    here = Path(__file__).parent
    for place in (here / "_lessons", here.parent / "notebooks"):
        if place.is_dir():
            return place
    raise LearnerError(
        f"No lessons beside {here}. Install the package from its repository, or reinstall the wheel."
    )


def catalog() -> list[Lesson]:
    """Return every lesson in order.

    Example:
        >>> from tlutils import lessons
        >>> [lesson.number for lesson in lessons.catalog()][:3]
        ['00', '01', '01b']
    """
    lessons = []
    for path in sorted(folder().glob("[0-9][0-9]*.ipynb")):
        title = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].lstrip("# ")
        lessons.append(Lesson(path.name.split("_")[0], title, path))
    return lessons


def find(number: str) -> Lesson:
    """Return the lesson with this number or file name.

    Args:
        number: "0", "00", "01b", or the name of the file, with or without its ending.

    Raises:
        LearnerError: For a lesson that is not there.

    Example:
        >>> from tlutils import lessons
        >>> lessons.find("0").path.name
        '00_six_steps.ipynb'
    """
    lessons = catalog()
    for lesson in lessons:
        if str(number).zfill(2) == lesson.number or number in (lesson.path.name, lesson.path.stem):
            return lesson
    raise unknown("lesson", number, [lesson.number for lesson in lessons])


def execute(
    path: Path, *, parameters: dict[str, Any] | None = None, on_cell: OnCell | None = None
) -> NotebookNode:
    """Return a notebook run from start to end in a fresh kernel of this Python; the file is not changed.

    Args:
        path: The notebook.
        parameters: New values for names of the cell tagged "parameters".
        on_cell: `on_cell(k, n, heading)` is called before code cell k of n.

    Raises:
        LearnerError: When a cell raises or the kernel dies; the notebook so far is in `error.notebook`.

    Example:
        >>> import nbformat
        >>> from tlutils import lessons, runtime
        >>> path = runtime.cache_dir() / "sum.ipynb"
        >>> cell = nbformat.v4.new_code_cell("print(1 + 1)")
        >>> nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
        >>> lessons.execute(path).cells[0].outputs[0].text
        '2\\n'
    """
    path = runtime.user_path(path)
    notebook = nbformat.read(path, as_version=4)
    if parameters:
        set_parameters(notebook, parameters)
    headings, heading = {}, ""
    for index, cell in enumerate(notebook.cells):
        lines = [line for line in cell.source.splitlines() if line.startswith("#")]
        if cell.cell_type == "markdown" and lines:
            heading = lines[0].lstrip("# ")
        headings[index] = heading
    code = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    running = ""

    def announce(cell: NotebookNode, cell_index: int) -> None:
        nonlocal running
        if cell_index in code:
            running = f"code cell {code.index(cell_index) + 1} ({headings[cell_index]!r})"
            if on_cell:
                on_cell(code.index(cell_index) + 1, len(code), headings[cell_index])

    # The interpreter that runs, also where another environment's kernels are installed for this user.
    own = KernelSpecManager(kernel_dirs=[])
    manager = AsyncKernelManager(kernel_name=NATIVE_KERNEL_NAME, kernel_spec_manager=own)
    client = NotebookClient(
        notebook,
        timeout=1200,
        km=manager,
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=announce,
        store_widget_state=False,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
    )
    try:
        # A lesson run by itself has nobody to watch its progress bars.
        client.execute(env={**runtime.homes(), **os.environ, "TQDM_DISABLE": "1"}, cleanup_kc=True)
    except CellExecutionError as failure:
        raise _stopped(path, running, f"{failure.ename}: {failure.evalue}", notebook) from failure
    except (RuntimeError, TimeoutError, OSError) as failure:  # the kernel does not start, or died
        raise _stopped(path, running, f"{failure} (it ran in {sys.executable})", notebook) from failure
    return clean(notebook)


def _stopped(path: Path, running: str, why: str, notebook: NotebookNode) -> LearnerError:
    """Return the error for a lesson that did not come to its end, with the notebook so far."""
    error = LearnerError(f"{path.name} stopped in {running or 'its start'}: {why}")
    error.notebook = clean(notebook)  # type: ignore[attr-defined]
    return error


def set_parameters(notebook: NotebookNode, parameters: dict[str, Any]) -> None:
    """Give new values to the cell tagged "parameters"; changes `notebook`.

    Args:
        notebook: The notebook, as nbformat reads it.
        parameters: The values by name.

    Raises:
        LearnerError: For a name that the cell does not set, and a notebook without such a cell.

    Example:
        >>> import nbformat
        >>> from tlutils import lessons
        >>> cell = nbformat.v4.new_code_cell("SEEDS = 5", metadata={"tags": ["parameters"]})
        >>> lessons.set_parameters(nbformat.v4.new_notebook(cells=[cell]), {"SEEDS": 2})
        >>> cell.source
        'SEEDS = 2'
    """
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            lines = cell.source.splitlines()
            known = {line.split("=")[0].strip(): row for row, line in enumerate(lines) if "=" in line}
            for name, value in parameters.items():
                if name not in known:
                    raise unknown("parameter", name, known)
                lines[known[name]] = f"{name} = {value!r}"
            cell.source = "\n".join(lines)
            return
    raise LearnerError("This notebook has no cell tagged 'parameters', so nothing can be set from outside.")


def clean(notebook: NotebookNode) -> NotebookNode:
    """Return `notebook` as it is committed: stable ids, plain metadata, no timings, no live widgets.

    A widget lives in a kernel and has a new id on each run; the picture that stands for it stays.

    Args:
        notebook: The notebook, as nbformat reads it; it is changed.

    Example:
        >>> import nbformat
        >>> from tlutils import lessons
        >>> cell = nbformat.v4.new_code_cell("1 + 1", metadata={"scrolled": True})
        >>> cleaned = lessons.clean(nbformat.v4.new_notebook(cells=[cell])).cells[0]
        >>> cleaned.id, cleaned.metadata
        ('cell-00', {})
    """
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:02d}"
        cell.metadata = nbformat.from_dict(
            {key: value for key, value in cell.metadata.items() if key in ("tags", "alt")}
        )
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    nbformat.validate(notebook)
    return notebook


def write_copies(to: str | Path) -> dict[Path, bool]:
    """Write a copy of each lesson and assignment to work in, without outputs: nothing gives an answer away.

    A file that is there stays as it is. Returns the path of each copy, and whether it was written now.

    Args:
        to: The folder; it is made if need be.

    Raises:
        LearnerError: For a folder that cannot be written.

    Example:
        >>> from tlutils import lessons
        >>> copies = lessons.write_copies("my course")
        >>> next(iter(copies)).name, all(copies.values())
        ('00_six_steps.ipynb', True)
        >>> any(lessons.write_copies("my course").values())
        False
    """
    target, source, copies = runtime.user_path(to), folder(), {}
    for path in [p for kind in ("*.ipynb", "*.md", "assignments/*.ipynb") for p in sorted(source.glob(kind))]:
        copy = target / path.relative_to(source)
        copies[copy] = not os.path.lexists(copy)
        if not copies[copy]:
            continue
        with runtime.atomic_write(copy) as temporary:
            if path.suffix == ".ipynb":
                notebook = nbformat.read(path, as_version=4)
                for cell in notebook.cells:
                    if cell.cell_type == "code":
                        cell.outputs, cell.execution_count = [], None
                nbformat.write(notebook, temporary)
            else:
                temporary.write_bytes(path.read_bytes())
    return copies


PAGE = """{% extends 'lab/index.html.j2' %}
{% macro described(output, kind, picture) %}
{% set words = output | get_metadata('alt', kind) or output.data.get('text/plain', '') %}
{{ picture | replace('<img', '<img alt="' ~ (words | replace('[picture] ', '') | e) ~ '"', 1) }}
{% endmacro %}
{% block data_png scoped %}{{ described(output, 'image/png', super()) }}{% endblock %}
{% block data_jpg scoped %}{{ described(output, 'image/jpeg', super()) }}{% endblock %}
"""
"""The page of a lesson: nbconvert's own, with the words of each picture for who cannot see it."""


def write_html(notebook: NotebookNode, path: Path) -> Path:
    """Write an executed notebook as one self-contained HTML page and return its path.

    Args:
        notebook: The notebook, as nbformat reads it.
        path: The file to write.

    Example:
        >>> import nbformat
        >>> from tlutils import lessons, runtime
        >>> notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Freezing")])
        >>> page = lessons.write_html(notebook, runtime.cache_dir() / "lesson.html")
        >>> "Freezing" in page.read_text(encoding="utf-8")
        True
    """
    from nbconvert import HTMLExporter

    path = runtime.user_path(path)
    page, _ = HTMLExporter(raw_template=PAGE).from_notebook_node(notebook)
    with runtime.atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def result(notebook: NotebookNode) -> str:
    """Return what the cells tagged "result" printed: the lesson's outcome.

    Args:
        notebook: The executed notebook, as nbformat reads it.

    Example:
        >>> import nbformat
        >>> from tlutils import lessons
        >>> "random" in lessons.result(nbformat.read(lessons.find("00").path, as_version=4))
        True
    """
    text = [
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code" and "result" in cell.metadata.get("tags", [])
        for output in cell.outputs
        if output.output_type == "stream"
    ]
    return "".join(text).strip()
