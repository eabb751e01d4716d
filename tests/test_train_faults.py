"""What training does when something goes wrong: says so in words, and loses nothing that was trained."""

import errno
import gc
import logging
import os
import shutil
import warnings
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import (
    SIDE,
    Attending,
    FunctionalNorm,
    GroupNormed,
    InstanceNormed,
    MovingCentre,
    NormOfItsOwn,
    TinySplit,
    near,
    odd_net,
    same,
    tiny_data,
    tiny_net,
    weights,
)  # fmt: skip
from torch import nn

from tlutils import inference, models, runtime, surgery, train
from tlutils.errors import LearnerError
from tlutils.train import Recipe

FAST = Recipe.finetune(epochs=3, lr=1e-2, head_lr=2e-2, batch_size=8, keep="last")


def finite(net):
    return all(tensor.isfinite().all() for tensor in net.state_dict().values())


# --- the loss is no number ---


def test_a_rate_that_is_far_too_high_stops_training_and_is_named(caplog):
    net = tiny_net(norm=False)
    before = weights(net)
    history = train.fit(
        net,
        tiny_data(),
        Recipe.finetune(epochs=5, lr=1e25, head_lr=1e25, warmup_ratio=0.0, schedule="constant"),
    )
    assert "1e+25" in history.stopped
    assert "head" in history.stopped
    assert history.stopped in repr(history)
    assert "before training" in history.stopped
    assert same(weights(net), before)
    assert caplog.records


def test_after_a_late_nan_the_weights_of_the_last_good_epoch_are_left():
    net, states = tiny_net(norm=False), []

    def spoil(history):
        states.append(weights(net))
        if len(history) == 2:
            with torch.no_grad():
                net.fc.weight.fill_(float("nan"))

    history = train.fit(net, tiny_data(), FAST, on_epoch=spoil)
    assert len(history) == 2
    assert "epoch 3, step 1" in history.stopped
    assert same(weights(net), states[1])


# --- memory ---


class Hungry(nn.Module):
    """Runs out of memory, as a GPU would say it, when a batch in training is larger than `most`."""

    def __init__(self, inner, most, kind=torch.OutOfMemoryError):
        super().__init__()
        self.inner, self.most, self.kind, self.made = inner, most, kind, []

    def forward(self, x):
        out = self.inner(x)
        if self.training and len(x) > self.most:
            self.made.append(weakref.ref(out))
            raise self.kind("CUDA out of memory. Tried to allocate 2.00 GiB")
        return out


def hungry(most, **options):
    """The tiny network with its last block replaced by a hungry one."""
    net = tiny_net(**options)
    net.last = Hungry(net.last, most)
    return net


def test_when_memory_runs_out_steps_are_cut_and_the_result_is_the_same(caplog):
    net = hungry(3, norm=False)
    history = train.fit(net, tiny_data(), FAST)
    plain = tiny_net(norm=False)
    plain.last = Hungry(plain.last, 99)
    train.fit(plain, tiny_data(), replace(FAST, micro_batches=4))
    assert same(weights(net), weights(plain))
    assert [n for n in history.notices if "Memory ran out with 8 images" in n]
    assert [n for n in history.notices if "4 passes" in n]


def test_an_attempt_that_ran_out_of_memory_leaves_no_trace_in_batchnorm():
    net, plain = hungry(4), tiny_net()
    plain.last = Hungry(plain.last, 99)
    train.fit(net, tiny_data(), FAST)
    train.fit(plain, tiny_data(), replace(FAST, micro_batches=2))
    assert same(weights(net), weights(plain))


def test_when_not_even_two_images_fit_it_says_so_and_holds_no_tensor():
    net = hungry(1)
    with pytest.raises(LearnerError, match="2 images in one forward pass") as caught:
        train.fit(net, tiny_data(), FAST)
    gc.collect()
    assert len(net.last.made) == 3
    assert not [ref for ref in net.last.made if ref() is not None], "tensors outlive the error"
    assert caught.value.__cause__ is None
    assert all(parameter.grad is None for parameter in net.parameters())
    net.last.most = 99
    assert len(train.fit(net, tiny_data(), FAST)) == 3


def test_other_errors_from_the_network_are_not_taken_for_memory():
    net = tiny_net()
    net.last = Hungry(net.last, 3, kind=lambda words: RuntimeError("a shape is wrong"))
    with pytest.raises(RuntimeError, match="shape is wrong"):
        train.fit(net, tiny_data(), FAST)


# --- nothing to train, nothing to tell apart ---


