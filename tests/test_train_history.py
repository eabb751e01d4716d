"""A history is a tidy table that survives a file; drift and CKA, on values that can be checked by hand."""

import copy
import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import FAST, same, tiny_data, tiny_net, trained, weights

from tlutils import metrics, surgery, train
from tlutils.errors import LearnerError
from tlutils.train import History, Recipe


def test_the_history_is_a_tidy_table_of_every_epoch():
    _, history = trained(FAST)
    table = history.table
    assert table["epoch"].tolist() == [1, 2, 3]
    wanted = {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy", "lr_head"}
    assert wanted | {"trainable_params", "seconds", "images_per_second", "peak_memory_mib"} <= set(table)
    assert table["trainable_params"].tolist() == [sum(p.numel() for p in tiny_net().parameters())] * 3
    assert table.select_dtypes("number").drop(columns=["epoch", "phase"]).gt(0).all().all()
    assert "3 of 3 epochs" in repr(history)
    assert "<table" in history._repr_html_()


@pytest.mark.parametrize("recipe", [FAST, Recipe.probe(epochs=2)])
def test_without_val_images_training_runs_and_the_last_weights_are_kept(recipe):
    _, history = trained(recipe, tiny_data(val=0))
    assert "val_loss" not in history.table
    assert history.best_epoch == len(history)
    assert "train_loss" in repr(history)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_history_says_whose_weights_the_model_has(keep):
    net, after = tiny_net(), []
    recipe = Recipe.finetune(epochs=6, lr=0.3, head_lr=0.3, batch_size=7, keep=keep)
    history = train.fit(net, tiny_data(), recipe, on_epoch=lambda _: after.append(weights(net)))
    assert history.best_epoch < 6  # or this would show nothing
    assert history.kept_epoch == (history.best_epoch if keep == "best" else 6)
    assert same(weights(net), after[history.kept_epoch - 1])


def test_histories_are_equal_whatever_the_clock_said():
    _, history = trained(FAST)
    later = [
        row | {"seconds": 99.0, "images_per_second": 1.0, "peak_memory_mib": 5.0} for row in history.rows
    ]
    assert history == replace(history, rows=later, notices=["It was warm."], kept_epoch=9)
    assert history != replace(history, stopped="early")
    assert history != replace(history, recipe=replace(FAST, seed=FAST.seed + 1))
    changed = [row | {"val_loss": row["val_loss"] + 1e-12} for row in history.rows]
    assert history != replace(history, rows=changed)
    assert History(FAST) != history


def test_the_loss_on_val_is_plain_whatever_the_recipe_adds_to_the_loss_that_trains():
    still = Recipe.finetune(epochs=1, lr=0.0, head_lr=0.0)
    _, plain = trained(still)
    _, rich = trained(replace(still, label_smoothing=0.2, class_weight="balanced"))
    assert plain.best["val_loss"] == rich.best["val_loss"]
    assert plain.best["train_loss"] != rich.best["train_loss"]


def test_a_history_survives_csv_to_the_last_bit(tmp_path):
    _, history = trained(FAST)
    with history.to_csv(tmp_path / "history.csv").open(newline="") as file:
        read = [float(row["val_loss"]) for row in csv.DictReader(file)]
    assert read == history.table["val_loss"].tolist()


def test_drift_is_the_length_of_the_change_over_the_length_before():
    net = tiny_net()
    before = copy.deepcopy(net)
    with torch.no_grad():
        net.fc.weight.mul_(1.5)
        net.fc.bias.mul_(1.5)
    moved = train.weight_change(net, before)
    assert list(moved) == [stage.name for stage in surgery.stages(net) if stage.parameters]
    assert moved.pop("head") == pytest.approx(0.5)
    assert set(moved.values()) == {0.0}
    assert train.weight_change(net, before.state_dict())["head"] == pytest.approx(0.5)


def test_drift_of_a_probe_is_in_its_head_alone():
    net = tiny_net()
    before = copy.deepcopy(net)
    train.fit(net, tiny_data(), Recipe.probe(epochs=1))
    moved = train.weight_change(net, before)
    assert moved.pop("head") > 0
    assert set(moved.values()) == {0.0}


def test_drift_refuses_another_network():
    with pytest.raises(LearnerError, match=r"fc\.weight"):
        train.weight_change(tiny_net(3), tiny_net(4))


def test_cka_is_one_for_rotated_and_scaled_features_and_small_for_unrelated_ones():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6))
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert metrics.cka(x, 3 * x @ turn + 1) == pytest.approx(1)
    assert metrics.cka(x, rng.normal(size=(500, 4))) < 0.05


def test_cka_by_hand():
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    # Of the two directions of equal strength, y keeps one: |yᵀx|² = 4, |xᵀx| = √8, |yᵀy| = 2.
    assert metrics.cka(x, x[:, :1]) == pytest.approx(4 / (np.sqrt(8) * 2))


@pytest.mark.parametrize(("x", "y"), [((3, 2), (4, 2)), ((3,), (3, 2))])
def test_cka_refuses_features_that_do_not_fit(x, y):
    with pytest.raises(LearnerError, match="shapes"):
        metrics.cka(np.ones(x), np.ones(y))
    with pytest.raises(LearnerError, match="same for all"):
        metrics.cka(np.ones((3, 2)), np.eye(3))


def test_equal_recipes_are_written_alike_whatever_kind_of_number_they_were_given():
    plain = train.Recipe.finetune(lr=1.0, epochs=2, mixup=0.0, patience=3, augment=True, clip_norm=1.0)
    mixed = train.Recipe.finetune(
        lr=1, epochs=np.int64(2), mixup=np.float32(0), patience=np.int8(3), augment=1, clip_norm=np.float64(1)
    )
    assert repr(mixed) == repr(plain)
    with pytest.raises(LearnerError, match=r"patience=0\.5"):
        train.Recipe.finetune(patience=0.5)


def test_the_whole_network_is_called_all_and_nothing_else():
    assert train.Recipe.partial("all").phases == train.Recipe.finetune().phases
    with pytest.raises(LearnerError, match=r'from_stage is None.*"all"'):
        train.Recipe.gradual(["head", None])
