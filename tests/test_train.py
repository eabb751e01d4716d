"""What training promises when all goes well: what moves, at which rates, and the same again by seed."""

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from families import few
from PIL import Image
from tiny import FAST, TinySplit, near, recorded, same, tiny_data, tiny_net, trained, weights
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from tlutils import data, models, surgery, train
from tlutils.errors import LearnerError
from tlutils.train import Phase, Recipe


def moved(before, after):
    """Return the names of stages-to-be (first part of the name) in which any tensor changed."""
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


# --- what moves ---


@pytest.mark.parametrize("views", [0, 1])
@pytest.mark.parametrize(
    ("from_stage", "expected"),
    [("head", {"fc"}), ("last", {"last", "fc"}), ("all", {"stem", "body", "last", "fc"})],
)
def test_a_fit_moves_the_start_stage_and_all_after_it_and_no_bit_before_it(from_stage, expected, views):
    if from_stage not in ("head", "all"):  # whatever surgery calls the stage that begins with this module
        from_stage = stage_of("last")
    recipe = replace(
        FAST, phases=(Phase(from_stage=from_stage, epochs=2, lr=1e-2, head_lr=1e-2),), views=views
    )
    before = weights(tiny_net(dropout=0.2))
    assert moved(before, trained(recipe)[0]) == expected


def stage_of(module):
    """Return the name of the stage that begins with a module of the tiny network."""
    return next(stage.name for stage in surgery.stages(tiny_net()) if module in stage.modules)


def test_a_start_may_be_a_stage_or_the_module_that_begins_it():
    stages = surgery.stages(tiny_net())
    by_name, _ = trained(Recipe.partial(stage_of("last"), epochs=1))
    by_stage, _ = trained(Recipe.partial(stages[stage_of("last")], epochs=1))
    by_module, _ = trained(Recipe.partial("last", epochs=1))
    assert same(by_name, by_stage)
    assert same(by_name, by_module)
    with pytest.raises(LearnerError, match="stage9"):
        trained(Recipe.partial("stage9"))


def test_training_learns_the_task():
    net = tiny_net()
    history = train.fit(net, tiny_data(), Recipe.finetune(epochs=10, lr=1e-2, head_lr=1e-2, batch_size=7))
    assert history.best["val_accuracy"] > 0.9
    assert history.table["train_loss"].iloc[-1] < history.table["train_loss"].iloc[0]


def test_an_epoch_has_the_steps_that_are_said():
    images, taken = len(tiny_data().train), []
    counted = register_optimizer_step_post_hook(lambda *arguments: taken.append(1))
    try:
        for batch_size, steps in ((images - 1, 1), (images, 1), (images - 2, 2), (images // 2, 2)):
            taken.clear()
            train.fit(tiny_net(), tiny_data(), Recipe.probe(epochs=1, batch_size=batch_size))
            assert len(taken) == train.steps_per_epoch(images, batch_size) == steps
    finally:
        counted.remove()


def test_from_scratch_forgets_what_the_weights_were():
    recipe = Recipe.scratch(epochs=1, keep="last")
    one, _ = trained(recipe, net=tiny_net(seed=1))
    other, _ = trained(recipe, net=tiny_net(seed=2))
    assert same(one, other)


def test_from_scratch_draws_a_known_architecture_as_its_authors_do():
    net = models.load("torchvision/squeezenet1_1", pretrained=False, num_classes=3, input_size=64, seed=5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.5)
    train.fit(net, tiny_data(), Recipe.scratch(epochs=1, lr=0.0, seed=7))
    fresh = models.load("torchvision/squeezenet1_1", pretrained=False, num_classes=3, input_size=64, seed=7)
    assert same(weights(net), weights(fresh))


def test_a_head_that_is_reset_is_the_new_head_of_that_seed_and_the_rest_stays():
    net, fresh = tiny_net(seed=1), surgery.replace_head(tiny_net(seed=1), 3, seed=7)
    train.fit(
        net,
        tiny_data(),
        Recipe.finetune(epochs=1, lr=0.0, head_lr=0.0, reset="head", freeze_batchnorm=True, seed=7),
    )
    assert same(weights(net), weights(fresh))
    assert not same(weights(net), weights(tiny_net(seed=1)))


def test_weights_that_no_layer_can_draw_anew_are_refused_by_name():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, 1, 1))
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc((self.scale * x).mean((2, 3)))

    net = models.describe(Odd(), input_size=(3, 16, 16))
    with pytest.raises(LearnerError, match="scale"):
        train.fit(net, tiny_data(), Recipe.scratch(epochs=1))


