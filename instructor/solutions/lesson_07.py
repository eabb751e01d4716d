"""Worked solutions of lesson 07: run it, and each check says that it is right."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tlutils.checks import lesson_07


def set_head(model, classes):
    name, old = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear)][-1]
    where, _, last = name.rpartition(".")
    setattr(model.get_submodule(where), last, nn.Linear(old.in_features, classes))
    return model


def front(accuracy, cost):
    points = {name: (accuracy[name], -cost[name]) for name in accuracy}
    return {
        name
        for name, own in points.items()
        if not any(p[0] >= own[0] and p[1] >= own[1] and p != own for p in points.values())
    }


def choose(scores, cost):
    best = max(scores, key=lambda name: np.mean(scores[name]))
    error = np.std(scores[best], ddof=1) / len(scores[best]) ** 0.5
    near = [name for name in scores if np.mean(scores[name]) >= np.mean(scores[best]) - error]
    return min(near, key=cost.get)


def shuffle_squares(image, grid, order):
    channels, height, width = image.shape
    h, w = height // grid, width // grid
    squares = image.reshape(channels, grid, h, grid, w).permute(1, 3, 0, 2, 4).reshape(-1, channels, h, w)
    return squares[order].reshape(grid, grid, channels, h, w).permute(2, 0, 3, 1, 4).reshape(image.shape)


def contrastive(a, b, temperature):
    logits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(a)))


def name_head(texts):
    rows = F.normalize(F.normalize(texts, dim=2).mean(1), dim=1)
    head = nn.Linear(texts.shape[2], len(texts), bias=False)
    head.load_state_dict({"weight": 100 * rows})
    return head


lesson_07.check_heads(set_head)
lesson_07.check_front(front)
lesson_07.check_choice(choose)
lesson_07.check_squares(shuffle_squares)
lesson_07.check_contrastive(contrastive)
lesson_07.check_named_head(name_head)
