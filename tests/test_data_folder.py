"""Any folder of images: what people really have on disk ends in honest splits or in words that help."""

import os
import pickle
import shutil
import struct
import unicodedata
from pathlib import Path

import pytest
from image_folders import all_paths, fill, heic, huge_png, noted, picture

from tlutils import data
from tlutils.data import scan
from tlutils.errors import LearnerError


@pytest.fixture
def root(tmp_path):
    """Ten cats and ten dogs."""
    fill(tmp_path / "pets" / "cat", 10)
    fill(tmp_path / "pets" / "dog", 10, first=100)
    return tmp_path / "pets"


def test_a_plain_folder_gives_three_splits_with_every_image_in_one(root):
    ds = data.load(root)
    assert ds.classes == ["cat", "dog"]
    assert sorted(all_paths(ds)) == sorted(root.rglob("*.png"))
    assert [len(ds.train), len(ds.val), len(ds.test)] == [12, 4, 4]
    assert ds.problems == []
    for split in (ds.train, ds.val, ds.test):
        assert [path.parent.name for path in split.paths] == [ds.classes[k] for k in split.labels]
        assert set(split.labels) == {0, 1}
        image, label = split[0]
        assert image.mode == "RGB"
        assert label == split.labels[0]
        assert sum(1 for _ in split) == len(split)


