"""A folder of images becomes a model with report and card, honest about few, odd and mislabelled images."""

import html
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from image_folders import coloured, fill, heic
from PIL import Image

from tlutils import advisor, cli, data, deploy, features, models, novelty, probe, surgery, train
from tlutils.advisor import policies
from tlutils.errors import LearnerError
from tlutils.train import Recipe


@pytest.fixture(scope="module", autouse=True)
def fewer_penalties():
    """Probes, and those that look at labels, choose among fewer penalties than a user's."""
    with pytest.MonkeyPatch.context() as patch:
        for solve in (probe.fit_probe, probe.cross_val_predict):
            patch.setitem(solve.__kwdefaults__, "penalties", (3.0, 0.03))
        yield


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A small network with random weights, in a file."""
    network = models.load("test_resnet", pretrained=False, input_size=32)
    return str(models.save(network, tmp_path_factory.mktemp("backbone") / "tiny.safetensors"))


def build(root, backbone, out, **settings):
    return deploy.build(data.load(root, too_few="train"), out, backbone=backbone, **settings)


def read(built, name="report.html"):
    return (built.folder / name).read_text("utf-8")


def words_of(page):
    """The text of a page without its tags, in one line."""
    return " ".join(
        html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.S))).split()
    )


@pytest.fixture(scope="module")
def three(tmp_path_factory, backbone):
    """A finished run on three classes of twenty images, and the folder that it learned from."""
    place = tmp_path_factory.mktemp("three")
    root = coloured(place / "pets", {"cat": 20, "dog": 20, "eel": 20})
    return root, build(root, backbone, place / "out")


def test_a_folder_becomes_a_model_that_knows_its_classes(three):
    root, built = three
    names = {path.name for path in built.folder.iterdir()}
    assert names == {"model.safetensors", "embeddings.safetensors", "report.html", "README.md", "run.json"}
    model = models.load(built.folder)
    assert models.info(model).classes == ["cat", "dog", "eel"]
    paths = [root / "dog" / "001.png", root / "eel" / "001.png"]
    images = [paths[0], str(paths[1]), Image.open(paths[0]), np.asarray(Image.open(paths[1]))]
    assert train.predict(model, images).names == ["dog", "eel"] * 2
    assert built.balanced_accuracy.value > 0.9
    assert built.balanced_accuracy.low < built.balanced_accuracy.value


def test_a_folder_of_the_current_one_is_found_by_its_bare_name(three, monkeypatch):
    monkeypatch.chdir(three[1].folder.parent)
    assert models.info(models.load("out")).num_classes == 3


def test_a_models_name_goes_before_a_folder_of_that_name(three, tmp_path, monkeypatch):
    shutil.copytree(three[1].folder, tmp_path / "resnet18")
    monkeypatch.chdir(tmp_path)
    assert models.info(models.load("resnet18", pretrained=False)).num_classes == 1000
    assert models.info(models.load("./resnet18")).num_classes == 3


def test_the_report_has_no_script_and_loads_nothing(three):
    page = read(three[1])

    seen, parser = [], HTMLParser()
    parser.handle_starttag = lambda tag, attributes: seen.append((tag, dict(attributes)))
    parser.feed(page)
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in seen)
    assert not [a for _, a in seen if any(name.startswith("on") for name in a)]
    sources = [a[name] for _, a in seen for name in ("src", "href", "action") if name in a]
    assert all(source.startswith("data:image/") for source in sources)
    assert "url(" not in page
    assert "@import" not in page


def test_report_card_and_result_tell_one_number(three):
    _, built = three
    for text in (words_of(read(built)), read(built, "README.md").replace("\\", "")):
        assert str(built.balanced_accuracy) in text
    card = ModelCard(read(built, "README.md"))
    assert card.data.pipeline_tag == "image-classification"
    (score, _) = card.data.eval_results
    assert (score.metric_type, score.dataset_split) == ("balanced_accuracy", "test")
    assert score.metric_value == pytest.approx(built.balanced_accuracy.value, abs=1e-4)
    assert "divide_by 255" in card.content.replace("\\", "")


def test_the_number_is_that_of_the_saved_model_on_the_test_split(three):
    root, built = three
    report = train.evaluate(models.load(built.folder), data.load(root).test)
    assert report.balanced_accuracy.value == pytest.approx(built.balanced_accuracy.value)
    assert report.n == built.images


def test_the_test_split_teaches_nothing(three, backbone, tmp_path):
    """The same model comes out when all labels of the test split are others."""
    dataset = data.load(three[0])
    dataset.test.labels[:] = [(label + 1) % 3 for label in dataset.test.labels]
    other = deploy.build(dataset, tmp_path / "out", backbone=backbone)
    kept = [(b.folder / "model.safetensors") for b in (other, three[1])]
    weights = [models.load(path).state_dict() for path in kept]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert other.balanced_accuracy.value < 0.2 < three[1].balanced_accuracy.value


def test_a_photograph_among_patches_of_colour_looks_unlike_the_training_images(three, tmp_path):
    root, built = three
    data.load_photograph("cat").save(tmp_path / "photograph.png")
    table = deploy.predict(built.folder, [root / "cat", tmp_path / "photograph.png"])
    assert table["class"][:20].tolist().count("cat") > 17
    assert table["unlike"][:20].mean() < 0.2
    assert table["unlike"].iloc[20]
    assert table["note"].iloc[20] == "unlike the training images"


def test_a_model_without_embeddings_predicts_and_does_not_say_what_is_unlike(three):
    table = deploy.predict(three[1].folder / "model.safetensors", [three[0] / "cat" / "000.png"])
    assert table["class"].tolist() == ["cat"]
    assert table["unlike"].isna().all()


def test_embeddings_of_files_are_those_of_the_features(three, backbone):
    dataset, model = data.load(three[0]), models.load(three[1].folder)
    prepare = data.transform_for(model)
    images = torch.stack([prepare(p) for p in dataset.val.paths])
    probabilities, embeddings = features.make_predictor(model)(images)
    store = features.extract(model, dataset.val, at="pool", precision="float32")
    assert np.allclose(embeddings, store["pool"], atol=1e-4)
    assert np.allclose(probabilities, train.predict(model, dataset.val).probabilities, atol=1e-5)


@pytest.fixture
def scans(tmp_path):
    """Grey pictures of 12 bits in 16, of two classes, the second brighter."""
    root = tmp_path / "scans"
    for k, label in enumerate(("thin", "thick")):
        (root / label).mkdir(parents=True)
        for i in range(12):
            grey = np.random.default_rng(12 * k + i).integers(0, 2**11 << k, (32, 32), dtype=np.uint16)
            Image.fromarray(grey).save(root / label / f"{i:02}.png")
    return data.load(root, grey_bits=12)


def reads_files_as(model, split):
    by_path, as_split = (train.predict(model, images).probabilities for images in (split.paths, split))
    return np.allclose(by_path, as_split, atol=1e-6)


def test_fit_leaves_and_saves_a_model_that_reads_files_as_its_training_images(scans, backbone, tmp_path):
    model = surgery.replace_head(models.load(backbone), 2)
    assert not reads_files_as(model, scans.val)
    for _ in range(2):  # the second call is the same run, whatever the first has noted in the model
        train.fit(model, scans, train.Recipe.probe(epochs=1), out=tmp_path / "run")
        assert reads_files_as(model, scans.val)
    assert reads_files_as(models.load(tmp_path / "run" / "model.safetensors"), scans.val)


def test_a_solved_head_makes_the_model_read_files_as_the_images_it_was_solved_on(scans, backbone):
    model = surgery.replace_head(models.load(backbone), 2)
    read = features.extract(model, scans.train, at="pool")
    found = probe.fit_probe(read["pool"], read.labels, classes=scans.classes, penalties=[0.1])
    assert reads_files_as(probe.install_head(model, found, scans.train), scans.val)


@pytest.mark.full  # an advice takes a while
def test_an_advice_reads_what_it_compares_with_as_its_training_images(scans, backbone):
    advice = advisor.advise(scans, budget=0, backbone=backbone, deploy=scans.train.paths)
    assert advice.deployed.unlike == 0, "they are the training images"


def test_a_model_reads_pictures_of_fewer_bits_as_its_training_images_were_read(scans, tmp_path, backbone):
    dataset = scans
    built = deploy.build(dataset, tmp_path / "model", backbone=backbone)
    model, path = models.load(built.folder), dataset.test.paths[0]
    prepare = data.transform_for(model)
    assert torch.equal(prepare(path), prepare(dataset.test[0][0]))
    assert torch.equal(prepare(Image.open(path)), prepare(path))
    of_files = deploy.predict(built.folder, dataset.test.paths)["probability"]
    assert np.allclose(of_files, train.predict(model, dataset.test).probabilities.max(1), atol=1e-5)
    colour = next(step for step in deploy.describe_preprocessing(model)["steps"] if step["do"] == "colour")
    assert colour["how"].endswith(f"dividing them by {4095 / 255:.6g}")


def test_the_same_call_again_tells_the_result_and_does_nothing(three, backbone):
    root, built = three
    before = {path.name: path.stat().st_mtime_ns for path in built.folder.iterdir()}
    again = build(root, backbone, built.folder)
    assert (again.balanced_accuracy, again.doubts) == (built.balanced_accuracy, built.doubts)
    assert {path.name: path.stat().st_mtime_ns for path in built.folder.iterdir()} == before


def test_nothing_is_written_over(three, backbone, tmp_path, monkeypatch):
    root, built = three
    with pytest.raises(LearnerError, match="holds a run with a different seed"):
        build(root, backbone, built.folder, seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(LearnerError, match="nothing was changed"):
        build(root, backbone, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(LearnerError, match="among the images"):
        build(root, backbone, root / "model")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets-model").mkdir()
    (tmp_path / "pets-model" / "notes.txt").touch()
    assert build(root, backbone, None).folder.name == "pets-model-2"
    assert build(root, backbone, None).folder.name == "pets-model-2"


@pytest.mark.full
def test_a_recipe_trains_from_the_solved_head_and_goes_on_after_an_interruption(three, backbone, tmp_path):
    root, _ = three
    recipe = deploy.recipe_from("stage3")
    recipe = replace(recipe, phases=(replace(recipe.phases[0], epochs=2),), views=1)

    def stop_in_the_middle(line):
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(root, backbone, tmp_path / "one", recipe=recipe, say=stop_in_the_middle)
    assert not (tmp_path / "one" / "model.safetensors").exists()
    said = []
    one = build(root, backbone, tmp_path / "one", recipe=recipe, say=said.append)
    assert [line[:7] for line in said if line.startswith("epoch")] == ["epoch 2"]
    two = build(root, backbone, tmp_path / "two", recipe=recipe)
    weights = [models.load(b.folder).state_dict() for b in (one, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    start = models.load(backbone).state_dict()
    moved = {
        name.split(".")[0]
        for name, t in weights[0].items()
        if name in start and not torch.equal(t, start[name])
    }
    stages = surgery.stages(models.load(backbone))
    early = {m.split(".")[0] for s in stages[:2] for m in s.modules}
    assert early.isdisjoint(moved)
    assert "solved as a linear probe" in one.trained
    assert "stage3" in one.trained
    assert {path.name for path in one.folder.iterdir()} >= {"history.csv", "model.safetensors"}
    assert not (one.folder / "training").exists()


def test_what_was_advised_from_a_random_head_is_built_from_one(three, backbone, tmp_path):
    settings = replace(policies.settings_for("finetune", 42), lr=0.0, steps=1)
    recipe = policies.make_recipe("finetune", models.load(backbone), 42, settings, seed=3)
    built = build(three[0], backbone, tmp_path / "out", recipe=recipe)
    fresh = surgery.replace_head(models.load(backbone), 3, seed=3)
    assert torch.equal(models.load(built.folder).fc.weight, fresh.fc.weight)
    assert "the head random, all stages trained" in built.trained


@pytest.mark.parametrize("recipe", [None, Recipe.probe(epochs=1, head_lr=0.0)])
def test_a_probe_that_somebody_else_fitted_becomes_the_head(recipe, three, backbone, tmp_path):
    dataset = data.load(three[0])
    store = features.extract(models.load(backbone), dataset.train, at="pool")
    fitted = probe.fit_probe(store["pool"], store.labels, classes=dataset.classes, penalties=[3.0])
    built = deploy.build(dataset, tmp_path / "out", backbone=backbone, recipe=recipe, head=fitted)
    head = models.load(built.folder).fc
    assert torch.equal(head.weight, fitted.head().weight)
    wrong = probe.fit_probe(store["pool"][:, :5], store.labels, classes=dataset.classes, penalties=[3.0])
    with pytest.raises(LearnerError, match="does not fit the head"):
        deploy.build(dataset, tmp_path / "other", backbone=backbone, recipe=recipe, head=wrong)


SOLVED = probe.fit_probe(np.eye(4), [0, 1, 0, 1], penalties=[1.0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": SOLVED}, "recipe is a Probe.*head="),
        ({"recipe": "stage2"}, "recipe is a str"),
        ({"head": Recipe.probe()}, "head is a Recipe.*recipe="),
        ({"head": SOLVED.head()}, "head is a Linear.*fit_probe"),
        ({"head": probe.fit_probe(np.eye(4), [0, 1, 0, 1], kind="knn", n_neighbors=[1])}, "no weights"),
        ({"head": SOLVED, "recipe": Recipe.finetune(reset="head")}, "at random"),
        ({"head": SOLVED, "recipe": Recipe.scratch()}, "at random"),
    ],
)
def test_recipe_and_head_that_are_none_or_exclude_each_other_are_said(given, message, three, tmp_path):
    with pytest.raises(LearnerError, match=message):
        deploy.build(data.load(three[0]), tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.full
def test_a_network_whose_head_is_no_linear_layer_is_trained_in_steps(three, tmp_path):
    network = models.load("torchvision/squeezenet1_0", pretrained=False, input_size=32)
    path = models.save(network, tmp_path / "squeezenet")
    said = []
    built = build(three[0], str(path), tmp_path / "out", say=said.append)
    assert any("trained in steps" in line for line in said)
    assert "Recipe 'probe'" in built.trained
    assert "solved" not in built.trained


def test_an_unknown_stage_is_named_before_anything_is_computed(three, backbone, tmp_path):
    with pytest.raises(LearnerError, match="stage9"):
        build(three[0], backbone, tmp_path / "out", recipe=Recipe.partial("stage9"))
    assert not (tmp_path / "out").exists()


# What a folder may be like.


@pytest.fixture
def mushrooms(tmp_path):
    return data.load(coloured(tmp_path / "mushrooms", {"edible": 200, "deadly": 15}))


def test_a_network_that_ends_early_is_built_from_a_probe_of_that_stage(three, backbone, tmp_path):
    root, dataset = three[0], data.load(three[0])
    known, shown = (
        features.extract(models.load(backbone), split, at="stage2", precision="float32")
        for split in (dataset.train, dataset.test)
    )
    beside = probe.fit_probe(known["stage2"], known.labels, classes=dataset.classes, penalties=[0.1])
    given = {"at": "stage2", "head": beside}
    built = build(root, backbone, tmp_path / "out", **given)
    model = models.load(built.folder)
    assert models.info(model).identity == ("layer3", "layer4")
    assert built.trained.startswith("The network ends after stage2: its head reads the mean")
    for text in (words_of(read(built)), read(built, "README.md").replace("\\", "")):
        assert built.trained in text
    said = train.predict(model, dataset.test.paths).probabilities
    assert np.allclose(said, beside.predict_proba(shown["stage2"]), atol=1e-3)
    assert build(root, backbone, tmp_path / "out", **given) == built
    with pytest.raises(LearnerError, match="a different last stage"):
        build(root, backbone, tmp_path / "out", **given | {"at": "stage3"})
    with pytest.raises(LearnerError, match="cannot end after 'pool'"):
        build(root, backbone, tmp_path / "other", at="pool")
    with pytest.raises(LearnerError, match="stage9"):
        build(root, backbone, tmp_path / "other", at="stage2", recipe=deploy.recipe_from("stage9"))
    assert not (tmp_path / "other").exists()


@pytest.mark.full
def test_a_network_that_ends_early_is_trained_by_a_recipe(three, backbone, tmp_path, capsys):
    arguments = ["train", str(three[0]), "--backbone", backbone, "--at", "stage2", "--from-stage", "stage2"]
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert "The network ends after stage2" in capsys.readouterr().out
    was, now = models.load(backbone).state_dict(), models.load(tmp_path / "out").state_dict()
    moved = {name.split(".")[0] for name in now if not torch.equal(was[name], now[name])}
    assert moved == {"layer2", "fc"}
    assert cli.main([*arguments[:-2], "--advise", "1"]) == 1
    assert "--at and --advise arrived" in capsys.readouterr().err


def test_imbalance_is_said_with_what_follows_from_it(mushrooms):
    (doubt,) = [doubt for doubt in deploy.list_doubts(mushrooms) if "imbalanced" in doubt]
    assert "always answering 'edible' is right for 93% of such images" in doubt
    assert "balanced accuracy of 0.50" in doubt


@pytest.mark.full
def test_imbalanced_classes_are_weighed_and_judged_by_balanced_accuracy(mushrooms, backbone, tmp_path):
    built = deploy.build(mushrooms, tmp_path / "out", backbone=backbone)
    assert any("imbalanced" in doubt for doubt in built.doubts)
    assert "The classes are imbalanced" in words_of(read(built))
    assert "every class counting alike" in built.trained
    assert built.balanced_accuracy.high - built.balanced_accuracy.low > 0.15  # three images of 'deadly'
    found = models.load(built.folder).fc.weight
    weighed, alike = (
        probe.fit_probe(*_rows(mushrooms, backbone), classes=mushrooms.classes, class_weight=each)
        for each in ("balanced", None)
    )
    apart = [(found - fitted.head().weight).norm() / found.norm() for fitted in (weighed, alike)]
    assert apart[0] < 0.05 < apart[1]  # where a processor computes in bfloat16, they agree to that


def _rows(dataset, backbone):
    stores = [features.extract(models.load(backbone), s, at="pool") for s in (dataset.train, dataset.val)]
    return np.concatenate([s["pool"] for s in stores]), np.concatenate([s.labels for s in stores])


def test_a_label_that_the_features_contradict_is_doubted_and_a_hard_image_is_not():
    """Three classes around three corners; a tenth has another class's label, a tenth lies between two."""
    rng, truth = np.random.default_rng(0), np.repeat(range(3), 40)
    x, labels = np.eye(3)[truth] + 0.1 * rng.normal(size=(120, 3)), truth.copy()
    wrong, hard = [0, 1, 2, 3, 40, 41, 42, 43, 80, 81, 82, 83], [10, 11, 12, 50, 51, 52]
    labels[wrong] = (truth[wrong] + 1) % 3
    x[hard] = 0.5 * (np.eye(3)[truth[hard]] + np.eye(3)[(truth[hard] + 2) % 3])
    found = probe.find_label_issues(labels, probe.cross_val_predict(x, labels))
    rows = {suspect.row for suspect in found}
    assert rows >= set(wrong)
    assert not rows & set(hard)
    assert len(rows) <= len(wrong) + 1
    assert all(suspect.suggested == truth[suspect.row] for suspect in found if suspect.row in wrong)


