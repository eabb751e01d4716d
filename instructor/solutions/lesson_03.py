"""Worked solutions of lesson 03: run it, and each check says that it is right."""

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from torch.nn import functional as F

from tlutils import models, surgery
from tlutils.checks import lesson_03

model = models.load("resnet18", pretrained=False, num_classes=3, input_size=64)


def train_on_kept(early, late, images, labels, lr, steps):
    early.eval()
    with torch.no_grad():
        kept = early(images)
    optimizer = torch.optim.SGD(late.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(late(kept), labels).backward()
        optimizer.step()
    return late


lesson_03.check_train_on_kept(train_on_kept)


def freeze(part):
    part.requires_grad_(False)
    for module in part.modules():  # eval mode, which no later train() ends
        module.training = False
    part.train = lambda mode=True: part


def freeze_by_a_subclass(part):
    part.requires_grad_(False)
    for module in part.modules():
        module.training = False
        kind = type(module)
        module.__class__ = type(kind.__name__, (kind,), {"train": lambda self, mode=True: self})


lesson_03.check_freeze(freeze)
lesson_03.check_freeze(freeze_by_a_subclass)

surgery.freeze_to(model, "head")
optimizer = torch.optim.AdamW(surgery.param_groups(model, 1e-3))
model.train()(torch.rand(4, 3, 64, 64)).sum().backward()
optimizer.step()
surgery.freeze_to(model, "stage3")
surgery.add_unfrozen(optimizer, model)  # keeps what the optimizer remembers of the head
lesson_03.check_optimizer(model, optimizer)


def choose_cut(cuts, labels, try_cut):
    order = np.random.default_rng(0).permutation(len(labels))
    folds = np.array_split(order, 4)
    score = {
        cut: np.concatenate([try_cut(cut, np.setdiff1d(order, held), held) for held in folds]).mean()
        for cut in cuts
    }
    return max(cuts, key=score.get)


def choose_cut_by_stratified_folds(cuts, labels, try_cut):
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels))
    return max(cuts, key=lambda cut: sum(try_cut(cut, learn, held).sum() for learn, held in folds))


def choose_cut_by_halves(cuts, labels, try_cut):
    even, odd = np.arange(0, len(labels), 2), np.arange(1, len(labels), 2)
    return max(cuts, key=lambda cut: try_cut(cut, even, odd).mean() + try_cut(cut, odd, even).mean())


lesson_03.check_choose_cut(choose_cut)
lesson_03.check_choose_cut(choose_cut_by_stratified_folds)
lesson_03.check_choose_cut(choose_cut_by_halves)
