"""What the features depend on makes a new store, what they do not depend on makes none."""

import pytest
import torch
from families import few
from features_world import Photos, as_tensor, body, extract, network
from torchvision import transforms

from tlutils.features import keys

pytestmark = pytest.mark.usefixtures("empty_cache")


def nudge_weight(model, photos, options):
    with torch.no_grad():
        weight = model.begin[0].weight
        weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(9.0))


def nudge_statistics(model, photos, options):
    model.begin[1].running_mean[0] += 1e-3


def change_images(model, photos, options):
    photos.fingerprint = "other"


def change_size(model, photos, options):
    options["transform"] = transforms.Compose([transforms.Resize(16), as_tensor])


def change_lambda(model, photos, options):
    options["transform"] = lambda image: as_tensor(image) * 2


def change_pool(model, photos, options):
    options["pool"] = False


def change_views(model, photos, options):
    options["views"] = 1


def change_precision(model, photos, options):
    options["precision"] = "auto"


@pytest.mark.parametrize(
    "change",
    [
        nudge_weight,
        nudge_statistics,
        change_images,
        change_size,
        change_lambda,
        change_pool,
        change_views,
        change_precision,
    ],
)
def test_any_changed_ingredient_makes_a_new_store(change):
    model, photos, options = network(), Photos(), {}
    extract(model, photos)
    photos.decoded.clear()
    change(model, photos, options)
    extract(model, photos, **options)
    assert sorted(photos.decoded) == list(range(24))


@pytest.mark.parametrize("name", few([*keys.LIBRARIES, "features"], "torch", "features"))
def test_another_version_of_a_library_makes_a_new_store(name, monkeypatch):
    model, photos, now = network(), Photos(), keys.versions()
    extract(model, photos)
    monkeypatch.setattr(keys, "versions", lambda: now | {name: "0.0"})
    extract(model, photos)
    assert len(photos.decoded) == 48


def test_features_that_were_averaged_by_the_shape_alone_are_not_served(monkeypatch):
    model, photos, now = network(), Photos(), keys.versions()
    with monkeypatch.context() as then:
        then.setattr(keys, "versions", lambda: now | {"features": "1"})
        extract(model, photos)
    extract(model, photos)
    assert len(photos.decoded) == 48


def test_what_comes_after_the_stage_does_not_matter():
    # A new head, or a trained suffix, leaves the features of the frozen part as they were.
    model, photos = network(), Photos()
    extract(model, photos, at=body()[1:2])
    with torch.no_grad():
        model.answer.weight.zero_()
        model.late[0].weight.zero_()
    photos.decoded.clear()
    extract(model, photos, at=body()[1:2])
    assert photos.decoded == []
