"""Checks of an epoch of training, of a score, and of a whole run that keeps its best epoch."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import runtime
from ..common import Mistake, answer, is_close, require
from .layers import Small

Batches = list[tuple[Tensor, Tensor]]
SIZES = (3, 3, 3, 3, 3, 1)  # batches as large as there are classes, so that each axis gives an answer


class _Loader:
    """Batches that are noted when somebody takes them, with the `dataset` that a DataLoader has."""

    def __init__(self, batches: Batches, name: str, log: list[str]) -> None:
        self.batches, self.name, self.log = batches, name, log
        self.dataset = [(x, y) for images, labels in batches for x, y in zip(images, labels, strict=True)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        for batch in self.batches:
            self.log.append(self.name)
            yield batch


class _Spied(Small):
    """The small network, which notes its mode, and that of its BatchNorm, at each forward pass."""

    def __init__(self, log: list[str]) -> None:
        super().__init__(classes=3)
        self.log = log

    def forward(self, x: Tensor) -> Tensor:
        mode = "train" if self.training else "eval"
        self.log.append(
            f"{mode}, bn {'train' if self.bn.training else 'eval'}, grad {torch.is_grad_enabled()}"
        )
        return super().forward(x)


class _SpiedSGD(torch.optim.SGD):
    """An optimizer that notes its steps."""

    def __init__(self, model: _Spied) -> None:
        super().__init__([p for p in model.parameters() if p.requires_grad], lr=0.5)
        self.log = model.log

    def step(self, closure: Any = None) -> Any:
        self.log.append("step")
        return super().step(closure)


def _batches(sizes: tuple[int, ...] = (8, 8, 4)) -> Batches:
    return [(torch.randn(n, 3, 8, 8) + 1, torch.randint(0, 3, (n,))) for n in sizes]


def _loss_after(model: nn.Module, batches: Batches, how: str = "") -> list[float]:
    """Train `model` by the book, or with the mistake `how`; return the mean loss of each batch."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    losses = []
    for images, labels in batches:
        logits = model(images)
        value = F.cross_entropy(logits.softmax(1) if how == "softmax" else logits, labels)
        if how == "nll":
            value = F.nll_loss(logits, labels)
        if how != "kept":
            optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def _same(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    return all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def check_train_epoch(train_epoch: Callable[[Any, Any, Any], Any], *, seed: int = 0) -> None:
    """Print that a function trains for one epoch, with a frozen BatchNorm frozen, or raise the mistake.

    Args:
        train_epoch: The learner's `function(model, loader, optimizer)`, which returns the mean loss.
        seed: The network and the images of the check are drawn from it.

    Raises:
        Mistake: If a step is missing, doubled or in the wrong place, or the number is not the mean loss.

    Example:
        >>> from torch.nn import functional as F
        >>> from tlutils.checks import assignment_01
        >>> def drifting(model, loader, optimizer):
        ...     model.train()
        ...     for images, labels in loader:
        ...         loss = F.cross_entropy(model(images), labels)
        ...         optimizer.zero_grad()
        ...         loss.backward()
        ...         optimizer.step()
        ...     return loss.item()
        >>> assignment_01.check_train_epoch(drifting)
        Traceback (most recent call last):
        tlutils.checks.Mistake: BatchNorm drifts: its parameters are frozen, and model.train() still lets each
        batch move its running mean and variance. A frozen BatchNorm belongs in eval mode.
    """
    for frozen in (True, False):
        with runtime.seeded(seed):
            log: list[str] = []
            model, batches = _Spied(log), _batches()
            if frozen:
                model.requires_grad_(False)
                model.classifier.requires_grad_(True)
            start = copy.deepcopy(model)
            optimizer = _SpiedSGD(model)
            model.eval()  # as the validation of the epoch before leaves it
            model.classifier.weight.register_hook(lambda _, log=log: log.append("backward"))
            loader = _Loader(batches, "batch", log)
            found = answer(
                train_epoch, model, loader, optimizer, todo="Return the mean loss of the training images."
            )
            _require_steps(log, model, start, batches, frozen)
            _require_loss(found, start, batches, frozen)
    print("Right: one epoch, and what is frozen stays so.")


def _require_steps(
    log: list[str], model: nn.Module, start: nn.Module, batches: Batches, frozen: bool
) -> None:
    """Raise the mistake that an epoch made, as its log and its weights tell."""
    forward = [entry for entry in log if "bn" in entry]
    order = [entry for entry in log if entry in ("step", "backward")]
    copies = {}
    for how in ("", "softmax", "nll", "kept"):
        copies[how] = copy.deepcopy(start).train()
        copies[how].bn.train(not frozen)  # type: ignore[union-attr]
        _loss_after(copies[how], batches, how)
    moved = not _same(start, model)
    drifted = not torch.equal(start.bn.running_mean, model.bn.running_mean)  # type: ignore[union-attr, arg-type]
    made = {
        "It never runs the network on a batch of the loader.": not forward,
        "Training keeps no gradients: no_grad() and inference_mode() are for validation.": any(
            "grad False" in entry for entry in forward
        ),
        "loss.backward() is missing: no gradient is computed.": "backward" not in order,
        "optimizer.step() is missing: nothing moves.": "step" not in order,
        "step() comes before backward(): it takes the gradients of the batch before it.": order[:1]
        == ["step"],
        f"It trains on {len(forward)} of {len(batches)} batches. Is a return inside the loop?": len(forward)
        < len(batches),
        f"{order.count('step')} steps for {len(batches)} batches: one for each.": order.count("step")
        != len(batches),
        "BatchNorm drifts: its parameters are frozen, and model.train() still lets each batch move its "
        "running "
        "mean and variance. A frozen BatchNorm belongs in eval mode.": frozen and drifted,
        "It trains in eval mode: the validation of the epoch before left it on. model.train() is missing.": (
            forward[:1] != [] and forward[0].startswith("eval") and not frozen
        ),
        "BatchNorm stays in eval mode although its parameters train: freeze it with the pretrained layers, "
        "and "
        "only with them.": not frozen and not drifted,
        "The gradients of earlier batches are still there: zero_grad() before each backward().": moved
        and _same(copies["kept"], model),
        "A softmax before cross_entropy, which has its own: gradients shrink. Hand it logits.": moved
        and _same(copies["softmax"], model),
        "nll_loss takes logarithms of probabilities, and got logits: cross_entropy takes these.": moved
        and _same(copies["nll"], model),
        "Nothing moves: does zero_grad() come between backward() and step()?": not moved,
        "The weights are not those of one plain epoch: forward, zero_grad, backward, step, and nothing "
        "else.": not (_same(copies[""], model)),
    }
    if seen := next((text for text, is_made in made.items() if is_made), None):
        raise Mistake(seen)


def _require_loss(found: object, start: nn.Module, batches: Batches, frozen: bool) -> None:
    """Raise what is wrong with the loss that an epoch returned."""
    plain = copy.deepcopy(start).train()
    plain.bn.train(not frozen)  # type: ignore[union-attr]
    losses = torch.tensor(_loss_after(plain, batches))
    sizes = torch.tensor([len(labels) for _, labels in batches])
    mean = (losses * sizes).sum() / sizes.sum()
    made = {
        "The loss holds the graph of every batch, and memory grows: add up loss.item().": isinstance(
            found, Tensor
        )
        and found.requires_grad,
        "That is the loss of the last batch. Add up over all, and divide.": is_close(found, losses[-1]),
        "That is the mean over batches, and the last is shorter. Weight each loss by its number of images.": (
            is_close(found, losses.mean())
        ),
        "That is a sum: divide by the number of images.": is_close(found, losses.sum())
        or is_close(found, mean * sizes.sum()),
        "cross_entropy is a mean already: multiply by the number of images before you divide by that of "
        "all.": (is_close(found, losses.sum() / sizes.sum())),
        "The number is not the mean loss over the training images.": not is_close(found, mean, 1e-4),
    }
    if seen := next((text for text, is_made in made.items() if is_made), None):
        raise Mistake(seen)


def check_evaluate(evaluate: Callable[[Any, Any], Any], *, seed: int = 0) -> None:
    """Print that a function gives the accuracy of a network and leaves it as it was, or raise the mistake.

    Args:
        evaluate: The learner's `function(model, loader)`, which returns a share between 0 and 1.
        seed: The network and the images of the check are drawn from it.

    Raises:
        Mistake: If the mode is wrong, or the number is not the share of images that are right.

    Example:
        >>> from tlutils.checks import assignment_01
        >>> def without_eval(model, loader):
        ...     return sum((model(x).argmax(1) == y).sum().item() for x, y in loader) / len(loader.dataset)
        >>> assignment_01.check_evaluate(without_eval)
        Traceback (most recent call last):
        tlutils.checks.Mistake: It scores in training mode: each image is judged by its batch, and BatchNorm's
        averages move. model.eval() is missing.
    """
    with runtime.seeded(seed):
        log: list[str] = []
        model, batches = _Spied(log), _batches(SIZES)
        start = copy.deepcopy(model).eval()
        values = _scores(start, batches)
        while len(set(values.values())) < len(values):  # each mistake gives a number of its own
            batches = _batches(SIZES)
            values = _scores(start, batches)
        log.clear()
        model.classifier.weight.register_hook(lambda _: log.append("backward"))
        model.train()
        todo = "Return the share of images that are right."
        found = answer(evaluate, model, _Loader(batches, "batch", log), todo=todo)
        forward = [entry for entry in log if "bn" in entry]
        drifted = not torch.equal(start.bn.running_mean, model.bn.running_mean)  # type: ignore[arg-type]
        is_right = is_close(found, torch.tensor(values.pop("")), 1e-4)
        require(
            {
                "It learns from the images that it is measured with: no backward() and no step() here.": (
                    "backward" in log or not _same(start, model)
                ),
                "It scores in training mode: each image is judged by its batch, and BatchNorm's averages "
                "move. "
                "model.eval() is missing.": drifted or any(entry.startswith("train") for entry in forward),
                f"It runs the network on {len(forward)} of {len(batches)} batches. Is a return inside the "
                "loop?": (len(forward) < len(batches)),
                "It keeps what a backward pass would need: torch.no_grad() saves the memory.": any(
                    "grad True" in entry for entry in forward
                ),
                **{text: is_close(found, torch.tensor(value)) for text, value in values.items()},
                "The number is not the share of images that are right.": not is_right,
            },
            praise="counted over all images, in eval mode, without gradients.",
        )


def _scores(model: nn.Module, batches: Batches) -> dict[str, float]:
    """Return the accuracy under "", and what the usual mistakes make of it."""
    with torch.no_grad():
        logits = [model(images) for images, _ in batches]
    truth = [labels for _, labels in batches]
    rights = [(x.argmax(1) == y).float() for x, y in zip(logits, truth, strict=True)]
    across = [(x.argmax(0) == y).float().sum() for x, y in zip(logits, truth, strict=True)]
    least = [(x.argmin(1) == y).float() for x, y in zip(logits, truth, strict=True)]
    right = torch.cat(rights).mean()
    found = {
        "": right,
        "That is how many are right: divide by the number of images.": torch.cat(rights).sum(),
        "A share lies between 0 and 1; this one is in percent.": 100 * right,
        "argmax over the wrong axis: logits are (images, classes), and argmax(0) picks an image for each "
        "class.": (torch.stack(across).sum() / sum(SIZES)),
        "argmin picks the class that the network believes in least.": torch.cat(least).mean(),
        "That is the mean of the batches' accuracies, and batches differ in size. Count, then "
        "divide.": torch.stack([x.mean() for x in rights]).mean(),
        "That is the accuracy of the last batch.": rights[-1].mean(),
        "That is the share of images that are wrong.": 1 - right,
    }
    return {text: round(float(value), 6) for text, value in found.items()}


class _Told(nn.Module):
    """A network that answers as well as `curve` says after so many steps, and notes what happens."""

    def __init__(self, curve: dict[int, int], log: list[str]) -> None:
        super().__init__()
        self.conv, self.bn, self.classifier = nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros(()))
        self.curve, self.log = curve, log

    def forward(self, x: Tensor) -> Tensor:
        logits = self.classifier(self.bn(self.conv(x[:, :2])))
        if torch.is_grad_enabled():
            self.log.append("thawed" if self.conv.weight.requires_grad else "frozen")
            self.steps += 1
            return logits
        self.log.append(f"scores {'val' if x[0, 3] else 'train'}")
        right = x[:, 2:3] < self.curve.get(int(self.steps), 0)  # image k is right where k is below the curve
        return 0 * logits + torch.where(right, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))


