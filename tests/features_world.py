"""A small world for the feature tests: photos that count how often they are read, and a student's network."""

import json
import os
import threading
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from tlutils import features, surgery
from tlutils.errors import LearnerError
from tlutils.features import extraction

SIZE = 32


class Photos:
    """A split of `n` different pictures that remembers which were decoded, and which for a trial alone."""

    def __init__(self, n=24, *, sizes=(SIZE,)):
        self.n, self.sizes, self.decoded, self.tried = n, sizes, [], []
        self.labels = [i % 3 for i in range(n)]
        self.fingerprint = f"photos-{n}"

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        at_work = threading.current_thread().name.startswith("decode")
        (self.decoded if at_work else self.tried).append(i)
        size = self.sizes[i % len(self.sizes)]
        pixels = np.random.default_rng(i).integers(256, size=(size, size, 3), dtype=np.uint8)
        return Image.fromarray(pixels), self.labels[i]


class Broken(Photos):
    """Photos of which one cannot be read as long as `broken` is set."""

    broken = True

    def __getitem__(self, i):
        if self.broken and i == 17:
            raise LearnerError("photo-17.jpg is broken")
        return super().__getitem__(i)


def as_tensor(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255 - 0.5


def flipped(image):
    tensor = as_tensor(image)
    return (tensor.flip(2) if torch.rand(()) < 0.5 else tensor) + 0.1 * torch.randn(())


class Student(nn.Module):
    """What a student writes: odd names, BatchNorm, dropout."""

    def __init__(self):
        super().__init__()
        self.begin = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.middle = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.5)
        )
        self.late = nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.answer = nn.Linear(24, 3)

    def forward(self, x):
        return self.answer(self.flat(self.average(self.late(self.middle(self.begin(x))))))


class Skips(nn.Module):
    """Two tensors leave its second stage: maps, and the tokens made of them."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.tokens = nn.Linear(4, 4)
        self.more = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.answer = nn.Linear(4, 3)

    def forward(self, x):
        maps = self.maps(x)
        tokens = self.tokens(maps.flatten(2).transpose(1, 2))
        return self.answer(self.more(tokens).mean(1) + maps.mean((2, 3)))


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Student()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(std=0.1)
                layer.running_var.uniform_(0.5, 1.5)
    return model.eval()


def work(cache, note, *, pause=0.0, largest_file=None):
    """In a process of its own: extract slowly, count each finished batch at once, and note what was done."""
    os.environ["TLUTILS_CACHE"] = str(cache)
    # How long it waits stands where no reading of the code finds it, in a library: it decides nothing.
    time.pause = pause
    torch.set_num_threads(1)

    if largest_file is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    extraction.COMMIT_SECONDS = 0
    model, photos, forwards = network(), Photos(), []

    def note_forward(module, inputs, output):
        if len(inputs[0]) > 1:  # no trial
            forwards.append(len(inputs[0]))
            time.sleep(time.pause)

    model.begin[0].register_forward_hook(note_forward)
    result = {}
    try:
        at = [stage.name for stage in surgery.stages(model)][:-1]
        features.extract(
            model, photos, at=at, pool=False, transform=as_tensor, batch_size=8, precision="float32"
        )
    except Exception as error:
        result["error"] = f"{type(error).__name__}: {error}"
    Path(note).write_text(
        json.dumps(result | {"decoded": sorted(photos.decoded), "forwards": sum(forwards)}), encoding="utf-8"
    )


@cache
def body():
    """The names of all stages of the student's network but the head."""
    return surgery.stages(network()).names[:-1]


def extract(model, split, **options):
    options = {"at": body(), "transform": as_tensor, "precision": "float32"} | options
    return features.extract(model, split, **options)