@pytest.mark.parametrize("phases", [1, 2])
def test_held_batchnorm_keeps_weights_and_statistics_in_every_phase(phases):
    starts = ["head", "all"][-phases:]
    net = tiny_net()
    before = weights(net)
    after, _ = trained(Recipe.gradual(starts, epochs=1, lr=1e-2, freeze_batchnorm=True, keep="last"), net=net)
    norms = [n for n in before if n.split(".")[0] != "fc" and n.split(".")[1] == "1"]
    assert norms
    assert all(torch.equal(before[n], after[n]) for n in norms)
    assert not torch.equal(before["body.0.weight"], after["body.0.weight"])


# --- the frozen part runs once ---


def test_kept_prefix_outputs_give_the_same_weights_as_running_the_prefix_in_each_step():
    recipe = Recipe.partial(stage_of("last"), epochs=3, lr=1e-2, batch_size=7, keep="last")
    kept, history = trained(recipe)
    run, other = trained(replace(recipe, views=0))
    assert near(kept, run, 1e-6)
    columns = ["train_loss", "val_loss"]
    assert np.allclose(history.table[columns], other.table[columns], atol=1e-6)


@pytest.mark.parametrize("option", ["train_frozen_norms", "keep_dropout"])
def test_what_moves_in_the_frozen_part_is_not_kept(option):
    def net():
        made = tiny_net()
        made.stem.append(nn.Dropout(0.5))
        return surgery.freeze_to(made, surgery.stages(made).names[2], **{option: True})

    recipe = Recipe.partial(surgery.stages(net()).names[2], epochs=2, lr=1e-2, batch_size=7, keep="last")
    before = weights(net())
    found, _ = trained(recipe, net=net())
    run, _ = trained(replace(recipe, views=0), net=net())
    assert same(found, run)
    assert torch.equal(before["stem.1.weight"], found["stem.1.weight"]) == (option == "keep_dropout")
    with pytest.raises(LearnerError, match=option):
        trained(replace(recipe, views=1), net=net())


def test_norms_that_freeze_to_lets_train_do_so_beside_batchnorm_that_stays_frozen():
    net = tiny_net()
    net.stem.append(nn.GroupNorm(1, net.stem[0].out_channels))
    start = surgery.stages(net).names[2]
    surgery.freeze_to(net, start, train_frozen_norms=True)
    before = weights(net)
    after, _ = trained(Recipe.partial(start, epochs=1, lr=1e-2, freeze_batchnorm=True, keep="last"), net=net)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    last = len(net.stem) - 1
    assert {name for name in moved if name.startswith("stem.")} == {
        f"stem.{last}.weight",
        f"stem.{last}.bias",
    }


@pytest.mark.parametrize("recipe", [FAST, Recipe.partial("head", epochs=1, lr=1e-2)])
def test_what_surgery_froze_by_name_and_a_recipe_trains_is_said(recipe):
    net = tiny_net()
    surgery.freeze(net, "fc.weight")
    _, history = trained(recipe, net=net)
    assert any("were frozen (first fc.weight) train" in note for note in history.notices)
    assert not any("were frozen (first" in note for note in trained(recipe)[1].notices)


def test_with_as_many_kept_views_as_epochs_augmented_training_is_the_same_too():
    recipe = Recipe.partial(stage_of("last"), epochs=3, lr=1e-2, augment=True, views=3, keep="last")
    kept, _ = trained(recipe)
    run, _ = trained(replace(recipe, views=0))
    single, _ = trained(replace(recipe, views=1))
    assert near(kept, run, 1e-6)
    assert not near(single, run, 1e-4), "one view for three epochs should not equal three"


@pytest.mark.parametrize("from_stage", few(["head", "last"], "last"))
@pytest.mark.parametrize(("views", "different"), [(None, 3), (0, 3), (1, 1), (2, 2)])
def test_augmentation_shows_another_view_in_each_epoch_unless_views_asks_for_fewer(
    from_stage, views, different
):
    still = Phase(from_stage=from_stage, epochs=3, lr=0.0, head_lr=0.0)
    recipe = replace(
        FAST, phases=(still,), freeze_batchnorm=True, weight_decay=0.0, augment=True, views=views
    )
    losses = trained(recipe, tiny_data(train=6, val=3), tiny_net())[1].table["train_loss"]
    assert len(set(losses.round(6))) == different


