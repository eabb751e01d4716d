"""The quick gradient of depthwise filters is PyTorch's own, within rounding, and nothing else changes."""

import pytest
import torch
from tiny import tiny_data
from torch import nn
from torch.nn.functional import conv2d

from tlutils import models, train
from tlutils.train.depthwise import PLACES, SmallDepthwise


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
        with SmallDepthwise():
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
