"""Each explorer on a network and pictures that cost nothing, for the tests with and without a browser."""

import numpy as np
import pandas as pd
import torch
from tiny import tiny_net

from tlutils import models, runtime, widgets


def photos(count=3, side=32):
    with runtime.seeded(1):
        return torch.randn(count, 3, side, side)


def named_net(classes=3):
    return models.describe(tiny_net(classes), classes=["red", "green", "blue"][:classes])


def table(reached, epochs=3):
    steps = np.arange(1, epochs + 1) / epochs
    both = {f"{split}_accuracy": reached * steps for split in ("train", "val")}
    return pd.DataFrame(both | {f"{split}_loss": 2 - reached * steps for split in ("train", "val")})


RESULTS = {"head": (0.7, 0.65, 0.75), "stem": (0.72, 0.6, 0.8)}
MADE = {
    "explore_channels": lambda: widgets.explore_channels(tiny_net(), photos()),
    "explore_occlusion": lambda: widgets.explore_occlusion(named_net(), photos()[0]),
    "explore_attributions": lambda: widgets.explore_attributions(tiny_net(), photos()[:1]),
    "explore_deepdream": lambda: widgets.explore_deepdream(tiny_net(), photos()[0], octaves=1, steps=2),
    "explore_freezing": lambda: widgets.explore_freezing(tiny_net(), results=RESULTS),
    "explore_learning_rates": lambda: widgets.explore_learning_rates({1e-3: table(0.8), 1e-1: table(0.3)}),
    "explore_decision_matrix": lambda: widgets.explore_decision_matrix(distance=0.3, images=3),
}