def test_a_frozen_prefix_sees_each_image_once_however_many_epochs(monkeypatch, tmp_path):
    monkeypatch.setenv("TLUTILS_CACHE", str(tmp_path))  # empty: no other test has left anything
    dataset = tiny_data()
    train.fit(tiny_net(), dataset, Recipe.probe(epochs=5))
    counts = np.bincount(dataset.train.reads, minlength=len(dataset.train))
    # One image tries the head's width, two the stored features, and one of these what its transform asks for.
    assert counts.min() == 1
    assert counts.sum() <= len(dataset.train) + 4


# --- phases and rates ---


def test_the_optimizer_remembers_across_phases():
    whole = Phase(from_stage="all", epochs=2, lr=1e-2, head_lr=1e-2)
    flat = replace(FAST, warmup_ratio=0.0, schedule="constant")
    one, _ = trained(replace(flat, phases=(whole,)))
    two, _ = trained(replace(flat, phases=(replace(whole, epochs=1),) * 2))
    assert same(one, two)


def test_gradual_unfreezing_lets_each_new_stage_move():
    net = tiny_net()
    seen = [weights(net)]
    starts = ["head", stage_of("last"), "all"]
    train.fit(
        net,
        tiny_data(),
        Recipe.gradual(starts, epochs=1, lr=1e-2, keep="last"),
        on_epoch=lambda history: seen.append(weights(net)),
    )
    steps = [moved(a, b) for a, b in pairwise(seen)]
    assert steps == [{"fc"}, {"last", "fc"}, {"stem", "body", "last", "fc"}]


def test_each_stage_keeps_its_ratio_to_the_others_while_rates_rise_and_fall():
    recipe = Recipe.finetune(epochs=4, lr=1e-3, head_lr=1e-2, layer_decay=0.5, batch_size=12)
    table = trained(recipe)[1].table
    rates = table[[c for c in table if c.startswith("lr_")]]
    ratios = rates.div(rates["lr_head"], axis=0)
    assert np.allclose(ratios, ratios.iloc[0])
    order = [f"lr_{s.name}" for s in surgery.stages(tiny_net()) if f"lr_{s.name}" in rates]
    body = ratios.iloc[0][order[:-1]].to_numpy()
    assert np.all(np.diff(body) >= 0)
    assert body[0] < body[-1]


