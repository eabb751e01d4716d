"""Answers to the exercises of lesson 04: check -> (answer, word of what is said of it)."""

import copy
from math import ceil, cos, pi

import torch
from torch import nn
from torch.nn import functional as F

from tlutils import metrics
from tlutils.checks import lesson_04

ANSWERS = {}


def hold(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)


def loop(
    order="loss zero backward step schedule",
    hold_in=lambda epoch: True,
    mode=lambda model: model.train(),
    draw=lambda n, epoch: torch.randperm(n),
    reduction="mean",
    labels=lambda y, rows: y[rows],
    note=lambda loss: loss.item(),
    logits=lambda z: z,
    whole=False,
    cut=None,
    early=False,
):
    """A loop that is right, or has a mistake; `order` says what happens for each batch, and when."""

    def run(model, head, x, y, *, epochs, lr, head_lr, batch=8):
        own = {id(p) for p in head.parameters()}
        body = [p for p in model.parameters() if id(p) not in own]
        groups = [{"params": body, "lr": lr}, {"params": list(head.parameters()), "lr": head_lr}]
        optimizer = torch.optim.AdamW(groups, weight_decay=0)
        steps, losses = epochs * ceil(len(x) / batch), []
        warm = round(0.1 * steps)

        def rise_and_fall(k):
            return (k + 1) / (warm + 1) if k < warm else (1 + cos(pi * (k - warm) / (steps - warm))) / 2

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rise_and_fall)
        for epoch in range(epochs):
            if early:
                hold(model)
            mode(model)
            if hold_in(epoch) and not early:
                hold(model)
            for rows in draw(len(x), epoch).split(len(x) if whole else batch)[:cut]:
                loss = F.cross_entropy(logits(model(x[rows])), labels(y, rows), reduction=reduction)
                for what in order.split():
                    if what == "zero":
                        optimizer.zero_grad()
                    elif what == "backward":
                        loss.backward()
                    elif what == "step":
                        optimizer.step()
                    elif what == "schedule":
                        schedule.step()
                losses.append(note(loss))
            if "schedule" not in order and "by epoch" in order:
                schedule.step()
        return losses

    return run


def fixed(n, epoch):
    return torch.randperm(n, generator=torch.Generator().manual_seed(3))


def drawn_again(n, epoch):
    return torch.randint(n, (n,))


ANSWERS[lesson_04.check_loop] = [
    (None, "Not answered"),
    (lambda model, head, x, y, **settings: [], "Not answered"),
    (loop(), "Right"),
    (loop(order="zero loss backward step schedule"), "Right"),
    (loop(order="loss backward step schedule zero"), "Right"),
    (loop(order="backward step schedule"), "zero_grad() before each"),
    (loop(order="zero step backward schedule"), "without a gradient"),
    (loop(order="step zero backward schedule"), "step() comes before"),
    (loop(order="backward zero step schedule"), "without a gradient"),
    (loop(order="zero backward schedule"), "Nothing moves"),
    (loop(order="zero step schedule"), "backward() is missing"),
    (loop(order="zero backward step"), "schedule.step() is missing"),
    (loop(order="zero backward step by epoch"), "counts epochs"),
    (loop(order="schedule zero backward step"), "a step ahead"),
    (loop(mode=lambda model: model.eval()), "evaluation mode"),
    (loop(mode=lambda model: None), "evaluation mode"),
    (loop(hold_in=lambda epoch: False), "freeze it after"),
    (loop(early=True), "freeze it after"),
    (loop(hold_in=lambda epoch: epoch == 0), "again in"),
    (loop(reduction="sum"), "a sum"),
    (loop(draw=lambda n, epoch: torch.arange(n)), "shuffle"),
    (loop(draw=fixed), "same order"),
    (loop(draw=drawn_again), "come twice"),
    (loop(labels=lambda y, rows: y[: len(rows)]), "same rows"),
    (loop(logits=lambda z: z.softmax(1)), "take logits"),
    (loop(whole=True), "batches"),
    (loop(cut=-1), "shorter"),
    (loop(note=lambda loss: loss), "loss.item()"),
    (loop(note=lambda loss: 0.0), "not those of the steps"),
    (lambda model, head, x, y, **settings: loop()(model, head, x, y, **settings)[-1], "a list"),
    (lambda model, head, x, y, **settings: loop()(model, head, x, y, **settings)[-3:], "3 losses"),
    (lambda model, head, x, y, **settings: model.fc(x), "AttributeError"),
]


ANSWERS[lesson_04.check_reading] = [
    (None, "Not answered"),
    ("1e-3", "without quotes"),
    (-1, "above 0"),
    (1e-4, "Right"),
    (2e-4, "Right"),
    (5e-5, "Right"),
    (1e-3, "lowest"),
    (3e-3, "shot up"),
    (0.1, "shot up"),
    (1e-6, "flat"),
]


