"""Answers to the exercises of lesson 00: check -> (answer, word of what is said of it)."""

import torch
from torch import nn
from torch.nn import functional as F

from tlutils import models, surgery
from tlutils.checks import lesson_00

ANSWERS = {}


def head_size(answer):
    lesson_00.check_head_size(answer, features=1280, classes=10)


ANSWERS[head_size] = [
    (None, "Not answered"),
    (12_810, "Right"),
    (12_800, "bias for each class"),
    (1_290, "pair"),
    (14_080, "what comes out"),
    (12_801, "not one for all"),
    (7, "Draw the matrix"),
]


def frozen_before(freeze):
    model = models.load("resnet18", pretrained=False, num_classes=2, input_size=64)
    freeze(model)
    lesson_00.check_frozen_before_last_stage(model)


ANSWERS[frozen_before] = [
    (lambda model: None, "Nothing is frozen"),
    (lambda model: model.conv1.requires_grad_(False), "BatchNorm drifts"),
    (lambda model: surgery.freeze_to(model, "stage3"), "too little"),
    (lambda model: surgery.freeze_to(model, "head"), "too much"),
    (lambda model: model.requires_grad_(False), "nothing can learn"),
    (lambda model: surgery.freeze_to(model, "stage4"), "Right"),
]


def attribute(module):
    module.requires_grad = False
    return module.eval()


def attribute_alone(module):
    module.requires_grad = False


def one_by_one(module):
    for parameter in module.parameters():
        parameter.requires_grad = False
    module.eval()
    return module


def weights_alone(module):
    for layer in module:
        if hasattr(layer, "weight"):
            layer.weight.requires_grad_(False)
    return module.eval()


def zeroed(module):
    for parameter in module.parameters():
        nn.init.zeros_(parameter).requires_grad_(False)
    return module.eval()


ANSWERS[lesson_00.check_freeze] = [
    (None, "Not answered"),
    (lambda module: None, "Not answered"),
    (lambda module: module.requires_grad_(False).eval(), "Right"),
    (one_by_one, "Right"),
    (lambda module: module.requires_grad_(False), "still move"),
    (lambda module: module.eval(), "BatchNorm rests"),
    (attribute, "nothing reads"),
    (attribute_alone, "nothing reads"),
    (weights_alone, "biases"),
    (zeroed, "others now"),
    (lambda module: (module.requires_grad_(False).eval(), None)[1], "Return the module"),
    (lambda module: module.freeze(), "AttributeError"),
]


def printed_accuracy(logits, labels):
    _ = (logits.argmax(1) == labels).float().mean()


ANSWERS[lesson_00.check_accuracy] = [
    (None, "Not answered"),
    (lambda logits, labels: (logits.argmax(1) == labels).float().mean().item(), "Right"),
    (lambda logits, labels: float(sum(logits.argmax(1) == labels)) / len(labels), "Right"),
    (lambda logits, labels: (logits.argmax(1) == labels).sum(), "how many are right"),
    (lambda logits, labels: (logits.argmax(1) != labels).sum(), "how many are wrong"),
    (lambda logits, labels: (logits.argmax(1) != labels).float().mean(), "share of wrong"),
    (lambda logits, labels: 100 * (logits.argmax(1) == labels).float().mean(), "percent"),
    (lambda logits, labels: logits.argmax(1) == labels, "take the mean"),
    (lambda logits, labels: logits.argmax(1), "compare them"),
    (lambda logits, labels: logits.softmax(1).gather(1, labels[:, None]).mean(), "mean probability"),
    (lambda logits, labels: (logits.argmax(1) == labels).sum() / 4, "number of classes"),
    (lambda logits, labels: (logits.argmax(1) == labels).sum() / 32, "not always as many"),
    (printed_accuracy, "Nothing came back"),
    (lambda logits, labels: 0.123, "Not yet"),
    (lambda logits, labels: (logits.argmax(0) == labels).float().mean(), "other axis"),
    (lambda logits, labels: (logits == labels).float().mean(), "other axis"),
    (lambda logits, labels: (logits.max(1).values == labels).float().mean(), "argmax"),
    (F.cross_entropy, "a loss"),
]


def by_hand(
    sign=-1,
    zero=True,
    reduction="mean",
    after=False,
    item=True,
    frozen_too=False,
    rate=True,
    double=False,
    link=lambda z: z,
):
    def step(network, inputs, labels, lr):
        if zero:
            network.zero_grad()
        loss = F.cross_entropy(link(network(inputs)), labels, reduction=reduction)
        loss.backward()
        with torch.no_grad():
            for p in network.parameters():
                if p.grad is not None:
                    p += sign * (lr if rate else 1) * p.grad * (1 + 2 * double)
                elif frozen_too:
                    p -= lr
            if after:
                return F.cross_entropy(network(inputs), labels).item()
        return loss.item() if item else loss

    return step


def without_no_grad(network, inputs, labels, lr):
    loss = F.cross_entropy(network(inputs), labels)
    loss.backward()
    for p in network[2].parameters():
        p -= lr * p.grad
    return loss.item()


def every_gradient(network, inputs, labels, lr):
    loss = F.cross_entropy(network(inputs), labels)
    loss.backward()
    with torch.no_grad():
        for p in network.parameters():
            p -= lr * p.grad
    return loss.item()


def under_old_names(network, inputs, labels, lr):
    loss = F.cross_entropy(network(inputs), labels)
    loss.backward()
    with torch.no_grad():
        for p in network.parameters():
            if p.grad is not None:
                p = p - lr * p.grad
    return loss.item()


def sgd(network, inputs, labels, lr):
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    loss = F.cross_entropy(network(inputs), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def moves_and_returns_nothing(*inputs):
    by_hand()(*inputs)


ANSWERS[lesson_00.check_training_step] = [
    (None, "Not answered"),
    (by_hand(), "Right"),
    (sgd, "An optimizer"),
    (under_old_names, "in place"),
    (lambda network, inputs, labels, lr: F.cross_entropy(network(inputs), labels), "Nothing moved"),
    (by_hand(sign=1), "Up the loss"),
    (by_hand(zero=False), "step before"),
    (by_hand(reduction="sum"), "take the mean"),
    (by_hand(rate=False), "The rate is not in it"),
    (by_hand(double=True), "not where"),
    (by_hand(link=lambda logits: logits.softmax(1)), "softmax inside"),
    (by_hand(link=lambda logits: logits.log_softmax(1)), "Right"),
    (moves_and_returns_nothing, "Nothing came back"),
    (by_hand(frozen_too=True), "frozen layer moved"),
    (by_hand(item=False), "loss.item()"),
    (by_hand(after=True), "after the step"),
    (lambda *inputs: by_hand()(*inputs) + 1, "not that before"),
    (without_no_grad, "RuntimeError"),
    (every_gradient, "TypeError"),
]
