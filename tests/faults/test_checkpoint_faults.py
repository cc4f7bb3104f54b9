"""Crashes, full disks and damaged files: a good checkpoint is always there, and the loader says what it passed over."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from maskwright import files
from maskwright.checkpoints import CheckpointStore
from maskwright.errors import CheckpointError

torch.set_num_threads(1)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked to begin at once")

link = os.link  # as it is before a test takes it away

SIZE = 20_000  # numbers in the saved tensor


def new_store(folder: Path) -> CheckpointStore:
    return CheckpointStore(folder, max_checkpoints=2, monitor="val/iou", mode="max")


def save(store: CheckpointStore, number: int) -> None:
    """Save the state ``number``; every third is the best so far, so that best and latest differ."""
    score = number if number % 3 == 0 else 0.0
    state = {"number": number, "weight": torch.full((SIZE,), float(number))}
    store.save(state, epoch=number, global_step=number, scores={"val/iou": score})


def check_state(state: dict[str, Any]) -> int:
    """The number of a state that is whole."""
    assert torch.equal(state["weight"], torch.full((SIZE,), float(state["number"])))
    return int(state["number"])


def temporary_files(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(files.TEMPORARY_SUFFIX)]


def saved_before(folder: Path) -> Path:
    """A folder with the states 0, 1 and 2, of which the first is the best; made once in a test, then linked."""
    origin = folder.parent / "origin"
    if not origin.exists():
        for number in (0, 1, 2):
            save(new_store(origin), number)
    folder.mkdir()
    for path in origin.iterdir():
        link(path, folder / path.name)
    return folder


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked child; returns its process number. It ends with 0, or 1 after an exception."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


# --- killed -----------------------------------------------------------------------------------------------------------


@needs_fork
def test_a_saver_killed_at_random_instants_always_leaves_its_last_checkpoint(tmp_path: Path) -> None:
    instants = random.Random(0)
    first = 1
    save(new_store(tmp_path), 0)
    for _ in range(15):
        reading, writing = os.pipe()

        def work(first: int = first, writing: int = writing) -> None:
            store = new_store(tmp_path)
            for number in range(first, first + 10_000):
                save(store, number)
                os.write(writing, f"{number}\n".encode())

        child = in_child(work)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            confirmed = [int(pipe.readline()) for _ in range(instants.randrange(4))]
            time.sleep(instants.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
            confirmed += [int(line) for line in pipe.read().split()]
        loaded = new_store(tmp_path).load_latest()
        number = check_state(loaded.state)
        last = confirmed[-1] if confirmed else first - 1
        assert last <= number <= last + 1
        assert loaded.notes == ()
        best = new_store(tmp_path).load_best()
        assert check_state(best.state) == max(n for n in range(0, number + 1, 3))
        assert best.notes == ()
        first = number + 1
    assert first > 15
    store = new_store(tmp_path)
    save(store, first)
    assert temporary_files(tmp_path) == []
    assert len([name for name in os.listdir(tmp_path) if "epoch" in name]) <= 3


def kill_at(monkeypatch: pytest.MonkeyPatch, call: int, before: bool) -> None:
    """Make this process kill itself just before or after its ``call``-th change of the disk."""
    count = 0

    def deadly(name: str) -> None:
        original = getattr(os, name)

        def wrapper(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == call and before:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return original(*args, **options)
            finally:
                if count == call:
                    os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(os, name, wrapper)

    for name in ("fsync", "replace", "link", "unlink"):
        deadly(name)


@needs_fork
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("links", [True, False])
def test_a_saver_killed_between_any_two_steps_leaves_a_loadable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool, links: bool
) -> None:
    if not links:

        def refuse(source: Path, target: Path) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    seen = set()
    for call in range(1, 200):
        folder = saved_before(tmp_path / str(call))

        def work(folder: Path = folder, call: int = call) -> None:
            kill_at(monkeypatch, call, before)
            save(new_store(folder), 3)

        code = os.waitpid(in_child(work), 0)[1]
        number = check_state(new_store(folder).load_latest().state)
        check_state(new_store(folder).load_best().state)
        seen.add(number)
        assert number in (2, 3)
        save(new_store(folder), 4)
        assert check_state(new_store(folder).load_latest().state) == 4
        assert temporary_files(folder) == []
        if not os.WIFSIGNALED(code):
            assert code == 0
            break
    assert seen == {2, 3}
    assert call > 8  # every step was hit before a save went through undisturbed


@needs_fork
def test_the_only_checkpoint_survives_a_kill_while_it_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in range(1, 200):
        folder = tmp_path / str(call)
        CheckpointStore(folder, max_checkpoints=1).save({"number": 1}, epoch=1, global_step=1)

        def work(folder: Path = folder, call: int = call) -> None:
            store = CheckpointStore(folder, max_checkpoints=1)
            store.recover()
            kill_at(monkeypatch, call, before=False)
            store.save({"number": 2}, epoch=1, global_step=1)

        code = os.waitpid(in_child(work), 0)[1]
        assert CheckpointStore(folder).load_latest().state["number"] in (1, 2)
        if not os.WIFSIGNALED(code):
            break
    assert call > 8


# --- a disk that refuses ----------------------------------------------------------------------------------------------


class FullFile:
    """A file whose ``full_at``-th write (counted over all files of the test) writes half and fails."""

    def __init__(self, file: BinaryIO, count: Callable[[], bool]) -> None:
        self._file = file
        self._fails = count

    def __enter__(self) -> FullFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)

    def write(self, data: Any) -> int:
        if self._fails():
            self._file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)


def fill_disk_at(patch: pytest.MonkeyPatch, what: tuple[str, ...], call: int) -> Callable[[], int]:
    """Make the ``call``-th call of the functions named fail with a full disk; returns a count of the calls so far."""
    count = 0

    def fails() -> bool:
        nonlocal count
        count += 1
        return count == call

    for name in what:
        if name == "write":

            def opened(path: Path, mode: str = "r") -> FullFile:
                return FullFile(open(path, mode), fails)

            patch.setattr(files, "open", opened, raising=False)
            continue
        original = getattr(os, name)

        def wrapper(*args: Any, original: Callable[..., Any] = original, **options: Any) -> Any:
            if fails():
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*args, **options)

        patch.setattr(os, name, wrapper)
    return lambda: count


@pytest.mark.parametrize(
    "what", [("fsync",), ("replace",), ("write",), ("fsync", "replace", "write", "link", "unlink")]
)
def test_a_disk_full_at_any_call_keeps_the_checkpoints_and_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: tuple[str, ...]
) -> None:
    failures = 0
    for call in range(1, 500):
        folder = saved_before(tmp_path / str(call))
        store = new_store(folder)
        store.recover()
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        message = ""
        with monkeypatch.context() as patch:
            calls = fill_disk_at(patch, what, call)
            try:
                save(store, 3)
            except CheckpointError as error:
                message = str(error)
        number = check_state(new_store(folder).load_latest().state)
        check_state(new_store(folder).load_best().state)
        if message:
            failures += 1
            assert "disk is full" in message or "No space left" in message
        if number == 2:
            assert message
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert temporary_files(folder) == [] or "unlink" in what
        save(store, 4)  # space again: the run goes on
        assert check_state(store.load_latest().state) == 4
        if calls() < call:
            assert not message
            break
    assert failures >= 2


def test_a_read_only_folder_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path)
    save(store, 1)

    def refuse(path: Path, mode: str = "r") -> BinaryIO:
        if "x" in mode:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return open(path, "rb")

    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(CheckpointError, match=r"checkpoint_epoch_0002\.pt could not be written: the disk is read-only"):
        save(store, 2)
    assert check_state(store.load_latest().state) == 1


def test_an_alias_that_cannot_be_renewed_is_told_but_the_checkpoint_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    save(store, 1)

    def refuse(*args: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("maskwright.checkpoints.store.link", refuse)
        with pytest.raises(CheckpointError, match=r"^checkpoint_epoch_0002\.pt is saved, but .*no permission"):
            save(store, 2)
    assert check_state(store.load_latest().state) == 2


# --- damage -----------------------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_bit(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def remove_all_names(path: Path) -> None:
    """Remove a file with its aliases."""
    number = path.stat().st_ino
    for other in list(path.parent.iterdir()):
        if other.stat().st_ino == number:
            other.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "its content is not what was saved"),
        (flip_bit, "its content is not what was saved"),
        (remove_all_names, "the file is missing"),
    ],
)
def test_a_damaged_newest_checkpoint_is_passed_over_and_named(
    tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    store = new_store(tmp_path)
    for number in (1, 2):
        save(store, number)
    damage(tmp_path / "checkpoint_epoch_0002.pt")
    loaded = store.load_latest()
    assert check_state(loaded.state) == 1
    (note,) = loaded.notes
    assert note.startswith(f"Passed over checkpoint_epoch_0002.pt: {words}")
    save(store, 3)  # what turned out bad no longer takes a place
    assert [record.epoch for record in store.records] == [1, 3]
    assert not (tmp_path / "checkpoint_epoch_0002.pt").exists()
    assert check_state(store.load_latest().state) == 3


def test_a_damaged_best_checkpoint_gives_way_to_the_next_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, max_checkpoints=3, monitor="val/iou", mode="max")
    for number in (1, 3, 2):
        save(store, number)
    flip_bit(tmp_path / "checkpoint_epoch_0003.pt")
    loaded = store.load_best()
    assert check_state(loaded.state) == 1
    assert loaded.notes[0].startswith("Passed over checkpoint_epoch_0003.pt")


def test_when_nothing_is_whole_every_file_is_named(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for number in (1, 2):
        save(store, number)
        flip_bit(tmp_path / f"checkpoint_epoch_000{number}.pt")
    with pytest.raises(CheckpointError, match=r"No whole checkpoint in .*epoch_0002\.pt.*epoch_0001\.pt"):
        store.load_latest()


@pytest.mark.parametrize("text", [b"", b'{"format_version": 1, "checkpo', bytes(3), b"[]"])
def test_a_torn_manifest_is_made_anew_from_whole_files_only(tmp_path: Path, text: bytes) -> None:
    store = new_store(tmp_path)
    for number in (3, 4, 5):
        save(store, number)
    flip_bit(tmp_path / "checkpoint_epoch_0005.pt")
    (tmp_path / "manifest.json").write_bytes(text)
    again = new_store(tmp_path)
    loaded = again.load_latest()
    assert check_state(loaded.state) == 4
    assert "manifest.json is damaged" in loaded.notes[0]
    assert "Passed over checkpoint_epoch_0005.pt" in loaded.notes[1]
    assert check_state(again.load_best().state) == 3
    save(again, 7)
    assert [record.epoch for record in new_store(tmp_path).records] == [3, 4, 7]
    assert new_store(tmp_path).load_latest().notes == ()
