"""What does a classifier of 400 photographs take with this package, and with its peers?

    python benchmarks/side_by_side/run.py PHOTOGRAPHS --peers PYTHON --autogluon PYTHON --timm TRAIN.PY
    python benchmarks/side_by_side/run.py PHOTOGRAPHS --only with_fastai.py --peers PYTHON
    python benchmarks/side_by_side/run.py                 # docs/side-by-side.md again, of what was measured

PHOTOGRAPHS is the folder of ants and bees, with train/ and val/. Each program of this folder runs in a process
of its own, in a folder of its own with `photographs` (train/ and test/) and `backbone`, the pretrained network
in the format of the hub that its library would download from. A row is kept in docs/side-by-side.csv as soon as
it is measured; what a program printed is in build/side_by_side.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tlutils import intervals, models

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROWS = ROOT / "docs" / "side-by-side.csv"
PAGE = ROWS.with_suffix(".md")
OUT = ROOT / "build" / "side_by_side"
HONEST = ("an interval", "doubtful photographs", "held-out photographs chose nothing", "a model card")


@dataclass(frozen=True)
class Contestant:
    """`accuracy` finds it in what the program leaves; `honest` answers `HONEST`, "yes" or "no" and a word."""

    title: str
    accuracy: str
    looked_up: str
    honest: tuple[str, str, str, str]


OURS = (
    "yes: of 95 %",
    "yes: copies in both parts are looked for, a placeholder is named",
    "yes: judged once, at the end",
    "yes: README.md",
)
CARD = r"type: accuracy\s+value: ([\d.]+)"
CONTESTANTS = {
    "with_tlutils.sh": Contestant("`tlutils train`", CARD, "nothing", OURS),
    "with_tlutils_advise.sh": Contestant(
        "`tlutils train --advise`", CARD, "that `--advise` takes minutes", OURS
    ),
    "with_fastai.py": Contestant(
        "fastai",
        r"accuracy: ([\d.]+)",
        "`item_tfms` and `batch_tfms`, that `valid=` names the held-out folder, a batch for few images, "
        "how many epochs; it normalises, freezes and finds the rate by itself",
        ("no", "no", "yes: shown after each epoch, nothing is chosen", "no: a pickle"),
    ),
    "with_timm.sh": Contestant(
        "timm's `train.py`",
        r"Acc@1:[^(]*\(\s*([\d.]+)\)",
        "where the script is, optimiser, rate, warm-up, epochs and batch (its defaults are for ImageNet), the number "
        "of classes; it reads the normalisation by itself, freezes nothing",
        ("no", "no", "no: keeps and names the epoch that is best on them", "no: args.yaml, summary.csv"),
    ),
    "with_autogluon.py": Contestant(
        "AutoGluon",
        r"'accuracy': ([\d.]+)",
        "that it wants a table of paths, the preset for a machine without a GPU, the name of another "
        "backbone, the batch for few images, a limit of time",
        ("no", "no", "yes: epochs are chosen on a part of train", "no"),
    ),
    "with_trainer.py": Contestant(
        "Hugging Face `Trainer`",
        r"'eval_accuracy': '?([\d.]+)",
        "names and numbers of the classes, `ignore_mismatched_sizes`, the transforms of the processor, "
        "`remove_unused_columns`, how to get an accuracy, rate (the default is for transformers), batch and epochs",
        ("no", "no", "yes: judged once, at the end", "no: `create_model_card()` writes one"),
    ),
}


def typed(program: Path) -> int:
    """Return the lines that one types: those that are not blank, and neither comment nor docstring."""
    lines = program.read_text("utf-8").splitlines()
    if program.suffix == ".py":
        first = ast.parse("\n".join(lines)).body[0]
        if isinstance(first, ast.Expr):
            lines = lines[first.end_lineno :]
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in lines)


def lay(photographs: Path, folder: Path) -> int:
    """Make a folder with the photographs and the backbone; return how many are held out."""
    import timm
    import torch

    shutil.rmtree(folder, ignore_errors=True)
    for source, split in (("train", "train"), ("val", "test")):
        shutil.copytree(photographs / source, folder / "photographs" / split, copy_function=shutil.copyfile)
    backbone, network = folder / "backbone", timm.create_model(models.DEFAULT)
    weights = models.load(models.DEFAULT).state_dict()
    network.load_state_dict(weights)
    timm.models.save_for_hf(network, backbone)
    config = json.loads((backbone / "config.json").read_text("utf-8"))
    del config["model_args"]  # the number of classes, which nobody's new head has
    (backbone / "config.json").write_text(json.dumps(config), encoding="utf-8")
    # AutoGluon reads this one, without a head.
    head = network.pretrained_cfg["classifier"]
    body = {name: value for name, value in weights.items() if not name.startswith(head)}
    torch.save(body, backbone / "pytorch_model.bin")
    return sum(path.is_file() for path in (folder / "photographs" / "test").rglob("*"))


def measure(name: str, photographs: Path, python: str, timm_script: Path | None) -> dict[str, object]:
    """Return the row of one program, run whole in a process of its own."""
    folder = OUT / Path(name).stem
    images = lay(photographs, folder)
    if timm_script and name == "with_timm.sh":
        (folder / "train.py").symlink_to(timm_script.resolve())
    command = [python, str(HERE / name)] if name.endswith(".py") else ["bash", str(HERE / name)]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TLUTILS_CACHE": str(folder / "cache"),
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(os.cpu_count()),
    }
    begun = time.time()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.time() - begun
    said = done.stdout + done.stderr + "".join(card.read_text("utf-8") for card in folder.glob("*/README.md"))
    (OUT / f"{name}.log").write_text(said, encoding="utf-8")
    found = re.findall(CONTESTANTS[name].accuracy, said)
    if done.returncode or not found:
        raise SystemExit(f"{name} failed:\n{said[-3000:]}")
    accuracy = float(found[-1]) / (100 if float(found[-1]) > 1 else 1)
    return {"program": name, "seconds": round(seconds), "hits": round(accuracy * images), "images": images}


START = """\
# Side by side

