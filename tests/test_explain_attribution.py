"""Attributions: derived by hand on toys, the same in any spelling and state, and without a trace."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from explain_toys import SPELLINGS, Linear, Net, images, unchanged
from families import few
from torch import nn
from torch.utils.checkpoint import checkpoint

from tlutils import explain, models
from tlutils.errors import LearnerError

NAMES = (
    "occlusion", "saliency", "smoothgrad", "guided_backprop", "deconvnet", "integrated_gradients", "cam",
    "grad_cam",
)  # fmt: skip
QUICK = {
    "smoothgrad": {"samples": 3},
    "integrated_gradients": {"steps": 5},
    "occlusion": {"window": 8, "stride": 8},
}


def run(name, model, x, target=None, **options):
    return getattr(explain, name)(model, x, target, **(QUICK.get(name, {}) | options))


# --- Derived by hand ---


def test_on_a_linear_model_every_gradient_is_the_weight():
    model, x = Linear().double(), images(2, 8, dtype=torch.float64)
    weight = model.weight_of(1)
    strongest = weight.abs().amax(0).expand(2, 8, 8)
    torch.testing.assert_close(explain.saliency(model, x, 1), strongest)
    torch.testing.assert_close(explain.smoothgrad(model, x, 1, samples=4), strongest)
    contribution = (weight * x).sum(1)
    torch.testing.assert_close(explain.integrated_gradients(model, x, 1, steps=3), contribution)
    torch.testing.assert_close(explain.occlusion(model, x, 1, window=1, stride=1), contribution)


def test_occlusion_is_the_mean_fall_over_the_squares_that_cover_a_pixel():
    model, x = Linear(side=6, classes=2).double(), images(1, 6, dtype=torch.float64)
    total, times = torch.zeros(6, 6, dtype=torch.float64), torch.zeros(6, 6, dtype=torch.float64)
    with torch.no_grad():
        for top in (0, 2, 4):  # the last squares are cut at the border
            for left in (0, 2, 4):
                covered = x.clone()
                covered[0, :, top : top + 3, left : left + 3] = 0.7
                total[top : top + 3, left : left + 3] += (model(x) - model(covered))[0, 0]
                times[top : top + 3, left : left + 3] += 1
    found = explain.occlusion(model, x, 0, window=3, stride=2, baseline=0.7)
    torch.testing.assert_close(found[0], total / times)


class OneByOne(nn.Module):
    """score = 2·relu(x_r) − 3·relu(x_g) − relu(relu6(5·x_b)): small enough for a pencil."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Linear(1, 1)

    def forward(self, x):
        r, g, b = x[:, 0, 0, 0], x[:, 1, 0, 0], x[:, 2, 0, 0]
        return (2 * F.relu(r) - 3 * F.relu(g) + F.relu6(5 * b))[:, None]


@pytest.mark.parametrize(
    ("pixel", "guided", "deconv"),
    [
        # The gradient that reaches the three ReLUs from above is (2, −3, 1).
        ((1.0, 1.0, 1.0), (2.0, 0.0, 5.0), (2.0, 0.0, 5.0)),  # all open: the negative −3 is stopped by both
        ((-1.0, 1.0, -1.0), (0.0, 0.0, 0.0), (2.0, 0.0, 5.0)),  # closed ReLUs stop guided backprop alone
        ((1.0, -1.0, 2.0), (2.0, 0.0, 0.0), (2.0, 0.0, 0.0)),  # 5·2 is beyond 6, where ReLU6 is flat
    ],
)
def test_guided_and_deconvnet_rules_by_hand(pixel, guided, deconv):
    x = torch.tensor(pixel).view(1, 3, 1, 1)
    got = explain.guided_backprop(OneByOne(), x, 0, per_channel=True).flatten()
    assert got.tolist() == list(guided)
    assert explain.deconvnet(OneByOne(), x, 0, per_channel=True).flatten().tolist() == list(deconv)