@pytest.mark.parametrize("kind", ["head", pytest.param("recipe", marks=pytest.mark.full)])
def test_labels_are_doubted_by_groups_and_with_the_class_weights_of_the_training(
    kind, backbone, tmp_path, monkeypatch
):
    root = coloured(tmp_path / "scans", {"ill": 30, "well": 12}, wrong=0.2)
    dataset = data.load(root, group_by=lambda path: f"{path.parent.name}{int(path.stem) // 3}")
    train_store, val_store = (
        features.extract(models.load(backbone), split, at="pool") for split in (dataset.train, dataset.val)
    )
    given = {
        "head": probe.fit_probe(
            train_store["pool"],
            train_store.labels,
            classes=dataset.classes,
            penalties=[0.1],
            class_weight=None,
        ),
        "recipe": Recipe.probe(epochs=1),
    }[kind]
    stores = [train_store, val_store] if kind == "head" else [train_store]
    x, labels, groups = map(
        np.concatenate, zip(*((s["pool"], s.labels, s.groups) for s in stores), strict=True)
    )
    seen = []
    monkeypatch.setattr(probe, "find_label_issues", lambda labels, chances: seen.append(chances) or [])
    deploy.build(dataset, tmp_path / "out", backbone=backbone, **{kind: given})
    told = probe.cross_val_predict(x, labels, groups=groups, class_weight=None)
    # Where a processor computes in bfloat16, the features of two extractions agree to that.
    assert np.allclose(seen[0], told, atol=0.02)
    assert not np.allclose(told, probe.cross_val_predict(x, labels, groups=groups), atol=0.1)
    assert not np.allclose(told, probe.cross_val_predict(x, labels, class_weight=None), atol=0.1)


