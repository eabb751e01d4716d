"""Predicting and evaluating take any images, and change nothing."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from tiny import TinySplit, tiny_data, tiny_net
from torch import nn

from tlutils import data, features, fingerprint, models, train
from tlutils.errors import LearnerError
from tlutils.train import Recipe


def test_a_prediction_takes_one_image_many_arrays_paths_and_splits(tmp_path):
    net, dataset = tiny_net(), tiny_data()
    image = dataset.val[0][0]
    image.save(tmp_path / "one.png")
    one = train.predict(net, image)
    assert one.probabilities.shape == (1, 3)
    assert one.probabilities.sum() == pytest.approx(1)
    for images in (np.asarray(image), tmp_path / "one.png", [image], [str(tmp_path / "one.png")]):
        assert np.array_equal(train.predict(net, images).probabilities, one.probabilities)
    assert len(train.predict(net, dataset.val)) == 12
    assert one.names == [train.predict(net, dataset.val).names[0]]
    with pytest.raises(LearnerError, match="No images"):
        train.predict(net, [])


def test_a_saved_model_predicts_with_its_class_names(tmp_path):
    dataset = tiny_data()
    net = models.load("torchvision/squeezenet1_1", pretrained=False, num_classes=3, input_size=32)
    train.fit(net, dataset, Recipe.finetune(epochs=1), out=tmp_path)
    back = models.load(tmp_path / "model.safetensors")
    assert [p.stride() for p in net.parameters()] == [p.stride() for p in back.parameters()], (
        "order in memory"
    )
    image = dataset.val[0][0]
    assert np.array_equal(train.predict(back, image).probabilities, train.predict(net, image).probabilities)
    assert train.predict(back, image).names[0] in dataset.classes


def image_folder(path):
    for name in "ab":
        (path / name).mkdir()
        Image.new("RGB", (16, 16)).save(path / name / "one.png")
    return torchvision.datasets.ImageFolder(path)


OTHERS = {
    "a folder of torchvision": image_folder,
    "a list": lambda path: [(Image.new("RGB", (16, 16)), 0)],
    "tensors": lambda path: torch.utils.data.TensorDataset(torch.zeros(2, 3, 16, 16), torch.arange(2)),
    "a batch": lambda path: torch.zeros(2, 3, 16, 16),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_images_of_another_library_are_told_how_they_become_a_split(kind, tmp_path):
    images, net = OTHERS[kind](tmp_path), tiny_net()
    for use in (
        lambda: train.evaluate(net, images),
        lambda: features.extract(net, images, at="pool"),
        lambda: train.fit(net, images, Recipe.probe(epochs=1)),
        lambda: train.fit(net, replace(tiny_data(), val=images), Recipe.probe(epochs=1)),
    ):
        with pytest.raises(LearnerError, match=r"data\.load\("):
            use()


class Flattens(nn.Module):
    """A network that counts on the usual order in memory, as many tutorials write it."""

    def __init__(self, flatten):
        super().__init__()
        self.conv, self.fc, self.flatten = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4 * 8 * 8, 3), flatten

    def forward(self, x):
        return self.fc(self.flatten(self.conv(x).relu()))


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view(-1, 4 * 8 * 8),
        lambda x: x.view(x.shape[0], 4, 64).view(-1, 256),
    ],
)
def test_a_network_that_counts_on_the_order_in_memory_is_used_everywhere(flatten):
    net, dataset = models.describe(Flattens(flatten), input_size=16, mean=0.5, std=0.5), tiny_data()
    x = torch.stack([data.transform_for(net)(image) for image, _ in dataset.val])
    with torch.no_grad():
        wanted = net.eval()(x)
    seen = features.extract(net, dataset.val, at="head", precision="auto")["head"]
    assert np.allclose(seen, wanted, atol=0.02)  # in bfloat16, where there are units for it
    assert np.allclose(train.predict(net, dataset.val).probabilities, wanted.softmax(1), atol=1e-5)
    history = train.fit(net, dataset, Recipe.finetune(epochs=3, lr=1e-2))
    assert history.rows[-1]["train_loss"] < history.rows[0]["train_loss"]


def test_looking_gives_back_modes_gradients_and_generators_also_after_an_error():
    net = tiny_net(dropout=0.5).train()
    net.body.eval()
    net.fc.weight.grad = torch.ones_like(net.fc.weight)
    modes = [m.training for m in net.modules()]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = train.predict(net, tiny_data().val).probabilities
    assert np.array_equal(first, train.predict(net, tiny_data().val).probabilities), "dropout was active"
    with pytest.raises(LearnerError, match="a hook that fails"):
        net.body[0].register_forward_hook(fail)
        train.predict(net, tiny_data().val)
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(net.fc.weight.grad, torch.ones_like(net.fc.weight))
    assert torch.equal(torch.get_rng_state(), state)


def drops_by_function(x):
    return torch.nn.functional.dropout(x, 0.5, training=True)


def drops_by_numpy(x):
    return x * float(np.random.rand() > 0.01)  # noqa: NPY002


def drops_by_python(x):
    return x * float(random.random() > 0.01)


@pytest.mark.parametrize("drop", [drops_by_function, drops_by_numpy, drops_by_python])
@pytest.mark.parametrize("look", [train.predict, train.evaluate])
def test_what_a_network_draws_in_eval_mode_moves_no_global_generator(drop, look):
    net, dataset = tiny_net(), tiny_data(val=3)
    net.body.register_forward_hook(lambda module, inputs, output: drop(output))
    before = fingerprint.of_generators()
    look(net, dataset.val)
    assert fingerprint.of_generators() == before


def fail(*_):
    raise RuntimeError("a hook that fails")


def test_reading_the_test_split_again_is_marked(caplog):
    dataset = tiny_data()
    dataset.test = TinySplit("test", [0, 1, 2], dataset.classes, 2)
    train.evaluate(tiny_net(), dataset.test)
    assert not caplog.records
    train.evaluate(tiny_net(), dataset.test)
    assert "read before" in caplog.text
