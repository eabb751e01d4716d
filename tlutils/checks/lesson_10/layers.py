"""Checks of what is done to layers: a new head, a frozen backbone, parameter groups."""

import copy
from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from ... import runtime
from ..common import attempt, is_close, judge_effects

FAMILIES: dict[str, tuple[Callable[[], nn.Module], str]] = {  # how to build one, and where its head is
    "torchvision's ResNet": (lambda: torchvision.models.resnet18(weights=None), "fc"),
    "torchvision's VGG": (lambda: torchvision.models.vgg11(weights=None), "classifier.6"),
    "timm's EfficientNet": (lambda: timm.create_model("tf_efficientnet_lite0"), "classifier"),
}


def check_replace_head(replace_head: Callable[[Any, int], Any] | None) -> None:
    """Print whether a function gives ResNet, VGG and a timm model a new head, or which mistake it makes.

    The networks have shapes and no values (device "meta"), so that a VGG costs nothing.

    Args:
        replace_head: The learner's `function(model, classes)`, which returns the network with the new head.

    Example:
        >>> from torch import nn
        >>> from tlutils.checks import lesson_10
        >>> def only_a_label(model, classes):
        ...     model.fc.out_features = classes
        ...     return model
        >>> lesson_10.check_replace_head(only_a_label)
        torchvision's ResNet: out_features is a label that changes no weight; the answer still has 1,000
        logits. Put a new nn.Linear in the old one's place.
    """
    for family, (build, place) in FAMILIES.items():
        with torch.device("meta"):
            model = build()
            images = torch.rand(2, 3, 64, 64)
            head = dict(model.named_modules())[place]
            kept = {id(p): name for name, p in model.named_parameters() if not name.startswith(place)}
            todo = f"The network is {family}. Put a new layer where its head was, and return the network."
            found = attempt(replace_head, model, 7, todo=todo)
            if found is None:
                return
            if not (fault := _fault_of_head(found, head, kept, images)):
                continue
            print(f"{family}: {fault}")
            return
    print("Right: three families, three places, and everything that was pretrained is still there.")


def _fault_of_head(found: Any, head: nn.Module, kept: dict[int, str], images: Tensor) -> str | None:
    """Return what is wrong with a network whose `head` was to be replaced by one with seven logits."""
    if not isinstance(found, nn.Module):
        return f"a {type(found).__name__} came back. Return the network."
    there = {id(p) for p in found.parameters()}
    gone = [name for key, name in kept.items() if key not in there]
    if len(gone) == len(kept) and isinstance(found, nn.Linear):
        return "the new head came back without its network. Return the model."
    if len(gone) == len(kept):
        return "this is another network: the pretrained weights are gone. Change the one that you were given."
    try:
        logits = tuple(found.eval()(images).shape)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        why = str(error).splitlines()[0]
        return (
            f"the new layer does not fit what reaches it ({why}). The old head's in_features says what does."
        )
    linear = [m for m in found.modules() if isinstance(m, nn.Linear)]
    if any(layer.out_features != layer.weight.shape[0] for layer in linear):
        return (
            "out_features is a label that changes no weight; the answer still has 1,000 logits. "
            "Put a new nn.Linear in the old one's place."
        )
    if logits == (2, 1000):
        return (
            "it still gives 1,000 logits. A layer under a name that forward does not call changes nothing: "
            "print(model) shows what the last layer is called."
        )
    if logits != (2, 7):
        return f"two images and seven classes give {logits}; expected (2, 7)."
    if any(id(p) in there for p in head.parameters()):
        return (
            "the old head is still in use: the new one reads its 1,000 logits instead of the features. "
            "Replace it, do not add to it."
        )
    if gone:
        return f"more than the head was replaced: {gone[0]} is pretrained, too, and it is gone."
    if any(isinstance(m, nn.Softmax | nn.LogSoftmax | nn.Sigmoid) for m in found.modules()):
        return "a softmax at the end: cross_entropy takes logits, and has the softmax in it."
    return None


