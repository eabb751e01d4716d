"""How quick is this package beside its peers, on the same images, network and machine?

    python benchmarks/peers.py ~/.cache/tlutils/data/hymenoptera_data --peers build/peers-env/bin/python
    python benchmarks/peers.py DATA --whole                  # every epoch of every recipe: accuracies too
    python benchmarks/peers.py DATA --only "probe" "full: ours" --repeats 1 --images 60 --size 96
    python benchmarks/peers.py DATA --report                 # the tables again, of what was measured

DATA is a folder with train/CLASS/ and val/CLASS/, or the name of a data set. Every contestant
(`contestants.py`) runs in a process of its own. They take turns: each repeat is one round of all, which
starts at another one, and ratios are taken within a round. A row is kept as soon as it is measured; the same
call goes on after an interruption.

Without `--whole`, `--epochs` epochs of a recipe are run, and the seconds of the others are taken to be those
of the last one; accuracies are then those after the epochs that were run, and are not compared.

Counted: starting Python, imports, extraction, writing to the disk, validation after each epoch. The files
are in the system's cache beforehand. Memory is that of the process and its workers, pages that they share
counted once (where the system tells), twice a second.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from contestants import BATCH, CONTESTANTS, CROP, CUTS, Contestant, read_data

HERE = Path(__file__).parent
Row = dict[str, Any]


# ---------------------------------------------------------------- measure


def prepare(options: argparse.Namespace, out: Path) -> tuple[Row, str]:
    """Return the job that all contestants get, and a text about what is held constant."""
    import hashlib

    import torch
    from PIL import features as pillow

    from tlutils import models

    weights = out / "weights.pt"
    torch.save(models.load(models.DEFAULT).state_dict(), weights)
    train, val = read_data(options.data, options.images)
    files = [[(str(p), k) for p, k in zip(s.paths, s.labels, strict=True)] for s in (train, val)]
    content = [Path(path).read_bytes() for path, _ in files[0] + files[1]]  # into the system's cache
    digest = hashlib.sha256(b"".join(content)).hexdigest()
    job = {
        "train": files[0],
        "val": files[1],
        "data": options.data,
        "weights": str(weights),
        "images": options.images,
        "size": options.size,
        "threads": options.threads,
        "workers": options.workers,
        "most": None if options.whole else options.epochs,
    }
    names = ("torch", "torchvision", "timm", "numpy", "pillow")
    flags = [f for f in sorted(processor("flags").split()) if f.startswith(("avx", "amx"))]
    constant = {
        "data": f"{len(train)} train, {len(val)} val, {len(train.classes)} classes, "
        f"{sum(map(len, content)) / 1e6:.1f} MB, SHA-256 {digest[:16]}",
        "decoder": f"Pillow {version('pillow')}, libjpeg-turbo {pillow.version('libjpeg_turbo')}",
        "input": f"{options.size} px, crop {CROP} in the middle, bicubic, mean and std 0.5 (the tutorial: "
        "RandomResizedCrop and mirrored, as it says)",
        "network": f"{models.DEFAULT}, SHA-256 of the weights {sha256(weights)[:16]}, batches of {BATCH} "
        "(the tutorial: 4)",
        "machine": f"{processor('model name')}, {os.cpu_count()} cores, {' '.join(flags)}; torch uses "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "threads": f"{options.threads}, workers {options.workers}, seed = number of the repeat",
        "versions": f"python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in names),
    }
    return job, "\n".join(f"{name:9s}{value}" for name, value in constant.items())


def sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def processor(field: str) -> str:
    """Return what Linux says of the processor, or nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() if field == "model name" else ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


