"""Filters, activations and neighbours."""

import numpy as np
import pytest
import torch
import torchvision
from explain_toys import Linear, Net, images, unchanged
from families import few
from odd_networks import Fork, Wide
from torch import nn

from tlutils import explain, models, surgery
from tlutils.errors import LearnerError
from tlutils.explain import channels

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
    found = explain.fit_gabors(planted)
    assert found.share.min() > 0.97
    assert not found.blob.any()
    blobs = explain.fit_gabors(torch.stack([gabor(7, 0, 0, sigma=1.5), gabor(7, 0, 0, sigma=2.5)]))
    assert blobs.share.min() > 0.99
    assert blobs.blob.all()
    noise = torch.randn(32, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    assert explain.fit_gabors(noise).share.mean() < 0.25


def test_the_share_is_of_energy_and_does_not_depend_on_scale():
    weights = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    found = explain.fit_gabors(weights)
    left = (weights - found.fit).square().sum((1, 2, 3)) / weights.square().sum((1, 2, 3))
    torch.testing.assert_close(found.share.float(), 1 - left, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(explain.fit_gabors(weights * 100).share, found.share, rtol=1e-4, atol=1e-4)
    assert explain.fit_gabors(torch.zeros(1, 3, 5, 5)).share.tolist() == [0.0]


def test_trained_filters_are_more_gabor_like_than_random_ones(lite0):
    trained = explain.fit_gabors(explain.filters(lite0)).share
    random = explain.fit_gabors(explain.filters(models.load("tf_efficientnet_lite0", pretrained=False))).share
    assert trained.mean() > random.mean() + 0.2


def test_kernels_are_copies_of_the_first_convolution_or_of_one_deeper_in(lite0):
    first = explain.filters(lite0)
    assert torch.equal(first, lite0.conv_stem.weight)
    with unchanged(lite0):
        first.zero_()
    assert explain.filters(lite0, "blocks.1").shape[2:] == (1, 1)
    with pytest.raises(LearnerError, match=r"blocks"):
        explain.filters(lite0, "block.1")
    with pytest.raises(LearnerError, match="no 2-D convolution"):
        explain.filters(Linear())


def test_filters_as_images_have_zero_at_mid_grey():
    weights = torch.tensor([-2.0, 0.0, 1.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(explain.filters_to_images(weights).flatten(), torch.tensor([0.0, 0.5, 0.75]))
    assert explain.filters_to_images(torch.randn(4, 8, 3, 3)).shape == (4, 8, 1, 3, 3)
    with pytest.raises(LearnerError, match="Expected"):
        explain.filters_to_images(torch.randn(4, 8, 3, 3), colour=True)
    for bad in (torch.randn(4, 3, 1, 1), torch.full((1, 3, 3, 3), float("nan")), torch.randn(3, 3)):
        with pytest.raises(LearnerError):
            explain.fit_gabors(bad)


# --- Activations ---


def test_maps_are_what_plain_hooks_see_before_an_inplace_relu_overwrites_it():
    model = torchvision.models.DenseNet(4, (2, 2), 8, num_classes=3).eval()
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
        found = explain.activations(model, x, at=names)
    for name in names:
        assert torch.equal(found[name], seen[name])
    assert found["features.norm0"].min() < 0


def test_maps_at_stages_are_what_surgery_hands_over(lite0):
    x = images(1, 64)
    found = explain.activations(lite0, x, at=["stem", "stage3", "pool"])
    with torch.no_grad():
        prefix, _ = surgery.split_at(lite0, "stage4")
        torch.testing.assert_close(found["stage3"], prefix(x), rtol=1e-4, atol=1e-4)
    assert found["stem"].shape == (1, 32, 32, 32)
    assert found["pool"].shape == (1, 1280)
    assert torch.equal(explain.activations(lite0, x, at="stem")["stem"], found["stem"])
    for bad in ([], "", ["stage33"]):
        with pytest.raises(LearnerError, match="stage"):
            explain.activations(lite0, x, at=bad)


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
        expected.append((int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1))
    assert channels.receptive_boxes(model, images(1, 32), units, at=at) == expected


def test_receptive_boxes_have_the_size_that_surgery_counts(lite0):
    stages, names = surgery.stages(lite0), ("stem", "stage1", "stage2", "stage3")
    for name, maps in explain.activations(lite0, images(1, 224), at=names).items():
        shape = maps.shape
        ((left, top, right, bottom),) = channels.receptive_boxes(
            lite0, images(1, 224), [(shape[2] // 2, shape[3] // 2)], at=name
        )
        assert bottom - top == right - left == stages[name].receptive_field
    # TensorFlow's padding stands after the image: the first unit sees pixels 0 to 2.
    assert channels.receptive_boxes(lite0, images(1, 224), [(0, 0)], at="stem") == [(0, 0, 3, 3)]


def test_top_patches_are_the_pixels_that_activate_a_channel():
    model = models.describe(Window().eval(), input_size=(3, 32, 32))
    with torch.no_grad():
        model.conv1.weight[0] = 1.0  # a detector of bright squares
        model.conv1.weight[1] = -1.0
        model.conv1.bias.zero_()
    x = torch.zeros(5, 3, 32, 32)
    spots = {1: (6, 20, 3.0), 3: (24, 2, 5.0), 4: (10, 10, 1.0)}
    for image, (row, column, value) in spots.items():
        x[image, :, row : row + 3, column : column + 3] = value
    found = explain.top_patches(model, [x[:2], (x[2:], torch.zeros(3))], at="conv1", channels=[1, 0], count=3)
    assert list(found) == [1, 0]
    patches = found[0]
    assert [p.image for p in patches] == [3, 1, 4]
    assert [p.value for p in patches] == sorted([p.value for p in patches], reverse=True)
    for patch in patches:
        left, top, right, bottom = patch.box
        assert torch.equal(patch.pixels, x[patch.image, :, top:bottom, left:right])
        row, column, value = spots[patch.image]
        assert top <= row + 1 < bottom
        assert left <= column + 1 < right
        assert patch.pixels.max() == value
    with pytest.raises(LearnerError, match="no channel 2"):
        explain.top_patches(model, [x], at="conv1", channels=[0, 2])
    with pytest.raises(LearnerError, match="spatial"):
        explain.top_patches(model, [x], at="head", channels=[0])
    with pytest.raises(LearnerError, match="No batch"):
        explain.top_patches(model, [], at="conv1", channels=[0])


# --- Layouts ---


def wide(layout):
    return models.describe(Wide(layout).eval(), input_size=Wide.size)


def patches(model, x, at):
    found = explain.top_patches(model, [x], at=at, channels=[3, 7], count=2)
    return torch.tensor([[p.image, p.value, *p.unit, *p.box] for ps in found.values() for p in ps])


LOOKS = {
    "dead channels": lambda model, x, at: explain.dead_channels(model, [x], at=at),
    "best patches": patches,
    "Grad-CAM": lambda model, x, at: explain.grad_cam(model, x, at=at),
    "CAM": lambda model, x, at: explain.cam(model, x),
    "last maps": lambda model, x, at: explain.grad_cam(model, x),
    "texture": lambda model, x, at: explain.texture_synthesis(model, x, at=at, steps=2).images,
    "centre": lambda model, x, at: explain.maximise_activation(model, at, 3, unit="centre", steps=2).curve,
}


@pytest.mark.parametrize("at", ["stage2", "two.mix"])
@pytest.mark.parametrize("look", few(LOOKS, "best patches", "Grad-CAM", "texture"))
def test_a_network_with_channels_last_looks_like_its_twin_with_channels_first(look, at):
    x = torch.randn(4, *Wide.size, generator=torch.Generator().manual_seed(0))
    first, last = (LOOKS[look](wide(layout), x, at) for layout in ("NCHW", "NHWC"))
    torch.testing.assert_close(first, last, rtol=1e-4, atol=1e-5)
    assert first.float().std() > 0, "a look that says nothing would be alike, too"


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NLC"])
def test_a_silent_channel_is_found_wherever_the_channels_are(layout):
    x = torch.randn(4, *Wide.size, generator=torch.Generator().manual_seed(0))
    dead = explain.dead_channels(wide(layout), [x], at="stage2")
    assert dead.tolist() == [True] + 31 * [False]


def test_a_module_is_read_in_a_model_that_has_no_stages():
    x = torch.randn(4, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    assert len(explain.dead_channels(Fork().eval(), [x], at="first")) == 8


# --- Neighbours ---


def test_nearest_by_hand():
    features = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    distances, indices = explain.nearest(features, n_neighbors=2)
    assert indices.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert distances[0].tolist() == [1.0, 3.0]
    _, indices = explain.nearest(features, [[6.0]], n_neighbors=1)
    assert indices.tolist() == [[3]]
    pictures = torch.stack([torch.full((3, 4, 4), v) for v in (0.0, 0.1, 0.9)])
    assert explain.nearest(pictures, n_neighbors=1)[1].flatten().tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("features", "queries", "count"),
    [
        ([[1.0], [2.0]], None, 2),
        ([[1.0], [2.0]], [[1.0, 2.0]], 1),
        ([[1.0], [float("nan")]], None, 1),
        ([1.0, 2.0], None, 1),
        (np.zeros((0, 3)), None, 1),
    ],
)
def test_features_that_do_not_fit_are_named(features, queries, count):
    with pytest.raises(LearnerError, match=r"(neighbours|stage|NaN|Expected)"):
        explain.nearest(features, queries, n_neighbors=count)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_an_image_map_gives_each_image_a_cell_and_keeps_groups_together(method):
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 0.1, (12, 8)), rng.normal(4, 0.1, (13, 8))])
    found = explain.embedding_map(features, method=method)
    assert found.shape == (5, 5)
    assert len({tuple(cell) for cell in found.cells}) == 25
    assert found.points.min() >= 0
    assert found.points.max() <= 1
    same = explain.embedding_map(features, method=method)
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
        explain.embedding_map(np.eye(5), method="umap")
    with pytest.raises(LearnerError, match="at least 4"):
        explain.embedding_map(np.eye(3))
