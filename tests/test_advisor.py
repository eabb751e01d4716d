"""How much to freeze: what is decided from hits is checked by hand, the rest by what it does on images."""

import re
import time
import weakref
import zlib
from dataclasses import replace
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import nn

from tlutils import advisor, claims, cli, data, features, models, probe, surgery, train
from tlutils.advisor import backbones, code, images, measuring, policies
from tlutils.advisor import race as race_module
from tlutils.advisor.race import Race, survivors
from tlutils.errors import LearnerError
from tlutils.intervals import Difference, wilson_interval

READ = [*(f"stage{i}" for i in range(1, 5)), "pool"]
"""The stages of the tiny network that an advice reads."""

FLAT = pd.DataFrame({"gain": [0.0], "gain_low": [0.0], "gain_high": [0.0]})
"""A learning curve that more images would not move."""

N = 40
LABELS = np.arange(N) % 2
ALONE = np.arange(N)


@pytest.fixture(scope="module", autouse=True)
def fewer_settings():
    """Each probe chooses among fewer settings than a user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policies, "COARSE_PENALTIES", (3.0, 0.03))
        patch.setattr(code, "COARSE_PENALTIES", (3.0, 0.03))
        patch.setattr(policies, "SHARES", (0.1, 1.0))
        patch.setitem(probe.cross_val_predict.__kwdefaults__, "penalties", (3.0, 0.03))
        yield


@pytest.fixture
def cheap_probes(monkeypatch):
    """The probes that read all depths, and take the most time, answer as the one that reads the last."""
    for name in ("probe, best depth", "probe, all depths"):
        monkeypatch.setitem(policies.PROBES, name, policies.PROBES["probe"])


def hits(right):
    return (np.arange(N) < right).astype(float)


def test_the_probe_at_the_best_depth_is_recommended_where_it_ties_with_the_best():
    right = {"finetune": 37, "knn": 36, "probe, best depth": 35, "scratch": 20}
    decision = advisor.decide({name: hits(n) for name, n in right.items()}, LABELS, ALONE)
    assert (decision.policy, decision.best) == ("probe, best depth", "finetune")
    assert decision.tied == ["knn", "probe, best depth", "finetune"]
    assert decision.runner_up == "finetune"
    assert decision.behind["scratch"].value == pytest.approx(-17 / 40)
    assert decision.measured.value == 35 / 40


def test_what_is_surely_better_is_recommended_and_without_the_default_the_best():
    decision = advisor.decide({"finetune": hits(38), "probe, best depth": hits(24)}, LABELS, ALONE)
    assert (decision.policy, decision.tied) == ("finetune", ["finetune"])
    assert decision.runner_up == "probe, best depth"
    assert advisor.decide({"finetune": hits(37), "probe": hits(36)}, LABELS, ALONE).policy == "finetune"


def test_images_of_one_group_count_once_so_that_what_was_sure_becomes_a_tie():
    own = {"finetune": hits(38), "probe, best depth": hits(24)}
    # All that tells the two apart are 14 images: of one patient, they are one observation.
    one_patient = np.where((own["finetune"] != own["probe, best depth"]), -1, ALONE)
    assert advisor.decide(own, LABELS, one_patient).policy == "probe, best depth"


def test_images_that_nobody_was_judged_by_do_not_count():
    own = {"finetune": hits(37), "probe": hits(36)}
    known = advisor.decide(own, LABELS, ALONE).measured
    more = {name: np.append(values, np.nan) for name, values in own.items()}
    assert advisor.decide(more, np.append(LABELS, 0), np.arange(N + 1)).measured == known


def test_the_expected_accuracy_is_wide_for_few_images_and_never_certain():
    # At 50 images and 80 % the half-width is about 11 points (95 %), at 500 3.5.
    for n, half in ((50, 0.11), (500, 0.035)):
        labels = np.arange(n) % 2
        low, high = wilson_interval(np.arange(n) % 10 < 8, labels)[1:]
        assert (high - low) / 2 == pytest.approx(half, rel=0.1)
    perfect = advisor.decide({"probe": np.ones(N)}, LABELS, ALONE).measured
    assert perfect.value == perfect.high == 1
    assert perfect.low < 0.96


def test_what_is_expected_of_all_images_is_what_the_folds_say_and_a_part_of_the_last_doubling():
    curve = pd.DataFrame({"gain": [np.nan, 0.1], "gain_low": [np.nan, 0.04], "gain_high": [np.nan, 0.16]})
    default = advisor.decide({"probe, best depth": hits(30)}, LABELS, ALONE)
    expected = race_module.expect(default, curve)
    part = np.log2(3 / 2)  # each fold learned from two thirds
    assert expected.value == pytest.approx(0.75 + 0.1 * part)
    below, above = default.measured.value - default.measured.low, default.measured.high - 0.75
    assert expected.value - expected.low == pytest.approx(np.hypot(below, 0.06 * part))
    assert expected.high - expected.value == pytest.approx(np.hypot(above, 0.06 * part))
    # One that won is best by luck as well.
    winner = advisor.decide({"finetune": hits(38), "probe, best depth": hits(24)}, LABELS, ALONE)
    assert race_module.expect(winner, curve) == winner.measured
    certain = advisor.decide({"probe, best depth": hits(40)}, LABELS, ALONE)
    assert race_module.expect(certain, curve).high == race_module.expect(certain, curve).value == 1


def test_intervals_of_one_classifier_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(600):
        groups = np.repeat(np.arange(60), 2)  # pairs of frames of one scene, right or wrong together
        labels = groups % 3
        right = rng.random(60) < np.array([0.95, 0.8, 0.6])[np.arange(60) % 3]
        interval = wilson_interval(right[groups], labels, groups=groups, level=0.9)
        covered.append(interval.low <= (0.95 + 0.8 + 0.6) / 3 <= interval.high)
    assert 0.86 < np.mean(covered) < 0.95


def test_the_better_half_survives_rounded_up():
    assert survivors({"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.6, "e": 0.2}) == ["b", "d", "c"]
    assert survivors({"a": 0.1}) == ["a"]


@pytest.fixture(scope="module")
def few():
    """Some digits of three classes."""
    digits = data.load("digits")

    def first(split, count):
        own = split.select([i for i, label in enumerate(split.labels) if label < 3])
        return replace(own, classes=split.classes[:3]).subsample(count)

    splits = {"train": 10, "val": 2, "test": 12}
    chosen = {name: first(getattr(digits, name), count) for name, count in splits.items()}
    return replace(digits, classes=digits.classes[:3], **chosen)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small network with random weights, in a file."""
    model = models.load("test_resnet", pretrained=False, input_size=32)
    return str(models.save(model, tmp_path_factory.mktemp("net") / "tiny"))


