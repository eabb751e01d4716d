"""A probe as the head of the network on whose features it was fitted."""

import numpy as np
import torch
from torch import nn

from .. import data, features, surgery
from ..errors import LearnerError
from .fitting import Probe

AGREE = 1e-3  # probabilities of the probe and of the model with it as head
COMPARED = 4  # images


def install_head(model: nn.Module, probe: Probe, images: data.LabelledImages) -> nn.Module:
    """Make a linear probe the head of a model, in place, and return the model, which then answers alike.

    Args:
        model: An image classifier whose head is one linear layer.
        probe: Fitted on the features of the stage before the head, `surgery.stages(model).embedding`.
        images: Images that the probe was fitted on. A few of them are read, by which the answers of model and
            probe are compared, and from then on the model reads files as they are read.

    Raises:
        LearnerError: With the model as it was, when the probe is of neighbours, when its features or classes
            are not those of the head, or when the model does not answer as the probe does.

    Example:
        >>> from tlutils import data, features, models, probe
        >>> few = data.load("digits").train.subsample(4)
        >>> model = models.load("test_resnet", pretrained=False, num_classes=10, input_size=32)
        >>> read = features.extract(model, few, at="pool")
        >>> found = probe.fit_probe(read["pool"], read.labels, classes=few.classes, penalties=[0.1])
        >>> probe.install_head(model, found, few).fc.weight[0].equal(found.head().weight[0])
        True
    """
    head, layer = surgery.linear_head(model), probe.head()
    if head is None:
        raise _misfit(model, "which is more than one linear layer on its final features")
    if head.weight.shape != layer.weight.shape:
        own, theirs = ("{1} features and {0} classes".format(*x.weight.shape) for x in (layer, head))
        raise _misfit(model, f"which has {theirs}; the probe has {own}")
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    head.load_state_dict(layer.state_dict() if head.bias is not None else {"weight": layer.weight})
    prepare = data.transform_for(model)
    shown = [prepare(data.read_for(prepare, images, i)) for i in range(min(COMPARED, len(images)))]
    said, embeddings = features.make_predictor(model)(torch.stack(shown))
    if not np.allclose(said, probe.predict_proba(embeddings), atol=AGREE):
        head.load_state_dict(before)
        raise _misfit(model, "with which the model does not give the probe's answers")
    return data.read_files_as(model, images)


def _misfit(model: nn.Module, why: str) -> LearnerError:
    return LearnerError(
        f"The probe does not fit the head of this network, {why}. The network is as it was. What fits is a "
        f"probe of the stage {surgery.stages(model).embedding!r}, with a class for each output, where the "
        "head is one linear layer with a bias, and the last step."
    )
