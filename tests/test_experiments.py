"""Every run is a row that survives a kill; results do not depend on how many run at once."""

import json
import os
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import processes
import pytest
import torch

from tlutils import experiments
from tlutils.errors import LearnerError
from tlutils.experiments import ABOUT, grid, run_grid, summarize
from tlutils.intervals import t_interval


def measure(size: int, kind: str, seed: int) -> dict:
    """A protocol for these tests: notes that it ran, and measures something that depends on its axes."""
    if folder := os.environ.get("NOTES"):
        with (Path(folder) / f"{size}-{kind}-{seed}").open("a") as note:
            note.write("ran\n")
    if os.environ.get("DIE_AT") == f"{size}-{kind}-{seed}":
        os.kill(os.getpid(), 9)  # SIGKILL, by its number: Windows has the act and not the name
    if os.environ.get("FAIL_AT") == f"{size}-{kind}-{seed}":
        raise LearnerError("There is no weight file here. Install it.")
    noise = torch.randn(64, 64, generator=torch.Generator().manual_seed(seed))
    return {
        "score": np.float32(size) + (noise @ noise).mean().item(),
        "threads_seen": torch.get_num_threads(),
    }


RUNS = grid(size=[1, 2], kind=["a", "b"], seed=range(2))


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """How often each run was made."""
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv("NOTES", str(folder))
    return lambda: {note.name: len(note.read_text().split()) for note in folder.iterdir()}


def results(table):
    return table.drop(columns=["seconds", "peak_memory_mib"])


def test_a_grid_has_every_combination_and_texts_are_single_values():
    assert grid(size=[1, 2], name="scenes", seed=range(2)) == [
        {"size": 1, "name": "scenes", "seed": 0},
        {"size": 1, "name": "scenes", "seed": 1},
        {"size": 2, "name": "scenes", "seed": 0},
        {"size": 2, "name": "scenes", "seed": 1},
    ]
    with pytest.raises(LearnerError, match="size"):
        grid(size=[], seed=[0])


def test_a_run_is_a_row_with_axes_values_and_where_it_was_made(tmp_path):
    table = run_grid({measure: RUNS}, out=tmp_path)
    assert table[["size", "kind", "seed"]].to_dict("records") == RUNS
    assert set(ABOUT) <= set(table.columns)
    assert (table["protocol"] == "measure").all()
    assert table["score"].nunique() == 4  # size and seed decide it
    assert (table["error"] == "").all()
    assert (table["seconds"] >= 0).all()
    assert table["versions"].str.contains(f"torch={torch.__version__.partition('+')[0]}").all()


def test_the_same_call_again_does_nothing_and_more_runs_do_only_what_is_new(tmp_path, notes):
    first = run_grid({measure: RUNS[:4]}, out=tmp_path / "rows")
    again = run_grid({measure: RUNS}, out=tmp_path / "rows")
    assert set(notes().values()) == {1}
    assert len(notes()) == 8
    pd.testing.assert_frame_equal(first, again[:4])


def test_rows_are_made_again_where_none_is_to_count(tmp_path, notes):
    for resume in (True, False):
        run_grid({measure: RUNS[:2]}, out=tmp_path / "rows", resume=resume)
    assert set(notes().values()) == {2}


def of_many_kinds(augment: bool | str, seed: int) -> dict:
    return {"score": seed / 2, "hits": "0110", "labels": 3}


def test_the_table_is_a_parquet_file_whose_columns_have_a_type_each(tmp_path):
    table = run_grid({of_many_kinds: grid(augment=[False, "shift"], seed=range(2))}, out=tmp_path)
    kept = pd.read_parquet(tmp_path / experiments.TABLE)
    assert kept["augment"].tolist() == ["False", "False", "shift", "shift"]
    same = [name for name in table if name != "augment"]
    pd.testing.assert_frame_equal(kept[same], table[same])
    assert kept["hits"].tolist() == ["0110"] * 4, "text, and no number"


def fill_memory(mib: int, seed: int) -> dict:
    held = np.ones(mib * 2**17)
    time.sleep(0.1)
    return {"held": held.sum()}


def fill_memories(out):
    run_grid({fill_memory: grid(mib=[1, 300, 2], seed=0)}, out=out)


