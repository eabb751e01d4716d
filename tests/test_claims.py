"""A verdict follows from the runs: hand-made tables give all three, and an edited number turns it round."""

import numpy as np
import pandas as pd
import pytest

from tlutils import claims
from tlutils.claims import FAILS, HOLDS, OPEN, Claim, Measurement, decide, judge
from tlutils.errors import LearnerError
from tlutils.metrics import Estimate

tried = Measurement("trying", defaults={"size": "small"})
LUCK = (0.50, 0.60, 0.70)


def claim(**changes):
    settings = {
        "id": "a-beats-b",
        "says": "A beats B.",
        "source": "nobody",
        "effect": tried(way="a") - tried(way="b"),
        "contrast": "a minus b",
    }
    return Claim(**settings | changes)


def table(gains, *, size="small", protocol="trying"):
    """Runs of two ways under seeds that share their luck; way a is better by `gains`."""
    rows = [
        {"protocol": protocol, "way": way, "size": size, "seed": seed, "score": luck + gain * (way == "a")}
        for seed, (luck, gain) in enumerate(zip(LUCK, gains, strict=True))
        for way in "ab"
    ]
    return pd.DataFrame(rows).assign(error="")


def test_three_tables_give_the_three_verdicts():
    assert judge(claim(), table([0.05, 0.06, 0.07])).verdict == HOLDS
    assert judge(claim(), table([-0.05, -0.06, -0.07])).verdict == FAILS
    assert judge(claim(), table([-0.10, 0.02, 0.14])).verdict == OPEN


def test_the_effect_is_paired_by_seed_with_students_interval():
    found = judge(claim(), table([0.05, 0.06, 0.07]))
    half = 4.302653 * 0.01 / 3**0.5  # t(0.975, 2) times the standard error of 0.05, 0.06, 0.07
    assert found.effect == pytest.approx((0.06, 0.06 - half, 0.06 + half), abs=1e-6)
    assert found.n == 3


def test_a_sign_flip_turns_holds_into_does_not_hold():
    for expects in ("more", "no less"):
        own = claim(expects=expects)
        gains = np.array([0.05, 0.06, 0.07])
        assert judge(own, table(gains)).verdict == HOLDS
        assert judge(own, table(-gains)).verdict == FAILS


def test_what_is_below_the_margin_is_of_no_relevance():
    tiny = table([0.001, 0.0011, 0.0012])
    assert (
        judge(claim(margin=0.01), tiny).verdict == FAILS
    )  # surely better, and surely by nothing that counts
    assert judge(claim(margin=0.01, expects="no less"), tiny).verdict == HOLDS
    assert judge(claim(margin=0.0005), tiny).verdict == HOLDS


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.02, 0.1, HOLDS),
        (-0.1, 0.005, FAILS),
        (0.005, 0.1, OPEN),
        (-np.inf, np.inf, OPEN),
        (np.nan, np.nan, OPEN),
    ],
)
def test_the_rule(low, high, verdict):
    assert decide(Estimate(0.03, low, high), 0.01) == verdict


def test_one_seed_and_no_runs_decide_nothing():
    one = table([0.05, 0.06, 0.07]).query("seed == 0")
    assert (judge(claim(), one).verdict, judge(claim(), one).n) == (OPEN, 1)
    none = judge(claim(), table([0.05, 0.06, 0.07], size="large"))
    assert (none.verdict, none.n) == (OPEN, 0)
    assert "not measured" in str(none)


def test_a_failed_run_takes_its_seed_out_and_is_told():
    broken = table([0.05, 0.06, 0.07])
    broken.loc[0, ["score", "error"]] = [np.nan, "The weights are missing here."]
    found = judge(claim(), broken)
    assert found.n == 2
    assert found.failed == ("The weights are missing here.",)


def test_runs_of_other_sizes_and_protocols_do_not_count():
    mixed = pd.concat(
        [table([0.05, 0.06, 0.07]), table([-1, -1, -1], size="large"), table([-1, -1, -1], protocol="x")]
    )
    assert judge(claim(), mixed).effect.value == pytest.approx(0.06)