def test_a_folder_can_be_named_by_text_and_is_only_read(root, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    monkeypatch.chdir(root.parent)
    assert len(all_paths(data.load("pets"))) == 20
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_hidden_folders_and_files_never_become_classes_or_samples(root):
    """B01, B02: Jupyter's checkpoints, macOS companions, at any depth."""
    shutil.copytree(root / "cat", root / ".ipynb_checkpoints")
    shutil.copytree(root / "cat", root / "dog" / ".ipynb_checkpoints")
    shutil.copytree(root / "cat", root / "__MACOSX" / "cat")
    (root / "cat" / "deep").mkdir()
    (root / "cat" / "deep" / "._1.jpg").write_bytes(b"junk" * 100)
    (root / "cat" / ".DS_Store").write_bytes(b"junk")
    ds = data.load(root)
    assert ds.classes == ["cat", "dog"]
    assert len(all_paths(ds)) == 20
    expected = [".DS_Store", "._1.jpg", ".ipynb_checkpoints", ".ipynb_checkpoints", "__MACOSX"]
    assert noted(ds, "ignored") == sorted(expected)


def test_what_is_listed_to_be_predicted_is_what_loading_would_find(root):
    (root / ".thumbnails").mkdir()
    shutil.copy(next((root / "cat").iterdir()), root / ".thumbnails")
    (root / "cat" / "more").symlink_to(root / "dog", target_is_directory=True)
    assert set(data.list_files(root)) == {path for path in root.rglob("*.*") if ".thumb" not in str(path)}
    assert {path.resolve() for path in data.list_files(root / "cat")} == {
        *(path.resolve() for path in all_paths(data.load(root)))
    }


@pytest.mark.parametrize("content", ["nothing", "text", "broken", "heic"])
def test_a_class_without_images_is_an_error_by_default_that_names_it_and_says_why(root, content):
    """B03, B09."""
    (root / "bird").mkdir()
    if content == "text":
        (root / "bird" / "list.txt").write_text("robin")
    elif content == "broken":
        (root / "bird" / "robin.jpg").write_bytes(b"")
    elif content == "heic":
        (root / "bird" / "robin.heic").write_bytes(heic())
    why = {"nothing": "bird", "text": "list.txt", "broken": "robin.jpg.*empty", "heic": "robin.heic.*HEIC"}[
        content
    ]
    with pytest.raises(
        LearnerError, match=rf"(?s)'bird'.*{why if content != 'nothing' else ''}.*empty='drop'"
    ):
        data.load(root)


def test_the_other_policies_drop_or_keep_the_empty_class_and_never_renumber_silently(root):
    (root / "bird").mkdir()
    dropped, kept = data.load(root, empty="drop"), data.load(root, empty="keep")
    assert dropped.classes == ["cat", "dog"]
    assert kept.classes == ["bird", "cat", "dog"]
    assert set(kept.train.labels) == {1, 2}
    assert kept.train.counts["bird"] == 0
    with pytest.raises(LearnerError, match="'error' or 'drop' or 'keep'"):
        data.load(root, empty="ignore")


def test_broken_files_are_found_at_the_scan_and_listed_with_their_paths(root):
    """B05."""
    whole = (root / "cat" / "000.png").read_bytes()
    (root / "cat" / "cut.png").write_bytes(whole[: int(0.6 * len(whole))])
    (root / "cat" / "zero.jpg").write_bytes(b"")
    (root / "dog" / "text.jpg").write_text("not a picture")
    (root / "dog" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    ds = data.load(root)
    assert len(all_paths(ds)) == 20
    bad = {p.path.name: p.message for p in ds.problems}
    assert set(bad) == {"cut.png", "zero.jpg", "text.jpg", "gone.jpg"}
    assert all(bad.values())


def test_an_unsupported_or_misnamed_file_is_handled_by_content(root):
    """B09."""
    picture(50).save(root / "cat" / "bitmap.jpg", format="BMP")
    picture(51).save(root / "cat" / "no_ending", format="JPEG")
    (root / "cat" / "IMG.jpg").write_bytes(heic())
    (root / "cat" / "IMG.HEIC").write_bytes(heic())
    (root / "cat" / "readme.md").write_text("about these cats")
    ds = data.load(root)
    assert {"bitmap.jpg", "no_ending"} <= {path.name for path in all_paths(ds)}
    assert noted(ds, "unsupported") == ["IMG.HEIC", "IMG.jpg"]
    assert noted(ds, "not-an-image") == ["readme.md"]
    assert all("pillow-heif" in p.message for p in ds.problems if p.kind == "unsupported")


def test_endings_in_any_case_count_once(root):
    """B10."""
    for i, name in enumerate(["a.JPG", "b.Jpeg", "c.png"]):
        picture(200 + i).save(root / "cat" / name, format="PNG" if name.endswith("png") else "JPEG")
    ds = data.load(root)
    assert sum(path.parent.name == "cat" for path in all_paths(ds)) == 13


def test_names_in_any_script_survive_load_split_cache_and_pickle(tmp_path):
    """B11."""
    names = ["Käse 日本", "100% #1 [a]", unicodedata.normalize("NFD", "Ölbild"), "-dash"]
    for k, name in enumerate(names):
        fill(tmp_path / "r ü" / name, 6, first=10 * k)
        picture(10 * k + 9).save(tmp_path / "r ü" / name / "🐈 #1 50%.png")
    first = data.load(tmp_path / "r ü")
    again = pickle.loads(pickle.dumps(data.load(tmp_path / "r ü")))
    assert first.classes == again.classes == sorted(names)
    assert all_paths(first) == all_paths(again)
    assert first.train.fingerprint == again.train.fingerprint
    for split in (again.train, again.val, again.test):
        for i in range(len(split)):
            assert split[i][0].mode == "RGB"


@pytest.mark.skipif(os.name == "nt", reason="names that are no text exist on Unix only")
def test_a_name_that_is_no_text_is_still_a_file(root):
    try:
        shutil.copy(root / "cat" / "000.png", os.fsencode(root / "cat") + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes only valid names")
    assert len(all_paths(data.load(root))) == 21
    assert len(all_paths(data.load(root))) == 21


def test_a_wrapper_folder_is_an_error_that_suggests_the_deeper_root(root):
    """B12."""
    with pytest.raises(LearnerError) as error:
        data.load(root.parent)
    assert str(root) in str(error.value)
    assert "cat" in str(error.value)
    twice = root.parent / "zip" / "archive"
    twice.mkdir(parents=True)
    shutil.move(root, twice / "pets")
    with pytest.raises(LearnerError, match=r"archive.pets instead"):
        data.load(root.parent / "zip")


def test_a_wrapper_around_splits_is_seen_too(tmp_path):
    for side in ("train", "val"):
        for k, name in enumerate(("cat", "dog")):
            fill(tmp_path / "out" / "pets" / side / name, 4, first=10 * k + 40 * (side == "val"))
    with pytest.raises(LearnerError, match=r"out.pets instead"):
        data.load(tmp_path / "out")
    assert data.load(tmp_path / "out" / "pets").classes == ["cat", "dog"]


def test_images_below_a_class_are_found_at_any_depth(root):
    """B12."""
    (root / "cat" / "batch1" / "monday").mkdir(parents=True)
    for path in sorted((root / "cat").glob("00*.png")):
        path.rename(root / "cat" / "batch1" / "monday" / path.name)
    ds = data.load(root)
    assert ds.classes == ["cat", "dog"]
    assert len(all_paths(ds)) == 20


def test_images_without_a_class_are_noted(root):
    picture(300).save(root / "loose.png")
    assert noted(data.load(root), "outside-class") == ["loose.png"]


@pytest.mark.parametrize("side", [10_000, 14_000])  # where Pillow warns, and where it raises
def test_a_huge_picture_is_set_aside_and_the_rest_is_usable(root, side):
    """B17."""
    (root / "cat" / "huge.png").write_bytes(huge_png(side, side))
    ds = data.load(root)
    assert noted(ds, "too-large") == ["huge.png"]
    assert len(all_paths(ds)) == 20


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "Testing")])
def test_a_folder_laid_out_by_splits_keeps_them(tmp_path, names):
    for s, side in enumerate(names):
        for k, label in enumerate(("cat", "dog")):
            fill(tmp_path / side / label, 3, first=100 * s + 10 * k)
    ds = data.load(tmp_path)
    for side, split in zip(names, (ds.train, ds.val, ds.test), strict=True):
        assert {path.parent.parent.name for path in split.paths} == {side}
        assert split.labels == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_split_is_carved_out_of_train_alone(tmp_path, missing):
    present = ({"val", "test"} - {missing}).pop()
    for s, side in enumerate(("train", present)):
        for k, label in enumerate(("cat", "dog")):
            fill(tmp_path / side / label, 10, first=100 * s + 10 * k)
    ds = data.load(tmp_path)
    assert len(getattr(ds, present)) == 20
    assert len(ds.train) + len(getattr(ds, missing)) == 20
    assert getattr(ds, missing).counts == {"cat": 2, "dog": 2}