def groups(rate, keep=lambda layers: [m for m in layers if list(m.parameters())]):
    """Groups whose rates are `rate(steps back from the layer before the head, lr, decay, head_lr)`."""

    def discriminative(layers, lr, decay, head_lr):
        *body, head = keep(layers)
        rates = [rate(len(body) - 1 - k, lr, decay, head_lr) for k in range(len(body))]
        return [{"params": list(m.parameters()), "lr": r} for m, r in zip(body, rates, strict=True)] + [
            {"params": list(head.parameters()), "lr": head_lr}
        ]

    return discriminative


def backwards(layers, lr, decay, head_lr):
    found = [{"params": layers[-1].parameters(), "lr": head_lr}]
    for layer in reversed(layers[:-1]):
        if sum(1 for _ in layer.parameters()):
            found.append({"params": list(layer.parameters()), "lr": lr})
            lr *= decay
    return found


def weights_alone(layers, lr, decay, head_lr):
    return [{"params": [m.weight], "lr": lr} for m in layers if hasattr(m, "weight")]


def twice(layers, lr, decay, head_lr):
    found = groups(lambda k, lr, decay, head_lr: lr * decay**k)(layers, lr, decay, head_lr)
    return [*found, found[0]]


def head_too(layers, lr, decay, head_lr):
    weighted = [m for m in layers if list(m.parameters())]
    return [{"params": m.parameters(), "lr": lr * decay**k} for k, m in enumerate(weighted)]


def counted_from_the_stem(layers, lr, decay, head_lr):
    found = [
        {"params": list(m.parameters()), "lr": lr * decay**k}
        for k, m in enumerate(layers[:-1])
        if list(m.parameters())
    ]
    return [*found, {"params": layers[-1].parameters(), "lr": head_lr}]


def head_at_lr(layers, lr, decay, head_lr):
    return backwards(layers, lr, decay, lr)


ANSWERS[lesson_04.check_discriminative] = [
    (None, "Not answered"),
    (groups(lambda k, lr, decay, head_lr: lr * decay**k), "Right"),
    (backwards, "Right"),
    (groups(lambda k, lr, decay, head_lr: head_lr), "one rate"),
    (groups(lambda k, lr, decay, head_lr: lr * decay ** (2 - k)), "wrong way round"),
    (groups(lambda k, lr, decay, head_lr: lr / decay**k), "do not divide"),
    (groups(lambda k, lr, decay, head_lr: lr * decay ** (k + (k > 0))), "ReLU"),
    (groups(lambda k, lr, decay, head_lr: lr * decay ** (k + 1)), "first step"),
    (head_at_lr, "head_lr"),
    (head_too, "And the head"),
    (groups(lambda k, lr, decay, head_lr: head_lr * decay ** (k + 1)), "start from head_lr"),
    (groups(lambda k, lr, decay, head_lr: lr * (decay * k if k else 1)), "power"),
    (counted_from_the_stem, "wrong way round: count from the head"),
    (groups(lambda k, lr, decay, head_lr: lr * decay ** (3 - k)), "wrong way round: count from the head"),
    (groups(lambda k, lr, decay, head_lr: lr * decay * k), "power"),
    (groups(lambda k, lr, decay, head_lr: lr * decay * (k + 1)), "power"),
    (groups(lambda k, lr, decay, head_lr: lr * decay * (2 - k)), "power"),
    (groups(lambda k, lr, decay, head_lr: lr * 0.123 ** (k + 1)), "Not yet"),
    (lambda *given: torch.optim.AdamW(backwards(*given)), "Return its groups"),
    (weights_alone, "in no group"),
    (twice, "does not take"),
    (lambda layers, lr, decay, head_lr: 3, "does not take"),
]


def parts(weigh=lambda n, size: n / 10, zero=True, zero_inside=False, step_inside=False, step=True, cut=None):
    def accumulate(model, optimizer, x, y, size):
        if zero:
            optimizer.zero_grad()
        for rows, labels in list(zip(x.split(size), y.split(size), strict=True))[:cut]:
            if zero_inside:
                optimizer.zero_grad()
            (F.cross_entropy(model(rows), labels) * weigh(len(rows), size)).backward()
            if step_inside:
                optimizer.step()
        if step and not step_inside:
            optimizer.step()

    return accumulate


def in_one_graph(model, optimizer, x, y, size, logits=lambda z: z):
    optimizer.zero_grad()
    loss = 0.0
    for rows, labels in zip(x.split(size), y.split(size), strict=True):
        loss = loss + F.cross_entropy(logits(model(rows)), labels) * len(rows) / len(x)
    loss.backward()
    optimizer.step()


def of_probabilities(model, optimizer, x, y, size):
    optimizer.zero_grad()
    for rows, labels in zip(x.split(size), y.split(size), strict=True):
        (F.cross_entropy(model(rows).softmax(1), labels) * len(rows) / len(x)).backward()
    optimizer.step()


def by_autograd(model, optimizer, x, y, size):
    weights, sums = list(model.parameters()), 0
    for rows, labels in zip(x.split(size), y.split(size), strict=True):
        loss = F.cross_entropy(model(rows), labels, reduction="sum") / len(x)
        sums = [a + b for a, b in zip(sums or [0] * 9, torch.autograd.grad(loss, weights), strict=False)]
    for p, grad in zip(weights, sums, strict=True):
        p.grad = grad
    optimizer.step()