def test_values_of_an_axis_are_averaged_and_incomplete_seeds_left_out():
    both = pd.concat([table([0.05, 0.06, 0.07]), table([0.15, 0.16, 0.17], size="large")], ignore_index=True)
    own = claim(effect=tried(way="a", size=("small", "large")) - tried(way="b", size=("small", "large")))
    assert judge(own, both).effect.value == pytest.approx(0.11)
    assert judge(own, both.drop(index=len(both) - 1)).n == 2
    assert judge(own, table([0.05, 0.06, 0.07])).n == 0  # one half of what it is about was never run


def test_differences_of_differences():
    both = pd.concat([table([0.05, 0.06, 0.07]), table([0.15, 0.16, 0.17], size="large")])
    large = tried(way="a", size="large") - tried(way="b", size="large")
    found = judge(claim(effect=large - (tried(way="a") - tried(way="b"))), both)
    assert found.effect == pytest.approx((0.1, 0.1, 0.1))


def test_a_stage_is_picked_by_cross_validation_and_judged_by_its_score():
    rows = [
        {"protocol": "trying", "size": "small", "way": way, "seed": seed, "cv": cv, "score": score}
        for seed in range(3)
        for way, cv, score in (("a", 0.9, 0.6), ("b", 0.8, 0.95))  # b would win, had one looked at the score
    ]
    own = claim(effect=tried(way=("a", "b"), pick="way") - tried(way="b"))
    assert judge(own, pd.DataFrame(rows).assign(error="")).effect.value == pytest.approx(-0.35)


def test_unknown_names_are_told_with_near_ones():
    with pytest.raises(LearnerError, match="gabor-filters"):
        claims.claim("gabor-filter")
    with pytest.raises(LearnerError, match="way"):
        judge(claim(), table([0.05, 0.06, 0.07]).drop(columns="way"))


def test_every_claim_is_complete_and_every_cell_of_the_three_matrices_is_there():
    assert len(claims.CLAIMS) >= 25
    for own in claims.CLAIMS.values():
        assert own.says.endswith(".")
        assert own.source
        assert own.contrast
        assert own.margin > 0
        assert {mean.protocol for mean in own.effect.means()} <= set(claims.PROTOCOLS)
    cells = [
        f"{t}-{n}-{s}"
        for t in ("lecture", "slides", "notes")
        for n in ("little", "lots")
        for s in ("similar", "different")
    ]
    assert set(cells) <= set(claims.CLAIMS)


@pytest.mark.parametrize("tier", [claims.QUICK, claims.FULL], ids=lambda tier: tier.name)
def test_every_claim_is_measured_by_runs_of_every_tier(tier):
    for own in claims.CLAIMS.values():
        for mean in own.effect.means():
            runs = claims.runs(tier)[mean.protocol]
            found = [run for run in runs if mean.matches(mean.protocol, run)]
            assert len({run["seed"] for run in found}) >= 3, own.id


def test_training_and_probing_of_a_seed_see_the_same_images():
    pytest.importorskip("elpv_dataset")
    from tlutils.claims.materials import draw_sample

    one, two = draw_sample("scenes", 3, 1), draw_sample("scenes", 20, 1)
    assert set(one.train.hashes) <= set(two.train.hashes)
    assert one.val.hashes == two.val.hashes
    assert not set(one.val.hashes) & set(two.train.hashes)
    assert draw_sample("scenes", 3, 2).train.hashes != one.train.hashes


def test_an_effect_over_several_data_sets_is_told_for_each():
    near, far = (
        table(gains).assign(dataset=name) for name, gains in (("near", [0.01] * 3), ("far", [0.2] * 3))
    )
    both = ("near", "far")
    own = claim(effect=tried(way="a", dataset=both) - tried(way="b", dataset=both))
    parts = judge(own, pd.concat([near, far])).parts
    assert {name: part.value for name, part in parts.items()} == pytest.approx({"near": 0.01, "far": 0.2})