def test_test_images_without_labels_are_noted_and_a_test_split_is_carved(tmp_path):
    for k, label in enumerate(("cat", "dog")):
        fill(tmp_path / "train" / label, 10, first=10 * k)
    fill(tmp_path / "test", 3, first=50)
    ds = data.load(tmp_path)
    assert len(ds.test) == 4
    assert len(noted(ds, "outside-class")) == 3


def test_a_class_may_be_called_train(tmp_path):
    for k, label in enumerate(("bus", "train", "tram")):
        fill(tmp_path / label, 5, first=10 * k)
    assert data.load(tmp_path).classes == ["bus", "train", "tram"]


def test_a_class_that_is_missing_in_train_is_an_error(tmp_path):
    for s, side in enumerate(("train", "val", "test")):
        for k, label in enumerate(("cat", "dog", "owl") if side == "test" else ("cat", "dog")):
            fill(tmp_path / side / label, 3, first=100 * s + 10 * k)
    with pytest.raises(LearnerError, match="'owl'"):
        data.load(tmp_path)
    assert set(data.load(tmp_path, empty="drop").test.labels) == {0, 1}


def test_a_picture_in_two_given_splits_leaves_train(tmp_path):
    for s, side in enumerate(("train", "val", "test")):
        for k, label in enumerate(("cat", "dog")):
            fill(tmp_path / side / label, 4, first=100 * s + 10 * k)
    picture(200).save(tmp_path / "train" / "cat" / "leak.png")  # the picture of test/cat/200.png
    picture(210).save(tmp_path / "train" / "dog" / "leak.jpg", quality=80)
    ds = data.load(tmp_path)
    assert noted(ds, "in-two-splits") == ["leak.jpg", "leak.png"]
    assert len(ds.test) == 8
    assert len(ds.train) == 8


