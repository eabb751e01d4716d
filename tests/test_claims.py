"""A verdict follows from the runs: hand-made tables give all six, and an edited number turns it round."""

import json
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from scipy import stats
from torchvision.models import get_model_weights

from tlutils import claims, data, models, plots, surgery, train
from tlutils.claims import (
    BROKEN,
    CLAIMS,
    HOLDS,
    MIXED,
    OPEN,
    REVERSED,
    SAME,
    Claim,
    Evidence,
    Measurement,
    judge,
    materials,
    reproduction,
    shifts,
)
from tlutils.claims.effects import Contrast
from tlutils.claims.materials import NETWORKS, reset_network
from tlutils.claims.verdicts import adjust
from tlutils.errors import LearnerError

DOCS = Path(__file__).parents[1] / "docs"
IMAGES, SEEDS = 200, 4
tried = Measurement("trying", defaults={"dataset": "near"})


def claim(**changes):
    settings = {
        "id": "a-beats-b",
        "says": "A beats B.",
        "source": "nobody",
        "effect": tried(way="a") - tried(way="b"),
        "contrast": "a minus b",
    }
    return Claim(**settings | changes)


def text(hits):
    return "".join(map(str, np.asarray(hits, dtype=int)))


def known(gain, *, dataset="near", protocol="trying", noise=0.02, seed=0, **axes):
    """Runs of two ways on the same images under the same seeds: a is right on `gain` more of them than b."""
    rng = np.random.default_rng(seed)
    rows, easy = [], rng.permutation(IMAGES) / IMAGES
    for k in range(SEEDS):
        for way, skill in (("a", 0.6 + gain), ("b", 0.6)):
            hits = easy < skill + noise * rng.normal(size=IMAGES)
            rows.append(
                {"protocol": protocol, "dataset": dataset, "way": way, "seed": k, "hits": text(hits)} | axes
            )
    labels = np.arange(IMAGES) % 2
    images = pd.DataFrame({"dataset": dataset, "label": labels, "group": np.arange(IMAGES)})
    return Evidence(pd.DataFrame(rows).assign(error=""), images)


def both(*parts):
    return Evidence(
        pd.concat([p.runs for p in parts], ignore_index=True),
        pd.concat([p.images for p in parts], ignore_index=True).drop_duplicates(ignore_index=True),
    )


def test_four_tables_give_four_verdicts():
    assert judge(claim(), known(0.1)).verdict == HOLDS
    assert judge(claim(), known(-0.1)).verdict == REVERSED
    assert judge(claim(margin=0.03), known(0.0)).verdict == SAME
    assert judge(claim(margin=0.001), known(0.01, noise=0.5)).verdict == OPEN


def test_the_cheaper_of_two_holds_when_it_is_surely_not_worse():
    cheap = claim(expects="no less", margin=0.03)
    assert [judge(cheap, known(gain)).verdict for gain in (0.1, 0.0, -0.1)] == [HOLDS, HOLDS, REVERSED]
    assert judge(claim(expects="no less", margin=0.03), known(-0.03, noise=0.2)).verdict == OPEN


def test_a_difference_surely_smaller_than_the_margin_is_none_though_it_is_surely_not_0():
    tiny = known(0.02, noise=0.0)
    assert judge(claim(margin=0.1), tiny).verdict == SAME
    assert judge(claim(margin=0.001), tiny).verdict == HOLDS


def test_a_claim_that_holds_on_one_data_set_and_is_reversed_on_another_is_mixed():
    sets = ("near", "far")
    own = claim(effect=tried(way="a", dataset=sets) - tried(way="b", dataset=sets))
    found = judge(own, both(known(0.15), known(-0.1, dataset="far")))
    assert found.verdict == MIXED
    assert found.parts["near"].value == pytest.approx(0.15, abs=0.02)
    assert found.parts["far"].value == pytest.approx(-0.1, abs=0.02)
    assert judge(own, both(known(0.15), known(0.1, dataset="far"))).verdict == HOLDS


