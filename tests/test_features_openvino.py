"""OpenVINO computes features where that is sooner and rows stay the same; else torch does, and says why."""

import itertools
import logging
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from features_world import SIZE, Broken, Photos, Skips, extract, network
from torch import nn

from tlutils import inference, models, runtime
from tlutils.errors import LearnerError
from tlutils.features import forward


def needs_openvino(test):
    """Run with the full tests: another library's threads stay out of the processes of all others."""
    absent = pytest.mark.skipif(find_spec("openvino") is None, reason="pip install 'tlutils[openvino]'")
    return pytest.mark.full(absent(test))


pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture(autouse=True)
def no_units(monkeypatch):
    """The processor is taken for one that computes in float32 alone."""
    monkeypatch.setattr(runtime, "bfloat16_units", lambda device: False)


@pytest.fixture
def long_work(monkeypatch):
    """Any work is long enough, and each pass takes less time than the one before it."""
    clock = itertools.count(100, -1)
    monkeypatch.setattr(forward, "WORTH_CONVERTING", 1e-9)
    monkeypatch.setattr(forward, "timed", lambda work: (next(clock), work()))


def runtimes(store):
    return {about["runtime"] for about in store.manifest["stages"].values()}


def with_skips():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.describe(Skips().eval(), input_size=(3, SIZE, SIZE))


@needs_openvino
@pytest.mark.parametrize(
    ("build", "options"),
    [(network, {}), (with_skips, {"at": ["stage2"], "pool": False})],
    ids=["pooled", "several maps"],
)
def test_rows_are_those_of_torch_at_every_cut(build, options, long_work):
    plain = extract(build(), Photos(20), **options)
    assert runtimes(plain) == {"torch"}, "float32 to the last bit is torch's"
    store = extract(build(), Photos(20), precision="auto", batch_size=8, **options)
    assert runtimes(store) == {"openvino"}
    for stage in store.at:
        ours, right = (x[stage] if isinstance(x[stage], tuple) else (x[stage],) for x in (store, plain))
        assert all(np.allclose(a, b, rtol=0, atol=1e-5) for a, b in zip(ours, right, strict=True))
    assert sys.modules["openvino_telemetry"] is None, "nobody is told"


@needs_openvino
def test_kept_rows_are_read_and_a_killed_extraction_goes_on_without_converting_again(long_work, monkeypatch):
    model, photos = network(), Broken()
    with pytest.raises(LearnerError, match="photo-17"):
        extract(model, photos, batch_size=4, precision="auto")
    photos.broken = False
    monkeypatch.setattr(forward, "WORTH_CONVERTING", 1e9)
    monkeypatch.setattr(forward, "convert", None)
    store = extract(model, photos, batch_size=4, precision="auto")
    plain = extract(model, Photos())
    assert all(np.allclose(store[stage], plain[stage], rtol=0, atol=1e-5) for stage in store.at)
    photos = Broken()
    extract(model, photos, batch_size=4, precision="auto")
    assert photos.decoded == []


class Decides(nn.Module):
    """Does what nobody sees on ordinary images."""

    def forward(self, x):
        return x / 255 if x.max() > 1e6 else x


def deciding():
    model = network()
    model.begin = nn.Sequential(Decides(), *model.begin)
    return model


class Noisy(nn.Module):
    """Draws in evaluation mode."""

    def forward(self, x):
        return x + torch.rand(())


@needs_openvino
@pytest.mark.skipif(not runtime.bfloat16_units(torch.device("cpu")), reason="a processor with such units")
@pytest.mark.parametrize("drift", [0.5, 1e-6])
def test_on_units_for_bfloat16_it_computes_in_what_the_drift_allows(drift, long_work, monkeypatch):
    plain = extract(network(), Photos(20))
    monkeypatch.setattr(runtime, "bfloat16_units", lambda device: True)
    monkeypatch.setattr(inference, "DRIFT", drift)
    store = extract(network(), Photos(20), precision="auto", batch_size=8)
    stages = store.manifest["stages"].values()
    assert {about["arithmetic"] for about in stages} == {"bfloat16" if drift > 0.01 else "channels_last"}
    assert runtimes(store) == {"openvino"}
    moved = [inference.measure_drift(plain[stage], store[stage]) for stage in store.at]
    assert all(1e-4 < by < 0.1 if drift > 0.01 else by < 1e-5 for by in moved)


def noisy():
    model = network()
    model.begin = nn.Sequential(Noisy(), *model.begin)
    return model


@needs_openvino
@pytest.mark.parametrize(
    ("build", "changes", "says"),
    [
        (network, {"near": lambda *compared: False}, "OpenVINO would move features"),
        (network, {"timed": lambda work: (1.0, work())}, "a batch takes it"),
        (network, {"convert": lambda *args, **options: 1 / 0}, "ZeroDivisionError"),
        (deciding, {}, "decides by the values"),
        (network, {"WORTH_CONVERTING": 1e9}, ""),
        (network, {"find_spec": lambda name: None}, ""),
        (noisy, {}, ""),
    ],
    ids=["moves", "slower", "fails", "decides", "little work", "not installed", "random"],
)
def test_otherwise_torch_computes_and_says_why(build, changes, says, long_work, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="tlutils.features.forward")
    for name, value in changes.items():
        monkeypatch.setattr(forward, name, value)
    assert runtimes(extract(build(), Photos(8), precision="auto")) == {"torch"}
    found = [record.message for record in caplog.records if "torch computes" in record.message]
    assert [says in message for message in found] == ([True] if says else [])


def test_without_openvino_features_are_as_they_were(long_work, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    store, plain = (extract(network(), Photos(8), precision=name) for name in ("auto", "float32"))
    assert runtimes(store) == {"torch"}
    assert all(np.allclose(store[stage], plain[stage], rtol=0, atol=1e-5) for stage in store.at)
