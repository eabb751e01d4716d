"""The distance from the pretraining images: derived by hand on one layer, and sensible on real images."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tlutils import claims, data, models, transferability
from tlutils.errors import LearnerError


def network(mean=0.0, variance=1.0):
    """One BatchNorm layer on the pixels, which it takes as they are: in [0, 1]."""
    norm = nn.BatchNorm2d(3, eps=0)
    norm.running_mean.fill_(mean)
    norm.running_var.fill_(variance)
    model = nn.Sequential(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    return models.describe(model, input_size=(3, 4, 4), mean=(0.0,) * 3, std=(1.0,) * 3, crop_pct=1.0)


def halves(low, high):
    """A picture whose left half is `low` and whose right half is `high`, in grey values."""
    pixels = np.full((4, 4, 3), low, dtype=np.uint8)
    pixels[:, 2:] = high
    return Image.fromarray(pixels), 0


def test_one_layer_by_hand():
    # Pixels 0 and 1 in equal parts: mean 1/2, deviation 1/2. Kept: mean 1, variance 4, deviation 2.
    found = transferability.domain_distance(network(1.0, 4.0), [halves(0, 255)] * 3)
    assert found.value == pytest.approx(((0.5 - 1) ** 2 + (0.5 - 2) ** 2) / 4)
    assert found.layers == {"0": pytest.approx(found.value)}
    # The statistics themselves are at distance 0.
    assert transferability.domain_distance(network(0.5, 0.25), [halves(0, 255)]).value == pytest.approx(
        0, abs=1e-12
    )


def test_values_far_from_zero_lose_no_digits():
    class Raised(nn.Module):
        def forward(self, x):
            return x + 5_000

    plain = network(0.5, 0.25)
    raised = nn.Sequential(Raised(), *network(5_000.5, 0.25))
    models.describe(raised, input_size=(3, 4, 4), mean=(0.0,) * 3, std=(1.0,) * 3, crop_pct=1.0)
    pictures = [halves(20, 200)] * 50
    near, far = (transferability.domain_distance(model, pictures).value for model in (plain, raised))
    assert far == pytest.approx(near, rel=0.01)


def test_large_photographs_are_read_as_for_features(tmp_path, monkeypatch):
    monkeypatch.setattr(data.images, "LARGE", 1)
    rng, net = np.random.default_rng(0), network()
    for i in range(4):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (160, 200, 3), dtype=np.uint8))
        noise.save(tmp_path / "ab"[i % 2] / f"{i}.jpg")
    split, prepare = data.load(tmp_path, too_few="train").train, data.transform_for(net)
    read = [(data.read_for(prepare, split, i), 0) for i in range(len(split))]
    assert read[0][0].width < 200
    assert transferability.domain_distance(net, split) == transferability.domain_distance(net, read)


def test_the_order_and_the_batch_size_do_not_matter():
    images = [halves(0, 255), halves(10, 20), halves(100, 200)]
    one = transferability.domain_distance(network(), images, batch_size=1).value
    assert transferability.domain_distance(network(), images[::-1], batch_size=3).value == pytest.approx(one)


def test_the_model_stays_as_it_was():
    model = network().train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    transferability.domain_distance(model, [halves(0, 255)])
    assert model.training
    assert model[0].training
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert not model[0]._forward_pre_hooks


def test_what_has_no_statistics_or_no_images_is_told():
    bare = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(LearnerError, match="BatchNorm"):
        transferability.domain_distance(bare, [halves(0, 255)])
    with pytest.raises(LearnerError, match="no image"):
        transferability.domain_distance(network(), [])


def test_photographs_of_imagenet_are_nearest_and_noise_is_furthest():
    # Found without importing foolbox, which is here for its photographs alone.
    folder = Path(importlib.util.find_spec("foolbox").origin).parent / "data"
    photos = [(Image.open(path).convert("RGB"), 0) for path in sorted(folder.glob("imagenet_*.jpg"))]
    assert len(photos) == 20
    model = models.load(models.DEFAULT, input_size=96)
    sets = {"imagenet": photos} | {
        n: claims.draw_images(n, 20, 0) for n in ("scenes", "elpv-defects", "noise")
    }
    values = {name: transferability.domain_distance(model, images).value for name, images in sets.items()}
    assert values["imagenet"] < 0.12
    assert values["imagenet"] < values["elpv-defects"] < values["noise"]
    assert values["scenes"] < values["elpv-defects"]
