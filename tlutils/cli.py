"""The same verbs for a terminal: `tlutils lessons`, `lesson 00`, `lab`, `data`, `reproduce`."""

import argparse
import ast
import io
import os
import shlex
import sys
import time
from pathlib import Path

import nbformat

from . import lessons, runtime
from .errors import LearnerError


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 said what is wrong, 130 interrupted.

    Args:
        argv: The command line after the program's name; `sys.argv` unless given.

    Example:
        >>> from tlutils import cli
        >>> cli.main(["data"])
        cifar-10 ...
        0
    """
    parser = argparse.ArgumentParser(prog="tlutils", description="Transfer learning, hands on.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("lessons", help="list the lessons")
    run = verbs.add_parser("lesson", help="run one lesson from start to end and keep it as an HTML page")
    run.add_argument("number", help="00, 01, …")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a variable of the lesson's first cell",
    )
    run.add_argument(
        "--out", type=runtime.user_path, help="folder for the page (default: in the cache folder)"
    )
    run.add_argument("--update", action="store_true", help="write the executed notebook back (for authors)")
    lab = verbs.add_parser("lab", help="write copies of the lessons without outputs, to work in")
    lab.add_argument("folder", type=runtime.user_path, help="where to; what is there stays as it is")
    verbs.add_parser("data", help="list the data sets")
    again = verbs.add_parser("reproduce", help="measure what lectures and papers claim; goes on after a stop")
    again.add_argument("--full", action="store_true", help="more seeds, images and data sets: some hours")
    again.add_argument(
        "--search",
        action="store_true",
        help="search rates, steps and augmentation of each strategy, and no more",
    )
    again.add_argument("--jobs", type=int, default=2, help="how many runs go on at once (default: 2)")
    again.add_argument("--only", nargs="+", default=[], metavar="ID", help="these claims alone")
    again.add_argument(
        "--out",
        type=runtime.user_path,
        help="folder for page and tables (default: docs of a checkout, else in the cache)",
    )
    arguments = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may not know every letter
    try:
        for name, folder in runtime.homes().items():
            os.environ.setdefault(name, folder)
        match arguments.verb:
            case "lessons":
                _list_lessons()
            case "lesson":
                _run_lesson(arguments)
            case "lab":
                _write_copies(arguments.folder)
            case "data":
                _list_data()
            case "reproduce":
                _reproduce(arguments)
    except LearnerError as error:
        print(f"tlutils: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ntlutils: interrupted; nothing was left half-written.", file=sys.stderr)
        return 130
    return 0


def _list_lessons() -> None:
    """Print number, title and file of each lesson."""
    for lesson in lessons.catalog():
        print(f"{lesson.number}  {lesson.title}  ({lesson.path})")


def _write_copies(folder: Path) -> None:
    """Write copies of the lessons, and print what to do with them."""
    copies = lessons.write_copies(folder)
    kept = [path.name for path, written in copies.items() if not written]
    print(f"Files written: {len(copies) - len(kept)}. Open them with: jupyter lab {shlex.quote(str(folder))}")
    if kept:
        print(f"{len(kept)} were there and stay as they are: {', '.join(kept)}")


def _list_data() -> None:
    """Print a line for each data set that has a card."""
    from . import data

    for card in data.catalog():
        print(f"{card.name:16} {card.title}")


def _run_lesson(arguments: argparse.Namespace) -> None:
    """Run a lesson, print its progress and result, and write the page."""
    lesson = lessons.find(arguments.number)
    parameters = dict(_parse_setting(text) for text in arguments.set)
    out = arguments.out or runtime.cache_dir("lessons")
    page = out / f"{lesson.path.stem}.html"
    started = time.monotonic()
    print(f"{lesson.title}\n{lesson.path}")

    def on_cell(index: int, total: int, heading: str) -> None:
        print(f"[{index:2}/{total}] {time.monotonic() - started:5.0f} s  {heading}", flush=True)

    try:
        notebook = lessons.execute(lesson.path, parameters=parameters, on_cell=on_cell)
    except LearnerError as error:
        if hasattr(error, "notebook"):
            print(f"The page up to there: {lessons.write_html(error.notebook, page)}")
        raise
    lessons.write_html(notebook, page)
    if arguments.update:
        with runtime.atomic_write(lesson.path) as temporary:
            nbformat.write(notebook, temporary)
    seconds = time.monotonic() - started
    print(f"\n{lessons.result(notebook)}\n\nDone in {seconds:.0f} s. The executed lesson: {page}")


def _reproduce(arguments: argparse.Namespace) -> None:
    """Measure the claims, print their verdicts, and write the page and the tables."""
    from . import claims

    tier = claims.FULL if arguments.full else claims.QUICK
    # In a checkout of this package, and nowhere else, a whole tier renews the page that is read there.
    folder = Path("docs") if tier is claims.QUICK else Path("docs") / tier.name
    ours = Path(__file__).resolve().parents[1] / folder / "reproduction.md"
    renews = not arguments.only and ours.exists() and ours == (folder / "reproduction.md").resolve()
    out = arguments.out or (folder if renews else runtime.cache_dir("reproduction") / tier.name)
    if arguments.search:
        table = claims.search(n_jobs=arguments.jobs)
        with runtime.atomic_write(out / claims.PILOT) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
        print(table[["dataset", "strategy", "lr", "steps", "score"]].to_string(index=False))
        print(f"\nThe table, with all trials: {out / claims.PILOT}")
        return
    plan = claims.select_runs(tier, arguments.only)
    for name, why in claims.missing_datasets(plan).items():
        print(f"{name} is not available here; its runs are taken from the committed evidence. {why}\n")
    if absent := claims.missing_networks(plan):
        print(
            f"Left out, since their weights are not in the cache: {', '.join(absent)}. tlutils.models.load "
            "fetches weights by name or, without a network, says where to put their file.\n"
        )
    known = claims.reproduce(tier, only=arguments.only, n_jobs=arguments.jobs)
    for verdict in claims.verdicts(known, only=arguments.only):
        print(verdict)
    page = claims.write_report(known, tier, out, only=arguments.only)
    seconds = known.runs["seconds"].sum()
    print(f"\n{len(known.runs)} runs, {seconds:.0f} seconds of one core. The page: {page}")


def _parse_setting(text: str) -> tuple[str, object]:
    """Return (name, value) from NAME=VALUE; a value that is no Python literal is a string."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise LearnerError(f"--set got {text!r}; expected NAME=VALUE, for example --set DATASET=digits.")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


if __name__ == "__main__":
    sys.exit(main())
