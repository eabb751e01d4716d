"""A run's folder goes on from its own start alone, and belongs to one run at a time."""

import os
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from threading import Thread

import pytest
import torch
from safetensors.torch import load_file
from tiny import same, tiny_data, tiny_net, weights
from torch import nn

from tlutils import models, surgery, train
from tlutils.errors import LearnerError
from tlutils.train import Recipe

FAST = Recipe.finetune(epochs=2, lr=1e-2, head_lr=2e-2, batch_size=8)


def stop_after(epochs):
    def look(history):
        if len(history) == epochs:
            raise KeyboardInterrupt

    return look


def other_weights():
    return tiny_net(seed=7)


def one_weight():
    net = tiny_net()
    with torch.no_grad():
        net.fc.bias[1] += 1e-6
    return net


def other_statistics():
    net = tiny_net()
    net.body[1].running_var[0] = 2.0
    return net


def other_size():
    return models.describe(tiny_net(), input_size=(3, 24, 24))


def other_normalisation():
    return models.describe(tiny_net(), mean=(0.4, 0.5, 0.5))


def other_crop():
    return models.describe(tiny_net(), crop_pct=0.5)


def other_dropout():
    return tiny_net(dropout=0.4)


def other_activation():
    net = tiny_net()
    net.last[2] = nn.Tanh()
    return net


def other_type():
    return tiny_net().double()


def other_frozen_weight():
    net = tiny_net()
    net.stem[0].weight.requires_grad_(False)
    return net


def frozen_by_hand_but_for_the_head():
    net = tiny_net()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))
    return net


def dropout_kept_in_what_is_frozen():
    return surgery.freeze_to(tiny_net(), "head", keep_dropout=True)


def layer_with_a_mode_of_its_own():
    net = tiny_net()
    net.body[1].train = lambda mode=True: net.body[1]
    return net


def network_with_a_mode_of_its_own():
    net = tiny_net()
    net.__class__ = type(
        "Held", (type(net),), {"train": lambda self, mode=True: self, "__module__": __name__}
    )
    return net


def scaled(x):
    return x * scaled.factor * float(os.environ.get("SCALE_HERE", "1"))


scaled.factor = 1.0


@contextmanager
def factor(value):
    scaled.factor = value
    yield
    scaled.factor = 1.0


@contextmanager
def environment(value):
    os.environ["SCALE_HERE"] = value
    yield
    del os.environ["SCALE_HERE"]


def scaled_net():
    net = tiny_net()
    net.scaled = scaled
    return net


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda: factor(2.0), r"settings.*scaled attribute factor"),
        (lambda: environment("2"), r"settings.*scaled environment SCALE_HERE"),
    ],
)
def test_what_the_code_of_a_network_reads_is_part_of_the_start(tmp_path, other, named):
    recipe = replace(FAST, phases=(replace(FAST.phases[0], epochs=1),))
    done = train.fit(scaled_net(), tiny_data(), recipe, out=tmp_path)
    with other(), pytest.raises(LearnerError, match=rf"another run.*{named}"):
        train.fit(scaled_net(), tiny_data(), recipe, out=tmp_path)
    assert train.fit(scaled_net(), tiny_data(), recipe, out=tmp_path) == done


