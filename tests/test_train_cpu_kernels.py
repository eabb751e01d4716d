"""What a processor computes in a quicker way is PyTorch's own, within rounding, and nothing else changes."""

from contextlib import nullcontext

import pytest
import torch
from tiny import tiny_data
from torch import nn
from torch.nn.functional import conv2d

from tlutils import models, train
from tlutils.train.cpu_kernels import PLACES, CpuKernels


def gradients(*shape, own, filter=5, groups=None, **settings):
    """Output and gradients of a convolution of x, weight and bias, with the mode on (`own`) or off."""
    torch.manual_seed(0)
    channels = shape[1]
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(channels, channels // (groups or channels), filter, filter, dtype=torch.float64)
    bias = torch.randn(channels, dtype=torch.float64, requires_grad=True)
    weight.requires_grad_()
    options = {"groups": groups or channels, **settings}
    if own:
        with CpuKernels():
            y = conv2d(x, weight, bias, **options)
    else:
        y = conv2d(x, weight, bias, **options)
    y.backward(torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    return y, x.grad, weight.grad, bias.grad


def is_own(y):
    """Whether a convolution's gradient goes through matrices."""
    return type(y.grad_fn).__name__ == "_DepthwiseBackward"


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((3, 6, 4, 4), {"padding": 2}),
        ((3, 6, 2, 2), {"padding": 2}),
        ((2, 4, 7, 7), {"padding": 2, "stride": 2}),
        ((2, 4, 6, 7), {"padding": (2, 3), "stride": (1, 2)}),
        ((2, 4, 7, 5), {}),
        ((2, 4, 7, 7), {"padding": 4, "dilation": 2}),
        ((2, 4, 5, 5), {"filter": 7, "padding": 3}),
        ((1, 3, 1, 1), {"padding": 2}),
    ],
)
def test_outputs_and_gradients_are_pytorchs(shape, settings):
    found, expected = (gradients(*shape, own=own, **settings) for own in (True, False))
    assert is_own(found[0])
    assert not is_own(expected[0])
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((2, 4, 6, 6), {"filter": 3, "padding": 1}),
        ((2, 4, 6, 6), {"groups": 2, "padding": 2}),
        ((2, 4, 6, 6), {"padding": "same"}),
        ((2, 4, 6, 6), {"stride": [2]}),
        ((2, 4, PLACES, 2), {"padding": 2}),
    ],
    ids=["small filters", "grouped", "padding by name", "one stride in a list", "large maps"],
)
def test_what_it_is_not_for_goes_to_pytorch(shape, settings):
    assert not is_own(gradients(*shape, own=True, **settings)[0])


def through(layer, x, *, own):
    """Output of `layer` after a product, and the gradients of x and the layer's weights."""
    x = x.clone().requires_grad_()
    torch.manual_seed(0)
    with CpuKernels() if own else nullcontext():
        y = layer(2 * x)
    way = type(y.grad_fn).__name__
    y.backward(torch.randn_like(y))
    grads = [p.grad for p in layer.parameters() if p.requires_grad]
    layer.zero_grad()
    return way, [y, x.grad, *grads]


def settled(norm, **settings):
    """A BatchNorm with statistics and weights that training left, frozen."""
    layer = norm(4, **settings, dtype=torch.float64).eval().requires_grad_(False)
    for t in layer.state_dict().values():
        t.copy_(torch.rand(t.shape) + 0.5)
    return layer


def images(*shape, **kind):
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), **{"dtype": torch.float64, **kind})


