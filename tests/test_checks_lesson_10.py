"""The exercises of lesson 10: right answers pass, each mistake is named, none ends the lesson."""

import copy

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision import transforms

from tlutils.checks import lesson_10


def last_linear(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


def head_by_family(model, classes):
    if hasattr(model, "reset_classifier"):
        model.reset_classifier(classes)
    elif hasattr(model, "fc"):
        model.fc = nn.Linear(model.fc.in_features, classes)
    else:
        model.classifier[-1] = nn.Linear(model.classifier[-1].in_features, classes)
    return model


def head_by_search(model, classes):
    name = last_linear(model)
    model.set_submodule(name, nn.Linear(model.get_submodule(name).in_features, classes))
    return model


def head_with_dropout(model, classes):
    name = last_linear(model)
    new = nn.Sequential(nn.Dropout(0.2), nn.Linear(model.get_submodule(name).in_features, classes))
    model.set_submodule(name, new)
    return model


def head_by_label(model, classes):
    model.get_submodule(last_linear(model)).out_features = classes
    return model


def head_in_fc(model, classes):
    model.fc = nn.Linear(512, classes)
    return model


def head_behind_the_head(model, classes):
    return nn.Sequential(model, nn.Linear(1000, classes))


def whole_classifier_of_vgg(model, classes):
    if hasattr(model, "features"):
        model.classifier = nn.Linear(512 * 7 * 7, classes)
        return model
    return head_by_family(model, classes)


def whole_classifier_too_narrow(model, classes):
    if hasattr(model, "features"):
        model.classifier = nn.Linear(4096, classes)
        return model
    return head_by_family(model, classes)


def head_of_512(model, classes):
    model.set_submodule(last_linear(model), nn.Linear(512, classes))
    return model


def softmax_head(model, classes):
    model = head_by_family(model, classes)
    return nn.Sequential(model, nn.Softmax(1))


def two_classes_always(model, classes):
    return head_by_family(model, 2)


def another_network(model, classes):
    return timm.create_model("resnet18", num_classes=classes)


def head_alone(model, classes):
    return nn.Linear(model.fc.in_features, classes)


def changed_and_not_returned(model, classes):
    head_by_family(model, classes)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (None, "Not answered"),
        (changed_and_not_returned, "return the network"),
        (head_by_family, "Right"),
        (head_by_search, "Right"),
        (head_with_dropout, "Right"),
        (head_by_label, "a label that changes no weight"),
        (head_in_fc, "VGG: it still gives 1,000 logits"),
        (head_behind_the_head, "the old head is still in use"),
        (whole_classifier_of_vgg, "VGG: more than the head was replaced: classifier.0.weight"),
        (whole_classifier_too_narrow, "VGG: the new layer does not fit"),
        (head_of_512, "VGG: the new layer does not fit"),
        (softmax_head, "softmax at the end"),
        (two_classes_always, "give (2, 2); expected (2, 7)"),
        (another_network, "another network"),
        (head_alone, "without its network"),
        (lambda model, classes: model.fc.in_features, "a int came back"),
        (lambda model, classes: head_in_fc(model, model.classifier), "stopped with AttributeError"),
    ],
)
def test_a_new_head(function, said, capsys):
    lesson_10.check_replace_head(function)
    assert said in capsys.readouterr().out


def rest_of(model, head):
    """All modules that neither are the head, nor hold it, nor belong to it."""
    return [m for m in model.modules() if not set(m.modules()) & set(head.modules())]


def by_flag(model, head):
    model.requires_grad_(False)
    head.requires_grad_(True)
    return model


def frozen_by_their_own_train(model, head):
    for module in rest_of(by_flag(model, head), head):
        module.eval()
        module.train = lambda mode=True, module=module: module
    return model


def frozen_by_the_train_of_the_model(model, head):
    by_flag(model, head)

    def train(mode=True):
        model.training = mode
        for module in model.children():
            module.train(mode and module is head)
        return model

    model.train = train
    return model


def frozen_once(model, head):
    by_flag(model, head).eval()
    head.train()
    return model


def frozen_with_the_head(model, head):
    model.requires_grad_(False)
    return model


def frozen_convolutions(model, head):
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.requires_grad_(False)
    return model


def frozen_batchnorm_without_dropout(model, head):
    for module in by_flag(model, head).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return model


def averages_without_momentum(model, head):
    for module in by_flag(model, head).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
        elif isinstance(module, nn.Dropout) and module is not head[0]:
            module.p = 0.0
    return model


def never_in_training_mode(model, head):
    by_flag(model, head).eval()
    model.train = lambda mode=True: model
    return model