@pytest.mark.parametrize("make", [other_frozen_weight, dropout_kept_in_what_is_frozen])
def test_a_run_that_began_with_something_frozen_goes_on(tmp_path, make):
    whole = train.fit(make(), tiny_data(), FAST)
    net = make()
    with pytest.raises(KeyboardInterrupt):
        train.fit(net, tiny_data(), FAST, out=tmp_path, on_epoch=stop_after(1))
    for model in (net, make()):  # as it was left, and from the start
        assert train.fit(model, tiny_data(), FAST, out=tmp_path) == whole


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("make", "named"),
    [
        pytest.param(other_weights, r"weights.*stem.0.weight", marks=pytest.mark.full),
        (one_weight, r"weights.*fc.bias"),
        pytest.param(other_statistics, r"weights.*body.1.running_var", marks=pytest.mark.full),
        pytest.param(other_size, r"size: \(16, 16\) there, \(24, 24\) now", marks=pytest.mark.full),
        pytest.param(
            other_normalisation,
            r"mean: \(0.5, 0.5, 0.5\) there, \(0.4, 0.5, 0.5\) now",
            marks=pytest.mark.full,
        ),
        (other_crop, r"crop_pct: .* there, 0.5 now"),
        pytest.param(other_dropout, r"settings.*drop:p", marks=pytest.mark.full),
        (other_activation, r"settings.*last.2:"),
        (other_type, r"weights.*stem.0.weight"),
        pytest.param(other_frozen_weight, r"frozen parameters.*stem.0.weight", marks=pytest.mark.full),
        (frozen_by_hand_but_for_the_head, r"frozen parameters.*stem.0.weight"),
        (dropout_kept_in_what_is_frozen, r"freezing"),
        (layer_with_a_mode_of_its_own, r"settings.*body.1:train"),
        pytest.param(network_with_a_mode_of_its_own, r"settings.*train", marks=pytest.mark.full),
    ],
)
def test_another_start_is_refused_and_the_difference_named(tmp_path, make, named, finished):
    recipe = replace(FAST, phases=(replace(FAST.phases[0], epochs=1),)) if finished else FAST
    with nullcontext() if finished else pytest.raises(KeyboardInterrupt):
        train.fit(tiny_net(), tiny_data(), recipe, out=tmp_path, on_epoch=None if finished else stop_after(1))
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    net = make()
    before = weights(net)
    with pytest.raises(LearnerError, match=rf"another run.*{named}"):
        train.fit(net, tiny_data(), recipe, out=tmp_path)
    assert same(weights(net), before)
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def test_what_listens_or_was_only_named_otherwise_is_no_other_start(tmp_path):
    train.fit(tiny_net(), tiny_data(), FAST, out=tmp_path)
    listened = tiny_net()
    listened.body.register_forward_hook(lambda *_: None)
    whole = train.fit(listened, tiny_data(), FAST, out=tmp_path)
    assert len(whole) == 2
    assert train.fit(tiny_net(), tiny_data(), FAST, out=tmp_path, num_workers=0) == whole
    frozen_by_a_fit = listened
    assert train.fit(frozen_by_a_fit, tiny_data(), FAST, out=tmp_path) == whole


def test_from_scratch_any_weights_are_the_same_start(tmp_path):
    recipe = Recipe.scratch(epochs=1)
    one = train.fit(tiny_net(), tiny_data(), recipe, out=tmp_path)
    assert train.fit(tiny_net(seed=5), tiny_data(), recipe, out=tmp_path) == one


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_stopped_run_of_another_number_type_goes_on_to_the_same_bits(tmp_path, dtype):
    plain, net = tiny_net().to(dtype), tiny_net().to(dtype)
    whole = train.fit(plain, tiny_data(), FAST)
    with pytest.raises(KeyboardInterrupt):
        train.fit(net, tiny_data(), FAST, out=tmp_path, on_epoch=stop_after(1))
    for model in (net, tiny_net().to(dtype)):  # as it was left, and from the start
        assert train.fit(model, tiny_data(), FAST, out=tmp_path) == whole
        assert same(weights(model), weights(plain))
        assert model.fc.weight.dtype == dtype
    assert load_file(tmp_path / "model.safetensors")["fc.weight"].dtype == dtype


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_in_use_is_refused_and_free_again_afterwards(tmp_path, resume):
    said = []

    def second():
        try:
            train.fit(tiny_net(), tiny_data(), FAST, out=tmp_path, resume=resume)
        except LearnerError as error:
            said.append(str(error))

    def meanwhile(history):
        if len(history) == 1:
            thread = Thread(target=second)
            thread.start()
            thread.join()

    net, alone = tiny_net(), tiny_net()
    history = train.fit(net, tiny_data(), FAST, out=tmp_path, on_epoch=meanwhile)
    assert len(said) == 1
    assert "right now" in said[0]
    train.fit(alone, tiny_data(), FAST)
    assert same(weights(net), weights(alone))
    assert train.fit(tiny_net(), tiny_data(), FAST, out=tmp_path) == history


def test_a_folder_is_free_again_after_an_error_and_one_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train.fit(tiny_net(), tiny_data(), FAST, out=tmp_path / "run", on_epoch=stop_after(1))
    assert len(train.fit(tiny_net(), tiny_data(), FAST, out=tmp_path / "run")) == 2
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LearnerError, match="file"):
        train.fit(tiny_net(), tiny_data(), FAST, out=tmp_path / "file")
