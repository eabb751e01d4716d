"""A kill, a second process or a full disk leaves a store that is right or goes on, never a wrong one."""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from families import few
from features_world import Photos, as_tensor, network, work
from processes import PROCESSES

from tlutils import features, surgery
from tlutils.errors import LearnerError
from tlutils.features.store import Shelf


def start(cache, note, **options):
    process = PROCESSES.Process(target=work, args=(str(cache), str(note)), kwargs=options)
    process.start()
    return process


def finish(cache, note, **options):
    process = start(cache, note, **options)
    process.join(120)
    assert process.exitcode == 0
    return json.loads(Path(note).read_text(encoding="utf-8"))


def files(cache):
    return {str(path.relative_to(cache)): path.read_bytes() for path in sorted(Path(cache).rglob("*.npy"))}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The store of a run that nothing disturbed, as bytes."""
    cache = tmp_path_factory.mktemp("unbroken")
    report = finish(cache, cache / "note.json")
    assert report == {"decoded": list(range(24)), "forwards": 24}
    return files(cache)


def wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)


def images_done(cache):
    shelves = list(Path(cache).rglob("shelf.json"))
    return min((json.loads(path.read_text())["state"]["done"] for path in shelves), default=-1)


MOMENTS = {
    "before anything is laid out": lambda cache: (cache / "features").exists(),
    "while arrays are laid out": lambda cache: any(cache.rglob("0.npy")),
    "after the layout": lambda cache: any(cache.rglob("shelf.json")),
    "after the first batch": lambda cache: images_done(cache) >= 8,
    "after the second batch": lambda cache: images_done(cache) >= 16,
}


@pytest.mark.parametrize("moment", few(MOMENTS, "while arrays are laid out", "after the first batch"))
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(moment, tmp_path, unbroken):
    cache = tmp_path / "cache"
    process = start(cache, tmp_path / "never.json", pause=0.15)
    wait(lambda: MOMENTS[moment](cache))
    process.kill()
    process.join()
    assert process.exitcode == -9
    assert not (tmp_path / "never.json").exists()
    safe = max(images_done(cache), 0)
    report = finish(cache, tmp_path / "note.json")
    assert files(cache) == unbroken
    assert report["decoded"] == list(range(safe, 24)), "images that were safe are not read again"


def test_killed_again_and_again_it_still_ends_right(tmp_path, unbroken):
    cache = tmp_path / "cache"
    for delay in (0.0, 0.03, 0.07, 0.11, 0.19, 0.23):
        process = start(cache, tmp_path / "note.json", pause=0.05)
        wait(lambda: (cache / "features").exists())
        time.sleep(delay)
        process.kill()
        process.join()
    finish(cache, tmp_path / "note.json")
    assert files(cache) == unbroken


def test_what_a_kill_left_half_written_is_swept_up(tmp_path, unbroken):
    cache = tmp_path / "cache"
    process = start(cache, tmp_path / "never.json", pause=0.15)
    wait(lambda: images_done(cache) >= 8)
    process.kill()
    process.join()
    for shelf in cache.rglob("shelf.json"):
        (shelf.parent / ".shelf.123.json").write_text('{"state": 2')
    finish(cache, tmp_path / "note.json")
    assert not list(cache.rglob(".*"))
    assert files(cache) == unbroken


def test_two_processes_at_once_do_the_work_once(tmp_path, unbroken):
    cache, notes = tmp_path / "cache", [tmp_path / "one.json", tmp_path / "two.json"]
    both = [start(cache, note, pause=0.1) for note in notes]
    for process in both:
        process.join(120)
    reports = [json.loads(note.read_text()) for note in notes]
    assert sorted(reports[0]["decoded"] + reports[1]["decoded"]) == list(range(24))
    assert reports[0]["forwards"] + reports[1]["forwards"] == 24
    assert files(cache) == unbroken


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_disk_that_fills_up_is_said_in_words_and_breaks_nothing(tmp_path, unbroken):
    # The system refuses to write beyond 100 kB of a file, as a full disk would; sparse files fit at first.
    cache = tmp_path / "cache"
    report = finish(cache, tmp_path / "note.json", largest_file=100_000)
    assert report["error"].startswith("NoRoom")
    assert "disk" in report["error"]
    assert "error" not in finish(cache, tmp_path / "note.json")
    assert files(cache) == unbroken


def test_too_small_a_disk_is_seen_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setenv("TLUTILS_CACHE", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    photos, model = Photos(), network()
    with pytest.raises(LearnerError, match="TLUTILS_CACHE"):
        features.extract(model, photos, at=[surgery.stages(model)[0].name], transform=as_tensor, batch_size=2)
    assert len(photos.decoded) <= 8
    monkeypatch.undo()


def test_a_file_that_was_cut_short_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TLUTILS_CACHE", str(tmp_path))
    model = network()
    at = [surgery.stages(model)[0].name]
    store = features.extract(model, Photos(), at=at, transform=as_tensor)
    right = np.array(store[at[0]])
    file = next(store.path.rglob("0.npy"))
    file.write_bytes(file.read_bytes()[:200])
    photos = Photos()
    again = features.extract(model, photos, at=at, transform=as_tensor)
    assert sorted(photos.decoded) == list(range(24))
    assert np.array_equal(again[at[0]], right)


def test_files_behind_a_link_are_never_swept_away(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    np.save(mine / "measurements.npy", np.ones(3))
    (tmp_path / "stage").symlink_to(mine, target_is_directory=True)
    shelf = Shelf(tmp_path / "stage")
    for everything in (True, False):
        with pytest.raises(LearnerError, match="is a link"):
            shelf.sweep(everything=everything)
    assert np.array_equal(np.load(mine / "measurements.npy"), np.ones(3))
