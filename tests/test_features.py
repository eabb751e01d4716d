"""Features are computed once per image and are what a stage puts out; the model does not notice."""

import copy
import pickle
import re

import numpy as np
import pytest
import timm
import torch
from features_world import SIZE, Broken, Photos, Skips, as_tensor, body, extract, flipped, network
from odd_networks import Wide
from torch import nn

from tlutils import data, features, inference, models, runtime, surgery
from tlutils.errors import LearnerError
from tlutils.features import keys
from tlutils.features.forward import Forward

pytestmark = pytest.mark.usefixtures("empty_cache")


def truth(model, photos):
    """What leaves the student's blocks, by plain hooks: an independent way."""
    seen, handles = {}, []
    for name in ("begin", "middle", "late", "flat"):
        layer = getattr(model, name)
        handles.append(
            layer.register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, o.numpy()))
        )
    with torch.no_grad():
        model(torch.stack([as_tensor(photos[i][0]) for i in range(len(photos))]))
    for handle in handles:
        handle.remove()
    return seen


def near(one, other):
    return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=1e-6)


def passes(model):
    """A list that collects the size of each batch that enters the model; a trial's are 1."""
    sizes = []
    model.begin[0].register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    return sizes


def test_whole_maps_are_what_leaves_each_stage():
    model = network()
    store, right = extract(model, Photos(), pool=False), truth(model, Photos())
    blocks = [right[name] for name in ("begin", "middle", "late")]
    assert all(any(near(store[stage], block) for stage in store.at) for block in blocks)
    assert near(store[store.at[-1]].reshape(24, -1), right["flat"])


def test_pooled_features_are_averages_over_space():
    model = network()
    maps, codes = extract(model, Photos(), pool=False), extract(model, Photos())
    for stage in codes.at:
        whole = maps[stage]
        assert codes[stage].shape == whole.shape[:2]
        assert np.allclose(codes[stage], whole.reshape(*whole.shape[:2], -1).mean(2), atol=1e-6)
    assert codes.labels.tolist() == Photos().labels


