"""What does a classifier of 400 photographs take with this package, and with its peers?

    python benchmarks/side_by_side/run.py PHOTOGRAPHS --peers PYTHON --autogluon PYTHON --timm TRAIN.PY
    python benchmarks/side_by_side/run.py PHOTOGRAPHS --only with_fastai.py --peers PYTHON
    python benchmarks/side_by_side/run.py      # docs/side-by-side.md again, of what was measured

PHOTOGRAPHS is the folder of ants and bees, with train/ and val/. Each program beside this file runs in a
process and a folder of its own; there lie `photographs` (train/ and test/) and `backbone`, the pretrained
network in the format of the hub that its library would download it from. A row is kept in
docs/side-by-side.csv as soon as it is measured; what a program said is in build/side_by_side.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
        "how many epochs; it normalises, freezes and has a rate",
        ("no", "no", "yes: shown after each epoch, nothing is chosen", "no: a pickle"),
    ),
    "with_timm.sh": Contestant(
        "timm's `train.py`",
        r"Acc@1:[^(]*\(\s*([\d.]+)\)",
        "where the script is, optimiser, rate, warm-up, epochs and batch (its defaults are for ImageNet), "
        "how many classes; it knows the normalisation, and freezes nothing",
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
        "names of the classes, `ignore_mismatched_sizes`, the transforms of the processor, how to get an "
        "accuracy, `remove_unused_columns`, rate (the default is for transformers), batch, epochs",
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
    before = os.times()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    _, _, *processor, wall = (after - then for after, then in zip(os.times(), before, strict=True))
    said = done.stdout + done.stderr + "".join(card.read_text("utf-8") for card in folder.glob("*/README.md"))
    (OUT / f"{name}.log").write_text(said, encoding="utf-8")
    found = re.findall(CONTESTANTS[name].accuracy, said)
    if done.returncode or not found:
        raise SystemExit(f"{name} failed:\n{said[-3000:]}")
    accuracy = float(found[-1]) / (100 if float(found[-1]) > 1 else 1)
    return {
        "program": name,
        "seconds": round(wall),
        "processor_seconds": round(sum(processor)),
        "hits": round(accuracy * images),
        "images": images,
    }


START = """\
# Side by side

The same job for every program of `benchmarks/side_by_side/`: from photographs of ants and bees to a
classifier that is saved, and its accuracy on {images} photographs that it did not learn from. The authors
of this package wrote each as one types it after the quick start of its library, in that library's way. All
begin with the same EfficientNet-Lite0, given to them as a folder in the place of the hub; no line is there
for that alone. Nothing was chosen on the held-out photographs, and each ran once. Time set the epochs (six
minutes at most on this machine): those of fastai and timm are few, and more might make them more accurate.
The accuracy of timm is that of its last epoch, not of the best one, which it prints.

Lines are those that are not blank, neither comment nor docstring. Minutes are those of the whole command,
imports included, on two hyperthreads without a GPU. At first other work ran beside (`tlutils train
--advise`, a part of fastai), so that processor minutes, of all processes of a command, say more; –: not
recorded. The interval is that of the photographs (Wilson); another seed moves an accuracy, too.

torch 2.14.1, timm 1.0.31, fastai 2.8.12, transformers 5.24.0, datasets 5.2.0, AutoGluon 1.6.3 (beside timm
1.0.3; torch is above its bounds). timm's `train.py` lies in its repository, not in its package; it was that
of 2023, with the `--device` of later ones. This page is written by `python benchmarks/side_by_side/run.py`.
"""


def write_page(rows: pd.DataFrame) -> str:
    """Return, as Markdown, what was measured beside what was looked up and what one is told."""
    table, named, measured = [], {"shorter and as honest": []}, rows.set_index("program")
    named |= {"fewer processor minutes": [], "more accurate": [], "less accurate": []}
    ours, most = measured.loc["with_tlutils.sh"], typed(HERE / "with_tlutils.sh")
    accuracy = {
        name: intervals.wilson_interval(np.arange(row["images"]) < row["hits"])
        for name, row in measured.iterrows()
    }
    for name, about in CONTESTANTS.items():
        lines, row = typed(HERE / name), measured.loc[name]
        spent = row[["seconds", "processor_seconds"]] / 60
        minutes = ["–" if np.isnan(value) else f"{value:.1f}" for value in spent]
        table.append([about.title, str(lines), *minutes, str(accuracy[name])])
        if lines < most and all(answer.startswith("yes") for answer in about.honest):
            named["shorter and as honest"].append(about.title)
        if row["processor_seconds"] < ours["processor_seconds"]:
            named["fewer processor minutes"].append(about.title)
        if more := row["hits"] - ours["hits"]:
            which = "more accurate" if more > 0 else "less accurate"
            higher, lower = sorted((accuracy[name], accuracy["with_tlutils.sh"]), reverse=True)
            noise = "intervals overlap" if lower.high >= higher.low else "beyond both intervals"
            named[which].append(f"{about.title} (by {abs(more):.0f} of {row['images']:.0f}, {noise})")
    words = [[about.title, about.looked_up, *about.honest] for about in CONTESTANTS.values()]
    return "\n".join(
        [
            START.format(images=int(ours["images"])),
            _lines(["program", "lines typed", "minutes", "processor minutes", "accuracy [95 %]"], table),
            "Beside `tlutils train`:\n",
            *(f"* {what}: {', '.join(titles) or 'none'}" for what, titles in named.items()),
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
    rows = pd.read_csv(ROWS)
    if set(rows["program"]) == set(CONTESTANTS):
        PAGE.write_text(write_page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
