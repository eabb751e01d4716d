"""Checks of the exercises in lesson 03, partial freezing."""

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from .. import runtime, surgery
from .common import attempt, judge_effects

# Autograd's own advice would be to keep the graph.
NO_GRAD = "Run early under torch.no_grad(): else each backward() goes through early, too."


def check_train_on_kept(train_on_kept: Callable[..., Any]) -> None:
    """Print whether a function runs a frozen half once and trains the other on what came out.

    Args:
        train_on_kept: The learner's `train_on_kept(early, late, images, labels, lr, steps)` for two modules,
            images (N, 3, H, W) and labels (N,): `late`, after `steps` steps of plain SGD on all images.

    Example:
        >>> from tlutils.checks import lesson_03
        >>> lesson_03.check_train_on_kept(lambda early, late, *others: late)
        The images never went through early.
    """
    with runtime.seeded(0):
        conv = nn.Conv2d(3, 4, 3, 2, 1)
        early = nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        late = nn.Sequential(nn.Linear(16, 3), nn.Identity().eval())  # so that train() and eval() both matter
        images, labels = torch.rand(12, 3, 16, 16), torch.arange(12) % 3
        start = copy.deepcopy((early, late))
        modes, kinds, of_late = list[bool](), set[str](), [module.training for module in late.modules()]
        hooks = [
            conv.register_forward_pre_hook(lambda *_: modes.append(early.training)),
            register_optimizer_step_pre_hook(lambda optimizer, *_: kinds.add(type(optimizer).__name__)),
        ]
        todo = "Under torch.no_grad(), run early once; then loop: zero_grad, loss, backward, step."
        lr, steps = 0.5, 3

        @wraps(train_on_kept)
        def run() -> Any:
            try:
                return train_on_kept(early, late, images, labels, lr, steps)
            except RuntimeError as error:
                if "second time" in str(error):
                    return NO_GRAD
                raise

        found = attempt(run, todo=todo)
        for hook in hooks:
            hook.remove()
    if found is None:
        return
    if found is NO_GRAD:
        print(NO_GRAD)
        return

    def trained(steps: int = steps, *, adds_up: bool = False, softmax: bool = False) -> list[torch.Tensor]:
        body, head = copy.deepcopy(start)
        with torch.no_grad():
            kept = body.eval()(images)
        optimizer = torch.optim.SGD(head.parameters(), lr=lr)
        for _ in range(steps):
            if not adds_up:
                optimizer.zero_grad()
            logits = head(kept)
            F.cross_entropy(logits.softmax(1) if softmax else logits, labels).backward()
            optimizer.step()
        return list(head.parameters())

    def is_like(wanted: list[torch.Tensor]) -> bool:
        return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(late.parameters(), wanted, strict=True))

    before, after = start[0].state_dict(), early.state_dict()
    moved = {name for name, own in after.items() if not torch.equal(own, before[name])}
    mistakes = {
        "The images never went through early.": not modes,
        "early ran in training mode: BatchNorm normalised by this batch, and its statistics moved. "
        "early.eval() comes first.": any(modes),
        f"early ran {len(modes)} times for {steps} steps: once, before the loop, is enough.": len(modes) > 1,
        "The weights of early moved: the optimizer gets those of late alone.": bool(moved),
        "late did not move: for each step, backward() makes gradients and step() takes them.": is_like(
            trained(0)
        ),
        "That stopped after the first step: does return stand inside the loop?": is_like(trained(1)),
        "Gradients add up from step to step: zero_grad() before each backward().": is_like(
            trained(adds_up=True)
        ),
        "cross_entropy takes logits, and makes the softmax itself: yours came twice.": is_like(
            trained(softmax=True)
        ),
        f"{', '.join(sorted(kinds))} took the steps: plain SGD, torch.optim.SGD(…, lr=lr), was asked for.": (
            bool(kinds - {"SGD"})
        ),
        "late did not get where plain SGD on cross-entropy leads: no momentum, the given rate and steps.": (
            not is_like(trained())
        ),
        "late is in another mode than it came in: leave train() and eval() of it alone.": (
            of_late != [module.training for module in late.modules()]
        ),
        f"late has learned; return it. A {type(found).__name__} came back.": found is not late,
    }
    judge_effects(mistakes, praise="the frozen half ran once, and each step cost what late costs.")


