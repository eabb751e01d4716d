"""Check of an epoch of training and validation, written by hand."""

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from ... import runtime
from ..common import attempt, is_close, judge_effects


class _Spied(nn.Module):
    """A network that notes each forward pass; the last column of its input marks images of validation."""

    def __init__(self, log: list[tuple[str, bool, bool]]) -> None:
        super().__init__()
        self.norm, self.out, self.log = nn.BatchNorm1d(5), nn.Linear(5, 3), log

    def forward(self, x: Tensor) -> Tensor:
        split = "val" if bool(x[0, -1]) else "train"
        self.log.append((split, self.training, torch.is_grad_enabled()))
        return self.out(self.norm(x[:, :-1]))


class _SpiedSGD(torch.optim.SGD):
    """An optimizer that notes each step."""

    def __init__(self, model: _Spied, lr: float) -> None:
        super().__init__(model.parameters(), lr=lr)
        self.log = model.log

    def step(self, closure: Any = None) -> Any:
        self.log.append(("step", True, True))
        return super().step(closure)


Loader = DataLoader[tuple[Tensor, ...]]


def _loaders() -> tuple[Loader, Loader]:
    """Return 20 images to train on and 10 to validate with, in batches of which the last is shorter."""
    rows = torch.randn(30, 5) + torch.arange(5)
    marked = torch.cat([rows, (torch.arange(30) >= 20).float()[:, None]], 1)
    labels = torch.randint(0, 3, (30,))
    train = TensorDataset(marked[:20], labels[:20])
    val = TensorDataset(marked[20:], labels[20:])
    return DataLoader(train, batch_size=8), DataLoader(val, batch_size=4)


def _softmax_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.softmax(1), labels)


def _epoch(
    model: nn.Module,
    loader: Loader,
    loss_of: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    zero: bool = True,
) -> list[tuple[float, int]]:
    """Train one epoch as it is done, or with a mistake; return (loss, images) of each batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.train()
    losses = []
    for images, labels in loader:
        loss = loss_of(model(images), labels)
        if zero:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append((loss.item(), len(labels)))
    return losses


def _same(one: nn.Module, two: nn.Module) -> bool:
    states = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, atol=1e-5) for a, b in states)


STEP_FIRST = "step() comes before backward(): a step would take the gradients of the batch before it."


def _told(one_epoch: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with STEP_FIRST in place of autograd's error that weights changed too early."""

    @wraps(one_epoch)
    def told(*inputs: Any) -> Any:
        try:
            return one_epoch(*inputs)
        except RuntimeError as error:
            if "inplace operation" in str(error):
                return STEP_FIRST
            raise

    return told


