"""One line takes a grid of runs to a cluster, and a worker that dies there takes no run with it."""

import os
import signal
import threading
import time
from pathlib import Path

import joblib
import pytest
from distributed import Client, LocalCluster

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