@pytest.mark.parametrize(
    "build",
    [
        lambda: timm.create_model("test_vit", num_classes=3, img_size=SIZE),
        lambda: timm.create_model("test_convnext", num_classes=3),
        lambda: timm.models.SwinTransformer(
            SIZE, embed_dim=16, depths=(1, 1), num_heads=(2, 2), window_size=4, num_classes=3
        ),
    ],
    ids=["tokens", "maps", "maps with channels last"],
)
def test_tokens_and_maps_of_either_layout_become_one_number_a_channel(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.describe(build().eval(), input_size=(3, SIZE, SIZE))
    stages = surgery.stages(model)
    store = extract(model, Photos(8), at=stages.names[:-1])
    images = torch.stack([as_tensor(Photos()[i][0]) for i in range(8)])
    with torch.no_grad():
        read = model.forward_head(model.forward_features(images), pre_logits=True).numpy()
        last = model.forward_features(images)
    assert near(store[store.at[-1]], read)
    widths = {
        array.shape[1] for stage in store.at for array in [store[stage]] if not isinstance(array, tuple)
    }
    assert widths <= {p.shape[0] for p in model.parameters()}, (
        "a channel count, and no height or number of tokens"
    )
    assert last.shape[-1] in widths or last.shape[1] in widths


def test_each_image_is_decoded_once_and_passes_once_for_any_number_of_stages():
    model, photos = network(), Photos()
    sizes = passes(model)
    store = extract(model, photos, batch_size=24)
    assert len(store.at) >= 4
    assert sorted(photos.decoded) == list(range(24))
    assert sum(sizes) == 24 + 2
    assert len(photos.tried) == 2 + 1, "one again, to see what its transform asks the system for"


@pytest.mark.parametrize(("side", "most"), [(224, 16), (128, 48), (32, 128)])
def test_a_pass_takes_as_many_images_as_need_the_same_memory(side, most):
    model = models.describe(network(), input_size=(3, side, side))
    sizes = passes(model)
    extract(model, Photos(130))
    assert max(sizes) == most


def test_the_second_call_reads_and_computes_nothing_but_a_trial():
    model = network()
    sizes = passes(model)
    first = extract(model, Photos())
    photos = Photos()
    sizes.clear()
    second = extract(model, photos)
    assert (photos.decoded, len(photos.tried), sizes) == ([], 1, [1])
    assert all(np.array_equal(first[stage], second[stage]) for stage in first.at)


def test_fewer_stages_are_served_from_what_is_there_and_more_add_only_what_lacks():
    model = network()
    names = body()
    store = extract(model, Photos(), at=names[1:3])
    photos = Photos()
    assert extract(model, photos, at=names[2]).at == (names[2],)
    assert photos.decoded == []
    written = {path: path.stat().st_mtime_ns for path in store.path.rglob("*.npy")}
    assert extract(model, photos, at=names).at == tuple(names)
    assert sorted(photos.decoded) == list(range(24))
    assert all(path.stat().st_mtime_ns == then for path, then in written.items())


def trained(model, *, look):
    """Weights after three steps of training, with or without a look at features between them."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    model.train()
    model.begin.eval()  # mixed modes, as a frozen part has
    torch.manual_seed(5)
    for step in range(3):
        if look:
            extract(model, Photos(8), batch_size=3 + step, views=2, transform=flipped, precision="auto")
        images = torch.randn(6, 3, SIZE, SIZE)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2] * 2)).backward()
        optimizer.step()
    return model.state_dict(), [m.training for m in model.modules()], float(torch.rand(()))


def test_looking_never_changes_what_training_does_next():
    one, two = network(), network()
    for model in (one, two):
        model.middle.requires_grad_(False)
    state, modes, draw = trained(one, look=False)
    state2, modes2, draw2 = trained(two, look=True)
    assert all(torch.equal(state[k], state2[k]) for k in state)
    assert (modes, draw) == (modes2, draw2)


def test_a_model_left_in_training_mode_is_read_in_evaluation_mode():
    calm, busy = network(), network().train()
    one = extract(calm, Photos())
    photos = Photos()
    two = extract(busy, photos, batch_size=7)
    assert photos.decoded == [], "modes are no ingredient"
    assert busy.training
    assert all(np.array_equal(one[s], two[s]) for s in one.at)


def test_training_mode_and_its_dropout_do_not_reach_the_features():
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    store, right = extract(model, Photos()), truth(network(), Photos())
    assert np.allclose(store[store.at[-1]], right["flat"], atol=1e-6)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_features_of_an_image_do_not_depend_on_its_batch(tmp_path, monkeypatch):
    model, stores = network(), []
    for size in (1, 5, 32):
        monkeypatch.setenv("TLUTILS_CACHE", str(tmp_path / f"batch-{size}"))
        stores.append(extract(model, Photos(), batch_size=size))
    for stage in stores[0].at:
        for other in stores[1:]:
            assert np.allclose(stores[0][stage], other[stage], rtol=0, atol=1e-6)


def test_views_are_seeded_by_view_and_image_and_decoded_once():
    model, photos = network(), Photos(9)
    store = extract(model, photos, views=4, transform=flipped)
    assert sorted(photos.decoded) == list(range(9))
    assert len(store) == 36
    assert store.labels.tolist() == np.repeat(photos.labels, 4).tolist()
    codes = store[store.at[0]].reshape(9, 4, -1)
    assert all(len(np.unique(codes[i], axis=0)) > 1 for i in range(9))
    fewer = extract(model, photos, views=2, transform=flipped)
    assert np.allclose(fewer[store.at[0]].reshape(9, 2, -1), codes[:, :2], atol=1e-6)
    other = extract(model, photos, views=4, transform=flipped, seed=1)
    assert not np.allclose(other[store.at[0]], store[store.at[0]])


def test_views_do_not_depend_on_threads_or_batches(tmp_path, monkeypatch):
    model, stores = network(), []
    for size in (1, 32):
        monkeypatch.setenv("TLUTILS_CACHE", str(tmp_path / f"batch-{size}"))
        stores.append(extract(model, Photos(9), views=3, transform=flipped, batch_size=size))
    assert np.allclose(stores[0][stores[0].at[0]], stores[1][stores[1].at[0]], atol=1e-6)


def test_only_a_few_batches_are_in_memory_at_once():
    photos, ahead = Photos(200), []

    def note(module, inputs, output):
        if len(inputs[0]) > 1:
            ahead.append(len(photos.decoded) - 4 * len(ahead))

    model = network()
    model.begin[0].register_forward_hook(note)
    extract(model, photos, batch_size=4)
    assert len(ahead) == 50
    assert max(ahead) <= 4 * 4


def test_a_stage_that_several_values_leave_gives_a_tuple():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Skips().eval()
    models.describe(model, input_size=(3, SIZE, SIZE))
    whole = extract(model, Photos(), at=["stage2"], pool=False)
    assert [a.shape for a in whole["stage2"]] == [(24, 4, 16, 16), (24, 256, 4)]
    pooled = extract(model, Photos(), at=["stage2"])
    assert [a.shape for a in pooled["stage2"]] == [(24, 4)] * 2
    assert np.allclose(pooled["stage2"][0], whole["stage2"][0].mean((2, 3)), atol=1e-6)
    assert np.allclose(pooled["stage2"][1], whole["stage2"][1].mean(1), atol=1e-6)
    assert [t.shape for t in pooled.torch("stage2")] == [torch.Size([24, 4])] * 2


def wide(image):
    """Return a picture as a tensor (3, 64, 128)."""
    return as_tensor(image.resize((128, 64)))


def test_wide_images_are_averaged_over_space_wherever_a_network_keeps_it():
    found = {}
    for layout in ("NCHW", "NHWC", "NLC"):
        model = models.describe(Wide(layout).eval(), input_size=Wide.size)
        at = [s.name for s in surgery.stages(model) if s.modules[:1] in (("one",), ("two",), ("three",))]
        pooled, whole = (
            extract(model, Photos(6), at=at, transform=wide, pool=pool) for pool in (True, False)
        )
        places = tuple(axis for axis, letter in enumerate(layout) if letter in "HWL")
        for stage in at:
            assert np.allclose(pooled[stage], whole[stage].mean(places), atol=1e-5)
        found[layout] = [pooled[stage] for stage in at]
    assert np.allclose(found["NCHW"], found["NHWC"], atol=1e-5)
    assert np.allclose(found["NCHW"], found["NLC"], atol=1e-5)


def test_bfloat16_is_used_within_the_bound_and_refused_beyond_it(monkeypatch):
    monkeypatch.setattr(runtime, "bfloat16_units", lambda device: True)
    model = network()
    plain = extract(model, Photos())
    for bound, arithmetic in ((1e-6, "channels_last"), (0.5, "bfloat16")):
        monkeypatch.setattr(inference, "DRIFT", bound)
        monkeypatch.setattr(keys, "versions", lambda bound=bound: {"features": bound})  # a store of its own
        store = extract(model, Photos(), precision="auto")
        assert {about["arithmetic"] for about in store.manifest["stages"].values()} == {arithmetic}
        for stage in store.at:
            moved = np.linalg.norm(store[stage] - plain[stage])
            spread = np.linalg.norm(plain[stage] - plain[stage].mean(0))
            assert moved < 1e-5 * spread if arithmetic == "channels_last" else 1e-4 < moved / spread < bound


def test_stages_in_two_arithmetics_take_a_whole_pass_and_one_that_ends_early(monkeypatch):
    monkeypatch.setattr(runtime, "bfloat16_units", lambda device: True)
    model = network()
    first, last = body()[0], body()[-1]
    found = {}
    for name, exact in (("fast", ()), ("mixed", (last,)), ("plain", body())):
        monkeypatch.setattr(inference, "DRIFT", 0.5)
        monkeypatch.setattr(keys, "versions", lambda name=name: {"features": name})
        monkeypatch.setattr(
            Forward, "_fastest",
            lambda self, sample, stages, exact=exact: {
                stage: "channels_last" if stage in exact else "bfloat16" for stage in stages
            },
        )  # fmt: skip
        sizes = passes(model)
        ends: list[int] = []
        handle = model.late.register_forward_hook(lambda *of, ends=ends: ends.append(len(of[-1])))
        found[name] = extract(model, Photos(), at=[first, last], precision="auto", batch_size=8)
        handle.remove()
        assert sum(size > 1 for size in sizes) == (6 if name == "mixed" else 3)
        assert sum(size > 1 for size in ends) == 3
    assert np.array_equal(found["mixed"][first], found["fast"][first])
    assert np.array_equal(found["mixed"][last], found["plain"][last])
    assert not np.array_equal(found["fast"][last], found["plain"][last])


def test_a_float64_model_keeps_its_precision():
    model = network().double()
    store = extract(model, Photos(), precision="auto")
    assert store[store.at[0]].dtype == np.float64


def test_arrays_may_be_written_to_and_the_files_stay():
    model = network()
    store = extract(model, Photos())
    stage = store.at[0]
    right = np.array(store[stage])
    tensor = store.torch(stage)
    tensor.zero_()
    store[stage][:] = 7
    assert np.array_equal(extract(model, Photos())[stage], right)
    assert isinstance(store[stage], np.memmap)


def test_a_store_reads_well_pickles_and_names_what_made_it():
    store = extract(network(), Photos())
    assert not re.search(r"0x[0-9a-f]{6,}", repr(store))
    assert "24 rows" in repr(store)
    again = pickle.loads(pickle.dumps(store))
    assert np.array_equal(again[store.at[0]], store[store.at[0]])
    assert {"data", "transform", "pool", "precision", "versions", "stages"} <= set(store.manifest)
    assert {"weights", "arrays"} <= set(store.manifest["stages"][store.at[0]])
    with pytest.raises(LearnerError, match="stage"):
        store["nowhere"]


def test_the_transform_of_the_weights_is_the_default():
    model = models.describe(network(), input_size=(3, SIZE, SIZE))
    one = features.extract(model, Photos(), at=body())
    photos = Photos()
    two = features.extract(model, photos, at=body(), transform=data.transform_for(model))
    assert photos.decoded == []
    assert one.path == two.path


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"at": []}, "empty"),
        ({"at": ["nonsense"]}, "nonsense"),
        ({"transform": flipped}, "views=k"),
        ({"transform": lambda image: 5.0}, "tensor"),
        ({"views": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"precision": "float23"}, "float32"),
    ],
)
def test_what_cannot_work_is_said_in_words(options, says):
    with pytest.raises(LearnerError, match=says):
        extract(network(), Photos(), **options)


def test_no_images_and_images_of_different_sizes_are_said_in_words():
    with pytest.raises(LearnerError, match="no images"):
        extract(network(), Photos(0))
    with pytest.raises(LearnerError, match="different shapes"):
        extract(network(), Photos(sizes=(32, 40)))


def test_an_image_that_fails_leaves_a_store_that_can_go_on():
    model, photos = network(), Broken()
    with pytest.raises(LearnerError, match=re.escape("photo-17.jpg")):
        extract(model, photos, batch_size=4)
    photos.broken = False
    store = extract(model, photos, batch_size=4)
    assert np.allclose(store[store.at[-1]], truth(model, Photos())["flat"], atol=1e-6)
