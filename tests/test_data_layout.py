"""Which folders are splits and which are classes: by what they hold and their names, or asked about."""

import os
import unicodedata
from pathlib import Path

import pytest
from image_folders import fill, noted, picture

from tlutils import data
from tlutils.data import layout
from tlutils.errors import LearnerError, printable


def lay(root: Path, *tops: str, classes=("cat", "dog"), count: int = 4) -> Path:
    """Images in `root/top/class`, none of them twice."""
    for t, top in enumerate(tops):
        for k, label in enumerate(classes):
            fill(root / top / label, count, first=1000 * t + 100 * k)
    return root


def read(root: Path, **options) -> dict[str, str]:
    """The side of each top folder, read from where the images went."""
    ds = data.load(root, **options)
    assert ds.classes == ["cat", "dog"]
    sides = {}
    for split in (ds.train, ds.val, ds.test):
        for path in split.paths:
            sides.setdefault(path.relative_to(root).parts[0], split.name)
    return sides


@pytest.mark.parametrize(
    ("train", "other", "side"),
    [
        ("Train2017", "Val2017", "val"),
        ("trainset", "testset", "test"),
        ("TrainingData", "HeldOut", "test"),
        ("my-training-images", "my-development-images", "val"),
        ("trainval", "evaluation", "val"),
        ("01_train", "02_hold_out", "test"),
    ],
)
def test_a_word_in_the_name_says_which_split_it_is(tmp_path, train, other, side):
    assert read(lay(tmp_path, train, other))[other] == side
    assert read(tmp_path)[train] == "train"


def test_splits_within_folders_of_their_own_name_and_beside_other_files_are_found(tmp_path):
    lay(tmp_path, "x_train/x_train", "x_test/deep/x_test")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "boxes.json").write_text("{}")
    fill(tmp_path / "to_predict", 2, first=5000)
    picture(6000).save(tmp_path / "x_train" / "x_train" / "sample.png")
    ds = data.load(tmp_path)
    assert ds.classes == ["cat", "dog"]
    assert len(ds.test) == 8
    assert noted(ds, "outside-class") == ["5000.png", "5001.png", "boxes.json", "sample.png"]


@pytest.mark.parametrize(
    "tops",
    [
        ("2019", "2020"),
        ("fold1", "fold2", "fold3"),
        ("site_a", "site_b"),
        ("val", "test"),
        ("train", "extra"),
    ],
)
def test_folders_with_the_same_folders_and_unclear_names_are_asked_about(tmp_path, tops):
    lay(tmp_path, *tops)
    with pytest.raises(LearnerError, match=r"splits, or are they the classes.*cat, dog.*splits=\{") as error:
        data.load(tmp_path)
    assert all(top in str(error.value) for top in tops)
    told = {top: "test" for top in tops} | {tops[0]: "train"}
    assert read(tmp_path, splits=told) == {top: side for top, side in told.items()} | {}
    assert data.load(tmp_path, splits={}).classes == sorted(tops)


@pytest.mark.parametrize(
    "sides",
    [
        {"train": "train", "test": "test"},
        {"Training": "train", "dev": "val", "hold-out": "test"},
        {"01_train": "train", "02_validation": "val"},
    ],
)
def test_splits_inside_of_classes_are_read(tmp_path, sides):
    for k, label in enumerate(("cat", "dog", "test tube")):
        for s, side in enumerate(sides):
            fill(tmp_path / label / side / "deep", 4, first=1000 * k + 100 * s)
    (tmp_path / "annotations").mkdir()
    picture(9000).save(tmp_path / "cat" / "cover.png")
    ds = data.load(tmp_path)
    assert ds.classes == ["cat", "dog", "test tube"]
    assert noted(ds, "outside-class") == ["cover.png"]
    for split in (ds.train, ds.val, ds.test):
        told = {sides[path.relative_to(tmp_path).parts[1]] for path in split.paths}
        assert told == {split.name if split.name in sides.values() else "train"}


@pytest.mark.parametrize(
    ("cat", "dog"),
    [
        (("train", "test"), ("train",)),
        (("train", "test"), ("test",)),
        (("train", "test"), ("2019", "2020")),
        (("train", "test"), (".",)),
        (("train",), ("test",)),
        (("train", "Train", "test"), ("train", "test")),
        (("train", "test", "more"), ("train",)),
        (("train", "test"), ("train", "val")),
        (("photos/train", "photos/test"), ("train", "test")),
        (("photos/train", "photos/test"), ("photos/train", "photos/test")),
        (("val", "test"), ("val", "test")),
        (("2019", "2020"), ("2019", "2020")),
    ],
)
def test_splits_inside_of_classes_that_are_not_clear_are_asked_about(tmp_path, cat, dog):
    for k, (label, inner) in enumerate({"cat": cat, "dog": dog}.items()):
        for s, side in enumerate(inner):
            fill(tmp_path / label / side, 5, first=1000 * k + 100 * s)
    with pytest.raises(LearnerError, match=r"splits, or are they .*splits=\{\}"):
        data.load(tmp_path)
    assert data.load(tmp_path, splits={}).classes == ["cat", "dog"]


@pytest.mark.parametrize(
    ("cat", "dog"),
    [
        (("Train", "test"), ("train", "Test")),
        (("training", "dev"), ("train_set", "validation")),
        (("01_train", "02_test"), ("TRAIN", "TEST")),
    ],
)
def test_splits_inside_of_classes_may_be_written_in_several_ways(tmp_path, cat, dog):
    for k, (label, inner) in enumerate({"cat": cat, "dog": dog}.items()):
        for s, side in enumerate(inner):
            fill(tmp_path / label / side, 5, first=1000 * k + 100 * s)
    ds = data.load(tmp_path)
    assert ds.classes == ["cat", "dog"]
    given = [path for split in (ds.val, ds.test) for path in split.paths]
    assert {path.parts[-2] for path in ds.train.paths} == {cat[0], dog[0]}
    assert {cat[1], dog[1]} <= {path.parts[-2] for path in given}