def test_the_effect_is_compared_image_by_image():
    """Two ways that are right on the same images differ by little even where the images differ by much."""
    found = judge(claim(), known(0.05, noise=0.0)).effect
    assert found.value == pytest.approx(0.05)
    assert found.high - found.low < 0.08  # one way's own interval is about 0.14 wide


def test_images_that_judge_the_runs_of_two_data_sets_count_once():
    """Photographs judge what is left of old knowledge, whatever was trained on: they make nobody surer."""
    once, other = known(0.1), known(0.1, dataset="far")
    images = once.images.assign(dataset="photographs", group=np.arange(IMAGES) // 20)
    table = Evidence(both(once, other).runs, images)
    over = {"dataset": ("near", "far"), "judges": {"near": "photographs", "far": "photographs"}}
    found = judge(claim(effect=tried(way="a", **over) - tried(way="b", **over)), table).mean
    alone = judge(claim(), Evidence(once.runs, images.assign(dataset="near"))).mean
    assert found.variance == pytest.approx(alone.variance)
    assert found.dof < 10 < judge(claim(), once).mean.dof  # ten groups, not 200 images


def test_each_data_set_may_be_judged_by_another_source_whose_rare_class_counts_as_much():
    once, other = known(0.1), known(0.1, dataset="far", seed=1)
    rare = once.images.assign(dataset="elsewhere", label=(np.arange(IMAGES) < 20).astype(int))
    table = Evidence(both(once, other).runs, pd.concat([rare, other.images]))
    found, _ = (tried(way="a", dataset=("near", "far"), judges={"near": "elsewhere"}) * 1).measure(table)

    def mean(runs):
        return np.mean([[int(hit) for hit in row] for row in runs.query("way == 'a'")["hits"]], axis=0)

    hits, others = mean(once.runs), mean(other.runs)
    near, far = (hits[:20].mean() + hits[20:].mean()) / 2, others.mean()
    assert found.value == pytest.approx((near + far) / 2)


def test_weights_of_classes_make_it_the_balanced_accuracy():
    table = known(0.0)
    first = table.images["label"] == 0
    table.images.loc[first.cumsum().le(90) & first, "label"] = 1  # 10 of one class are left, 190 of the other
    row = table.runs.iloc[0]
    hits = np.array(list(row["hits"]), dtype=int)
    labels = table.images["label"].to_numpy()
    expected = np.mean([hits[labels == k].mean() for k in (0, 1)])
    mean, _ = (tried(way="a", seed=0) * 1).measure(table)
    assert mean.value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("strategy", "bars"),
    [("scratch", [("pixels", "pixels"), ("random", "pool")]), ("lp-ft", [(None, "pool")])],
)
def test_a_strategy_below_its_bar_makes_every_claim_about_it_void(strategy, bars):
    """From scratch below the pixels, or finetuned below the probe it starts from: no fair opponent."""
    trained = Measurement("training", defaults={"dataset": "near", "level": "lots", "strategy": strategy})
    backbone = claims.CLAIMS["random-control"].effect.terms[0][1].axes["backbone"]
    own = claim(effect=trained(way="a") - trained(way="b"))
    runs = known(0.2, protocol="training", level="lots", strategy=strategy)

    def beside(gain):
        table = both(runs)
        for name, at in bars:
            bar = known(gain, protocol="linear_probe", level="lots", backbone=name or backbone, at=at)
            table = both(table, Evidence(bar.runs.query("way == 'a'").drop(columns="way"), bar.images))
        return judge(own, table)

    assert beside(0.0).verdict == HOLDS
    found = beside(0.35)
    assert found.verdict == BROKEN
    assert len(found.broken) == len(bars)
    assert all("surely below" in words for words in found.broken)


def test_no_runs_decide_nothing_and_say_so():
    none = judge(claim(effect=tried(way="a", dataset="other") - tried(way="b", dataset="other")), known(0.1))
    assert (none.verdict, none.n) == (OPEN, 0)
    assert "not measured" in str(none)
    one = known(0.1)
    alone = judge(claim(), Evidence(one.runs.query("seed == 0"), one.images))
    assert (alone.verdict, alone.n) == (OPEN, 1)