def check_finetune(finetune: Callable[[Any, Any, Any, int], Any], *, seed: int = 0) -> None:
    """Print that a run trains the head, then everything, and keeps its best epoch, or raise the mistake.

    Args:
        finetune: The learner's `function(model, train_loader, val_loader, epochs)`, which returns the network
            and its accuracies on the validation images, one per epoch.
        seed: The network of the check and its accuracies are drawn from it.

    Raises:
        Mistake: If the phases, the history or the weights that come back are not what was asked for.

    Example:
        >>> from tlutils.checks import assignment_01
        >>> assignment_01.check_finetune(lambda model, train_loader, val_loader, epochs: (model, [0.5]))
        Traceback (most recent call last):
        tlutils.checks.Mistake: It never scores the validation images.
    """
    for curve in ([3, 5, 8, 6], [3, 8, 6, 4], [3, 8, 4, 6]):  # images right after each epoch, of ten
        with runtime.seeded(seed):
            log: list[str] = []
            rights = [n + seed % 3 for n in curve]
            model = _Told({2 * (epoch + 1): n for epoch, n in enumerate(rights)}, log)
            model.requires_grad_(False)
            model.classifier.requires_grad_(True)
            train = _Loader([_marked(4, 0), _marked(4, 0)], "train", log)
            val = _Loader([_marked(10, 1)], "val", log)
            todo = "Return the network and the list of its accuracies on the validation images."
            found = answer(finetune, model, train, val, 2, todo=todo)
            _require_run(found, log, rights)
    print("Right: the head first, then everything, and the best epoch comes back.")