def test_a_second_scan_opens_only_what_changed(root, monkeypatch):
    first = data.load(root)
    opened = []
    scan_file = scan._scan_file
    monkeypatch.setattr(scan, "_scan_file", lambda path, **bits: opened.append(path.name) or scan_file(path))
    again = data.load(root)
    assert opened == []
    assert [again.train.fingerprint, again.classes] == [first.train.fingerprint, first.classes]
    picture(999).save(root / "cat" / "000.png")
    os.utime(root / "cat" / "000.png", ns=(1, 1))
    changed = data.load(root)
    assert opened == ["000.png"]
    assert changed.content_hash != first.content_hash


def test_a_damaged_scan_cache_is_replaced(root):
    from tlutils import runtime

    first = data.load(root)
    for store in runtime.cache_dir("scans").glob("*.npz"):
        store.write_bytes(b"half a file")
    assert data.load(root).content_hash == first.content_hash


def test_links_are_followed_without_end(root, tmp_path):
    fill(tmp_path / "elsewhere", 5, first=700)
    (root / "owl").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "owl2").symlink_to(root / "owl" / "..", target_is_directory=True)
    (root / "cat" / "round").symlink_to(root, target_is_directory=True)
    shutil.rmtree(root / "dog")
    (root / "owl2").unlink()
    ds = data.load(root)
    assert ds.classes == ["cat", "owl"]
    assert len(all_paths(ds)) == 15


def test_folders_that_cannot_work_say_what_is_wrong(tmp_path, root):
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "flat", 3)
    fill(tmp_path / "single" / "cat", 5)
    shutil.make_archive(str(tmp_path / "pets"), "zip", root)
    for place, words in {
        "empty": "no class folders. It is empty",
        "flat": "no class folders. It holds 3 files",
        "single": "fewer than two classes.*'cat'",
        "missing": "There is no folder",
        "pets.zip": "Unpack it",
        "flat/000.png": "is a file",
    }.items():
        with pytest.raises(LearnerError, match=words):
            data.load(tmp_path / place)


def test_a_folder_that_may_not_be_read_says_so(root, monkeypatch):
    real = os.scandir

    def denied(path):
        if Path(path).name in shut:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    shut = {"pets"}
    with pytest.raises(LearnerError, match="cannot be read"):
        data.load(root)
    shut = {"private"}
    (root / "cat" / "private").mkdir()
    assert noted(data.load(root), "unreadable") == ["private"]


def test_a_name_that_is_neither_data_set_nor_folder_offers_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LearnerError, match=r"'elpv-defect'.*Did you mean 'elpv-defects'"):
        data.load("elpv-defect")
    (tmp_path / "digits").mkdir()
    with pytest.raises(LearnerError, match="no class folders"):
        data.load(Path("digits"))  # a Path is always a folder


def test_a_placeholder_picture_is_set_aside_by_its_content(root, monkeypatch):
    import hashlib

    picture(400).save(root / "cat" / "missing.png")
    digest = hashlib.sha256((root / "cat" / "missing.png").read_bytes()).hexdigest()
    monkeypatch.setitem(scan.PLACEHOLDERS, digest, "a stand-in")
    assert noted(data.load(root), "placeholder") == ["missing.png"]


def test_a_damaged_exif_entry_warns_nobody_and_costs_no_picture(root):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x010E, 2, 5000, 9999) + b"\0\0\0\0"
    picture(500).save(root / "cat" / "odd.jpg", exif=exif)
    assert "odd.jpg" in {path.name for path in all_paths(data.load(root))}


def test_the_card_of_a_folder_counts_it_and_promises_nothing(root):
    card = data.load(root).card
    assert (card.name, card.images, card.classes) == ("pets", 20, ("cat", "dog"))
    assert card.licence == "not stated"
    assert card.similarity == "unknown"
