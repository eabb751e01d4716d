"""Answers to the exercises of lesson 03: check -> (answer, word of what is said of it)."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tlutils import surgery
from tlutils.checks import lesson_03

ANSWERS = {}


def by_folds(pick=max, parts=4, shuffle=True, name=lambda cuts, score: max(cuts, key=score.get)):
    """A way to choose, right as it stands."""

    def choose_cut(cuts, labels, try_cut):
        order = np.random.default_rng(0).permutation(len(labels)) if shuffle else np.arange(len(labels))
        folds = np.array_split(order, parts)
        score = {
            cut: np.concatenate([try_cut(cut, np.setdiff1d(order, held), held) for held in folds]).mean()
            for cut in cuts
        }
        return name(cuts, score)

    return choose_cut


def leaking(cuts, labels, try_cut):
    rows = np.arange(len(labels))
    return max(cuts, key=lambda cut: try_cut(cut, rows, rows[::2]).mean())


def two_judges(cuts, labels, try_cut):
    return max(cuts, key=lambda cut: try_cut(cut, range(4, 36), [0, 39]).mean())


def by_one_split(cuts, labels, try_cut):
    rows = np.arange(len(labels))
    return max(cuts, key=lambda cut: try_cut(cut, rows[rows % 3 > 0], rows[rows % 3 == 0]).mean())


def exchanged(cuts, labels, try_cut):
    rows = np.arange(len(labels))
    score = {
        cut: sum(try_cut(cut, rows[rows % 3 == k], rows[rows % 3 != k]).sum() for k in range(3))
        for cut in cuts
    }
    return max(cuts, key=score.get)


def without_return(cuts, labels, try_cut):
    by_folds()(cuts, labels, try_cut)


def one_cut(cuts, labels, try_cut):
    try_cut(cuts[0], range(0, 40, 2), range(1, 40, 2))
    return "stage8"


def other_judges(cuts, labels, try_cut):
    rows = np.arange(40)
    return max(cuts, key=lambda cut: try_cut(cut, rows[::2], rows[1 : 19 + 2 * len(cut) : 2]).mean())


ANSWERS[lesson_03.check_choose_cut] = [
    (None, "Not answered"),
    (lambda cuts, labels, try_cut: None, "Not answered"),
    (by_folds(), "Right"),
    (leaking, "by heart"),
    (by_folds(shuffle=False, parts=2), "sorted by class"),
    (by_folds(shuffle=False, parts=3), "one class alone"),
    (by_folds(name=lambda cuts, score: max(reversed(cuts), key=score.get)), "more expensive"),
    (by_folds(name=lambda cuts, score: min(cuts, key=score.get)), "which way round"),
    (by_folds(name=lambda cuts, score: cuts.index(max(cuts, key=score.get))), "A int arrived"),
    (by_folds(name=lambda cuts, score: max(score.values())), "return the cut's name"),
    (by_folds(name=lambda cuts, score: cuts[-1]), "Not the cut"),
    (lambda cuts, labels, try_cut: "stage8", "Nothing was trained"),
    (two_judges, "2 of the 40 images judge"),
    (by_one_split, "14 of the 40 images judge"),
    (exchanged, "the larger part learns"),
    (without_return, "return it"),
    (one_cut, "Not every cut"),
    (other_judges, "different numbers"),
    (
        lambda cuts, labels, try_cut: max(cuts, key=lambda cut: len(try_cut(cut, range(40), []))),
        "Nobody judges",
    ),
    (lambda cuts, labels, try_cut: try_cut("stage9", [0], [1]), "KeyError"),
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.two(self.one(x)).mean((2, 3)))


def frozen_by_flag(part):
    part.requires_grad_(False)


def frozen_once(part):
    part.requires_grad_(False).eval()


def statistics_only(part):
    part.train = lambda mode=True: part
    part.eval()
    for module in part.modules():
        module.training = False


def batchnorm_alone(part):
    part.requires_grad_(False)
    for module in part.modules():
        if isinstance(module, nn.BatchNorm2d):
            statistics_only(module)


def by_a_subclass(part):
    part.requires_grad_(False)
    for module in part.modules():
        module.training = False
        kind = type(module)
        module.__class__ = type(kind.__name__, (kind,), {"train": lambda self, mode=True: self})


def frozen(part):
    part.requires_grad_(False)
    statistics_only(part)


def without_eval(part):
    part.requires_grad_(False)
    part.train = lambda mode=True: part


def with_a_train_that_gives_nothing(part):
    frozen(part)
    part.train = lambda mode=True: None


def replaced_before_eval(part):
    part.requires_grad_(False)
    part.train = lambda mode=True: part
    part.eval()


def replaced_in_children_before_eval(part):
    part.requires_grad_(False)
    for module in part:
        module.train = lambda mode=True, module=module: module
    part.eval()


def with_a_lambda_in_a_loop(part):
    part.requires_grad_(False).eval()
    for module in part.modules():
        module.train = lambda mode=True: module  # noqa: B023


def with_a_lambda_in_a_loop_over_children(part):
    part.requires_grad_(False).eval()
    for module in part.children():
        module.train = lambda mode=True: module  # noqa: B023


def with_children_that_stay(part):
    part.requires_grad_(False).eval()
    for module in part.children():
        module.train = lambda mode=True, module=module: module


def with_a_train_that_expects_self(part):
    def stay(self, mode=True):
        return self

    frozen(part)
    part.train = stay


def with_a_train_that_takes_nothing(part):
    frozen(part)
    part.train = lambda: None


ANSWERS[lesson_03.check_freeze] = [
    (lambda part: None, "Nothing is frozen"),
    (frozen_by_flag, "statistics drift"),
    (frozen_once, "after your freeze"),
    (without_eval, "before you replace train"),
    (replaced_before_eval, "before you replace train"),
    (replaced_in_children_before_eval, "before you replace train"),
    (with_a_lambda_in_a_loop, "a lambda made in a loop"),
    (with_a_lambda_in_a_loop_over_children, "a lambda made in a loop"),
    (with_children_that_stay, "Right"),
    (with_a_train_that_expects_self, "gets no self"),
    (statistics_only, "what about requires_grad"),
    (batchnorm_alone, "dropout still draws"),
    (lambda part: setattr(part[0].weight, "requires_grad", False), "weights of the part moved"),
    (lambda part: part[1].register_forward_pre_hook(lambda *_: None), "Nothing is frozen"),
    (with_a_train_that_gives_nothing, "return that module itself"),
    (with_a_train_that_takes_nothing, "stops with TypeError"),
    (frozen, "Right"),
    (by_a_subclass, "Right"),
]


def on_kept(
    mode=False,
    every=False,
    zero=True,
    more=0,
    both=False,
    early_end=False,
    momentum=0.0,
    kind=torch.optim.SGD,
    late_mode=None,
    grad=False,
    softmax=False,
    returns=True,
):
    def train_on_kept(early, late, images, labels, lr, steps):
        early.train(mode)
        with torch.set_grad_enabled(grad):
            kept = early(images)
        if late_mode is not None:
            late.train(late_mode)
        own = [*early.parameters(), *late.parameters()] if both else late.parameters()
        optimizer = kind(own, lr=lr, **({"momentum": momentum} if momentum else {}))
        for _ in range(steps + more):
            if every:
                kept = early(images)
            if zero:
                optimizer.zero_grad()
            logits = late(kept).softmax(1) if softmax else late(kept)
            F.cross_entropy(logits, labels).backward()
            optimizer.step()
            if early_end:
                return late
        return late if returns else None

    return train_on_kept


def by_detaching(early, late, images, labels, lr, steps):
    kept, optimizer = early.eval()(images).detach(), torch.optim.SGD(late.parameters(), lr=lr)
    for _ in range(steps):
        late.zero_grad()
        F.cross_entropy(late(kept), labels).backward()
        optimizer.step()
    return late


def giving_what_was_kept(early, *others):
    on_kept()(early, *others)
    return early(others[1])


ANSWERS[lesson_03.check_train_on_kept] = [
    (lambda *given: None, "Not answered"),
    (on_kept(), "Right"),
    (by_detaching, "Right"),
    (lambda early, late, *others: late, "never went through"),
    (on_kept(mode=True), "in training mode"),
    (on_kept(every=True), "ran 4 times"),
    (on_kept(grad=True), "no_grad(): else each"),
    (on_kept(softmax=True), "takes logits"),
    (on_kept(returns=False), "return it"),
    (lambda early, late, images, labels, lr, steps: late(labels), "RuntimeError"),
    (on_kept(grad=True, every=True, both=True), "ran 4 times"),
    (on_kept(zero=False), "add up"),
    (on_kept(early_end=True), "inside the loop"),
    (on_kept(more=-3), "did not move"),
    (on_kept(momentum=0.9), "no momentum"),
    (on_kept(kind=torch.optim.AdamW), "AdamW took the steps"),
    (on_kept(late_mode=True), "another mode than it came in"),
    (on_kept(late_mode=False), "another mode than it came in"),
    (giving_what_was_kept, "ran 2 times"),
    (lambda *given: [on_kept()(*given)], "A list came back"),
]


def renewed_optimizer(renew):
    """Train the head, unfreeze all, and let the answer renew the optimizer."""
    model = Net()
    surgery.freeze_to(model, "head")
    optimizer = torch.optim.AdamW(surgery.param_groups(model, 1e-3))
    F.cross_entropy(model.train()(torch.rand(4, 3, 32, 32)), torch.arange(4) % 3).backward()
    optimizer.step()
    surgery.freeze_to(model, surgery.stages(model).names[0])
    lesson_03.check_optimizer(model, renew(model, optimizer))


def with_the_unfrozen(model, optimizer):
    surgery.add_unfrozen(optimizer, model)
    return optimizer


def with_a_group_twice(model, optimizer):
    optimizer = with_the_unfrozen(model, optimizer)
    optimizer.param_groups.append(dict(optimizer.param_groups[0]))
    return optimizer


def with_what_stays_frozen(model, optimizer):
    surgery.freeze_to(model, surgery.stages(model).names[1])
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    optimizer.add_param_group({"params": [p for p in model.parameters() if id(p) not in known]})
    return optimizer


def with_another_part(model, optimizer):
    surgery.freeze_to(model, surgery.stages(model).names[1])
    optimizer.add_param_group({"params": list(model.one.parameters())})
    return optimizer


def with_half_of_a_part(model, optimizer):
    optimizer.add_param_group({"params": [*model.two.parameters(), model.one[0].weight]})
    return optimizer


def with_a_group_of_nothing(model, optimizer):
    named = {"params": [p for name, p in model.named_parameters() if "stage9" in name]}
    optimizer.add_param_group(named)
    return optimizer


ANSWERS[renewed_optimizer] = [
    (with_a_group_of_nothing, "group of the optimizer is empty"),
    (lambda model, optimizer: optimizer, "one.0.weight, one.0.bias and 6 more"),
    (with_another_part, "And it holds what stays frozen: one.0.weight"),
    (with_half_of_a_part, "never heard of one.0.bias, one.1.weight"),
    (lambda model, optimizer: torch.optim.AdamW(model.parameters()), "this optimizer is new"),
    (with_the_unfrozen, "Right"),
    (with_a_group_twice, "twice"),
    (with_what_stays_frozen, "frozen"),
]
