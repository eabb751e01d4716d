"""The quick gradient of depthwise filters is PyTorch's own, within rounding, and nothing else changes."""

import pytest
import torch
from tiny import tiny_data
from torch import nn
from torch.nn.functional import conv2d

from tlutils import models, train
from tlutils.train.depthwise import PLACES, SmallDepthwise, _Depthwise


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
    for own, theirs in zip(
        gradients(*shape, own=True, **settings), gradients(*shape, own=False, **settings), strict=True
    ):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize(
    "settings",
    [{"filter": 3, "padding": 1}, {"groups": 2, "padding": 2}, {"padding": "same"}, {"stride": [2]}],
    ids=["small filters", "grouped", "padding by name", "one stride in a list"],
)
def test_what_it_is_not_for_goes_to_pytorch(settings, monkeypatch):
    monkeypatch.setattr(_Depthwise, "apply", lambda *_: pytest.fail("not this one"))
    gradients(2, 4, 6, 6, own=True, **settings)
    gradients(2, 4, PLACES, 2, own=True, padding=2)


def test_training_with_it_ends_where_training_without_it_ends(monkeypatch):
    """A network of large depthwise filters on maps of 4 × 4, one step: the same weights within rounding."""

    def trained():
        torch.manual_seed(0)
        stem, filters = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 8, 5, 1, 2, groups=8)
        model = nn.Sequential(
            stem, nn.ReLU(), filters, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
        )
        model = models.describe(model, input_size=(3, 16, 16), mean=0.5, std=0.5)
        train.fit(model, tiny_data(), train.Recipe.finetune(epochs=2, optimizer="sgd", keep="last"))
        return model

    own = trained()
    monkeypatch.setattr("tlutils.train.distributed.SmallDepthwise", _Nothing)
    theirs = trained()
    for (name, a), b in zip(own.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


class _Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None
