"""Checks of the exercises in lesson 10, plain PyTorch."""

import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms

from .. import runtime
from .common import attempt, is_close, judge_effects

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
        takes the frozen part along. Something has to keep it in eval mode.
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
            "calls, takes the frozen part along. Something has to keep it in eval mode.": bool(backbone),
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


def _logits_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)


def _softmax_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.softmax(1), labels)


def _nll_of_logits(logits: Tensor, labels: Tensor) -> Tensor:
    return F.nll_loss(logits, labels)


def _epoch(
    model: nn.Module,
    loader: Loader,
    loss_of: Callable[[Tensor, Tensor], Tensor] = _logits_loss,
    zero: bool = True,
) -> Iterator[tuple[float, int]]:
    """Train one epoch as it is done, or with a mistake; yield (loss, images) of each batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.train()
    for images, labels in loader:
        loss = loss_of(model(images), labels)
        if zero:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item(), len(labels)


def _same(one: nn.Module, two: nn.Module) -> bool:
    states = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, atol=1e-5) for a, b in states)


STEP_FIRST = "step() comes before backward(): a step would take the gradients of the batch before it."


def _told(one_epoch: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with STEP_FIRST in place of autograd's error that weights changed too early."""

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
        variants = {}
        for name, settings in {
            "right": {},
            "kept": {"zero": False},
            "softmax": {"loss_of": _softmax_loss},
            "nll": {"loss_of": _nll_of_logits},
        }.items():
            variants[name] = copy.deepcopy(start)
            variants[name].log = []
            losses = list(_epoch(variants[name], train, **settings))  # type: ignore[arg-type]
            if name == "right":
                right = losses
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
                variants["kept"], model
            ),
            "A softmax before cross_entropy, which has its own: gradients shrink and learning is slow. "
            "Hand it logits.": _same(variants["softmax"], model),
            "nll_loss takes logarithms of probabilities, and got logits: cross_entropy takes these.": _same(
                variants["nll"], model
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
            "else.": not _same(variants["right"], model),
        }
        if made := next((text for text, is_made in faults.items() if is_made), None):
            print(made)
            return
        judge_effects(
            _faults_of_values(found, right, variants["right"], val), praise="one epoch, and an honest score."
        )


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


class _Colours(nn.Module):
    """A network that names the strongest colour, and notes what it was given and how."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.seen: list[tuple[Tensor, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x.detach().clone(), self.training, torch.is_grad_enabled()))
        return self.norm(x).mean((2, 3))


COLOURS = ["red", "green", "blue"]
PHOTOGRAPHS: dict[
    str, tuple[Any, int]
] = {  # mode of the file -> its one colour in that mode; the classes are the indices behind
    "RGB": ((40, 60, 210), 2),
    "RGBA": ((30, 200, 50, 128), 1),
    "L": (150, 2),
}


def check_predict(predict: Callable[[Any, list[str], Any, Path], Any] | None) -> None:
    """Print whether a function names what is on one new photograph, or which mistake it makes.

    Args:
        predict: The learner's `function(model, classes, prepare, path)`, which returns one of the classes.

    Example:
        >>> from PIL import Image
        >>> from tlutils.checks import lesson_10
        >>> def predict(model, classes, prepare, path):
        ...     return classes[model.eval()(prepare(Image.open(path).convert("RGB"))).argmax(1)]
        >>> lesson_10.check_predict(predict)
        The network wants a batch, (1, 3, height, width), and got (3, 16, 16): unsqueeze(0) makes a batch of
        one.
    """
    prepare = transforms.Compose(
        [
            transforms.Resize(20),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.45, 0.4), (0.3, 0.3, 0.2)),  # grey is nearest to blue in it
        ]
    )
    todo = "Open the photograph, prepare it, run the network, and return the name of the class."
    if predict is None:
        attempt(predict, todo=todo)
        return
    with tempfile.TemporaryDirectory(dir=runtime.cache_dir()) as folder:
        for mode, (colour, index) in PHOTOGRAPHS.items():
            path = Path(folder) / f"{mode}.png"
            picture = Image.linear_gradient("L").resize((30, 24)).convert(mode)
            Image.blend(picture, Image.new(mode, (30, 24), colour), 0.9).save(path)
            with Image.open(path) as image:
                photograph = image.convert("RGB")
            swapped = Image.merge("RGB", photograph.split()[::-1])
            wanted, bgr = (prepare(one).unsqueeze(0) for one in (photograph, swapped))
            model, found, error = _Colours().train(), None, None
            try:
                found = predict(model, list(COLOURS), prepare, path)
            except Exception as raised:  # a learner's lines may stop in any way
                error = f"{type(raised).__name__}: {(str(raised).splitlines() or [''])[0]}"
            if found is None and error is None:
                print(f"Not answered yet. {todo}")
                return
            if fault := _fault_of_prediction(found, error, model, (wanted, bgr), mode, index):
                print(fault)
                return
    print("Right: colour, grey and transparent photographs, one by one.")


def _fault_of_prediction(
    found: Any, error: str | None, model: _Colours, inputs: tuple[Tensor, Tensor], mode: str, index: int
) -> str | None:
    """Return what is wrong with the answer for a photograph, or with the way to it."""
    wanted, bgr = inputs
    stopped = f"Your lines stopped with {error}."
    if not model.seen:
        if error and mode != "RGB":
            what = {"L": "a grey file has one channel", "RGBA": "a transparent file has four"}[mode]
            return f"{stopped} It is no RGB photograph: {what}. Image.open(path).convert('RGB') gives three."
        return stopped if error else "The network was never asked."
    seen, training, grad = model.seen[-1]
    if seen.ndim != 4:
        return (
            f"The network wants a batch, (1, 3, height, width), and got {tuple(seen.shape)}: "
            "unsqueeze(0) makes a batch of one."
        )
    if seen.shape[1] != 3:
        return f"The network got {seen.shape[1]} channels, from a {mode} file: .convert('RGB') gives three."
    if training:
        return (
            "The network is in training mode: BatchNorm takes the mean of this one photograph, and the "
            "answer is worth nothing. model.eval() is missing."
        )
    if is_close(seen, bgr) and not is_close(seen, wanted):
        return "Red and blue are swapped: OpenCV reads BGR. Use Image.open(path).convert('RGB')."
    if not is_close(seen, wanted):
        return (
            "The photograph was prepared in another way than those of the training: hand it to `prepare`, "
            "which has the size, the mean and the standard deviation."
        )
    if error and "index" in error:
        return f"{stopped} The classes are along axis 1, so argmax(1) has one number per photograph."
    if error:
        return stopped
    if not isinstance(found, str):
        return f"A {type(found).__name__} came back. Return the name: classes[index]."
    if found not in COLOURS:
        return f"{found!r} is not one of the classes {COLOURS}."
    if found == COLOURS[0]:
        return (
            "Always the first class: along axis 0 photographs are compared, and there is only one. "
            "The classes are along axis 1."
        )
    if found != COLOURS[index]:
        return f"The network gives {COLOURS[index]!r} the largest logit, and you say {found!r}: argmax(1)."
    if grad:
        return "The answer is right, and all that a backward pass needs was kept for it: torch.no_grad()."
    return None
