"""One training run in a process of its own, to be killed: `main(FOLDER, "key=value", …)`.

die=N kills the process, as `kill -9` does, before the optimizer's N-th step; save=N while it writes its
N-th file.
"""

import os
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from tiny import odd_net, tiny_data, tiny_net, weights
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tlutils import runtime, train
from tlutils.train import Recipe


def countdown(count: int) -> Callable[..., None]:
    """Return a function that does nothing, and ends the process at its `count`-th call."""
    calls = iter(range(1, 10_000))

    def tick(*_: Any) -> None:
        if next(calls) == count:
            os.kill(os.getpid(), 9)  # SIGKILL, by its number: Windows has the act and not the name

    return tick


def main(folder: Path, *arguments: str) -> None:
    options = dict(argument.split("=") for argument in arguments)
    run(
        folder,
        kind=options.get("kind", "phases"),
        num_workers=int(options.get("num_workers", 0)),
        steps=int(options.get("die", -1)),
        files=int(options.get("save", -1)),
        norm=options.get("norm", "yes") == "yes",
        train_images=int(options.get("images", 24)),
    )


def run(
    folder: Path, *, kind: str, num_workers: int, steps: int, files: int, norm: bool, train_images: int
) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    net = tiny_net(norm=norm, dropout=0.3 if kind != "processes" else 0.0)
    register_optimizer_step_pre_hook(countdown(steps))
    flush, tick = os.fsync, countdown(files)

    def counted(number: int) -> None:
        tick()
        flush(number)

    runtime.os.fsync = counted  # type: ignore[assignment]
    if kind == "phases":
        recipe = Recipe.lp_ft(
            head_epochs=2, epochs=2, lr=1e-2, batch_size=6, augment=True, views=2, mixup=0.2
        )
    else:
        settings = {"batch_size": 7, "optimizer": "sgd", "class_weight": "balanced", "keep": "last"}
        recipe = Recipe.gradual(["head", "all"], epochs=2, lr=1e-2, **settings)
    history = train.fit(
        net, tiny_data(train=train_images, val=11), recipe, out=folder / "run", num_workers=num_workers
    )
    here = PartialState()
    if here.is_main_process:
        (folder / "result.pkl").write_bytes(pickle.dumps((weights(net), history, here.num_processes)))


def several(folder: Path, kinds: Sequence[type[nn.Module]]) -> None:
    """Train networks of several kinds, one after the other."""
    torch.set_num_threads(1)
    recipe = Recipe.finetune(epochs=2, lr=1e-2, batch_size=8, optimizer="sgd", keep="last")
    found = []
    for kind in kinds:
        net = odd_net(kind)
        history = train.fit(net, tiny_data(), recipe)
        found.append((weights(net), history.notices))
    if PartialState().is_main_process:
        (folder / "several.pkl").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