@pytest.mark.parametrize("recipe", [FAST, Recipe.probe(epochs=1), Recipe.scratch(epochs=1)])
def test_a_model_that_is_frozen_throughout_is_refused_and_can_still_be_judged(recipe):
    net, dataset = tiny_net().requires_grad_(False), tiny_data()
    with pytest.raises(LearnerError, match=r"unfreeze"):
        train.fit(net, dataset, recipe)
    assert train.evaluate(net, dataset.val).n == 12


def test_one_output_is_refused_with_advice():
    with pytest.raises(LearnerError, match=r"replace_head\(model, 3\)"):
        train.fit(tiny_net(1), tiny_data(), FAST)


def test_a_head_that_was_not_replaced_is_named_before_any_training():
    dataset = tiny_data()
    with pytest.raises(LearnerError, match="10 outputs and the data set 3"):
        train.fit(tiny_net(10), dataset, FAST)
    assert set(dataset.train.reads) == {0}


def test_a_single_class_and_a_single_image_are_refused():
    with pytest.raises(LearnerError, match="1 class"):
        train.fit(tiny_net(1), tiny_data(classes=1), FAST)
    with pytest.raises(LearnerError, match="1 image"):
        train.fit(tiny_net(2), tiny_data(train=1, classes=2), FAST)


def test_a_class_without_training_images_is_named():
    dataset = tiny_data()
    dataset.train = TinySplit("train", [0, 1] * 6, dataset.classes)
    with pytest.raises(LearnerError, match="'blue'"):
        train.fit(tiny_net(), dataset, FAST)


def test_thawing_behind_the_optimizers_back_is_an_error():
    net = tiny_net()
    with pytest.raises(LearnerError, match="gradual"):
        train.fit(net, tiny_data(), Recipe.probe(), on_epoch=lambda _: surgery.unfreeze(net))


def test_what_is_no_recipe_is_refused():
    with pytest.raises(LearnerError, match="Recipe"):
        train.fit(tiny_net(), tiny_data(), "finetune")


# --- precision ---


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_on_a_processor_without_units_is_float32_with_one_notice(
    precision, caplog, monkeypatch
):
    monkeypatch.setattr(runtime, "bfloat16_units", lambda device: False)
    plain, mixed = tiny_net(), tiny_net()
    train.fit(plain, tiny_data(), FAST)
    with caplog.at_level(logging.WARNING):
        history = train.fit(mixed, tiny_data(), replace(FAST, precision=precision))
    assert same(weights(plain), weights(mixed))
    assert len(history.notices) == len(caplog.records) == 1
    assert precision in history.notices[0]


@pytest.fixture
def units(monkeypatch):
    """The processor is taken for one that computes in bfloat16; without units it imitates it."""
    monkeypatch.setattr(runtime, "bfloat16_units", lambda device: device.type == "cpu")