def hook_that_trains_the_head(model, head):
    def modes(module, inputs):
        module.eval()
        head.train()

    by_flag(model, head).register_forward_pre_hook(modes)
    return model


def train_without_mode(model, head):
    for module in rest_of(by_flag(model, head), head):
        module.train = lambda module=module: module
    model.block.train = lambda: model.block
    return model


def no_gradient_at_all(model, head):
    model.forward = torch.no_grad()(model.forward)
    return by_flag(model, head)


def without_batchnorm(model, head):
    model.norm = nn.Identity()
    return by_flag(model, head)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (None, "Not answered"),
        (lambda model, head: None, "Not answered"),
        (frozen_by_their_own_train, "Right"),
        (frozen_by_the_train_of_the_model, "Right"),
        (lambda model, head: model, "Nothing is frozen yet"),
        (by_flag, "running averages move"),
        (frozen_once, "running averages move"),
        (frozen_with_the_head, "The head is frozen, too"),
        (frozen_convolutions, "weights of BatchNorm moved"),
        (frozen_batchnorm_without_dropout, "Dropout of the frozen part"),
        (averages_without_momentum, "by its own mean"),
        (never_in_training_mode, "The head stays in eval mode"),
        (hook_that_trains_the_head, "In evaluation the head still drops"),
        (train_without_mode, "stops with TypeError"),
        (no_gradient_at_all, "stops with RuntimeError"),
        (without_batchnorm, "other features than before"),
    ],
)
def test_a_frozen_backbone(function, said, capsys):
    lesson_10.check_freeze_backbone(function)
    assert said in capsys.readouterr().out


def groups(rest, head, lr, head_lr):
    return [{"params": rest, "lr": lr}, {"params": head, "lr": head_lr}]


def by_identity(model, head, lr, head_lr):
    own = list(head.parameters())
    rest = [p for p in model.parameters() if all(p is not q for q in own)]
    return groups(rest, own, lr, head_lr)


def by_set_one_group_each(model, head, lr, head_lr):
    own = set(head.parameters())
    return [{"params": p, "lr": head_lr if p in own else lr} for p in model.parameters()]


def by_equality(model, head, lr, head_lr):
    own = list(head.parameters())
    return groups([p for p in model.parameters() if p not in own], own, lr, head_lr)


def by_name(model, head, lr, head_lr):
    named = dict(model.named_parameters())
    own = [p for name, p in named.items() if "fc" in name]
    return groups([p for name, p in named.items() if "fc" not in name], own, lr, head_lr)


def spent_generator(model, head, lr, head_lr):
    own = head.parameters()
    ids = {id(p) for p in own}
    return groups([p for p in model.parameters() if id(p) not in ids], own, lr, head_lr)


def weights_only(model, head, lr, head_lr):
    own = {id(head.weight)}
    weights = [p for name, p in model.named_parameters() if name.endswith("weight") and id(p) not in own]
    return groups(weights, [head.weight], lr, head_lr)


def misspelt(model, head, lr, head_lr):
    return [{"params": g["params"], "learning_rate": g["lr"]} for g in by_identity(model, head, lr, head_lr)]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (None, "Not answered"),
        (by_identity, "Right"),
        (by_set_one_group_each, "Right"),
        (by_equality, "stopped with RuntimeError"),
        (by_name, "fc1.weight is in the head's group"),
        (spent_generator, "A group is empty"),
        (weights_only, "in no group: biases"),
        (misspelt, "has no 'lr'"),
        (lambda m, h, lr, head_lr: groups(m.parameters(), h.parameters(), lr, head_lr), "in both groups"),
        (lambda m, h, lr, head_lr: by_identity(m, h, lr, head_lr)[1:], "Nothing but the head"),
        (lambda m, h, lr, head_lr: by_identity(m, h, lr, head_lr)[:1], "The head is in no group"),
        (lambda m, h, lr, head_lr: by_identity(m, h, head_lr, lr), "swapped"),
        (lambda m, h, lr, head_lr: by_identity(m, h, lr, lr), "same learning rate"),
        (lambda m, h, lr, head_lr: by_identity(m, h, lr / 10, head_lr), "neither lr nor head_lr"),
        (lambda m, h, lr, head_lr: by_identity(m, h, lr, head_lr) * 2, "in both groups"),
        (lambda m, h, lr, head_lr: torch.optim.SGD(by_identity(m, h, lr, head_lr)), "list of dicts"),
        (
            lambda m, h, lr, head_lr: [{"params": list(m.named_parameters()), "lr": lr}],
            "without their names",
        ),
    ],
)
def test_parameter_groups(function, said, capsys):
    lesson_10.check_parameter_groups(function)
    assert said in capsys.readouterr().out


