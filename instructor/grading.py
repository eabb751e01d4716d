"""What nbgrader does beside its own: limits, a screen for answers, feedback without hidden tests."""

import ast
import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbclient.exceptions import DeadKernelError
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.converters.autograde import Autograde
from nbgrader.preprocessors import Execute, GetGrades, NbGraderPreprocessor
from nbgrader.utils import is_grade, is_locked

import tlutils

ANSWER_SECONDS, CELL_SECONDS, SUBMISSION_SECONDS = 30, 180, 600  # an answer defines; given cells measure
MEMORY = 6 * 2**30  # bytes that one submission may allocate

HIDDEN = re.compile(r"[ \t]*### BEGIN HIDDEN TESTS.*?(### END HIDDEN TESTS|\Z)", re.DOTALL)
MODULES = set(
    [
        "sys",
        "os",
        "inspect",
        "importlib",
        "builtins",
        "gc",
        "ctypes",
        "subprocess",
        "shutil",
        "signal",
        "threading",
        "multiprocessing",
        "traceback",
        "IPython",
        "ipykernel",
        "runpy",
        "pickle",
        "code",
    ]
)
NAMES = set(
    [
        "exec",
        "eval",
        "compile",
        "__import__",
        "globals",
        "locals",
        "vars",
        "setattr",
        "delattr",
        "get_ipython",
        "In",
        "Out",
        "open",
        "input",
        "breakpoint",
        "__builtins__",
        "exit",
        "quit",
    ]
)
SCOPES = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
DUNDERS = {"__init__", "__name__", "__len__", "__getitem__", "__iter__", "__call__"}


def reaches_around(source: str, taken: set[str]) -> Iterator[str]:
    """Yield what lines of an answer do that no answer needs; `taken` are names that the notebook imports."""
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return  # it stops by itself, and says why
    scopes = [node for node in ast.walk(tree) if isinstance(node, SCOPES)]
    local = {id(inner) for scope in scopes for inner in ast.walk(scope) if inner is not scope}
    for node in ast.walk(tree):
        line = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            yield from (f"{line} imports {name}" for name in names if name.split(".")[0] in MODULES)
        elif isinstance(node, ast.Name) and node.id in NAMES:
            yield f"{line} uses {node.id}"
        elif isinstance(node, ast.Global) and taken & set(node.names):
            yield f"{line} gives {', '.join(node.names)} another meaning"
        elif id(node) not in local and (name := _given(node)) in taken:
            yield f"{line} gives {name} another meaning"
        elif isinstance(node, ast.Attribute):
            root: Any = node
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            stored = (
                isinstance(node.ctx, ast.Store | ast.Del) and isinstance(root, ast.Name) and root.id in taken
            )
            if stored:
                yield f"{line} changes {ast.unparse(node)}, which belongs to a library"
            if node.attr.startswith("__") and node.attr not in DUNDERS:
                yield f"{line} uses {node.attr}"


def _given(node: ast.AST) -> str:
    """Return the name that a line gives a meaning to."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        return node.id
    return node.name if isinstance(node, ast.FunctionDef | ast.ClassDef) else ""


def imports(notebook: NotebookNode) -> set[str]:
    """Return the names that a notebook's locked cells import."""
    found = set()
    for cell in notebook.cells:
        if cell.cell_type == "code" and is_locked(cell):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


class Complete(NbGraderPreprocessor):
    """Puts cells that were deleted back as they were handed out; of a cell that was copied, one counts."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Return the notebook with every cell that nbgrader knows."""
        about = resources["nbgrader"]
        path = Path(
            self.config.CourseDirectory.root, "release", about["assignment"], f"{about['notebook']}.ipynb"
        )
        place, seen = 0, set()
        for cell in nb.cells:
            grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
            if grade_id and grade_id in seen:
                del cell.metadata["nbgrader"]  # a copy
            seen.add(grade_id)
        for cell in nbformat.read(path, as_version=4).cells:
            if grade_id := cell.metadata.get("nbgrader", {}).get("grade_id"):
                ids = [c.metadata.get("nbgrader", {}).get("grade_id") for c in nb.cells]
                if grade_id not in ids:
                    nb.cells.insert(place, cell)
                place = 1 + (ids.index(grade_id) if grade_id in ids else place)
        return nb, resources


