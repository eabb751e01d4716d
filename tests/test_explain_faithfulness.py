"""Whether a map is worth believing: curves, randomised weights, planted objects."""

import numpy as np
import pytest
import torch
from explain_toys import Net, images, unchanged
from PIL import Image
from torch import nn
from torchvision.transforms.functional import to_tensor

from tlutils import explain, surgery
from tlutils.errors import LearnerError


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
        with pytest.raises(LearnerError, match="baseline"):
            call(model, x, maps, baseline=torch.zeros(5))
        with unchanged(model):
            call(model, x, maps, 1, steps=2)


def test_cascade_tells_a_map_of_the_network_from_one_of_the_picture():
    model = Net("inplace", dropout=0.2)
    x = images(2, 32)

    def edges(model, x, target=None):
        return (x[:, 0] - x[:, 0].roll(1, 2)).abs()

    with unchanged(model):
        of_picture = explain.cascading_randomization(model, x, edges)
        of_network = explain.cascading_randomization(model, x, explain.saliency, 1)
        again = explain.cascading_randomization(model, x, explain.saliency, 1)
    assert list(of_picture) == list(reversed([s.name for s in surgery.stages(model) if s.num_params]))
    assert all((value > 0.999).all() for value in of_picture.values())
    last = list(of_network.values())[-1]
    assert (last < 0.8).all()
    assert all(torch.equal(of_network[name], again[name]) for name in of_network)


def test_pointing_game_counts_peaks_in_boxes():
    maps = torch.zeros(4, 10, 10)
    for i, (row, column) in enumerate([(2, 2), (5, 5), (9, 9), (0, 7)]):
        maps[i, row, column] = 1
    boxes = [(0, 0, 3, 3), (0, 0, 5, 5), (9, 9, 10, 10), (7, 0, 8, 1)]
    found = explain.pointing_game(maps, boxes)
    assert found.hits.tolist() == [True, False, True, True]
    assert found.rate == 0.75
    assert (found.low, found.high) == pytest.approx((0.3006, 0.9544), abs=1e-3)  # Wilson, 3 of 4
    with pytest.raises(LearnerError, match="one box per map"):
        explain.pointing_game(maps, boxes[:3])


def pasted(lite0, count, seed=0):
    """A cat's face, 96 pixels wide, pasted at random on gravel, grass and brick; images and boxes."""
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
        boxes.append((left, top, left + 96, top + 96))
    return explain.normalize(lite0, torch.stack(pictures)), boxes


@pytest.mark.parametrize(
    ("method", "options", "count"),
    [
        (explain.grad_cam, {}, 8),
        pytest.param(explain.smoothgrad, {"samples": 4}, 6, marks=pytest.mark.full),
        pytest.param(explain.occlusion, {"window": 64, "stride": 40}, 3, marks=pytest.mark.full),
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