def validate(model, loader):
    model.eval()
    with torch.no_grad():
        right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in loader)
    return right / len(loader.dataset)


def train(model, loader, optimizer, loss_of=F.cross_entropy, order="zero backward step", weight=len):
    """Train one epoch, with the steps in the given order; return the sum of losses times weights."""
    total = 0.0
    model.train()
    for images, labels in loader:
        loss = loss_of(model(images), labels)
        for step in order.split():
            {"zero": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}[step]()
        total += loss.item() * weight(labels)
    return total


def epoch(**how):
    def one_epoch(model, train_loader, val_loader, optimizer):
        return train(model, train_loader, optimizer, **how) / 20, validate(model, val_loader)

    return one_epoch


def written_differently(model, train_loader, val_loader, optimizer):
    model.train(True)
    losses, images = [], []
    for batch, labels in train_loader:
        for p in model.parameters():
            p.grad = None
        logits = model(batch).log_softmax(1)
        loss = F.nll_loss(logits, labels, reduction="sum")
        (loss / len(labels)).backward()
        optimizer.step()
        losses.append(loss.detach())
        images.append(len(labels))
    model.train(False)
    with torch.inference_mode():
        hits = torch.cat([model(batch).softmax(1).argmax(-1) == labels for batch, labels in val_loader])
    return torch.stack(losses).sum() / sum(images), hits.float().mean()


def eval_left_on(model, train_loader, val_loader, optimizer):
    total = 0.0
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    return total / 20, validate(model, val_loader)


def return_in_the_loop(model, train_loader, val_loader, optimizer):
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item(), validate(model, val_loader)


def last_loss(model, train_loader, val_loader, optimizer):
    train(model, list(train_loader)[:-1], optimizer)
    loss = train(model, list(train_loader)[-1:], optimizer, weight=lambda labels: 1)
    return loss, validate(model, val_loader)


def loss_with_its_graph(model, train_loader, val_loader, optimizer):
    model.train()
    total = 0.0
    for images, labels in train_loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss * len(labels)
    return total / 20, validate(model, val_loader)


def one_step_at_the_end(model, train_loader, val_loader, optimizer):
    loss = train(model, train_loader, optimizer, order="backward")
    optimizer.step()
    return loss / 20, validate(model, val_loader)


def scored(score):
    return lambda model, t, v, optimizer: (train(model, t, optimizer) / 20, score(model, v, optimizer))


def in_training_mode(model, loader, optimizer):
    with torch.no_grad():
        return sum((model(x).argmax(1) == y).sum().item() for x, y in loader) / 10


def with_gradient(model, loader, optimizer):
    model.eval()
    return sum((model(x).argmax(1) == y).sum().item() for x, y in loader) / 10


def by_learning(model, loader, optimizer):
    train(model, loader, optimizer)
    return validate(model, loader)


def by_batch(model, loader, optimizer):
    model.eval()
    with torch.no_grad():
        return np.mean([(model(x).argmax(1) == y).float().mean().item() for x, y in loader])


def last_batch(model, loader, optimizer):
    return validate(model, loader) * 0 + validate_last(model, loader)


def validate_last(model, loader):
    images, labels = list(loader)[-1]
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def first_batch_alone(model, loader, optimizer):
    images, labels = next(iter(loader))
    with torch.no_grad():
        return (model.eval()(images).argmax(1) == labels).float().mean().item()


