"""Training killed at the worst moments goes on to the same bits; several processes reach the same weights."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import processes
import pytest
import torch
import train_child
from tiny import (
    Dropping,
    FunctionalNorm,
    GroupNormed,
    InstanceNormed,
    LeavesALayerOut,
    MovingCentre,
    NormOfItsOwn,
    near,
    same,
)  # fmt: skip

CHILD = Path(__file__).with_name("train_child.py")
QUIET = {
    "TQDM_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
    "ACCELERATE_USE_CPU": "true",
    "GLOO_SOCKET_IFNAME": "lo",
}


def run(folder, *options, **environment):
    """Run the child to its end, whatever that is, and return its exit code."""
    environment |= QUIET | {"TLUTILS_CACHE": str(folder / "cache")}
    return processes.run(train_child.main, folder, *options, **environment)


def result(folder, *options):
    """Run the child and return its final weights and history, and the number of processes that trained."""
    assert run(folder, *options) == 0
    return pickle.loads((folder / "result.pkl").read_bytes())


def two(folder, *options):
    """Run it in two processes that are told what torchrun tells its own."""
    here = QUIET | {"TLUTILS_CACHE": str(folder / "cache")}
    processes.run_group(train_child.main, [(folder, *options)] * 2, **here)


def torchrun(folder, *options):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    paths = os.pathsep.join(map(str, [CHILD.parent, CHILD.parent.parent]))
    here = os.environ | QUIET | {"TLUTILS_CACHE": str(folder / "cache"), "PYTHONPATH": paths}
    done = subprocess.run(
        [*launcher, CHILD, folder, *options], env=here, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    return result(tmp_path_factory.mktemp("unharmed"))


@pytest.mark.parametrize(
    "moments",
    [
        # Of 16 steps, four an epoch: in the head's second epoch and while a file is written, with workers at
        # work whenever the process dies, and when it goes on; without; in the head's first epoch and in the
        # whole network's first.
        ["num_workers=2 die=7", "num_workers=2 save=1"],
        pytest.param(["die=7", "save=1"], marks=pytest.mark.full),
        pytest.param(["die=2", "die=11"], marks=pytest.mark.full),
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights_and_history(unharmed, tmp_path, moments):
    for moment in moments:
        assert abs(run(tmp_path, *moment.split())) == 9
    num_workers = [option for option in moments[-1].split() if option.startswith("num_workers")]
    weights, history, _ = result(tmp_path, *num_workers)
    assert same(weights, unharmed[0])
    assert history == unharmed[1]


@pytest.mark.parametrize(
    ("run_two", "options"),
    [
        # Batches of 7 make halves that differ in size; 22 images leave a last one of 1, and 23 one of 2.
        (two, ["norm=yes", "images=22"]),
        pytest.param(torchrun, ["norm=yes", "images=22"], marks=pytest.mark.full),
        pytest.param(two, ["norm=no", "images=23"], marks=pytest.mark.full),
    ],
)
def test_two_processes_reach_the_weights_of_one(tmp_path, run_two, options):
    one, alone, _ = result(make(tmp_path / "one"), "kind=processes", *options)
    run_two(make(tmp_path / "two"), "kind=processes", *options)
    other, together, count = pickle.loads((tmp_path / "two" / "result.pkl").read_bytes())
    assert count == 2
    for name in one:
        assert torch.allclose(one[name].float(), other[name].float(), atol=1e-5, rtol=0), name
    figures = ["train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    assert together.table[figures].to_numpy() == pytest.approx(alone.table[figures].to_numpy(), abs=1e-5)


@pytest.mark.full
def test_two_processes_reach_the_weights_of_one_or_say_why_not(tmp_path):
    kinds = [
        FunctionalNorm,
        GroupNormed,
        LeavesALayerOut,
        NormOfItsOwn,
        InstanceNormed,
        MovingCentre,
        Dropping,
    ]
    found = []
    for count in (1, 2):
        processes.run_group(train_child.several, [(tmp_path, kinds)] * count, **QUIET)
        found.append(pickle.loads((tmp_path / "several.pkl").read_bytes()))
    for kind, (one, _), (two, notices) in zip(kinds, *found, strict=True):
        assert near(one, two, 1e-5) == (not notices) == (kinds.index(kind) < 3), kind
        assert all("2 passes, over all processes" in notice for notice in notices)


def make(folder):
    folder.mkdir()
    return folder
