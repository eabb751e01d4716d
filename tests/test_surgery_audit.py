"""An audit names what would go wrong, for each famous mistake, and is silent about a model in order."""

import copy
import io

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchvision import transforms as T

from tlutils import data, models, surgery
from tlutils.errors import LearnerError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
        self.two = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.hush = nn.Dropout(0.5)
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.hush(self.three(self.two(self.one(x))).mean((2, 3))))


def net(stage: str | None = None) -> Net:
    torch.manual_seed(0)
    model = models.describe(Net(), input_size=(3, 32, 32), mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))
    if stage:
        surgery.freeze_to(model, stage)
    return model.train()


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(surgery.param_groups(model, 0.01, weight_decay=0.1))


X = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model.train()(X), torch.arange(8) % 3).backward()
    optimizer.step()


def find(found: surgery.Audit, code: str) -> surgery.Finding:
    assert code in found.codes, found
    return next(f for f in found if f.code == code)


@pytest.mark.parametrize("stage", [None, "stage1", "head"])
def test_a_model_in_order_has_no_findings(stage):
    model = net(stage)
    optimizer = adamw(model)
    for _ in range(2):
        found = surgery.audit(model, optimizer, num_classes=3, transform=data.transform_for(model))
        assert found.ok
        assert not found.findings, found
        step(model, optimizer)


