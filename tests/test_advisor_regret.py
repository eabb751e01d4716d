"""The regret of rules about freezing: by hand on small tables, and what the tasks are made of."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tlutils import claims, experiments

spec = importlib.util.spec_from_file_location(
    "advisor_regret", Path(__file__).parent.parent / "benchmarks" / "advisor_regret.py"
)
regret = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = regret  # dataclasses look there
spec.loader.exec_module(regret)

ROWS = [  # data set, task, seed, images, distance, score by probe, by all, score in cross-validation by each
    ("bees", "few", 0, 50, 0.1, 80, 70, 70, 60),
    ("bees", "few", 1, 50, 0.1, 84, 70, 60, 70),
    ("bees", "many", 0, 400, 0.1, 80, 90, 70, 80),
    ("cells", "few", 0, 60, 0.3, 60, 50, 70, 80),
    ("cells", "many", 0, 300, 0.3, 60, 72, 70, 80),
    ("digits", "many", 0, 300, 0.3, 50, 90, 70, 80),
]


def table(rows=ROWS):
    columns = [*regret.INDEX, "images", "distance", "probe", "finetune", "cv probe", "cv finetune"]
    whole = pd.DataFrame(rows, columns=columns).set_index(regret.INDEX)
    scores = whole[["probe", "finetune"]].astype(float)
    return regret.Table(scores, whole.drop(columns=["probe", "finetune"]), scores)


def found(rule, rows=ROWS):
    own = table(rows)
    regrets = regret.best_scores(own.scores) - regret.taken_scores(rule, own)
    return {" ".join(key): value for key, value in regrets.items()}


def test_regret_is_what_the_best_policy_of_a_task_had_more_over_its_seeds():
    assert found(regret.always("finetune")) == {
        "bees few": 12,
        "bees many": 0,
        "cells few": 10,
        "cells many": 0,
        "digits many": 0,
    }
    # At random: half of each difference.
    assert list(found(regret.at_random).values()) == [6, 5, 5, 6, 20]


def test_the_default_is_what_is_best_on_the_other_data_sets():
    # Without digits, probing is ahead for bees and for cells together: 364 to 352.
    assert found(regret.best_default)["digits many"] == 40
    # For bees, cells and digits decide: finetuning, by 212 to 170.
    assert found(regret.best_default)["bees few"] == 12


def test_a_rule_never_sees_the_scores_of_its_own_data_set():
    changed = [(*row[:5], 100 - row[5], 100 - row[6], *row[7:]) if row[0] == "cells" else row for row in ROWS]
    for rule in (
        regret.best_default,
        regret.by_table([regret.table_of("probe", "finetune", "finetune", "probe")]),
    ):
        chosen = [
            rule(own.rows(own.scores.index.get_level_values("dataset") != "cells"))(own.known.iloc[3])
            for own in (table(), table(changed))
        ]
        assert chosen[0] == chosen[1]


def test_a_table_gets_the_limits_that_suit_it_best_elsewhere():
    by_count = regret.table_of("probe", "probe", "finetune", "finetune")
    assert set(found(regret.by_table([by_count])).values()) == {0}
    # The wrong way round, it calls everything few, or everything many: whichever is better elsewhere.
    wrong = regret.table_of("finetune", "finetune", "probe", "probe")
    assert found(regret.by_table([wrong]))["digits many"] in (0, 40)
    # Of several tables, the one that is best elsewhere.
    assert set(found(regret.by_table([wrong, by_count])).values()) == {0}


def test_a_table_tells_near_from_far():
    rows = [("a", "t", 0, 100, 0.1, 80, 70, 0, 0), ("b", "t", 0, 100, 0.3, 60, 90, 0, 0)]
    rows += [("c", "t", 0, 100, 0.1, 80, 70, 0, 0), ("d", "t", 0, 100, 0.3, 60, 90, 0, 0)]
    by_distance = regret.table_of("probe", "finetune", "probe", "finetune")
    assert set(found(regret.by_table([by_distance]), rows).values()) == {0}


def test_cross_validation_chooses_seed_by_seed():
    # Bees, few: probing for seed 0, finetuning for seed 1: 75 on average, of 82.
    rule = regret.best_cross_validated(["probe", "finetune"])
    assert found(rule)["bees few"] == 7
    missing = [(*ROWS[0][:7], np.nan, 60), *ROWS[1:]]
    assert regret.judge_rules(table(missing), {"cv": rule, "finetune": regret.always("finetune")})[
        "rule"
    ].tolist() == ["finetune"]


def test_rules_are_judged_over_tasks_and_against_the_default():
    rules = {"default": regret.best_default, "finetune": regret.always("finetune")}
    rows = regret.judge_rules(table(), rules).set_index("rule")
    one = rows.loc["finetune"]
    assert (one["mean"], one["worst"], one["within 1 point"]) == (pytest.approx(22 / 5), 12, 0.6)
    assert one["interval"][0] < one["mean"] < one["interval"][1]
    # Against itself a rule has neither gain nor doubt.
    assert rows.loc["default", "minus default"] == 0
    assert rows.loc["default", "its interval"] == (0, 0)
    assert one["minus default"] == pytest.approx(one["mean"] - rows.loc["default", "mean"])


def test_a_policy_that_is_best_by_luck_is_seen_by_other_seeds():
    scores = table(
        [("a", "t", seed, 100, 0.1, *own, 0, 0) for seed, own in enumerate([(9, 1), (1, 5), (1, 5)])]
    )
    # Both have 11 in all. Seeds 1 and 2 say "finetune" by 10 to 2, of which seed 0 has 1; seed 0 and either
    # of these say "probe" by 10 to 6, of which the other has 1.
    assert regret.best_scores(scores.scores).tolist() == [11 / 3]
    assert regret.best_by_other_seeds(scores.scores).tolist() == [(1 + 1 + 1) / 3]
    assert regret.best_by_other_seeds(scores.scores.iloc[:1]).isna().all()


def test_the_interval_is_near_to_that_of_students():
    values = np.random.default_rng(0).normal(3, 2, 40)
    low, high = regret.mean_interval(values)
    half = 1.96 * values.std() / 40**0.5
    assert (low, high) == (
        pytest.approx(values.mean() - half, abs=0.1),
        pytest.approx(values.mean() + half, abs=0.1),
    )


def test_a_task_counts_when_every_policy_was_judged_and_folds_when_all_are_there():
    task = {"dataset": "digits", "per_class": 6, "wrong": 0.0, "ratio": 1.0, "corruption": ""}
    told = [{"protocol": "describe", "seed": s, "images": 60, "distance": 0.2} for s in (0, 1)]
    races = [
        {
            "protocol": "race",
            "seed": seed,
            "policy": policy,
            "judge": judge,
            "score": 0.01 * number,
            "cpu": 1.0,
            "hits": "01",
            "truth": "0 1",
            "groups": "7 9",
        }
        for seed in (0, 1)
        for number, policy in enumerate(regret.POLICIES)
        for judge in ("pool", "0", "1", "2")
        if (seed, policy, judge) not in [(1, "finetune", "pool"), (0, "probe", "2")]
    ]
    rows = pd.DataFrame([{**task, "error": "", **row} for row in told + races])
    rows.loc[len(rows)] = {
        **rows.iloc[-1],
        "seed": 1,
        "policy": "finetune",
        "judge": "pool",
        "error": "a kill",
    }
    own = regret.read_table(rows)
    assert own.scores.index.tolist() == [("digits", "digits, 6 per class", 0)]
    assert own.scores.iloc[0].tolist() == pytest.approx(list(range(len(regret.POLICIES))))
    cv = own.known.iloc[0]
    assert cv["images"] == 60
    assert cv["cv scratch"] == pytest.approx(0.01 * (len(regret.POLICIES) - 1))
    assert np.isnan(cv["cv probe"])
    assert regret.advised(cv) is None  # a fold is missing


def named(name, function):
    function.__name__ = name
    return function


def run_here(grids, *, n_jobs, **options):
    """`run_grid` in this process, where a test sees what ran."""
    return experiments.run_grid(grids, **options)


def told_by_folds(scores):
    """What folds say where each policy is right on so many of 20 images, each on other ones, in each fold."""
    labels, groups = np.arange(20) % 2, np.arange(20)
    folds = {
        policy: {
            str(k): (np.roll(groups < right, 3 * shift).astype(float), labels, groups + 20 * k)
            for k in range(regret.COARSE_FOLDS)
        }
        for shift, (policy, right) in enumerate(scores.items())
    }
    return pd.Series({"folds": folds, "images": 60, "gain": 0.0, "gain_low": -0.01, "gain_high": 0.01})


def test_the_advisor_in_the_table_decides_as_the_advisor_does():
    right = dict.fromkeys(regret.POLICIES, 12) | {"probe, best depth": 18, "lp-ft": 19, "finetune": 18}
    decision = regret.advised(told_by_folds(right))
    assert (decision.policy, decision.best, decision.tied) == (
        "probe, best depth",
        "lp-ft",
        ["probe, best depth", "lp-ft", "finetune"],
    )
    # Two of five see every fold: who was behind on the first is not needed on the others.
    known = told_by_folds(right)
    for dropped in ("scratch", "first stages"):
        del known["folds"][dropped]["1"], known["folds"][dropped]["2"]
    assert regret.advised(known).policy == "probe, best depth"
    assert set(decision.behind) == {*regret.PROBES, "lp-ft", "finetune"}
    del known["folds"]["lp-ft"]["2"]
    assert regret.advised(known) is None


def test_an_advice_is_judged_by_coverage_ties_and_what_it_cost():
    right = dict.fromkeys(regret.POLICIES, 12) | {"probe, best depth": 18, "lp-ft": 19, "finetune": 18}
    index = pd.MultiIndex.from_tuples([("a", "few", 0), ("b", "few", 0)], names=regret.INDEX)
    scores = pd.DataFrame(90.0, index=index, columns=list(regret.POLICIES))
    scores.loc[("b", "few", 0)] = 30.0  # what the folds of b promise is not so
    known = pd.DataFrame([told_by_folds(right)] * 2, index=index)
    costs = pd.DataFrame(1.0, index=index, columns=list(regret.POLICIES))
    found = regret.judge_advice(regret.Table(scores, known, costs))
    assert found["covered"] == found["covered, right labels"] == 0.5
    assert found["ties"] == 1
    # Of 27 runs of a policy on a fold: 12 frozen, and 5 + 3 + 2 that train.
    assert found["share of the cost"] == pytest.approx(22 / 27)


# --- Tasks -----------------------------------------------------------------------------------------------


def test_there_are_enough_tasks_of_every_data_set_and_the_first_are_of_different_ones():
    assert len(set(regret.TASKS)) == len(regret.TASKS) >= 12
    assert len(regret.SEEDS) >= 3
    assert all(60 <= sum(task.counts) <= 600 for task in regret.TASKS)
    assert len({task.dataset for task in regret.TASKS[:7]}) == 7


def test_a_task_is_run_as_the_advisor_races_it(tmp_path, monkeypatch):
    ran = []

    def race(*, policy, judge, **axes):
        ran.append((policy, judge))
        rank = list(regret.POLICIES).index(policy)  # the later, the better
        hits = [int(i < 4 + rank) for i in range(20)]
        told = {"hits": "".join(map(str, hits)), "score": 0.2 + 0.05 * rank, "cpu": 1.0}
        return told | {"truth": " ".join("01" * 10), "groups": " ".join(map(str, range(20)))}

    monkeypatch.setattr(regret, "race", race)
    monkeypatch.setattr(regret, "describe", named("describe", lambda **axes: {"images": 60, "distance": 0.2}))
    monkeypatch.setattr(regret, "run_grid", run_here)
    regret.run_task(regret.Task("digits", 6), 0, tmp_path)
    assert len(ran) == len(set(ran))
    on = {judge: {policy for policy, by in ran if by == judge} for judge in ("pool", "0", "1", "2")}
    probes, training = set(regret.PROBES), list(regret.POLICIES)[len(regret.PROBES) :]
    assert on["pool"] == on["0"] == set(regret.POLICIES)
    assert on["1"] == probes | set(training[-3:])
    assert on["2"] == probes | set(training[-2:])


def test_wrong_labels_and_rare_classes_are_as_many_as_the_task_says():
    clean, _ = regret.draw(regret.Task("digits", 20), 0)
    noisy, _ = regret.draw(regret.Task("digits", 20, wrong=0.3), 0)
    assert noisy.split.hashes == clean.split.hashes
    assert np.mean(np.array(noisy.labels) != np.array(clean.labels)) == pytest.approx(0.3)
    counts = [
        sorted(np.bincount(regret.draw(regret.Task("digits", 40, ratio=10), seed)[0].labels))
        for seed in (0, 1)
    ]
    assert counts[0] == counts[1] == sorted(regret.Task("digits", 40, ratio=10).counts)
    assert counts[0][0] * 10 == counts[0][-1] == 40


def test_the_pool_is_large_and_shares_no_picture_with_what_is_learned(monkeypatch):
    pool = regret.load_sides("digits")[1]
    monkeypatch.setattr(regret, "POOL", len(pool) + 30)
    regret.load_sides.cache_clear()
    known, more = regret.load_sides("digits")
    assert len(more) >= len(pool) + 30
    assert not set(known.groups) & set(more.groups)
    assert not set(known.hashes) & set(more.hashes)
    regret.load_sides.cache_clear()


def test_a_corrupted_image_is_always_the_same_wherever_it_stands():
    known, pool = regret.draw(regret.Task("digits", 6, corruption="noise"), 0)
    clean, _ = regret.draw(regret.Task("digits", 6), 0)
    image = np.asarray(known[3][0])
    assert (np.asarray(known.select([5, 3])[1][0]) == image).all()
    assert (np.asarray(clean[3][0]) != image).any()
    assert known.fingerprint != clean.fingerprint
    assert pool.kind == "noise"


def test_folds_judge_each_image_once():
    known, _ = regret.draw(regret.Task("digits", 6), 0)
    halves = [regret.halves(known, fold, 0) for fold in range(regret.COARSE_FOLDS)]
    assert sorted(np.concatenate([held for _, held in halves])) == list(range(len(known)))
    assert all(not set(learn) & set(held) for learn, held in halves)


def test_settings_come_from_other_data_sets(monkeypatch):
    before = regret.settings_elsewhere("finetune", "mnist-5k", 200)
    chosen = claims.chosen_settings

    def poisoned(dataset, strategy, images):
        return replace(chosen(dataset, strategy, images), **({"lr": 9.0} if dataset == "mnist-5k" else {}))

    monkeypatch.setattr(claims, "chosen_settings", poisoned)
    assert regret.settings_elsewhere("finetune", "mnist-5k", 200) == before
    assert regret.settings_elsewhere("finetune", "cifar-10", 200)["lr"] > 0.001
    assert regret.settings_elsewhere("finetune", "mnist-5k", 800)["steps"] == 2 * before["steps"]


def test_a_policy_that_trains_a_part_leaves_the_whole_network_to_the_next():
    model = regret.reset_network(2, 0)
    for parameter in list(model.parameters())[5:]:
        parameter.requires_grad_(False)
    assert all(parameter.requires_grad for parameter in regret.reset_network(2, 0).parameters())


def test_rows_that_are_kept_are_not_made_again_on_another_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(regret, "KEPT", tmp_path / "kept.parquet")
    made = []

    def race(*, seed, augment):
        made.append(seed)
        return {"hits": "101", "score": np.float64(2 / 3), "images": seed + 3}

    runs = experiments.grid(seed=[0, 1], augment=[False, "shift"])
    first = experiments.run_grid({race: runs}, out=tmp_path / "here", versions=regret.VERSIONS)
    regret.keep(tmp_path / "here")
    monkeypatch.setattr(experiments, "LIBRARIES", ("torch",))  # as if the others were of other versions
    regret.lay(tmp_path / "there")
    again = experiments.run_grid({race: runs}, out=tmp_path / "there", versions=regret.VERSIONS)
    assert len(made) == 4
    pd.testing.assert_frame_equal(first.drop(columns="key"), again.drop(columns="key"))
    regret.keep(tmp_path / "nothing")
    assert len(regret.kept_rows()) == 4, "a folder without rows takes none away"


def test_the_page_says_what_the_kept_rows_say(tmp_path, monkeypatch):
    monkeypatch.setattr(regret, "PAGE", tmp_path / "advice.md")
    monkeypatch.setattr(sys, "argv", ["advisor_regret.py", "report"])
    regret.main()
    kept = Path(__file__).parent.parent / "docs" / "advice.md"
    assert (tmp_path / "advice.md").read_text("utf-8") == kept.read_text("utf-8")