@pytest.mark.full
def test_wrong_labels_are_found_counted_and_shown(backbone, tmp_path):
    root = coloured(tmp_path / "noisy", {"cat": 40, "dog": 40, "eel": 40}, wrong=0.1)
    dataset = data.load(root)
    built = deploy.build(dataset, tmp_path / "out", backbone=backbone)
    (doubt,) = [doubt for doubt in built.doubts if "look wrong" in doubt]
    count, labels = map(int, re.match(r"(\d+) of (\d+) labels", doubt).groups())
    truly = sum(int(path.stem) < 4 for split in (dataset.train, dataset.val) for path in split.paths)
    assert labels == len(dataset.train) + len(dataset.val)
    assert abs(count - truly) <= 3
    named = set(re.findall(r"(\w+/\d+)\.png: labelled", read(built)))
    assert len(named) == min(12, count)
    assert np.mean([int(name[-3:]) < 4 for name in named]) > 0.8


def test_right_labels_are_not_doubted(three):
    assert not [doubt for doubt in three[1].doubts if "look wrong" in doubt]


def test_three_classes_of_five_images_are_known_to_say_little(backbone, tmp_path):
    root = coloured(tmp_path / "few", {"a": 5, "b": 5, "c": 5})
    built = build(root, backbone, tmp_path / "out")
    doubts = " ".join(built.doubts)
    assert "3 of 3 classes have fewer than 20 images beside the test images" in doubts
    assert "test images say little" in doubts
    score = built.balanced_accuracy
    assert score.high - score.low > 0.4
    assert "too few to say which images look unlike" in words_of(read(built))