class Screen(NbGraderPreprocessor):
    """Does not run what reaches around the exercise, nor code that was handed in beside the notebook."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Return the notebook; a cell that is not run says why."""
        for path in Path(resources["metadata"]["path"]).rglob("*"):
            if path.suffix in (".py", ".pyc", ".so", ".pyd", ".zip", ".pth", ".egg"):
                path.unlink()
        taken = imports(nb)
        for cell in nb.cells:
            if cell.cell_type == "code" and not is_locked(cell):
                for why in reaches_around(cell.source, taken):
                    said = f"This cell was not run: {why}, and no answer here needs that."
                    cell.source = f"raise RuntimeError({said!r})\n" + re.sub(
                        "^", "# ", cell.source, flags=re.MULTILINE
                    )
                    break
        return nb, resources


class Limited(Execute):
    """Runs a submission in `SUBMISSION_SECONDS`; a kernel that dies costs what it did not reach."""

    def preprocess(self, nb: NotebookNode, resources: Any, **options: Any) -> tuple[NotebookNode, Any]:
        """Return the executed notebook, whatever becomes of its kernel."""
        end = time.monotonic() + SUBMISSION_SECONDS
        self.extra_arguments = ["--log-level=ERROR", "--HistoryManager.hist_file=:memory:"]
        self.timeout_func = lambda cell: int(
            max(1, min(CELL_SECONDS if is_locked(cell) else ANSWER_SECONDS, end - time.monotonic()))
        )
        before = fingerprint()
        try:
            nb, resources = super().preprocess(nb, resources, **options)
        except (DeadKernelError, RuntimeError, TimeoutError) as error:
            self.log.warning("The kernel did not come to the end: %s", error)
        if fingerprint() != before:
            raise RuntimeError(
                "A submission changed the installed course. Reinstall it, and grade in a sandbox."
            )
        for cell in nb.cells:
            if cell.cell_type == "code" and is_grade(cell) and cell.get("execution_count") is None:
                why = "The notebook did not run as far as this check."
                cell.outputs = [new_output("error", ename="NotReached", evalue=why, traceback=[why])]
        return nb, resources


def fingerprint() -> str:
    """Return what the sources of the installed course are, as short digits."""
    sources = sorted(Path(tlutils.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


class Discreet(NbGraderPreprocessor):
    """Leaves of a graded cell what its learner sees: the visible check, and one line of hint."""

    def preprocess_cell(self, cell: NotebookNode, resources: Any, index: int) -> tuple[NotebookNode, Any]:
        """Return the cell without what the run of its hidden tests printed or showed."""
        cell.source = HIDDEN.sub("", cell.source).rstrip()
        for out in cell.get("outputs", []):
            if out.output_type == "error":  # a traceback quotes the lines around it
                out.evalue = out.evalue[:400]
                out.traceback = [
                    f"Not yet. {out.evalue}" if out.ename == "Mistake" else f"{out.ename}: {out.evalue}"
                ]
        if cell.cell_type == "code" and is_grade(cell):
            cell.outputs = [out for out in cell.outputs if out.output_type == "error"][:1]
        return cell, resources


def configure(c: Any) -> None:
    """Write the limits and the steps into nbgrader's configuration `c`."""
    steps = list(Autograde.autograde_preprocessors.default_args[0])
    c.Autograde.autograde_preprocessors = [Screen, *(Limited if step is Execute else step for step in steps)]
    first = list(Autograde.sanitize_preprocessors.default_args[0])
    first.insert(1, Complete)
    c.Autograde.sanitize_preprocessors = first
    c.GenerateFeedback.preprocessors = [Discreet, GetGrades, CSSHTMLHeaderPreprocessor]
    c.IncludeHeaderFooter.enabled = False
    try:
        import resource
    except ImportError:  # Windows: the sandbox limits memory
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, most))
