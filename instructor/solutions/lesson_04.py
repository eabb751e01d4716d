"""Worked solutions of lesson 04: run it, and each check says that it is right."""

import copy
from math import ceil, cos, pi

import torch
from torch import nn
from torch.nn import functional as F

from tlutils.checks import lesson_04


def freeze_batchnorm(network):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)
    return network


def groups_of(model, head, lr, head_lr):
    own = {id(p) for p in head.parameters()}
    pretrained = [p for p in model.parameters() if id(p) not in own]
    return [{"params": pretrained, "lr": lr}, {"params": list(head.parameters()), "lr": head_lr}]


def factor(step, steps, warmup=0.1):
    warm = round(warmup * steps)
    return (step + 1) / (warm + 1) if step < warm else (1 + cos(pi * (step - warm) / (steps - warm))) / 2


def my_loop(model, head, x, y, *, epochs, lr, head_lr, batch=8):
    optimizer = torch.optim.AdamW(groups_of(model, head, lr, head_lr), weight_decay=0)
    steps, losses = epochs * ceil(len(x) / batch), []
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, steps))
    for _ in range(epochs):
        freeze_batchnorm(model.train())
        for rows in torch.randperm(len(x)).split(batch):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return losses


def discriminative(layers, lr, decay, head_lr):
    *body, head = [layer for layer in layers if list(layer.parameters())]
    groups = [
        {"params": list(layer.parameters()), "lr": lr * decay ** (len(body) - 1 - k)}
        for k, layer in enumerate(body)
    ]
    return [*groups, {"params": list(head.parameters()), "lr": head_lr}]


def discriminative_backwards(layers, lr, decay, head_lr):
    groups = [{"params": layers[-1].parameters(), "lr": head_lr}]
    for layer in reversed(layers[:-1]):
        if sum(1 for _ in layer.parameters()):
            groups.append({"params": list(layer.parameters()), "lr": lr})
            lr *= decay
    return groups


def accumulate(model, optimizer, x, y, size):
    optimizer.zero_grad()
    for rows, labels in zip(x.split(size), y.split(size), strict=True):
        (F.cross_entropy(model(rows), labels) * len(rows) / len(x)).backward()
    optimizer.step()


def accumulate_by_sums(model, optimizer, x, y, size):
    for p in model.parameters():
        p.grad = None
    for begin in range(0, len(x), size):
        part = slice(begin, begin + size)
        (F.cross_entropy(model(x[part]), y[part], reduction="sum") / len(x)).backward()
    optimizer.step()


def range_test(model, x, y, rates):
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    losses = []
    for rate in rates:
        loss = F.cross_entropy(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return losses


def range_test_by_hand(model, x, y, rates):
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    losses = []
    for lr in rates:
        loss = F.cross_entropy(torch.func.functional_call(model, weights, (x,)), y)
        grads = torch.autograd.grad(loss, list(weights.values()))
        weights = {
            name: (p - lr * g).detach().requires_grad_()
            for (name, p), g in zip(weights.items(), grads, strict=True)
        }
        losses.append(loss.detach())
    return torch.stack(losses)


def class_weights(labels, classes):
    counts = torch.bincount(labels, minlength=classes)
    return len(labels) / ((counts > 0).sum() * counts.clamp(min=1))


def class_weights_one_by_one(labels, classes):
    counts = [int((labels == k).sum()) for k in range(classes)]
    present = sum(count > 0 for count in counts)
    return [len(labels) / (present * count) if count else 0.0 for count in counts]


lesson_04.check_loop(my_loop)
lesson_04.check_discriminative(discriminative)
lesson_04.check_discriminative(discriminative_backwards)
lesson_04.check_accumulate(accumulate)
lesson_04.check_accumulate(accumulate_by_sums)
lesson_04.check_range_test(range_test)
lesson_04.check_range_test(range_test_by_hand)
lesson_04.check_reading(1e-4)
lesson_04.check_class_weights(class_weights)
lesson_04.check_class_weights(class_weights_one_by_one)
