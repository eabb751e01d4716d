"""Models to try surgery on, at the smallest size that they take, and what must hold at each of their cuts."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision
from torch import Tensor, nn

from tlutils import surgery
from tlutils.errors import LearnerError
from tlutils.inference import mirror, set_mode

SIZES = (64, 96, 128, 160, 192, 224, 256)
TORCHVISION = torchvision.models
# One member of each distinct torchvision architecture.
ARCHITECTURES = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnet50",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vit_b_32",
]
# timm families, each hard in its way: tokens, two branches, shared biases, in-place layers, odd heads.
FAMILIES = [
    "cait_xxs24_224",
    "coat_lite_tiny",
    "convit_tiny",
    "convmixer_768_32",
    "convnext_atto",
    "crossvit_tiny_240",
    "darknet21",
    "deit_tiny_distilled_patch16_224",
    "dla46_c",
    "edgenext_xx_small",
    "efficientformer_l1",
    "eva02_tiny_patch14_224",
    "ghostnet_050",
    "hiera_tiny_224",
    "hrnet_w18_small",
    "levit_128s",
    "mixer_s32_224",
    "mobilevit_xxs",
    "mobilenetv3_small_050",
    "mvitv2_tiny",
    "nf_regnet_b0",
    "pit_ti_224",
    "poolformer_s12",
    "pvt_v2_b0",
    "regnety_002",
    "repvit_m0_9",
    "resnet10t",
    "rexnetr_200",
    "selecsls42",
    "starnet_s1",
    "swin_tiny_patch4_window7_224",
    "tf_efficientnet_lite0",
    "tnt_s_legacy_patch16_224",
    "vit_tiny_patch16_224",
    "volo_d1_224",
    "xcit_nano_12_p16_224",
]

# For every run of the tests: networks that timm keeps small for tests, each hard in another way.
FEW = [
    "timm/test_coatnet",  # maps, then tokens
    "timm/test_convnext",  # LayerNorm on channels
    "timm/test_efficientnet",
    "timm/test_resnet",
    "timm/test_vit",
]


@dataclass(frozen=True)
class Entry:
    """A model by name, "torchvision/…" or "timm/…"; `build()` gives it and the side of its images."""

    name: str

    def build(self) -> tuple[nn.Module, int]:
        library, name = self.name.split("/")
        make = _torchvision if library == "torchvision" else _timm
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for side in SIZES:
                model = make(name, side)
                if model is not None and takes(model, side):
                    return model.eval(), side
            model = make(name, None)
        assert model is not None
        return model.eval(), getattr(model, "default_cfg", {}).get("input_size", (3, 299, 299))[-1]


ZOO = [Entry(f"torchvision/{n}") for n in ARCHITECTURES] + [Entry(f"timm/{n}") for n in FAMILIES]


def takes(model: nn.Module, side: int) -> bool:
    """Whether a model works in both modes on images of this side, tried without data."""
    try:
        with torch.no_grad(), mirror(model, meta=True) as trial:
            for mode in (True, False):
                set_mode(trial, mode)
                trial(torch.zeros(2, 3, side, side, device="meta"))
    except Exception:
        return False
    return True


def _torchvision(name: str, side: int | None) -> nn.Module | None:
    options: dict[str, object] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name.startswith("vit_") and side is not None:
        options["image_size"] = side
    try:
        return TORCHVISION.get_model(name, weights=None, **options)
    except Exception:
        return None


def _timm(name: str, side: int | None) -> nn.Module | None:
    if side is None:
        return timm.create_model(name)
    try:
        return timm.create_model(name, img_size=side)
    except TypeError:  # it takes any size, or only its own
        return timm.create_model(name)
    except Exception:
        return None


def check_cuts(model: nn.Module, side: int, *, most: int | None = None) -> int:
    """Assert at every stage that the halves are the model; return how many cuts there are.

    In evaluation mode; with the prefix on batches of 2 and 1 and the suffix on 3; in training mode with the
    same seed, the buffers included (of a model frozen up to there, where a cut asks for that); and with equal
    gradients for the stage in the middle. Of more than `most` cuts, so many are tried, evenly spaced. Above
    300 million parameters every fourth cut is tried, without gradients.
    """
    large = is_large(model)
    size = (3, side, side)
    images = torch.randn(3, *size, generator=torch.Generator().manual_seed(1))
    stages = surgery.stages(model, input_size=size)
    names = [n for n, _ in model.named_parameters()]
    assert sorted(p for s in stages for p in s.parameters) == sorted(names), "each parameter in one stage"
    assert sum(s.num_params for s in stages) == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        whole = model(images)
        trained, buffers = in_training(model, images, model)
        tried = stages[::4] if large else stages
        if most and len(tried) > most:
            tried = [tried[round(i * (len(tried) - 1) / (most - 1))] for i in range(most)]
        refused = False
        for stage in tried:
            prefix, suffix = surgery.split_at(model.eval(), stage, input_size=size)
            assert equal(suffix(prefix(images)), whole), f"{stage.name}: differs in evaluation"
            same = close(batched_anew(prefix, suffix, images), whole) or same_in_double(model, images, stage)
            assert same, f"{stage.name}: differs when batched anew"
            try:
                halves, own = in_training(model, images, nn.Sequential(prefix, suffix))
            except LearnerError:  # for good reason only if freezing helps
                check_cut_of_frozen(model, images, stage)
                refused = True
                continue
            assert equal(halves, trained), f"{stage.name}: differs in training"
            assert all(torch.equal(a, b) for a, b in zip(own, buffers, strict=True)), (
                f"{stage.name}: buffers differ"
            )
    model.eval()
    if not large and not refused:
        check_gradients(model, images, stages[len(stages) // 2])
    return len(stages) - 1


def is_large(model: nn.Module) -> bool:
    """Whether a model is too large to try everything on it."""
    return sum(p.numel() for p in model.parameters()) > 3e8


def check_cut_of_frozen(model: nn.Module, images: Tensor, stage: surgery.Stage) -> None:
    """Assert that what cannot be cut for training can be, and is the model, once it is frozen up to there."""
    frozen = surgery.freeze_to(copy.deepcopy(model), stage)
    halves = surgery.split_at(frozen, stage, input_size=tuple(images.shape[1:]))
    whole, buffers = in_training(frozen, images, frozen)
    out, own = in_training(frozen, images, nn.Sequential(*halves))
    assert equal(out, whole), f"{stage.name}: differs in training, frozen"
    assert all(torch.equal(a, b) for a, b in zip(own, buffers, strict=True)), f"{stage.name}: buffers differ"
    if not is_large(model):
        check_gradients(frozen, images, stage)


def batched_anew(prefix: nn.Module, suffix: nn.Module, images: Tensor) -> object:
    """Return the suffix's output on what the prefix gave for 2 images and for 1."""
    return suffix(joined(prefix(images[:2]), prefix(images[2:])))


