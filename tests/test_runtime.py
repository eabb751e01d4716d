"""Seeds, cache folder, safe writing: what every module leans on."""

import errno
import mmap
import platform
import random

import numpy as np
import processes
import pytest
import torch

from tlutils import runtime
from tlutils.errors import LearnerError, unknown


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002


def test_one_seed_fixes_all_three_generators():
    runtime.seed_everything(3)
    first = draw()
    runtime.seed_everything(3)
    assert draw() == first
    runtime.seed_everything(4)
    assert draw() != first


def test_a_seeded_block_leaves_the_outer_randomness_as_it_was_even_after_an_error():
    runtime.seed_everything(0)
    undisturbed = draw()
    runtime.seed_everything(0)
    with pytest.raises(RuntimeError), runtime.seeded(7):
        inner = draw()
        raise RuntimeError
    assert draw() == undisturbed
    with runtime.seeded(7):
        assert draw() == inner


def test_an_unwritable_cache_is_named_with_the_way_out(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TLUTILS_CACHE", str(tmp_path / "file"))
    with pytest.raises(LearnerError, match=r"cannot be written.*TLUTILS_CACHE"):
        runtime.cache_dir()


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), runtime.atomic_write(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with runtime.atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_full_disk_is_said_in_words_and_the_old_file_stays(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_text("old")
    with pytest.raises(LearnerError, match="disk is full"), runtime.atomic_write(path) as temporary:
        temporary.write_text("new")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"


def test_an_unknown_name_comes_back_with_its_neighbours():
    assert "'resnet18'" in str(unknown("model", "resnet81", ["resnet18", "vgg16"]))
    assert "Known: vgg16" in str(unknown("model", "zzz", ["vgg16"]))


def test_progress_is_silent_where_nobody_watches(capfd):
    assert list(runtime.progress(range(3), desc="counting")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def take_and_free(path):
    """In a process of its own, write how many page faults it costs to take much memory again and again."""
    import resource

    assert runtime.keep_freed_memory()
    assert runtime.keep_freed_memory()
    for step in range(24):
        if step == 12:  # until then it finds its places
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        large = [np.ones(2**23) for _ in range(2)]  # 64 MiB each
        del large
    path.write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other systems keep memory, or know best")
def test_memory_that_is_kept_is_used_again_without_a_page_fault(tmp_path):
    assert processes.run(take_and_free, tmp_path / "faults") == 0
    of_new_memory = 12 * 2**27 / mmap.PAGESIZE  # a thirtieth of it where NumPy gets huge pages
    assert int((tmp_path / "faults").read_text()) < 0.01 * of_new_memory
