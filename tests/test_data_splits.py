"""Splits are honest: balanced, decided by the seed alone, and no picture is on two sides."""

import io
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import all_paths, fill, noted, picture, sides_of
from PIL import Image
from processes import PROCESSES
from torch.utils.data import DataLoader

from tlutils import data, runtime
from tlutils.data.duplicates import find_copies
from tlutils.data.splits import partition
from tlutils.errors import LearnerError


def test_the_seed_decides_and_nothing_else():
    strata = ["a"] * 50 + ["b"] * 30
    same = [partition(strata, range(80), seed=3) for _ in range(2)]
    assert same[0] == same[1]
    assert same[0] != partition(strata, range(80), seed=4)


def test_shares_are_the_same_in_every_class():
    strata = ["a"] * 100 + ["b"] * 40 + ["c"] * 10
    found = Counter(zip(strata, partition(strata, range(150), seed=0), strict=True))
    for stratum, count in (("a", 100), ("b", 40), ("c", 10)):
        assert found[stratum, "val"] == found[stratum, "test"] == 0.2 * count
        assert found[stratum, "train"] == 0.6 * count


@pytest.mark.parametrize("seed", range(20))
def test_a_group_is_never_on_two_sides(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 30, 120).tolist()
    strata = rng.integers(0, 3, 120).tolist()  # many groups stand under several labels, too
    sides = partition(strata, groups, seed=seed)
    for group in set(groups):
        assert len({side for side, g in zip(sides, groups, strict=True) if g == group}) == 1