def nothing_moves(model, train_loader, val_loader, optimizer):
    kept = copy.deepcopy(model.state_dict())
    loss = train(model, train_loader, optimizer)
    model.load_state_dict({name: tensor + 0.1 for name, tensor in kept.items()})
    return loss / 20, validate(model, val_loader)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (None, "Not answered"),
        (lambda *inputs: None, "Not answered"),
        (epoch(), "Right"),
        (epoch(order="backward step zero"), "Right"),
        (written_differently, "Right"),
        (epoch(order="backward step"), "earlier batches are still there"),
        (epoch(loss_of=lambda x, y: F.cross_entropy(x.softmax(1), y)), "A softmax before cross_entropy"),
        (epoch(loss_of=F.nll_loss), "nll_loss"),
        (epoch(order="zero step backward"), "step() comes before backward()"),
        (epoch(order="step zero backward"), "step() comes before backward()"),
        (epoch(order="backward zero step"), "between backward() and step()"),
        (epoch(order="zero backward"), "optimizer.step() is missing"),
        (epoch(order="zero step"), "loss.backward() is missing"),
        (eval_left_on, "trains in eval mode"),
        (return_in_the_loop, "on 1 of 3 batches"),
        (one_step_at_the_end, "makes 1 steps for 3 batches"),
        (nothing_moves, "not those of one plain epoch"),
        (last_loss, "loss of the last batch"),
        (loss_with_its_graph, "holds the graph"),
        (lambda *four: (epoch()(*four)[0] * 20, 0.5), "sum of the losses"),
        (lambda *four: epoch(weight=lambda labels: 20 / 3)(*four), "mean over batches"),
        (lambda *four: epoch(weight=lambda labels: 1)(*four), "a mean already"),
        (lambda *four: (epoch()(*four)[0] + 0.3, 0.5), "each as it came"),
        (lambda *four: epoch()(*four)[::-1], "swapped"),
        (lambda *four: epoch()(*four)[0], "two values"),
        (lambda m, t, v, o: (train(m, t, o) / 20, 0.5), "never runs the network on the validation"),
        (lambda m, t, v, o: (0.0, validate(m, v)), "never runs the network on the training"),
        (scored(in_training_mode), "validates in training mode"),
        (scored(with_gradient), "torch.no_grad()"),
        (scored(by_learning), "learns from the validation images"),
        (scored(by_batch), "batches' accuracies"),
        (scored(last_batch), "accuracy of the last batch"),
        (scored(first_batch_alone), "validates on 1 of 3"),
        (scored(lambda m, v, o: validate(m, v) * 100), "percent"),
        (scored(lambda m, v, o: validate(m, v) * 10), "how many are right"),
        (scored(lambda m, v, o: validate(m, v) * 0.9), "not the share"),
    ],
)
def test_one_epoch(function, said, capsys):
    lesson_10.check_epoch(function)
    assert said in capsys.readouterr().out


@torch.no_grad()
def predicted(model, classes, prepare, path):
    image = prepare(Image.open(path).convert("RGB")).unsqueeze(0)
    return classes[model.eval()(image).argmax(1)]


def predicted_differently(model, classes, prepare, path):
    model.train(False)
    with torch.inference_mode(), Image.open(path) as image:
        probabilities = model(torch.stack([prepare(image.convert("RGB"))])).softmax(-1)[0]
    return max(zip(probabilities.tolist(), classes, strict=True))[1]


def asked(images, answer=lambda logits, classes: classes[logits.argmax(1)], evaluate=True):
    """A prediction with one part exchanged."""

    @torch.no_grad()
    def predict(model, classes, prepare, path):
        model.train(not evaluate)
        return answer(model(images(path, prepare)), classes)

    return predict


def usual(path, prepare):
    return prepare(Image.open(path).convert("RGB"))[None]


def bgr(path, prepare):
    turned = np.ascontiguousarray(np.asarray(Image.open(path).convert("RGB"))[..., ::-1])
    return prepare(Image.fromarray(turned))[None]


def plain_tensor(path, prepare):
    resized = Image.open(path).convert("RGB").resize((16, 16))
    return transforms.functional.to_tensor(resized)[None]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (None, "Not answered"),
        (lambda *four: None, "Not answered"),
        (predicted, "Right"),
        (predicted_differently, "Right"),
        (asked(usual, evaluate=False), "in training mode"),
        (asked(lambda path, prepare: usual(path, prepare)[0]), "unsqueeze(0)"),
        (asked(plain_tensor), "prepared in another way"),
        (asked(bgr), "Red and blue are swapped"),
        (asked(lambda path, prepare: prepare(Image.open(path))[None]), "It is no RGB photograph"),
        (asked(usual, lambda logits, classes: classes[logits.argmax(0)]), "argmax(1)"),
        (asked(usual, lambda logits, classes: classes[logits.argmax(0)[0]]), "along axis 0"),
        (asked(usual, lambda logits, classes: classes[logits.softmax(0).argmax()]), "along axis 0"),
        (asked(usual, lambda logits, classes: logits.argmax(1).item()), "A int came back"),
        (asked(usual, lambda logits, classes: classes[logits.argsort(1)[0, 1]]), "and you say"),
        (asked(usual, lambda logits, classes: "purple"), "'purple' is not one"),
        (lambda model, classes, prepare, path: classes[2], "never asked"),
        (
            lambda model, classes, prepare, path: classes[model.eval()(usual(path, prepare)).argmax(1)],
            "torch.no_grad()",
        ),
        (asked(lambda path, prepare: Image.open(str(path) + ".jpg")), "stopped with FileNotFoundError"),
    ],
)
def test_a_prediction(function, said, capsys):
    lesson_10.check_predict(function)
    assert said in capsys.readouterr().out


def test_the_checks_leave_the_random_generator_alone():
    state = torch.get_rng_state()
    lesson_10.check_freeze_backbone(by_flag)
    lesson_10.check_epoch(epoch())
    assert torch.equal(state, torch.get_rng_state())
