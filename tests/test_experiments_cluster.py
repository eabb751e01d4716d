"""One line takes a grid of runs to a cluster, and a worker that dies there takes no run with it."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from PIL import Image

from tlutils import data, features, models
from tlutils.experiments import grid, run_grid

RUNS = 8
pytestmark = pytest.mark.full


def square(seed, seen):
    Path(seen, f"{seed} {os.getpid()}").touch()
    time.sleep(0.3)
    return {"score": seed**2, "worker": os.getpid()}


def test_a_grid_runs_on_a_dask_cluster_and_survives_the_death_of_a_worker(tmp_path):
    seen = tmp_path / "seen"
    seen.mkdir()
    killed = []

    def kill_one_half_way():
        while len(begun := [path.name.split() for path in seen.iterdir()]) < RUNS // 2:
            time.sleep(0.01)
        killed.append(max(begun, key=lambda run: int(run[0])))
        os.kill(int(killed[0][1]), signal.SIGKILL)

    killer = threading.Thread(target=kill_one_half_way)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        killer.start()
        with joblib.parallel_config("dask"):
            table = run_grid(
                {square: grid(seed=range(RUNS), seen=str(seen))}, out=tmp_path / "rows", n_jobs=2
            )
        killer.join()
    assert (table["error"] == "").all()
    assert table["score"].tolist() == [seed**2 for seed in range(RUNS)]
    assert os.getpid() not in set(table["worker"])
    ((seed, dead),) = killed
    assert {path.name.split()[1] for path in seen.glob(f"{seed} *")} > {dead}, "the run was begun twice"
    assert str(table.set_index("seed").loc[int(seed), "worker"]) != dead


def test_parts_that_are_extracted_on_a_cluster_as_the_page_on_scale_does_are_one_extraction(
    tmp_path, monkeypatch
):
    page = (Path(__file__).parents[1] / "docs" / "scale.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    world = {"__name__": "__main__"}  # whose functions travel by value
    exec(code, world)
    folder = tmp_path / "images"
    for i, colour in enumerate(np.random.default_rng(0).integers(0, 255, (24, 6, 6, 3), dtype=np.uint8)):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colour).resize((64, 64)).save(path)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        out = str(tmp_path / "rows")
        table, store = world["extract_all"](str(folder), out, cluster.scheduler_address, parts=3)
    whole = data.load(folder).train
    assert (table["error"] == "").all()
    assert table["rows"].sum() == len(store) == len(whole)
    assert store.labels.tolist() == whole.labels
    monkeypatch.setenv("TLUTILS_CACHE", str(tmp_path / "cache"))
    alone = features.extract(models.load(models.DEFAULT), whole, at="pool")
    assert np.allclose(store["pool"], alone["pool"], atol=1e-4)