def depthwise_net():
    """A network with the kind of layer whose gradient is computed in another way in float32."""
    torch.manual_seed(0)
    wide = nn.Conv2d(8, 8, 5, padding=2, groups=8)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), wide, nn.BatchNorm2d(8), nn.ReLU())
    net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return models.describe(net, input_size=(3, SIDE, SIDE), mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.mark.parametrize("net", [tiny_net, depthwise_net])
def test_bfloat16_on_a_processor_with_units_trains_nearly_the_same_weights(net, units, monkeypatch):
    monkeypatch.setattr(inference, "DRIFT", 0.2)  # of a network that has learned nothing yet
    plain, mixed = net(), net()
    before = weights(net())
    train.fit(plain, tiny_data(), FAST)
    history = train.fit(mixed, tiny_data(), replace(FAST, precision="bf16"))
    assert not history.notices
    assert not same(weights(plain), weights(mixed))
    moved = sum((weights(plain)[n] - before[n]).norm() ** 2 for n in before if before[n].is_floating_point())
    apart = sum(
        (weights(plain)[n] - weights(mixed)[n]).norm() ** 2 for n in before if before[n].is_floating_point()
    )
    assert apart < 0.1 * moved
    assert {t.dtype for t in weights(mixed).values()} <= {torch.float32, torch.int64}


def test_bfloat16_that_moves_the_scores_too_far_is_refused(units, monkeypatch):
    monkeypatch.setattr(inference, "DRIFT", 1e-6)
    plain, mixed = tiny_net(), tiny_net()
    train.fit(plain, tiny_data(), FAST)
    history = train.fit(mixed, tiny_data(), replace(FAST, precision="bf16"))
    assert same(weights(plain), weights(mixed))
    (notice,) = history.notices
    assert "training is in float32" in notice


@pytest.mark.parametrize("drift", [1.0, 1e-6])
def test_a_killed_run_goes_on_in_the_precision_that_it_began_in(drift, units, monkeypatch, tmp_path):
    recipe = replace(FAST, precision="bf16")
    whole, parts = tiny_net(), tiny_net()
    monkeypatch.setattr(inference, "DRIFT", drift)
    train.fit(whole, tiny_data(), recipe)

    def stop(history):
        if len(history) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(parts, tiny_data(), recipe, out=tmp_path / "run", on_epoch=stop)
    monkeypatch.setattr(inference, "DRIFT", 1e-6 if drift == 1.0 else 1.0)
    again = tiny_net()
    train.fit(again, tiny_data(), recipe, out=tmp_path / "run")
    assert same(weights(again), weights(whole))


# --- the disk is full ---


@pytest.fixture
def full_disk(monkeypatch):
    """Return a switch: while on, nothing can be flushed to the disk."""
    state = {"on": False}
    flush = os.fsync

    def guarded(number):
        if state["on"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(number)

    monkeypatch.setattr(runtime.os, "fsync", guarded)
    return state


def test_a_disk_without_room_for_what_the_frozen_stages_give_lets_them_run_in_every_step(monkeypatch):
    recipe = Recipe.partial("stage2", epochs=2, lr=1e-2, head_lr=2e-2, batch_size=8, keep="last")
    kept, plain = tiny_net(), tiny_net()
    train.fit(kept, tiny_data(), recipe)
    usage = shutil.disk_usage(".")._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setenv("TLUTILS_CACHE", str(runtime.cache_dir("small")))
    history = train.fit(plain, tiny_data(), recipe)
    assert "free" in history.notices[0]
    assert "views=0" in history.notices[0]
    for name, tensor in weights(kept).items():
        torch.testing.assert_close(weights(plain)[name], tensor)
    with pytest.raises(LearnerError, match="free"):
        train.fit(tiny_net(), tiny_data(), replace(recipe, views=1))  # asked for


def test_a_full_disk_does_not_end_the_training(full_disk, tmp_path):
    net, plain = tiny_net(), tiny_net()

    def fill(history):
        full_disk["on"] = len(history) < 3

    full_disk["on"] = True
    history = train.fit(net, tiny_data(), FAST, out=tmp_path / "run", on_epoch=fill)
    train.fit(plain, tiny_data(), FAST)
    assert same(weights(net), weights(plain))
    assert "disk is full" in history.notices[0]
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert not [p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(".")]


def test_when_the_result_cannot_be_saved_the_model_holds_it_and_the_same_call_saves_it(full_disk, tmp_path):
    net, plain = tiny_net(), tiny_net()
    train.fit(plain, tiny_data(), FAST)

    def fill(history):
        full_disk["on"] = len(history) == 3

    with pytest.raises(LearnerError, match="holds its weights"):
        train.fit(net, tiny_data(), FAST, out=tmp_path, on_epoch=fill)
    assert same(weights(net), weights(plain))
    full_disk["on"] = False
    again = tiny_net()
    train.fit(again, tiny_data(), FAST, out=tmp_path)
    assert same(weights(again), weights(plain))


# --- interrupted ---


def interrupt_in(epoch):
    def look(history):
        if len(history) == epoch:
            raise KeyboardInterrupt

    return look


def test_ctrl_c_leaves_the_last_good_weights_and_says_how_to_go_on(tmp_path):
    plain, net, states = tiny_net(), tiny_net(), []
    whole = train.fit(plain, tiny_data(), FAST, on_epoch=lambda _: states.append(weights(plain)))
    with pytest.raises(KeyboardInterrupt, match="same call again"):
        train.fit(net, tiny_data(), FAST, out=tmp_path, on_epoch=interrupt_in(2))
    assert same(weights(net), states[1])
    history = train.fit(net, tiny_data(), FAST, out=tmp_path)
    assert same(weights(net), weights(plain))
    assert history == whole
    with pytest.raises(KeyboardInterrupt, match="out="):
        train.fit(tiny_net(), tiny_data(), FAST, on_epoch=interrupt_in(1))


@pytest.mark.parametrize("stop", [2, *(pytest.param(epoch, marks=pytest.mark.full) for epoch in (1, 3, 4))])
def test_a_run_in_phases_goes_on_from_any_epoch_with_the_same_bits(tmp_path, stop):
    recipe = Recipe.lp_ft(head_epochs=2, epochs=2, lr=1e-2, batch_size=7, augment=True, views=2)
    plain, net = tiny_net(dropout=0.3), tiny_net(dropout=0.3)
    whole = train.fit(plain, tiny_data(), recipe)
    with pytest.raises(KeyboardInterrupt):
        train.fit(net, tiny_data(), recipe, out=tmp_path, on_epoch=interrupt_in(stop))
    fresh = tiny_net(dropout=0.3)
    assert train.fit(fresh, tiny_data(), recipe, out=tmp_path) == whole
    assert same(weights(fresh), weights(plain))


def test_a_finished_run_is_read_and_not_trained_again(tmp_path):
    net, dataset = tiny_net(), tiny_data()
    history = train.fit(net, dataset, FAST, out=tmp_path)
    reads, fresh = len(dataset.train.reads), tiny_net()
    assert train.fit(fresh, dataset, FAST, out=tmp_path) == history
    assert len(dataset.train.reads) <= reads + 1
    assert same(weights(fresh), weights(net))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_val_loss_that_is_no_number_costs_its_epoch_alone(bad, keep):
    net, states = tiny_net(norm=False), []

    def spoil(module, inputs, output):  # the scores on val in the second epoch
        return output * bad if len(states) == 1 and not module.training else None

    net.register_forward_hook(spoil)
    recipe = replace(FAST, keep=keep)
    history = train.fit(net, tiny_data(), recipe, on_epoch=lambda _: states.append(weights(net)))
    assert len(history) == 3
    assert not history.stopped
    assert history.best_epoch in (1, 3)
    assert not np.isfinite(history.table["val_loss"][1])
    assert same(weights(net), states[2 if keep == "last" else history.best_epoch - 1])
    assert ["finite" in notice for notice in history.notices] == [True]


def test_when_no_epoch_has_a_finite_val_loss_the_model_is_as_before_and_it_is_said():
    class Broken(TinySplit):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return (Image.new("RGB", (16, 16)) if i == 3 else image), label

    net, dataset = tiny_net(norm=False), tiny_data()
    dataset.val = Broken("val", dataset.val.labels, dataset.classes, 1)
    # Brightness taken out, as some models do: a black image becomes NaN.
    net.register_forward_pre_hook(lambda _, x: (0 * x[0] / (x[0] + 1).mean((1, 2, 3), keepdim=True) + x[0],))
    before = weights(net)
    history = train.fit(net, dataset, FAST)
    assert len(history) == 3
    assert "never a finite number" in history.stopped
    assert "image 3" in history.notices[0]
    assert same(weights(net), before)


@pytest.mark.parametrize(
    ("labels", "absent"), [([0, 1] * 3, "'blue'"), ([2, 2], "'red', 'green'"), ([1], "'red', 'blue'")]
)
def test_classes_that_are_missing_from_val_are_said(labels, absent):
    dataset = tiny_data()
    dataset.val = TinySplit("val", labels, dataset.classes, 1)
    history = train.fit(tiny_net(), dataset, Recipe.probe(epochs=1))
    assert [absent in notice for notice in history.notices] == [True]
    report = train.evaluate(tiny_net(), dataset.val)
    assert absent in str(report)
    assert absent in report._repr_html_().replace("&#x27;", "'")


def test_patience_without_val_is_said():
    dataset = tiny_data()
    dataset.val = TinySplit("val", [], dataset.classes, 1)
    history = train.fit(tiny_net(), dataset, replace(FAST, patience=1))
    assert len(history) == 3
    assert "patience" in history.notices[0]


@pytest.mark.parametrize(("micro_batches", "frozen"), [(1, False), (2, True), (4, False)])
def test_micro_batches_that_batchnorm_notices_are_said(micro_batches, frozen):
    recipe = replace(FAST, micro_batches=micro_batches, freeze_batchnorm=frozen, optimizer="sgd")
    net, plain = tiny_net(), tiny_net()
    history = train.fit(net, tiny_data(), recipe)
    train.fit(plain, tiny_data(), replace(recipe, micro_batches=1))
    assert bool(history.notices) == (micro_batches > 1 and not frozen)
    probe = Recipe.probe(epochs=1, augment=True, micro_batches=2)
    frozen = train.fit(tiny_net(), tiny_data(), probe)
    assert not frozen.notices, "no BatchNorm trains where the head alone does"
    assert near(weights(net), weights(plain), 1e-5) != bool(history.notices)


@pytest.mark.parametrize(("micro_batches", "said"), [(8, "4 passes"), (3, "3 passes"), (4, "about 2 of 8")])
def test_the_passes_that_are_said_are_those_that_are_made(micro_batches, said):
    """No pass has a single image, of which BatchNorm has no statistics."""
    net, sizes = tiny_net(), []
    net.register_forward_pre_hook(
        lambda module, inputs: sizes.append(len(inputs[0])) if module.training else None
    )
    recipe = Recipe.finetune(epochs=1, batch_size=8, micro_batches=micro_batches)
    notice = train.fit(net, tiny_data(), recipe).notices[0]
    assert said in notice
    assert min(sizes) >= 2
    passes = int(notice.split()[4])
    assert len(sizes) == passes * -(-len(tiny_data().train) // 8)


@pytest.mark.parametrize("kind", [FunctionalNorm, NormOfItsOwn, InstanceNormed, MovingCentre, GroupNormed])
def test_other_layers_that_notice_how_a_step_is_divided_are_said_too(kind):
    recipe = replace(FAST, optimizer="sgd")
    one, several = odd_net(kind), odd_net(kind)
    train.fit(one, tiny_data(), recipe)
    notices = train.fit(several, tiny_data(), replace(recipe, micro_batches=4)).notices
    assert near(weights(one), weights(several), 1e-5) == (not notices) == (kind is GroupNormed)
    assert all("4 passes" in notice for notice in notices)


@pytest.mark.parametrize(
    ("optimizer", "divided", "head", "said"),
    [
        ("adamw", (2, 3, 4), False, True),  # in which of them rounding differs is the processor's to say
        ("adamw", (1,), False, False),
        pytest.param("adamw", (2, 3, 4), True, False, marks=pytest.mark.full),
        pytest.param("sgd", (2, 3, 4), False, False, marks=pytest.mark.full),
    ],
)
def test_weights_that_adamw_moves_by_chance_are_said(optimizer, divided, head, said):
    make = Recipe.probe if head else partial(Recipe.finetune, lr=1e-2)
    recipe = make(epochs=2, optimizer=optimizer, batch_size=8)
    one = odd_net(Attending)
    train.fit(one, tiny_data(), recipe)
    alike = []
    for micro_batches in divided:
        several = odd_net(Attending)
        history = train.fit(several, tiny_data(), replace(recipe, micro_batches=micro_batches))
        assert any("zero but for rounding" in notice for notice in history.notices) == said
        alike.append(near(weights(one), weights(several), 1e-5))
    assert all(alike) != said


class Restless(nn.Sequential):
    """Its `train()` leaves dropout on, whatever it is told."""

    def train(self, mode=True):
        super().train(mode)
        self[0].train()
        return self


def test_the_model_ends_in_eval_mode_whatever_its_own_train_does():
    net = Restless(
        nn.Dropout(0.5), nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    train.fit(net, tiny_data(), FAST)
    assert not any(module.training for module in net.modules())


def test_an_error_in_a_callback_leaves_good_weights_too():
    net = tiny_net()

    def broken(history):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train.fit(net, tiny_data(), FAST, on_epoch=broken)
    assert finite(net)
    assert not net.training


@pytest.mark.parametrize("other", ["recipe", "data", "model"])
def test_a_folder_of_another_run_is_refused_and_the_difference_named(tmp_path, other):
    train.fit(tiny_net(), tiny_data(), FAST, out=tmp_path)
    recipe = replace(FAST, seed=1) if other == "recipe" else FAST
    dataset = tiny_data(train=27) if other == "data" else tiny_data()
    net = tiny_net(norm=other != "model")
    word = {"recipe": "seed", "data": "train", "model": "tensors"}[other]
    with pytest.raises(LearnerError, match=rf"another run.*{word}"):
        train.fit(net, dataset, recipe, out=tmp_path)
    assert len(train.fit(net, dataset, recipe, out=tmp_path, resume=False)) == 3


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"half a checkpoint")
    with pytest.raises(LearnerError, match=r"checkpoint\.pt cannot be read"):
        train.fit(tiny_net(), tiny_data(), FAST, out=tmp_path)


def test_a_checkpoint_holds_plain_values_that_the_safe_loader_takes(tmp_path):
    train.fit(tiny_net(), tiny_data(), FAST, out=tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["finished"]


def test_models_that_let_no_gradient_pass_are_refused_in_words():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to move quantisation to a package of its own
        model = torch.ao.quantization.quantize_dynamic(tiny_net(), {nn.Linear}, dtype=torch.qint8)
    for recipe in (Recipe.probe(epochs=1), Recipe.finetune(epochs=1)):
        with pytest.raises(LearnerError, match="quantised"):
            train.fit(model, tiny_data(), recipe)
    assert np.isfinite(train.predict(model, tiny_data().val).probabilities).all()