@pytest.mark.parametrize(
    ("layer", "shape", "way"),
    [
        (nn.ReLU6(inplace=True), (3, 4, 5, 5), "_ClampInPlaceBackward"),
        (nn.Hardtanh(-0.5, 0.25, inplace=True), (3, 4), "_ClampInPlaceBackward"),
        (settled(nn.BatchNorm2d), (3, 4, 5, 5), "AddcmulBackward0"),
        (settled(nn.BatchNorm1d), (3, 4), "AddcmulBackward0"),
        (settled(nn.BatchNorm1d), (3, 4, 6), "AddcmulBackward0"),
        (settled(nn.BatchNorm3d, eps=0.1), (2, 4, 2, 3, 3), "AddcmulBackward0"),
    ],
)
def test_clamps_in_place_and_frozen_norms_are_pytorchs(layer, shape, way):
    (found_way, found), (their_way, theirs) = (
        through(layer, images(*shape), own=own) for own in (True, False)
    )
    assert found_way == way != their_way
    for a, b in zip(found, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("bound", [0.0, 6.0, float("nan"), float("inf"), -0.0])
def test_where_a_clamp_begins_its_gradient_is_pytorchs(bound):
    x = torch.full((2, 2), bound / 2)
    found, theirs = (through(nn.ReLU6(inplace=True), x, own=own)[1] for own in (True, False))
    torch.testing.assert_close(found, theirs, equal_nan=True)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ReLU6(),
        nn.BatchNorm2d(4, dtype=torch.float64),
        settled(nn.BatchNorm2d).train(),
        settled(nn.BatchNorm2d).requires_grad_(),
        settled(nn.BatchNorm2d, affine=False),
        settled(nn.BatchNorm2d, track_running_stats=False),
    ],
    ids=[
        "out of place",
        "live",
        "frozen weights alone",
        "frozen statistics alone",
        "without weights",
        "without statistics",
    ],
)
def test_other_clamps_and_norms_go_to_pytorch(layer):
    (way, found), (theirs, expected) = (through(layer, images(2, 4, 3, 3), own=own) for own in (True, False))
    assert way == theirs
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def test_a_frozen_norm_keeps_the_memory_format_and_gives_bfloat16_to_pytorch():
    layer = settled(nn.BatchNorm2d).float()
    x = images(2, 4, 3, 3, dtype=torch.float32).to(memory_format=torch.channels_last).requires_grad_()
    with CpuKernels():
        assert layer(x).is_contiguous(memory_format=torch.channels_last)
        assert layer(x.bfloat16()).dtype == torch.bfloat16
        assert "BatchNorm" in type(layer(x.bfloat16()).grad_fn).__name__


def test_a_clamp_in_place_is_in_place_of_a_view_too_and_refused_where_pytorch_refuses():
    x = images(2, 4).requires_grad_()
    with CpuKernels():
        whole = 2 * x
        assert nn.ReLU6(inplace=True)(whole) is whole
        assert whole.min() == 0
        rows = 2 * x
        nn.ReLU6(inplace=True)(rows[:1])
        rows.sum().backward()
        expected = torch.full_like(x, 2.0)
        expected[0][(2 * x[0] <= 0) | (2 * x[0] >= 6)] = 0
        assert torch.equal(x.grad, expected)
        with pytest.raises(RuntimeError, match="leaf"):
            nn.ReLU6(inplace=True)(images(2).requires_grad_())
        squared = 2 * x
        power = squared.exp()
        nn.ReLU6(inplace=True)(power)  # whose output its own gradient needs
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            power.sum().backward()


class Net(nn.Module):
    """Large depthwise filters on maps of 4 × 4; padded by name they are PyTorch's to train."""

    def __init__(self, padding):
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 3, 4, 1), nn.Linear(8, 3)
        self.filters = nn.Conv2d(8, 8, 5, padding=padding, groups=8)
        self.was_own = False

    def forward(self, x):
        y = self.filters(self.stem(x).relu())
        self.was_own = self.was_own or is_own(y)
        return self.fc(y.mean((2, 3)))


def test_training_with_it_ends_where_training_without_it_ends():
    def trained(padding):
        torch.manual_seed(0)
        model = models.describe(Net(padding), input_size=(3, 16, 16), mean=0.5, std=0.5)
        train.fit(model, tiny_data(), train.Recipe.finetune(epochs=2, lr=0.1, optimizer="sgd", keep="last"))
        return model

    own, theirs = trained(2), trained("same")
    assert own.was_own
    assert not theirs.was_own
    torch.manual_seed(0)
    assert not torch.allclose(own.filters.weight, Net(2).filters.weight, atol=1e-3)
    for (name, a), b in zip(own.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)
