"""Shards are read where they stand, as the folders they were made of; nothing in an archive is unpacked."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from image_folders import all_paths, fill, huge_png, noted, picture

from tlutils import advisor, data, deploy, features, models
from tlutils.data import files
from tlutils.errors import LearnerError


@pytest.fixture
def pets(tmp_path):
    """Ten cats and ten dogs in a folder."""
    fill(tmp_path / "pets" / "cat", 10)
    fill(tmp_path / "pets" / "dog", 10, first=100)
    return tmp_path / "pets"


def png(seed):
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


def add(archive, name, content=b"", **header):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in header.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


def shard(path, contents):
    """Write {name: content} as a tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            add(archive, name, content if isinstance(content, bytes) else content.encode())
    return path


def samples(labels, first=0, write=lambda k: {"cls": str(k)}):
    """Samples of WebDataset: an image each, beside what says its label."""
    found = {}
    for i, label in enumerate(labels, first):
        found[f"{i:04d}.png"] = png(i)
        found |= {f"{i:04d}.{ending}": text for ending, text in write(label).items()}
    return found


def test_what_is_written_is_loaded_with_the_same_splits_labels_and_pictures(pets, tmp_path):
    ds = data.load(pets)
    paths = data.write_shards(ds, tmp_path / "shards", images=5)
    assert [path.name for path in paths][:4] == [f"train-{k:06d}.tar" for k in range(3)] + ["val-000000.tar"]
    for named in (tmp_path / "shards", str(tmp_path / "shards") + "/train-{000000..000002}.tar"):
        again = data.load(named)
        assert again.classes == ds.classes
        if named == tmp_path / "shards":
            for a, b in zip((ds.train, ds.val, ds.test), (again.train, again.val, again.test), strict=True):
                assert (a.hashes, a.labels, a.fingerprint) == (b.hashes, b.labels, b.fingerprint)
                assert all(np.array_equal(a[i][0], b[i][0]) for i in range(len(a)))
                assert pickle.loads(pickle.dumps(b))[0][1] == b.labels[0]
        else:
            assert sum(map(len, (again.train, again.val, again.test))) == len(ds.train)
    with pytest.raises(LearnerError, match="has tar files already"):
        data.write_shards(ds, tmp_path / "shards")


def test_features_of_shards_are_those_of_the_files_and_take_no_second_pass(pets, tmp_path):
    model, ds = models.load("test_resnet", pretrained=False, input_size=32), data.load(pets)
    data.write_shards(ds, tmp_path / "shards")
    rows = np.array(features.extract(model, ds.train, at="pool")["pool"])
    again = data.load(tmp_path / "shards")
    seen = again.train.images_read
    kept = features.extract(model, again.train, at="pool")
    assert np.array_equal(kept["pool"], rows)
    assert again.train.images_read - seen < 4, "a trial alone"


@pytest.mark.parametrize("write", [lambda k: {"cls": k}, lambda k: {"json": json.dumps({"label": k})}])
def test_labels_stand_beside_the_images(write, tmp_path):
    labels = [str(i % 11) for i in range(44)]
    shard(tmp_path / "s" / "part-0.tar", samples(labels[:22], 0, write))
    shard(tmp_path / "s" / "part-1.tar", samples(labels[22:], 22, write))
    ds = data.load(tmp_path / "s")
    assert ds.classes == [str(k) for k in range(11)], "in the order of their numbers"
    assert sorted(all_paths(ds)) == sorted(
        tmp_path / "s" / f"part-{i // 22}.tar" / f"{i:04d}.png" for i in range(44)
    )
    for split in (ds.train, ds.val, ds.test):
        assert [labels[int(path.stem)] for path in split.paths] == [ds.classes[k] for k in split.labels]


def test_names_win_over_numbers_and_what_has_no_label_or_a_second_image_is_said(tmp_path):
    inside = samples(["cat", "dog"] * 5, 0, lambda k: {"cls": "7", "json": json.dumps({"class": k})})
    inside |= {"lost.png": png(50), "0000.mask.png": png(51), "odd.png": png(52), "odd.json": "[[{"}
    ds = data.load(shard(tmp_path / "pets.tar", inside))
    assert ds.classes == ["cat", "dog"]
    assert (ds.name, len(all_paths(ds))) == ("pets", 10)
    assert noted(ds, "outside-class") == ["lost.png", "odd.png"]
    assert noted(ds, "ignored") == ["0000.mask.png"]


@pytest.mark.parametrize("above", ["", "pets/"])
def test_a_folder_that_was_packed_whole_is_read_as_that_folder(above, tmp_path):
    names = ("train", "test")
    inside = {
        f"{above}{side}/{kind}/{i}.png": png(1000 * k + 100 * j + i)
        for k, side in enumerate(names)
        for j, kind in enumerate(("cat", "dog"))
        for i in range(5)
    }
    ds = data.load(shard(tmp_path / "pets.tar", inside | {f"{above}train/._cat": b"junk"}))
    assert (ds.classes, len(ds.test), len(ds.train) + len(ds.val)) == (["cat", "dog"], 10, 10)
    assert all("/test/" in path.as_posix() for path in ds.test.paths)
    assert noted(ds, "ignored") == ["._cat"]


def test_names_of_shards_are_splits_and_what_they_do_not_say_is_asked(tmp_path):
    for k, name in enumerate(("train-0", "other-0")):
        shard(tmp_path / f"{name}.tar", samples(["cat", "dog"] * 5, 100 * k))
    with pytest.raises(LearnerError, match=r"splits=\{'other': …, 'train': …\}"):
        data.load(tmp_path)
    ds = data.load(tmp_path, splits={"train": "train", "other": "test"})
    assert {path.parent.name for path in ds.test.paths} == {"other-0.tar"}
    assert len(ds.test) == 10
    assert len(data.load(tmp_path, splits={}).train) == 12