def test_integrated_gradients_sum_to_the_change_of_the_score():
    model, x = Net().double().eval(), images(3, dtype=torch.float64)
    maps = explain.integrated_gradients(model, x, 2, baseline=-0.5, steps=400)
    with torch.no_grad():
        change = model(x)[:, 2] - model(torch.full_like(x, -0.5))[:, 2]
    torch.testing.assert_close(maps.sum((1, 2)), change, rtol=1e-3, atol=1e-4)


def test_cam_averages_to_the_score_and_is_grad_cam_before_its_relu():
    model, x = Net().double().eval(), images(dtype=torch.float64, side=16)
    with torch.no_grad():
        features = F.relu(model.conv2(F.relu(model.bn1(model.conv1(x)))))  # (N, 12, 8, 8)
        by_hand = torch.einsum("k,nkhw->nhw", model.fc.weight[3], features)
    at_image_size = F.interpolate(by_hand[:, None], (16, 16), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(explain.cam(model, x, 3), at_image_size)
    relu = F.interpolate(by_hand.relu()[:, None] / 64, (16, 16), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(explain.grad_cam(model, x, 3), relu)


def features(width=6):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, width, 3, 2, 1), nn.BatchNorm2d(width)
    )


def behind_the_pool(head):
    return nn.Sequential(features(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), head, nn.Flatten())


