"""Thresholds follow the data; what is doubtful is said; no class is lost, no file moves, damage is mended."""

import json
import shutil
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from image_folders import all_paths, fill, noted, picture, sides_of
from PIL import Image

from tlutils import data, runtime
from tlutils.data import folder_cache, packaged
from tlutils.data.duplicates import find_copies
from tlutils.data.transforms import Preprocess
from tlutils.errors import LearnerError


@pytest.fixture
def root(tmp_path, empty_cache):
    """A folder of one's own, beside an empty cache."""
    return tmp_path / "data"


def frames(folder, count, *, scene, noise, first=0, part=False):
    """What a camera that stands still sees: one scene, noise, and perhaps a part that is new each time."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([first, scene])
    still = np.asarray(picture(scene, size=128).convert("L")).astype(float)
    for i in range(count):
        seen = still + rng.normal(0, noise, still.shape)
        if part:
            y, x = rng.integers(10, 100, 2)
            seen[y : y + 3, x : x + 16] -= 60
        seen = Image.fromarray(seen.clip(0, 255).astype(np.uint8))
        seen.save(folder / f"{scene}-{first + i:03d}.png")


def kinds(ds) -> set[str]:
    return {problem.kind for problem in ds.problems}


@pytest.mark.parametrize("noise", [0.5, 2, 6])
def test_frames_of_one_camera_are_different_pictures_and_noted_where_that_is_in_doubt(root, noise):
    frames(root / "good", 20, scene=1, noise=noise)
    frames(root / "scratched", 20, scene=1, noise=noise, first=100, part=True)
    ds = data.load(root)
    assert ds.train.counts == {"good": 12, "scratched": 12}
    assert len(noted(ds, "two-labels")) <= 5
    assert ("alike" in kinds(ds)) == (noise < 6)


def test_frames_of_several_cameras_or_of_one_camera_for_each_class_are_loaded_too(root):
    for scene in range(3):
        frames(root / "shared" / "good", 8, scene=scene, noise=2)
        frames(root / "shared" / "scratched", 8, scene=scene, noise=2, first=100, part=True)
        frames(root / "times" / "before", 6, scene=scene, noise=2)
        frames(root / "times" / "after", 6, scene=scene, noise=2, first=100)
    for scene, label in enumerate(("left", "right")):
        frames(root / "own" / label, 20, scene=scene, noise=2)
    for name in ("shared", "times", "own"):
        ds = data.load(root / name)
        assert min(ds.train.counts.values()) >= 10
        assert "alike" in kinds(ds)
        assert noted(ds, "two-labels") == []


def test_frames_of_one_camera_in_given_splits_stay_there(root):
    for s, side in enumerate(("train", "val", "test")):
        frames(root / side / "good", 8, scene=1, noise=2, first=200 * s)
        frames(root / side / "scratched", 8, scene=1, noise=2, first=200 * s + 100, part=True)
    ds = data.load(root)
    assert [len(ds.train), len(ds.val), len(ds.test)] == [16, 16, 16]


@pytest.mark.parametrize("seed", range(3))
def test_many_versions_of_one_picture_stay_together_where_other_pictures_tell_them_apart(root, seed):
    """More versions than the neighbours that are compared."""
    fill(root / "cat", 12)
    fill(root / "dog", 12, first=100)
    for k in range(20):
        picture(3).save(root / "cat" / f"again{k}.jpg", quality=99 - k)
    sides = sides_of(data.load(root, seed=seed))
    assert len({side for name, side in sides.items() if name.startswith("again") or name == "003.png"}) == 1


def test_only_equal_pixels_count_where_the_learner_says_so(root):
    fill(root / "cat", 12)
    fill(root / "dog", 12, first=100)
    picture(1).save(root / "cat" / "equal.bmp")
    for k in range(6):
        picture(k).save(root / "dog" / f"again{k}.jpg", quality=80)
    assert len(noted(data.load(root), "two-labels")) == 6 * 2 + 1
    assert noted(data.load(root, copies="equal"), "copy") == ["equal.bmp"]
    with pytest.raises(LearnerError, match="'near' or 'equal'"):
        data.load(root, copies="none")


@pytest.mark.parametrize("noise", [0, 0.5, 100], ids=["equal", "a camera that stands still", "all different"])
def test_memory_of_the_search_does_not_grow_with_the_square(noise):
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (32, 32)).astype(float)
    thumbs = (scene + rng.normal(0, noise, (1500, 32, 32))).clip(0, 255).astype(np.uint8)
    tracemalloc.start()
    found = find_copies([str(i) for i in range(1500)], thumbs, ["ab"[i % 2] for i in range(1500)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(found.groups)) == 1500
    assert [len(group) for group in found.doubtful] == ([] if noise == 100 else [1500])
    assert peak < 4 * 1500 * 1024 * 4  # four times the thumbnails as numbers; all pairs would be more


def test_the_search_is_done_once_for_the_same_pictures(root, monkeypatch):
    frames(root / "a", 10, scene=1, noise=2)
    fill(root / "b", 10)
    first = data.load(root)
    monkeypatch.setattr(folder_cache, "find_copies", lambda *args: pytest.fail("searched again"))
    again = data.load(root)
    assert again.train.fingerprint == first.train.fingerprint
    assert noted(again, "alike") == noted(first, "alike") != []


@pytest.mark.parametrize("side", ["val", "test"])
def test_a_class_that_only_other_splits_hold_in_the_end_is_refused_and_never_lost(root, side):
    for k, label in enumerate(("cat", "dog", "owl")):
        fill(root / "train" / label, 6, first=100 * k)
        fill(root / side / label, 6, first=100 * k + (50 if label != "owl" else 0))
    with pytest.raises(LearnerError, match=rf"no usable image to train on.*'owl'.*also in {side}.*copies="):
        data.load(root)
    ds = data.load(root, empty="drop")
    assert ds.classes == ["cat", "dog"]
    assert set(ds.train.labels) == set(ds.test.labels) == {0, 1}
    assert ds.card.classes == ("cat", "dog")
    assert ds.card.hash == ds.content_hash


@pytest.mark.parametrize(
    "lacking", [[("val", "owl")], [("test", "dog")], [("val", "owl"), ("test", "dog"), ("test", "owl")]]
)
def test_a_class_that_a_split_lacks_is_mentioned(root, lacking):
    for s, side in enumerate(("train", "val", "test")):
        for k, label in enumerate(("cat", "dog", "owl")):
            if (side, label) not in lacking:
                fill(root / side / label, 3, first=200 * s + 20 * k)
    missing = [problem.message for problem in data.load(root).problems if problem.kind == "missing-class"]
    for side, label in lacking:
        assert any(m.startswith(f"{side} has no image of class") and repr(label) in m for m in missing)
    assert len(missing) == len(lacking)


def test_a_class_of_too_few_pictures_is_mentioned_as_lacking_in_both_splits(root):
    fill(root / "cat", 6)
    fill(root / "dog", 6, first=30)
    fill(root / "owl", 2, first=60)
    assert len(noted(data.load(root, too_few="train"), "missing-class")) == 2


def test_new_files_move_no_file_that_was_there(root):
    fill(root / "cat", 11)
    fill(root / "dog", 14, first=100)
    known = sides_of(data.load(root))
    rng = np.random.default_rng(0)
    for i in range(1, 9):
        name = f"{'ab'[i % 2]}{i}.png"  # before and between the others in order of name
        picture(int(rng.integers(1000, 10**6))).save(root / ("cat" if i < 6 else "dog") / name)
        ds = data.load(root)
        now = sides_of(ds)
        assert {name: now[name] for name in known} == known
        assert "moved" not in kinds(ds)
        known = now
    fill(root / "ape", 10, first=500)
    ds = data.load(root)
    assert {name: sides_of(ds)[name] for name in known} == known
    assert ds.val.counts == {"ape": 2, "cat": 3, "dog": 3}
    assert sides_of(data.load(root, seed=1)) != sides_of(ds)


def test_an_emptied_cache_draws_nearly_the_same_split_when_files_came_and_went(root, tmp_path, monkeypatch):
    fill(root / "cat", 12)
    fill(root / "dog", 15, first=100)
    known = sides_of(data.load(root))
    for step in range(6):
        monkeypatch.setenv("TLUTILS_CACHE", str(tmp_path / f"cache{step}"))
        if step:
            picture(1000 + step).save(root / "cat" / f"a{step}.png")
        if step == 5:
            (root / "dog" / "103.png").unlink()
        now = sides_of(data.load(root))
        changed = [name for name in known if name in now and now[name] != known[name]]
        assert len(changed) <= 3 * (step > 0) + 3 * (step == 5)
        known = now


def test_renamed_edited_and_regrouped_files_stay_where_they_were(root):
    fill(root / "cat", 20)
    fill(root / "dog", 20, first=100)
    before = sides_of(data.load(root))
    (root / "cat" / "003.png").rename(root / "cat" / "zzz.png")
    picture(999).save(root / "dog" / "105.png")
    after = sides_of(data.load(root))
    assert after.pop("zzz.png") == before.pop("003.png")
    assert after == before


def test_new_images_of_a_known_group_follow_it(root):
    for label in ("cat", "dog"):
        for photo in range(8):
            fill(root / label, 3, first=10 * photo + 100 * (label == "dog"))

    def photo(path):
        return path.stem[:-1]

    known = sides_of(data.load(root, group_by=photo))
    fill(root / "cat", 6, first=3)
    now = sides_of(data.load(root, group_by=photo))
    assert {name: now[name] for name in known} == known
    assert {now[f"{i:03d}.png"] for i in range(9)} == {known["000.png"]}


def test_a_file_that_has_to_move_is_mentioned(root):
    fill(root / "cat", 10)
    fill(root / "dog", 10, first=100)
    ds = data.load(root)
    for path in [path for path in ds.val.paths if path.parent.name == "cat"]:
        path.unlink()
    moved = data.load(root)
    assert moved.val.counts["cat"] >= 1
    assert "moved" in kinds(moved)


@pytest.mark.parametrize(("bits", "noted_as"), [(10, 10), (12, 12), (14, 14), (16, None)])
def test_fewer_bits_in_16_are_noted_and_shown_bright_by_a_switch(root, bits, noted_as):
    for k, label in enumerate(("a", "b")):
        (root / label).mkdir(parents=True)
        for i in range(5):
            grey = np.random.default_rng(10 * k + i).integers(0, 2**bits, (32, 32), dtype=np.uint16)
            Image.fromarray(grey).save(root / label / f"{i}.png")
    dark = [problem.message for problem in data.load(root).problems if problem.kind == "dark"]
    assert bool(dark) == bool(noted_as)
    if noted_as:
        assert f"grey_bits={bits}" in dark[0]
    ds = data.load(root, grey_bits=bits)
    assert "dark" not in kinds(ds)
    for seen in (
        ds.train[0][0],
        ds.train.select([0])[0][0],
        data.load_image(ds.train.paths[0], grey_bits=bits),
    ):
        assert np.asarray(seen).max() > 240
    assert (ds.train.fingerprint == data.load(root).train.fingerprint) == (bits == 16)
    with pytest.raises(LearnerError, match="8 to 16"):
        data.load(root, grey_bits=24)


@pytest.mark.parametrize("size", [(4000, 3), (2, 900), (700, 100)])
def test_an_elongated_picture_costs_no_more_than_its_crop_and_shows_the_same(root, size):
    fill(root / "a", 5)
    fill(root / "b", 5, first=10)
    strip = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))
    strip.save(root / "a" / "strip.png")
    assert noted(data.load(root), "elongated") == ["strip.png"]
    transform = Preprocess((96, 96), 0.875, "bicubic", (0.0,) * 3, (1.0,) * 3)
    height, width = (round(109 * side / min(size)) for side in size[::-1])
    whole = strip.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - 96) / 2), round((height - 96) / 2)
    expected = np.asarray(whole.crop((left, top, left + 96, top + 96))) / 255
    sizes = []
    resize = Image.Image.resize

    def measured(self, wanted, *args, **options):
        sizes.append(wanted[0] * wanted[1])
        return resize(self, wanted, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", measured)
        seen = transform(strip)
        Preprocess((96, 96), 0.9, "bilinear", (0.5,) * 3, (0.5,) * 3, crop_mode="border")(strip)
        transform.__class__((96, 96), 0.9, "bilinear", (0.5,) * 3, (0.5,) * 3, train=True)(strip)
    assert max(sizes) <= 4 * 109**2
    assert np.abs(seen.permute(1, 2, 0).numpy() - expected).mean() < 0.02


def test_eight_threads_load_one_folder_and_write_one_set_of_pictures_at_once(root):
    fill(root / "cat", 12)
    fill(root / "dog", 12, first=100)
    pictures = [("a", "", np.full((4, 4), i, np.uint8)) for i in range(40)]
    found, errors = [], []

    def load():
        try:
            written = [item.path.read_bytes() for item in packaged.write_pngs("tiny", pictures)]
            found.append((data.load(root).train.fingerprint, b"".join(written)))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(found) == 8
    assert len(set(found)) == 1


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def other_rows(path):
    with np.load(path) as store:
        rows = json.loads(store["text"].tobytes())
    text = np.frombuffer(json.dumps([row[:4] for row in rows]).encode(), np.uint8)
    np.savez(path, text=text, thumbs=np.zeros((len(rows), 32, 32), np.uint8))


def dangling(path):
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


DAMAGE = {
    "cut early": lambda path: cut(path, 0.2),
    "cut late": lambda path: cut(path, 0.95),
    "emptied": lambda path: cut(path, 0),
    "a byte flipped": flipped,
    "a link to nowhere": dangling,
    "another kind of content": lambda path: path.write_text('["a", 1]'),
    "numbers for names": lambda path: path.write_text('{"groups": "abc", "doubtful": [[1]], "x": 7}'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_in_the_cache_are_made_anew(root, damage):
    fill(root / "pets" / "cat", 10)
    fill(root / "pets" / "dog", 10, first=100)
    first = data.load(root / "pets")
    stores = [path for path in runtime.cache_dir().rglob("*") if path.suffix in (".npz", ".json")]
    assert len(stores) == 3
    for store in stores:
        DAMAGE[damage](store)
        if damage == "another kind of content" and store.suffix == ".npz":
            with zipfile.ZipFile(store, "w") as archive:
                archive.writestr("text.npy", b"no array")
    again = data.load(root / "pets")
    assert again.content_hash == first.content_hash
    assert sides_of(again) == sides_of(first)
    assert all(path.is_file() for path in stores)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("scans/copies-*.json", lambda text: text.replace("0,", "1,", 1)),
        ("scans/copies-*.json", lambda text: text.replace('"doubtful": []', '"doubtful": [[0, 1]]')),
        ("splits/*.json", lambda text: text.replace('"test"', '"train"', 1)),
        ("splits/*.json", lambda text: text.replace('"val"', '"train"', 1)),
    ],
)
def test_what_is_kept_and_was_changed_decides_nothing(root, kind, change):
    fill(root / "pets" / "cat", 10)
    fill(root / "pets" / "dog", 10, first=100)
    first = data.load(root / "pets")
    (store,) = runtime.cache_dir().glob(kind)
    text = store.read_text()
    store.write_text(change(text))
    assert store.read_text() != text
    again = data.load(root / "pets")
    assert sides_of(again) == sides_of(first)
    assert noted(again, "alike") == noted(first, "alike")
    assert store.read_text() == text


def test_a_table_of_another_make_is_made_anew(root):
    fill(root / "pets" / "cat", 10)
    fill(root / "pets" / "dog", 10, first=100)
    first = data.load(root / "pets")
    (store,) = runtime.cache_dir("scans").glob("*.npz")
    other_rows(store)
    assert data.load(root / "pets").content_hash == first.content_hash


@pytest.mark.parametrize("kind", ["*.npz", "copies-*.json", "*.lock"])
def test_a_folder_in_the_place_of_a_file_is_named_and_left(root, kind):
    fill(root / "pets" / "cat", 10)
    fill(root / "pets" / "dog", 10, first=100)
    data.load(root / "pets")
    store = next(runtime.cache_dir("scans").glob(kind), None) or next(
        runtime.cache_dir("scans").glob("*.npz")
    )
    if kind == "*.lock":
        store = store.with_name(f"{store.name.removesuffix('.lock')}.lock")
    store.unlink(missing_ok=True)
    fill(store / "mine", 1)
    with pytest.raises(LearnerError, match="something else has that name") as error:
        data.load(root / "pets")
    assert store.name in str(error.value)
    assert len(list(store.rglob("*.png"))) == 1
    shutil.rmtree(store)
    assert len(all_paths(data.load(root / "pets"))) == 20


@pytest.mark.parametrize("number", ["ENOSPC", "EACCES", "EDQUOT"])
def test_a_lock_or_a_picture_that_cannot_be_written_is_said_in_words(root, monkeypatch, number):
    import errno

    def refused(*args, **options):
        raise OSError(getattr(errno, number), "no", "x")

    pictures = [("a", "", np.zeros((4, 4), np.uint8))]
    words = {"EACCES": "cannot be written"}.get(number, "disk is full")
    for place, name in ((runtime.FileLock, "acquire"), (Path, "write_bytes")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, refused)
            with pytest.raises(LearnerError, match=words):
                packaged.write_pngs("tiny", pictures)
    assert packaged.write_pngs("tiny", pictures)[0].path.is_file()