class _Frozen(nn.Module):
    """A network to try a freezing function on: BatchNorm and dropout before the head, dropout in it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16))
        self.fc = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 2))

    def features(self, x: Tensor) -> Tensor:
        return self.block(self.norm(self.conv(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))


def check_freeze_backbone(freeze_backbone: Callable[[Any, Any], Any] | None) -> None:
    """Print whether a function freezes all but the head, in a loop that calls model.train() in each epoch.

    Args:
        freeze_backbone: The learner's `function(model, head)`, which changes the model and returns it.

    Example:
        >>> from tlutils.checks import lesson_10
        >>> def by_flag(model, head):
        ...     model.requires_grad_(False)
        ...     head.requires_grad_(True)
        ...     return model
        >>> lesson_10.check_freeze_backbone(by_flag)
        The weights stand still, and BatchNorm's running averages move: model.train(), which every loop calls,
        takes the frozen part along. Something has to keep it in eval mode. (Where that is another train(),
        call eval() before: it is train(False).)
    """
    with runtime.seeded(0):
        model, images = _Frozen(), torch.rand(16, 3, 16, 16)
        nn.init.constant_(model.norm.running_var, 2.0)  # type: ignore[arg-type]  # as after some training
        labels = torch.arange(16) % 2
        with torch.no_grad():
            wanted = model.eval().features(images)
        model.train()
        before = copy.deepcopy(model.state_dict())
        if attempt(freeze_backbone, model, model.fc, todo="Change the model, and return it.") is None:
            return
        trains = [p for p in model.parameters() if p.requires_grad]
        if not any(p.requires_grad for p in model.fc.parameters()):
            print("The head is frozen, too, and nothing can learn. Let its parameters require a gradient.")
            return
        try:
            with torch.no_grad():
                fixed = is_close(model.eval().features(images), wanted)
                repeats = torch.equal(model(images), model(images))
            optimizer = torch.optim.SGD(trains, lr=0.1)
            for _ in range(2):
                model.train()  # as every training loop does
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()
                optimizer.step()
            head_trains = model.fc[0].training
            with torch.no_grad():
                model(images)  # a hook that sets modes has its say before the features are read
                one, two = model.features(images), model.features(images)
        except Exception as error:  # a network that was broken by the learner's lines fails in its own way
            print(f"After your function a training step stops with {type(error).__name__}: {error}")
            return
        same = torch.equal(one, two) and is_close(one, wanted)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    weights = {name for name, _ in model.named_parameters()}
    backbone = {name for name in moved if not name.startswith("fc") and "num_batches" not in name}
    judge_effects(
        {
            "The network gives other features than before: freezing keeps layers as they are.": not fixed,
            "Nothing is frozen yet: weights before the head moved.": any("conv" in n for n in backbone),
            "A part is still free: weights of BatchNorm moved.": bool(backbone & weights),
            "The head did not move: it alone was to train.": not {"fc.1.weight", "fc.1.bias"} <= moved,
            "The weights stand still, and BatchNorm's running averages move: model.train(), which every loop "
            "calls, takes the frozen part along. Something has to keep it in eval mode. (Where that is "
            "another train(), call eval() before: it is train(False).)": bool(backbone),
            "Dropout of the frozen part still draws: the same images give other features each time. "
            "It is not BatchNorm alone that has two modes.": not torch.equal(one, two),
            "The running averages stand still, and yet BatchNorm normalises each batch by its own mean: "
            "only eval mode makes it use the averages.": not same,
            "The head stays in eval mode, too: its own dropout never acts. "
            "model.train() should reach it.": not head_trains,
            "In evaluation the head still drops features: model.eval() should reach it.": not repeats,
        },
        praise="weights, averages and dropout of the backbone stand still, and the head trains.",
    )


class _Grouped(nn.Module):
    """A network to make parameter groups for, in whose backbone a layer is called almost like the head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.fc1 = nn.Conv2d(4, 4, 1)  # as in the squeeze-and-excitation blocks of torchvision
        self.fc = nn.Linear(4, 2)