@pytest.fixture(scope="module")
def said():
    """The lines that are said on the way to the advice."""
    return []


@pytest.fixture(scope="module")
def advice(few, tiny, said):
    """What is advised when each network trains for a few steps."""

    def settings_for(*arguments):
        return replace(policies.settings_for(*arguments), steps=4)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(race_module, "settings_for", settings_for)
        return advisor.advise(few, budget=5, backbone=tiny, say=said.append)


def test_every_policy_runs_and_is_judged_on_images_that_it_did_not_learn_from(advice, few):
    assert advice.images == 36
    ran = advice.table[advice.table["folds"] == 3]
    assert set(policies.PROBES) <= set(ran.index)
    assert len(ran) >= 4 + 2  # of five that train, two see all folds
    assert (advice.table["folds"] > 0).all()
    dropped = advice.table[advice.table["folds"].between(1, 2)]
    assert dropped["left_out"].str.contains("behind others").all()
    for name, chances in advice.probabilities.items():
        judged = ~np.isnan(chances).any(axis=1)
        np.testing.assert_allclose(chances[judged].sum(1), 1, atol=1e-5, err_msg=name)
        assert judged.mean() == pytest.approx(
            ran["folds"].get(name, advice.table["folds"][name]) / 3, abs=0.05
        )
    assert few.test.images_read == 0


def test_the_advice_says_what_an_engineer_asks(advice):
    text = str(advice)
    for words in ("Expected balanced accuracy", "Runner-up", "the linear probe gained", "CS231n"):
        assert words in text
    assert advice.policy in advice.decision.tied
    assert advice.expected.low < advice.expected.value < advice.expected.high
    assert list(advice.curve["images"]) == sorted(advice.curve["images"])
    scored = ["score", "low", "high"]
    assert advice.curve.iloc[-1][scored].tolist() == advice.table.loc["probe", scored].tolist()


def test_a_table_that_asks_for_other_images_is_not_contradicted_by_a_policy(advice):
    few_and_different = replace(advice, images=100, distance=0.9)
    (line,) = [line for line in few_and_different.published if "or more data" in line]
    assert line.endswith("none of the policies here is that.")


def test_a_table_is_read_at_one_number_of_images_and_by_one_policy_and_the_advice_says_which(advice):
    few, many = (replace(advice, images=n, distance=0.0).published for n in (claims.MANY - 1, claims.MANY))
    assert all("(few, below 200, and similar images)" in line for line in few)
    assert all("(many, 200 or more, and similar images)" in line for line in many)
    assert 'finetune a few layers; read as "last stage", which' in " ".join(many)
    assert policies.POLICIES["last stage"].endswith("then the last stage and the head are finetuned")


def test_the_frozen_policies_answer_first_and_the_time_of_the_others_is_predicted(advice, said):
    assert "stay closed" in said[0]
    assert "from the frozen policies alone" in said[1]
    predicted = [line.partition(":")[0] for line in said[2:]]
    assert predicted == [name for name in policies.POLICIES if name not in policies.PROBES]
    assert (advice.table.loc[predicted, "predicted"] > 0).all()


def test_the_linear_probe_knows_classes_that_its_features_separate():
    labels = np.repeat(np.arange(3), 12)
    x = np.eye(3)[labels] + 0.01 * np.random.default_rng(0).normal(size=(36, 3))
    classify = policies.PROBES["probe"]({"pool": x}, labels, np.arange(36), 0)
    assert (classify({"pool": np.eye(3)}).argmax(1) == [0, 1, 2]).all()