def before_the_pool(head):
    return nn.Sequential(features(), nn.ReLU(), head, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def of_timm():
    from timm.layers import BatchNormAct2d
    from timm.models.resnetv2 import ResNetV2

    return ResNetV2((1, 1), (16, 24), stem_chs=8, num_classes=5, norm_layer=BatchNormAct2d)


class AverageOfScores(nn.Module):
    """A linear layer at each position of maps (N, h, w, C), and then the average."""

    def __init__(self):
        super().__init__()
        self.features, self.fc = features(), nn.Linear(6, 5)

    def forward(self, x):
        return self.fc(self.features(x).relu().movedim(1, 3)).mean((1, 2))


SCORED_BY_MAPS = {
    "timm's 1×1 convolution": (of_timm, lambda m, x: m.forward_features(x), "head.fc"),
    "convolution behind the pool": (lambda: behind_the_pool(nn.Conv2d(6, 5, 1)), lambda m, x: m[:2](x), "3"),
    "convolution before the pool": (lambda: before_the_pool(nn.Conv2d(6, 5, 1)), lambda m, x: m[:2](x), "2"),
    "without bias": (lambda: before_the_pool(nn.Conv2d(6, 5, 1, bias=False)), lambda m, x: m[:2](x), "2"),
    "linear at each position": (AverageOfScores, lambda m, x: m.features(x).relu(), "fc"),
}


@pytest.mark.parametrize(("build", "maps", "head"), SCORED_BY_MAPS.values(), ids=list(SCORED_BY_MAPS))
def test_cam_is_weights_times_maps_whichever_layer_makes_the_scores(build, maps, head):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = build().double().eval(), images(side=32, dtype=torch.float64)
        layer = model.get_submodule(head)
        for own in (layer.weight, *([] if layer.bias is None else [layer.bias])):
            nn.init.normal_(own)  # timm begins with a head of zeros
    found = explain.cam(model, x, [3, 1])
    with torch.no_grad():
        weight, values = layer.weight.flatten(1)[[3, 1]], maps(model, x)
        by_hand = torch.einsum("nk,nkhw->nhw", weight, values)
        score = model(x)[[0, 1], [3, 1]] - (0 if layer.bias is None else layer.bias[[3, 1]])
    upsampled = F.interpolate(by_hand[:, None], (32, 32), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found, upsampled)
    torch.testing.assert_close(found.mean((1, 2)), score)


class Cosine(nn.Linear):
    """A head that compares directions: its scores are no sum of weights times maps."""

    def forward(self, x):
        return F.linear(F.normalize(x), F.normalize(self.weight), self.bias)


def grouped():
    return nn.Conv2d(6, 6, 1, groups=2)


@pytest.mark.parametrize(
    "model",
    [
        behind_the_pool(nn.Sequential(nn.Flatten(), Cosine(6, 5))),
        behind_the_pool(grouped()),
        behind_the_pool(nn.Sequential(nn.Conv2d(6, 6, 1), nn.Hardswish(), nn.Conv2d(6, 5, 1))),
        before_the_pool(nn.Sequential(nn.Conv2d(6, 5, 1), nn.AdaptiveMaxPool2d(1))),
    ],
)
def test_cam_refuses_scores_that_are_not_weights_times_maps_and_says_what_it_needs(model):
    with pytest.raises(
        LearnerError, match="one linear layer or 1×1 convolution on the average of feature maps"
    ):
        explain.cam(model.eval(), images(side=32))


# --- Any spelling, any state, no trace ---


@pytest.mark.parametrize("spelling", few(SPELLINGS, "shared", "inplace functional", "clamp"))
def test_every_spelling_of_relu_gives_the_same_maps(spelling):
    x = images()
    for name in NAMES:
        reference = run(name, Net("modules").eval(), x, 1)
        torch.testing.assert_close(
            run(name, Net(spelling).eval(), x, 1), reference, msg=f"{name}, {spelling}"
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "recording", few([torch.enable_grad, torch.no_grad, torch.inference_mode], torch.inference_mode)
)
def test_frozen_models_work_in_any_mode_and_stay_as_they_were(name, recording):
    model = Net("inplace", dropout=0.5)
    expected = run(name, Net("inplace", dropout=0.5).eval(), images(), 1)
    for parameter in list(model.parameters())[:-1]:
        parameter.requires_grad_(False)
    model.train()
    model.bn1.eval()  # mixed modes, as after partial freezing
    x = images()
    kept = x.clone()
    with unchanged(model), recording():
        found = run(name, model, x, 1)
    assert found.shape == (2, 24, 24)
    assert found.isfinite().all()
    assert found.std() > 0
    assert not found.requires_grad
    assert not found.is_inference()
    assert torch.equal(x, kept)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_and_batching_change_nothing(name):
    model, x = Net().eval(), images(3)
    single = torch.cat([run(name, model, x[i : i + 1], [i]) for i in range(3)])
    last = Net().eval().to(memory_format=torch.channels_last)
    together = run(name, last, x.to(memory_format=torch.channels_last), torch.arange(3))
    if name != "smoothgrad":  # each call draws its own noise
        torch.testing.assert_close(together, single, rtol=1e-4, atol=1e-5)


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


def transposed(x):
    return x.transpose(2, 3).contiguous().transpose(2, 3)


def every_other(x):
    return torch.stack([x, -x], dim=4)[..., 0]


def of_one_image(x):
    return x[:1].expand(len(x), -1, -1, -1)


class Viewed(nn.Module):
    """Flattens by `view`, as in many tutorials: feature maps must lie in memory as their shape says."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, 2), nn.Linear(4 * 7 * 7, 2)

    def forward(self, x):
        return self.fc(self.conv(x).relu().view(x.size(0), -1))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cam"])
def test_a_network_that_flattens_by_view_is_explained(name):
    x = images(2, 16).contiguous(memory_format=torch.channels_last)
    assert run(name, Viewed(), x).shape == (2, 16, 16)


@pytest.mark.parametrize("lay", [channels_last, transposed, every_other, of_one_image])
@pytest.mark.parametrize("noise", [0.15, 2.0])
def test_one_seed_gives_one_smoothgrad_however_the_batch_lies_in_memory(lay, noise):
    model, x = Net().eval(), images(3)
    x = x if lay is not of_one_image else x[:1].repeat(3, 1, 1, 1)
    assert lay(x).stride() != x.stride()
    options = {"samples": 3, "noise": noise, "seed": 4}
    expected = explain.smoothgrad(model, x, 1, **options)
    assert torch.equal(explain.smoothgrad(model, lay(x), 1, **options), expected)
    last = Net().eval().to(memory_format=torch.channels_last)
    torch.testing.assert_close(explain.smoothgrad(last, lay(x), 1, **options), expected, rtol=1e-4, atol=1e-5)
    double = explain.smoothgrad(Net().eval().double(), lay(x), 1, **options)
    torch.testing.assert_close(double.float(), expected, rtol=1e-3, atol=1e-4)


def test_random_weights_of_the_cascade_are_the_same_for_every_layout():
    x = images()
    plain, last = Net().eval(), Net().eval().to(memory_format=torch.channels_last)
    one, other = (explain.cascading_randomization(m, x, explain.saliency, seed=3) for m in (plain, last))
    for stage in one:
        torch.testing.assert_close(one[stage], other[stage], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "baseline", [0.1, [[[0.1]], [[1 / 3]], [[-0.7]]], torch.tensor(0.1, dtype=torch.float64)]
)
def test_a_baseline_keeps_all_digits_that_the_model_has(baseline):
    model, x = Linear().double(), images(1, 8, dtype=torch.float64)
    colour = torch.as_tensor(baseline, dtype=torch.float64)
    fall = (model.weight_of(1) * (x - colour)).sum(1)
    exact = {"rtol": 0, "atol": 1e-12}
    baseline = baseline if isinstance(baseline, float | torch.Tensor) else colour
    found = explain.occlusion(model, x, 1, window=1, stride=1, baseline=baseline)
    torch.testing.assert_close(found, fall, **exact)
    torch.testing.assert_close(
        explain.integrated_gradients(model, x, 1, baseline=baseline, steps=2), fall, **exact
    )
    gone = explain.deletion(model, x, fall, 1, steps=1, baseline=baseline).scores[0, -1]
    torch.testing.assert_close(gone, model(colour.expand_as(x)).softmax(1)[0, 1], **exact)


def nothing_for_it(model):
    with torch.no_grad():
        model.fc.weight[1] = -model.fc.weight[1].abs()


def dead_features(model):
    with torch.no_grad():
        model.conv2.bias.fill_(-1e3)


def no_weight(model):
    with torch.no_grad():
        model.fc.weight[1] = 0


@pytest.mark.parametrize(
    ("change", "silent"),
    [
        (nothing_for_it, set(NAMES) - {"grad_cam", "guided_backprop", "deconvnet"}),
        (dead_features, {"deconvnet"}),
        (no_weight, set()),
        (lambda model: None, set(NAMES)),
    ],
)
def test_a_map_that_is_zero_everywhere_is_said(change, silent, caplog):
    model, x = Net().eval(), images()
    change(model)
    for name in NAMES:
        caplog.clear()
        found = run(name, model, x, 1)
        assert bool(caplog.records) == (found == 0).all()
        assert bool(caplog.records) == (name not in silent), name
    caplog.clear()
    explain.cascading_randomization(model, x, explain.grad_cam, 1)
    assert len(caplog.records) <= 1  # of the trained model; random weights may well give nothing


def test_without_a_target_the_class_that_the_model_finds_is_explained():
    model, x = Net().eval(), images(4)
    best = model(x).argmax(1)
    assert torch.equal(explain.saliency(model, x), explain.saliency(model, x, best))
    assert torch.equal(explain.grad_cam(model, x), explain.grad_cam(model, x, best.tolist()))


def test_a_wrapped_model_is_explained_as_the_model_in_it():
    model, x = Net().eval(), images()
    for name in NAMES:
        assert torch.equal(run(name, nn.DataParallel(model), x, 1), run(name, model, x, 1))


def test_a_model_that_draws_numbers_gives_the_same_map_each_time_and_leaves_the_generator():
    class Noisy(Net):
        def forward(self, x):
            return super().forward(x + 0.1 * torch.randn_like(x))

    model, x = Noisy().eval(), images()
    with unchanged(model):
        first = explain.saliency(model, x, 1)
    torch.rand(3)
    assert torch.equal(first, explain.saliency(model, x, 1))


def test_smoothgrad_is_seeded():
    model, x = Net().eval(), images()
    a, b, c = (explain.smoothgrad(model, x, 0, samples=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_ten_calls_and_failures_leave_no_hook():
    model = Net(dropout=0.1)
    model.bn1.eval()
    with unchanged(model):
        for _ in range(5):
            explain.grad_cam(model, images(1), at="conv2")
            explain.guided_backprop(model, images(1))
        with pytest.raises(LearnerError, match="conv3"):
            explain.grad_cam(model, images(1), at="conv3")
        broken = model.fc.forward
        model.fc.forward = lambda x: (_ for _ in ()).throw(RuntimeError("a step that fails"))
        for name in NAMES:
            with pytest.raises(LearnerError, match="a step that fails"):
                run(name, model, images(1))
        model.fc.forward = broken


def test_grad_cam_at_a_stage_or_module_before_an_inplace_relu_sees_the_true_output():
    # The module's output is overwritten by the ReLU behind it; maps and gradients must be those before.
    plain, inplace, x = Net("functional").eval(), Net("inplace").eval(), images()
    for at in ("bn1", "conv2"):
        torch.testing.assert_close(
            explain.grad_cam(inplace, x, 1, at=at), explain.grad_cam(plain, x, 1, at=at)
        )
        assert (explain.activations(inplace, x, at=[at])[at] < 0).any()


# --- Architectures ---


@pytest.fixture(scope="module")
def architectures():
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {
            "densenet": timm.create_model(
                "densenet121", num_classes=7, growth_rate=8, block_config=(2, 2, 2, 2)
            ).eval(),
            "squeezenet": torchvision.models.squeezenet1_1(num_classes=7).eval(),
            "swin": timm.create_model(
                "swin_tiny_patch4_window7_224", num_classes=7, depths=(1, 1, 1, 1), img_size=64, window_size=2
            ).eval(),
            "vit": timm.create_model("vit_tiny_patch16_224", num_classes=7, depth=2, img_size=64).eval(),
            "convnext": timm.create_model("convnext_atto", num_classes=7).eval(),
            "mobilenet": torchvision.models.mobilenet_v3_small(num_classes=7).eval(),
        }  # fmt: skip


WHERE_NOT = {
    "swin": {"guided_backprop": "no ReLU", "deconvnet": "no ReLU"},
    "vit": {
        "guided_backprop": "no ReLU",
        "deconvnet": "no ReLU",
        "cam": "occlusion",
        "grad_cam": "occlusion",
    },
    "convnext": {"guided_backprop": "no ReLU", "deconvnet": "no ReLU", "cam": "grad_cam"},
    "mobilenet": {"cam": "grad_cam"},
}


LONG = [pytest.param(kind, marks=pytest.mark.full) for kind in ("swin", "convnext", "densenet")]


@pytest.mark.parametrize(
    "kind", ["squeezenet", "vit", pytest.param("mobilenet", marks=pytest.mark.full), *LONG]
)
def test_every_architecture_is_explained_or_says_what_works(architectures, kind):
    model, x = architectures[kind], images(2, 64)
    for name in NAMES:
        hint = WHERE_NOT.get(kind, {}).get(name)
        with unchanged(model):
            if hint:
                with pytest.raises(LearnerError, match=hint):
                    run(name, model, x, 2)
                continue
            found = run(name, model, x, 2, **({"window": 32, "stride": 32} if name == "occlusion" else {}))
        assert found.shape == (2, 64, 64), (kind, name)
        assert found.isfinite().all(), (kind, name)
        assert found.abs().max() > 0 or name == "grad_cam", (kind, name)


# --- What arrived, what would work ---


def with_nan(count=2):
    x = images(count)
    x[1, 0, 3, 3] = float("nan")
    return x


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("x", "says"),
    [
        (images()[0], "unsqueeze"),
        (images()[:, :2], "channels"),
        (images().permute(0, 2, 3, 1), "channels"),
        (images()[:0], "empty"),
        ((images() * 50).to(torch.uint8), "normalised"),
        (with_nan(), "image 1"),
        ("cat.jpg", "str"),
        (images().numpy(), "ndarray"),
    ],
    ids=["no batch", "two channels", "channels last", "empty", "bytes", "nan", "text", "numpy"],
)
def test_bad_images_are_named(name, x, says):
    with pytest.raises(LearnerError, match=says):
        run(name, Net().eval(), x)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", [5, -1, [0, 5], [0, 1, 2], 1.5, "cat"])
def test_bad_targets_are_named(name, target):
    with pytest.raises(LearnerError, match=r"class|target"):
        run(name, Net().eval(), images(), target)


def test_an_image_too_small_for_the_model_is_said():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 7), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    for name in NAMES:
        with pytest.raises(LearnerError):
            run(name, model, images(1, 4), **({"window": 2, "stride": 2} if name == "occlusion" else {}))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("occlusion", {"window": 2, "stride": 4}),
        ("occlusion", {"window": 99, "stride": 4}),
        ("occlusion", {"window": 4, "stride": 0}),
        ("smoothgrad", {"samples": 0}),
        ("smoothgrad", {"noise": -1.0}),
        ("integrated_gradients", {"steps": 0}),
        ("grad_cam", {"at": "stage99"}),
        ("grad_cam", {"at": "fc"}),
    ],
)
def test_options_out_of_range_are_named(name, options):
    with pytest.raises(
        LearnerError, match=(next(iter(options.values())).__class__ is str and "stage|spatial") or "Expected"
    ):
        getattr(explain, name)(Net().eval(), images(), 1, **options)


# --- Models without gradients ---


class Converted(nn.Module):
    """A network as quantisation after training leaves it."""

    def __init__(self, net):
        super().__init__()
        self.begin, self.net = torch.ao.quantization.QuantStub(), net
        self.end = torch.ao.quantization.DeQuantStub()

    def forward(self, x):
        return self.end(self.net(self.begin(x)))


def dynamic(net):
    return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)


def static(net):
    model = Converted(net).eval()
    model.qconfig = torch.ao.quantization.get_default_qconfig()
    torch.ao.quantization.prepare(model, inplace=True)
    model(images(2))
    return torch.ao.quantization.convert(model)


class Silent(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        with torch.no_grad():
            return self.net(x) * 2


class Checkpointed(Silent):
    def forward(self, x):
        return checkpoint(self.net, x, use_reentrant=True) * 2


class ChangedInPlace(Silent):
    def forward(self, x):
        grown = x.exp()
        scores = self.net(grown * grown)
        grown.zero_()
        return scores


class WithoutDerivative(Silent):
    def forward(self, x):
        return self.net(torch.heaviside(x, x))


@pytest.mark.filterwarnings("ignore")  # torch is about to move quantisation to a package of its own
@pytest.mark.parametrize("kind", [dynamic, static, Silent, Checkpointed, ChangedInPlace, WithoutDerivative])
def test_a_model_without_gradients_is_refused_in_words_and_occluded(kind):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model, x = models.describe(kind(net.eval()), input_size=16, mean=0.5, std=0.5), images(1, 16)
    for name in ("saliency", "smoothgrad", "integrated_gradients"):
        with pytest.raises(LearnerError, match=r"No gradient.*explain\.occlusion"):
            run(name, model, x, 1)
    with pytest.raises(LearnerError, match="No gradient"):
        explain.class_visualization(model, 1, steps=1)
    assert run("occlusion", model, x, 1).isfinite().all()