def check_parameter_groups(parameter_groups: Callable[[Any, Any, float, float], Any] | None) -> None:
    """Print whether a function gives an optimizer two groups, each parameter once, or which mistake it makes.

    Args:
        parameter_groups: The learner's `function(model, head, lr, head_lr)`, which returns a list of dicts.

    Example:
        >>> from tlutils.checks import lesson_10
        >>> def twice(model, head, lr, head_lr):
        ...     rates = {model: lr, head: head_lr}
        ...     return [{"params": module.parameters(), "lr": rate} for module, rate in rates.items()]
        >>> lesson_10.check_parameter_groups(twice)
        The head is in both groups: model.parameters() has it, too. Leave it out of the first.
    """
    sequential = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    networks: list[tuple[nn.Module, nn.Module]] = [
        ((grouped := _Grouped()), grouped.fc),
        (sequential, sequential[-1]),
    ]
    todo = "Compare parameters by identity (is, id or a set): == compares their values, one by one."
    for model, head in networks:
        found = attempt(parameter_groups, model, head, 0.01, 0.1, todo=todo)
        if found is None:
            return
        if fault := _fault_of_groups(found, model, head):
            print(fault)
            return
    print("Right: each parameter once, the head at its own learning rate, whatever the layers are called.")


def _fault_of_groups(found: Any, model: nn.Module, head: nn.Module) -> str | None:
    """Return what is wrong with the groups of a model for learning rates 0.01 and, in the head, 0.1."""
    if not isinstance(found, list | tuple) or not all(isinstance(g, dict) and "params" in g for g in found):
        return "Expected a list of dicts with 'params' and 'lr': that is what an optimizer takes."
    if any("lr" not in group for group in found):
        return "A group has no 'lr', so that it gets the optimizer's own, and nobody is told: spell it so."
    rates: dict[int, list[float]] = {}
    for group in found:
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        if not params:
            return (
                "A group is empty. A generator such as head.parameters() gives its parameters once: "
                "make a list of it."
            )
        if not all(isinstance(p, nn.Parameter) for p in params):
            return "'params' takes the parameters themselves, without their names."
        for p in params:
            rates.setdefault(id(p), []).append(group["lr"])
    own = {id(p) for p in head.parameters()}
    rest = {id(p): name for name, p in model.named_parameters() if id(p) not in own}
    mistakes = {
        "The head is in both groups: model.parameters() has it, too. Leave it out of the first.": any(
            len(rates.get(p, [])) > 1 for p in own
        ),
        "The head is in no group, and will never learn.": not own & rates.keys(),
        "Nothing but the head is in the groups: the backbone will never learn.": not rest.keys()
        & rates.keys(),
        "Some parameters are in no group: biases, or what BatchNorm learns?": not (own | rest.keys())
        <= rates.keys(),
        "A parameter of the backbone is in the groups twice.": any(len(rates.get(p, [])) > 1 for p in rest),
    }
    if wrong := next((text for text, made in mistakes.items() if made), None):
        return wrong
    if all(rates[p] == [0.01] for p in own) and all(rates[p] == [0.1] for p in rest):
        return "The rates are swapped: it is the new head that takes the larger steps."
    if all(rates[p] == [0.01] for p in own):
        return "Both groups have the same learning rate: head_lr is not used."
    if fast := [name for p, name in rest.items() if rates[p] == [0.1]]:
        return f"{fast[0]} is in the head's group: it is called almost like the head, and is of the backbone."
    if any(rates[p] != [0.1] for p in own) or any(rates[p] != [0.01] for p in rest):
        return "The learning rates are neither lr nor head_lr: hand them on as they come."
    return None