def test_a_failed_run_takes_its_seed_out_and_is_told():
    broken = known(0.1)
    broken.runs.loc[0, ["hits", "error"]] = [np.nan, "The weights are missing here."]
    found = judge(claim(), broken)
    assert found.n == SEEDS - 1
    assert found.failed == ("The weights are missing here.",)


def test_runs_of_other_axes_and_protocols_do_not_count():
    mixed = both(known(0.1, size="small"), known(-0.3, size="large"), known(-0.3, protocol="x", size="small"))
    own = claim(effect=tried(way="a", size="small") - tried(way="b", size="small"))
    assert judge(own, mixed).effect.value == pytest.approx(0.1, abs=0.02)


def test_values_of_an_axis_are_averaged_and_incomplete_seeds_left_out():
    table = both(known(0.05, size="small"), known(0.15, size="large"))
    sizes = ("small", "large")
    own = claim(effect=tried(way="a", size=sizes) - tried(way="b", size=sizes))
    assert judge(own, table).effect.value == pytest.approx(0.1, abs=0.02)
    assert judge(own, Evidence(table.runs.drop(index=len(table.runs) - 1), table.images)).n == SEEDS - 1


def test_a_data_set_without_some_of_the_runs_is_left_out_of_both_sides():
    sets = ("near", "far")
    own = claim(effect=tried(way="a", dataset=sets) - tried(way="b", dataset=sets))
    far = known(-0.3, dataset="far")
    half = Evidence(far.runs.query("way == 'a'"), far.images)
    assert judge(own, both(known(0.1), half)).effect.value == pytest.approx(0.1, abs=0.02)


def test_differences_of_differences_and_trends():
    table = both(*(known(gain, size=name) for name, gain in (("s", 0.05), ("m", 0.1), ("l", 0.15))))
    gains = {size: tried(way="a", size=size) - tried(way="b", size=size) for size in "sml"}
    assert judge(claim(effect=gains["l"] - gains["s"]), table).effect.value == pytest.approx(0.1, abs=0.02)
    slope = claims.statements.trend(list(gains.values()))
    assert isinstance(slope, Contrast)
    assert judge(claim(effect=slope), table).effect.value == pytest.approx(0.05, abs=0.01)


def test_a_stage_is_picked_by_cross_validation_and_judged_by_its_hits():
    table = known(0.2)  # a would win, had one looked at the hits
    table.runs["cv"] = np.where(table.runs["way"] == "a", 0.8, 0.9)
    own = claim(effect=tried(way=("a", "b"), pick="way") - tried(way="a"))
    assert judge(own, table).effect.value == pytest.approx(-0.2, abs=0.02)


def test_a_tie_of_cross_validation_goes_to_the_first_that_is_named():
    table = known(0.2)
    table.runs["cv"] = 0.8
    for ways, expected in ((("a", "b"), 0.2), (("b", "a"), 0.0)):
        own = claim(effect=tried(way=ways, pick="way") - tried(way="b"))
        assert judge(own, table).effect.value == pytest.approx(expected, abs=0.02)


def test_many_claims_are_adjusted_as_benjamini_and_hochberg_do():
    """Four p-values by hand: 0.01·4/1, 0.02·4/2, 0.03·4/3 and 0.5 become 0.04, 0.04, 0.04, 0.5."""

    class Found:
        def __init__(self, p):
            self.p = p

    assert adjust([Found(p) for p in (0.02, 0.5, 0.01, 0.03)]) == pytest.approx([0.04, 0.5, 0.04, 0.04])
    assert np.isnan(adjust([Found(np.nan), Found(0.01)])[0])


def test_unknown_names_are_told_with_near_ones():
    with pytest.raises(LearnerError, match="gabor-filters"):
        claims.claim("gabor-filter")
    table = known(0.1)
    with pytest.raises(LearnerError, match="way"):
        judge(claim(), Evidence(table.runs.drop(columns="way"), table.images))


