"""Frozen means frozen in effect: nothing before the cut moves in training, and all behind it does."""

import copy
import io

import pytest
import timm
import torch
import torch.distributed as dist
import torchvision
from families import few
from surgery_zoo import ZOO
from torch import nn
from torch.nn import functional as F

from tlutils import models, surgery
from tlutils.errors import LearnerError

# With all the dropout that they take, so that what should be still would be seen to move.
DROPS = {"drop_rate": 0.3, "drop_path_rate": 0.3}
TIMM = {
    "test_resnet": DROPS,
    "test_efficientnet": DROPS,
    "test_convnext": DROPS,
    "test_vit": {**DROPS, "img_size": 32},
    "tf_efficientnet_lite0": DROPS,
    "vit_tiny_patch16_224": {**DROPS, "img_size": 32},
    "deit_tiny_distilled_patch16_224": {**DROPS, "img_size": 32},
    "swin_tiny_patch4_window7_224": {**DROPS, "img_size": 64},
    "convnext_atto": DROPS,
    "levit_128s": DROPS,
    "repvit_m0_9": {"drop_rate": 0.3},
}
SWEPT = ["resnet18", "mobilenet_v2", "densenet121", *(name for name in TIMM if not name.startswith("test_"))]
SWEPT += ["test_convnext", "test_efficientnet"]
MODELS = [name for name in TIMM if name not in SWEPT]
MODELS += [pytest.param(name, marks=pytest.mark.full) for name in ("googlenet", *SWEPT)]


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name in TIMM:
        return timm.create_model(name, num_classes=3, **TIMM[name])
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, num_classes=3, **options)