def test_a_hostile_archive_is_read_as_bytes_and_nothing_outside_of_it(pets, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(999))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for i in range(10):
            add(archive, f"{'cat' if i % 2 else 'dog'}/{i}.png", png(i))
        add(archive, "cat/../../secret.png", png(20))
        add(archive, str(secret), png(21))
        add(archive, r"C:\cat\22.png", png(22))
        add(archive, "cat/link.png", type=tarfile.SYMTYPE, linkname=str(secret))
        add(archive, "cat/hard.png", type=tarfile.LNKTYPE, linkname="cat/1.png")
        add(archive, "cat/fifo.png", type=tarfile.FIFOTYPE)
        add(archive, "cat/bomb.png", huge_png(20_000, 20_000))
        add(archive, "cat/1.png", png(1))
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    ds = data.load(tmp_path / "x.tar")
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*")} == before
    assert sorted(path.stem for path in all_paths(ds)) == [str(i) for i in range(10)]
    assert len(noted(ds, "ignored")) == 7
    assert noted(ds, "too-large") == ["bomb.png"]
    outside = tmp_path / "x.tar" / "cat" / ".." / ".." / "secret.png"
    for path in (outside, tmp_path / "x.tar" / "nothing.png"):
        with pytest.raises(LearnerError, match="no such file"):
            data.load_image(path)


@pytest.mark.parametrize("damage", ["cut", "compressed"])
def test_a_shard_that_is_cut_short_or_compressed_is_said(damage, tmp_path):
    good = shard(tmp_path / "s" / "a.tar", samples(["cat", "dog"] * 5))
    bad = shard(tmp_path / "s" / "b.tar", samples(["cat", "dog"], 100))
    if damage == "cut":
        bad.write_bytes(bad.read_bytes()[:2000])
    else:
        with tarfile.open(bad, "w:gz") as archive:
            add(archive, "x.png", png(0))
    ds = data.load(tmp_path / "s")
    assert {path.parent for path in all_paths(ds)} == {good}
    assert ("0100.png" if damage == "cut" else "b.tar") in noted(ds, "broken")


def test_headers_are_read_once_and_a_shard_that_changed_is_noticed(tmp_path, monkeypatch):
    path = shard(tmp_path / "s" / "a.tar", samples(["cat", "dog"] * 5))
    split = data.load(tmp_path / "s").train
    assert split.changed == []
    files._index.cache_clear()
    with monkeypatch.context() as shut:
        shut.setattr(files.tarfile, "open", None)
        assert data.load(tmp_path / "s").train.hashes == split.hashes
    shard(path, samples(["cat", "dog"] * 5, 0) | {split.paths[0].name: png(77)})
    assert split.changed == [split.paths[0]]


@pytest.mark.parametrize(
    ("named", "says"),
    [("none-{00..03}.tar", "4 tar files, and 4"), ("no.tar", "missing"), ("*.tar", "0 tar files")],
)
def test_shards_that_are_missing_are_said(named, says, tmp_path):
    with pytest.raises(LearnerError, match=says.replace("{", r"\{")):
        data.load(tmp_path / named)


def test_a_model_predicts_the_images_of_shards_as_those_of_the_folder(pets, tmp_path):
    shards = tmp_path / "shards"
    data.write_shards(data.load(pets), shards, images=5)
    model = models.load("test_resnet", pretrained=False, num_classes=2, input_size=32, seed=0)
    more = shard(tmp_path / "more.tar", {"1.png": png(1), "1.txt": "a caption", "._1.png": b"of a program"})
    folder = deploy.predict(model, [pets])
    for named in ([shards], [shards / "*.tar"], sorted(shards.glob("*.tar"))):
        table = deploy.predict(model, named)
        assert sorted(table["probability"]) == pytest.approx(sorted(folder["probability"]), abs=1e-6)
        assert not table["note"].any()
    assert deploy.predict(model, [more])["file"].tolist() == [str(more / "1.png")]
    with pytest.raises(LearnerError, match="missing"):
        deploy.predict(model, [shards / "no.tar"])


def test_images_without_any_label_are_said(tmp_path):
    with pytest.raises(LearnerError, match=r"ends in \.cls or \.json"):
        data.load(shard(tmp_path / "a.tar", {"1.png": png(1), "2.png": png(2)}))


@pytest.mark.full
def test_the_images_of_shards_are_audited_as_files_are(pets, tmp_path):
    fill(pets / "dog", 1, first=300)[0].write_bytes(huge_png(64, 64))  # all black
    found = []
    ds = data.load(pets)
    data.write_shards(ds, tmp_path / "shards")
    for dataset in (ds, data.load(tmp_path / "shards")):
        known = dataset.train.join(dataset.val).join(dataset.test)
        found.append({f.code: len(f.paths) for f in advisor.images.audit_images(known, dataset.problems)})
    assert "dark" in found[0]
    assert found[0] == found[1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it closes no file
def test_webdataset_reads_what_is_written(pets, tmp_path):
    import webdataset

    ds = data.load(pets)
    (path, *_) = data.write_shards(ds, tmp_path / "shards")
    read = list(webdataset.WebDataset(str(path), shardshuffle=False).decode())
    assert [sample["cls"] for sample in read] == ds.train.labels
    assert [sample["json"]["class"] for sample in read] == [ds.classes[k] for k in ds.train.labels]
    with webdataset.TarWriter(str(tmp_path / "theirs.tar")) as sink:
        for i, label in enumerate(["cat", "dog"] * 5):
            sink.write({"__key__": f"{i:03d}", "png": png(i), "cls": label.encode()})
    assert data.load(tmp_path / "theirs.tar").classes == ["cat", "dog"]
