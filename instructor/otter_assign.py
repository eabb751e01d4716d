"""Convert solved assignments to the format of Otter Assign: `python otter_assign.py FOLDER`.

Then `otter assign FOLDER/01_finetune.ipynb dist` makes Otter's own release and autograder. Hidden tests
become hidden tests, points stay, and cells that are read by hand become manual questions.
"""

import argparse
import ast
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

HERE = Path(__file__).parent
HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS\n(.*?)\n### END HIDDEN TESTS", re.DOTALL)
CONFIG = "# ASSIGNMENT CONFIG\nexport_cell: false\ntests:\n  ok_format: false\ngenerate: true"


def convert(notebook: NotebookNode) -> NotebookNode:
    """Return a solved notebook with nbgrader's metadata as one for Otter Assign.

    An answer's cell comes right before its check's, and right after what is asked where it is read by
    hand, as in all assignments.
    """
    cells, waiting = [new_raw_cell(CONFIG)], None
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("solution") and about.get("grade"):  # read by hand
            answer = re.sub(r"=== (BEGIN|END) SOLUTION ===\n?", "", cell.source)
            question = f"# BEGIN QUESTION\nname: {about['grade_id']}\npoints: {about['points']}\nmanual: true"
            cells += [
                new_raw_cell(question),
                cells.pop(),  # what is asked: Otter prints question and answer together
                new_raw_cell("# BEGIN SOLUTION"),
                new_markdown_cell(answer),
                new_raw_cell("# END SOLUTION"),
                new_raw_cell("# END QUESTION"),
            ]
        elif about.get("solution"):
            waiting = new_code_cell(cell.source.replace("### BEGIN", "# BEGIN").replace("### END", "# END"))
        elif about.get("grade"):
            visible, hidden = HIDDEN.sub("", cell.source).strip(), HIDDEN.findall(cell.source)
            tests = [_test(visible, "test_visible", about["points"] if not hidden else 0)]
            tests += [_test(source, "test_hidden", about["points"], "hidden: true") for source in hidden]
            name = about["grade_id"].removeprefix("check-")
            cells.append(new_raw_cell(f"# BEGIN QUESTION\nname: {name}\npoints: {about['points']}"))
            if waiting is not None:
                cells += [new_raw_cell("# BEGIN SOLUTION"), waiting, new_raw_cell("# END SOLUTION")]
            cells += [new_raw_cell("# BEGIN TESTS"), *tests, new_raw_cell("# END TESTS")]
            cells.append(new_raw_cell("# END QUESTION"))
            waiting = None
        else:
            plain = new_markdown_cell if cell.cell_type == "markdown" else new_code_cell
            cells.append(plain(cell.source))
            waiting = None
    for index, cell in enumerate(cells):
        cell.id = f"cell-{index:02d}"
    return new_notebook(cells=cells, metadata=notebook.metadata)


def _test(source: str, name: str, points: float, *config: str) -> NotebookNode:
    """Return a test as Otter reads it: a function of the names that it uses."""
    used = dict.fromkeys(node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name))
    head = "\n".join(['""" # BEGIN TEST CONFIG', f"points: {points}", *config, '""" # END TEST CONFIG'])
    body = re.sub("^", "    ", source.strip(), flags=re.MULTILINE)
    return new_code_cell(f"{head}\ndef {name}({', '.join(sorted(used))}):\n{body}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(HERE.glob("source/*/*.ipynb")):
        nbformat.write(convert(nbformat.read(path, as_version=4)), folder / path.name)