The same job for every program: from photographs of ants and bees to a classifier that is saved, and its accuracy on
{images} photographs that it did not learn from. Each is what one types after the quick start of its library, with a
recipe and a number of epochs of its own that fit into six minutes here; nothing was chosen on the held-out photographs, and
each was run once. All begin with the same EfficientNet-Lite0, which lay beside them as a folder in the place of
the hub; no line is there for that alone. timm's script lies in its repository, not in its package; the one of
2023 was run, its device changed to the processor.

Minutes are those of the whole command, with its imports, on two hyperthreads without a GPU. Lines are those that are
not blank, neither comment nor docstring. The interval is that of the photographs (Wilson); another seed would move
the accuracy as well. This page is written by `python benchmarks/side_by_side/run.py`.
"""


def write_page(rows: pd.DataFrame) -> str:
    """Return, as Markdown, what was measured beside what was looked up and what one is told."""
    measured = {row["program"]: row for _, row in rows.iterrows()}
    ours = measured["with_tlutils.sh"]
    numbers, words = [], []
    beside: dict[str, list[str]] = {
        "Shorter, and as honest": [],
        "Quicker": [],
        "More accurate": [],
        "Less accurate": [],
    }
    for name, about in CONTESTANTS.items():
        row, lines = measured.get(name), typed(HERE / name)
        honest = all(answer.startswith("yes") for answer in about.honest)
        if lines < typed(HERE / "with_tlutils.sh") and honest:
            beside["Shorter, and as honest"].append(about.title)
        words.append([about.title, about.looked_up, *about.honest])
        if row is None:
            numbers.append([about.title, str(lines), "not run", ""])
            continue
        accuracy = intervals.wilson_interval([True] * row["hits"] + [False] * (row["images"] - row["hits"]))
        numbers.append([about.title, str(lines), f"{row['seconds'] / 60:.1f}", str(accuracy)])
        if row["seconds"] < ours["seconds"]:
            beside["Quicker"].append(about.title)
        if row["hits"] != ours["hits"]:
            more = row["hits"] - ours["hits"]
            beside["More accurate" if more > 0 else "Less accurate"].append(
                f"{about.title} (by {abs(more)} photographs)"
            )
    return "\n".join(
        [
            START.format(images=ours["images"]),
            _lines(["program", "lines typed", "minutes", "accuracy [95 %]"], numbers),
            "Beside `tlutils train`:\n",
            *(f"* {what}: {', '.join(names) or 'none'}." for what, names in beside.items()),
            "\n## What one had to look up, and what one is told\n",
            _lines(["program", "looked up", *HONEST], words),
        ]
    )


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photographs", type=Path, nargs="?", help="the folder; without it, the page alone")
    parser.add_argument("--peers", default=sys.executable, help="a Python with fastai and datasets")
    parser.add_argument("--autogluon", default=sys.executable, help="a Python with autogluon.multimodal")
    parser.add_argument("--timm", type=Path, help="train.py of timm's repository")
    parser.add_argument("--only", nargs="*", choices=CONTESTANTS, default=list(CONTESTANTS))
    options = parser.parse_args()
    for name in options.only if options.photographs else []:
        python = options.autogluon if name == "with_autogluon.py" else options.peers
        row = measure(name, options.photographs, python, options.timm)
        rows = pd.read_csv(ROWS) if ROWS.exists() else pd.DataFrame(columns=list(row))
        rows = pd.concat([rows[rows["program"] != name], pd.DataFrame([row])])
        rows.to_csv(ROWS, index=False)
        print(row, flush=True)
    PAGE.write_text(write_page(pd.read_csv(ROWS)), encoding="utf-8")


if __name__ == "__main__":
    main()
