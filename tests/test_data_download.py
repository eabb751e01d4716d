"""Data sets from the network arrive whole and checked, or one error says why not and what to do instead.

Every download here is real, from a server that the test starts on this machine.
"""

import io
import os
import re
import shutil
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from image_folders import all_paths, fill, noted
from torchvision import datasets

from tlutils import data, runtime
from tlutils.data import networked
from tlutils.errors import LearnerError

pytestmark = pytest.mark.usefixtures("empty_cache")


@contextmanager
def serving(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class BrokenInMidFile(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"PK" * 1000)

    def log_message(self, *args):
        pass


class Absent(BrokenInMidFile):
    def do_GET(self):
        self.send_error(404)


@pytest.fixture
def insects(tmp_path):
    """A small stand-in, laid out as the official archive: hymenoptera_data/{train,val}/{ants,bees}."""
    root = tmp_path / "made" / "hymenoptera_data"
    for s, side in enumerate(("train", "val")):
        for k, label in enumerate(("ants", "bees")):
            fill(root / side / label, 10, first=100 * s + 20 * k, ending="jpg")
    return root


def zipped(folder: Path, into: Path) -> Path:
    into.mkdir(exist_ok=True)
    with zipfile.ZipFile(into / "hymenoptera_data.zip", "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
        archive.writestr("__MACOSX/._x", b"junk")
    return into


def test_a_data_set_of_torchvision_cannot_be_listed_without_its_images():
    known = {item.name: getattr(networked.OFFICIAL["dtd"], item.name) for item in fields(networked.Official)}
    del known["samples"]
    with pytest.raises(TypeError, match="samples"):
        networked.Official(**known)


@pytest.fixture
def official(monkeypatch):
    """Point the data set at another address and content."""

    def point(url: str, tree: str) -> None:
        monkeypatch.setattr(networked.load_hymenoptera, "__defaults__", (f"{url}/hymenoptera_data.zip", tree))

    return point


def in_cache() -> list[str]:
    return sorted(p.name for p in (runtime.cache_dir() / "data").iterdir() if not p.name.endswith(".lock"))


def test_a_good_archive_is_fetched_once_checked_and_split(insects, tmp_path, official):
    with serving(partial(Quiet, directory=zipped(insects, tmp_path / "www"))) as url:
        official(url, networked.hash_tree(insects))
        ds = data.load("hymenoptera")
    assert in_cache() == ["hymenoptera_data"]
    assert ds.card.name == "hymenoptera"
    assert {path.parent.parent.name for path in ds.test.paths} == {"val"}  # the official val is our test
    assert {path.parent.parent.name for path in ds.train.paths + ds.val.paths} == {"train"}
    assert [len(ds.train), len(ds.val), len(ds.test)] == [16, 4, 20]
    assert data.load("hymenoptera").test.fingerprint == ds.test.fingerprint  # the server is gone by now


def test_the_real_archive_is_what_the_card_says(tmp_path, official):
    beside = Path(__file__).parents[2] / "shared" / "data" / "hymenoptera_data"
    real = Path(os.environ.get("TLUTILS_TEST_HYMENOPTERA", beside))
    if not real.is_dir():
        pytest.skip(f"{real} is not here; TLUTILS_TEST_HYMENOPTERA can name an unpacked hymenoptera_data")
    with serving(partial(Quiet, directory=zipped(real, tmp_path / "www"))) as url:
        official(url, networked.HYMENOPTERA_TREE)
        ds = data.load("hymenoptera")
    assert ds.content_hash == ds.card.hash
    assert len(all_paths(ds)) == ds.card.images
    assert tuple(ds.classes) == ds.card.classes
    assert noted(ds, "placeholder") == ["imageNotFound.gif"]
    assert ds.test.counts == {"ants": 70, "bees": 83}


def helpful(error) -> str:
    text = str(error.value)
    for part in ("hymenoptera", "By hand", "hymenoptera_data.zip", str(runtime.cache_dir()), "elpv-defects"):
        assert part in text
    return text


def test_other_content_is_refused_and_never_used(insects, tmp_path, official):
    with serving(partial(Quiet, directory=zipped(insects, tmp_path / "www"))) as url:
        official(url, "0" * 64)
        with pytest.raises(LearnerError) as error:
            data.load("hymenoptera")
    assert "SHA-256" in helpful(error)
    assert "hymenoptera_data" not in in_cache()


@pytest.mark.parametrize(
    ("handler", "words"), [(BrokenInMidFile, "broke after 2,000 of 100,000 bytes"), (Absent, "404")]
)
def test_a_connection_that_fails_leaves_nothing_behind(official, handler, words):
    with serving(handler) as url:
        official(url, "0" * 64)
        with pytest.raises(LearnerError) as error:
            data.load("hymenoptera")
    assert words in helpful(error)
    assert in_cache() == []


def test_without_a_server_the_error_says_so(official):
    with serving(Absent) as url:
        pass
    official(url, "0" * 64)
    with pytest.raises(LearnerError) as error:
        data.load("hymenoptera")
    assert "no connection" in helpful(error)


def test_the_offline_switch_asks_no_network(official, monkeypatch):
    monkeypatch.setenv("TLUTILS_OFFLINE", "1")
    official("http://127.0.0.1:9", "0" * 64)
    with pytest.raises(LearnerError, match="stay offline"):
        data.load("hymenoptera")
    with pytest.raises(LearnerError, match="stay offline"):
        data.load("dtd")


def test_a_file_brought_by_hand_is_used_without_a_network(insects, tmp_path, official, monkeypatch):
    monkeypatch.setenv("TLUTILS_OFFLINE", "1")
    official("http://127.0.0.1:9", networked.hash_tree(insects))
    zipped(insects, runtime.cache_dir("data"))
    assert len(data.load("hymenoptera").test) == 20
    assert "hymenoptera_data.zip" in in_cache()  # who brought it may want it back


def test_a_full_disk_is_said_and_leaves_nothing(insects, tmp_path, official, monkeypatch):
    import errno

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with serving(partial(Quiet, directory=zipped(insects, tmp_path / "www"))) as url:
        official(url, networked.hash_tree(insects))
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(LearnerError, match="disk is full"):
            data.load("hymenoptera")
    assert in_cache() == []


@pytest.mark.parametrize(
    "entry", ["../outside.txt", "/outside.txt", "a/../../outside.txt", "..\\outside.txt", "C:\\x"]
)
def test_an_archive_that_points_outside_is_not_unpacked(tmp_path, entry):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("fine.txt", "fine")
        archive.writestr(entry, "not fine")
    with pytest.raises(LearnerError, match="points outside"):
        networked.unpack(tmp_path / "bad.zip", tmp_path / "in" / "folder")
    assert not list(tmp_path.rglob("*.txt"))


def test_an_archive_with_a_link_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    with pytest.raises(LearnerError, match="points outside"):
        networked.unpack(tmp_path / "bad.zip", tmp_path / "folder")


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(LearnerError, match=r"bad\.zip.*no zip file"):
        networked.unpack(tmp_path / "bad.zip", tmp_path / "folder")


# torchvision's own classes, fetched from loopback in a small copy of their layout.


def md5(content: bytes) -> str:
    import hashlib

    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def tarred(folder: Path) -> bytes:
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, folder.name)
    return buffer.getvalue()


def small_textures(made: Path) -> Path:
    """A DTD of two classes: 4 images of each in each part, and one picture in train and test."""
    root = made / "dtd"
    (root / "labels").mkdir(parents=True)
    for s, side in enumerate(("train", "val", "test")):
        lines = []
        for k, label in enumerate(("banded", "woven")):
            paths = fill(root / "images" / label, 4, first=100 * s + 20 * k, ending="jpg")
            lines += [f"{label}/{path.name}" for path in paths]
        (root / "labels" / f"{side}1.txt").write_text("\n".join(lines) + "\n")
    twin = root / "images" / "banded" / "twin.jpg"
    twin.write_bytes((root / "images" / "banded" / "200.jpg").read_bytes())
    with (root / "labels" / "train1.txt").open("a") as lines:
        lines.write("banded/twin.jpg\n")
    return root


def small_photographs(made: Path) -> dict[str, bytes]:
    """The files of Flowers102: two kinds, 4 images of each in each part."""
    from scipy.io import savemat

    fill(made / "jpg", 24, ending="jpg")
    for i, path in enumerate(sorted((made / "jpg").iterdir())):
        path.rename(path.with_name(f"image_{i + 1:05d}.jpg"))
    savemat(made / "imagelabels.mat", {"labels": np.arange(24) % 2 + 1})
    parts = np.arange(1, 25).reshape(3, 8)
    savemat(made / "setid.mat", dict(zip(("trnid", "valid", "tstid"), parts, strict=True)))
    files = {name: (made / name).read_bytes() for name in ("imagelabels.mat", "setid.mat")}
    return {"102flowers.tgz": tarred(made / "jpg")} | files


def small_pets(made: Path) -> dict[str, bytes]:
    """The files of OxfordIIITPet: two kinds, 10 images of each to train on and 4 to test."""
    (made / "annotations").mkdir(parents=True)
    for side, count, first in (("trainval", 10, 0), ("test", 4, 50)):
        lines = []
        for k, kind in enumerate(("abyssinian", "beagle")):
            for path in fill(made / "images", count, first=first + 100 * k, ending="jpg"):
                path = path.rename(path.with_name(f"{kind}_{path.name}"))
                lines.append(f"{path.stem} {k + 1} {k + 1} 1")
        (made / "annotations" / f"{side}.txt").write_text("\n".join(lines) + "\n")
    return {f"{part}.tar.gz": tarred(made / part) for part in ("images", "annotations")}


def small_cifar(made: Path, monkeypatch) -> dict[str, bytes]:
    """The archive of CIFAR-10 with 100 pictures to train on and 20 to test."""
    import pickle

    root = made / "cifar-10-batches-py"
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def batch(name: str, count: int) -> list[str]:
        pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        content = pickle.dumps({"data": pixels, "labels": [i % 10 for i in range(count)]})
        (root / name).write_bytes(content)
        return [name, md5(content)]

    monkeypatch.setattr(datasets.CIFAR10, "train_list", [batch("data_batch_1", 100)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [batch("test_batch", 20)])
    meta = pickle.dumps({"label_names": list(data.card("cifar-10").classes)})
    (root / "batches.meta").write_bytes(meta)
    changed = {"filename": "batches.meta", "key": "label_names", "md5": md5(meta)}
    monkeypatch.setattr(datasets.CIFAR10, "meta", changed)
    return {"cifar-10-python.tar.gz": tarred(root)}


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Small copies of torchvision's data sets on loopback; the function gives the files of one by name."""
    www, made = tmp_path / "www", tmp_path / "made"
    www.mkdir()

    def serve(name: str) -> dict[str, bytes]:
        if name == "dtd":
            files = {"dtd-r1.0.1.tar.gz": tarred(small_textures(made))}
        elif name == "eurosat":
            for k, label in enumerate(("Forest", "River")):
                fill(made / "2750" / label, 10, first=100 * k, ending="jpg")
            files = {
                "EuroSAT.zip": Path(shutil.make_archive(str(made / "all"), "zip", made, "2750")).read_bytes()
            }
        elif name == "flowers-102":
            files = small_photographs(made)
        elif name == "oxford-pets":
            files = small_pets(made)
        else:
            files = small_cifar(made, monkeypatch)
        for file, content in files.items():
            (www / file).write_bytes(content)
        monkeypatch.setattr(datasets.DTD, "_URL", f"{url}/dtd-r1.0.1.tar.gz")
        monkeypatch.setattr(datasets.DTD, "_MD5", md5(files.get("dtd-r1.0.1.tar.gz", b"")))
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{url}/cifar-10-python.tar.gz")
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(files.get("cifar-10-python.tar.gz", b"")))
        monkeypatch.setattr(datasets.Flowers102, "_download_url_prefix", f"{url}/")
        parts = {
            part: (file, md5(files[file]))
            for part, file in zip(("image", "label", "setid"), files, strict=False)
        }
        monkeypatch.setattr(datasets.Flowers102, "_file_dict", parts)
        resources = [(f"{url}/{file}", md5(content)) for file, content in files.items()]
        monkeypatch.setattr(datasets.OxfordIIITPet, "_RESOURCES", resources)
        if name == "eurosat":
            here = {"EuroSAT.zip": (f"{url}/EuroSAT.zip", md5(files["EuroSAT.zip"]))}
            known = replace(networked.OFFICIAL["eurosat"], files=lambda: here)
            monkeypatch.setitem(networked.OFFICIAL, "eurosat", known)
        return files

    with serving(partial(Quiet, directory=www)) as url:
        yield serve


SIZES = {
    "cifar-10": [80, 20, 20],
    "dtd": [8, 8, 8],
    "eurosat": [12, 4, 4],
    "flowers-102": [8, 8, 8],
    "oxford-pets": [16, 4, 8],
}
"""Images in train, val and test of the small copies."""


def sizes(ds) -> list[int]:
    return [len(ds.train), len(ds.val), len(ds.test)]


def test_torchvisions_own_splits_are_kept_and_share_no_picture(served):
    served("dtd")
    ds = data.load("dtd")
    assert len(ds.classes) == 47
    assert sizes(ds) == SIZES["dtd"]
    assert {ds.classes[k] for k in ds.test.labels} == {"banded", "woven"}
    assert noted(ds, "in-two-splits") == ["twin.jpg"]
    assert ds.train[0][0].mode == "RGB"


def test_a_class_whose_pictures_all_left_train_is_mentioned(served, tmp_path, monkeypatch):
    served("dtd")
    unpack = networked.unpack

    def all_of_test_in_train(file, folder):
        unpack(file, folder)
        for k in range(4):
            picture = folder / "dtd" / "images" / "banded"
            shutil.copy(picture / f"{200 + k}.jpg", picture / f"{k:03d}.jpg")

    monkeypatch.setattr(networked, "unpack", all_of_test_in_train)
    ds = data.load("dtd")
    missing = [problem.message for problem in ds.problems if problem.kind == "missing-class"]
    assert len(missing) == 1
    assert missing[0].startswith("train has no image of class 'banded'")


def test_torchvisions_wrong_hash_is_told_and_tried_anew(served, monkeypatch):
    served("dtd")
    right = datasets.DTD._MD5
    monkeypatch.setattr(datasets.DTD, "_MD5", "0" * 32)
    with pytest.raises(LearnerError, match=r"(?s)'dtd' is not available.*MD5.*By hand.*dtd-r1.*Offline"):
        data.load("dtd")
    monkeypatch.setattr(datasets.DTD, "_MD5", right)
    assert len(data.load("dtd").test) == 8


@pytest.mark.parametrize("name", SIZES)
def test_the_advice_followed_to_the_letter_works_without_a_network_and_keeps_the_files(
    name, served, monkeypatch
):
    files = served(name)
    monkeypatch.setenv("TLUTILS_OFFLINE", "1")
    with pytest.raises(LearnerError, match="stay offline") as error:
        data.load(name)
    advice = re.findall(r"download (\S+) on a machine with a network and save it as (\S+)", str(error.value))
    assert len(advice) == len(files)
    for url, place in advice:
        Path(place).write_bytes(files[url.split("/")[-1]])
    assert sizes(data.load(name)) == SIZES[name]
    again = data.load(name)
    assert sizes(again) == SIZES[name]
    assert again.train[0][0].mode == "RGB"
    for url, place in advice:
        assert Path(place).read_bytes() == files[url.split("/")[-1]]


@pytest.mark.parametrize(
    ("name", "how"), [*((name, "link") for name in SIZES), ("dtd", "folder"), ("eurosat", "half")]
)
def test_what_somebody_else_put_into_the_cache_is_never_removed(name, how, served, tmp_path):
    """Own photographs, by a link or not, under each name that this package uses while it unpacks."""
    served(name)
    mine = tmp_path / "mine"
    fill(mine / "holiday", 2)
    (mine / "notes.txt").write_text("mine")
    cache = runtime.cache_dir("data")
    shutil.copytree(mine, cache / name / "eurosat" / "2750")  # where other versions unpacked
    place = cache / (f".{name}_data.part" if how == "half" else f"{name}_data")
    if how == "link":
        place.symlink_to(mine, target_is_directory=True)
    else:
        shutil.copytree(mine, place)
    with pytest.raises(LearnerError, match="It was left as it is"):
        data.load(name)
    for folder in (mine, cache / name / "eurosat" / "2750", place):
        kept = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        assert kept == ["holiday", "holiday/000.png", "holiday/001.png", "notes.txt"]
    if how == "link":
        place.unlink()
    else:
        shutil.move(place, tmp_path / "elsewhere")
    assert sizes(data.load(name)) == SIZES[name]


def test_what_a_kill_left_half_unpacked_is_done_again(served, monkeypatch):
    served("dtd")

    def killed(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(networked, "unpack", killed)
        patch.setattr(runtime.shutil, "rmtree", lambda *args, **options: None)  # a kill cleans nothing up
        with pytest.raises(KeyboardInterrupt):
            data.load("dtd")
    assert ".dtd_data.part" in in_cache()
    assert len(data.load("dtd").test) == 8
    assert in_cache() == ["dtd_data"]


def test_own_photographs_are_never_taken_for_insects(insects, tmp_path, official):
    """A folder, or a link, that has the name of the official one and other files in it."""
    with serving(partial(Quiet, directory=zipped(insects, tmp_path / "www"))) as url:
        official(url, networked.hash_tree(insects))
        place = runtime.cache_dir("data") / "hymenoptera_data"
        fill(tmp_path / "mine" / "train" / "ants", 3)
        place.symlink_to(tmp_path / "mine", target_is_directory=True)
        with pytest.raises(LearnerError, match=r"other files.*left as it is"):
            data.load("hymenoptera")
        place.unlink()
        assert len(data.load("hymenoptera").test) == 20
    assert len(list((tmp_path / "mine").rglob("*.png"))) == 3


@pytest.mark.parametrize("name", ["dtd", "eurosat", "flowers-102", "oxford-pets", "cifar-10"])
def test_without_a_network_each_says_how_to_go_on(name):
    with pytest.raises(LearnerError, match=rf"(?s){name}.*By hand.*Offline: .*elpv-defects"):
        data.load(name)


def test_cifars_pictures_are_kept_as_files_with_their_official_test(served):
    served("cifar-10")
    ds = data.load("cifar-10")
    assert sizes(ds) == [80, 20, 20]
    assert data.load_image(ds.test.paths[0]).size == (32, 32)
    assert set(ds.test.counts.values()) == {2}
