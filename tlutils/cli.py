"""The same verbs for a terminal: `tlutils lessons`, `lesson 00`, `lab`, `data`, `advise`, `train`, …"""

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
from .errors import LearnerError, printable


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
    ask = verbs.add_parser("advise", help="measure how much of a network to freeze, for a folder of images")
    ask.add_argument("folder", help="one folder of images in it for each class; or the name of a data set")
    ask.add_argument(
        "--budget", type=float, default=10, metavar="MINUTES", help="how long it may take (default: 10)"
    )
    ask.add_argument("--deploy", metavar="FOLDER", help="images as the model will meet them, unsorted")
    ask.add_argument("--group-by", metavar="PATTERN", help="as in train")
    ask.add_argument(
        "--backbone",
        action="append",
        help="name of a pretrained model; given several times, the one that fits is found first",
    )
    ask.add_argument("--seed", type=int, default=0, help="decides the folds and all that is drawn")
    ask.add_argument(
        "--out",
        type=runtime.user_path,
        help="folder to write (default: NAME-advice here, but never among the images)",
    )
    build = verbs.add_parser("train", help="train on a folder of images: a model, its report and its card")
    build.add_argument("folder", help="one folder of images in it for each class; or the name of a data set")
    build.add_argument(
        "--from-stage",
        metavar="STAGE",
        help="train from this stage on, or 'all' (default: the backbone stays frozen, its head is solved)",
    )
    build.add_argument(
        "--at", metavar="STAGE", help="end the network after this stage, whose features the head then reads"
    )
    build.add_argument(
        "--advise",
        type=float,
        metavar="MINUTES",
        help="first spend MINUTES on measuring how much to freeze, then train that way",
    )
    build.add_argument("--backbone", help="name of a pretrained model, or a saved one")
    build.add_argument(
        "--group-by",
        metavar="PATTERN",
        help="images in whose paths this regular expression finds the same stay together: 'patient[0-9]+'",
    )
    build.add_argument("--seed", type=int, default=0, help="decides the splits and all that is drawn")
    build.add_argument("--out", type=runtime.user_path, help="folder to write (default: NAME-model here)")
    use = verbs.add_parser("predict", help="predict classes, and mark images unlike those of training")
    use.add_argument("model", help="a folder that `train` wrote, or the file of a model")
    use.add_argument("files", nargs="+", metavar="FILE", help="images, folders of images, or tar shards")
    give = verbs.add_parser("export", help="export a model, to run it without this package")
    give.add_argument("model", help="a folder that `train` wrote, or the file of a model")
    give.add_argument("--onnx", type=runtime.user_path, metavar="FILE", help="an ONNX file")
    give.add_argument("--torch", type=runtime.user_path, metavar="FILE", help="a file of torch.export")
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
            case "advise":
                _advise(arguments, shlex.join(["tlutils", *(sys.argv[1:] if argv is None else argv)]))
            case "train":
                _train(arguments)
            case "predict":
                _predict(arguments)
            case "export":
                _export(arguments)
    except LearnerError as error:
        print(f"tlutils: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"\ntlutils: interrupted; nothing was left half-written. {stop}", file=sys.stderr)
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


def _advise(arguments: argparse.Namespace, command: str) -> None:
    """Print what was measured and how much to freeze, and write the page, the recipe and a notebook."""
    from . import advisor, models

    advice = advisor.advise(
        _images(arguments.folder),
        budget=arguments.budget,
        group_by=arguments.group_by,
        deploy=arguments.deploy,
        backbone=arguments.backbone or models.DEFAULT,
        seed=arguments.seed,
        say=lambda line: print(printable(line), flush=True),
    )
    print("", *map(printable, str(advice).split("\n")), sep="\n")
    images = runtime.user_path(arguments.folder).resolve()
    out = arguments.out or runtime.place_beside(images) / f"{images.name}-advice"
    page = advice.write(out, command=command)
    print(f"\nThe page: {printable(str(page))}; beside it recipe.py, and advice.ipynb with the same.")


def _train(arguments: argparse.Namespace) -> None:
    """Print what is in a folder of images, train on it, and print how good the model is and where it lies."""
    from . import advisor, data, deploy, models

    group_by = arguments.group_by
    dataset = data.load(_images(arguments.folder), seed=arguments.seed, too_few="train", group_by=group_by)
    print(f"{dataset.summary()}\n")
    started = time.monotonic()
    stage, backbone = arguments.from_stage, arguments.backbone or models.DEFAULT
    recipe = deploy.recipe_from(stage, seed=arguments.seed) if stage else None
    at = arguments.at
    if arguments.advise is not None:
        if stage or at:
            chosen = "--from-stage" if stage else "--at"
            raise LearnerError(f"{chosen} and --advise arrived: either you choose, or the measurement does.")
        advice = advisor.advise(
            dataset,
            budget=arguments.advise,
            group_by=group_by,
            backbone=backbone,
            seed=arguments.seed,
            say=print,
        )
        print(f"{advice}\n\n{advice.training}\n")
        recipe, at = advice.recipe, advice.at
    built = deploy.build(
        dataset,
        arguments.out,
        backbone=backbone,
        recipe=recipe,
        at=at,
        seed=arguments.seed,
        say=lambda line: print(f"{time.monotonic() - started:5.0f} s  {line}", flush=True),
    )
    for doubt in built.doubts:
        print(f"\nNote: {printable(doubt)}")
    score = f"{built.balanced_accuracy} on {built.images} test images, with its 95 % interval"
    print(f"\nBalanced accuracy {score if built.images else 'unknown: no test image'}.")
    place = printable(str(built.folder))
    print(f"{place}: the model; report.html to read; README.md, the model card.")
    print(f"Next: tlutils predict {shlex.quote(place)} FILE …")


def _images(folder: str) -> str | Path:
    """Return a folder of this name where there is one, before a data set of the catalog."""
    path = runtime.user_path(folder)
    return path if path.is_dir() else folder


def _predict(arguments: argparse.Namespace) -> None:
    """Print a table of what a model makes of files, and what could not be read."""
    from . import deploy

    table = deploy.predict(arguments.model, arguments.files)
    rows = [["file", "class", "probability", ""]]
    for row in table.itertuples():
        chance = "" if row.probability != row.probability else f"{row.probability:.3f}"
        rows.append([printable(cell) for cell in (row.file, row[2], chance, row.note)])
    widths = [min(max(len(row[i]) for row in rows), 60) for i in range(3)]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, [*widths, 0], strict=True)).rstrip())
    if unlike := int(table["unlike"].sum()):
        print(f"\n{unlike} of {len(table)} look unlike the training images: do not rely on their class.")


def _export(arguments: argparse.Namespace) -> None:
    """Write a model in the formats asked for, and print how nearly they agree with it."""
    from . import deploy, models

    if not (arguments.onnx or arguments.torch):
        raise LearnerError("export needs a file to write: --onnx model.onnx, --torch model.pt2, or both.")
    model = models.load(arguments.model)
    for path, write in ((arguments.onnx, deploy.export_onnx), (arguments.torch, deploy.export_torch)):
        if path:
            print(write(model, path))


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
