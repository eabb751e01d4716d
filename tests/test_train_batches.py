"""Every image counts once an epoch, and the loss is what it says."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tiny import FAST, TinySplit, near, tiny_data, tiny_net, trained
from torch import nn

from tlutils import train
from tlutils.train import batches
from tlutils.train.loop import loss_of
from tlutils.train.ready import class_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("images", "size"), [(9, 4), (3, 4), (2, 4), (8, 4), (5, 2)])
def test_every_image_is_trained_on_once_an_epoch_and_never_alone(images, size):
    plan = batches.plan(images, replace(FAST, batch_size=size), 0)
    assert sorted(draw.image for batch in plan for draw in batch) == list(range(images))
    assert min(map(len, plan)) >= 2
    dataset = tiny_data(train=images, classes=2)
    history = train.fit(tiny_net(2), dataset, replace(FAST, batch_size=size))
    assert history.table["train_loss"].gt(0).all()


def test_each_epoch_has_an_order_of_its_own():
    orders = [[d.image for b in batches.plan(20, FAST, epoch) for d in b] for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]


def test_accumulated_pieces_make_the_same_step_as_one_batch():
    recipe = replace(FAST, batch_size=8, class_weights="balanced", optimizer="sgd")
    dataset = tiny_data(train=23)
    whole, _ = trained(recipe, dataset, tiny_net(norm=False))
    micro_batches, _ = trained(replace(recipe, accumulate=3), dataset, tiny_net(norm=False))
    assert near(whole, micro_batches, 1e-6)


def test_the_loss_is_torchs_own_with_class_weights_and_smoothing():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    chosen = replace(FAST, label_smoothing=0.1, class_weights="balanced")
    weight = class_weights(labels, 3, chosen)
    batch = batches.Batch((), labels, labels, torch.ones(6))
    ours = loss_of(logits, batch, recipe=chosen, weights=weight, total=weight[labels].sum().item())
    oracle = nn.functional.cross_entropy(logits, labels, weight=weight, label_smoothing=0.1)
    assert torch.allclose(ours, oracle)


def test_mixed_images_count_for_both_labels_by_their_shares():
    logits, labels = torch.tensor([[2.0, -1.0], [0.5, 0.0]]), torch.tensor([0, 1])
    others, shares = torch.tensor([1, 1]), torch.tensor([0.25, 1.0])
    soft = torch.tensor([[0.25, 0.75], [0.0, 1.0]])
    ours = loss_of(
        logits,
        batches.Batch((), labels, others, shares),
        recipe=replace(FAST, mixup=0.2),
        weights=torch.ones(2),
        total=2.0,
    )
    assert torch.allclose(ours, nn.functional.cross_entropy(logits, soft))


def test_mixup_blends_each_image_with_its_partner():
    images = batches.Images(tiny_data().train, Number(), seed=0)
    draw = batches.Draw(image=2, view=0, partner=5, share=0.25)
    (x,) = images.__getitems__([draw]).inputs
    (own,) = images.__getitems__([draw._replace(share=1.0)]).inputs
    (other,) = images.__getitems__([draw._replace(image=5, share=1.0)]).inputs
    assert torch.allclose(x, 0.25 * own + 0.75 * other)


class Number:
    """A transform that gives the sum of the picture."""

    def __call__(self, image):
        return torch.tensor(np.asarray(image).sum() / 1e5, dtype=torch.float32).view(1, 1, 1)


def test_class_weights_come_from_the_images_that_train():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    balanced = class_weights(labels, 3, replace(FAST, class_weights="balanced"))
    assert torch.allclose(balanced, torch.tensor([100 / 270, 100 / 27, 100 / 3]))
    assert class_weights(labels, 3, FAST).tolist() == [1, 1, 1]


def test_a_class_missing_from_val_leaves_the_balanced_accuracy_to_the_others():
    dataset = tiny_data()
    dataset.val = TinySplit("val", [0, 1, 0, 1], dataset.classes, 1)
    _, history = trained(FAST, dataset)
    assert history.table["val_balanced_accuracy"].between(0, 1).all()


def test_auxiliary_heads_add_their_share_of_the_loss():
    logits, labels = torch.zeros(2, 2), torch.tensor([0, 1])
    batch = batches.Batch((), labels, labels, torch.ones(2))
    loss = partial(loss_of, recipe=FAST, weights=torch.ones(2), total=2.0)
    assert loss((logits, logits, None), batch).item() == pytest.approx(1.4 * np.log(2))