def test_the_probe_of_all_depths_finds_the_feature_that_matters_wherever_it_is():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    early = rng.normal(size=(120, 60))
    early[:, 7] += 4 * labels
    features = {"stage1": early, "pool": rng.normal(size=(120, 60))}
    new = {name: x[:0:-1] for name, x in features.items()}
    for name, least, most in (
        ("probe, all depths", 0.95, 1),
        ("probe, best depth", 0.95, 1),
        ("probe", 0, 0.95),
    ):
        classify = policies.PROBES[name](features, labels, np.arange(120), 0)
        fresh = {k: v.copy() for k, v in new.items()}
        fresh["pool"] = rng.normal(size=fresh["pool"].shape)
        assert least <= (classify(fresh).argmax(1) == labels[:0:-1]).mean() <= most, name


@pytest.mark.parametrize(
    ("policy", "moved"),
    [
        ("last stage", {"stage4", "head"}),
        ("first stages", {"stem", "stage1", "stage2", "head"}),
        ("lp-ft", {"stem", "stage1", "stage2", "stage3", "stage4", "head"}),
        ("finetune", {"stem", "stage1", "stage2", "stage3", "stage4", "head"}),
    ],
)
def test_a_policy_trains_the_stages_that_it_says(few, policy, moved):
    model = models.load("test_resnet", pretrained=False, num_classes=3, input_size=32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = [stage.name for stage in surgery.stages(model)]
    assert names == ["stem", "stage1", "stage2", "stage3", "stage4", "pool", "head"]
    settings = replace(policies.settings_for(policy, 80), steps=4)
    policies.train_policy(policy, model, few.train, settings, solved=None, seed=0)
    change = train.weight_change(model, before)
    assert {stage for stage, value in change.items() if value > 0} == moved


def test_settings_are_those_that_the_search_chose_and_leave_out_the_data_set_that_is_judged():
    rates = [claims.chosen_settings(name, "lp-ft", n).lr for name, n in claims.SEARCH_IMAGES.items()]
    found = policies.settings_for("lp-ft", 200)
    assert found.lr == pytest.approx(np.exp(np.mean(np.log(rates))), rel=0.05)
    assert policies.settings_for("lp-ft", 800).steps == 2 * found.steps
    others = [
        claims.chosen_settings(n, "finetune", k).lr
        for n, k in claims.SEARCH_IMAGES.items()
        if n != "cifar-10"
    ]
    left = policies.settings_for("finetune", 200, without="cifar-10").lr
    assert left == pytest.approx(np.exp(np.mean(np.log(others))), rel=0.05)


def test_images_that_belong_together_never_lie_on_two_sides(few):
    known = few.train
    patient = {path: i // 4 for i, path in enumerate(known.paths)}
    together = np.array(known.grouped(lambda path: patient[path]).groups)
    race = start_race(known, np.zeros((len(known), 2)), together)
    assert len(np.unique(race.groups)) < len(known)
    for group in np.unique(race.groups):
        assert len(np.unique(race.fold[race.groups == group])) == 1
    # Copies of one picture stay together, too, and pull their patients along.
    copied = replace(known, groups=[known.groups[4], *known.groups[1:]])
    joined = copied.grouped(lambda path: patient[path]).groups
    assert joined[0] == joined[4] == joined[7] != joined[8]


def start_race(known, x, groups):
    return Race(
        images=known,
        features={"pool": x},
        groups=groups,
        load=lambda policy: None,
        pass_seconds=0,
        deadline=0,
    )


def test_the_time_of_a_policy_is_predicted_by_the_steps_that_training_takes(monkeypatch):
    labels = [0] * 16 + [1] * 16  # tried on 17 images, of which the last joins the step before
    known = SimpleNamespace(labels=labels, classes=["a", "b"])
    race = start_race(known, np.zeros((32, 2)), np.arange(32))
    tried = SimpleNamespace(table={"seconds": np.array([2.0, 2.0])})
    monkeypatch.setattr(race, "_train", lambda policy, learn, steps: (None, tried))
    monkeypatch.setattr(race_module.time, "monotonic", lambda: 4.0)
    steps = policies.settings_for("finetune", 21).steps
    assert race._predict_seconds("finetune") == 3 * (steps * 2 - 4)


def test_a_class_whose_groups_fall_together_is_named(few):
    known = few.train
    patient = np.arange(len(known)) % 6
    fold = start_race(known, np.zeros((len(known), 2)), patient).fold
    pair = [p for p in range(6) if fold[patient == p][0] == fold[patient == 0][0]]
    assert len(pair) == 2
    third = np.flatnonzero(np.array(known.labels) == 2)
    patient[third] = np.resize(pair, len(third))  # the third class is seen in these two alone
    with pytest.raises(LearnerError, match="All images of '2' are one group"):
        start_race(known, np.zeros((len(known), 2)), patient)


def write(folder, name, count, paint, size=(48, 48)):
    (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for i in range(count):
        pixels = paint(rng, rng.integers(0, 255, (*size[::-1], 3)))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{name}{i:03}.png")
    return folder


def test_the_audit_says_what_tells_classes_apart_without_the_thing_itself(tmp_path):
    def framed(value):
        def paint(rng, pixels):
            pixels[:8] = pixels[-8:] = value + rng.integers(0, 30)
            return pixels

        return paint

    write(tmp_path, "cat", 20, framed(30))
    write(tmp_path, "dog", 20, framed(180))
    found = images.audit_images(data.load(tmp_path).train, [])
    (border,) = [f for f in found if f.code == "shortcut" and "border" in f.message]
    assert "one background per class?" in border.message
    fair = write(write(tmp_path / "fair", "cat", 20, lambda r, p: p), "dog", 20, lambda r, p: p)
    assert not [f for f in images.audit_images(data.load(fair).train, []) if f.code == "shortcut"]


def test_the_audit_counts_and_names_dark_and_few_images(tmp_path):
    write(tmp_path, "many", 45, lambda r, p: p)
    write(tmp_path, "rare", 6, lambda r, p: p // 40 if r.random() < 0.5 else p)
    known = data.load(tmp_path).train
    found = {f.code: f for f in images.audit_images(known, [])}
    assert "'rare' has" in found["few images"].message
    assert "'many' has" in found["imbalance"].message
    assert {path.parent.name for path in found["dark"].paths} == {"rare"}


def test_labels_that_a_blind_probe_contradicts_are_listed(few):
    known = few.train
    chances = np.full((len(known), 3), 0.02)
    chances[np.arange(len(known)), known.labels] = 0.96
    assert images.suspect_labels(known, chances) == []
    chances[3] = np.roll(chances[3], 1)
    (found,) = images.suspect_labels(known, chances)
    assert found.paths == [known.paths[3]]


def test_labels_are_doubted_by_the_probe_that_was_measured(few):
    known, rng = few.train, np.random.default_rng(0)
    together = np.arange(len(known)) // 2
    x = rng.normal(size=(len(known), 5)) + 2 * np.eye(5)[known.labels]
    race = start_race(known, x, together)
    for fold in range(probe.COARSE_FOLDS):
        race.run("probe", fold)
    shared = {"groups": together, "penalties": policies.COARSE_PENALTIES}
    blind = probe.cross_val_predict(x, np.array(known.labels), **shared)
    assert np.array_equal(race.runners["probe"].probabilities, blind)


def hidden_layers():
    """A network with two hidden layers behind the pooling, as an AlexNet has."""
    layers = nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    layers += nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    return models.describe(nn.Sequential(*layers), input_size=(3, 16, 16))


def test_layers_behind_the_pooling_are_no_stages_that_a_policy_counts():
    settings = policies.settings_for("last stage", 80)
    names = ["stage1", "stage2", "pool", "fc1", "fc2", "head"]
    assert surgery.stages(hidden_layers()).names == names
    assert surgery.stages(hidden_layers()).body == names[:2]
    recipe = policies.make_recipe("last stage", hidden_layers(), 80, settings, 0)
    assert recipe.phases[0].from_stage == "stage2"
    measured, written = hidden_layers(), hidden_layers()
    policies.make_recipe("first stages", measured, 80, settings, 0)
    exec(
        code.FIRST.format(head_lr=0.1, settings="lr=0.1"),
        {"model": written, "surgery": surgery, "train": train},
    )
    for model in (measured, written):
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained == {"0.weight", "0.bias", "2.weight", "2.bias", "10.weight", "10.bias"}


def test_a_folder_unlike_the_training_images_is_noticed_and_one_like_them_is_not(few, tiny, tmp_path):
    model = models.load(tiny)
    x = measuring._read(model, few.train)["pool"]
    race, said = start_race(few.train, x, np.arange(len(few.train))), []
    noise = write(tmp_path, "noise", 30, lambda r, p: p) / "noise"
    assert measuring._compare(model, race, [noise], said.append).shifted
    assert not measuring._compare(model, race, few.test.paths, said.append).shifted
    assert said == []
    (noise / "broken.jpg").write_text("no picture")
    assert measuring._compare(model, race, [noise], said.append).shifted
    assert said[0].startswith("1 of 31 files to compare with could not be read. broken.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LearnerError, match="No image was found"):
        measuring._compare(model, race, [tmp_path / "empty"], said.append)


def test_the_page_needs_nothing_else_and_escapes_every_name(advice, tmp_path):
    named = replace(advice, name="<script>alert(1)</script>", classes=["<b>", *advice.classes[1:]])
    page = named.write(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    assert page.count("data:image/png;base64,") >= 2
    assert "advisor.advise(dataset, budget=5" in page
    nbformat.validate(nbformat.read(tmp_path / "advice.ipynb", as_version=4))
    assert (tmp_path / "recipe.py").read_text(encoding="utf-8") == named.code


@pytest.mark.parametrize("policy", policies.POLICIES)
def test_every_recipe_runs_as_it_is_printed(policy, tmp_path, few, tiny, monkeypatch):
    folder = tmp_path / "digits"
    for split in ("train", "val"):
        for i, (image, label) in enumerate(getattr(few, split)):
            place = folder / split / str(label)
            place.mkdir(parents=True, exist_ok=True)
            image.resize((32, 32)).save(place / f"{split}{i}.png")
            image.resize((32, 32)).save(place / f"{split}{i}-copy.png")
    recipe, stage = None, "stage2"
    if policy not in policies.PROBES:
        settings = replace(policies.settings_for(policy, 80), steps=2)
        recipe = policies.make_recipe(policy, models.load(tiny), 80, settings, seed=0)
        stage = recipe.phases[0].from_stage
    text = write_recipe(policy, tiny, str(folder), recipe=recipe, stage=stage)
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    scope = {}
    exec(compile(text, "recipe.py", "exec"), scope)
    assert scope.get("recipe") == recipe
    if policy in policies.PROBES:
        assert_measured(policy, scope, tiny)
    if policy not in ("knn", "probe, all depths"):
        into = claims.small_network(3, seed=0) if policy == "scratch" else None
        kept = models.load(tmp_path / "run" / "model.safetensors", into=into)
        assert models.info(kept).classes == ["0", "1", "2"]


def assert_measured(policy, scope, backbone):
    """What the recipe fitted is what the policy was measured with, to the group, the fold and the penalty."""
    splits = scope["dataset"].train, scope["dataset"].val
    at = {"probe, best depth": ["stage2"], "probe, all depths": READ}
    stores = [features.extract(models.load(backbone), s, at=at.get(policy, ["pool"])) for s in splits]
    x, new = ({stage: np.asarray(store[stage]) for stage in store.at} for store in stores)
    groups = np.unique(splits[0].groups, return_inverse=True)[1]
    assert len(np.unique(groups)) == len(groups) / 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policies, "best_share", lambda *arguments: 0.1)  # the one that is written
        measured = policies.PROBES[policy](x, np.asarray(splits[0].labels), groups, 0)(new)
    columns = scope.get("kept", slice(None))
    found = scope["found"].predict_proba(np.concatenate(list(new.values()), axis=1)[:, columns])
    # A network that ends early pools by itself, with other rounding.
    assert np.allclose(found, measured, atol=1e-5 if policy == "probe, best depth" else 0, rtol=0)


@pytest.mark.usefixtures("cheap_probes")
def test_the_learning_curve_ends_with_the_score_that_the_race_measured(few):
    known, rng = few.train, np.random.default_rng(0)
    x = rng.normal(size=(len(known), 6)) + np.eye(6)[known.labels]
    own = {"images": known, "features": {"pool": x}, "groups": np.arange(len(known))}
    race = Race(**own, load=None, pass_seconds=0, deadline=0)
    race.run_frozen()
    curve = race_module.learning_curve(race)
    assert curve["score"].iloc[-1] == race.score("probe")
    assert curve["images"].iloc[-1] == 20


@pytest.mark.parametrize(
    ("gain", "low", "high", "verdict"),
    [
        (-0.05, -0.08, -0.02, "lower beyond noise"),
        (0.01, -0.02, 0.04, "a tie: within noise"),
        (0.1, 0.0, 0.2, "a tie: within noise"),
        (0.05, 0.02, 0.08, "higher beyond noise"),
    ],
)
def test_what_more_images_bought_is_beyond_noise_by_the_rule_of_every_difference(
    advice, gain, low, high, verdict
):
    rows = [{"images": 14}, {"images": 28, "gain": gain, "gain_low": low, "gain_high": high}]
    said = replace(advice, curve=pd.DataFrame(rows)).more_images
    assert f"gained {100 * gain:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], {verdict}." in said
    assert str(Difference("gain", gain, low, high)).endswith(verdict)


def test_of_a_network_of_stem_and_head_alone_the_recipe_reads_the_stem_as_the_advice_does(few, tiny):
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten()), nn.Linear(64, 3))
    net = models.describe(net, input_size=(3, 32, 32))
    read = measuring._read(net, few.val)
    text = write_recipe("probe, all depths", tiny, "scans", stages=list(read))
    assert len(read) == 1
    assert f"stages = {list(read)}\n" in text
    assert "at=stages" in text


def write_recipe(policy, backbone, source, **changes):
    own = {"group_by": "", "stages": READ, "linear": True, "ends": True, "stage": "stage2"}
    own |= {"share": 0.1, "recipe": None, "seed": 0, "grey_bits": 16}
    return code.write_recipe(policy, backbone, source, **(own | changes))


def test_a_probe_that_no_head_can_hold_stays_beside_the_network(tiny):
    text = write_recipe("probe", tiny, "scans", linear=False, stages=["fc1", "fc2"])
    assert "surgery" not in text
    assert "read['fc2'], read.labels" in text
    text = write_recipe("probe, best depth", tiny, "scans", ends=False)
    assert "surgery" not in text
    assert "read['stage2'], read.labels" in text


def test_a_probe_whose_best_depth_is_the_last_is_that_on_the_final_features(tiny):
    assert write_recipe("probe, best depth", tiny, "scans", stage="pool") == write_recipe(
        "probe", tiny, "scans"
    )


def test_a_recipe_draws_the_splits_that_were_measured(tiny):
    text = write_recipe("probe", tiny, "scans", group_by="patient[0-9]+", seed=3)
    assert "data.load('scans', seed=3, too_few=\"train\", group_by='patient[0-9]+')" in text
    assert "Pass it here as group_by=" in write_recipe("probe", tiny, "scans", group_by=None)
    assert 'too_few="train", grey_bits=12)' in write_recipe("probe", tiny, "scans", grey_bits=12)


@pytest.mark.usefixtures("cheap_probes")
def test_the_splits_of_an_advice_are_those_of_training_with_its_seed(tmp_path, tiny):
    folder = write(write(tmp_path / "animals", "cat", 14, lambda r, p: p // 2), "dog", 14, lambda r, p: p)
    write(folder, "rare", 2, lambda r, p: p // 3)
    found = advisor.advise(folder, budget=0, backbone=tiny, seed=3, group_by="[a-z]+[0-9]{2}")
    trained = data.load(folder, seed=3, too_few="train", group_by="[a-z]+[0-9]{2}")
    assert set(found.known.hashes) == {*trained.train.hashes, *trained.val.hashes}
    assert set(found.known.hashes) != set(data.load(folder, seed=0, too_few="train").train.hashes)
    assert found.learned == len(trained.train)
    assert f"advise({str(folder)!r}, budget=0, group_by='[a-z]+[0-9]{{2}}', " in found._call


class TwoHeads(nn.Module):
    """As distilled networks have them."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.one, self.other = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x):
        x = self.body(x)
        return (self.one(x) + self.other(x)) / 2


def squeezed():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def unbiased():
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(body, nn.Linear(8, 3, bias=False))


def layered():
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(body, nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.mark.usefixtures("cheap_probes")
@pytest.mark.parametrize(
    ("make", "solved"), [(TwoHeads, False), (squeezed, False), (unbiased, False), (layered, True)]
)
def test_a_head_that_cannot_start_solved_leaves_those_policies_out_and_keeps_the_answer(make, solved, few):
    model = models.describe(make(), input_size=(3, 32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    read = measuring._read(model, few.train)
    race = Race(few.train, read, np.arange(len(few.train)), lambda policy: model, 0.0, time.monotonic() + 0.1)
    race.run_frozen()
    assert measuring._takes_probe(race) == solved
    race.run_training()
    assert set(race.finished) >= set(policies.PROBES)
    for policy in policies.FROM_PROBE:
        assert ("does not fit the head" in race.runners[policy].left_out) == (not solved)


@pytest.mark.full
@pytest.mark.usefixtures("cheap_probes")
def test_an_advice_is_not_written_among_the_images(tmp_path, monkeypatch, tiny):
    folder = write(write(tmp_path / "animals", "cat", 12, lambda r, p: p // 2), "dog", 12, lambda r, p: p)
    monkeypatch.chdir(folder)
    assert cli.main(["advise", ".", "--budget", "0", "--backbone", tiny]) == 0
    assert {path.name for path in folder.iterdir()} == {"cat", "dog"}
    assert (tmp_path / "animals-advice" / "advice.html").exists()


@pytest.mark.usefixtures("cheap_probes")
def test_a_folder_here_comes_before_a_data_set_of_its_name(tmp_path, monkeypatch, capsys, tiny):
    write(write(tmp_path / "digits", "cat", 12, lambda r, p: p // 2), "dog", 12, lambda r, p: p)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["advise", "digits", "--budget", "0", "--backbone", tiny]) == 0
    assert "(cat " in capsys.readouterr().out
    assert "data.load('./digits'" in (tmp_path / "digits-advice" / "recipe.py").read_text(encoding="utf-8")


def test_bad_input_is_told_in_words(few, tiny):
    with pytest.raises(LearnerError, match="minutes, 0 or more"):
        advisor.advise(few, budget=-1, backbone=tiny)
    one = replace(few, train=few.train.select([0, 1]), val=few.val.select([]))
    with pytest.raises(LearnerError, match="two classes or more"):
        advisor.advise(one, budget=0, backbone=tiny)


def test_the_command_prints_the_answer_and_leaves_page_recipe_and_notebook(
    tmp_path, capsys, tiny, monkeypatch
):
    folder = write(tmp_path, "cat", 12, lambda r, p: p // 2)
    write(tmp_path, "dog", 12, lambda r, p: p // 2 + 120)
    out = tmp_path.parent / "out"
    assert cli.main(["advise", str(folder), "--budget", "0", "--backbone", tiny, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "\nAdvice for" in said
    assert "\nRunner-up: " in said
    assert said.count("not tried within the budget") == 5  # in no minute only the frozen policies run
    assert {p.name for p in out.iterdir()} == {"advice.html", "advice.ipynb", "recipe.py"}
    assert f"--budget 0 --backbone {tiny}" in (out / "advice.html").read_text(encoding="utf-8")


@pytest.mark.full
@pytest.mark.usefixtures("cheap_probes")
def test_training_as_advised_measures_and_then_builds_the_folder(tmp_path, capsys, tiny):
    folder = write(tmp_path / "animals", "cat", 16, lambda r, p: p // 2)
    write(folder, "dog", 16, lambda r, p: p // 2 + 120)
    out = tmp_path / "model"
    command = ["train", str(folder), "--backbone", tiny, "--out", str(out), "--advise", "0"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "Training as advised" in said or "leaves no network with one head" in said
    assert models.info(models.load(out)).classes == ["cat", "dog"]
    assert cli.main([*command, "--from-stage", "all"]) == 1
    assert "either you choose, or the measurement does" in capsys.readouterr().err


def test_what_is_trained_as_advised_is_a_recipe_or_a_probe_where_the_network_can_end(advice):
    tied = ["probe, best depth", "lp-ft", "finetune"]
    behind = {name: Difference("", 0, 0, 0) for name in policies.POLICIES}
    decision = replace(advice.decision, policy=tied[0], best=tied[0], tied=tied, behind=behind)
    deeper = replace(advice, policy=tied[0], decision=decision, depth="stage2", ends=True)
    assert (deeper.recipe, deeper.at) == (None, "stage2")
    assert deeper.training.startswith("Training as advised")
    assert deeper.training.endswith("stage2, after which the network ends.")
    whole = replace(deeper, depth="pool")
    assert whole.at is None  # it ends there anyway
    assert whole.training.endswith("best stage, the last.")
    # Where the network cannot end there, it is the best of what can be built, and how far behind is said.
    gaps = {name: Difference("", gap, gap, gap) for name, gap in (("probe", -0.08), ("finetune", -0.2))}
    alone = replace(deeper, ends=False, decision=replace(decision, tied=tied[:1], behind=gaps))
    assert (alone.recipe, alone.at) == (None, None)
    assert "Training probe, which is 8.0 points behind the best (probe, best depth)" in alone.training
    tie = replace(deeper, ends=False, decision=replace(decision, behind={**gaps, "lp-ft": behind["lp-ft"]}))
    assert tie.recipe.phases[0].from_stage == "all"
    assert "Training lp-ft, which ties with the best" in tie.training
    last = replace(decision, policy="last stage", best="last stage", tied=["last stage"])
    last = replace(advice, policy="last stage", decision=last)
    assert last.recipe.phases[0].from_stage == "stage4"
    assert last.training.startswith("Training as advised")


@pytest.fixture(scope="module")
def blind(tiny, tmp_path_factory):
    """The file of a network that gives the same features for every image."""
    model = models.load(tiny)
    nn.init.zeros_(next(model.parameters()))
    return str(models.save(model, tmp_path_factory.mktemp("net") / "blind"))


@pytest.fixture(scope="module")
def twin(tiny, tmp_path_factory):
    """A second file of the small network."""
    return str(models.save(models.load(tiny), tmp_path_factory.mktemp("net") / "twin"))


def nearest_mean(x, labels, groups, seed):
    """A policy that costs nothing."""
    means = np.stack([policies.final(x)[labels == k].mean(0) for k in np.unique(labels)])

    def classify(new):
        near = np.exp(-np.linalg.norm(policies.final(new)[:, None] - means, axis=2))
        return near / near.sum(1, keepdims=True)

    return classify


@pytest.fixture(scope="module")
def folds():
    """Labels, groups and folds of each network in the race for the backbone."""
    return []


@pytest.fixture(scope="module")
def of_three(few, tiny, blind, twin, folds):
    """What is advised of three networks: one sees nothing, two see the same."""
    run = Race.run_frozen

    def noted(race):
        folds.append((race.labels, race.groups, race.fold))
        run(race)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Race, "run_frozen", noted)
        for name in policies.PROBES:
            patch.setitem(policies.PROBES, name, nearest_mean)
        patch.setattr(measuring, "audit_images", lambda *arguments: [])
        patch.setattr(measuring, "learning_curve", lambda race: FLAT)
        patch.setattr(measuring, "_distances", lambda *arguments: (np.nan, {}))
        return advisor.advise(few, budget=0, backbone=[blind, tiny, twin], seed=1)


def test_of_several_backbones_the_one_that_sees_is_advised(of_three, blind, tiny, twin, few):
    chosen, table = of_three.backbone, of_three.backbones
    assert chosen in (tiny, twin)
    assert table["ties"].to_dict() == {blind: False, tiny: True, twin: True}
    assert table.loc[blind, "lead_low"] > 0
    assert table.loc[[tiny, twin], "lead"].tolist() == [0, 0]
    assert of_three.table.loc[backbones.JUDGE, "score"] == table.loc[chosen, "score"]
    assert f"models.load({chosen!r})" in of_three.code
    assert few.test.images_read == 0


def test_backbones_are_judged_on_the_same_folds(folds, of_three):
    (labels, groups, fold), *others = folds
    assert len(others) == 2
    for own in others:
        assert all(map(np.array_equal, own, (labels, groups, fold)))


def test_an_advice_of_several_backbones_says_which_would_do_as_well(of_three, blind):
    chosen, (other,) = of_three.backbone, {*of_three.backbones.index} - {of_three.backbone, blind}
    said = str(of_three)
    assert f"Backbone: {chosen}, the best of 3" in said
    assert f"It ties with {other}: " in said
    assert re.search(rf"Behind it: {re.escape(blind)} by [\d.]+ points \[[\d.]+, [\d.]+\]\.", said)
    assert "lead_high milliseconds" in said
    assert f"backbone={list(of_three.backbones.index)!r}, seed=1)" in of_three._call
    hostile = of_three.backbones.rename(index={blind: "<script>alert(1)</script>"})
    page = replace(of_three, backbones=hostile)._repr_html_()
    assert page.count("ms per image") == 1
    assert page.count("behind, which ties") == 1
    assert page.count("&lt;script&gt;alert(1)") == 2  # in the sentence and in the table
    assert "<script" not in page


def test_an_advice_of_one_backbone_compares_none(advice):
    for said in (advice._repr_html_(), str(advice)):
        assert not re.search("ms per image|milliseconds|behind, which ties|Backbone:", said)
    assert f"backbone={advice.backbone!r}, seed=0)" in advice._call


def compared(**given):
    """Compare backbones, each given as (images right of 40, seconds per image), and choose among them."""
    races = {
        name: SimpleNamespace(
            hits=lambda judge, n=n: hits(n) if judge == backbones.JUDGE else hits(40),
            score=lambda judge, n=n: n / N if judge == backbones.JUDGE else 1,
            labels=LABELS,
            groups=ALONE,
        )
        for name, (n, _) in given.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "_try_out", lambda name, known: given[name][1])
        return backbones.choose([*given], range(N), lambda name: (None, races[name]), [].append)


def test_the_highest_score_is_taken_and_a_cheaper_backbone_that_ties_is_named():
    found = compared(small=(36, 0.01), large=(37, 0.04), poor=(20, 0.001))
    said = backbones.describe(found.table, found.name)
    assert found.name == "large"
    assert "It ties with small: " in said
    assert said.count("cheaper: small (10.0 ms an image).") == 1
    assert "Behind it: poor by 42.5 points [" in said
    assert found.table.loc["poor", "lead"] == pytest.approx(17 / 40)
    alone = compared(small=(20, 0.01), large=(38, 0.04))
    assert not re.search("ties|cheaper", backbones.describe(alone.table, alone.name))


def test_of_equal_scores_the_cheaper_backbone_is_taken_and_without_one_the_first():
    assert compared(slow=(36, 0.04), fast=(36, 0.01)).name == "fast"
    assert compared(fast=(36, 0.01), slow=(36, 0.04)).name == "fast"
    assert compared(one=(36, 0.0101), other=(36, 0.01)).name == "one"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "No backbone was named"),
        (["{tiny}", "tf_efficientnet_lite0", "{tiny}"], "was named twice"),
        (["{tiny}", "tf_efficientnet_lite9"], "Did you mean 'tf_efficientnet_lite"),
        (["{tiny}", "{tiny}-gone.safetensors"], "There is no file .*-gone.safetensors"),
        (["{tiny}", 3], "got int"),
        ("tf_efficientnet_lite9", "Did you mean"),
    ],
)
def test_names_of_backbones_are_checked_before_the_images_are_looked_for(given, says, tiny):
    fill = [name.format(tiny=tiny) if isinstance(name, str) else name for name in given]
    with pytest.raises(LearnerError, match=says):
        advisor.advise("no/such/folder", backbone=fill if isinstance(given, list) else given)


def test_a_backbone_that_cannot_be_used_is_named_before_any_is_paid_for(few, tiny, tmp_path, monkeypatch):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    monkeypatch.setattr(measuring, "_read", lambda *arguments: pytest.fail("images were read"))
    with pytest.raises(LearnerError, match=f"With the backbone {broken}: "):
        advisor.advise(few, budget=0, backbone=[tiny, str(broken)])


def test_features_of_a_backbone_are_let_go_before_the_next_is_read_unless_it_is_the_best(monkeypatch):
    right, alive, refs = {"a": 20, "b": 30, "c": 10, "d": 35}, {}, {}

    def enter(name):
        alive[name] = [own for own, ref in refs.items() if ref() is not None]
        judged = {"hits": lambda judge: hits(right[name]), "score": lambda judge: right[name]}
        features = np.zeros(2)
        refs[name] = weakref.ref(features)
        return None, SimpleNamespace(**judged, labels=LABELS, groups=ALONE, features=features)

    monkeypatch.setattr(backbones, "_try_out", lambda name, known: 1.0)
    assert backbones.choose([*right], range(N), enter, [].append).name == "d"
    assert alive == {"a": [], "b": ["a"], "c": ["b"], "d": ["b"]}


def test_the_command_takes_one_backbone_or_several(monkeypatch, capsys):
    given = []

    def advise(*arguments, **options):
        given.append(options["backbone"])
        raise LearnerError("enough")

    monkeypatch.setattr(advisor, "advise", advise)
    cli.main(["advise", "--backbone", "one", "digits"])
    cli.main(["advise", "digits", "--backbone", "one", "--backbone", "other"])
    cli.main(["advise", "digits"])
    assert given == [["one"], ["one", "other"], models.DEFAULT]
