"""Models of any number type, and of any kind of output, are judged, trained and explained like others."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from explain_toys import Net, images, unchanged
from tiny import TinyNet, same, tiny_data, tiny_net, weights
from torch import nn

from tlutils import explain, features, models, surgery, train, transferability, widgets
from tlutils.train import Recipe

LONG = [pytest.param(dtype, marks=pytest.mark.full) for dtype in (torch.float16, torch.float64)]
TYPES = [torch.bfloat16, *LONG]  # the first, because NumPy has no such type
each_type = pytest.mark.parametrize("dtype", TYPES, ids=lambda t: str(t)[6:])

ATTRIBUTIONS = {
    "occlusion": {"window": 8, "stride": 8, "baseline": 0.1},
    "saliency": {},
    "smoothgrad": {"samples": 2},
    "guided_backprop": {},
    "deconvnet": {},
    "integrated_gradients": {"steps": 3, "baseline": 0.1},
    "cam": {},
    "grad_cam": {},
}


def test_every_attribution_is_tried_here_and_shown_by_the_explorer():
    homes = ("tlutils.explain.attribution", "tlutils.explain.cams")
    every = {name for name in explain.__all__ if getattr(explain, name).__module__ in homes}
    shown = widgets.explore_attributions(tiny_net(), images(1, 16)).controls["left"].options
    assert set(ATTRIBUTIONS) == every == {name for _, name in shown}


def explanations(model, x):
    """Everything that explains a model, as {name: numbers}."""
    found = {name: getattr(explain, name)(model, x, 1, **o) for name, o in ATTRIBUTIONS.items()}
    few = {"steps": 2}
    patches = explain.top_patches(model, [x], at="conv2", channels=[1], count=1)[1][0]
    return found | {
        "scores": explain.score_classes(model, x)[0],
        "activations": explain.activations(model, x, at="conv1")["conv1"],
        "dead": explain.dead_channels(model, [x], at="conv2"),
        "patch": patches.pixels,
        "deletion": explain.deletion(model, x, found["saliency"], steps=3).scores,
        "insertion": explain.insertion(model, x, found["saliency"], steps=3, baseline=0.1).area,
        "cascade": explain.cascading_randomization(model, x, explain.saliency)["head"],
        "class": explain.class_visualization(model, 1, size=32, **few).images,
        "channel": explain.maximise_activation(model, "conv1", 2, size=32, **few).curve,
        "dream": explain.deepdream(model, x, at="conv1", octaves=1, **few).images,
        "inversion": explain.feature_inversion(model, x, at="conv1", **few).images,
        "texture": explain.texture_synthesis(model, x, at="conv1", **few).images,
        "style": explain.style_transfer(model, x, x, content_at="conv2", style_at="conv1", **few).images,
        "fooling": explain.fooling_images(model, x, 2, **few).images,
    }


@each_type
def test_everything_explains_a_model_of_any_number_type(dtype):
    model, x = models.describe(Net(), input_size=(3, 32, 32)).to(dtype), images(1, 32)
    assert explain.nearest(images(3).to(dtype), n_neighbors=1)[0].shape == (3, 1)
    with unchanged(model):
        found = explanations(model, x)
    if dtype != torch.float64:  # short numbers are exactly those of the same weights held in 32 bits
        wanted = explanations(copy.deepcopy(model).float(), x)
        for name, values in found.items():
            assert torch.equal(values, wanted[name]), name
        assert found["grad_cam"].dtype == torch.float32
    else:
        wanted = explanations(copy.deepcopy(model).float(), x)
        for name in ATTRIBUTIONS:
            assert found[name].dtype == torch.float64
            torch.testing.assert_close(found[name].float(), wanted[name], rtol=1e-3, atol=1e-4, msg=name)


@each_type
def test_training_and_judging_take_a_model_of_any_number_type(dtype):
    plain, net = tiny_net(), tiny_net()
    plain.load_state_dict(
        {n: t.to(dtype).to(t.dtype) if t.is_floating_point() else t for n, t in weights(net).items()}
    )
    net.to(dtype)
    dataset = tiny_data()
    assert train.predict(net, dataset.val[0][0]).probabilities.sum() == pytest.approx(1)
    assert train.evaluate(net, dataset.val).accuracy.value == pytest.approx(
        train.evaluate(plain, dataset.val).accuracy.value, abs=0.1
    )
    assert transferability.domain_distance(net, dataset.val).value == pytest.approx(
        transferability.domain_distance(plain, dataset.val).value, rel=0.1
    )
    for recipe in (
        Recipe.partial("last", epochs=2, lr=1e-3, augment=True, views=1),
        Recipe.finetune(epochs=2),
    ):
        one, other = copy.deepcopy(net), copy.deepcopy(plain)
        history = train.fit(one, dataset, recipe)
        expected = train.fit(other, dataset, recipe)
        assert history.table["train_loss"].to_numpy() == pytest.approx(
            expected.table["train_loss"].to_numpy(), abs=1e-5
        )
        assert {t.dtype for t in one.state_dict().values()} == {dtype, torch.int64}
        assert all(
            torch.allclose(a.float(), b.to(dtype).float(), atol=1e-5)
            for a, b in zip(one.parameters(), other.parameters(), strict=True)
        )
        assert bool(history.notices) == (dtype != torch.float64)
        assert 0 < train.weight_change(one, net)["head"] < np.inf


@each_type
def test_parts_of_other_number_types_keep_them(dtype):
    class Mixed(TinyNet):
        def forward(self, x):
            return self.fc(self.pool(self.last(self.body(self.stem(x)))).to(dtype))

    net = models.describe(Mixed().eval(), input_size=(3, 16, 16))
    net.fc.to(dtype)
    before = {name: t.dtype for name, t in net.state_dict().items()}
    if dtype != torch.float64:  # a head of 16 bits is fed with 16 bits, so it can only be judged
        assert len(train.predict(net, tiny_data().val)) == 12
    else:
        train.fit(net, tiny_data(), Recipe.finetune(epochs=1))
    assert {name: t.dtype for name, t in net.state_dict().items()} == before


# --- outputs of other people's classifiers ---


@dataclass
class Output:
    logits: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...] = ()


class Answers(nn.Module):
    """A network whose scores come in something."""

    def __init__(self, kind, inner):
        super().__init__()
        self.inner, self.kind = inner, kind

    def forward(self, x):
        scores = self.inner(x)
        return self.kind(scores, x)


KINDS = {
    "dataclass": lambda s, x: Output(s, (x,)),
    "dict": lambda s, x: {"loss": None, "logits": s},
    "dict of one": lambda s, x: {"scores": s},
    "tuple": lambda s, x: (s, s.norm(dim=1)),
    "list": lambda s, x: [s],
}


@pytest.mark.parametrize(
    "kind",
    [
        "dataclass",
        *(pytest.param(k, marks=pytest.mark.full) for k in ("dict", "tuple", "dict of one", "list")),
    ],
)
def test_scores_in_any_kind_of_output_are_found_everywhere(kind):
    plain = tiny_net()
    net = models.describe(
        Answers(KINDS[kind], tiny_net()), input_size=(3, 16, 16), mean=(0.5,) * 3, std=(0.5,) * 3
    )
    dataset, x = tiny_data(train=6, val=6), images(2, 16)
    assert np.allclose(
        train.predict(net, dataset.val).probabilities, train.predict(plain, dataset.val).probabilities
    )
    for name, options in ATTRIBUTIONS.items():
        mine, theirs = (getattr(explain, name)(m, x, 1, **options) for m in (net, plain))
        torch.testing.assert_close(mine, theirs, msg=name)
    store, wanted = (features.extract(m, dataset.val, at="pool")["pool"] for m in (net, plain))
    assert np.allclose(store, wanted, atol=1e-6)
    for recipe in (Recipe.probe(epochs=1), Recipe.probe(epochs=1, views=0), Recipe.finetune(epochs=1)):
        one, other = copy.deepcopy(net), copy.deepcopy(plain)
        train.fit(one, dataset, recipe)
        train.fit(other, dataset, recipe)
        assert same({n.removeprefix("inner."): t for n, t in weights(one).items()}, weights(other))
    assert not [f for f in surgery.audit(net) if f.kind == "never-used"]
