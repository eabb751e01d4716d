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
    "stage_explorer": lambda: widgets.stage_explorer(tiny_net(), photos()),
    "occluder": lambda: widgets.occluder(named_net(), photos()[0]),
    "saliency_comparer": lambda: widgets.saliency_comparer(tiny_net(), photos()[:1]),
    "live_deepdream": lambda: widgets.live_deepdream(tiny_net(), photos()[0], octaves=1, steps=2),
    "freeze_slider": lambda: widgets.freeze_slider(tiny_net(), results=RESULTS),
    "rate_explorer": lambda: widgets.rate_explorer({1e-3: table(0.8), 1e-1: table(0.3)}),
    "matrix_explorer": lambda: widgets.matrix_explorer(distance=0.3, images=3),
}