def images(name: str) -> torch.Tensor:
    side = 224 if name == "levit_128s" else TIMM.get(name, {}).get("img_size", 64)
    return torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Four stages with everything that moves: BatchNorm, dropout as a layer and as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.one = Block(3, 8)
        self.two = Block(8, 8)
        self.three = Block(8, 8)
        self.four = Block(8, 16)
        self.out = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.four(self.three(self.two(self.one(x)))).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, 2, 1)
        self.norm = nn.BatchNorm2d(after)
        self.drop = nn.Dropout(0.4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(self.drop(self.norm(self.conv(x)).relu()), 0.1, self.training)


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def stage_of(model: nn.Module, module: str) -> str:
    return next(s.name for s in surgery.stages(model) if module in s.modules)


X = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def train(model: nn.Module, x: torch.Tensor = X, *, steps: int = 2, optimizer=None) -> None:
    """Train as a careless student does: all parameters in the optimizer, momentum, strong weight decay."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), torch.arange(len(x)) % 3).backward()
        optimizer.step()


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def moved(before: dict[str, torch.Tensor], model: nn.Module) -> set[str]:
    return {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}


def parts(model: nn.Module, stage: str) -> tuple[set[str], set[str]]:
    """The names of all tensors before a stage, and of the parameters from it on."""
    every = surgery.stages(model)
    k = every.names.index(stage)
    before = {n for s in every[:k] for n in (*s.parameters, *s.buffers)}
    return before & set(model.state_dict()), {n for s in every[k:] for n in s.parameters}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_before_the_cut_moves_and_everything_behind_it_does(name):
    model, x = make(name), images(name)
    every = [s.name for s in surgery.stages(model)]
    for stage in (every[len(every) // 2], "head"):
        surgery.freeze_to(model, stage)
        frozen, trains = parts(model, stage)
        before = snapshot(model)
        train(model, x, steps=1)
        assert not moved(before, model) & frozen
        # ReLU may leave single tensors without gradient in so few steps; most must move.
        assert len(moved(before, model) & trains) > 0.8 * len(trains)
        assert surgery.frozen_to(model) == stage


@pytest.mark.full
@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_nothing_before_the_middle_moves_in_any_architecture(entry):
    model, side = entry.build()
    surgery.replace_head(models.describe(model, input_size=side), 3)
    every = surgery.stages(model).names
    stage = every[len(every) // 2]
    surgery.freeze_to(model, stage)
    assert not surgery.audit(model.train(), num_classes=3).findings
    frozen, trains = parts(model, stage)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # many branches begin with a factor of zero, which would let nothing through
        for p in model.parameters():
            p += 0.01 * torch.randn(p.shape, generator=generator)
    before = snapshot(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    out = model(torch.rand(2, 3, side, side, generator=generator))
    sum(t.square().sum() for t in (out if isinstance(out, tuple) else (out,))).backward()
    optimizer.step()
    assert not moved(before, model) & frozen
    pulled = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert pulled <= moved(before, model) & trains
    assert len(pulled) > 0.8 * len(trains)


@pytest.mark.parametrize("name", MODELS)
def test_the_frozen_part_gives_the_same_features_at_every_pass(name):
    """Dropout and drop path of the prefix are off, also in training mode."""
    model, x = make(name), images(name)
    stage = [s.name for s in surgery.stages(model)][-2]
    surgery.freeze_to(model, stage)
    prefix, _ = surgery.split_at(model, stage)
    model.train()
    prefix.train()
    with torch.no_grad():
        one, two = prefix(x), prefix(x)
    one, two = ((t,) if isinstance(t, torch.Tensor) else t for t in (one, two))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def through_pickle(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def through_state_dict(model: nn.Module) -> nn.Module:
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    return model


ROADS = {
    "as it is": lambda m: m,
    "train() called": lambda m: m.train(),
    "eval and back": lambda m: m.eval().train(),
    "parts set to train": lambda m: [part.train() for part in m.children()] and m,
    "deepcopy": copy.deepcopy,
    "copy of a copy": lambda m: copy.deepcopy(copy.deepcopy(m)),
    "saved and loaded": through_pickle,
    "state dict": through_state_dict,
    "double": lambda m: m.double().float(),
    "compiled": lambda m: torch.compile(m, backend="aot_eager"),
    "compiled without a backend": lambda m: torch.compile(m, backend="eager"),
}


# It compiles the backward pass, too, and takes longest; the one without a backend stays in every run.
LONG = pytest.param("compiled", marks=pytest.mark.full)


@pytest.mark.parametrize("road", [LONG if road == "compiled" else road for road in ROADS])
def test_frozen_stays_frozen_on_every_road(road):
    original = net()
    surgery.freeze_to(original, stage_of(original, "three"))
    model = ROADS[road](original)
    assert surgery.frozen_to(model) == surgery.frozen_to(original)
    inner = getattr(model, "_orig_mod", model)
    before = snapshot(inner)
    train(model)
    assert {k.split(".")[0] for k in moved(before, inner)} == {"three", "four", "out"}
    assert not {k.split(".")[0] for k in before if k not in moved(before, inner)} & {"three", "four", "out"}


def test_a_copy_is_frozen_by_itself():
    """Thawing the original does not thaw the copy, and the copy's modules follow the copy."""
    original = net()
    surgery.freeze_to(original, "head")
    twin = copy.deepcopy(original)
    surgery.unfreeze(original)
    twin.train()
    assert original.train().one.norm.training
    assert not twin.one.norm.training
    assert twin.one.train(True) is twin.one


def test_frozen_stays_frozen_under_ddp(tmp_path):
    model = net()
    surgery.freeze_to(model, stage_of(model, "three"))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        before = snapshot(model)
        train(wrapped)
        assert {k.split(".")[0] for k in moved(before, model)} == {"three", "four", "out"}
        assert surgery.frozen_to(wrapped) == surgery.frozen_to(model)
        with pytest.raises(LearnerError, match="wrap it again"):
            surgery.freeze_to(wrapped, "head")
    finally:
        dist.destroy_process_group()


def test_the_first_stage_freezes_nothing_and_head_all_but_the_head():
    model = net()
    names = surgery.stages(model).names
    before = snapshot(model)
    train(surgery.freeze_to(model, names[0]))
    assert moved(before, model) == set(before)
    before = snapshot(model)
    train(surgery.freeze_to(model, "head"))
    assert moved(before, model) == {"out.weight", "out.bias"}


@pytest.mark.parametrize("unfreeze", [surgery.unfreeze, lambda m: surgery.freeze_to(m, "all")])
def test_unfreezing_restores_normal_training(unfreeze):
    model, reference = net(), net()
    unfreeze(surgery.freeze_to(model, "head"))
    assert surgery.frozen_to(model) is None
    for each in (model, reference):
        torch.manual_seed(5)
        train(each)
    assert not moved(snapshot(reference), model)
    assert vars(model).keys() == vars(reference).keys()
    assert vars(model.one).keys() == vars(reference.one).keys()


@pytest.mark.parametrize(
    ("patterns", "trains"),
    [
        (["three"], {"three"}),
        (["t[wh]*"], {"two", "three"}),
        (["one.norm"], {"one.norm"}),
        (["two.norm.*"], {"two.norm"}),
        (["two.conv.weight"], {"two.conv.weight"}),
    ],
)
@pytest.mark.parametrize(
    "froze", [lambda m: surgery.freeze_to(m, "head"), lambda m: surgery.freeze(m, "*.*")]
)
def test_what_is_named_trains_again_and_nothing_else(froze, patterns, trains):
    model = net()
    froze(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    surgery.unfreeze(model, *patterns)
    before = snapshot(model)
    train(model)
    own = {k for k in before if any(f"{k}.".startswith(f"{name}.") for name in trains)}
    assert moved(before, model) == own | trained
    assert surgery.frozen_to(model) is None
    surgery.unfreeze(model)
    assert vars(model.one).keys() == vars(net().one).keys()
    assert all(p.requires_grad for p in model.parameters())


def test_modes_follow_the_model_when_thawed():
    model = net().eval()
    surgery.unfreeze(surgery.freeze_to(model, "head"))
    assert not any(m.training for m in model.modules())


def test_going_deeper_and_back_in_the_middle_of_training():
    model = net()
    every = surgery.stages(model).names
    for stage in [*reversed(every), *every]:
        surgery.freeze_to(model, stage)
        frozen, trains = parts(model, stage)
        before = snapshot(model)
        train(model)
        assert not moved(before, model) & frozen
        assert trains <= moved(before, model)


def test_a_gradient_from_before_the_freeze_does_not_move_the_frozen_part():
    """With momentum and old gradients around, zero_grad(set_to_none=False) would let weight decay go on."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    train(model, optimizer=optimizer)
    F.cross_entropy(model(X), torch.arange(8) % 3).backward()
    surgery.freeze_to(model, "head")
    before = snapshot(model)
    optimizer.zero_grad(set_to_none=False)
    F.cross_entropy(model(X), torch.arange(8) % 3).backward()
    optimizer.step()
    assert moved(before, model) == {"out.weight", "out.bias"}


def test_norms_of_the_frozen_part_train_when_asked_in_every_phase():
    """Weights, biases and statistics; the switch holds until it is set again."""
    model = net()
    third, fourth = stage_of(model, "three"), stage_of(model, "four")
    norms = {
        f"{b}.norm.{t}" for b in ("one", "two") for t in ("weight", "bias", "running_mean", "running_var")
    }
    for stage, options in ((fourth, {"train_frozen_norms": True}), (third, {})):
        surgery.freeze_to(model, stage, **options)
        before = snapshot(model)
        train(model)
        assert norms <= moved(before, model)
        assert not {f"{b}.conv.weight" for b in ("one", "two")} & moved(before, model)
    surgery.freeze_to(model, third, train_frozen_norms=False)
    before = snapshot(model)
    train(model)
    assert not {k for k in moved(before, model) if k.startswith(("one", "two"))}


def test_dropout_of_the_frozen_part_stays_on_when_asked():
    model = net()
    third = stage_of(model, "three")
    surgery.freeze_to(model, third, keep_dropout=True)
    model.train()
    assert not torch.equal(model.two(model.one(X)), model.two(model.one(X)))
    before = snapshot(model)
    train(model)
    assert not {k for k in moved(before, model) if k.startswith(("one", "two"))}


def test_one_dropout_layer_used_on_both_sides_is_off_and_the_audit_says_so():
    model = net()
    model.one.drop = model.two.drop = model.three.drop = model.four.drop
    third = stage_of(model, "three")
    surgery.freeze_to(model, third)
    model.train()
    assert torch.equal(model.two(model.one(X)), model.two(model.one(X)))
    assert "dropout-shared" in surgery.audit(model).codes
    surgery.freeze_to(model, third, keep_dropout=True)
    assert "dropout-shared" not in surgery.audit(model).codes
    assert model.train().four.drop.training


def test_freezing_everything_is_allowed_and_evaluation_works():
    model = net()
    surgery.freeze(model, "*")
    before = snapshot(model)
    with torch.no_grad():
        assert model.train()(X).shape == (8, 3)
    assert not moved(before, model)
    assert "nothing-trains" in surgery.audit(model).codes


def test_patterns_freeze_what_they_name():
    model = net()
    assert surgery.freeze(model, "one", "t*.conv.*", "out.bias") is model
    before = snapshot(model)
    train(model)
    still = {k for k in before if k not in moved(before, model)}
    assert still == {k for k in before if k.startswith("one.")} | {
        "two.conv.weight", "two.conv.bias", "three.conv.weight", "three.conv.bias", "out.bias"
    }  # fmt: skip
    assert surgery.frozen_to(model) is None


@pytest.mark.parametrize(
    "first",
    [
        lambda m: surgery.freeze(m, "one"),
        lambda m: surgery.freeze_to(m, stage_of(m, "two")),
        lambda m: surgery.freeze_batchnorm(m),
    ],
)
def test_what_was_frozen_stays_when_more_is_frozen_and_unfreeze_ends_it(first):
    model = net()
    first(model)
    kept, before = surgery.frozen_to(model), snapshot(model)
    train(model)
    still = set(before) - moved(before, model)
    surgery.freeze(model, "three.conv", "out.bias")
    before = snapshot(model)
    train(model)
    assert set(before) - moved(before, model) == still | {"three.conv.weight", "three.conv.bias", "out.bias"}
    assert surgery.frozen_to(model) == kept
    surgery.unfreeze(model)
    before = snapshot(model)
    train(model)
    assert moved(before, model) == set(before)


@pytest.mark.parametrize(
    "first",
    [lambda m: m, lambda m: surgery.freeze_to(m, stage_of(m, "two")), lambda m: surgery.freeze_batchnorm(m)],
)
def test_dropout_of_what_is_named_is_off_whatever_was_frozen_before(first):
    model = surgery.freeze(first(net()), "three").train()
    x = torch.rand(2, 8, 8, 8)
    assert torch.equal(model.three(x), model.three(x))
    assert model.four.drop.training


def test_a_pattern_that_matches_nothing_is_an_error_and_freezes_nothing():
    model = net()
    with pytest.raises(LearnerError, match="three"):
        surgery.freeze(model, "one", "tree")
    with pytest.raises(LearnerError, match="no pattern"):
        surgery.freeze(model)
    before = snapshot(model)
    train(model)
    assert moved(before, model) == set(before)


def test_an_unknown_stage_is_an_error_that_names_the_stages():
    with pytest.raises(LearnerError, match="head"):
        surgery.freeze_to(net(), "heads")


def test_a_weight_shared_across_the_cut_is_an_error_that_names_both():
    for share in (lambda weight: weight, lambda weight: nn.Parameter(weight.data)):
        model = net()
        model.three.conv.weight = share(model.two.conv.weight)
        with pytest.raises(LearnerError, match=r"two\.conv\.weight and three\.conv\.weight"):
            surgery.freeze_to(model, stage_of(model, "three"))
        surgery.freeze_to(model, stage_of(model, "four"))
        before = snapshot(model)
        train(model)
        assert not {k for k in moved(before, model) if k.startswith(("two", "three"))}


@pytest.mark.parametrize("name", few(["test_vit", "vit_tiny_patch16_224", "convnext_atto"], "test_vit"))
def test_gradient_checkpointing_behind_a_frozen_part_still_trains(name):
    model = make(name)
    model.set_grad_checkpointing(True)
    stage = [s.name for s in surgery.stages(model)][-3]
    surgery.freeze_to(model, stage)
    frozen, trains = parts(model, stage)
    before = snapshot(model)
    train(model, images(name))
    assert not moved(before, model) & frozen
    assert trains <= moved(before, model)


def test_memory_efficient_densenet_behind_a_frozen_part_still_trains():
    model = torchvision.models.DenseNet(4, (2, 2, 2, 2), 8, num_classes=3, memory_efficient=True)
    surgery.freeze_to(model, "stage3")
    before = snapshot(model)
    train(model, torch.rand(3, 3, 64, 64), steps=1)
    assert "features.denseblock4.denselayer1.conv1.weight" in moved(before, model)


def test_what_a_layer_kept_from_before_the_freeze_does_not_disturb_training():
    """LeViT keeps its attention biases in eval mode, with the graph that made them."""
    model, x = make("levit_128s").eval(), images("levit_128s")[:2]
    model(x)
    surgery.freeze_to(model, "head")
    before = snapshot(model)
    train(model, x)
    assert {k.split(".")[0] for k in moved(before, model)} == {"head", "head_dist"}


def test_the_forward_of_a_frozen_model_is_that_of_the_model_in_eval_mode():
    model = net().eval()
    expected = model(X)
    surgery.freeze_to(model, "head")
    assert torch.equal(model.train()(X), expected)


def test_the_whole_network_is_frozen_or_trained_as_all_and_cannot_be_cut_so():
    model = models.load("test_resnet", pretrained=False)
    surgery.freeze_to(model, "all")
    with pytest.raises(LearnerError, match=r"no part comes before it.*Expected one of stem, .*head"):
        surgery.split_at(model, "all")
