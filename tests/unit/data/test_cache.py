from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from maskwright.data import cache as cache_module
from maskwright.data.cache import Cache, default_cache_folder, recipe_key, release
from maskwright.errors import DataError

KEY, OTHER = recipe_key({"a": 1}), recipe_key({"a": 2})


class Filler:
    """Counts how often it is asked, and fills with a number."""

    def __init__(self, value: float = 3.0) -> None:
        self.value, self.calls = value, 0

    def __call__(self, array: np.ndarray) -> dict[str, float]:
        self.calls += 1
        array[...] = self.value
        return {"value": self.value}


def _files(folder: Path) -> list[str]:
    """Everything but locks and the sum of all sizes."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock" and path.name != "total")


def test_an_array_is_made_once_and_found_again(tmp_path: Path) -> None:
    fill = Filler()
    first = Cache(tmp_path).array(KEY, (2, 3, 4), np.float32, fill, note="a test")
    again = Cache(tmp_path)
    second = again.array(KEY, (2, 3, 4), np.float32, fill)
    assert fill.calls == 1
    assert isinstance(second, np.memmap)
    assert second.dtype == np.float32
    assert (first == 3).all()
    assert np.array_equal(first, second)
    assert again.facts(KEY) == {"value": 3.0}
    assert _files(tmp_path) == [f"{KEY}.json", f"{KEY}.npy"]


def test_what_is_handed_out_cannot_be_written(tmp_path: Path) -> None:
    array = Cache(tmp_path).array(KEY, (4,), np.float32, Filler())
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_recipes_that_differ_have_different_keys() -> None:
    assert recipe_key({"a": 1, "b": [1, 2]}) == recipe_key({"b": [1, 2], "a": 1})
    assert len({recipe_key({"a": value}) for value in (1, 2, "1", None, 1.5)}) == 5


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _scribble(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"xxxx")
    os.utime(path, ns=(0, time.time_ns() + 10**9))


@pytest.mark.parametrize("ending", ["npy", "json"])
@pytest.mark.parametrize("damage", [_cut, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, ending: str, damage) -> None:
    fill = Filler()
    Cache(tmp_path).array(KEY, (50,), np.float32, fill)
    damage(tmp_path / f"{KEY}.{ending}")
    array = Cache(tmp_path).array(KEY, (50,), np.float32, fill)
    assert fill.calls == 2
    assert (array == 3).all()


def test_an_entry_changed_in_place_is_made_anew(tmp_path: Path) -> None:
    fill = Filler()
    Cache(tmp_path).array(KEY, (50,), np.float32, fill)
    _scribble(tmp_path / f"{KEY}.npy")
    assert (Cache(tmp_path).array(KEY, (50,), np.float32, fill) == 3).all()
    assert fill.calls == 2


def test_an_entry_of_another_shape_is_made_anew(tmp_path: Path) -> None:
    fill = Filler()
    Cache(tmp_path).array(KEY, (50,), np.float32, fill)
    assert Cache(tmp_path).array(KEY, (25, 2), np.float32, fill).shape == (25, 2)
    assert fill.calls == 2


def test_a_failure_while_filling_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(array: np.ndarray) -> None:
        array[:5] = 1
        raise DataError("the raster is damaged")

    with pytest.raises(DataError, match="the raster is damaged"):
        Cache(tmp_path).array(KEY, (50,), np.float32, fail)
    assert _files(tmp_path) == []
    assert (Cache(tmp_path).array(KEY, (50,), np.float32, Filler()) == 3).all()


def test_the_longest_unused_entry_goes_first(tmp_path: Path) -> None:
    keys = [recipe_key({"n": number}) for number in range(4)]
    for age, key in enumerate(keys[:3]):
        Cache(tmp_path).array(key, (1000,), np.uint8, Filler())
        os.utime(tmp_path / f"{key}.json", (1000 + age, 1000 + age))
    Cache(tmp_path).array(keys[0], (1000,), np.uint8, Filler())  # used again, so no longer the oldest
    cache = Cache(tmp_path, max_bytes=3600)
    cache.array(keys[3], (1000,), np.uint8, Filler())
    assert [(tmp_path / f"{key}.npy").exists() for key in keys] == [True, False, True, True]
    assert cache.size_bytes() <= 3600


def test_entries_in_use_are_not_removed_and_the_setting_to_raise_is_named(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=2000)
    kept = cache.array(KEY, (1000,), np.uint8, Filler())
    with pytest.raises(DataError, match=r"may hold 0\.00 GB\. Raise data\.cache\.max_gb"):
        cache.array(OTHER, (1000,), np.uint8, Filler())
    assert (kept == 3).all()
    assert (tmp_path / f"{KEY}.npy").exists()


def test_a_disk_that_is_too_full_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Cache(tmp_path).array(OTHER, (100,), np.uint8, Filler())
    monkeypatch.setattr(cache_module, "free_bytes", lambda folder: 2**20)
    fill = Filler()
    with pytest.raises(DataError, match=r"disk of the cache is too full: .* set data\.cache\.folder"):
        Cache(tmp_path).array(KEY, (10**6,), np.uint8, fill)
    assert fill.calls == 0
    assert (old == 3).all()
    assert (tmp_path / f"{OTHER}.npy").exists()


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(DataError, match="the disk is full"):
        Cache(tmp_path).array(KEY, (1000,), np.uint8, Filler())
    assert _files(tmp_path) == []


def test_space_is_reserved_by_writing_where_the_system_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(handle: int, start: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unknown, raising=False)
    assert (Cache(tmp_path).array(KEY, (1000,), np.uint8, Filler()) == 3).all()


def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"setting data\.cache\.folder"):
        Cache(tmp_path / "file" / "cache").array(KEY, (4,), np.uint8, Filler())


def test_temporary_files_of_dead_processes_are_swept(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_die_while_filling, args=(tmp_path,))
    child.start()
    child.join()
    assert len(_files(tmp_path)) == 1
    Cache(tmp_path).array(OTHER, (10,), np.uint8, Filler())
    assert _files(tmp_path) == sorted([f"{OTHER}.json", f"{OTHER}.npy"])


def _die_while_filling(folder: Path) -> None:
    Cache(folder).array(KEY, (1000,), np.uint8, lambda array: os._exit(1))


def _fill_slowly(folder: Path, queue) -> None:
    def fill(array: np.ndarray) -> None:
        queue.put("filled")
        time.sleep(0.2)
        array[...] = 3

    array = Cache(folder).array(KEY, (1000,), np.uint8, fill)
    queue.put(int(array.sum()))


def test_processes_that_want_the_same_array_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_fill_slowly, args=(tmp_path, queue)) for _ in range(3)]
    for child in children:
        child.start()
    said = [queue.get(timeout=20) for _ in range(4)]
    for child in children:
        child.join()
    assert sorted(said, key=str) == [3000, 3000, 3000, "filled"]


def test_a_cache_can_be_pickled_to_a_worker(tmp_path: Path) -> None:
    fill = Filler()
    cache = Cache(tmp_path)
    cache.array(KEY, (10,), np.uint8, fill)
    assert (pickle.loads(pickle.dumps(cache)).array(KEY, (10,), np.uint8, fill) == 3).all()
    assert fill.calls == 1


def test_clearing_frees_every_byte(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.array(KEY, (1000,), np.uint8, Filler())
    assert cache.clear() == 1128
    assert cache.size_bytes() == 0
    assert _files(tmp_path) == []


def test_releasing_keeps_the_content(tmp_path: Path) -> None:
    def fill(array: np.ndarray) -> None:
        array[:500] = 1
        release(array)
        array[500:] = 2
        release(array)

    array = Cache(tmp_path).array(KEY, (1000, 100), np.uint8, fill)
    release(np.asarray(array))
    assert int(array.sum(dtype=np.int64)) == 150_000
    release(np.zeros(3))


def test_the_variable_names_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path
    monkeypatch.delenv("MASKWRIGHT_CACHE")
    assert default_cache_folder().name == "maskwright"


def _many(cache: Cache, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        cache.array(recipe_key({"n": number}), (100,), np.uint8, Filler())


def test_a_new_entry_among_many_looks_at_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    _many(cache, 1)
    monkeypatch.setattr(cache, "_entries", lambda: pytest.fail("looked at all entries"))
    _many(cache, 20, start=1)
    assert len(list(tmp_path.glob("*.lock"))) == 1  # that of the room


def test_the_bound_holds_with_many_entries_and_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    bound = 30 * 228

    def work(start: int) -> None:
        for number in range(start, start + 40):  # a fresh object holds nothing but its own entry
            Cache(tmp_path, bound).array(recipe_key({"n": number}), (100,), np.uint8, Filler())

    children = [context.Process(target=work, args=(100 * index,)) for index in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert 10 * 228 < Cache(tmp_path).size_bytes() <= bound
    assert int((tmp_path / "total").read_text()) >= Cache(tmp_path).size_bytes()


def test_a_lost_or_wrong_sum_is_counted_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10_000)
    _many(cache, 3)
    for damage in ("", "nonsense", "99999"):
        (tmp_path / "total").write_text(damage)
        cache.array(recipe_key({"damage": damage}), (100,), np.uint8, Filler())
        assert int((tmp_path / "total").read_text()) == cache.size_bytes()


def test_whether_a_data_set_fits_counts_bound_disk_and_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Cache(tmp_path / "none", 1000).fits(1000)
    assert not Cache(tmp_path / "none", 1000).fits(1001)
    cache = Cache(tmp_path, 10_000)
    cache.array(KEY, (1000,), np.uint8, Filler())
    assert cache.fits(10_000 - 1128)
    assert not cache.fits(10_001 - 1128)
    assert Cache(tmp_path, 10_000).fits(10_000)  # what nobody holds makes room
    monkeypatch.setattr(cache_module, "free_bytes", lambda folder: 64 * 2**20 + 500)
    assert Cache(tmp_path, 10_000).fits(500 + 1128)
    assert not Cache(tmp_path, 10_000).fits(501 + 1128)
    assert not cache.fits(501)


def test_entries_tell_people_what_lies_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.array(KEY, (1000,), np.uint8, Filler(), note="site a")
    cache.array(OTHER, (10,), np.uint8, Filler(), note="site b")
    os.utime(tmp_path / f"{OTHER}.json", (1000, 1000))
    found = cache.entries()
    assert [(entry.key, entry.note, entry.bytes) for entry in found] == [(OTHER, "site b", 138), (KEY, "site a", 1128)]
    assert found[0].used_at == 1000
    assert abs(found[1].used_at - time.time()) < 60


def test_cleaning_by_age_size_and_altogether(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert Cache(tmp_path / "none").clean(everything=True) == 0
    _many(cache, 4)
    keys = [recipe_key({"n": number}) for number in range(4)]
    now = time.time()
    for key, days in zip(keys, (40, 30, 20, 10), strict=True):
        os.utime(tmp_path / f"{key}.json", (now - days * 86400, now - days * 86400))
    assert cache.clean(older_than_days=35) == 228
    assert cache.clean(older_than_days=35) == 0
    assert cache.clean(to_bytes=500) == 228
    assert sorted(entry.key for entry in cache.entries()) == sorted(keys[2:])
    assert int((tmp_path / "total").read_text()) == 456
    assert cache.clean(everything=True) == 456
    assert _files(tmp_path) == []


def test_a_large_array_goes_to_the_disk_while_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        if threading.current_thread() is not threading.main_thread():
            synced.set()

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(cache_module, "_LARGE_BYTES", 1000)
    monkeypatch.setattr(cache_module, "_SYNC_S", 0.001)

    def fill(array: np.ndarray) -> None:
        array[:500] = 1
        assert synced.wait(10)
        array[500:] = 2

    before = threading.active_count()
    array = Cache(tmp_path).array(KEY, (1000,), np.uint8, fill)
    assert (array.sum(), threading.active_count()) == (1500, before)


def test_a_disk_that_fails_meanwhile_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fsync(handle: int) -> None:
        failed.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(cache_module, "_LARGE_BYTES", 1000)
    monkeypatch.setattr(cache_module, "_SYNC_S", 0.001)

    def fill(array: np.ndarray) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        assert failed.wait(10)

    with pytest.raises(DataError, match=r"The cache failed \(setting data\.cache\.folder\).*Input/output error"):
        Cache(tmp_path).array(KEY, (1000,), np.uint8, fill)
    assert not [path for path in tmp_path.iterdir() if "npy" in path.name]