@pytest.mark.full
def test_sixty_classes_are_listed_with_what_is_confused(backbone, tmp_path):
    root = coloured(tmp_path / "sixty", {f"c{k:02d}": 3 for k in range(60)}, size=24)
    built = build(root, backbone, tmp_path / "out")
    score, page = built.balanced_accuracy, words_of(read(built))
    assert built.images == 60
    assert 0.05 < score.low < score.value < score.high
    assert "Random guessing would score 0.017" in page
    assert "taken for" in page
    assert "c59" in page
    assert len(read(built)) < 2_000_000


def test_images_of_one_patient_stay_on_one_side_and_are_held_out_together(backbone, tmp_path, capsys):
    root = coloured(tmp_path / "scans", {"ill": 24, "well": 24})
    for path in root.rglob("*.png"):
        path.rename(path.with_name(f"patient{int(path.stem) // 3}_{path.name}"))
    assert (
        cli.main(
            [
                "train",
                str(root),
                "--backbone",
                backbone,
                "--group-by",
                "patient[0-9]+",
                "--out",
                str(tmp_path / "m"),
            ]
        )
        == 0
    )
    dataset = data.load(root, group_by=lambda path: path.name.split("_")[0])
    kept = json.loads((tmp_path / "m" / "run.json").read_text())["key"]["images"]
    assert kept == {s.name: s.fingerprint for s in (dataset.train, dataset.val, dataset.test)}
    detector = novelty.load_detector(tmp_path / "m" / "embeddings.safetensors")
    assert (
        len(detector.held_out_scores)
        == len(set(dataset.train.groups) | set(dataset.val.groups))
        < len(detector.bank)
    )