@pytest.mark.parametrize(
    ("make", "name", "options"),
    [
        (timm.create_model, "test_resnet", {}),
        (timm.create_model, "test_vit", {"drop_path_rate": 0.2}),
        pytest.param(timm.create_model, "test_efficientnet", {"drop_path_rate": 0.2}, marks=pytest.mark.full),
        pytest.param(
            torchvision.models.get_model, "googlenet", {"init_weights": False}, marks=pytest.mark.full
        ),
        pytest.param(torchvision.models.get_model, "resnet18", {}, marks=pytest.mark.full),
        pytest.param(torchvision.models.get_model, "swin_t", {}, marks=pytest.mark.full),
        pytest.param(timm.create_model, "levit_128s", {}, marks=pytest.mark.full),
        pytest.param(
            timm.create_model, "vit_tiny_patch16_224", {"drop_path_rate": 0.2}, marks=pytest.mark.full
        ),
        pytest.param(
            timm.create_model, "tf_efficientnet_lite0", {"drop_path_rate": 0.2}, marks=pytest.mark.full
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_false_alarm_on_the_libraries_models(make, name, options):
    model = make(name, num_classes=3, **options)
    surgery.freeze_to(model, surgery.stages(model)[-3].name)
    found = surgery.audit(model.train(), adamw(model), num_classes=3, transform=data.transform_for(model))
    assert not found.findings, found


def test_an_audit_changes_nothing_but_the_note_of_fingerprints():
    model = net("head")
    model.three[1].eval()
    model.hush.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    flags = [p.requires_grad for p in model.parameters()]
    state = torch.get_rng_state()
    surgery.audit(model, num_classes=3, transform=data.transform_for(model))
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert modes == [m.training for m in model.modules()]
    assert flags == [p.requires_grad for p in model.parameters()]
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


# Each mistake: what is done to a model (and its optimizer), the code, and where it is found.


def bare_head(model):
    model.fc = nn.Linear(8, 5)


def batchnorm_left_alone(model):
    model.one.requires_grad_(False)
    model.one[3].p = 0.0


def batchnorm_in_eval_mode_once(model):
    batchnorm_left_alone(model)
    model.one.eval()


def dropout_left_alone(model):
    model.one.requires_grad_(False)


def flag_on_a_module(model):
    model.one.requires_grad = False


def misspelled_flag(model):
    for p in model.two.parameters():
        p.require_grad = False


def keras_habit(model):
    model.one.trainable = False


def all_frozen(model):
    model.requires_grad_(False)
    surgery.freeze(model, "*")


def thawed_by_hand(model):
    surgery.freeze_to(model, "head")
    model.two[0].weight.requires_grad = True


def hook_left(model):
    model.two.register_forward_hook(lambda *_: None)


def eval_mode(model):
    model.eval()


MISTAKES = {
    "bare_head": (bare_head, "never-used", "fc"),
    "batchnorm": (batchnorm_left_alone, "bn-drift", "one.1"),
    "batchnorm_in_eval_mode_once": (batchnorm_in_eval_mode_once, "bn-drift", "one.1"),
    "dropout": (dropout_left_alone, "dropout-active", "one.3"),
    "flag_on_a_module": (flag_on_a_module, "stray-flag", "one"),
    "misspelled_flag": (misspelled_flag, "stray-flag", "two.0.weight"),
    "keras_habit": (keras_habit, "stray-flag", "one"),
    "all_frozen": (all_frozen, "nothing-trains", "Net"),
    "thawed_by_hand": (thawed_by_hand, "not-frozen", "two.0.weight"),
    "hook_left": (hook_left, "hooks-left", "two"),
    "eval_mode": (eval_mode, "eval-mode", "Net"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_named_where_it_is(mistake):
    make, code, where = MISTAKES[mistake]
    model = net()
    make(model)
    finding = find(surgery.audit(model), code)
    assert where in finding.module
    assert finding.message
    assert finding.fix


def test_a_head_of_another_width():
    finding = find(surgery.audit(net(), num_classes=5), "head-width")
    assert finding.module == "out"
    assert finding.severity == "error"
    assert not surgery.audit(net(), num_classes=5).ok
    assert surgery.audit(surgery.replace_head(net(), 5), num_classes=5).ok
    assert "single-score" in surgery.audit(surgery.replace_head(net(), 1)).codes


@pytest.mark.parametrize("share", [lambda p: p, lambda p: nn.Parameter(p.data)], ids=["same", "same memory"])
def test_a_tied_weight_that_is_half_frozen(share):
    model = net()
    model.three[0].weight = share(model.two[0].weight)
    assert "tied-half-frozen" not in surgery.audit(model).codes
    model.two.requires_grad_(False)
    assert "two.0.weight = three.0.weight" in find(surgery.audit(model), "tied-half-frozen").module
    model.three.requires_grad_(False)
    assert "tied-half-frozen" not in surgery.audit(model).codes


def test_the_fix_of_a_drifting_batchnorm_works():
    model = net()
    batchnorm_left_alone(model)
    assert "bn-drift" in surgery.audit(model).codes
    surgery.freeze_to(model, surgery.stages(model)[1].name)
    assert "bn-drift" not in surgery.audit(model).codes


def test_norms_and_dropout_that_were_asked_to_live_are_no_finding():
    model = net()
    surgery.freeze_to(model, "head", train_frozen_norms=True, keep_dropout=True)
    assert not surgery.audit(model.train()).findings


def test_frozen_tensors_that_changed_since_the_last_audit():
    model = net("head")
    assert "frozen-changed" not in surgery.audit(model).codes
    with torch.no_grad():
        model.one[0].weight[0, 0, 0, 0] += 1e-6
    assert "one.0.weight" in find(surgery.audit(model), "frozen-changed").module
    assert "frozen-changed" not in surgery.audit(model).codes


@pytest.mark.parametrize("change", ["weight", "statistics"])
def test_the_first_audit_compares_with_the_moment_of_freezing_also_in_a_copy(change):
    model = copy.deepcopy(net("head"))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    model = torch.load(file, weights_only=False)
    with torch.no_grad():
        (model.two[0].weight if change == "weight" else model.two[1].running_mean).add_(0.5)
    assert "two." in find(surgery.audit(model), "frozen-changed").module


def test_a_hand_frozen_drift_is_seen_afterwards():
    """The weights of a frozen layer moved by an optimizer that was made too early, momentum and all."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    step(model, optimizer)
    model.two.requires_grad_(False)
    finding = find(surgery.audit(model, optimizer), "optimizer-moves-frozen")
    assert all(cause in finding.message for cause in ("momentum", "weight decay"))
    before = model.two[0].weight.clone()
    optimizer.zero_grad(set_to_none=False)
    F.cross_entropy(model(X), torch.arange(8) % 3).backward()
    optimizer.step()
    assert not torch.equal(before, model.two[0].weight)
    assert "two.0.weight" in find(surgery.audit(model, optimizer), "frozen-changed").module


def test_an_optimizer_that_only_holds_frozen_parameters_is_a_note():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    surgery.freeze_to(model, "head")
    found = surgery.audit(model, optimizer)
    assert found.ok
    assert find(found, "optimizer-holds-frozen").severity == "note"


def test_an_optimizer_made_before_the_head():
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    surgery.replace_head(model, 4)
    found = surgery.audit(model, optimizer)
    assert "out.weight" in find(found, "optimizer-lacks").module
    assert find(found, "optimizer-stranger").message.startswith("2 tensors")


def test_an_optimizer_that_holds_a_parameter_twice():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.param_groups.append({**optimizer.param_groups[0], "params": [model.out.bias]})
    assert find(surgery.audit(model, optimizer), "param-twice").module == "out.bias"


def test_eval_mode_is_a_warning_before_training_and_else_a_note():
    model = net().eval()
    assert find(surgery.audit(model), "eval-mode").severity == "note"
    assert find(surgery.audit(model, adamw(model)), "eval-mode").severity == "warning"


class Checkpointed(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.two, self.one(x), use_reentrant=True)
        return self.out(self.three(x).mean((2, 3)))


def test_reentrant_checkpointing_is_named():
    assert "reentrant-checkpoint" in surgery.audit(Checkpointed()).codes


NORMALISE = T.Normalize((0.4, 0.5, 0.6), (0.2, 0.2, 0.3))


@pytest.mark.parametrize(
    ("steps", "code", "words"),
    [
        ([T.Resize((32, 32)), T.ToTensor()], "input-normalise", "does not normalise"),
        ([T.Resize((32, 32)), T.PILToTensor(), T.ConvertImageDtype(torch.float32),
          T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))], "input-normalise", "0.485"),
        ([T.Resize((32, 32)), T.PILToTensor(), torch.Tensor.float], "input-normalise", "0 to 255"),
        ([T.Resize((64, 64)), T.ToTensor(), NORMALISE], "input-size", "64x64"),
        ([T.Resize((32, 32)), T.Grayscale(), T.ToTensor()], "input-channels", "1 channels"),
        ([T.Resize((32, 32))], "input-type", "Image"),
        ([T.Resize((32, 32)), T.PILToTensor()], "input-type", "float"),
        ([NORMALISE], "input-type", "failed"),
    ],
)  # fmt: skip
def test_a_transform_that_is_not_the_weights_own(steps, code, words):
    finding = find(surgery.audit(net(), transform=T.Compose(steps)), code)
    assert words in finding.message


@pytest.mark.parametrize("train", [False, True])
def test_the_weights_own_transform_is_in_order_however_it_is_written(train):
    model = net()
    own = T.Compose([T.RandomResizedCrop(32), T.RandomHorizontalFlip(), T.ToTensor(), NORMALISE])
    assert surgery.audit(model, transform=own).ok
    assert surgery.audit(model, transform=data.transform_for(model, train=train)).ok


def test_a_size_that_the_model_cannot_take_is_an_error():
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=3, depth=1)
    assert find(surgery.audit(vit, transform=data.transform_for(net())), "input-size").severity == "error"


def test_a_model_that_cannot_run_is_a_finding_and_the_rest_is_still_audited():
    model = net()
    model.two = nn.Conv2d(4, 4, 1)
    model.one.requires_grad = False
    codes = surgery.audit(model).codes
    assert {"not-tried", "stray-flag"} <= codes


def test_what_is_no_model_is_refused():
    with pytest.raises(LearnerError, match="Expected a model"):
        surgery.audit("resnet18")


def test_text_and_html_are_readable_and_stable():
    model = net()
    bare_head(model)
    text, html = str(surgery.audit(model)), surgery.audit(model)._repr_html_()
    assert text == str(surgery.audit(copy.deepcopy(model)))
    for words in ("never-used", "fc", "replace_head"):
        assert words in text
        assert words in html
    assert "0x" not in text + html
    assert "Nothing found" in str(surgery.audit(net()))
