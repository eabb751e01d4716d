"""Every image counts once an epoch, and the loss is what it says."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import FAST, TinyNet, TinySplit, near, recorded, tiny_data, tiny_net, trained
from torch.nn.functional import cross_entropy, one_hot

from tlutils import data, models, train
from tlutils.inference import logits_of
from tlutils.train import Recipe

STILL = Recipe.finetune(epochs=1, lr=0.0, head_lr=0.0, batch_size=5)
"""Moves nothing, so that the loss in the history is that of the network as it was."""


def images_trained_on(dataset):
    """Return the training images in the order of reading, without the one that tried the head."""
    return dataset.train.reads[1:]


@pytest.mark.parametrize(("images", "size"), [(9, 4), (3, 4), (2, 4), (8, 4), (5, 2)])
def test_every_image_is_trained_on_once_an_epoch_and_never_alone(images, size):
    net, dataset = tiny_net(2), tiny_data(train=images, classes=2)
    seen = recorded(net)
    train.fit(net, dataset, replace(FAST, batch_size=size, augment=True))
    read = np.reshape(images_trained_on(dataset), (FAST.epochs, images))
    assert np.array_equal(np.sort(read, axis=1), np.tile(range(images), (FAST.epochs, 1)))
    assert min(len(x) for x, _ in seen) >= 2


def test_each_epoch_has_an_order_of_its_own():
    dataset = tiny_data()
    train.fit(tiny_net(), dataset, replace(FAST, augment=True))
    orders = np.reshape(images_trained_on(dataset), (3, 24)).tolist()
    assert orders[0] != orders[1] != orders[2]


def test_an_image_that_is_the_same_in_every_epoch_is_decoded_once():
    dataset = tiny_data()
    train.fit(tiny_net(), dataset, FAST)
    assert sorted(images_trained_on(dataset)) == list(range(24))


def test_accumulated_micro_batches_make_the_same_step_as_one_batch():
    recipe = replace(FAST, batch_size=8, class_weight="balanced", optimizer="sgd")
    dataset = tiny_data(train=23)
    whole, _ = trained(recipe, dataset, tiny_net(norm=False))
    micro_batches, _ = trained(replace(recipe, micro_batches=3), dataset, tiny_net(norm=False))
    assert near(whole, micro_batches, 1e-6)


@pytest.mark.parametrize("balanced", [False, True])
def test_the_loss_is_torchs_own_with_smoothing_and_weights_of_the_classes_that_train(balanced):
    labels = [0] * 15 + [1] * 6 + [2] * 3
    weight = torch.tensor([24 / 45, 24 / 18, 24 / 9]) if balanced else None
    net, dataset = tiny_net(norm=False), tiny_data()
    dataset.train = TinySplit("train", labels, dataset.classes)
    seen = recorded(net)
    recipe = replace(STILL, label_smoothing=0.1, class_weight="balanced" if balanced else None)
    history = train.fit(net, dataset, recipe)
    logits = torch.cat([output for _, output in seen])
    truth = torch.tensor([labels[i] for i in images_trained_on(dataset)])
    oracle = cross_entropy(logits, truth, weight=weight, label_smoothing=0.1)
    assert history.best["train_loss"] == pytest.approx(oracle.item(), rel=1e-6)


def test_mixup_blends_images_in_pairs_and_counts_both_labels_by_their_shares():
    net, dataset = tiny_net(norm=False), tiny_data()
    seen = recorded(net)
    history = train.fit(net, dataset, replace(STILL, mixup=0.4))
    images = torch.stack(
        [data.transform_for(net)(image) for image, _ in map(dataset.train.__getitem__, range(24))]
    )
    mixed = torch.cat([x for x, _ in seen]).flatten(1).double()
    # Which shares of which images make up what the network saw.
    shares = torch.linalg.lstsq(images.flatten(1).double().T, mixed.T).solution.T
    assert torch.allclose(shares.sum(1), torch.ones(24, dtype=torch.float64), atol=1e-4)
    used = (shares > 1e-3).sum(1)
    assert used.max() == 2
    assert (used == 2).sum() > 12
    truth = shares @ one_hot(torch.tensor(dataset.train.labels)).double()
    oracle = cross_entropy(torch.cat([output for _, output in seen]).double(), truth)
    assert history.best["train_loss"] == pytest.approx(oracle.item(), rel=1e-4)


def test_a_class_missing_from_val_leaves_the_balanced_accuracy_to_the_others():
    dataset = tiny_data()
    dataset.val = TinySplit("val", [0, 1, 0, 1], dataset.classes, 1)
    net = tiny_net()
    history = train.fit(net, dataset, FAST)
    hits = train.predict(net, dataset.val).predicted == dataset.val.labels
    recalls = [hits[::2].mean(), hits[1::2].mean()]
    assert history.rows[-1]["val_balanced_accuracy"] == pytest.approx(np.mean(recalls))


class WithAuxiliary(TinyNet):
    """Returns in training, as GoogLeNet does, logits and those of further heads, one switched off."""

    form = tuple

    def forward(self, x):
        logits = super().forward(x)
        return self.form((logits, -2 * logits, None)) if self.training else logits


def named(outputs):
    """As a dict, with what is no head's output beside them."""
    logits, auxiliary, _ = outputs
    return {"logits": logits, "probabilities": logits.softmax(1), "aux_logits": auxiliary}


@pytest.mark.parametrize(
    "form",
    [tuple, list, named, lambda outputs: SimpleNamespace(**named(outputs))],
    ids=["tuple", "list", "dict", "object"],
)
def test_auxiliary_heads_add_their_share_of_the_loss(form, monkeypatch):
    monkeypatch.setattr(WithAuxiliary, "form", staticmethod(form))
    net, dataset = WithAuxiliary(norm=False), tiny_data()
    models.describe(net.eval(), input_size=(3, 16, 16))
    seen = recorded(net)
    history = train.fit(net, dataset, STILL)
    truth = torch.tensor([dataset.train.labels[i] for i in images_trained_on(dataset)])
    main = torch.cat([logits_of(output) for _, output in seen])
    auxiliary = -2 * main
    oracle = cross_entropy(main, truth) + 0.4 * cross_entropy(auxiliary, truth)
    assert history.best["train_loss"] == pytest.approx(oracle.item(), rel=1e-6)
    hits = (main.argmax(1) == truth).float().mean()
    assert history.best["train_accuracy"] == pytest.approx(hits.item())
