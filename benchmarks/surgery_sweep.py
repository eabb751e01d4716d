"""Try surgery's promises on every model of torchvision and timm, one process each, and write a table.

    python benchmarks/surgery_sweep.py --of torchvision families     # all of torchvision, timm's families
    python benchmarks/surgery_sweep.py --of all                      # every timm name that fits in 8 GiB

Results are kept in `--results` (one JSON line per model), so that the sweep goes on where it was stopped. The
table goes to docs/surgery-coverage.md.
"""

import argparse
import json
import multiprocessing
import random
import resource
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
TABLE = ROOT / "docs" / "surgery-coverage.md"
GIB = 2**30
MOST = 5  # cuts tried of a name that is neither torchvision's nor its family's smallest
PROCESSES = multiprocessing.get_context("forkserver")  # a fresh process for each model, libraries already in


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--of", nargs="+", default=["torchvision", "families"], choices=["torchvision", "families", "all"]
    )
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "surgery-sweep.jsonl")
    parser.add_argument("--memory", type=float, default=8, help="GiB that one model may use")
    parser.add_argument("--seconds", type=float, default=600, help="how long one model may take")
    parser.add_argument("--jobs", type=int, default=2, help="how many models are tried at once")
    options = parser.parse_args()
    PROCESSES.set_forkserver_preload(["torch", "torchvision", "timm"])
    done = read(options.results)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    todo = [name for name in names(options.of) if name not in done]
    with ThreadPoolExecutor(options.jobs) as pool:
        for task in as_completed([pool.submit(in_process, n, options.memory, options.seconds) for n in todo]):
            result = task.result()
            with options.results.open("a") as file:
                file.write(json.dumps(result) + "\n")
            done[result["name"]] = result
            print(f"{len(done)} {result['name']}: {result['status']} {result['why']}", flush=True)
    TABLE.write_text(table(done))


def names(of: list[str]) -> list[str]:
    """Return the models to try, "library/name", without doubles."""
    import timm
    import torchvision
    from surgery_zoo import smallest_of_each_family

    found: list[str] = []
    if "torchvision" in of:
        found += [f"torchvision/{n}" for n in torchvision.models.list_models(module=torchvision.models)]
    if "families" in of:
        found += [f"timm/{n}" for n in smallest_of_each_family()]
    if "all" in of:
        every = timm.list_models()
        random.Random(0).shuffle(every)  # so that what is done by any moment stands for the rest
        found += [f"timm/{n}" for n in every]
    return list(dict.fromkeys(found))


def read(path: Path) -> dict[str, dict]:
    """Return the results so far, the latest of each model."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {result["name"]: result for result in map(json.loads, lines)}


def in_process(name: str, memory: float, seconds: float) -> dict:
    """Return the result of one model, checked in a process that may fail as it likes."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=send, args=(sender, name, memory))
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            return row(name, "skipped", f"took longer than {seconds:.0f} s", seconds=seconds)
        return receiver.recv()
    except EOFError:
        process.join()
        return row(name, "skipped", f"the process ended with code {process.exitcode}")
    finally:
        process.kill()
        process.join()


def send(sender: Connection, name: str, memory: float) -> None:
    """Check one model and send the result."""
    sender.send(check(name, memory))


def check(name: str, memory: float) -> dict:
    """Return the result of one model, checked in this process with at most `memory` GiB."""
    import torch
    from surgery_zoo import Entry, check_cuts, smallest_of_each_family

    from tlutils.errors import LearnerError

    resource.setrlimit(resource.RLIMIT_DATA, (int(memory * GIB),) * 2)
    torch.set_num_threads(1)
    start = time.monotonic()
    known: dict[str, float] = {}
    try:
        model, side = Entry(name).build()
        known = {"side": side, "parameters": sum(p.numel() for p in model.parameters())}
        whole = name.startswith("torchvision/") or name.removeprefix("timm/") in smallest_of_each_family()
        known["cuts"] = check_cuts(model, side, most=None if whole else MOST)
        status, why = "passed", ""
    except LearnerError as error:
        status, why = "refused", str(error)
    except Exception as error:
        if _memory(error):
            status, why = "skipped", f"does not fit in {memory:g} GiB"
        else:
            status, why = "failed", f"{type(error).__name__}: {error}".replace("\n", " ")
    return row(name, status, why[:300], **known, seconds=time.monotonic() - start)


def _memory(error: BaseException) -> bool:
    return (
        isinstance(error, MemoryError) or "not enough memory" in str(error) or "can't allocate" in str(error)
    )


def row(name: str, status: str, why: str, **more: float) -> dict:
    """Return one result."""
    return {"name": name, "status": status, "why": why, **more}


def table(done: dict[str, dict]) -> str:
    """Return the page: how many pass, what does not and why, and every model that was tried."""
    import timm
    import torchvision

    lines = [
        "# Surgery: what was tried",
        "",
        "Written by `benchmarks/surgery_sweep.py`. A model passes when, at every cut that is tried, the two "
        "halves give bit for bit what the whole model gives, in evaluation and in training mode (buffers "
        "included; frozen up to the cut, where dropout feeds both halves); when the prefix's results may be "
        "batched again; and when the suffix's gradients are the model's own. Every cut is tried of "
        "torchvision's models and of a small member of each of timm's families, and "
        f"{MOST} evenly spaced ones at least of every other name; above 300 million parameters every fourth, "
        "without gradients. Weights are random; images are the smallest that the model takes. Names that the "
        "counts do not show as tried were not run: the sweep goes on where it was stopped.",
        "",
        f"torch with torchvision {torchvision.__version__} and timm {timm.__version__}.",
        "",
        "| library | names | tried | passed | refused | failed | skipped |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    every = {
        "torchvision": torchvision.models.list_models(module=torchvision.models),
        "timm": timm.list_models(),
    }
    for library, known in every.items():
        found = Counter(r["status"] for n, r in done.items() if n.startswith(f"{library}/"))
        lines.append(
            f"| {library} | {len(known)} | {found.total()} | "
            f"{found['passed']} | {found['refused']} | {found['failed']} | {found['skipped']} |"
        )
    lines.append(families({n.removeprefix("timm/") for n, r in done.items() if r["status"] == "passed"}))
    bad = sorted((r for r in done.values() if r["status"] != "passed"), key=lambda r: r["name"])
    lines += ["", "## What does not pass", ""]
    lines += ["| model | result | why |", "| --- | --- | --- |"] if bad else ["Nothing."]
    lines += [f"| {r['name']} | {r['status']} | {r['why'].replace('|', '/')} |" for r in bad]
    lines += [
        "",
        "## What passes",
        "",
        "| model | cuts | image side | million parameters |",
        "| --- | --- | --- | --- |",
    ]
    for r in sorted(done.values(), key=lambda r: r["name"]):
        if r["status"] == "passed":
            lines.append(f"| {r['name']} | {r['cuts']} | {r['side']} | {r['parameters'] / 1e6:.1f} |")
    return "\n".join(lines) + "\n"


def families(passed: set[str]) -> str:
    """Return the sentence that says of how many of timm's families (model files) a member passes."""
    import timm

    members = {m: set(timm.list_models(module=m)) for m in timm.list_modules()}
    members = {module: names for module, names in members.items() if names}
    through = [module for module, names in members.items() if names & passed]
    missing = sorted(set(members) - set(through))
    rest = f" Without one: {', '.join(missing)}." if missing else ""
    return f"\nOf {len(members)} families (model files) of timm, {len(through)} have a passing member.{rest}"


if __name__ == "__main__":
    main()