class Memory(threading.Thread):
    """Looks at a process and its children twice a second; `peak` is the most that they held, in MiB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process, self.peak, self.done = psutil.Process(pid), 0.0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.5):
            held = 0
            try:
                for process in (self.process, *self.process.children(recursive=True)):
                    about = process.memory_full_info()
                    held += getattr(about, "pss", about.uss)
            except psutil.Error:
                continue  # one has just ended
            self.peak = max(self.peak, held / 2**20)


def measure(contestant: Contestant, job: Row, cache: Path, python: str) -> Row:
    """Return what one contestant did in a process of its own."""
    environment = os.environ | {
        "TLUTILS_CACHE": str(cache),
        "OMP_NUM_THREADS": str(job["threads"]),
        "PYTHONPATH": str(HERE.parent),
        "TQDM_DISABLE": "1",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    asked = job | {"name": contestant.name, "started": time.time()}
    child = subprocess.Popen(
        [python, str(HERE / "contestants.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    memory = Memory(child.pid)
    said, problem = child.communicate(json.dumps(asked))
    memory.done.set()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode:
        raise SystemExit(f"{contestant.name} failed:\n{problem[-3000:]}")
    return {
        **json.loads(said.splitlines()[-1]),
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mib": memory.peak,
        "disk_mib": sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) / 2**20,
    }


def has(python: str, package: str) -> bool:
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({package!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


def rounds(chosen: Sequence[Contestant], repeats: int) -> list[tuple[int, Contestant]]:
    """Return (repeat, contestant) in the order of measuring: each round starts at another contestant.

    Who uses another's store comes right after it, with whatever else uses it.
    """
    first = [c for c in chosen if not c.after]
    order = []
    for repeat in range(repeats):
        start = repeat * len(first) // max(1, repeats)
        for contestant in first[start:] + first[:start]:
            order.append((repeat, contestant))
            order += [(repeat, c) for c in chosen if c.after == contestant.name]
    return order


# ---------------------------------------------------------------- judge


def whole_seconds(row: Row, epochs: int | None = None) -> float:
    """Return the seconds of the recipe, or of so many epochs: what was run, and the last epoch again."""
    wanted = epochs if epochs is not None else CONTESTANTS[row["name"]].epochs
    if not row["epochs"]:
        return row["seconds"]
    return row["seconds"] - sum(row["epochs"]) + spent(row, wanted)


def spent(row: Row, epochs: int) -> float:
    """Return the seconds of so many epochs alone."""
    run = row["epochs"]
    return sum(run[:epochs]) + max(0, epochs - len(run)) * run[-1]


def working(row: Row, *without: str) -> float:
    """Return the seconds of the steps after the imports, and but for those named."""
    left = ("import", "import and model", "start", *without)
    return sum(seconds for name, seconds in row["steps"].items() if name not in left)


def time_to(row: Row, accuracy: float) -> float | None:
    """Return the seconds until an epoch reaches an accuracy."""
    for epochs, reached in enumerate(row["accuracies"], start=1):
        if reached >= accuracy:
            return row["seconds"] - sum(row["epochs"][epochs:]) if row["epochs"] else row["seconds"]
    return None


@dataclass(frozen=True)
class Target:
    """A number of one round that must reach `bound`; `least` says from which side."""

    what: str
    of: Callable[[dict[str, Row]], float | None]
    bound: float
    least: bool = True
    unit: str = "×"


def ratio(slow: str, fast: str, epochs: int | None = None) -> Callable[[dict[str, Row]], float]:
    return lambda rows: whole_seconds(rows[slow], epochs) / whole_seconds(rows[fast], epochs)


def gain(own: str, other: str) -> Callable[[dict[str, Row]], float | None]:
    """Return by how many points one's accuracy at the end is above another's, if both went to their end."""

    def of(rows: dict[str, Row]) -> float | None:
        pair = [rows[own], rows[other]]
        if any(len(row["epochs"]) < CONTESTANTS[row["name"]].epochs and row["epochs"] for row in pair):
            return None
        return 100 * (pair[0]["accuracies"][-1] - pair[1]["accuracies"][-1])

    return of


def best(*names: str, accuracy: float) -> Callable[[dict[str, Row]], float | None]:
    """Return how many times later than the last one named the quickest of the others reaches an accuracy."""

    def of(rows: dict[str, Row]) -> float | None:
        *others, own = (time_to(rows[name], accuracy) for name in names)
        reached = [seconds for seconds in others if seconds is not None]
        return min(reached) / own if own is not None and reached else None

    return of


def share_of_bound(stage: str, epochs: int) -> Callable[[dict[str, Row]], float]:
    """Return the gain over the strong loop, as a share of what arithmetic allows.

    An epoch of the strong loop is P (waiting for images, and the frozen half) and S (the rest), both measured
    in it. Imports and the making of the model are not counted.
    """

    def of(rows: dict[str, Row]) -> float:
        strong, ours = rows[f"partial {stage}: strong loop"], rows[f"partial {stage}: ours, kept prefix"]
        whole = spent(strong, epochs)
        prefix = strong["frozen_half"]
        bound = whole / (prefix + epochs * (strong["epochs"][0] - prefix))
        return whole / (ours["steps"]["prefix"] + spent(ours, epochs)) / bound

    return of


def targets(constant: str) -> list[Target]:
    there = any(unit in constant for unit in ("avx512_bf16", "amx_bf16"))
    units = there and not constant.partition("torch uses ")[2].startswith(("AVX2", "DEFAULT"))
    cold, warm, bare = (
        "probe: ours, cold store",
        "probe: ours, warm store",
        "probe: bare cost (decode, one forward)",
    )
    full = "full: ours"
    found = [
        Target("cold probe, tutorial's frozen recipe takes", ratio("probe: tutorial, frozen", cold), 50),
        Target("cold probe, Lightning's 5 frozen epochs take", ratio("probe: Lightning, frozen", cold), 10),
        Target("cold probe, of decoding and one forward", ratio(cold, bare), 1.25, least=False),
        Target("warm probe, after the imports", lambda rows: working(rows[warm]), 1, least=False, unit=" s"),
        Target(
            "20 settings, of one",
            lambda rows: (
                (steps := rows["sweep: ours, warm store"]["steps"])["20 settings"] / steps["1 settings"]
            ),
            2,
            least=False,
        ),
        Target(
            "depth probe at every stage, of the last",
            ratio("depth: ours, every stage", cold),
            1.3,
            least=False,
        ),
    ]
    for stage, words in CUTS.items():
        strong, ours = f"partial {stage}: strong loop", f"partial {stage}: ours, kept prefix"
        found += [
            Target(f"from the {words}: share of the bound, 10 epochs", share_of_bound(stage, 10), 0.9),
            Target(f"from the {words}: strong loop takes, 1 epoch", ratio(strong, ours, 1), 1),
        ]
    found.append(
        Target(
            "from the last block, 10 epochs: the tutorial's way takes",
            ratio("partial stage7: tutorial", "partial stage7: ours, kept prefix", 10),
            8,
        )
    )
    found += [
        Target(
            f"an epoch of everything: {name} takes",
            lambda rows, name=name: spent(rows[f"full: {name}"], 1) / spent(rows[full], 1),
            3 if units else 2,
        )
        for name in ("Lightning", "fastai, one cycle", "plain loop", "strong loop")
    ]
    for own, others in (
        (cold, ("probe: tutorial, frozen", "probe: Lightning, frozen")),
        (full, ("full: tutorial", "full: Lightning", "full: fastai, one cycle", "full: plain loop")),
    ):
        found += [
            Target(f"accuracy at the end, {own} less {other}", gain(own, other), 0, unit=" points")
            for other in others
        ]
    return [
        *found,
        Target("full finetuning, the tutorial's 25 epochs take", ratio("full: tutorial", full), 10),
        Target(
            "full finetuning to 94 %: the best of Lightning and fastai takes",
            best(
                "full: Lightning", "full: fastai, one cycle", "full: fastai, fine_tune", full, accuracy=0.94
            ),
            1.5,
        ),
        Target(
            "peak memory of a cold probe", lambda rows: rows[cold]["peak_mib"], 1536, least=False, unit=" MiB"
        ),
        Target(
            "import tlutils",
            lambda rows: rows["start: import tlutils"]["steps"]["import"],
            0.3,
            least=False,
            unit=" s",
        ),
    ]


def judged(rows: Sequence[Row], constant: str) -> list[str]:
    """Return a line of the table for each target."""
    by_round: dict[int, dict[str, Row]] = {}
    for row in rows:
        by_round.setdefault(row["repeat"], {})[row["name"]] = row
    lines = ["| target | measured (range) | rounds | must be | |", "|---|---|---|---|---|"]
    for target in targets(constant):
        values = []
        for one in by_round.values():
            try:
                value = target.of(one)
            except KeyError:  # somebody did not run
                continue
            if value is not None:
                values.append(value)
        must = f"{'≥' if target.least else '≤'} {target.bound:g}{target.unit}"
        if not values:
            lines.append(f"| {target.what} | – | 0 | {must} | not measured |")
            continue
        middle = statistics.median(values)
        met = middle >= target.bound if target.least else middle <= target.bound
        off = (
            f"{middle / target.bound if target.least else target.bound / middle:.0%} of it"
            if target.bound
            else f"by {abs(middle):.3g}{target.unit}"
        )
        spread = f"{middle:.3g}{target.unit} ({min(values):.3g} to {max(values):.3g})"
        verdict = "met" if met else f"missed: {off}"
        lines.append(f"| {target.what} | {spread} | {len(values)} | {must} | {verdict} |")
    return lines


def table(rows: Sequence[Row], val: int) -> pd.DataFrame:
    """Return a line per contestant: medians over the rounds, and the range of the seconds."""
    from scipy.stats import binomtest

    found = []
    for name in dict.fromkeys(c for c in CONTESTANTS if any(row["name"] == c for row in rows)):
        own = [row for row in rows if row["name"] == name]
        epochs, run = CONTESTANTS[name].epochs, len(own[0]["epochs"])
        seconds = [whole_seconds(row) for row in own]
        accuracies = [row["accuracies"][-1] for row in own if row["accuracies"]]
        accuracy = ""
        if accuracies and not name.startswith("depth"):
            mean = statistics.mean(accuracies)
            interval = binomtest(round(mean * val), val).proportion_ci(method="wilson")
            accuracy = f"{mean:.1%} [{interval.low:.1%}, {interval.high:.1%}]"
        found.append(
            {
                "contestant": name,
                "seconds": f"{statistics.median(seconds):.1f}",
                "range": f"{min(seconds):.1f} to {max(seconds):.1f}",
                "epochs": f"{epochs}" + (f", {run} run" if 0 < run < epochs else "") if run else "",
                "of them each": f"{statistics.median(row['epochs'][-1] for row in own):.2f}" if run else "",
                "to 94 %": middle([t for row in own if (t := time_to(row, 0.94)) is not None])
                if run == epochs
                else "",
                "accuracy": accuracy,
                "processor seconds": f"{statistics.median(row['cpu_seconds'] for row in own):.1f}",
                "peak MiB": f"{statistics.median(row['peak_mib'] for row in own):.0f}",
                "disk MiB": f"{statistics.median(row['disk_mib'] for row in own):.1f}",
                "rounds": len(own),
            }
        )
    return pd.DataFrame(found)


def middle(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f}" if values else ""


def profile(rows: Sequence[Row]) -> str:
    """Return where the time of a cold probe goes, beside the bare costs."""
    lines = []
    for name in (
        "probe: ours, cold store",
        "probe: ours, warm store",
        "probe: bare cost (decode, one forward)",
    ):
        own = [row["steps"] for row in rows if row["name"] == name]
        if own:
            parts = [f"{step} {statistics.median(s.get(step, 0.0) for s in own):.2f} s" for step in own[0]]
            lines.append(f"{name}: {', '.join(parts)}")
    return "\n".join(lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw where the time goes, in a bar for each contestant: its steps, and its epochs."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    palette = colormaps["tab20"].colors
    names = [name for name in CONTESTANTS if any(row["name"] == name and row["steps"] for row in rows)]
    figure = Figure(figsize=(9, 1 + 0.3 * len(names)), layout="constrained")
    axes, colours = figure.subplots(), dict[str, Any]()
    for place, name in enumerate(names):
        own, left = [row for row in rows if row["name"] == name], 0.0
        parts = {step: statistics.median(r["steps"].get(step, 0.0) for r in own) for step in own[0]["steps"]}
        if own[0]["epochs"]:
            parts["an epoch"] = statistics.median(row["epochs"][-1] for row in own)
        for step, seconds in parts.items():
            colour = colours.setdefault(step, palette[len(colours) % len(palette)])
            axes.barh(place, seconds, left=left, color=colour)
            left += seconds
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="seconds")
    axes.invert_yaxis()
    bars = [axes.barh(0, 0, color=colour, label=step) for step, colour in colours.items()]
    axes.legend(handles=bars, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = os.cpu_count() or 1
    parser.add_argument("data", help="a folder with train/CLASS and val/CLASS, or the name of a data set")
    parser.add_argument("--peers", default=sys.executable, help="the Python that has fastai and Lightning")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="contestants whose name contains one of these"
    )
    parser.add_argument("--views", action="store_true", help="the curve of kept views too (long)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1, help="epochs that are run of each recipe")
    parser.add_argument("--whole", action="store_true", help="run every epoch of every recipe")
    parser.add_argument("--images", type=int, help="about so many images of each split")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=cores)
    parser.add_argument(
        "--workers", type=int, default=cores, help="of everybody's loaders; 0 decodes in the loop"
    )
    parser.add_argument("--out", type=Path, default=Path("build/peers"), help="folder of the rows")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args()
    options.data = (
        str(Path(options.data).expanduser()) if Path(options.data).expanduser().is_dir() else options.data
    )
    options.out.mkdir(parents=True, exist_ok=True)
    job, constant = prepare(options, options.out.resolve())
    settings = {name: job[name] for name in ("images", "size", "threads", "workers", "most")} | {
        "held": constant
    }
    kept = options.out / "rows.jsonl"
    rows = (
        [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []
    )
    rows = [row for row in rows if row["settings"] == settings]
    print(constant, end="\n\n")
    if not options.report:
        chosen = [
            c
            for c in CONTESTANTS.values()
            if any(part in c.name for part in options.only)
            and (options.views or c.task != "views")
            and (options.whole or not c.whole)
        ]
        for package in {c.needs for c in chosen if c.needs}:
            if not has(options.peers, package):
                print(f"{package} is not installed for {options.peers}: its contestants do not run.")
                chosen = [c for c in chosen if c.needs != package]
        for repeat, contestant in rounds(chosen, options.repeats):
            if any(row["name"] == contestant.name and row["repeat"] == repeat for row in rows):
                continue
            cache = options.out.resolve() / "cache"
            if not contestant.after:
                shutil.rmtree(cache, ignore_errors=True)
                cache.mkdir()
            python = options.peers if contestant.needs else sys.executable
            row = measure(contestant, job | {"seed": repeat}, cache, python)
            row = {"name": contestant.name, "repeat": repeat, **row, "settings": settings}
            rows.append(row)
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"round {repeat + 1}: {contestant.name}: {row['seconds']:.1f} s", flush=True)
    if rows:
        found = table(rows, len(job["val"]))
        found.to_csv(options.out / "peers.csv", index=False)
        judgement = judged(rows, constant)
        report = [
            "```",
            constant,
            "```",
            "",
            to_markdown(found),
            "",
            *judgement,
            "",
            "```",
            profile(rows),
            "```",
        ]
        draw(rows, options.out / "peers.png")
        (options.out / "peers.md").write_text("\n".join(report) + "\n", encoding="utf-8")
        print("\n" + "\n".join(report[4:]))


def to_markdown(frame: pd.DataFrame) -> str:
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    main()
