"""Filters, activations, neighbours, and whether a map is worth believing."""

import numpy as np
import pytest
import torch
import torchvision
from explain_toys import Linear, Net, images, unchanged
from PIL import Image
from torch import nn
from torchvision.transforms.functional import to_tensor

from tlutils import explain, models, surgery
from tlutils.errors import LearnerError


@pytest.fixture(scope="module")
def lite0():
    return models.load("tf_efficientnet_lite0")


# --- Filters ---


def gabor(size, angle, frequency, phase=0.0, sigma=2.0, colour=(1.0, 0.5, -0.5)):
    y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    along = x * np.cos(angle) + y * np.sin(angle)
    wave = torch.exp(-(x**2 + y**2) / (2 * sigma**2)) * torch.cos(2 * torch.pi * frequency * along + phase)
    return torch.tensor(colour)[:, None, None] * wave


def test_planted_gabors_and_blobs_are_recognised_and_noise_is_not():
    planted = torch.stack(
        [gabor(7, a, f, p) for a, f, p in [(0.3, 0.2, 0), (1.2, 0.15, 1.5), (2.5, 0.3, 0.7)]]
    )
    found = explain.gabor_likeness(planted)
    assert found.share.min() > 0.97
    assert not found.blob.any()
    blobs = explain.gabor_likeness(torch.stack([gabor(7, 0, 0, sigma=1.5), gabor(7, 0, 0, sigma=2.5)]))
    assert blobs.share.min() > 0.99
    assert blobs.blob.all()
    noise = torch.randn(32, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    assert explain.gabor_likeness(noise).share.mean() < 0.25


def test_the_share_is_of_energy_and_does_not_depend_on_scale():
    weights = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    found = explain.gabor_likeness(weights)
    left = (weights - found.fit).square().sum((1, 2, 3)) / weights.square().sum((1, 2, 3))
    torch.testing.assert_close(found.share.float(), 1 - left, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(explain.gabor_likeness(weights * 100).share, found.share, rtol=1e-4, atol=1e-4)
    assert explain.gabor_likeness(torch.zeros(1, 3, 5, 5)).share.tolist() == [0.0]


def test_trained_filters_are_more_gabor_like_than_random_ones(lite0):
    trained = explain.gabor_likeness(explain.kernels(lite0)).share
    random = explain.gabor_likeness(
        explain.kernels(models.load("tf_efficientnet_lite0", pretrained=False))
    ).share
    assert trained.mean() > random.mean() + 0.2


def test_kernels_are_copies_of_the_first_convolution_or_of_one_deeper_in(lite0):
    first = explain.kernels(lite0)
    assert torch.equal(first, lite0.conv_stem.weight)
    with unchanged(lite0):
        first.zero_()
    assert explain.kernels(lite0, "blocks.1").shape[2:] == (1, 1)
    with pytest.raises(LearnerError, match=r"blocks"):
        explain.kernels(lite0, "block.1")
    with pytest.raises(LearnerError, match="no 2-D convolution"):
        explain.kernels(Linear())


def test_filters_as_images_have_zero_at_mid_grey():
    weights = torch.tensor([-2.0, 0.0, 1.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(explain.as_images(weights).flatten(), torch.tensor([0.0, 0.5, 0.75]))
    assert explain.as_images(torch.randn(4, 8, 3, 3)).shape == (4, 8, 1, 3, 3)
    with pytest.raises(LearnerError, match="Expected"):
        explain.as_images(torch.randn(4, 8, 3, 3), colour=True)
    for bad in (torch.randn(4, 3, 1, 1), torch.full((1, 3, 3, 3), float("nan")), torch.randn(3, 3)):
        with pytest.raises(LearnerError):
            explain.gabor_likeness(bad)


# --- Activations ---


def test_maps_are_what_plain_hooks_see_before_an_inplace_relu_overwrites_it():
    model = torchvision.models.densenet121(num_classes=3).eval()
    x, seen = images(1, 64), {}
    names = ["features.norm0", "features.denseblock1.denselayer1.norm1"]
    for name in names:
        model.get_submodule(name).register_forward_hook(
            lambda m, a, out, name=name: seen.update({name: out.clone()})
        )
    with torch.no_grad():
        model(x)
    for name in names:
        model.get_submodule(name)._forward_hooks.clear()
    with unchanged(model):
        found = explain.maps(model, x, at=names)
    for name in names:
        assert torch.equal(found[name], seen[name])
    assert found["features.norm0"].min() < 0


def test_maps_at_stages_are_what_surgery_hands_over(lite0):
    x = images(1, 64)
    found = explain.maps(lite0, x, at=["stem", "stage3", "pool"])
    with torch.no_grad():
        prefix, _ = surgery.split_at(lite0, "stage4")
        torch.testing.assert_close(found["stage3"], prefix(x), rtol=1e-4, atol=1e-4)
    assert found["stem"].shape == (1, 32, 32, 32)
    assert found["pool"].shape == (1, 1280)
    for bad in ([], "stem", ["stage33"]):
        with pytest.raises(LearnerError, match="stage"):
            explain.maps(lite0, x, at=bad)


def test_dead_channels_are_those_that_never_change():
    model = Net("modules").eval()
    with torch.no_grad():
        model.conv2.bias[[1, 4]] = -1e3  # behind the ReLU they are zero, whatever comes
    loader = [(images(3, seed=s), torch.zeros(3)) for s in range(2)]
    dead = explain.dead_channels(model, loader, at="relu2")
    assert dead.nonzero().flatten().tolist() == [1, 4]
    assert explain.dead_channels(model, [images()], at="conv2").nonzero().numel() == 0
    with pytest.raises(LearnerError, match="No batch"):
        explain.dead_channels(model, [], at="relu2")


class Window(nn.Module):
    """Convolutions and a pool whose receptive fields are counted by changing one pixel at a time."""

    def __init__(self, pad_after=False):
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1)) if pad_after else nn.Identity()
        self.conv1 = nn.Conv2d(3, 2, 3, stride=2, padding=0 if pad_after else 1)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(2, 4, 5, padding=2)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def forward(self, x):
        return self.head(self.conv2(self.maxpool(self.relu(self.conv1(self.pad(x))))))


@pytest.mark.parametrize("pad_after", [False, True])
@pytest.mark.parametrize("at", ["conv1", "maxpool", "conv2"])
def test_receptive_boxes_are_exact_by_brute_force(pad_after, at):
    model, side = models.describe(Window(pad_after).eval(), input_size=(3, 32, 32)), 32
    # One pixel of each image is NaN: what becomes NaN depends on it.
    x = torch.zeros(side * side, 3, side, side)
    for row in range(side):
        for column in range(side):
            x[row * side + column, :, row, column] = torch.nan
    with torch.no_grad():
        h = model.conv1(model.pad(x))
        h = h if at == "conv1" else model.maxpool(model.relu(h))
        h = h if at != "conv2" else model.conv2(h)
    touched = h.isnan().any(1).view(side, side, *h.shape[2:])
    units = [(0, 0), (2, 5), (h.shape[2] - 1, 1), (h.shape[2] - 1, h.shape[3] - 1)]
    expected = []
    for r, c in units:
        rows, columns = touched[:, :, r, c].nonzero(as_tuple=True)
        expected.append((int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1))
    assert explain.receptive_boxes(model, images(1, 32), units, at=at) == expected


def test_receptive_boxes_have_the_size_that_surgery_counts(lite0):
    stages = surgery.stages(lite0)
    for name in ("stem", "stage1", "stage2", "stage3"):
        shape = explain.maps(lite0, images(1, 224), at=[name])[name].shape
        ((top, left, bottom, right),) = explain.receptive_boxes(
            lite0, images(1, 224), [(shape[2] // 2, shape[3] // 2)], at=name
        )
        assert bottom - top == right - left == stages[name].receptive_field
    # TensorFlow's padding stands after the image: the first unit sees pixels 0 to 2.
    assert explain.receptive_boxes(lite0, images(1, 224), [(0, 0)], at="stem") == [(0, 0, 3, 3)]


def test_best_patches_are_the_pixels_that_excite_a_channel():
    model = models.describe(Window().eval(), input_size=(3, 32, 32))
    with torch.no_grad():
        model.conv1.weight[0] = 1.0  # a detector of bright squares
        model.conv1.weight[1] = -1.0
        model.conv1.bias.zero_()
    x = torch.zeros(5, 3, 32, 32)
    spots = {1: (6, 20, 3.0), 3: (24, 2, 5.0), 4: (10, 10, 1.0)}
    for image, (row, column, value) in spots.items():
        x[image, :, row : row + 3, column : column + 3] = value
    found = explain.best_patches(
        model, [x[:2], (x[2:], torch.zeros(3))], at="conv1", channels=[1, 0], count=3
    )
    assert list(found) == [1, 0]
    patches = found[0]
    assert [p.image for p in patches] == [3, 1, 4]
    assert [p.value for p in patches] == sorted([p.value for p in patches], reverse=True)
    for patch in patches:
        top, left, bottom, right = patch.box
        assert torch.equal(patch.pixels, x[patch.image, :, top:bottom, left:right])
        row, column, value = spots[patch.image]
        assert top <= row + 1 < bottom
        assert left <= column + 1 < right
        assert patch.pixels.max() == value
    with pytest.raises(LearnerError, match="no channel 2"):
        explain.best_patches(model, [x], at="conv1", channels=[0, 2])
    with pytest.raises(LearnerError, match="spatial"):
        explain.best_patches(model, [x], at="head", channels=[0])
    with pytest.raises(LearnerError, match="No batch"):
        explain.best_patches(model, [], at="conv1", channels=[0])


# --- Neighbours ---


def test_nearest_by_hand():
    codes = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    indices, distances = explain.nearest(codes, count=2)
    assert indices.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert distances[0].tolist() == [1.0, 3.0]
    indices, _ = explain.nearest(codes, [[6.0]], count=1)
    assert indices.tolist() == [[3]]
    pictures = torch.stack([torch.full((3, 4, 4), v) for v in (0.0, 0.1, 0.9)])
    assert explain.nearest(pictures, count=1)[0].flatten().tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("codes", "queries", "count"),
    [
        ([[1.0], [2.0]], None, 2),
        ([[1.0], [2.0]], [[1.0, 2.0]], 1),
        ([[1.0], [float("nan")]], None, 1),
        ([1.0, 2.0], None, 1),
        (np.zeros((0, 3)), None, 1),
    ],
)
def test_codes_that_do_not_fit_are_named(codes, queries, count):
    with pytest.raises(LearnerError, match=r"(neighbours|stage|NaN|Expected)"):
        explain.nearest(codes, queries, count=count)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_an_image_map_gives_each_image_a_cell_and_keeps_groups_together(method):
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal(0, 0.1, (12, 8)), rng.normal(4, 0.1, (13, 8))])
    found = explain.image_map(codes, method=method)
    assert found.shape == (5, 5)
    assert len({tuple(cell) for cell in found.cells}) == 25
    assert found.points.min() >= 0
    assert found.points.max() <= 1
    same = explain.image_map(codes, method=method)
    assert np.array_equal(found.cells, same.cells)
    centres = [found.cells[:12].mean(0), found.cells[12:].mean(0)]
    spread = np.linalg.norm(centres[0] - centres[1])
    assert spread > 1.5
    pictures = torch.arange(25.0).view(25, 1, 1, 1).expand(25, 3, 2, 2) / 24
    mosaic = found.mosaic(pictures)
    assert mosaic.shape == (3, 10, 10)
    row, column = found.cells[7]
    assert mosaic[0, 2 * row, 2 * column] == pytest.approx(7 / 24)
    with pytest.raises(LearnerError, match="25 images"):
        found.mosaic(pictures[:3])


def test_image_maps_that_cannot_be_are_named():
    with pytest.raises(LearnerError, match="umap"):
        explain.image_map(np.eye(5), method="umap")
    with pytest.raises(LearnerError, match="at least 4"):
        explain.image_map(np.eye(3))


# --- Faithfulness ---


class TwoPixels(nn.Module):
    """Class 1 has the score 3·(first pixel) + 1·(last pixel), class 0 has 0: a logistic by hand."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2, bias=False)
        self.fc.weight.data = torch.tensor([[0.0, 0.0], [3.0, 1.0]])

    def forward(self, x):
        return self.fc(x[:, 0].flatten(1)[:, [0, 3]])


def test_deletion_and_insertion_by_hand():
    model, x = TwoPixels(), torch.ones(1, 3, 2, 2)
    right = torch.tensor([[[3.0, 0.2], [0.1, 1.0]]])  # the order of pixels: first, last, and the idle two
    logits = torch.tensor([4.0, 1.0, 0.0, 0.0, 0.0])
    found = explain.deletion(model, x, right, 1, steps=4)
    torch.testing.assert_close(found.scores[0], logits.sigmoid())
    torch.testing.assert_close(found.area, torch.trapezoid(logits.sigmoid(), found.shares)[None])
    inserted = explain.insertion(model, x, right, 1, steps=4)
    torch.testing.assert_close(inserted.scores[0], torch.tensor([0.0, 3.0, 4.0, 4.0, 4.0]).sigmoid())
    wrong = explain.deletion(model, x, -right, 1, steps=4)
    assert found.area < wrong.area
    assert explain.insertion(model, x, -right, 1, steps=4).area < inserted.area


def test_curves_say_what_does_not_fit():
    model, x = Net().eval(), images()
    maps = torch.zeros(2, 24, 24)
    for call in (explain.deletion, explain.insertion):
        for bad in (maps[:1], maps[:, :12], "map", maps * float("nan")):
            with pytest.raises(LearnerError, match="maps"):
                call(model, x, bad)
        with pytest.raises(LearnerError, match="steps=0"):
            call(model, x, maps, steps=0)
        with pytest.raises(LearnerError, match="fill"):
            call(model, x, maps, fill=torch.zeros(5))
        with unchanged(model):
            call(model, x, maps, 1, steps=2)


def test_cascade_tells_a_map_of_the_network_from_one_of_the_picture():
    model = Net("inplace", dropout=0.2)
    x = images(2, 32)

    def edges(model, x, target=None):
        return (x[:, 0] - x[:, 0].roll(1, 2)).abs()

    with unchanged(model):
        of_picture = explain.cascade(model, x, edges)
        of_network = explain.cascade(model, x, explain.saliency, 1)
        again = explain.cascade(model, x, explain.saliency, 1)
    assert list(of_picture) == list(reversed([s.name for s in surgery.stages(model) if s.num_params]))
    assert all((value > 0.999).all() for value in of_picture.values())
    last = list(of_network.values())[-1]
    assert (last < 0.8).all()
    assert all(torch.equal(of_network[name], again[name]) for name in of_network)


def test_pointing_game_counts_peaks_in_boxes():
    maps = torch.zeros(4, 10, 10)
    for i, (row, column) in enumerate([(2, 2), (5, 5), (9, 9), (0, 7)]):
        maps[i, row, column] = 1
    boxes = [(0, 0, 3, 3), (0, 0, 5, 5), (9, 9, 10, 10), (0, 7, 1, 8)]
    found = explain.pointing_game(maps, boxes)
    assert found.hits.tolist() == [True, False, True, True]
    assert found.rate == 0.75
    assert (found.low, found.high) == pytest.approx((0.3006, 0.9544), abs=1e-3)  # Wilson, 3 of 4
    with pytest.raises(LearnerError, match="one box per map"):
        explain.pointing_game(maps, boxes[:3])


def pasted(lite0, count, seed=0):
    """A cat's face, 80 pixels wide, pasted at random on gravel, grass and brick; images and boxes."""
    from skimage import data

    rng = np.random.default_rng(seed)
    face = Image.fromarray(data.chelsea()).crop((90, 10, 300, 220)).resize((96, 96))
    grounds = [
        Image.fromarray(g()).convert("RGB").resize((224, 224)) for g in (data.gravel, data.grass, data.brick)
    ]
    pictures, boxes = [], []
    for i in range(count):
        top, left = (int(v) for v in rng.integers(0, 224 - 96, 2))
        picture = grounds[i % 3].copy()
        picture.paste(face, (left, top))
        pictures.append(to_tensor(picture))
        boxes.append((top, left, top + 96, left + 96))
    return explain.to_input(lite0, torch.stack(pictures)), boxes


@pytest.mark.parametrize(
    ("method", "options", "count"),
    [
        (explain.grad_cam, {}, 12),
        (explain.smoothgrad, {"samples": 4}, 6),
        (explain.occlusion, {"window": 64, "stride": 32}, 3),
    ],
)
def test_planted_objects_are_found_by_the_real_network(lite0, method, options, count):
    x, boxes = pasted(lite0, count)
    found = explain.pointing_game(method(lite0, x, 285, **options), boxes)  # class 285: Egyptian cat
    chance = 96 * 96 / 224**2
    print(
        f"{method.__name__}: {found.rate:.2f} of {count} ({found.low:.2f} to {found.high:.2f}), chance "
        f"{chance:.2f}"
    )
    assert found.low > chance
