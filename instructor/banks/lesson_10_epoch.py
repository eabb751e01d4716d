"""Answers to the exercises of lesson 10: check -> (answer, word of what is said of it)."""

import copy

import numpy as np
import torch
from torch.nn import functional as F

from tlutils.checks import lesson_10

ANSWERS = {}


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


ANSWERS[lesson_10.check_epoch] = [
    (None, "Not answered"),
    (lambda *inputs: None, "Not answered"),
    (epoch(), "Right"),
    (epoch(order="backward step zero"), "Right"),
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
]
