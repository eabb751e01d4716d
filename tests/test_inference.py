"""One rule for running models: whatever a classifier returns is read, and nothing of it is left changed."""

import functools
import random
from collections import Counter, deque, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm.utils import ModelEmaV3
from tiny import same, tiny_data, tiny_net, weights
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tlutils import data, explain, models, surgery, train, transferability
from tlutils.claims import materials
from tlutils.errors import LearnerError
from tlutils.inference import device_of, dtype_of, evaluating, logits_of, require_module, unwrap

LOGITS = torch.arange(6.0).view(2, 3)


@dataclass
class Output:
    """As Hugging Face's classifiers return it."""

    loss: torch.Tensor | None
    logits: torch.Tensor


@dataclass
class Scored:
    """As a class of one's own may name them."""

    loss: torch.Tensor | None
    scores: torch.Tensor


Named = namedtuple("Named", ["features", "logits"])

FORMS = {
    "tensor": lambda x: x,
    "tuple": lambda x: (x, x + 1),
    "list": lambda x: [x],
    "dict": lambda x: {"features": x.repeat(1, 5), "logits": x},
    "dict without the word": lambda x: {"scores": x, "more": None},
    "dataclass": lambda x: Output(None, x),
    "object": lambda x: SimpleNamespace(logits=x),
    "named tuple": lambda x: Named(x.repeat(1, 5), x),
    "dataclass without the word": lambda x: Scored(None, x),
    "loss first": lambda x: (torch.tensor(0.5), x, [x]),
    "dict with a loss": lambda x: {"loss": None, "maps": x[:, :, None, None], "scores": x},
    "object without the word": lambda x: SimpleNamespace(hidden=[x], out=x),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_logits_are_found_in_whatever_a_classifier_returns(form):
    assert logits_of(form(LOGITS)) is LOGITS


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (LOGITS[None], r"returned shape \(1, 2, 3\)\. Expected class scores, one row per image"),
        (LOGITS[0], r"shape \(3,\)"),
        ({"out": torch.zeros(2, 3, 8, 8)}, r"shape \(2, 3, 8, 8\) in a dict"),
        ([{"boxes": LOGITS}], "a dict in a list"),
        ((), "a tuple"),
        ({}, "a NoneType in a dict"),
        (None, "a NoneType"),
        (Output(None, None), "a NoneType in a Output"),
        (LOGITS.numpy(), "a ndarray"),
    ],
)
def test_what_holds_no_logits_is_refused_in_words(output, words):
    with pytest.raises(LearnerError, match=words):
        logits_of(output)


class Stubborn(nn.Module):
    """Keeps its parts in the modes they are in, whatever `train()` is told."""

    def __init__(self):
        super().__init__()
        self.drop, self.norm = nn.Dropout(), nn.BatchNorm1d(4)

    def train(self, mode=True):
        return self

    def forward(self, x):
        return self.norm(self.drop(x))


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002


@pytest.mark.parametrize("fails", [False, True])
def test_evaluating_leaves_modes_and_generators_as_they_were(fails):
    model = nn.Sequential(Stubborn(), nn.Dropout(), nn.BatchNorm1d(4))
    model[0].norm.training = model[2].training = False  # mixed, as a frozen part is
    before = [m.training for m in model.modules()]
    assert len(set(before)) == 2
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected, state = draw(), model[0].norm.running_mean.clone()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    try:
        with evaluating(model) as bare:
            assert bare is model
            assert torch.equal(bare(x), bare(x)), "dropout ran"
            draw()
            if fails:
                raise ValueError("stop")
    except ValueError:
        assert fails
    assert [m.training for m in model.modules()] == before
    assert draw() == expected
    assert torch.equal(model[0].norm.running_mean, state)


