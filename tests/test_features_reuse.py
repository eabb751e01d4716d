"""An image is computed once: samples, other labels and folders that grow cost the images that are new."""

import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from features_world import as_tensor, flipped, network
from PIL import Image

from tlutils import data, features
from tlutils.features import extraction
from tlutils.features.forward import Forward
from tlutils.features.store import Shelf

pytestmark = pytest.mark.usefixtures("empty_cache")

AT = ["stage1", "pool"]


def photograph(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(256, size=(32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """Forty different pictures of two classes to learn from."""
    for i in range(40):
        photograph(tmp_path / "images" / "train" / "ab"[i % 2] / f"{i:02}.png", i)
    for i in range(8):
        side = ("val", "test")[i // 4]
        photograph(tmp_path / "images" / side / "ab"[i % 2] / f"{i:02}.png", 1000 + i)
    return tmp_path / "images" / "train"


@pytest.fixture
def computed(monkeypatch):
    return watch(monkeypatch)


def watch(monkeypatch):
    """What is decoded for the model from now on, as checksums of the pixels, without a trial's images."""
    found, batches = [], extraction.batches

    def watched(load, blocks):
        for first, end, batch in batches(load, blocks):
            found.extend(zlib.crc32(image.numpy().tobytes()) for image in (() if batch is None else batch))
            yield first, end, batch

    monkeypatch.setattr(extraction, "batches", watched)
    return found


def whole(folder):
    return data.load(folder.parent).train


def extract(split, model=None, **options):
    options = {"at": AT, "transform": as_tensor, "precision": "float32"} | options
    return features.extract(model or network(), split, **options)


def alike(store, other):
    return all(np.array_equal(store[stage], other[stage]) for stage in AT)


def anew(split, tmp_path, monkeypatch, **options):
    """The features of a split in a cache that holds nothing."""
    monkeypatch.setenv("TLUTILS_CACHE", str(tmp_path / f"cache-{len(split)}"))
    return extract(split, **options)


def test_of_a_grown_folder_the_new_images_alone_are_computed(folder, computed, tmp_path, monkeypatch):
    extract(whole(folder))
    assert len(computed) == 40
    for i in (40, 41, 42):
        photograph(folder / "a" / f"0{i}.png", i)  # between those that were there
    photograph(folder / "b" / "01.png", 99)  # and one that is another now
    (folder / "b" / "39.png").unlink()
    grown = whole(folder)
    store = extract(grown)
    assert len(computed) == 40 + 4
    assert alike(store, anew(grown, tmp_path, monkeypatch))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda split, folder: split.select(range(3, 33)), marks=pytest.mark.full),
        lambda split, folder: split.select([*reversed(range(40))]),
        lambda split, folder: split.select([5, 5, 7, 5]),
        pytest.param(lambda split, folder: split.subsample(8, seed=1), marks=pytest.mark.full),
    ],
    ids=["a part", "another order", "the same ones again", "a sample"],
)
def test_a_part_of_known_images_takes_no_pass(other, folder, computed, tmp_path, monkeypatch):
    split = whole(folder)
    extract(split)
    part = other(split, folder)
    store = extract(part)
    assert len(computed) == 40
    assert store.labels.tolist() == part.labels
    assert alike(store, anew(part, tmp_path, monkeypatch))


def test_other_labels_take_no_pass(folder, computed):
    store = extract(whole(folder))
    shutil.move(folder / "a" / "00.png", folder / "b" / "00.png")
    for side in folder.parent.iterdir():
        (side / "a").rename(side / "z")
    renamed = whole(folder)
    other = extract(renamed)
    assert len(computed) == 40
    assert other.labels.tolist() == renamed.labels != store.labels.tolist()
    by_content = dict(zip(renamed.hashes, other["pool"], strict=True))
    assert all(
        np.array_equal(by_content[content], row)
        for content, row in zip(whole(folder).hashes, other["pool"], strict=True)
    )


def test_rows_come_together_from_several_stores(folder, computed, tmp_path, monkeypatch):
    split = whole(folder)
    extract(split.select(range(12)))
    extract(split.select(range(20, 30)))
    extract(split, at="stage1")  # has no pooled features, so it cannot stand in
    before = len(computed)
    store = extract(split)
    assert len(computed) - before == 40 - 12 - 10
    assert alike(store, anew(split, tmp_path, monkeypatch))


def test_more_images_than_fit_in_one_look_are_all_there(folder, tmp_path, monkeypatch):
    split = whole(folder)
    many = split.select([*range(40)] * 4)
    extract(split.select([0, 1, 2, 30, 31]))
    assert alike(extract(many, batch_size=2), anew(many, tmp_path, monkeypatch, batch_size=2))


@pytest.mark.parametrize(
    "changed",
    [
        lambda options: options | {"model": network(seed=1)},
        lambda options: options | {"transform": lambda image: 2 * as_tensor(image)},
        lambda options: options | {"pool": False},
    ],
    ids=["weights", "transform", "whole maps"],
)
def test_rows_of_another_computation_are_no_help(changed, folder, computed):
    split = whole(folder)
    extract(split)
    extract(split.select(range(20)), **changed({}))
    assert len(computed) == 60


def test_rows_of_two_arithmetics_do_not_meet_in_one_store(folder, computed, monkeypatch):
    split = whole(folder)
    for arithmetic, own in (("float32", range(20)), ("channels_last", range(20, 40))):
        monkeypatch.setattr(
            Forward, "_fastest", lambda forward, sample, stages, a=arithmetic: dict.fromkeys(stages, a)
        )
        extract(split.select(own), precision="auto")
    assert len(computed) == 40
    extract(split, precision="auto")
    assert len(computed) == 60


def test_a_picture_is_another_where_more_of_its_bits_are_used(folder, computed):
    split = whole(folder)
    extract(split)
    extract(replace(split, grey_bits=12))
    assert len(computed) == 80


def test_views_are_known_by_their_place_too(folder, computed, tmp_path, monkeypatch):
    split, options = whole(folder), {"transform": flipped, "views": 3}
    extract(split, **options)
    before = len(computed)
    first = extract(split.select(range(10)), **options)
    assert len(computed) == before
    later = split.select(range(10, 20))  # whose views are others at these places
    assert not np.allclose(extract(later, **options)["pool"], extract(split, **options)["pool"][30:60])
    assert alike(first, anew(split.select(range(10)), tmp_path, monkeypatch, **options))


def test_a_store_whose_rows_the_model_no_longer_gives_is_not_believed(folder, computed, monkeypatch):
    """A change that no reading of the code finds: it stands in a library."""
    split = whole(folder)
    extract(split)
    relu = torch.nn.functional.relu
    monkeypatch.setattr(torch.nn.functional, "relu", lambda x, inplace=False: relu(x) + 1)
    store = extract(split.select(range(20)))
    assert len(computed) == 60
    assert store["stage1"].min() >= 1
    assert "not kept" not in store.manifest


def test_a_damaged_or_wrong_list_of_images_is_no_help(folder, computed, tmp_path):
    split = whole(folder)
    store = extract(split)
    note = Path(store.path) / "images.txt"
    names = note.read_text().split("\n")
    names[8:10] = names[9], names[8]
    note.write_text("\n".join(names))
    extract(split.select(range(20)))
    assert len(computed) == 60
    shutil.rmtree(store.path)
    (Path(store.path)).mkdir()
    extract(split.select(range(5)))  # from the sample, which is whole


def test_a_split_of_a_kind_of_its_own_is_known_by_its_fingerprint_alone(folder, computed):
    class Inverted(data.Split):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return Image.eval(image, lambda value: 255 - value), label

        @property
        def fingerprint(self):
            return f"inverted {super().fingerprint}"

    split = whole(folder)
    plain = extract(split)
    inverted = extract(Inverted(**{name: getattr(split, name) for name in split.__dataclass_fields__}))
    assert len(computed) == 80
    assert not np.allclose(plain["stage1"], inverted["stage1"])


def part_of_two(folder, note):
    """In one of two processes: extract, and note what this one computed and what came out."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        found = watch(patch)
        store = extract(whole(folder))
    np.savez(note, computed=found, **{stage: np.asarray(store[stage]) for stage in AT})


def test_two_processes_compute_half_each_and_both_return_the_whole(folder, computed, tmp_path):
    notes = [tmp_path / f"{rank}.npz" for rank in range(2)]
    processes.run_group(part_of_two, [(folder, note) for note in notes], GLOO_SOCKET_IFNAME="lo")
    found = [np.load(note) for note in notes]
    assert [len(own["computed"]) for own in found] == [20, 20]
    assert not set(found[0]["computed"]) & set(found[1]["computed"])
    store = extract(whole(folder))
    assert not computed
    assert alike(store, found[0])
    assert alike(store, found[1])


def test_known_rows_are_copied_a_batch_at_a_time_so_that_large_maps_fit_in_memory(
    folder, computed, monkeypatch
):
    split, written, write = whole(folder), [], Shelf.write
    extract(split, pool=False)

    def watched(shelf, arrays, image):
        written.append(len(arrays[0]))
        write(shelf, arrays, image)

    monkeypatch.setattr(Shelf, "write", watched)
    extract(split.select(range(39)), pool=False, batch_size=8)
    assert len(computed) == 40
    assert max(written) <= 8
    assert sum(written) == 39 * len(AT)
