"""Stored features are those that a fresh computation would give, whatever was changed, drawn or damaged."""

import copy
import functools
import gc
import logging
import os
import random
import secrets
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from families import few
from features_world import SIZE, Photos, as_tensor, body, extract, network
from PIL import Image
from torch import nn
from torch.nn import functional as F

from tlutils import data, models
from tlutils.errors import LearnerError
from tlutils.features.store import Shelf

pytestmark = pytest.mark.usefixtures("empty_cache")

GAIN = 1.0


def gain(x):
    return x * GAIN


class Odd(nn.Module):
    """A layer that keeps what it does in every place but a parameter."""

    def __init__(self):
        super().__init__()
        self.steps = {"first": [functools.partial(torch.clamp, min=-1.0)]}
        self.limits = np.array([0.0, 1.0])
        self.shift = [torch.zeros(3, 1, 1)]

    def forward(self, x):
        x = self.steps["first"][0](x - self.shift[0])
        return gain(x) + float(self.limits[0])


def odd_network():
    model = network()
    model.begin = nn.Sequential(Odd(), *model.begin)
    return model


def change_partial(model):
    model.begin[0].steps["first"][0] = functools.partial(torch.clamp, min=0.1)


def change_array(model):
    model.begin[0].limits[0] = 0.5


def change_tensor_in_a_list(model):
    model.begin[0].shift[0] += 1


def change_global_of_a_helper(model):
    globals()["GAIN"] = 2.0


def add_hook_of_an_object(model):
    class Fade:
        def __call__(self, module, args, output):
            return output * 0.5

    model.begin[1].register_forward_hook(Fade())


def add_method(model):
    model.begin[0].forward = lambda x: x * 3


CHANGES = [
    change_partial,
    change_array,
    change_tensor_in_a_list,
    change_global_of_a_helper,
    add_hook_of_an_object,
    add_method,
]


@pytest.fixture
def restored_gain():
    yield
    globals()["GAIN"] = 1.0


def rows(store):
    return {stage: np.array(store[stage]) for stage in store.at}