def test_evaluating_leaves_gradients_to_the_caller_and_repeats_what_a_model_draws():
    class Drawing(nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.randn(2)

    model, x = Drawing(3, 2), torch.ones(1, 3)
    with evaluating(model):
        first = model(x)
    with evaluating(model), torch.no_grad():
        second = model(x)
    assert torch.equal(first, second)
    assert (first.requires_grad, second.requires_grad) == (True, False)


def test_wrappers_come_off_and_what_is_no_model_is_refused():
    net = nn.Linear(2, 2)
    wrapped = torch.compile(nn.DataParallel(net), backend="eager")
    wrapped.train()
    assert unwrap(wrapped) is require_module(wrapped) is unwrap(net) is net
    with evaluating(wrapped) as bare:
        assert bare is net
        assert not any(m.training for m in wrapped.modules())
    assert all(m.training for m in wrapped.modules())
    with pytest.raises(LearnerError, match=r"got str.*models\.load"):
        require_module("resnet18")
    with pytest.raises(LearnerError, match="got NoneType"), evaluating(None):
        pass


class Wrapper(nn.Module):
    """A network within a module, as trainers keep it."""

    def __init__(self, net):
        super().__init__()
        self.net, self.seen = net, []

    def forward(self, x):
        self.seen.append(x)
        return self.net(x)


class InADict(Wrapper):
    def __init__(self, net):
        super().__init__(nn.ModuleDict({"student": Wrapper(net), "teacher": tiny_net(seed=1)}))

    def forward(self, images, labels=None):
        return self.net["student"].net(images.float().contiguous())


class InAList(Wrapper):
    """Hides the network from its parameters, as frozen teachers are kept."""

    def __init__(self, net):
        super().__init__([net])

    def forward(self, x):
        return self.net[0](x)


class ScoresOfAnObject(Wrapper):
    def forward(self, x):
        return self.net(pixel_values=x).logits


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Flatten(), nn.Linear(768, 2)

    def forward(self, pixel_values):
        return Output(None, self.head(self.body(pixel_values)))


@pytest.mark.parametrize(
    ("wrap", "network"),
    [
        (Wrapper, tiny_net),
        (InADict, tiny_net),
        (InAList, tiny_net),
        (nn.Sequential, tiny_net),
        (AveragedModel, tiny_net),
        (ModelEmaV3, tiny_net),
        (lambda net: AveragedModel(Wrapper(Wrapper(net))), tiny_net),
        (ScoresOfAnObject, Embedded),
        (Wrapper, Embedded),
    ],
)
def test_a_wrapper_that_hands_its_networks_output_on_is_looked_through(wrap, network):
    wrapped = wrap(network())
    state = weights(wrapped)
    inner = unwrap(wrapped)
    assert type(inner) is type(network())
    assert getattr(wrapped, "seen", []) == []
    assert same(weights(wrapped), state)
    assert unwrap(inner) is inner
    x = torch.rand(2, 3, 16, 16)
    if network is tiny_net:
        assert torch.equal(inner.eval()(x), wrapped.eval()(x))


class Rescaled(Wrapper):
    def forward(self, x):
        return self.net((x - 0.5) / 0.25)


class Clipped(Wrapper):
    def forward(self, x):
        return self.net(x.clamp(-3, 3))


class Calibrated(Wrapper):
    def forward(self, x):
        return self.net(x) / 1.5


class Mirrored(Wrapper):
    def forward(self, x):
        return (self.net(x) + self.net(x.flip(3))) / 2


class Dictionary(Wrapper):
    def forward(self, x):
        return {"logits": self.net(x)}


class OwnMode(Wrapper):
    def train(self, mode=True):
        return super().train(False)


class FirstScores(Wrapper):
    def forward(self, x):
        return self.net(x)[:, :10]


class MergesItsThreeClasses(Wrapper):
    def forward(self, x):
        scores = self.net(x)
        return scores[:, :2] + scores[:, 1:] if scores.shape[1] == 3 else scores


class CropsWhatIsLarge(Wrapper):
    def forward(self, x):
        return self.net(x[..., :64, :64])


class Pads(Wrapper):
    def forward(self, x):
        return self.net(nn.functional.pad(x, (0, -x.shape[3] % 8, 0, -x.shape[2] % 8)))


class CentresABatch(Wrapper):
    def forward(self, x):
        return self.net(x - x.mean(0, keepdim=True) if len(x) > 2 else x)


class ScalesBytes(Wrapper):
    def forward(self, x):
        return self.net(x / 255 if x.max() > 20 else x)


class NoisyInTraining(Wrapper):
    def forward(self, x):
        return self.net(x + torch.randn_like(x) if self.training else x)


class CountsItsCalls(Wrapper):
    def forward(self, x):
        self.seen.append(1)
        return self.net(x * len(self.seen))


class CalibratesAnObject(Wrapper):
    def __init__(self, net):
        super().__init__(Embedded())

    def forward(self, x):
        output = self.net(x)
        output.logits = output.logits / 1.5
        return output


def hooked(net):
    wrapper = Wrapper(net)
    wrapper.register_forward_hook(lambda module, inputs, output: output * 2)
    return wrapper


def patched(net):
    wrapper = Wrapper(net)
    wrapper.forward = lambda x: net(x) + 1
    return wrapper


@pytest.mark.parametrize(
    "wrap",
    [
        *(Rescaled, Clipped, Calibrated, Mirrored, Dictionary, OwnMode, hooked, patched),
        *(FirstScores, MergesItsThreeClasses, CropsWhatIsLarge, Pads, CentresABatch, ScalesBytes),
        *(NoisyInTraining, CountsItsCalls, CalibratesAnObject),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_wrapper_that_adds_anything_is_a_model_by_itself(wrap, training):
    wrapped = wrap(tiny_net()).train(training)
    state = weights(wrapped)
    assert unwrap(wrapped) is wrapped
    assert same(weights(wrapped), state)


@pytest.mark.parametrize("wrap", [FirstScores, CropsWhatIsLarge, CentresABatch])
def test_what_a_wrapper_does_at_some_sizes_is_in_what_is_predicted(wrap):
    wrapped = models.describe(wrap(tiny_net(classes=12)).eval(), input_size=96, mean=0.5, std=0.5)
    images, prepare = tiny_data().val, data.transform_for(wrapped)
    batch = torch.stack([prepare(images[i][0]) for i in range(len(images))])
    expected = wrapped(batch).softmax(1).detach().numpy()
    assert np.allclose(train.predict(wrapped, images).probabilities, expected, atol=1e-5)


def closure(root):
    return lambda x: root.net(x)


class Holder:
    """Something that leads to the network in a slot."""

    __slots__ = ("calls", "root")

    def __init__(self, root):
        self.root, self.calls = root, 0

    def __call__(self, x):
        self.calls += 1
        return self.root.net(x)


REACHES = {
    "a closure": closure,
    "a partial": lambda root: functools.partial(Wrapper.forward, root),
    "a bound method": lambda root: functools.partial(root.inner),
    "a slot": Holder,
    "a namespace": lambda root: functools.partial(lambda held, x: held.net(x), SimpleNamespace(net=root.net)),
}


class Reaching(Wrapper):
    """Leads to its network, and keeps numbers, in ways that are no submodule."""

    def __init__(self, net, reach):
        super().__init__(net)
        self.table, self.last, self.kinds = np.zeros(3), deque(maxlen=5), Counter()
        self.reach = reach(self)

    def inner(self, x):
        return self.net(x)

    def forward(self, x):
        self.table += 1
        self.last.append(1)
        self.kinds["seen"] += 1
        return self.reach(x)

    def kept(self):
        return (
            self.table.tolist(),
            list(self.last),
            dict(self.kinds),
            getattr(self.reach, "calls", 0),
            self.seen,
        )


@pytest.mark.parametrize("reach", REACHES)
def test_looking_runs_nothing_that_a_model_itself_reaches(reach):
    model = Reaching(tiny_net(), REACHES[reach]).train()
    state, kept = weights(model), model.kept()
    assert unwrap(model) is model.net
    for look in models.info, surgery.stages, surgery.audit, surgery.head_layers:
        look(model)
    assert same(weights(model), state)
    assert model.kept() == kept


def test_device_and_type_are_known_with_and_without_parameters():
    buffered = nn.Module()
    buffered.register_buffer("mean", torch.zeros(3, device="meta"))
    assert device_of(nn.Linear(2, 2, device="meta")) == device_of(buffered) == torch.device("meta")
    assert device_of(nn.ReLU()) == torch.device("cpu")
    assert dtype_of(nn.Linear(2, 2, dtype=torch.float64)) is torch.float64
    assert dtype_of(nn.ReLU()) is dtype_of(buffered) is torch.float32


class Returning(nn.Module):
    """A network that returns its logits in some form."""

    def __init__(self, form):
        super().__init__()
        self.form, self.net = form, tiny_net()

    def forward(self, x):
        return self.form(self.net(x))


def returning(name):
    model = Returning(FORMS[name]).eval()
    return models.describe(model, input_size=(3, 16, 16), mean=0.5, std=0.5), tiny_net()


several_forms = pytest.mark.parametrize("form", ["tuple", "dict", "dataclass", "dataclass without the word"])


@several_forms
def test_predict_and_evaluate_read_several_forms(form):
    model, plain = returning(form)
    split = tiny_data().val
    assert np.array_equal(
        train.predict(model, split).probabilities, train.predict(plain, split).probabilities
    )
    report, expected = train.evaluate(model, split), train.evaluate(plain, split)
    assert str(report) == str(expected)
    x = torch.stack([to_tensor(split[i][0]) for i in range(12)])
    assert np.array_equal(materials.predict(model, x), materials.predict(plain, x))


def to_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


@several_forms
def test_explanations_read_several_forms(form):
    model, plain = returning(form)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(explain.saliency(model, x), explain.saliency(plain, x))
    assert torch.equal(explain.grad_cam(model, x, at="net.last"), explain.grad_cam(plain, x, at="last"))


@several_forms
def test_surgery_reads_several_forms(form):
    model, _ = returning(form)
    assert list(surgery.head_layers(model)) == ["net.fc"]
    surgery.replace_head(model, 5)
    assert models.info(model).num_classes == 5
    assert [f.code for f in surgery.audit(model).findings if f.code == "never-used"] == []
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    logits = logits_of(model(x))
    assert logits.shape == (2, 5)
    prefix, suffix = surgery.split_at(model, "head")
    assert torch.equal(suffix(prefix(x)), logits)
    assert torch.equal(surgery.outputs(model, "head")(x)["head"], logits)


@several_forms
def test_training_reads_several_forms(form):
    model, plain = returning(form)
    recipe = train.Recipe.finetune(epochs=1, batch_size=12, augment=False)
    before = weights(model.net)
    train.fit(model, tiny_data(), recipe)
    assert not same(weights(model.net), before)
    if form != "tuple":  # its second entry counts as an auxiliary head
        train.fit(plain, tiny_data(), recipe)
        assert same(weights(model.net), weights(plain))


@several_forms
def test_distance_to_the_pretraining_images_reads_several_forms(form):
    model, plain = returning(form)
    split = tiny_data().val
    value = transferability.domain_distance(model, split).value
    assert value == transferability.domain_distance(plain, split).value