def ranked(networks, *, turn=1, noise=0.0):
    """Runs in which probes rank the networks as ImageNet does, or the other way round."""
    rng = np.random.default_rng(0)
    mean = CLAIMS["kornblith-ranks"].effect.mean
    rows = [
        {"protocol": mean.protocol, **mean.axes, "dataset": dataset, "backbone": name, "seed": seed}
        | {"score": turn * NETWORKS[name][1] + noise * rng.normal(), "error": ""}
        for name, dataset, seed in product(networks, claims.NEAR, range(SEEDS))
    ]
    return Evidence(pd.DataFrame(rows), pd.DataFrame({"dataset": [], "label": [], "group": []}))


def test_networks_are_ranked_by_kendalls_tau_on_every_data_set():
    own = CLAIMS["kornblith-ranks"]
    assert judge(own, ranked(NETWORKS, noise=0.5)).verdict == HOLDS
    assert judge(own, ranked(NETWORKS, noise=0.5, turn=-1)).verdict == REVERSED
    unsure = ranked(NETWORKS, noise=5.0)
    found = judge(own, unsure)
    known = [accuracy for _, accuracy in NETWORKS.values()]
    table = unsure.runs.set_index(["dataset", "seed", "backbone"])["score"].unstack()[list(NETWORKS)]
    taus = [stats.kendalltau(known, row).statistic for row in table.to_numpy()]
    assert found.effect.value == pytest.approx(np.mean(taus))
    assert set(found.parts) == set(claims.NEAR)
    assert found.n == SEEDS


def test_fewer_than_eight_networks_are_not_ranked_and_named():
    names = list(NETWORKS)
    found = judge(CLAIMS["kornblith-ranks"], ranked(names[:7]))
    assert (found.verdict, found.mean) == (OPEN, None)
    assert f"{', '.join(names[:7])}, 7 of {len(names)} networks" in found.also
    assert f"Without runs: {', '.join(names[7:])}." in found.also
    assert judge(CLAIMS["kornblith-ranks"], ranked(names[:8])).verdict == HOLDS


def test_the_networks_that_are_ranked_exist_and_have_the_accuracy_that_torchvision_publishes():
    for name in materials.FETCHED:
        if name.startswith("timm/"):
            assert name.removeprefix("timm/") in timm.list_pretrained()
            continue
        base, _, tag = name.partition(".")
        weights = get_model_weights(base)
        own = weights[tag or "DEFAULT"]
        assert own is weights.IMAGENET1K_V1
        assert own.meta["_metrics"]["ImageNet-1K"]["acc@1"] == NETWORKS[name][1]


def test_a_network_with_other_stages_is_read_before_its_head(monkeypatch):
    other = models.load("test_resnet", pretrained=False)
    monkeypatch.setattr(materials, "load_network", lambda *args, **options: other)
    few, _ = materials.draw_sample("scenes", 1, 0)
    rows = materials.read_features(few, backbone="googlenet", at="pool")
    assert rows.shape == (len(few), surgery.head_layers(other)["fc"].in_features)


def test_every_claim_is_complete_and_every_cell_of_the_three_matrices_is_there():
    for own in claims.CLAIMS.values():
        assert own.says.endswith(".")
        assert own.source
        assert own.contrast
        assert own.margin > 0
        assert own.why
        assert {mean.protocol for mean in (own.effect * 1).means()} <= set(claims.PROTOCOLS)
    cells = [
        f"{t}-{n}-{s}"
        for t in ("lecture", "slides", "notes")
        for n in ("little", "lots")
        for s in ("similar", "different")
    ]
    assert set(cells) <= set(claims.CLAIMS)


def test_no_two_claims_are_the_same_contrast():
    found = {str(sorted(map(repr, getattr(own.effect, "terms", [own.effect])))) for own in CLAIMS.values()}
    assert len(found) == len(CLAIMS)