def test_groups_that_span_classes_still_give_every_split_both():
    strata = (["common"] * 9 + ["rare"]) * 30
    sides = partition(strata, [i // 10 for i in range(300)], seed=0)
    assert Counter(zip(strata, sides, strict=True))["rare", "test"] == 6
    with pytest.raises(LearnerError, match="tied to those of other"):
        tied = [
            "b",
            *"a" * 10,
            "c",
            *"a" * 10,
        ]  # every "a" hangs on one of two large groups, which stay in train
        partition([*tied, *"bbbccc"], [0] * 11 + [1] * 11 + list(range(2, 8)), seed=0, wanted=("val",))


@pytest.mark.parametrize("count", [3, 4, 5, 7])
def test_small_classes_reach_every_split(count):
    assert Counter(partition(["a"] * count, range(count), seed=0)) == Counter(
        {"train": count - 2, "val": 1, "test": 1}
    )


@pytest.mark.parametrize("few", [1, 2])
def test_too_few_images_name_the_class_and_the_count(tmp_path, few):
    """B14."""
    for k, (label, count) in enumerate({"cat": 12, "dog": 12, "owl": few}.items()):
        fill(tmp_path / label, count, first=100 * k)
    with pytest.raises(LearnerError, match=rf"'owl' has {few} image.*too_few"):
        data.load(tmp_path)
    ds = data.load(tmp_path, too_few="train")
    assert ds.train.counts["owl"] == few
    assert ds.val.counts == ds.test.counts == {"cat": 2, "dog": 2, "owl": 0}
    with pytest.raises(LearnerError, match="too_few"):
        data.load(tmp_path, too_few="drop")


def test_many_copies_of_one_picture_are_one_picture_to_count(tmp_path):
    fill(tmp_path / "dog", 12, first=100)
    (tmp_path / "cat").mkdir()
    for i in range(9):
        picture(1).save(tmp_path / "cat" / f"{i}.png")
    with pytest.raises(LearnerError, match=r"'cat' has 9 images, in 1 group of copies"):
        data.load(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_copies_land_on_one_side_and_two_labels_are_reported(tmp_path, seed):
    """B13: bytes copied, stored otherwise, compressed again, resized; one of them into another class."""
    fill(tmp_path / "cat", 15)
    fill(tmp_path / "dog", 15, first=100)
    picture(0).save(tmp_path / "cat" / "bytes.png")
    picture(1).save(tmp_path / "cat" / "format.bmp")
    picture(2).save(tmp_path / "cat" / "again.jpg", quality=60)
    picture(3).resize((96, 96), Image.Resampling.LANCZOS).save(tmp_path / "cat" / "larger.png")
    picture(4).resize((31, 31), Image.Resampling.BILINEAR).save(tmp_path / "cat" / "smaller.png")
    picture(5).save(tmp_path / "dog" / "wrong.png")
    ds = data.load(tmp_path, seed=seed)
    sides = sides_of(ds)
    twins = ["bytes.png", "format.bmp", "again.jpg", "larger.png", "smaller.png", "wrong.png"]
    for i, twin in enumerate(twins):
        assert sides[twin] == sides[f"{i:03d}.png"], twin
    assert noted(ds, "two-labels") == ["005.png", "wrong.png"]
    assert noted(ds, "copy") == sorted(twins[:5])
    assert len(all_paths(ds)) == 36


def test_different_pictures_are_not_taken_for_copies():
    flat = [np.full((32, 32), level, np.uint8) for level in range(0, 200, 4)]
    flat += flat[:5]  # other colours of the same grey
    rng = np.random.default_rng(0)
    noisy = [np.clip(flat[9] + rng.normal(0, 12, (32, 32)), 0, 255).astype(np.uint8) for _ in range(50)]
    pattern = np.add.outer(np.arange(32), np.arange(32)) * 3
    alike = [np.clip(pattern + rng.normal(0, 10, (32, 32)), 0, 255).astype(np.uint8) for _ in range(50)]
    thumbs = np.stack(flat + noisy + alike)
    assert len(
        set(find_copies([str(i) for i in range(len(thumbs))], thumbs, [""] * len(thumbs)).groups)
    ) == len(thumbs)


def test_what_is_declared_to_belong_together_joins_the_groups_of_copies():
    names = ["ann1", "ann2", "bob1", "bob2", "cy1", "dan1"]
    copies = [0, 1, 2, 3, 3, 5]  # bob2 and cy1 are one picture
    known = data.load("digits").val.select(range(6))
    known = replace(known, paths=[Path(f"{name}.png") for name in names], groups=copies)
    for group_by in ("[a-z]+", lambda path: path.stem[:-1]):
        groups = known.grouped(group_by).groups
        alike = {(a, b) for a in range(6) for b in range(a) if groups[a] == groups[b]}
        assert alike == {(1, 0), (3, 2), (4, 2), (4, 3)}
    assert known.grouped(None).groups == copies
    with pytest.raises(LearnerError, match="is not a regular expression"):
        known.grouped("(")


def test_a_summary_counts_every_class_and_says_what_was_noted(tmp_path):
    fill(tmp_path / "cat", 10)
    fill(tmp_path / "dog", 10, first=10)
    (tmp_path / "dog" / "broken.png").write_bytes(b"no picture")
    lines = data.load(tmp_path).summary().splitlines()
    assert lines[0].startswith(f"{tmp_path.name}: 20 images of 2 classes")
    assert [line.split() for line in lines[2:5]] == [
        ["cat", "6", "2", "2"],
        ["dog", "6", "2", "2"],
        ["in", "all", "12", "4", "4"],
    ]
    assert lines[5].startswith("Noted: dog/broken.png: unreadable: ")


def test_groups_keep_crops_of_one_photograph_together(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for photo in range(6):
            whole = picture(photo + 50 * (label == "dog"), size=96)
            for crop in range(3):
                whole.crop((20 * crop, 0, 20 * crop + 50, 96)).save(tmp_path / label / f"{photo}_{crop}.png")
    ds = data.load(tmp_path, group_by=lambda path: path.stem.split("_")[0] + path.parent.name)
    photo_sides = {(p.parent.name, p.stem[0]): set() for p in all_paths(ds)}
    for split in (ds.train, ds.val, ds.test):
        for path in split.paths:
            photo_sides[path.parent.name, path.stem[0]].add(split.name)
    assert len(photo_sides) == 12
    assert all(len(sides) == 1 for sides in photo_sides.values())


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    root = tmp_path_factory.mktemp("splits") / "pets"
    fill(root / "cat", 20)
    fill(root / "dog", 20, first=100)
    return root


def test_subsamples_are_balanced_nested_and_by_seed(pets):
    train = data.load(pets).train
    small, large = train.subsample(2, seed=1), train.subsample(5, seed=1)
    assert small.counts == {"cat": 2, "dog": 2}
    assert set(small.paths) < set(large.paths) < set(train.paths)
    assert small.paths == train.subsample(2, seed=1).paths != train.subsample(2, seed=2).paths
    with pytest.raises(LearnerError, match="'cat' has 12"):
        train.subsample(13)
    with pytest.raises(LearnerError, match="at least 1"):
        train.subsample(0)


def test_the_test_split_counts_who_reads_it_and_paths_and_labels_read_nothing(pets):
    ds = data.load(pets)
    assert len(ds.test.paths) == len(ds.test.labels) == len(ds.test)
    assert ds.test.fingerprint
    assert ds.test.images_read == 0
    ds.test[0]
    ds.test.subsample(1)[0]
    ds.test.transformed(np.asarray)[1]
    assert ds.test.images_read == 3
    assert ds.train.images_read == 0


def test_labels_and_paths_decode_nothing(pets, tmp_path):
    import shutil

    shutil.copytree(pets, tmp_path / "pets")
    ds = data.load(tmp_path / "pets")
    shutil.rmtree(tmp_path / "pets")
    assert sum(ds.train.labels) == 12
    assert len(ds.train.subsample(3)) == 6
    with pytest.raises(LearnerError, match="no such file"):
        ds.train[0]


def test_the_fingerprint_follows_content_and_order_and_not_the_place(pets, tmp_path):
    import shutil

    shutil.copytree(pets, tmp_path / "moved")
    one, moved = data.load(pets), data.load(tmp_path / "moved")
    assert one.train.fingerprint == moved.train.fingerprint
    prints = {split.fingerprint for split in (one.train, one.val, one.test, one.train.subsample(3))}
    assert len(prints) == 4
    turned = one.train.select(range(len(one.train))[::-1])
    assert turned.fingerprint != one.train.fingerprint


def test_an_index_beyond_the_end_is_an_index_error(pets):
    train = data.load(pets).train
    with pytest.raises(IndexError):
        train[len(train)]
    assert train[-1][1] == train.labels[-1]


class Jitter:
    """A transform with NumPy's, Python's and torch's randomness, as learners write them."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        import random

        return torch.tensor([np.random.rand(), random.random(), torch.rand(1).item()])  # noqa: NPY002


class ToTensor:
    def __call__(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image.resize((8, 8)), dtype=np.float32))


def test_each_split_has_a_transform_of_its_own(pets):
    """B16."""
    ds = data.load(pets)
    train, val = ds.train.transformed(Jitter()), ds.val.transformed(ToTensor())
    assert torch.equal(val[0][0], val[0][0])
    assert len({tuple(train[0][0].tolist()) for _ in range(5)}) == 5
    assert ds.train[0][0].size == (48, 48)


def test_a_worker_that_shares_no_memory_reads_what_the_main_process_reads(pets):
    """B18: everything pickles, as the start methods "spawn" and "forkserver" need."""
    ds = pickle.loads(pickle.dumps(data.load(pets)))
    seen = ds.val.transformed(ToTensor())
    loader = DataLoader(seen, batch_size=3, num_workers=1, multiprocessing_context=PROCESSES)
    images = torch.cat([batch for batch, _ in loader])
    assert torch.equal(images, torch.stack([seen[i][0] for i in range(len(seen))]))


def test_random_transforms_in_workers_differ_by_sample_and_epoch_and_repeat_by_seed(pets):
    """B46."""
    train = data.load(pets).train.transformed(Jitter())

    def two_epochs() -> torch.Tensor:
        with runtime.seeded(0):
            loader = DataLoader(train, batch_size=4, num_workers=2)
            return torch.stack([torch.cat([batch for batch, _ in loader]) for _ in range(2)])

    first, second = two_epochs(), two_epochs()
    assert torch.equal(first, second)
    for source in range(3):
        assert first[..., source].unique().numel() == first[..., source].numel()


def test_what_is_printed_has_no_addresses_and_says_what_was_set_aside(pets, tmp_path):
    import shutil

    shutil.copytree(pets, tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "bad.jpg").write_bytes(b"")
    text = repr(data.load(tmp_path / "pets"))
    assert "0x" not in text
    assert "train 24, val 8, test 8" in text
    assert "1 empty-file" in text
    assert repr(data.load(pets).train) == "Split(train: 24 images, 2 classes)"


def test_a_photograph_compressed_again_is_still_the_same(tmp_path):
    """On real photographs: every ordinary copy is found, and no two of them are confused."""
    from skimage import data as photographs

    names = ("astronaut", "coffee", "chelsea", "rocket", "camera", "coins", "brick", "grass", "gravel")
    originals = [Image.fromarray(getattr(photographs, name)()).convert("RGB") for name in names]

    def thumb(image: Image.Image) -> np.ndarray:
        return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX))

    def again(image: Image.Image, quality: int, scale: float) -> Image.Image:
        buffer = io.BytesIO()
        image.resize([int(scale * side) for side in image.size], Image.Resampling.LANCZOS).save(
            buffer, "JPEG", quality=quality
        )
        return Image.open(buffer)

    copies = [again(image, q, s) for image in originals for q, s in ((90, 1), (40, 1), (85, 0.5))]
    thumbs = np.stack([thumb(image) for image in originals + copies])
    groups = find_copies([str(i) for i in range(len(thumbs))], thumbs, [""] * len(thumbs)).groups
    assert groups == list(range(9)) + [i for i in range(9) for _ in range(3)]