class _Small(nn.Module):
    """A network to try a freezing function on."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)
        self.early = nn.Sequential(*layers)
        self.late = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.late(self.early(x)).mean((2, 3)))


def check_freeze(freeze: Callable[[nn.Module], object]) -> None:
    """Print whether a function freezes a part of a network in effect: it is tried in two training steps.

    Args:
        freeze: The learner's `freeze(module)`, which freezes weights, BatchNorm statistics and dropout of a
            module.

    Example:
        >>> from tlutils.checks import lesson_03
        >>> lesson_03.check_freeze(lambda module: module.requires_grad_(False).eval())
        The weights stand still, and the statistics drift: the loop calls model.train() after your freeze, and
        that puts the part in training mode. Something has to keep it in eval mode.
    """
    with runtime.seeded(0):
        model = _Small()
        images = torch.rand(16, 3, 16, 16)
        freeze(model.early)
        left = any(module.training for module in model.early.modules())
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if not any(p.requires_grad for p in model.parameters()):
            print("Everything is frozen now, and you were asked for one part.")
            return
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        try:
            for _ in range(2):
                model.train()  # as every training loop does
                optimizer.zero_grad()
                F.cross_entropy(model(images), torch.arange(16) % 2).backward()
                optimizer.step()
        except Exception as error:
            print(f"After your lines a training step stops with {type(error).__name__}: {error}")
            return
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    if {"early.0.weight", "early.1.weight"} <= moved and "early.1.running_mean" in moved:
        print("Nothing is frozen yet: weights and statistics of the part moved.")
    elif {"early.0.weight", "early.0.bias", "early.1.weight", "early.1.bias"} & moved:
        print("The statistics are held, but weights of the part moved: what about requires_grad?")
    elif "early.1.running_mean" in moved and left:
        print(
            "The weights stand still, and the statistics drift: the part is in training mode. Call eval(), "
            "which is train(False), before you replace train."
        )
    elif "early.1.running_mean" in moved:
        print(
            "The weights stand still, and the statistics drift: the loop calls model.train() after your "
            "freeze, and that puts the part in training mode. Something has to keep it in eval mode."
        )
    elif not {"late.0.weight", "head.weight", "late.1.running_mean"} <= moved:
        print("The part is frozen, and so is more than it.")
    elif not torch.equal(model.train().early(images), model.early(images)):
        print(
            "BatchNorm stands still, and the part's dropout still draws: the same images give other features "
            "each time. All of the part belongs in eval mode."
        )
    elif any(module.eval() is not module for module in model.early.modules()):
        print(
            "All stands still, but train() and eval() of a module return that module itself, and these do "
            "not. A function set on an instance gets no self, and a lambda made in a loop sees the last "
            "module."
        )
    else:
        print("Right: two training steps, and nothing of the part moved. You wrote what freeze_to does.")


def check_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Print whether an optimizer moves all that trains in a model, each parameter once, with its momentum.

    Args:
        model: A model that has been unfrozen further, after some training steps.
        optimizer: The learner's optimizer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import surgery
        >>> from tlutils.checks import lesson_03
        >>> blocks = [nn.Sequential(nn.Conv2d(3, 3, 3, 2), nn.ReLU()) for _ in range(3)]
        >>> model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> optimizer = torch.optim.SGD(surgery.param_groups(surgery.freeze_to(model, "head"), 0.1))
        >>> lesson_03.check_optimizer(surgery.freeze_to(model, "stage2"), optimizer)
        Not yet: the optimizer has never heard of 1.0.weight, 1.0.bias and 2 more. That gets gradients and
        never moves.
    """
    found = {finding.code: finding.module for finding in surgery.audit(model, optimizer)}
    frozen = found.get("optimizer-moves-frozen") or found.get("optimizer-holds-frozen")
    if not all(group["params"] for group in optimizer.param_groups):
        print("A group of the optimizer is empty: no parameter had the name that you looked for.")
    elif "optimizer-lacks" in found:
        also = f" And it holds what stays frozen: {frozen}." if frozen else ""
        print(
            f"Not yet: the optimizer has never heard of {found['optimizer-lacks']}. That gets gradients and "
            f"never moves.{also}"
        )
    elif "param-twice" in found:
        print("Some parameters are in the optimizer twice, and each step moves them twice.")
    elif frozen:
        print(f"What stays frozen is in the optimizer, too: {frozen}. Add what is to train now, and no more.")
    elif not optimizer.state:
        print("All are in, but this optimizer is new: the momentum of the head is lost. Add to the old one.")
    else:
        print("Right: every trainable parameter is in the optimizer once, and the head kept its momentum.")


