"""The offline data sets are what their cards say, and the cards are there for people and for code."""

import html
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from families import few
from PIL import Image

from tlutils import data
from tlutils.data import cards, packaged
from tlutils.data.duplicates import find_copies, list_copies
from tlutils.errors import LearnerError

OFFLINE = ("digits", "elpv-defects", "elpv-wafers", "mnist-5k", "scenes")
NETWORKED = ("cifar-10", "dtd", "eurosat", "flowers-102", "hymenoptera", "oxford-pets")


@pytest.mark.parametrize("name", OFFLINE)
def test_a_card_and_its_data_agree(name):
    ds = data.load(name)
    splits = (ds.train, ds.val, ds.test)
    assert sum(map(len, splits)) == ds.card.images
    assert tuple(ds.classes) == ds.card.classes
    assert ds.content_hash == ds.card.hash
    hashes = [set(split.hashes) for split in splits]
    assert len(set.union(*hashes)) == sum(map(len, hashes))
    for split in splits:
        assert set(split.labels) == set(range(len(ds.classes)))
        image, _ = split[len(split) // 2]
        assert image.mode == "RGB"
        assert data.load_image(split.paths[len(split) // 2]).tobytes() == image.tobytes()


@pytest.mark.parametrize("name", few(OFFLINE, "elpv-wafers", "digits"))
def test_the_second_load_and_the_same_seed_give_the_same(name):
    one, two, other = data.load(name), data.load(name), data.load(name, seed=1)
    assert one.train.fingerprint == two.train.fingerprint
    assert one.content_hash == other.content_hash
    assert (one.train.fingerprint == other.train.fingerprint) == (name == "scenes")


def test_every_promised_data_set_has_a_card():
    assert [card.name for card in data.catalog()] == sorted(OFFLINE + NETWORKED)
    assert [card.name for card in data.catalog(offline=True)] == sorted(OFFLINE)


@pytest.mark.parametrize("name", OFFLINE + NETWORKED)
def test_a_card_answers_every_question(name):
    card = data.card(name)
    for question in ("title", "what", "licence", "citation", "source", "split_rule", "similarity_why"):
        assert len(getattr(card, question)) >= 8, question
    assert card.images > 0
    assert len(set(card.classes)) == len(card.classes) >= 2
    assert card.similarity in ("low", "medium", "high")
    assert bool(card.hash) == (card.offline or name == "hymenoptera")
    assert f"({name})" in repr(card)
    assert html.escape(card.title) in card._repr_html_()
    assert tomllib.loads((Path(__file__).parents[1] / "data" / f"{name}.toml").read_text(encoding="utf-8"))


def test_an_unknown_card_offers_the_nearest():
    with pytest.raises(LearnerError, match="Did you mean 'hymenoptera'"):
        data.card("hymenoptra")


def test_the_cards_are_found_in_an_installed_package_too(tmp_path, monkeypatch):
    (tmp_path / "_cards").mkdir()
    source = (Path(__file__).parents[1] / "data" / "digits.toml").read_bytes()
    (tmp_path / "_cards" / "digits.toml").write_bytes(source)
    monkeypatch.setattr(cards, "_FOLDERS", (tmp_path / "_cards", tmp_path / "nowhere"))
    assert [card.name for card in data.catalog()] == ["digits"]
    monkeypatch.setattr(cards, "_FOLDERS", (tmp_path / "nowhere",))
    with pytest.raises(LearnerError, match="cards are missing"):
        data.catalog()


def test_defects_are_binarised_as_the_card_says():
    ds = data.load("elpv-defects")
    counts = {name: sum(split.counts[name] for split in (ds.train, ds.val, ds.test)) for name in ds.classes}
    assert counts == {"functional": 1803, "defective": 821}
    assert "821" in ds.card.caveats
    assert "1,803" in ds.card.caveats
    assert ds.test.counts["defective"] / len(ds.test) == pytest.approx(821 / 2624, abs=0.01)


def test_a_learner_who_knows_more_can_group_a_packaged_data_set():
    def run_of_ten(path):
        return int(path.stem.removeprefix("cell")) // 10

    ds = data.load("elpv-defects", group_by=run_of_ten)
    runs = [{run_of_ten(path) for path in split.paths} for split in (ds.train, ds.val, ds.test)]
    assert len(set.union(*runs)) == sum(map(len, runs)) == 263
    assert min(len(ds.val), len(ds.test)) > 0.15 * 2624


def test_wafers_and_defects_are_one_collection_of_photographs():
    defects, wafers = data.load("elpv-defects"), data.load("elpv-wafers")
    assert sorted(defects.train.paths) == sorted(wafers.train.paths)  # the same strata, so the same split
    assert wafers.train[0][0].size == (300, 300)


def test_digits_and_mnist_show_the_digit_that_they_are_labelled_with():
    """Against the packages' own arrays, read another way."""
    from sklearn.datasets import load_digits

    ds = data.load("digits")
    bunch = load_digits()
    pictures = (bunch.images * (255 / 16)).round().astype(np.uint8)
    theirs = {picture.tobytes(): label for picture, label in zip(pictures, bunch.target, strict=True)}
    for i in range(0, len(ds.test), 20):
        image, label = ds.test[i]
        assert theirs[np.asarray(image)[..., 0].tobytes()] == label
    mnist = data.load("mnist-5k")
    assert set(mnist.test.counts.values()) == {100}
    assert mnist.test[0][0].size == (28, 28)
    assert np.asarray(mnist.test[0][0]).max() > 200


def test_regions_of_scenes_never_touch():
    for label, place in packaged.PHOTOGRAPHS.items():
        package, _, inside = place.partition("/")
        with Image.open(packaged._package_folder(package, package) / inside) as photo:
            size = photo.size
        spans = {}
        for side in packaged.BANDS:
            boxes = np.array([box for _, box in packaged._list_crops(size, side)])
            assert len(np.unique(boxes, axis=0)) == len(boxes)
            assert (boxes[:, 2:] - boxes[:, :2] == packaged.CROP).all()
            assert (boxes[:, :2] >= 0).all()
            assert (boxes[:, 2:] <= size).all(), label
            spans[side] = boxes[:, 0].min(), boxes[:, 2].max()
        assert spans["train"][1] < spans["val"][0]
        assert spans["val"][1] < spans["test"][0]


def test_a_crop_of_scenes_is_cut_from_its_photograph():
    ds = data.load("scenes")
    image, label = ds.test[0]
    name = ds.classes[label]
    package, _, inside = packaged.PHOTOGRAPHS[name].partition("/")
    photo = data.load_image(packaged._package_folder(package, package) / inside).convert("L")
    boxes = dict(packaged._list_crops(photo.size, "test"))
    assert np.array_equal(np.asarray(image)[..., 0], np.asarray(photo.crop(boxes[ds.test.paths[0].name])))
    assert image.size == (64, 64)


def test_the_photographs_are_in_the_wheels_and_not_downloads():
    import importlib.metadata

    for package, distribution in (("skimage", "scikit-image"), ("sklearn", "scikit-learn")):
        carried = {str(file) for file in importlib.metadata.files(distribution)}
        wanted = {place for place in packaged.PHOTOGRAPHS.values() if place.startswith(package)}
        assert wanted <= carried


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LearnerError, match="pip install elpv-dataset"):
        data.load("elpv-defects")


def test_pictures_that_went_from_the_cache_are_written_again_and_no_other_file_is_touched(empty_cache):
    ds = data.load("digits")
    folder = ds.train.paths[0].parents[1]
    pixels = ds.train[0][0].tobytes()
    ds.train.paths[0].unlink()
    (folder / "0" / "notes.txt").write_text("mine")
    kept = ds.train.paths[1].stat().st_mtime_ns
    again = data.load("digits")
    assert again.train[0][0].tobytes() == pixels
    assert again.train.paths[1].stat().st_mtime_ns == kept
    assert (folder / "0" / "notes.txt").read_text() == "mine"
    assert not list(folder.rglob("*.part"))


IN_THE_WAY = {
    "the folder is a link": lambda folder, mine: folder.symlink_to(mine),
    "a class folder is a link": lambda folder, mine: (folder / "7").symlink_to(mine / "7"),
    "a picture is a link": lambda folder, mine: (
        (folder / "7").mkdir(),
        (folder / "7" / "00000.png").symlink_to(mine / "7" / "00000.png"),
    ),
    "a folder was copied there": lambda folder, mine: shutil.copytree(mine / "7", folder / "7"),
    "a link goes in a circle": lambda folder, mine: (folder / "7").symlink_to(folder / "7"),
    "a link leads nowhere": lambda folder, mine: (folder / "7").symlink_to(mine / "nowhere"),
}


@pytest.mark.parametrize("way", IN_THE_WAY)
def test_no_picture_is_written_over_a_learner_s_own_or_through_a_link(way, empty_cache, tmp_path):
    black = [("7", "", np.zeros((4, 4), np.uint8))]
    folder = packaged.write_pngs("few", black)[0].path.parents[1]
    shutil.rmtree(folder)
    mine = tmp_path / "mine"
    (mine / "7").mkdir(parents=True)
    (mine / "7" / "00000.png").write_bytes(b"my photograph")
    if way != "the folder is a link":
        folder.mkdir()
    IN_THE_WAY[way](folder, mine)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    with pytest.raises(LearnerError, match="It was left as it is"):
        packaged.write_pngs("few", black)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    assert list(mine.rglob("*")) == [mine / "7", mine / "7" / "00000.png"]


def test_pictures_that_were_moved_to_another_disk_are_read_through_a_link(empty_cache, tmp_path):
    black = [("7", "", np.zeros((4, 4), np.uint8))]
    folder = packaged.write_pngs("few", black)[0].path.parents[1]
    (folder.rename(tmp_path / "elsewhere"), folder.symlink_to(tmp_path / "elsewhere"))
    assert packaged.write_pngs("few", black)[0].path.is_file()
    (tmp_path / "elsewhere" / "written.json").unlink()
    with pytest.raises(LearnerError, match="It was left as it is"):
        packaged.write_pngs("few", black)


@pytest.mark.parametrize("note", ["", "[1]", '{"7/00000.png": 3}'])
def test_pictures_whose_note_is_lost_are_known_again(note, empty_cache):
    black = [("7", "", np.zeros((4, 4), np.uint8))]
    before = packaged.write_pngs("few", black)
    note_file = before[0].path.parents[1] / "written.json"
    note_file.write_text(note)
    assert packaged.write_pngs("few", black) == before


@pytest.mark.full
def test_no_two_solar_cells_are_one_picture():
    """The card's claim, measured: look-alikes are few, and no two files hold the same pixels."""
    ds = data.load("elpv-defects")
    paths = sorted(ds.train.paths + ds.val.paths + ds.test.paths)
    images = [data.load_image(path).convert("L") for path in paths]
    thumbs = np.stack([np.asarray(image.resize((32, 32), Image.Resampling.BOX)) for image in images])
    assert len({image.tobytes() for image in images}) == len(paths)
    alike = list_copies(find_copies([str(path) for path in paths], thumbs, [""] * len(paths)).groups)
    assert sum(map(len, alike)) < 0.08 * len(paths)
