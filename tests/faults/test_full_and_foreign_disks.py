"""Disks that fill up after any number of bytes, that may not be written, or that are another file system."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from maskwright import files
from maskwright.checkpoints import CheckpointStore
from maskwright.errors import CheckpointError

torch.set_num_threads(1)

PAGE = 4096
SIZE = 20_000  # numbers in the saved tensor: files of 80 kB

Tally = Callable[..., None]
Mount = Callable[..., Path]


def new_store(folder: Path) -> CheckpointStore:
    return CheckpointStore(folder, max_checkpoints=2, monitor="val/iou", mode="max")


def state_of(number: int) -> dict[str, Any]:
    return {"number": number, "weight": torch.full((SIZE,), float(number))}


def save(store: CheckpointStore, number: int, background: bool = False) -> None:
    """Save the state ``number``; the first is the best of all."""
    about = {"epoch": number, "global_step": number, "scores": {"val/iou": 1.0 / number}}
    if background:
        store.save_later(state_of(number), **about).result()
    else:
        store.save(state_of(number), **about)


def number_of(state: dict[str, Any]) -> int:
    """The number of a state that is whole."""
    assert torch.equal(state["weight"], torch.full((SIZE,), float(state["number"])))
    return int(state["number"])


def prepared(folder: Path) -> CheckpointStore:
    store = new_store(folder)
    for number in (1, 2, 3):
        save(store, number)
    return store


def assert_nothing_lost(folder: Path, before: dict[str, bytes], message: str) -> None:
    """The best is there, and the newest is the one before or the new one; if it failed the folder is as before."""
    newest, best = new_store(folder).load_latest(), new_store(folder).load_best()
    assert newest.notes == best.notes == ()
    assert number_of(best.state) == 1
    assert number_of(newest.state) in (3, 4)
    if number_of(newest.state) == 3:
        assert message.count("\n") == 0
        assert "could not be written: the disk is full" in message
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


class Disk:
    """Takes so many bytes more, over all files opened for writing, then refuses in the middle of a write."""

    def __init__(self, room: int) -> None:
        self.room = room

    def open(self, path: Path, mode: str = "r") -> Any:
        return _Counted(open(path, mode), self) if "x" in mode or "w" in mode else open(path, mode)


class _Counted:
    def __init__(self, file: BinaryIO, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        taken = min(len(data), self._disk.room)
        self._disk.room -= taken
        self._file.write(data[:taken])
        if taken < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return taken


@pytest.mark.parametrize("background", [False, True])
def test_a_disk_full_after_every_page_of_a_save_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: bool, tally: Tally
) -> None:
    store = prepared(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    tried, message = 0, "not yet"
    while message:
        disk = Disk(PAGE * tried)
        with monkeypatch.context() as patch:
            patch.setattr(files, "open", disk.open, raising=False)
            try:
                save(store, 4, background)
                message = ""
            except CheckpointError as error:
                message = str(error)
        assert_nothing_lost(store.folder, before, message)
        tried += 1
    assert tried - 1 >= SIZE * 4 // PAGE  # it refused at every page of the file before it took the save
    tally(f"disk full at a page of a save, injected{', in the background' * background}", tried)
    save(store, 5, background)
    assert number_of(store.load_latest().state) == 5


@pytest.mark.parametrize("background", [False, True])
def test_a_real_small_disk_full_after_every_page_of_a_save_loses_nothing(
    mounted: Mount, background: bool, tally: Tally
) -> None:
    disk = mounted(600)
    store = prepared(disk / "run")
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    tried, message = 0, "not yet"
    while message:
        filler = disk / "filler"
        _fill(filler, leave_pages=tried)
        try:
            save(store, 4, background)
            message = ""
        except CheckpointError as error:
            message = str(error)
        assert_nothing_lost(store.folder, before, message)
        filler.unlink()
        tried += 1
    assert tried - 1 >= SIZE * 4 // PAGE
    tally(f"disk full at a page of a save, mounted{', in the background' * background}", tried)
    save(store, 5, background)
    assert number_of(store.load_latest().state) == 5


def _fill(path: Path, leave_pages: int) -> None:
    """Take all the room of a disk but so many pages."""
    with open(path, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):  # full
            while True:
                file.write(bytes(PAGE))
        file.truncate(max(0, file.tell() - leave_pages * PAGE))


def test_a_folder_that_turns_read_only_is_explained_and_what_it_holds_stays(mounted: Mount, tally: Tally) -> None:
    disk = mounted(1000)
    store = prepared(disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, capture_output=True)
    for background in (False, True):
        with pytest.raises(
            CheckpointError, match=r"checkpoint_epoch_0004\.pt could not be written: the disk is read-only"
        ):
            save(store, 4, background)
        assert number_of(new_store(disk / "run").load_latest().state) == 3
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True, capture_output=True)
    save(store, 5)
    assert number_of(store.load_latest().state) == 5
    tally("read-only folder", 2)


def test_checkpoints_on_another_file_system_than_the_temporary_files_of_the_system(
    mounted: Mount, tally: Tally
) -> None:
    disk = mounted(2000)
    assert disk.stat().st_dev != disk.parent.stat().st_dev
    store = prepared(disk / "run")  # the temporary file lies beside its target, so no rename leaves the disk
    assert number_of(store.load_latest().state) == 3
    assert number_of(store.load_best().state) == 1
    tally("another file system", 1)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_hard_links_gets_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, tally: Tally
) -> None:
    def refuse(*paths: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    store = prepared(tmp_path)
    for name, number in (("checkpoint_latest.pt", 3), ("checkpoint_best.pt", 1)):
        (tmp_path / f"checkpoint_epoch_000{number}.pt").rename(tmp_path / "away")
        assert (tmp_path / name).is_file()
        assert number_of((store.load_latest() if number == 3 else store.load_best()).state) == number
        (tmp_path / "away").rename(tmp_path / f"checkpoint_epoch_000{number}.pt")
    tally(f"no hard links ({errno.errorcode[code]})", 1)
