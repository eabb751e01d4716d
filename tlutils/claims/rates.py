"""Protocols about how gently to train: rates, corrupted images, and which block to tune after a shift."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from .. import runtime, surgery
from .materials import (
    Shrunk,
    draw_sample,
    final_features,
    judge_by,
    load_dataset,
    predict,
    prepare_images,
    reset_network,
)
from .probing import probe_split
from .shifts import OTHER_SOURCE, corrupt
from .training import BATCH, Settings, install_probe, train_strategy

SOURCE = "scenes"
"""Photographs of things that ImageNet has classes for: what finetuning on something else can forget."""


RATES = (1e-4, 1e-3, 1e-2)
"""Rates of the body that are scanned."""


def rate_scan(
    *, dataset: str, lr: float, head_factor: int, images: int, steps: int, seed: int
) -> dict[str, Any]:
    """Finetuning at a rate `lr` of the body and `head_factor` times that of a random head: `hits`.

    `kept`, where the head learns faster, is what is left of the old knowledge: the hits of a linear probe of
    the finetuned features on photographs. `stopped` is 1 where the loss was not a finite number any more.
    """
    known, judges = draw_sample(dataset, images, seed)
    settings = Settings(lr=lr, steps=steps)
    model, history = train_strategy(known, "finetune", settings, seed, head_factor=head_factor)
    found = judge_by(judges.labels, predict(model, prepare_images(model, judges)))
    found |= {"stopped": int(bool(history.stopped)), "labels": len(known)}
    if head_factor > 1:
        learn, test = draw_sample(SOURCE, 10, seed)
        old, new = (final_features(model, prepare_images(model, split)) for split in (learn, test))
        found["kept"] = judge_by(test.labels, probe_split(old, learn, seed).predict(new))["hits"]
    return found


CORRUPTED = {severity: partial(corrupt, severity=severity) for severity in (1, 2, 3, 4, 5)}
"""Corruptions by severity."""


def corruption_severity(
    *, dataset: str, strategy: str, images: int, seed: int, **settings: Any
) -> dict[str, Any]:
    """Balanced accuracy under corruptions of severity k: `probe_k` of a linear probe, `tuned_k` finetuned.

    As in `training`, with the `Settings` of a strategy; each judge meets one of the corruptions.
    """
    known, judges = draw_sample(dataset, images, seed)
    found: dict[str, Any] = {"labels": len(known)}

    def judge(name: str, model: nn.Module) -> None:
        for severity, change in CORRUPTED.items():
            predicted = predict(model, prepare_images(model, judges, change))
            found[f"{name}_{severity}"] = judge_by(judges.labels, predicted)["score"]

    model = reset_network(len(known.classes), seed)
    install_probe(model, known, seed)
    judge("probe", model)
    model, history = train_strategy(known, strategy, Settings(**settings), seed)
    judge("tuned", model)
    return found | {"stopped": int(bool(history.stopped))}


NOISE = partial(corrupt, kind="noise")

BLOCKS = {
    "first": ("stem", "stage1", "stage2"),
    "middle": ("stage3", "stage4", "stage5"),
    "last": ("head",),
}
"""Blocks that are tuned alone, after Lee et al. 2023."""

BLOCK_RATES = (5e-4, 3e-3)


def surgical_finetuning(
    *, dataset: str, shift: str, tune: str, images: int, steps: int, seed: int
) -> dict[str, Any]:
    """A probed network meets a shift; one block of it is tuned on a few shifted images: `hits` on others.

    `shift` "noise" is one of the input, "source" a real one (images of the same classes from elsewhere), and
    "relabel", in which every class takes the name of the next, one of the output. `tune` names a block of
    `BLOCKS`; its rate is chosen of `BLOCK_RATES` on a quarter of the few images. Lee et al. 2023
    (arXiv:2210.11466).
    """
    from sklearn.model_selection import StratifiedShuffleSplit

    source, judges = draw_sample(dataset, 20, seed)
    few, _ = draw_sample(dataset, images, seed + 1000)
    if shift == "source":
        other = load_dataset(OTHER_SOURCE[dataset])
        few, judges = Shrunk(other.train.subsample(images, seed=seed)), Shrunk(other.val)
    classes = len(source.classes)
    model = reset_network(classes, seed)
    install_probe(model, source, seed)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    change = NOISE if shift == "noise" else None
    x, new = (prepare_images(model, split, change) for split in (few, judges))
    x = x.to(memory_format=torch.channels_last)  # as `train.fit` has them: a step takes a quarter less
    turn = int(shift == "relabel")
    y, truth = ((np.array(split.labels) + turn) % classes for split in (few, judges))
    stages = surgery.stages(model)
    names = {n for s in stages if tune == "all" or s.name in BLOCKS[tune] for n in s.parameters}

    def tuned(chosen: np.ndarray, lr: float) -> nn.Module:
        model.load_state_dict(start)
        train_parameters(model, names, x[chosen], torch.from_numpy(y)[chosen], steps=steps, lr=lr, seed=seed)
        return model

    ((learn, rest),) = StratifiedShuffleSplit(1, test_size=0.25, random_state=seed).split(y, y)
    scores = [judge_by(y[rest], predict(tuned(learn, lr), x[rest]))["score"] for lr in BLOCK_RATES]
    lr = BLOCK_RATES[int(np.argmax(scores))]
    found = judge_by(truth, predict(tuned(np.arange(len(y)), lr), new))
    return found | {"chosen_lr": lr, "labels": len(few)}


def train_parameters(
    model: nn.Module, names: set[str], x: torch.Tensor, y: torch.Tensor, *, steps: int, lr: float, seed: int
) -> float:
    """Train the parameters of these names alone, in place; return the mean loss of the last tenth of steps.

    BatchNorm and dropout stay as in evaluation; the rate falls along half a cosine.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses: list[float] = []
    with runtime.seeded(seed), torch.enable_grad():
        while len(losses) < steps:
            for some in torch.randperm(len(x)).split(BATCH)[: steps - len(losses)]:
                optimizer.zero_grad(set_to_none=True)
                loss = cross_entropy(model.eval()(x[some]), y[some])
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
    return float(np.mean(losses[-max(1, steps // 10) :]))