CUT_SHARES = {"head": 4, "stage8": 7, "stage6": 7, "stem": 5}  # of ten images, right when held out


def check_choose_cut(choose_cut: Callable[..., Any] | None) -> None:
    """Print whether a function chooses a cut by held-out training images, or which mistake it makes.

    It is tried on 40 images, sorted by class, and four cuts: the later ones learn their training images by
    heart, two of them are equally good on others, and none knows a class that it has not learned from.

    Args:
        choose_cut: The learner's `choose_cut(cuts, labels, try_cut)`: names of cuts, the cheapest first,
            labels of the training images (N,), and a function `try_cut(cut, learn, judge)`, which trains at a
            cut on the images of the row numbers `learn` and says which of the rows `judge` are right. It
            returns the name of a cut.

    Example:
        >>> from tlutils.checks import lesson_03
        >>> def choose_cut(cuts, labels, try_cut):
        ...     rows = range(len(labels))
        ...     return max(cuts, key=lambda cut: try_cut(cut, rows, rows).mean())
        >>> lesson_03.check_choose_cut(choose_cut)
        Images judged a network that had learned from them: what is learned by heart wins. Hold some out.
    """
    labels = np.repeat([0, 1], 20)
    judged: dict[str, np.ndarray] = {}  # of each cut, how often each image judged
    faults = {"leak": False, "unknown": False, "unjudged": False, "sorted": False, "exchanged": False}

    def try_cut(cut: str, learn: Any, judge: Any) -> np.ndarray:
        learn, judge = (np.asarray(list(rows)).astype(int) for rows in (learn, judge))
        by_heart = np.isin(judge, learn)
        known = np.isin(labels[judge], labels[learn])
        faults["leak"] |= bool(by_heart.any())
        faults["unknown"] |= not known.all()
        faults["unjudged"] |= not len(judge)
        faults["sorted"] |= len(judge) >= 6 and len(np.unique(labels[judge])) == 1
        faults["exchanged"] |= 1.5 * len(learn) < len(judge)
        judged[cut] = judged.get(cut, 0) + np.bincount(judge, minlength=len(labels))
        right = (judge * 3 % 10 < CUT_SHARES[cut]) & known
        return (right | (by_heart & (cut != "head"))).astype(float)

    cuts = list(CUT_SHARES)
    todo = "Return the name of a cut: the one that held-out training images speak for."
    answer = attempt(choose_cut, list(cuts), labels.copy(), try_cut, todo=todo)
    if answer is None:
        return
    counts = list(judged.values())
    judges = min((np.count_nonzero(count) for count in counts), default=0)
    mistakes = {
        "Nothing was trained: call try_cut(cut, learn, judge) for each cut.": not judged,
        "Images judged a network that had learned from them: what is learned by heart wins. Hold some "
        "out.": faults["leak"],
        "Nobody judges: hold some images out.": faults["unjudged"],
        "A network was judged by a class that it never learned from: images are sorted by class, so shuffle "
        "or stratify the parts.": faults["unknown"],
        "A part held images of one class alone: images are sorted by class, so shuffle or stratify the "
        "parts.": faults["sorted"],
        "Not every cut was tried.": set(judged) != set(cuts),
        "The cuts were judged by different numbers of images: give each the same parts.": (
            len({count.sum() for count in counts}) > 1
        ),
        f"{judges} of the {len(labels)} images judge: let each part judge once, and every image counts.": (
            bool(judges < len(labels))
        ),
        "Some images judge more often than others: cut the rows into parts once, and let each part judge "
        "once.": any(len(set(count)) > 1 for count in counts),
        "A part judged what was learned from fewer images: the larger part learns.": faults["exchanged"],
        f"A {type(answer).__name__} arrived: return the cut's name.": not isinstance(answer, str),
        "Two cuts are equally good, and you took the more expensive one.": answer == "stage6",
        "That cut is right on fewest held-out images: which way round did you compare?": answer == "head",
        "Not the cut that is right on most held-out images.": answer != "stage8",
    }
    judge_effects(mistakes, praise="chosen within the training images, so that val can still judge it.")