@pytest.mark.parametrize("inner", [("train", "car"), ("morning", "evening"), ("test tube",)])
def test_folders_inside_of_classes_that_speak_of_one_split_at_most_are_parts_of_them(tmp_path, inner):
    fill(tmp_path / "animals" / "cat", 5)
    for k, part in enumerate(inner):
        fill(tmp_path / "things" / part, 5, first=100 * (k + 1))
    assert data.load(tmp_path).classes == ["animals", "things"]


def test_the_words_of_the_learner_are_checked(tmp_path):
    lay(tmp_path, "a", "b")
    for wrong, words in (
        ({"a": "train", "c": "test"}, "no folder called 'c'"),
        ({"a": "train", "b": "dev"}, "'train', 'val' or 'test'"),
        ({"a": "val", "b": "test"}, "no folder to train on"),
    ):
        with pytest.raises(LearnerError, match=words):
            data.load(tmp_path, splits=wrong)


@pytest.mark.parametrize(
    "classes",
    [("train", "tram", "bus"), ("dev board", "test tube", "valid"), ("training shoe", "boot")],
)
def test_classes_may_be_called_like_splits(tmp_path, classes):
    for k, label in enumerate(classes):
        fill(tmp_path / label, 5, first=100 * k)
    fill(tmp_path / classes[0] / "more", 2, first=900)
    assert data.load(tmp_path).classes == sorted(classes)


def test_images_without_labels_in_train_and_test_are_asked_about(tmp_path):
    fill(tmp_path / "train", 6)
    fill(tmp_path / "test1", 6, first=50)
    with pytest.raises(LearnerError, match="none has a label"):
        data.load(tmp_path)
    assert data.load(tmp_path, splits={}).classes == ["test1", "train"]


def test_a_lone_train_folder_beside_folders_of_images_is_asked_about(tmp_path):
    lay(tmp_path, "train")
    fill(tmp_path / "unlabelled", 3, first=700)
    with pytest.raises(LearnerError, match="named like a split"):
        data.load(tmp_path)
    assert read(tmp_path, splits={"train": "train"}).keys() == {"train"}


def test_two_folders_for_one_split_are_asked_about_and_can_be_told(tmp_path):
    lay(tmp_path, "train", "test", "holdout")
    with pytest.raises(LearnerError, match="both mean test"):
        data.load(tmp_path)
    assert set(read(tmp_path, splits={"train": "train", "test": "val", "holdout": "test"}).values()) == {
        "train",
        "val",
        "test",
    }


def test_every_word_means_one_split():
    words = [word for known in layout.WORDS.values() for word in known]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("name", ["Müller", "Å", "한글"])
def test_a_class_written_with_other_unicode_letters_is_the_same_class(tmp_path, name):
    for s, side in enumerate(("train", "val")):
        form = unicodedata.normalize("NFC" if side == "train" else "NFD", name)
        fill(tmp_path / side / form, 4, first=100 * s)
        fill(tmp_path / side / "other", 4, first=100 * s + 50)
    ds = data.load(tmp_path)
    assert ds.classes == sorted(["other", unicodedata.normalize("NFC", name)])
    assert ds.val.counts == dict.fromkeys(ds.classes, 4)
    assert len(noted(ds, "two-forms")) == 1


@pytest.mark.parametrize(
    ("name", "alike"), [("cat ", 1), ("ｃat", 1), ("c\u00a0at", 1), ("cats", 0), ("ca_t", 0)]
)
def test_classes_that_look_alike_are_mentioned(tmp_path, name, alike):
    for first, folder in enumerate((name, "cat", "dog")):
        fill(tmp_path / folder, 4, first=50 * first)
    ds = data.load(tmp_path)
    assert len(ds.classes) == 3
    assert len(noted(ds, "alike-names")) == alike
    assert all(repr(name) in problem.message for problem in ds.problems)


@pytest.mark.skipif(os.name == "nt", reason="names that are no text exist on Unix only")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"gr\xfcn", "gr\\xfcn"),
        (b"two\nlines", "two\\x0alines"),
        (b"\x1b[31mred", "\\x1b[31mred"),
        ("der\u202e1".encode(), "der\\u202e1"),
        ("r\u200bed".encode(), "r\\u200bed"),
    ],
)
def test_a_name_that_is_no_text_is_shown_escaped_wherever_it_stands(tmp_path, name, shown):
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    try:
        fill(root / root.name, 6)
    except OSError:
        pytest.skip("this file system takes only valid names")
    fill(root / "other", 6, first=100)
    (root / root.name / f"{root.name}.png").write_bytes((root / root.name / "000.png").read_bytes())
    (root / "other" / f"{root.name}.jpg").write_bytes(b"")
    ds = data.load(root)
    assert shown in ds.classes
    assert ds.name == shown
    messages = "\n".join(problem.message for problem in ds.problems)
    for text in (repr(ds), str(ds.card), ds.card._repr_html_(), messages, *ds.train.counts):
        text.encode("utf-8")
        assert shown in text or text == "other"
        assert "\x1b" not in text
    assert ds.train[0][0].mode == "RGB"
    with pytest.raises(LearnerError) as error:
        data.load(root / root.name)
    str(error.value).encode("utf-8")
    assert "\n" in root.name or printable(str(root)) in str(error.value)