def test_a_run_says_how_much_memory_it_held_and_not_what_a_run_before_it_did(tmp_path):
    assert processes.run(fill_memories, tmp_path) == 0  # where nothing has kept memory yet
    before, most, after = pd.read_parquet(tmp_path / experiments.TABLE)["peak_memory_mib"]
    assert most - before == pytest.approx(300, abs=60)
    assert most - after == pytest.approx(300, abs=60)


def test_results_do_not_depend_on_how_many_run_at_once(tmp_path):
    alone = run_grid({measure: RUNS}, out=tmp_path / "one")
    together = run_grid({measure: RUNS}, out=tmp_path / "two", n_jobs=2)
    with joblib.parallel_config(backend="threading"):
        threaded = run_grid({measure: RUNS}, out=tmp_path / "three", n_jobs=2)
    pd.testing.assert_frame_equal(results(alone), results(together))
    # Threads share the cores, and with them the order in which sums are added up.
    assert alone["score"].tolist() == pytest.approx(threaded["score"].tolist(), rel=1e-5)


KEPT = []


def keep(seed: int) -> dict:
    """Keep 400 MB, as a worker keeps networks, and tell who does: loky looks once a second."""
    KEPT.append(b"x" * 400_000_000 if len(KEPT) == 1 else b"")
    time.sleep(1.1)
    return {"worker": os.getpid()}


def test_a_worker_that_keeps_networks_is_not_renewed(tmp_path):
    table = run_grid({keep: grid(seed=range(6))}, out=tmp_path, n_jobs=2)
    assert table["error"].tolist() == [""] * 6
    assert table["worker"].nunique() == 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_has_the_threads_that_were_asked_for_and_the_caller_gets_its_own_back(tmp_path, jobs):
    before = torch.get_num_threads()
    table = run_grid({measure: RUNS[:2]}, out=tmp_path, n_jobs=jobs, threads=1)
    assert set(table["threads_seen"]) == {1}
    assert torch.get_num_threads() == before


def test_a_failed_run_is_a_row_in_words_stops_no_other_and_is_tried_again(tmp_path, notes, monkeypatch):
    monkeypatch.setenv("FAIL_AT", "1-b-0")
    table = run_grid({measure: RUNS}, out=tmp_path / "rows")
    (failed,) = table[table["error"] != ""].to_dict("records")
    assert (failed["size"], failed["kind"], failed["seed"]) == (1, "b", 0)
    assert failed["error"] == "There is no weight file here. Install it."
    assert table["score"].notna().sum() == 7
    monkeypatch.delenv("FAIL_AT")
    mended = run_grid({measure: RUNS}, out=tmp_path / "rows")
    assert (mended["error"] == "").all()
    assert notes() == {name: 2 if name == "1-b-0" else 1 for name in notes()}


def run_all(rows):
    run_grid({measure: RUNS}, out=rows)


def test_a_kill_in_a_run_leaves_finished_rows_and_no_half_ones(tmp_path, notes):
    rows = tmp_path / "rows"
    assert abs(processes.run(run_all, rows, DIE_AT="2-a-0")) == 9
    assert len([json.loads(path.read_text()) for path in rows.glob("[!.]*")]) == 4
    table = run_grid({measure: RUNS}, out=rows)
    assert notes() == {name: 2 if name == "2-a-0" else 1 for name in notes()}
    pd.testing.assert_frame_equal(results(table), results(run_grid({measure: RUNS}, out=tmp_path / "whole")))


def test_a_kill_in_writing_leaves_a_row_that_is_made_again(tmp_path, notes):
    table = run_grid({measure: RUNS[:2]}, out=tmp_path / "rows")
    half = next((tmp_path / "rows").glob(f"*{table['key'][0]}*"))
    half.rename(half.with_name(f".{half.stem}.123.json"))  # what is there before the one step that counts
    run_grid({measure: RUNS[:2]}, out=tmp_path / "rows")
    assert notes() == {"1-a-0": 2, "1-a-1": 1}