def fresh(tmp_path, monkeypatch, model, split, **options):
    """The rows that an empty cache would give."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TLUTILS_CACHE", str(tmp_path / "fresh"))
        return rows(extract(model, split, **options))


def same(one, other):
    return all(np.array_equal(one[stage], other[stage]) for stage in one)


@pytest.mark.parametrize("change", CHANGES)
def test_features_follow_every_change_of_a_model_and_back(change, tmp_path, monkeypatch, restored_gain):
    model, at = odd_network(), ["pool"]
    before = rows(extract(model, Photos(8), at=at))
    changed = copy.deepcopy(model)
    change(changed)
    after = rows(extract(changed, Photos(8), at=at))
    assert not same(before, after)
    assert same(after, fresh(tmp_path, monkeypatch, changed, Photos(8), at=at))
    globals()["GAIN"] = 1.0
    photos = Photos(8)
    assert same(before, rows(extract(model, photos, at=at)))
    assert photos.decoded == []


@pytest.mark.parametrize("change", few(CHANGES, change_array, add_hook_of_an_object))
def test_a_model_that_is_changed_in_place_is_followed(change, tmp_path, monkeypatch, restored_gain):
    model, at = odd_network(), ["pool"]
    for _ in range(2):
        before = rows(extract(model, Photos(8), at=at))
    change(model)
    after = rows(extract(model, Photos(8), at=at))
    assert not same(before, after)
    assert same(after, fresh(tmp_path, monkeypatch, model, Photos(8), at=at))


def test_a_model_as_it_was_at_its_last_trial_runs_one_image_once():
    model, sizes = network(), []
    model.begin.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    extract(model, Photos(8), at=["pool"])
    sizes.clear()
    extract(model, Photos(8), at=["pool"])
    assert sizes == [1]


class Lazy:
    """A transform that makes a table at its first use."""

    table = None

    def __call__(self, image):
        self.table = self.table or [1.0]
        return as_tensor(image) * self.table[0]


def test_what_a_transform_makes_at_its_first_use_leaves_the_key_alone():
    model, lazy = network(), Lazy()
    extract(model, Photos(8), at=["pool"])  # from now on the model is known
    extract(model, Photos(8), at=["pool"], transform=lazy)
    photos = Photos(8)
    extract(model, photos, at=["pool"], transform=lazy)
    assert photos.decoded == []


SETTINGS = {"offset": {"deep": [0.0]}}


def helper(tensor):
    return tensor + SETTINGS["offset"]["deep"][0]


class Pipeline:
    """A transform that calls a helper, which reads a global."""

    steps = (as_tensor,)

    def __call__(self, image):
        for step in self.steps:
            image = step(image)
        return helper(image)


def scaled(image, *, factor=1.0):
    return as_tensor(image) * factor


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setitem(SETTINGS, "offset", {"deep": [0.5]}),
        lambda patch: patch.setattr(Pipeline, "steps", (as_tensor, lambda x: -x)),
        lambda patch: patch.setitem(globals(), "helper", lambda tensor: tensor * 2),
        lambda patch: patch.setattr(scaled, "__kwdefaults__", {"factor": 2.0}),
        lambda patch: patch.setattr(torch, "from_numpy", lambda array, old=torch.from_numpy: old(array // 2)),
    ],
    ids=["a deep global", "a class attribute", "a helper", "a default", "a library"],
)
def test_features_follow_every_change_of_a_transform(change, tmp_path, monkeypatch):
    transform = Pipeline() if "scaled" not in change.__code__.co_names else scaled
    model = network()
    options = {"transform": transform, "at": ["stage1"]}
    before = rows(extract(model, Photos(8), **options))
    change(monkeypatch)
    after = rows(extract(model, Photos(8), **options))
    assert not same(before, after)
    assert same(after, fresh(tmp_path, monkeypatch, model, Photos(8), **options))


def test_what_no_reading_of_the_code_shows_is_seen_by_its_effect(tmp_path, monkeypatch):
    model = network()
    before = rows(extract(model, Photos(8)))
    convolve = F.conv2d
    monkeypatch.setattr(nn.Conv2d, "__call__", lambda self, x: nn.Module.__call__(self, x) * 2, raising=False)
    assert convolve is F.conv2d
    after = rows(extract(model, Photos(8)))
    assert not same(before, after)


def test_a_hook_that_only_counts_costs_no_second_computation():
    model, seen = network(), []

    class Counter:
        calls = 0

        def __call__(self, module, args, output):
            self.calls += 1
            module.kept = output

    model.begin.register_forward_hook(lambda module, args, output: seen.append(output.mean()))
    model.middle.register_forward_hook(Counter())
    first = extract(model, Photos())
    for _ in range(3):
        photos = Photos()
        assert same(rows(extract(model, photos)), rows(first))
        assert photos.decoded == []


def rarely(draw, share=0.1):
    """A transform that inverts one picture in ten."""
    return lambda image: -as_tensor(image) if draw() < share else as_tensor(image)


class Jitter:
    def __init__(self):
        self.source = np.random.default_rng(5)

    def __call__(self, image):
        return as_tensor(image) + (0.1 if self.source.random() < 0.1 else 0)


OWN = random.Random(3)


@pytest.mark.parametrize(
    "transform",
    [
        rarely(random.random),
        rarely(np.random.rand),
        rarely(lambda: torch.rand(()).item()),
        rarely(lambda: np.random.default_rng().random(), 0.5),
        rarely(lambda: OWN.random()),
        rarely(random.SystemRandom().random, 0.5),
        Jitter(),
    ],
    ids=["Python", "NumPy", "torch", "a generator for each call", "a global generator", "the system", "own"],
)
def test_rare_randomness_of_a_transform_is_refused(transform):
    with pytest.raises(LearnerError, match="views=k"):
        extract(network(), Photos(8), transform=transform, at=["stage1"])


def test_what_another_thread_draws_meanwhile_is_nothing_that_the_transform_draws():
    others = [threading.Thread(target=random.random)]

    def interrupted(image):
        while others:
            other = others.pop()
            other.start()
            other.join()
        return as_tensor(image)

    assert "not kept" not in extract(network(), Photos(8), transform=interrupted, at=["stage1"]).manifest


FRESH = {
    "NumPy": lambda *seed: np.random.default_rng(*seed).random(),
    "NumPy's old one": lambda *seed: np.random.RandomState(*seed).rand(),
    "Python": lambda *seed: random.Random(*seed).random(),
    "torch": lambda *seed: torch.rand((), generator=generator(*seed)).item(),
    "the system": lambda *seed: seed[0] if seed else secrets.randbelow(1000) / 1000,
}


def generator(*seed):
    made = torch.Generator()
    made.manual_seed(*seed) if seed else made.seed()
    return made


@pytest.mark.parametrize("make", few(FRESH, "NumPy's old one", "the system"))
def test_a_generator_made_afresh_is_seen_though_it_acts_rarely_unless_it_is_seeded(make, caplog):
    draw, known = FRESH[make], network()
    extract(known, Photos(8), at=["stage1"])
    for model in (network(), known):
        with pytest.raises(LearnerError, match="views=k"):
            extract(model, Photos(8), transform=rarely(draw, 0.03), at=["stage1"])
    store = extract(network(), Photos(8), transform=rarely(draw, 0.03), views=2, at=["stage1"])
    assert "generator of its own" in store.manifest["not kept"]
    store = extract(network(), Photos(8), transform=rarely(lambda: draw(3), 0.03), at=["stage1"])
    assert "not kept" not in store.manifest


class Noise(nn.Module):
    def __init__(self, noise):
        super().__init__()
        self.noise, self.source = noise, np.random.default_rng(0)

    def forward(self, x):
        return self.noise(self, x)


NOT_THE_IMAGES_OWN = {
    "dropout": lambda layer, x: F.dropout(x, 0.5),
    "one draw in ten": lambda layer, x: x * 2 if random.random() < 0.1 else x,
    "a generator of its own": lambda layer, x: x + 0.1 * float(layer.source.random()),
    "a generator for each call": lambda layer, x: x * 2 if np.random.default_rng().random() < 0.01 else x,
    "statistics of the batch": lambda layer, x: F.batch_norm(x, None, None, training=True),
    "the batch's mean": lambda layer, x: x - x.mean(0, keepdim=True),
    "the largest of the batch": lambda layer, x: x / x.abs().amax(),
}


@pytest.mark.parametrize(
    "kind", few(NOT_THE_IMAGES_OWN, "one draw in ten", "a generator of its own", "the largest of the batch")
)
def test_what_an_image_does_not_have_by_itself_is_not_kept_and_said(kind, caplog):
    model = network()
    model.middle = nn.Sequential(*model.middle, Noise(NOT_THE_IMAGES_OWN[kind]))
    models.describe(model, input_size=(3, SIZE, SIZE))
    with caplog.at_level(logging.WARNING):
        store = extract(model, Photos(12), at=["pool"])
    assert "not kept" in caplog.text
    assert store.manifest["not kept"] in caplog.text
    assert np.isfinite(store["pool"]).all()
    photos, folder = Photos(12), store.path
    extract(model, photos, at=["pool"])
    assert photos.decoded, "nothing was served"
    del store
    gc.collect()
    assert not folder.exists()


def test_views_by_a_generator_that_no_seed_reaches_are_not_kept(caplog):
    store = extract(network(), Photos(8), transform=Jitter(), views=2, at=["stage1"])
    assert "generator of its own" in store.manifest["not kept"]


@pytest.fixture
def folder(tmp_path):
    """Pictures of two classes, without a compression, so that another picture has the same size."""
    for i in range(24):
        path = tmp_path / "pictures" / "ab"[i % 2] / f"{i:02d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(256, size=(SIZE, SIZE, 3), dtype=np.uint8)).save(
            path
        )
    return tmp_path / "pictures"


def negate(path):
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def invert(path):
    """Change a picture, but neither its size nor its time."""
    before = path.stat()
    negate(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def replace(path):
    """Put another file in its place, of the same size and time."""
    copy_ = path.with_name("new.bmp")
    shutil.copy2(path, copy_)
    invert(copy_)
    copy_.replace(path)


def exchange(path):
    other = path.parent.parent / ("b" if path.parent.name == "a" else "a")
    other = min(other.iterdir())
    content, times = [p.read_bytes() for p in (path, other)], [p.stat() for p in (path, other)]
    for target, new, status in zip((path, other), reversed(content), times, strict=True):
        target.write_bytes(new)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("edit", [invert, replace, exchange])
def test_a_picture_that_changed_is_seen_when_the_folder_is_loaded_again(edit, folder, tmp_path, monkeypatch):
    model = network()
    split = data.load(folder).train
    before = rows(extract(model, split))
    edit(split.paths[0])
    again = data.load(folder).train
    assert again.fingerprint != split.fingerprint
    after = rows(extract(model, again))
    assert not same(before, after)
    assert same(after, fresh(tmp_path, monkeypatch, model, again))


@pytest.mark.parametrize("image", few([0, 3, -1], 3, -1), ids=["first", "tried", "last"])
@pytest.mark.parametrize("warm", [True, False])
def test_a_file_that_changed_after_loading_poisons_no_key(image, warm, folder, caplog):
    model = network()
    right = rows(extract(model, data.load(folder).train))
    if not warm:
        shutil.rmtree(Path(os.environ["TLUTILS_CACHE"]) / "features")
    split = data.load(folder).train
    content = split.paths[image].read_bytes()
    invert(split.paths[image])
    seen = extract(model, split)
    assert not same(rows(seen), right)
    assert split.paths[image].name in seen.manifest["not kept"]
    split.paths[image].write_bytes(content)
    assert same(rows(extract(model, data.load(folder).train)), right)
    assert same(rows(extract(model, split)), right)


def test_a_file_that_changes_while_it_is_read_poisons_no_key(folder):
    model, split = network(), data.load(folder).train
    content = split.paths[-1].read_bytes()
    invert(split.paths[-1])
    state = split.files[-1]
    split.files[-1] = state[0], data.dataset.stamp(split.paths[-1])  # as if it had been seen in time
    seen = extract(model, split)
    split.paths[-1].write_bytes(content)
    right = extract(model, data.load(folder).train)
    assert "not kept" in seen.manifest
    assert not same(rows(seen), rows(right))


def test_a_packaged_picture_that_was_edited_or_deleted_is_mended():
    model = models.describe(network(), input_size=(3, 8, 8))
    split = data.load("digits").train.select(range(8))
    right = rows(extract(model, split, at=["stage1"]))
    shutil.rmtree(Path(os.environ["TLUTILS_CACHE"]) / "features")
    for i, harm in enumerate([Path.unlink, lambda p: p.write_bytes(b"no picture"), negate], start=1):
        harm(split.paths[i])
    assert same(rows(extract(model, split, at=["stage1"])), right)
    negate(split.paths[0])
    again = data.load("digits").train.select(range(8))
    assert same(rows(extract(model, again, at=["stage1"])), right)
    assert again.changed == []


def shelf(store, stage):
    return store.path / store.manifest["stages"][stage]["folder"]


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


HARM = {
    "a byte in the middle": lambda folder: flip(folder / "0.npy", 200),
    "the last byte": lambda folder: flip(folder / "0.npy", -1),
    "a byte of the header": lambda folder: flip(folder / "0.npy", 25),
    "zeros at the end": lambda folder: np.load(folder / "0.npy", mmap_mode="r+")[-2:].fill(0),
    "cut short": lambda folder: (folder / "0.npy").write_bytes((folder / "0.npy").read_bytes()[:300]),
    "empty": lambda folder: (folder / "0.npy").write_bytes(b""),
    "no array": lambda folder: (folder / "0.npy").unlink(),
    "no list": lambda folder: (folder / "shelf.json").unlink(),
    "another list": lambda folder: (folder / "shelf.json").write_text('["done"]'),
    "a number of the list": lambda folder: flip(folder / "shelf.json", 20),
    "a dangling link": lambda folder: ((folder / "0.npy").unlink(), (folder / "0.npy").symlink_to("nowhere")),
    "nothing": lambda folder: shutil.rmtree(folder),
}


@pytest.mark.parametrize(
    "harm",
    few(HARM, "a byte in the middle", "cut short", "no list", "another list", "a dangling link", "nothing"),
)
def test_a_damaged_store_is_refused_while_held_and_made_again(harm, tmp_path):
    store = extract(network(), Photos(8), at=["stage1"])
    right = rows(store)
    held = store["stage1"]
    HARM[harm](shelf(store, "stage1"))
    with pytest.raises(LearnerError, match=r"features\.extract again"):
        store["stage1"]
    photos = Photos(8)
    assert same(rows(extract(network(), photos, at=["stage1"])), right)
    assert sorted(photos.decoded) == list(range(8))
    assert same(rows(store), right)
    assert held.shape == right["stage1"].shape


def test_a_store_says_so_while_another_makes_it_again(monkeypatch):
    model, photos = network(), Photos(24)
    monkeypatch.setattr("tlutils.features.extraction.COMMIT_SECONDS", 0)
    store, said = extract(model, photos, at=["stage1"]), []
    right = rows(store)
    shutil.rmtree(shelf(store, "stage1"))

    class Watched(Photos):
        def __getitem__(self, i):
            if i > 16:
                try:
                    said.append(store["stage1"])
                except LearnerError as error:
                    said.append(str(error))
            return super().__getitem__(i)

    extract(model, Watched(24), at=["stage1"], batch_size=4)
    assert said
    assert all("being made again" in words for words in said if isinstance(words, str))
    assert all(np.array_equal(a, right["stage1"]) for a in said if not isinstance(a, str))
    assert same(rows(store), right)


MEANWHILE = {
    "removed": lambda shelf: shutil.rmtree(shelf.folder),
    "one file removed": lambda shelf: (shelf.folder / "0.npy").unlink(),
    "emptied": lambda shelf: (shelf.folder / "0.npy").write_bytes(b""),
    "begun again": lambda shelf: (
        shelf.sweep(everything=True),
        shelf.lay((np.zeros((1, 8), np.float32),), 8, 1, {"arithmetic": "float32"}),
    ),
}


@pytest.mark.parametrize("event", MEANWHILE)
def test_what_another_process_does_between_a_look_and_the_reading_is_seen(event, monkeypatch):
    model, read, waiting = network(), Shelf.read, []

    def interrupted(self):
        while waiting:
            waiting.pop()(Shelf(self.folder))
        return read(self)

    store = extract(model, Photos(8), at=["stage1"])
    right = rows(store)
    monkeypatch.setattr(Shelf, "read", interrupted)
    waiting.append(MEANWHILE[event])
    with pytest.raises(LearnerError, match=r"features\.extract again"):
        store["stage1"]
    assert same(rows(extract(model, Photos(8), at=["stage1"])), right)
    waiting.append(MEANWHILE[event])
    assert same(rows(extract(model, Photos(8), at=["stage1"])), right)
    assert same(rows(store), right)


@pytest.mark.parametrize("place", ["0.npy", "shelf.json", ".", ".lock", ".."])
def test_what_stands_in_the_place_of_a_cache_file_is_named_and_left(place):
    store = extract(network(), Photos(8), at=["stage1"])
    folder = shelf(store, "stage1")
    path = {".": folder, ".lock": Path(f"{folder}.lock"), "..": folder.parent}.get(place, folder / place)
    path.unlink() if path.is_file() else shutil.rmtree(path)
    if place in (".", ".."):
        path.write_text("a letter")
    else:
        path.mkdir()
        (path / "letter").write_text("dear")
        if not folder.exists():
            folder.mkdir()
    if place == ".lock":
        shutil.rmtree(folder)
    with pytest.raises(LearnerError, match="something else has that name"):
        extract(network(), Photos(8), at=["stage1"])
    assert path.read_text() == "a letter" if path.is_file() else (path / "letter").exists()


def test_eight_threads_at_once_get_the_same_and_leave_models_and_generators_alone():
    nets = [network(seed).train() for seed in (0, 1)]
    right = [rows(extract(net, Photos(8))) for net in nets]
    shutil.rmtree(Path(os.environ["TLUTILS_CACHE"]) / "features")
    torch.manual_seed(7)
    expected = torch.Generator().manual_seed(7)
    start = threading.Barrier(8)

    def work(i):
        start.wait()
        return rows(extract(nets[i % 2], Photos(8), batch_size=2))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    assert all(same(one, right[i % 2]) for i, one in enumerate(found))
    assert all(net.training for net in nets)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=expected))


@pytest.mark.parametrize("precision", few(["auto", "float32"], "auto"))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_every_number_type_are_read_and_kept(dtype, precision):
    plain = rows(extract(network(), Photos(8), at=["pool"]))["pool"]
    model = network().to(dtype)
    store = extract(model, Photos(8), at=["pool"], precision=precision)
    assert np.abs(store["pool"] - plain).max() < 0.05 * np.abs(plain).max()
    photos = Photos(8)
    assert same(rows(extract(model, photos, at=["pool"], precision=precision)), rows(store))
    assert photos.decoded == []
    assert "not kept" not in store.manifest


def test_a_stage_has_the_same_features_whatever_else_is_asked_for(tmp_path, monkeypatch):
    model = network()
    alone = rows(extract(model, Photos(8), at=["stage1"], precision="auto"))
    together = fresh(tmp_path, monkeypatch, model, Photos(8), at=body(), precision="auto")
    assert np.array_equal(alone["stage1"], together["stage1"])