@pytest.mark.parametrize("tier", [claims.QUICK, claims.FULL], ids=lambda tier: tier.name)
def test_every_claim_is_measured_by_runs_of_every_tier(tier):
    planned = claims.select_runs(tier)
    for own in claims.CLAIMS.values():
        for mean in (own.effect * 1).means():
            found = [run for run in planned[mean.protocol] if mean.matches(mean.protocol, run)]
            assert len({run["seed"] for run in found}) >= 3, own.id


def test_every_strategy_had_as_many_trials_on_every_data_set_and_got_its_best():
    table = pd.read_csv(DOCS / "pilot.csv")
    rows = table.to_dict("records")
    assert {(row["dataset"], row["strategy"]) for row in rows} == set(
        product((*claims.NEAR, *claims.FAR), (*claims.STRATEGIES, claims.pilot.PROBE))
    ) | {("elpv-mono", name) for name in (claims.training.WHOLE, claims.pilot.PROBE)}
    trials = [json.loads(row["trials"]) for row in rows]
    counts = {(row["strategy"], len(own)) for row, own in zip(rows, trials, strict=True)}
    each = len(claims.probing.PENALTIES)
    # A probe tries all penalties in both of its trials.
    assert counts == {(name, each) for name in claims.STRATEGIES} | {(claims.pilot.PROBE, 2)}
    for row, own in zip(rows, trials, strict=True):
        best = max(own, key=lambda trial: trial["score"])
        assert row["score"] == pytest.approx(best["score"], rel=1e-5)
        assert row["lr"] == pytest.approx(best["lr"], rel=1e-5)
        for name in ("steps", "augment", "freeze_batchnorm", "network"):
            assert str(row[name]) == str(best[name])


def test_what_differs_from_finetuning_after_a_probe_by_batchnorm_differs_by_it_alone():
    for dataset in (*claims.NEAR, *claims.FAR):
        assert claims.chosen_settings(dataset, "lp-ft", 5).freeze_batchnorm
    on = [
        run
        for run in claims.select_runs(claims.QUICK)["training"]
        if run["strategy"] == claims.training.ABLATION
    ]
    for run in on:
        settings = claims.Settings(**{f.name: run[f.name] for f in fields(claims.Settings)})
        assert replace(settings, freeze_batchnorm=True) == claims.chosen_settings(
            run["dataset"], "lp-ft", run["images"]
        )
    assert len(on) == len(claims.QUICK.trained) * len(claims.QUICK.seeds)


def test_finetuning_everything_is_the_way_that_the_search_scored_higher():
    score = pd.read_csv(DOCS / "pilot.csv").pivot(index="dataset", columns="strategy", values="score")
    score = score.loc[[*claims.NEAR, *claims.FAR]]
    (other,) = {"finetune", "lp-ft"} - {claims.training.WHOLE}
    assert (score[claims.training.WHOLE] > score[other]).all()


def test_the_tiers_share_no_draw_with_each_other_or_with_the_search():
    seeds = {
        tier.name: {run["seed"] for own in claims.select_runs(tier).values() for run in own}
        for tier in (claims.QUICK, claims.FULL)
    }
    search = {claims.pilot.SEED + draw for draw in range(claims.pilot.DRAWS)}
    assert not seeds["quick"] & seeds["full"]
    assert not (seeds["quick"] | seeds["full"]) & search


def test_cells_of_one_crystal_and_of_many_are_the_solar_cells_and_none_of_them_learns_and_judges():
    from tlutils.claims.materials import load_dataset

    whole, mono, poly = (load_dataset(f"elpv-{part}") for part in ("defects", "mono", "poly"))
    sizes = [len(part.train) + len(part.val) for part in (mono, poly)]
    assert sizes == [1074, 1550], "as Buerhop-Lutz et al. 2018 count them"
    for split in ("train", "val"):
        one, many, all_ = (
            dict(zip(own.hashes, own.labels, strict=True))
            for own in (getattr(part, split) for part in (mono, poly, whole))
        )
        assert not set(one) & set(many)
        assert one | many == all_
    assert set(reproduction.list_judges(["elpv-mono"])["dataset"]) == {"elpv-mono", "elpv-poly"}