def _marked(n: int, val: int) -> tuple[Tensor, Tensor]:
    """Return rows of (two numbers, the number of the image, whether it is for validation), all of class 0."""
    rows = torch.cat([torch.randn(n, 2), torch.arange(n)[:, None], torch.full((n, 1), val)], 1)
    return rows, torch.zeros(n, dtype=torch.long)


def _require_run(found: object, log: list[str], rights: list[int]) -> None:
    """Raise what is wrong with a run of four epochs, two steps in each."""
    if not isinstance(found, tuple | list) or len(found) != 2 or not isinstance(found[0], nn.Module):
        raise Mistake(
            "Return two things: the network, and the list of its accuracies on the validation images."
        )
    model, history = found
    if not isinstance(history, list | tuple):
        raise Mistake(
            f"A {type(history).__name__} came second. Return the list of accuracies on the validation images."
        )
    steps = [entry for entry in log if entry in ("frozen", "thawed")]
    at = int(model.steps) // 2 - 1 if isinstance(model, _Told) else -1
    wanted, best = [n / 10 for n in rights], rights.index(max(rights))
    made = {
        "It scores the training images: an epoch is chosen by images that it did not learn from.": (
            "scores train" in log and "scores val" not in log
        ),
        "It never scores the validation images.": "scores val" not in log,
        "It learns from the validation images.": "val" in _trained(log),
        "Everything stays frozen in the second phase: thaw the network, and make the optimizer again.": (
            "thawed" not in steps and len(steps) == 8
        ),
        "The head never trains alone: a head that was just drawn sends large, meaningless gradients into the "
        "pretrained layers.": steps[:1] == ["thawed"],
        f"2 epochs of the head and 2 of everything are 4 epochs, and the history has {len(history)}.": len(
            history
        )
        != 4,
        f"2 epochs of 2 batches in each phase are 4 steps and 4; here were {steps.count('frozen')} and "
        f"{steps.count('thawed')}.": steps != ["frozen"] * 4 + ["thawed"] * 4,
        "The history is not the accuracy on the validation images after each epoch.": not is_close(
            history, torch.tensor(wanted), 1e-4
        ),
        "The last epoch came back, and an earlier one was better. If you kept state_dict(): it is not "
        "a copy, and went on training. copy.deepcopy keeps it.": at == 3 and best != 3,
        "The best epoch of the first phase was not found: is the best so far forgotten between the phases?": (
            at != best and best < 2
        ),
        "The best epoch of the second phase was not found: does the comparison go on there?": at != best,
    }
    if seen := next((text for text, is_made in made.items() if is_made), None):
        raise Mistake(seen)


def _trained(log: list[str]) -> list[str]:
    """Return the loaders whose batches went forward with gradients."""
    pairs = itertools.pairwise(log)
    return [first for first, then in pairs if first in ("train", "val") and then in ("frozen", "thawed")]
