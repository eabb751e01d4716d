"""What lesson 03 leans on: its pictures draw the data they get, its checks name the mistake they see."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tlutils import surgery
from tlutils.checks import lesson_03


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


@pytest.mark.parametrize(
    ("freeze", "said"),
    [
        (lambda part: None, "Nothing is frozen"),
        (frozen_by_flag, "statistics drift"),
        (frozen_once, "undoes eval"),
        (statistics_only, "what about requires_grad"),
        (batchnorm_alone, "dropout still draws"),
        (lambda part: setattr(part[0].weight, "requires_grad", False), "weights of the part moved"),
        (lambda part: part[1].register_forward_pre_hook(lambda *_: None), "Nothing is frozen"),
        (frozen, "Right"),
        (by_a_subclass, "Right"),
    ],
)
def test_a_freezing_function_is_judged_by_its_effect(freeze, said, capsys):
    lesson_03.check_freeze(freeze)
    assert said in capsys.readouterr().out


def test_the_check_of_freezing_leaves_the_generators_alone():
    state = torch.get_rng_state()
    lesson_03.check_freeze(frozen)
    assert torch.equal(state, torch.get_rng_state())


def test_counting_what_trains_names_the_usual_slips(capsys):
    stages = surgery.stages(Net())
    sizes = [s.num_params for s in stages]
    cut, k = stages.names[1], 1
    answers = {
        None: "Not answered",
        sum(sizes[k:]): "Right",
        sum(sizes[:k]): "what is frozen",
        sum(sizes[k + 1 :]): "froze the stage itself",
        sum(sizes): "whole network",
        -1: "Not yet",
    }
    for answer, said in answers.items():
        lesson_03.check_trainable_parameters(answer, stages, cut)
        assert said in capsys.readouterr().out


def test_an_optimizer_is_judged_by_what_it_moves_and_what_it_remembers(capsys):
    model = Net()
    surgery.freeze_to(model, "head")
    optimizer = torch.optim.AdamW(surgery.param_groups(model, 1e-3))
    F.cross_entropy(model.train()(torch.rand(4, 3, 32, 32)), torch.arange(4) % 3).backward()
    optimizer.step()
    surgery.freeze_to(model, surgery.stages(model).names[0])
    lesson_03.check_optimizer(model, optimizer)
    assert "never heard of" in capsys.readouterr().out
    lesson_03.check_optimizer(model, torch.optim.AdamW(model.parameters()))
    assert "this optimizer is new" in capsys.readouterr().out
    surgery.add_unfrozen(optimizer, model)
    lesson_03.check_optimizer(model, optimizer)
    assert "Right" in capsys.readouterr().out
    optimizer.param_groups.append(dict(optimizer.param_groups[0]))
    lesson_03.check_optimizer(model, optimizer)
    assert "twice" in capsys.readouterr().out