def test_the_schedule_warms_up_and_then_falls_along_half_a_cosine():
    recipe = Recipe.finetune(warmup_ratio=0.2)
    factors = [recipe.lr_factor(step, 10) for step in range(10)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert factors[6] == pytest.approx(0.5)
    assert np.all(np.diff(factors[2:]) < 0)
    assert replace(recipe, schedule="constant").lr_factor(9, 10) == 1.0
    assert recipe.lr_factor(0, 1) > 0, "a phase of one step must not have a rate of 0"


def test_early_stopping_waits_as_long_as_its_patience_on_val():
    still = Recipe.finetune(epochs=9, lr=0.0, head_lr=0.0, patience=2, freeze_batchnorm=True)
    _, history = trained(still)
    assert len(history) == 3
    assert history.best_epoch == 1


def test_the_model_is_left_with_the_weights_of_the_best_epoch_on_val():
    net, dataset = tiny_net(), tiny_data()
    history = train.fit(net, dataset, Recipe.finetune(epochs=6, lr=5e-2, head_lr=5e-2, batch_size=4))
    scores = history.table["val_balanced_accuracy"]
    report = train.evaluate(net, dataset.val)
    assert history.best["val_balanced_accuracy"] == scores.max()
    assert report.accuracy.value == pytest.approx(history.best["val_accuracy"])
    assert report.log_loss.value == pytest.approx(history.best["val_loss"], abs=1e-6)


# --- the same again ---


RICH = replace(FAST, augment=True, mixup=0.3, label_smoothing=0.1, optimizer="sgd", clip_norm=1.0)


def test_the_same_seed_gives_the_same_weights_and_history_to_the_last_bit():
    one, first = trained(RICH)
    two, second = trained(RICH)
    other, third = trained(replace(RICH, seed=1))
    assert same(one, two)
    assert first == second
    assert not same(one, other)
    assert first != third


@pytest.mark.parametrize("num_workers", [pytest.param(1, marks=pytest.mark.full), 2])
def test_any_number_of_workers_gives_the_same_weights(num_workers):
    assert same(trained(RICH)[0], trained(RICH, num_workers=num_workers)[0])


class NoisySplit(TinySplit):
    """Images drawn from NumPy's global generator, which workers are known to share."""

    def __getitem__(self, i):
        pixels = np.random.randint(0, 256, (16, 16, 3), dtype=np.uint8)  # noqa: NPY002
        return Image.fromarray(pixels), self.labels[i]


def test_random_numbers_differ_by_image_and_epoch_whichever_library_draws_them():
    inputs = []
    for num_workers in (0, 2):
        net, dataset = tiny_net(), tiny_data()
        dataset.train = NoisySplit("train", dataset.train.labels, dataset.classes)
        seen = recorded(net)
        train.fit(net, dataset, Recipe.finetune(epochs=2, augment=True), num_workers=num_workers)
        inputs.append(torch.cat([x for x, _ in seen]).flatten(1))
    assert len(inputs[0].unique(dim=0)) == 48
    assert torch.equal(*inputs)


def test_looking_during_training_changes_nothing():
    net, dataset = tiny_net(dropout=0.2), tiny_data()

    def look(history):
        train.predict(net, dataset.train)
        train.evaluate(net, dataset.val)
        torch.rand(5), np.random.rand()  # noqa: NPY002
        net.eval()
        repr(history)

    assert same(trained(RICH, net=net, on_epoch=look)[0], trained(RICH)[0])


def test_training_leaves_the_global_generators_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    trained(RICH)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("augment", [False, True])
def test_training_uses_the_transform_of_the_weights_and_varies_it_only_when_asked(augment):
    net, dataset = tiny_net(norm=False), tiny_data()
    seen = recorded(net)
    still = Recipe.finetune(epochs=1, lr=0.0, head_lr=0.0, augment=augment)
    history = train.fit(net, dataset, still)
    _, *order = dataset.train.reads  # the first tried the head
    expected = torch.stack([data.transform_for(net)(dataset.train[i][0]) for i in order])
    assert torch.equal(torch.cat([x for x, _ in seen]), expected) != augment
    assert train.evaluate(net, dataset.val).log_loss.value == pytest.approx(history.best["val_loss"])


# --- recipes ---


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"batch_size": 1}, "batch_size"),
        ({"reset": "body"}, "reset"),
        ({"micro_batches": 0}, "micro_batches"),
        ({"layer_decay": 0.0}, "layer_decay"),
        ({"warmup_ratio": 1.0}, "warmup_ratio"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"mixup": -1.0}, "mixup"),
        ({"patience": 0}, "patience"),
        ({"views": -1}, "views"),
        ({"precision": "half"}, "precision"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"phases": ()}, "phases"),
        ({"class_weight": "inverse"}, "class_weight"),
        ({"reset": None}, "reset=None. Expected True or False, or 'head'"),
        ({"augment": 2}, "augment=2. Expected True or False, or 'shift'"),
        ({"freeze_batchnorm": "yes"}, "freeze_batchnorm='yes'. Expected True or False"),
        ({"views": 1.5}, "views=1.5. Expected a whole number, or None"),
        ({"clip_norm": "1"}, "clip_norm='1'. Expected a number, or None"),
        ({"batch_size": None}, "batch_size=None. Expected a whole number"),
    ],
)
def test_a_recipe_refuses_what_cannot_work_and_names_it(changes, word):
    with pytest.raises(LearnerError, match=word):
        replace(FAST, **changes)


def test_a_phase_refuses_rates_that_are_no_numbers():
    for rate in (float("nan"), float("inf"), -1e-3):
        with pytest.raises(LearnerError, match="lr"):
            Recipe.finetune(lr=rate)
    for epochs in (0, 1.5, "3"):
        with pytest.raises(LearnerError, match="epochs"):
            Recipe.finetune(epochs=epochs)


@pytest.mark.parametrize("flag", [1, 1.0, np.True_])
def test_a_flag_is_on_or_off_whatever_it_is_written_as(flag):
    names = [item.name for item in fields(Recipe) if "bool" in str(item.type)]
    assert {"augment", "reset", "freeze_batchnorm"} <= set(names)
    for name in names:
        assert repr(replace(FAST, **{name: flag})) == repr(replace(FAST, **{name: True}))
        assert getattr(replace(FAST, **{name: type(flag)(0)}), name) is False
    net, picture = tiny_net(), Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    one, other = data.transform_for(net, train=flag), data.transform_for(net, train=True)
    assert one == other
    torch.manual_seed(0)
    seen = one(picture)
    torch.manual_seed(0)
    assert torch.equal(seen, other(picture))
    with pytest.raises(LearnerError, match="train is 'flip'; expected True, False or 'shift'"):
        data.transform_for(net, train="flip")