# Names that want to be something else.

HOSTILE = {
    "<script>alert(1)": "markup",
    '"><img src=x onerror=alert(1)>': "an attribute",
    "a|b`c`*d*_e_[f](evil.html)": "Markdown",
    "$\\frac$ & {x}": "mathematics",
    "x" * 200: "length",
    os.fsdecode(b"caf\xe9"): "no UTF-8",
    "two\nlines": "a line break",
}


def test_names_stay_names_in_page_card_and_table(backbone, tmp_path, capsys):
    root = coloured(tmp_path / "<b>pets", dict.fromkeys(HOSTILE, 6))
    out = tmp_path / "out"
    assert cli.main(["train", str(root), "--backbone", backbone, "--out", str(out)]) == 0
    page, card = (out / "report.html").read_text("utf-8"), ModelCard.load(out / "README.md").text
    assert "<script" not in page.lower()
    assert "<img src=x" not in page
    assert "<b>pets" not in page
    assert html.escape("<script>alert(1)") in page
    assert "<script" not in card
    assert "<b>" not in card
    assert "](evil" not in card.replace("\\]", "")
    table = [line for line in card.splitlines() if line.startswith("| ") and "evil" in line]
    assert len(re.findall(r"(?<!\\)\|", table[0])) == 5  # four cells
    assert "caf\\xe9" in page
    assert models.info(models.load(out)).num_classes == len(HOSTILE)
    capsys.readouterr()
    files = sorted(map(str, root.rglob("000.png")))
    assert cli.main(["predict", str(out), *files]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if "000.png" in line]) == len(files)