def check_epoch(one_epoch: Callable[[Any, Any, Any, Any], Any] | None) -> None:
    """Print whether a function trains for one epoch and validates, or which mistake it makes.

    Args:
        one_epoch: The learner's `function(model, train_loader, val_loader, optimizer)`, which returns the
            mean loss of the training images, as they came, and the share of validation images that are right.

    Example:
        >>> import torch
        >>> from torch.nn import functional as F
        >>> from tlutils.checks import lesson_10
        >>> def one_epoch(model, train_loader, val_loader, optimizer):
        ...     for images, labels in train_loader:
        ...         loss = F.cross_entropy(model(images), labels)
        ...         loss.backward()
        ...         optimizer.step()
        ...     return loss.item(), 0.5
        >>> lesson_10.check_epoch(one_epoch)
        It trains in eval mode: the validation of the epoch before left it on. Begin with model.train().
    """
    with runtime.seeded(0):
        train, val = _loaders()
        log: list[tuple[str, bool, bool]] = []
        model = _Spied(log)
        optimizer = _SpiedSGD(model, lr=0.5)
        start = copy.deepcopy(model)
        model.eval()  # as the validation of the epoch before leaves it
        hook = model.out.weight.register_hook(lambda _: log.append(("backward", True, True)))
        todo = "Return two numbers: the mean loss on train, and the share of val that is right."
        found = attempt(one_epoch and _told(one_epoch), model, train, val, optimizer, todo=todo)
        hook.remove()
        if found is None:
            return
        if found is STEP_FIRST:
            print(STEP_FIRST)
            return
        plain, kept, softmax, nll = (copy.deepcopy(start) for _ in range(4))
        losses = _epoch(plain, train)
        _epoch(kept, train, zero=False)
        _epoch(softmax, train, loss_of=_softmax_loss)
        _epoch(nll, train, loss_of=F.nll_loss)
        kinds = [kind for kind, _, _ in log]
        trained = [entry for entry in log if entry[0] == "train"]
        validated = [entry for entry in log if entry[0] == "val"]
        first = {kind: kinds.index(kind) if kind in kinds else len(kinds) for kind in ("backward", "step")}
        after_val = kinds[kinds.index("val") :] if "val" in kinds else []
        faults = {
            "It never runs the network on the training images.": not trained,
            "It trains in eval mode: the validation of the epoch before left it on. "
            "Begin with model.train().": not all(mode for _, mode, _ in trained),
            "No gradient is computed: loss.backward() is missing.": "backward" not in kinds,
            "Nothing moves: optimizer.step() is missing.": "step" not in kinds,
            STEP_FIRST: first["step"] < first["backward"],
            "It learns from the validation images: no backward() and no step() there.": bool(
                {"backward", "step"} & set(after_val)
            ),
            f"It trains on {len(trained)} of {len(train)} batches. Is a return inside the loop?": len(trained)
            < len(train),
            f"The optimizer makes {kinds.count('step')} steps for {len(train)} batches: one for each.": (
                kinds.count("step") != len(train)
            ),
            "The gradients of earlier batches are still there: zero_grad() before each backward().": _same(
                kept, model
            ),
            "A softmax before cross_entropy, which has its own: gradients shrink and learning is slow. "
            "Hand it logits.": _same(softmax, model),
            "nll_loss takes logarithms of probabilities, and got logits: cross_entropy takes these.": _same(
                nll, model
            ),
            "Nothing moves: zero_grad() comes between backward() and step().": torch.equal(
                start.out.weight, model.out.weight
            ),
            "It never runs the network on the validation images.": not validated,
            "It validates in training mode: the score depends on the batch, and BatchNorm's averages move. "
            "model.eval() is missing.": any(mode for _, mode, _ in validated),
            f"It validates on {len(validated)} of {len(val)} batches. Is a return inside the loop?": len(
                validated
            )
            < len(val),
            "Validation keeps what a backward pass would need: torch.no_grad() saves the memory.": any(
                grad for _, _, grad in validated
            ),
            "The weights are not those of one plain epoch: forward, zero_grad, backward, step, and nothing "
            "else.": not _same(plain, model),
        }
        if made := next((text for text, is_made in faults.items() if is_made), None):
            print(made)
            return
        judge_effects(_faults_of_values(found, losses, plain, val), praise="one epoch, and an honest score.")


def _faults_of_values(
    found: Any, losses: list[tuple[float, int]], model: nn.Module, val: Loader
) -> dict[str, bool]:
    """Return what may be wrong with (mean loss, accuracy), and whether it is."""
    if not isinstance(found, tuple | list) or len(found) != 2:
        return {"Return two values: the mean loss on train, and the share of val that is right.": True}
    loss, accuracy = found
    if any(isinstance(value, Tensor) and value.requires_grad for value in found):
        return {"The loss that you return holds the graph of every batch: add up loss.item().": True}
    with torch.no_grad():
        rights = [(model.eval()(images).argmax(1) == labels).float() for images, labels in val]
    images = sum(n for _, n in losses)
    mean = torch.tensor(sum(value * n for value, n in losses) / images)
    by_batch = torch.tensor(sum(value for value, _ in losses))
    right = torch.cat(rights).mean()
    return {
        "The two are swapped: first the loss, then the accuracy.": is_close(loss, right)
        and is_close(accuracy, mean),
        "That is the loss of the last batch. Add up over all, and divide.": is_close(
            loss, torch.tensor(losses[-1][0])
        ),
        "That is the mean over batches, and the last is shorter: its images count more. Weight each loss by "
        "its number of images.": is_close(loss, by_batch / len(losses)),
        "That is the sum of the losses: divide it.": is_close(loss, by_batch)
        or is_close(loss, mean * images),
        "cross_entropy is a mean already: multiply by the number of images before you divide by that of "
        "all.": is_close(loss, by_batch / images),
        "The loss is not the mean over the training images, each as it came.": not is_close(loss, mean, 1e-4),
        "That is how many are right. Divide by the number of validation images.": is_close(
            accuracy, right * len(torch.cat(rights))
        ),
        "That is the accuracy of the last batch.": is_close(accuracy, rights[-1].mean()),
        "That is the mean of the batches' accuracies, and the last batch is shorter. Count, then divide.": (
            is_close(accuracy, torch.stack([part.mean() for part in rights]).mean())
        ),
        "A share lies between 0 and 1; this one is in percent.": is_close(accuracy, 100 * right),
        "The accuracy is not the share of validation images that are right.": not is_close(
            accuracy, right, 1e-4
        ),
    }
