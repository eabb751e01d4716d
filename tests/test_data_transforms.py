"""One preprocessing, the one that the weights state, for pictures, arrays and paths alike."""

import pickle

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

from tlutils import data, features, models, runtime, train
from tlutils.errors import LearnerError
from tlutils.train.data import ImageInputs, plan_validation


@pytest.fixture(scope="module")
def photo():
    from skimage.data import coffee

    return Image.fromarray(coffee())


@pytest.fixture(scope="module")
def lite():
    return models.load(models.DEFAULT, pretrained=False)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_100", "tf_efficientnet_lite1", "resnetv2_50"],
)
def test_it_is_what_timm_does(photo, name):
    """B26: size, crop, interpolation, mean and std of each."""
    model = timm.create_model(name, pretrained=False)
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    for image in (photo, photo.rotate(90, expand=True), photo.resize((90, 70))):
        assert torch.allclose(data.transform_for(model)(image), theirs(image), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet50", "vit_b_16", "efficientnet_b0", "mobilenet_v3_large"])
def test_it_is_what_torchvision_does(photo, name):
    weights = torchvision.models.get_model_weights(name).DEFAULT
    theirs = weights.transforms()
    info = models.info(models.load(f"torchvision/{name}", pretrained=False))
    own = data.Preprocess(info.input_size[1:], info.crop_pct, info.interpolation, info.mean, info.std)
    assert torch.allclose(own(photo), theirs(photo), atol=1e-6)


def test_other_crop_modes_are_timms(photo):
    from timm.data import create_transform

    for mode in ("squash", "border"):
        options = {"crop_pct": 0.9, "interpolation": "bicubic", "mean": (0.4,) * 3, "std": (0.2,) * 3}
        theirs = create_transform((3, 96, 96), is_training=False, crop_mode=mode, **options)
        assert torch.allclose(
            data.Preprocess((96, 96), **options, crop_mode=mode)(photo), theirs(photo), atol=1e-6
        )


def test_a_crop_mode_that_nobody_knows_is_refused():
    with pytest.raises(LearnerError, match="crop_mode is 'squish'; expected one of center, squash, border"):
        data.Preprocess((96, 96), 0.875, "bicubic", (0.5,) * 3, (0.5,) * 3, crop_mode="squish")


def test_a_size_that_is_not_square_is_covered_and_cropped(photo):
    from timm.data import create_transform

    options = {"crop_pct": 0.9, "interpolation": "bilinear", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    theirs = create_transform((3, 64, 128), is_training=False, **options)
    assert torch.allclose(data.Preprocess((64, 128), **options)(photo), theirs(photo), atol=1e-6)


def test_pictures_arrays_and_paths_give_one_tensor(photo, lite, tmp_path):
    photo.save(tmp_path / "photo.png")
    transform = data.transform_for(lite)
    expected = transform(photo)
    assert expected.shape == (3, *models.info(lite).input_size[1:])
    assert expected.dtype == torch.float32
    array = np.asarray(photo)
    for same in (
        array,
        array / 255,
        (array / 255).astype(np.float32),
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
    ):
        assert torch.equal(transform(same), expected)


@pytest.mark.parametrize("make", ["HW", "HW1", "bool", "RGBA"])
def test_other_arrays_are_pictures_too(lite, make):
    grey = np.full((40, 60), 255, np.uint8)
    array = {
        "HW": grey,
        "HW1": grey[:, :, None],
        "bool": grey > 0,
        "RGBA": np.dstack(
            [np.zeros((40, 60, 3), np.uint8), np.zeros_like(grey)]
        ),  # clear: the background shows
    }[make]
    transform = data.transform_for(lite)
    assert torch.equal(transform(array), transform(Image.new("RGB", (60, 40), "white")))


def test_a_sideways_phone_photo_is_turned_in_every_form(lite, tmp_path):
    """B08: training, prediction and pictures go through the same door."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (40, 20), "white")
    image.paste((255, 0, 0), (0, 12, 8, 20))
    image.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    transform = data.transform_for(lite)
    opened = Image.open(tmp_path / "phone.jpg")
    upright = transform(data.load_image(tmp_path / "phone.jpg"))
    assert torch.equal(transform(opened), upright)
    assert torch.equal(transform(tmp_path / "phone.jpg"), upright)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((3, 40, 60), np.uint8), r"\(3, 40, 60\).*transpose"),
        (np.zeros((2, 40, 60, 3), np.uint8), r"one image"),
        (np.zeros((0, 60, 3), np.uint8), r"one image"),
        (np.full((4, 4), 200.0), r"200.*0 to 1"),
        (np.full((4, 4), np.nan), r"NaN"),
        (np.full((4, 4), -0.1), r"0 to 1"),
        (np.zeros((4, 4), np.int64), r"int64.*uint8"),
        (torch.zeros(3, 4, 4), r"Tensor arrived.*permute"),
        (None, r"NoneType arrived"),
    ],
)
def test_what_is_no_picture_is_refused_with_what_arrived(lite, wrong, words):
    with pytest.raises(LearnerError, match=words):
        data.transform_for(lite)(wrong)


def test_evaluation_is_deterministic_and_training_varies_under_the_seed(photo, lite):
    steady, varied = data.transform_for(lite), data.transform_for(lite, train=True)
    assert torch.equal(steady(photo), steady(photo))
    with runtime.seeded(0):
        first = [varied(photo) for _ in range(4)]
    with runtime.seeded(0):
        again = [varied(photo) for _ in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tensor.sum().item() for tensor in first}) == 4
    assert {tensor.shape for tensor in first} == {steady(photo).shape}


def test_training_pictures_are_mirrored_half_of_the_time(lite):
    ramp = np.tile(np.linspace(0, 1, 200), (200, 1))
    varied = data.transform_for(lite, train=True)
    with runtime.seeded(0):
        rising = [bool(t[0, 100, -1] > t[0, 100, 0]) for t in (varied(ramp) for _ in range(40))]
    assert 10 <= sum(rising) <= 30


def test_it_pickles_and_compares_by_value(lite):
    transform = data.transform_for(lite)
    copy = pickle.loads(pickle.dumps(transform))
    assert copy == transform
    assert "0x" not in repr(transform)
    assert transform != data.transform_for(lite, train=True)
    assert (transform.mean, transform.size) == ((0.5, 0.5, 0.5), (224, 224))


def test_a_one_channel_model_gets_grey(photo):
    model = models.load("tf_efficientnet_lite0", pretrained=False, in_chans=1)
    assert data.transform_for(model)(photo).shape == (1, 224, 224)


def test_a_model_with_other_channels_is_refused():
    model = models.describe(nn.Conv2d(4, 8, 3), input_size=(4, 32, 32), mean=(0.5,) * 4, std=(0.5,) * 4)
    with pytest.raises(LearnerError, match="4 channels"):
        data.transform_for(model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photo):
    folder, photo = tmp_path_factory.mktemp("large"), photo.resize((640, 480))
    for name in ("cup", "mirrored"):
        (folder / name).mkdir()
        for k in range(3):
            (photo.transpose(0) if name == "mirrored" else photo).rotate(k).save(folder / name / f"{k}.jpg")
    return folder


@pytest.fixture
def large(folder, monkeypatch):
    """A folder of photographs that count as large."""
    monkeypatch.setattr(data.images, "LARGE", 640 * 480)
    return folder


@pytest.mark.parametrize("random", [False, True, "shift"])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_of_a_large_photograph_no_more_is_decoded_than_is_seen(large, mode, random):
    prepare = data.Preprocess((48, 40), 0.875, "bicubic", (0.5,) * 3, (0.5,) * 3, mode, random)
    path = large / "cup" / "0.jpg"
    small = data.load_image(path, min_side=prepare.min_side)
    assert small.width in (640 // 2, 640 // 4)
    with runtime.seeded(0):
        seen = prepare(path)
    with runtime.seeded(0):
        assert torch.equal(seen, prepare(small))
    if not random:
        assert (seen - prepare(data.load_image(path))).abs().mean() < 2 * 1 / 255  # std is half of the range


def test_training_features_and_predictions_see_the_same_pixels(large):
    model = models.load("test_resnet", pretrained=False, num_classes=2, input_size=32)
    prepare, found, paths = data.transform_for(model), data.load(large, copies="equal"), []
    splits = (found.train, found.val, found.test)
    for split in splits:
        for i, path in enumerate(split.paths):
            alone = prepare(path)
            assert torch.equal(prepare(data.read_for(prepare, split, i)), alone)
            assert torch.equal(split.transformed(prepare)[i][0], alone)
            assert not torch.equal(prepare(split[i][0]), alone)  # the whole picture is another way
            paths.append(path)
    by_split = np.concatenate([train.predict(model, split).probabilities for split in splits])
    assert np.allclose(by_split, train.predict(model, paths).probabilities, atol=1e-6)
    store = features.extract(model, found.train, at="pool", precision="float32")
    x = torch.stack([prepare(path) for path in found.train.paths])
    inputs = ImageInputs(found.train, prepare, seed=0, random=False, dtype=torch.float32)
    assert torch.equal(inputs.__getitems__(plan_validation(len(x), 32)[0]).inputs[0], x)
    assert np.allclose(store["pool"], model.eval().forward_features(x).mean((2, 3)).detach(), atol=1e-5)


def test_a_split_that_makes_its_own_images_is_asked_for_those(large):
    class Black(data.Split):
        def __getitem__(self, i):
            return Image.new("RGB", (8, 8)), self.labels[i]

    found = data.load(large, copies="equal").train
    black = Black(
        found.name, found.classes, found.paths, found.labels, found.hashes, found.groups, found.files
    )
    prepare = data.Preprocess((32, 32), 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
    assert data.read_for(prepare, black, 0).size == (8, 8)
