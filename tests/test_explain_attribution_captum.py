"""Each attribution is the one that captum computes, where captum has it."""

import copy

import captum.attr as captum
import pytest
import torch
import torchvision
from explain_toys import Net, images
from torch import nn

from tlutils import explain, models

LARGE = [pytest.param(name, marks=pytest.mark.full) for name in ("resnet18", "lite0")]


@pytest.fixture(scope="module", params=["toy", *LARGE])
def subject(request):
    """(model, images, the module of the last maps): a float64 toy, a random ResNet, the real Lite0."""
    if request.param == "toy":
        model = Net().double().eval()
        return model, images(dtype=torch.float64), model.relu2
    if request.param == "resnet18":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = torchvision.models.resnet18(num_classes=10).double().eval()
        return model, images(2, 64, dtype=torch.float64), model.layer4
    # In float64, so that 1e-5 is about the method and not about rounding.
    model = models.load("tf_efficientnet_lite0").double()
    return model, images(1, 64, dtype=torch.float64), model.bn2


def recorded(x):
    """The images as captum wants them, or it warns."""
    return x.clone().requires_grad_()


def close(found, expected):
    expected = expected.detach()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_saliency_is_captums(subject):
    model, x, _ = subject
    close(explain.saliency(model, x, 3), captum.Saliency(model).attribute(recorded(x), target=3).amax(1))


def test_integrated_gradients_are_captums(subject):
    model, x, _ = subject
    expected = captum.IntegratedGradients(model).attribute(recorded(x), target=3, n_steps=7, baselines=0.1)
    close(explain.integrated_gradients(model, x, 3, steps=7, baseline=0.1), expected.sum(1))


@pytest.mark.parametrize(("window", "stride"), [(16, 16), (21, 19)])
def test_occlusion_is_captums(subject, window, stride):
    model, x, _ = subject
    expected = captum.Occlusion(model).attribute(
        x, (3, window, window), strides=(3, stride, stride), target=3, baselines=0.2, perturbations_per_eval=8
    )
    found = explain.occlusion(model, x, 3, window=window, stride=stride, baseline=0.2)
    close(found, expected[:, 0].to(found))  # captum adds up in float32


def test_smoothgrad_is_the_mean_of_captums_gradients_on_the_same_noise(subject):
    model, x, _ = subject
    x = x[:1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        noisy = [x + 0.1 * (x.max() - x.min()) * torch.randn(x.shape).to(x) for _ in range(3)]
    gradients = [captum.Saliency(model).attribute(recorded(n), target=3, abs=False) for n in noisy]
    close(explain.smoothgrad(model, x, 3, samples=3, noise=0.1, seed=5), (sum(gradients) / 3).abs().amax(1))


def test_grad_cam_is_captums(subject):
    model, x, layer = subject
    expected = captum.LayerGradCam(model, layer).attribute(x, target=3, relu_attributions=True)
    expected = captum.LayerAttribution.interpolate(expected, x.shape[2:], "bilinear")
    close(explain.grad_cam(model, x, 3), expected[:, 0])


class CappedReLU(nn.Module):
    """ReLU6 spelt so that captum, which knows nn.ReLU alone, treats it."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        return torch.minimum(self.relu(x), x.new_tensor(6.0))


def for_captum(model):
    """Give a model a ReLU module of its own, not in place, for each that it names; its scores stay."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(parent, name, CappedReLU())
            elif isinstance(child, nn.ReLU):
                setattr(parent, name, nn.ReLU())
    return model


class SplitBlock(nn.Module):
    """A ResNet basic block that uses one ReLU module per place, for captum."""

    def __init__(self, block):
        super().__init__()
        self.block, self.first, self.second = block, nn.ReLU(), nn.ReLU()

    def forward(self, x):
        b = self.block
        y = b.bn2(b.conv2(self.first(b.bn1(b.conv1(x)))))
        return self.second(y + (x if b.downsample is None else b.downsample(x)))


ORACLES = [("guided_backprop", "GuidedBackprop"), ("deconvnet", "Deconvolution")]


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize(
    ("name", "oracle"), [("guided_backprop", "GuidedBackprop"), ("deconvnet", "Deconvolution")]
)
def test_relu_rules_are_captums_where_captum_is_told_of_each_relu(subject, name, oracle):
    model, x, _ = subject
    told = for_captum(copy.deepcopy(model))
    if isinstance(model, torchvision.models.ResNet):
        for number in range(1, 5):
            layer = getattr(told, f"layer{number}")
            setattr(told, f"layer{number}", nn.Sequential(*(SplitBlock(block) for block in layer)))
    torch.testing.assert_close(told(x), model(x))
    expected = getattr(captum, oracle)(told).attribute(recorded(x), target=3)
    close(getattr(explain, name)(model, x, 3, per_channel=True), expected)
    close(getattr(explain, name)(model, x, 3), expected.abs().amax(1))