def same_in_double(model: nn.Module, images: Tensor, stage: surgery.Stage) -> bool:
    """Whether batching anew changes nothing with twice the digits.

    Some deep networks with random weights blow the last digit up until nothing of the output is left.
    """
    model, images = copy.deepcopy(model).double(), images.double()
    prefix, suffix = surgery.split_at(model, stage.name, input_size=tuple(images.shape[1:]))
    return close(batched_anew(prefix, suffix, images), model(images))


def in_training(
    model: nn.Module, images: Tensor, run: nn.Module, *, backward: bool = False
) -> tuple[object, list[Tensor]]:
    """Return the output of `run` in training mode and the model's buffers after it; the model is put back."""
    before = [b.clone() for b in model.buffers()]
    run.train()
    torch.manual_seed(0)
    try:
        out = run(images)
        if backward:
            sum(t.square().sum() for t in flat(out)).backward()
        return out, [b.clone() for b in model.buffers()]
    finally:
        run.eval()
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)


@torch.enable_grad()
def check_gradients(model: nn.Module, images: Tensor, stage: surgery.Stage) -> None:
    """Assert that the suffix's gradients are the model's own, on the model's own tensors."""
    prefix, suffix = surgery.split_at(model, stage.name, input_size=tuple(images.shape[1:]))
    own = dict(model.named_parameters(remove_duplicate=False))
    assert all(own[name] is p for name, p in suffix.named_parameters()), (
        "the suffix has the model's own tensors"
    )
    grads = []
    for run in (model, nn.Sequential(prefix, suffix)):
        model.zero_grad()
        in_training(model, images, run, backward=True)
        grads.append({n: None if p.grad is None else p.grad.clone() for n, p in suffix.named_parameters()})
    model.zero_grad()
    for name, grad in grads[0].items():
        assert equal(grad, grads[1][name]), f"{name}: gradients differ"


def flat(value: object) -> list[Tensor]:
    """Return the tensors in an output."""
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value for t in flat(v)] if isinstance(value, tuple | list) else []


def equal(a: object, b: object) -> bool:
    """Whether two outputs are bit-identical (NaN equals NaN)."""
    pairs = list(zip(flat(a), flat(b), strict=True))
    return type(a) is type(b) and all(torch.allclose(x, y, rtol=0, atol=0, equal_nan=True) for x, y in pairs)


def close(a: object, b: object) -> bool:
    """Whether two outputs differ by rounding alone, which changes with the number of images."""
    pairs = list(zip(flat(a), flat(b), strict=True))
    return all((x - y).abs().max() <= 1e-3 * (1 + y.abs().max()) for x, y in pairs)


def joined(a: object, b: object) -> object:
    """Return two batches as one."""
    both = [torch.cat(pair) for pair in zip(flat(a), flat(b), strict=True)]
    return both[0] if isinstance(a, Tensor) else tuple(both)


def smallest_of_each_family() -> Iterator[str]:
    """Yield a small member of each of timm's model files: the listed one; of a new file, the first."""
    listed = dict(
        line.split() for line in Path(__file__).with_name("surgery_families.txt").read_text().splitlines()
    )
    for module in timm.list_modules():
        if names := timm.list_models(module=module):
            yield listed[module] if listed.get(module) in names else names[0]
