"""Data sets from the network arrive whole and checked, or one error says why not and what to do instead.

Every download here is real, from a server that the test starts on this machine.
"""

import io
import os
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from test_data_folder import all_paths, fill, noted
from torchvision import datasets

from tlutils import data, runtime
from tlutils.data import networked
from tlutils.errors import LearnerError

pytestmark = pytest.mark.usefixtures("empty_cache")


@contextmanager
def serving(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
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
    assert ds.content == ds.card.hash
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


@pytest.fixture
def textures(tmp_path, monkeypatch):
    """A DTD of two classes on loopback: 4 images of each in each part, and one picture in train and test."""
    root = tmp_path / "made" / "dtd"
    (root / "labels").mkdir(parents=True)
    for s, side in enumerate(("train", "val", "test")):
        lines = []
        for k, label in enumerate(("banded", "woven")):
            lines += [
                f"{label}/{p.name}"
                for p in fill(root / "images" / label, 4, first=100 * s + 20 * k, ending="jpg")
            ]
        (root / "labels" / f"{side}1.txt").write_text("\n".join(lines) + "\n")
    twin = root / "images" / "banded" / "twin.jpg"
    twin.write_bytes((root / "images" / "banded" / "200.jpg").read_bytes())
    with (root / "labels" / "train1.txt").open("a") as lines:
        lines.write("banded/twin.jpg\n")
    content = tarred(root)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "dtd.tar.gz").write_bytes(content)
    monkeypatch.setattr(datasets.DTD, "_MD5", md5(content))
    with serving(partial(Quiet, directory=tmp_path / "www")) as url:
        monkeypatch.setattr(datasets.DTD, "_URL", f"{url}/dtd.tar.gz")
        yield


def test_torchvisions_own_splits_are_kept_and_share_no_picture(textures):
    ds = data.load("dtd")
    assert len(ds.classes) == 47
    assert [len(ds.train), len(ds.val), len(ds.test)] == [8, 8, 8]
    assert {ds.classes[k] for k in ds.test.labels} == {"banded", "woven"}
    assert noted(ds, "in-two-splits") == ["twin.jpg"]
    assert ds.train[0][0].mode == "RGB"


def test_torchvisions_wrong_hash_is_told_and_tried_anew(textures, monkeypatch):
    right = datasets.DTD._MD5
    monkeypatch.setattr(datasets.DTD, "_MD5", "0" * 32)
    with pytest.raises(LearnerError, match=r"(?s)'dtd' is not available.*By hand.*dtd-r1.*Offline"):
        data.load("dtd")
    monkeypatch.setattr(datasets.DTD, "_MD5", right)
    assert len(data.load("dtd").test) == 8


def test_an_interrupted_unpacking_is_done_again(textures):
    half = runtime.cache_dir("data") / "dtd" / "dtd" / "dtd" / "images"
    half.mkdir(parents=True)
    (half / "stray.jpg").write_bytes(b"half")
    assert len(data.load("dtd").test) == 8
    assert not (half / "stray.jpg").exists()


@pytest.mark.parametrize("name", ["dtd", "eurosat", "flowers-102", "oxford-pets", "cifar-10"])
def test_without_a_network_each_says_how_to_go_on(name):
    with pytest.raises(LearnerError, match=rf"(?s){name}.*By hand.*Offline: .*elpv-defects"):
        data.load(name)


def test_cifars_pictures_are_kept_as_files_with_their_official_test(tmp_path, monkeypatch):
    import pickle

    root = tmp_path / "made" / "cifar-10-batches-py"
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = data.card("cifar-10").classes

    def batch(name: str, count: int) -> list[str]:
        pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        content = pickle.dumps({"data": pixels, "labels": [i % 10 for i in range(count)]})
        (root / name).write_bytes(content)
        return [name, md5(content)]

    monkeypatch.setattr(datasets.CIFAR10, "train_list", [batch("data_batch_1", 100)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [batch("test_batch", 20)])
    meta = pickle.dumps({"label_names": list(names)})
    (root / "batches.meta").write_bytes(meta)
    changed = {"filename": "batches.meta", "key": "label_names", "md5": md5(meta)}
    monkeypatch.setattr(datasets.CIFAR10, "meta", changed)
    content = tarred(root)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "cifar-10-python.tar.gz").write_bytes(content)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(content))
    with serving(partial(Quiet, directory=tmp_path / "www")) as url:
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{url}/cifar-10-python.tar.gz")
        ds = data.load("cifar-10")
    assert [len(ds.train), len(ds.val), len(ds.test)] == [80, 20, 20]
    assert data.read_image(ds.test.paths[0]).size == (32, 32)
    assert set(ds.test.counts.values()) == {2}