def test_training_and_probing_of_a_seed_see_the_same_images_and_judges():
    from tlutils.claims.materials import draw_sample

    (few, judges), (more, same) = draw_sample("scenes", 3, 1), draw_sample("scenes", 20, 1)
    assert set(few.split.hashes) <= set(more.split.hashes)
    assert judges.split.hashes == same.split.hashes
    assert not set(judges.split.hashes) & set(more.split.hashes)
    other, _ = draw_sample("scenes", 3, 2)
    assert other.split.hashes != few.split.hashes


def test_a_network_is_as_new_after_a_block_of_it_was_tuned_alone():
    model = reset_network(2, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = torch.randn(2, 3, 96, 96), torch.tensor([0, 1])
    claims.rates.train_parameters(model, {"conv_stem.weight"}, x, y, steps=1, lr=0.01, seed=0)
    assert not torch.equal(model.conv_stem.weight, before["conv_stem.weight"])
    again = reset_network(2, 0)
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert all(torch.equal(value, before[name]) for name, value in again.state_dict().items())


def test_a_few_stages_are_the_last_two_of_nine_and_more_are_five():
    before = surgery.stages(reset_network(2, 0)).body
    assert {"few": before[-2], "more": before[-5]} == claims.FROM_STAGES
    assert (plots.NAMES["few"], len(before)) == ("last two stages finetuned", 9)


def test_views_of_an_image_are_held_out_with_it():
    """Labels drawn by lot cannot be learned, but views of an image that one knows could be recognised."""
    from tlutils.claims.materials import draw_sample

    known, _ = draw_sample("digits", 3, 0)
    by_lot = known.relabelled(np.random.default_rng(0).permutation([0, 1] * (len(known) // 2)).tolist())
    cv = claims.probing.augmented_probe(by_lot, "shift", 0).cv
    assert cv.loc[cv["chosen"], "balanced_accuracy"].item() < 0.75


def test_the_lead_under_corruption_is_told_by_severity_over_seeds():
    rows = [
        {"protocol": "corruption_severity", "dataset": name, "seed": seed, "strategy": strategy}
        | {f"tuned_{k}": level - 0.1 * k + 0.01 * seed for k in range(1, 6)}
        for name in ("hymenoptera", "mnist-5k")
        for seed in (0, 1)
        for strategy, level in (("lp-ft", 0.9), ("finetune", 0.8 if name == "mnist-5k" else 0.7))
    ]
    known = Evidence(pd.DataFrame(rows), pd.DataFrame())
    said = CLAIMS["kumar-lp-ft-ood"].also(known)
    assert "on hymenoptera and mnist-5k: 1: 0.150 [0.150, 0.150]; 2:" in said
    assert said.endswith("5: 0.150 [0.150, 0.150].")
    assert CLAIMS["kumar-lp-ft-ood"].also(Evidence(known.runs[:0], known.images)) == ""


def test_images_get_worse_with_the_severity_of_every_corruption():
    photo = data.load_photograph("cat").resize((96, 96))
    for kind in shifts.CORRUPTIONS:
        changed = [shifts.corrupt(photo, 0, kind=kind, severity=severity) for severity in range(1, 6)]
        far = [np.abs(np.asarray(one, dtype=float) - np.asarray(photo)).mean() for one in changed]
        assert far == sorted(far), kind
        assert far[0] > 0, kind


@pytest.mark.parametrize("images", [16, 17, 33, 49, 100])
def test_settings_train_for_at_least_as_many_steps_as_they_say(images):
    epochs = claims.Settings(lr=1e-3, steps=40).epochs(images)
    assert (epochs - 1) * train.steps_per_epoch(images, claims.BATCH) < 40
    assert epochs * train.steps_per_epoch(images, claims.BATCH) >= 40