def at_once(model, optimizer, x, y, size):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


ANSWERS[lesson_04.check_accumulate] = [
    (None, "Not answered"),
    (parts(), "Right"),
    (parts(weigh=lambda n, size: 1.0), "that is a sum"),
    (parts(weigh=lambda n, size: 1 / 3), "Each part counts a third"),
    (parts(weigh=lambda n, size: n), "divide by their number"),
    (parts(zero=False), "from before"),
    (parts(zero_inside=True), "Only the last part"),
    (parts(step_inside=True), "3 steps"),
    (parts(step=False), "Nothing moved"),
    (parts(cut=2), "Not every image"),
    (parts(weigh=lambda n, size: n / 17), "Not yet"),
    (at_once, "larger than"),
    (in_one_graph, "backward() in each part"),
    (of_probabilities, "takes logits"),
    (by_autograd, "Right"),
    (lambda model, optimizer, x, y, size: model.no_such_layer(x), "AttributeError"),
]


def range_test(
    lr_of=lambda rates, k: rates[k],
    after=False,
    fresh=False,
    zero=True,
    momentum=0,
    own=True,
    mode=lambda model: model,
    logits=lambda z: z,
    note=lambda loss: loss.item(),
):
    def test(model, x, y, rates):
        start = copy.deepcopy(model)
        model = mode(copy.deepcopy(model)) if own else model
        optimizer = torch.optim.SGD(model.parameters(), lr=1, momentum=momentum)
        losses = []
        for k in range(len(rates)):
            if fresh:
                model.load_state_dict(start.state_dict())
            loss = F.cross_entropy(logits(model(x)), y)
            if zero:
                optimizer.zero_grad()
            loss.backward()
            optimizer.param_groups[0]["lr"] = lr_of(rates, k)
            optimizer.step()
            losses.append(F.cross_entropy(model(x), y).item() if after else note(loss))
        return losses

    return test


ANSWERS[lesson_04.check_range_test] = [
    (None, "Not answered"),
    (range_test(), "Right"),
    (lambda model, x, y, rates: [F.cross_entropy(model(x), y) for _ in rates], "no step"),
    (range_test(fresh=True), "from the start again"),
    (range_test(after=True), "after each step"),
    (range_test(after=True, fresh=True), "that is a sweep"),
    (range_test(lr_of=lambda rates, k: rates[0]), "first rate"),
    (range_test(lr_of=lambda rates, k: rates[-1]), "last rate"),
    (range_test(lr_of=lambda rates, k: rates[-1 - k]), "reverse order"),
    (range_test(zero=False), "zero_grad"),
    (range_test(momentum=0.9), "Momentum"),
    (range_test(own=False), "holds the weights themselves"),
    (range_test(mode=lambda model: model.train()), "the mode that it came in"),
    (range_test(note=lambda loss: loss), "loss.item()"),
    (range_test(note=lambda loss: loss.detach()), "Right"),
    (range_test(logits=lambda z: z.softmax(1)), "takes logits"),
    (range_test(lr_of=lambda rates, k: rates[k] * 3), "Not yet"),
    (lambda model, x, y, rates: [1.0], "1 losses"),
    (lambda model, x, y, rates: "low", "Not yet"),
]


def of_counts(weigh):
    return lambda labels, classes: weigh(
        torch.bincount(labels, minlength=classes).float(), len(labels), classes
    )


ANSWERS[lesson_04.check_class_weights] = [
    (None, "Not answered"),
    (of_counts(lambda counts, n, c: n / (c * counts)), "inf"),
    (of_counts(lambda counts, n, c: n / (c * counts.clamp(min=1))), "20 images add up to 15"),
    (of_counts(lambda counts, n, c: n / ((counts > 0).sum() * counts)), "weight inf"),
    (of_counts(lambda counts, n, c: n / ((counts > 0).sum() * counts.clamp(min=1))), "Right"),
    (of_counts(lambda counts, n, c: n / ((counts > 0).sum() * counts.clamp(min=1)) * (counts > 0)), "Right"),
    (lambda labels, classes: metrics.balanced_weights(labels, classes), "Right"),
    (of_counts(lambda counts, n, c: counts), "number of images"),
    (of_counts(lambda counts, n, c: counts / n), "share"),
    (of_counts(lambda counts, n, c: counts**-0.5), "Square roots"),
    (of_counts(lambda counts, n, c: 1 - counts / n), "1 minus"),
    (of_counts(lambda counts, n, c: torch.ones(c)), "the same"),
    (of_counts(lambda counts, n, c: 1 / counts / (1 / counts).sum()), "add up to 1"),
    (of_counts(lambda counts, n, c: n / counts), "number of classes, too"),
    (of_counts(lambda counts, n, c: 1 / counts), "do not add up"),
    (of_counts(lambda counts, n, c: counts.max() - counts + 1), "Not yet"),
    (lambda labels, classes: len(labels) / (classes * torch.bincount(labels)), "four weights"),
    (lambda labels, classes: torch.ones(len(labels)), "not image"),
    (lambda labels, classes: "balanced", "Not yet"),
]
