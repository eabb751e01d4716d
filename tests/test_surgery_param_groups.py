"""Learning rates by stage: every trainable parameter once, slower towards the stem; optimizers keep up."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler as schedulers

from tlutils import surgery
from tlutils.errors import LearnerError

SWEPT = ["torchvision/resnet18", "torchvision/vit_b_32", "torchvision/swin_t", "timm/vit_tiny_patch16_224"]
SWEPT += ["timm/convnext_atto", "timm/levit_128s", "timm/test_efficientnet", "timm/tf_efficientnet_lite0"]
MODELS = ["timm/test_resnet", "timm/test_vit"]
MODELS += [pytest.param(name, marks=pytest.mark.full) for name in ("torchvision/googlenet", *SWEPT)]


def make(name: str) -> nn.Module:
    library, name = name.split("/")
    if library == "timm":
        return timm.create_model(name, num_classes=3)
    options = {"init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **options)


class Net(nn.Module):
    """Three stages with weights, a head, and no need for a big image."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.three(self.two(self.one(x))).mean((2, 3)))


def net() -> Net:
    torch.manual_seed(0)
    return Net()


X = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model.train()(X), torch.arange(8) % 3).backward()
    optimizer.step()


@pytest.mark.parametrize("name", MODELS)
def test_each_trainable_parameter_is_in_one_group_and_vectors_are_not_decayed(name):
    model = make(name)
    for cut in (0, -3):
        surgery.freeze_to(model, surgery.stages(model)[cut].name)
        groups = surgery.param_groups(model, 0.1, layer_decay=0.5, weight_decay=0.01)
        held = [id(p) for group in groups for p in group["params"]]
        assert len(held) == len(set(held))
        assert set(held) == {id(p) for p in model.parameters() if p.requires_grad}
        spared = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
        for key, p in model.named_parameters():
            special = any(word in key for word in ("pos_embed", "token", "position", "attention_biases"))
            assert (id(p) in spared) == (p.requires_grad and (special or p.squeeze().ndim < 2)), key


def test_each_stage_is_slower_than_the_next_by_the_decay():
    groups = surgery.param_groups(net(), 0.8, layer_decay=0.5)
    rates = {group["stage"]: group["lr"] for group in groups}
    assert list(rates.values()) == [0.1, 0.2, 0.4, 0.8]
    assert list(rates)[-1] == "head"
    assert all(group["lr"] == pytest.approx(0.8 * group["ratio"]) for group in groups)


def test_a_rate_does_not_depend_on_what_is_frozen():
    model = net()
    free = {g["stage"]: g["lr"] for g in surgery.param_groups(model, 1.0, layer_decay=0.3)}
    surgery.freeze_to(model, "head")
    assert {g["stage"]: g["lr"] for g in surgery.param_groups(model, 1.0, layer_decay=0.3)} == {
        "head": free["head"]
    }


def test_a_head_with_one_output_is_decayed():
    model = surgery.replace_head(net(), 1)
    decayed = [
        p
        for g in surgery.param_groups(model, 1.0, weight_decay=0.1)
        if g["weight_decay"]
        for p in g["params"]
    ]
    assert any(p is model.out.weight for p in decayed)


def test_tied_weights_are_in_one_group():
    model = net()
    model.three[0].weight = model.two[0].weight
    held = [id(p) for g in surgery.param_groups(model, 1.0) for p in g["params"]]
    assert held.count(id(model.two[0].weight)) == 1
    assert len(held) == len(set(held)) == len(list(model.parameters()))


def test_a_fully_frozen_model_has_no_groups():
    model = net()
    surgery.freeze(model, "*")
    with pytest.raises(LearnerError, match="unfreeze"):
        surgery.param_groups(model, 0.1)