def test_what_cannot_be_read_is_named_and_the_others_are_predicted(three, tmp_path, capsys):
    root, built = three
    (tmp_path / "phone.heic").write_bytes(heic())
    (tmp_path / "half.png").write_bytes((root / "cat" / "000.png").read_bytes()[:200])
    (tmp_path / "<i>notes.txt").write_text("words")
    files = [*map(str, sorted(tmp_path.iterdir())), str(tmp_path / "gone.png"), f"{'long' * 99}.png"]
    files.append(str(root / "dog" / "001.png"))
    assert cli.main(["predict", str(built.folder), *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, says in {
        "heic": "HEIC",
        "half": "broken",
        "notes": "not an image",
        "gone": "no such file",
        "longlong": "too long",
    }.items():
        assert any(name in line and says in line for line in lines), name
    assert any("001.png" in line and "dog" in line for line in lines)


def test_the_terminal_tells_what_was_inferred_and_where_the_model_is(backbone, tmp_path, capsys, monkeypatch):
    root = coloured(tmp_path / "pets", {"cat": 20, "dog": 20, "rare": 2})
    shutil.copy(root / "cat" / "000.png", root / "cat" / "again.png")
    (root / "dog" / "broken.png").write_bytes(b"\x89PNG")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "pets", "--backbone", backbone]) == 0
    said = capsys.readouterr().out
    assert "43 images of 3 classes" in said
    assert re.search(r"cat +\d+ +\d+ +\d+", said)
    assert "copy: The same picture as" in said
    assert "broken.png" in said
    assert "Balanced accuracy" in said
    assert "Nothing will be known of 'rare'" in said
    card = (tmp_path / "pets-model" / "README.md").read_text("utf-8")
    assert "| rare | 2 | 0 | undefined |" in card
    monkeypatch.chdir(root)
    assert cli.main(["train", ".", "--backbone", backbone]) == 0  # not among the images, but beside them
    assert not (root / "pets-model").exists()


def test_what_was_typed_wrongly_is_said(three, tmp_path, capsys):
    root, built = three
    for arguments, says in [
        (["train", str(root), "--group-by", "("], "is not a regular expression"),
        (["train", str(tmp_path / "nowhere")], "no folder"),
        (["export", str(built.folder)], "--onnx"),
        (["predict", str(tmp_path), "x.png"], "model"),
    ]:
        assert cli.main(arguments) == 1
        assert says in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "one" / "only", 3)
    assert cli.main(["train", str(tmp_path / "one")]) == 1