@pytest.mark.parametrize("change", ["version", "library", "axis"])
def test_whatever_decides_a_result_makes_a_new_row(tmp_path, notes, monkeypatch, change):
    run_grid({measure: RUNS[:1]}, out=tmp_path / "rows", versions={"measure": "1"})
    runs, version = RUNS[:1], "1"
    if change == "version":
        version = "2"
    elif change == "axis":
        runs = [RUNS[0] | {"size": 1.5}]
    else:
        monkeypatch.setattr(experiments, "installed", lambda name: "99.0")
    run_grid({measure: runs}, out=tmp_path / "rows", versions={"measure": version})
    assert sum(notes().values()) == 2


@pytest.mark.parametrize(
    ("runs", "options", "words"),
    [
        ([], {}, "at least one"),
        ([{"size": 1}], {}, "seed"),
        ([RUNS[0], RUNS[0]], {}, "twice"),
        ([{"size": object(), "seed": 0}], {}, "not a number, a text or a bool"),
        (RUNS, {"n_jobs": 0}, "n_jobs=0"),
    ],
)
def test_what_cannot_run_is_said_before_anything_runs(tmp_path, notes, runs, options, words):
    with pytest.raises(LearnerError, match=words):
        run_grid({measure: runs}, out=tmp_path / "rows", **options)
    assert notes() == {}


def echo(seed: int, score: float) -> dict:
    return {"score": score}


def test_a_protocol_cannot_overwrite_its_axes(tmp_path):
    table = run_grid({echo: [{"seed": 0, "score": 1.0}]}, out=tmp_path)
    assert "score" in table["error"][0]


LUCK = [0.1, 0.5, 0.9]  # of each seed: far larger than the effect


def scores():
    rows = [
        {"data": data, "strategy": strategy, "seed": seed, "accuracy": luck + gain + 0.001 * seed * gain}
        for data, factor in (("near", 1), ("far", 2))
        for strategy, gain in (("probe", 0.0), ("finetune", 0.02 * factor))
        for seed, luck in enumerate(LUCK)
    ]
    return pd.DataFrame(rows)


def test_means_come_with_intervals_over_seeds():
    found = summarize(scores(), by=["strategy"], value="accuracy").set_index("strategy")
    assert found.loc["probe", "accuracy"] == pytest.approx(0.5)
    assert found.loc["probe", "n"] == 3  # seeds, and not rows
    assert (found.loc["probe", "low"], found.loc["probe", "high"]) == pytest.approx(t_interval(LUCK)[1:])


def test_runs_that_share_a_seed_are_paired():
    table = scores().sample(frac=1, random_state=0)
    found = summarize(table, by=["data", "strategy"], value="accuracy", against={"strategy": "probe"})
    found = found.set_index(["data", "strategy"])
    assert found.loc[("near", "finetune"), "accuracy"] == pytest.approx(0.02, abs=1e-3)
    assert found.loc[("far", "finetune"), "accuracy"] == pytest.approx(0.04, abs=1e-3)
    assert found.loc[("far", "finetune"), "low"] > 0.03  # unpaired, luck would swallow it
    from scipy import stats  # here: each worker imports what this file does

    oracle = stats.ttest_rel(
        *(scores().query(f"data == 'far' & strategy == '{s}'").accuracy for s in ("finetune", "probe"))
    ).confidence_interval()
    assert tuple(found.loc[("far", "finetune"), ["low", "high"]]) == pytest.approx(tuple(oracle))


def test_failed_runs_do_not_count():
    table = scores()
    table.loc[0, "accuracy"] = np.nan
    found = summarize(table, by=["data", "strategy"], value="accuracy", against={"strategy": "probe"})
    assert found.set_index(["data", "strategy"]).loc[("near", "finetune"), "n"] == 2


def test_unknown_columns_are_named():
    with pytest.raises(LearnerError, match="strateg"):
        summarize(scores(), by=["strateg"], value="accuracy")
    with pytest.raises(LearnerError, match="against"):
        summarize(scores(), by=["data"], value="accuracy", against={"strategy": "probe"})


def test_linear_algebra_is_limited_too(tmp_path):
    from sklearn.linear_model import LinearRegression
    from threadpoolctl import threadpool_info

    LinearRegression().fit(np.eye(3), np.arange(3))  # whatever library is there is loaded now
    with experiments.limit_threads(1):
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