@pytest.mark.parametrize(
    "options", [{"lr": 0}, {"lr": -1}, {"layer_decay": 0}, {"layer_decay": 1.5}, {"weight_decay": -1}]
)
def test_impossible_rates_are_refused(options):
    with pytest.raises(LearnerError, match="Expected lr above 0"):
        surgery.param_groups(net(), **{"lr": 0.1, **options})


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_unfrozen_parameters_enter_the_optimizer_once_and_the_rest_keeps_its_state(kind):
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    model = net()
    surgery.freeze_to(model, "head")
    optimizer = kind(surgery.param_groups(model, 0.1, layer_decay=0.5, weight_decay=0.01), **options)
    step(model, optimizer)
    state = {
        k: v.clone() for k, v in optimizer.state[model.out.weight].items() if isinstance(v, torch.Tensor)
    }
    third = surgery.stages(model)[-3].name
    surgery.freeze_to(model, third)
    assert "optimizer-lacks" in surgery.audit(model, optimizer).codes

    assert set(surgery.add_unfrozen(optimizer, model)) == {
        f"three.{i}.{t}" for i in (0, 1) for t in ("weight", "bias")
    }

    groups = len(optimizer.param_groups)
    assert surgery.add_unfrozen(optimizer, model) == []
    assert len(optimizer.param_groups) == groups
    assert not surgery.audit(model, optimizer).errors
    assert all(torch.equal(v, optimizer.state[model.out.weight][k]) for k, v in state.items())
    before = model.three[0].weight.clone()
    step(model, optimizer)
    assert not torch.equal(before, model.three[0].weight)
    rates = {g["stage"]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups if g["weight_decay"]}
    assert rates == {third: (pytest.approx(0.05), 0.01), "head": (0.1, 0.01)}


def test_a_foreign_optimizer_takes_new_parameters_too():
    model = net()
    surgery.freeze_to(model, "head")
    optimizer = torch.optim.SGD(model.out.parameters(), lr=0.2, momentum=0.9, nesterov=True)
    surgery.unfreeze(model)
    surgery.add_unfrozen(optimizer, model, layer_decay=0.5)
    assert sorted({g["lr"] for g in optimizer.param_groups}) == pytest.approx([0.025, 0.05, 0.1, 0.2])
    assert all(g["momentum"] == 0.9 and g["nesterov"] for g in optimizer.param_groups)
    assert not surgery.audit(model, optimizer).errors


SCHEDULERS = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda epoch: 0.9),
    "StepLR": lambda o: schedulers.StepLR(o, 2),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: schedulers.LinearLR(o, 0.1, total_iters=6),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, 12),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 12),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 5),
    "CyclicLR": lambda o: schedulers.CyclicLR(
        o, [g["lr"] * 0.1 for g in o.param_groups], [g["lr"] for g in o.param_groups], step_size_up=4
    ),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, [g["lr"] for g in o.param_groups], total_steps=12),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, patience=0),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, total_iters=4), schedulers.CosineAnnealingLR(o, 8)], milestones=[4]
    ),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, 0.5, 4), schedulers.ExponentialLR(o, 0.9)], optimizer=o
    ),
}


# Alike: one rate a group, multiplied or computed as another's is.
ALIKE = {"MultiplicativeLR", "StepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR"}
ALIKE |= {"CosineAnnealingWarmRestarts"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full) if name in ALIKE else name for name in SCHEDULERS]
)
def test_every_scheduler_goes_on_with_the_groups_added_in_proportion(name):
    """The head's rate is what it would have been, and each new group keeps its ratio to it at every step."""

    def rates(deeper: bool) -> list[dict[str, float]]:
        model = net()
        surgery.freeze_to(model, "head")
        optimizer = torch.optim.SGD(surgery.param_groups(model, 0.4, layer_decay=0.5), momentum=0.9)
        scheduler = SCHEDULERS[name](optimizer)
        seen = []
        for epoch in range(8):
            if deeper and epoch in (2, 4):
                surgery.freeze_to(model, surgery.stages(model)[-3 if epoch == 2 else 0].name)
                surgery.add_unfrozen(optimizer, model, scheduler=scheduler)
            step(model, optimizer)
            scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
            assert len(scheduler.get_last_lr()) == len(optimizer.param_groups)
            seen.append({g["stage"]: g["lr"] for g in optimizer.param_groups})
        return seen

    alone, staged = rates(False), rates(True)
    assert [r["head"] for r in staged] == pytest.approx([r["head"] for r in alone])
    for found in staged[4:]:
        assert sorted(found.values()) == pytest.approx([found["head"] * r for r in (0.125, 0.25, 0.5, 1)])
