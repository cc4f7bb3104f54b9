"""One process at a time holds a run."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from maskwright import files
from maskwright.errors import RunError
from maskwright.tracking.folder import RunFolder
from maskwright.tracking.lock import hold_run

HOLD = """
import os, sys, time
from pathlib import Path
from maskwright.tracking.folder import RunFolder
from maskwright.tracking.lock import hold_run
with hold_run(RunFolder(Path(sys.argv[1]))):
    if len(sys.argv) < 3:
        print(-1, flush=True)
    elif not os.fork():
        print(os.getpid(), flush=True)  # said by the fork itself, which then is through with what a fork does first
    time.sleep(60)
"""


def holder(folder: RunFolder, *more: str) -> tuple[subprocess.Popen[str], int]:
    """A process that holds the run, and the number of the process it forked, if it was told to."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path), *more], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_second_process_is_told_who_holds_the_run(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "held")
    process, _ = holder(folder)
    try:
        with pytest.raises(RunError) as error, hold_run(folder):
            pass
        text = str(error.value)
        assert f"is busy: process {process.pid} on {socket.gethostname()} still works on it since 2" in text
        assert text.endswith(f"Wait until it has finished, or stop it with: maskwright runs stop {folder.path}")
    finally:
        process.kill()
        process.wait()


def test_a_killed_holder_frees_the_run_at_once(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "killed")
    process, _ = holder(folder)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with hold_run(folder):
        assert f'"pid": {os.getpid()}' in folder.lock.read_text("utf-8")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_data_worker_that_outlives_the_killed_holder_does_not_keep_the_run(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "orphan")
    process, worker = holder(folder, "and fork")
    try:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(worker, 0)  # it lives
        with hold_run(folder):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_the_run_is_free_again_behind_the_block_and_held_once_inside_it(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "once")
    with hold_run(folder), pytest.raises(RunError, match="is busy"), hold_run(folder):
        pass
    with hold_run(folder):
        pass


def test_a_holder_that_has_not_signed_yet_is_named_from_the_record(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "unsigned")
    folder.record.update(pid=4711, host="elsewhere")
    with (
        files.FileLock(folder.lock),
        pytest.raises(RunError, match="busy: process 4711 on elsewhere"),
        hold_run(folder),
    ):
        pass


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(file: object) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "_try_lock", refuse)
    folder = RunFolder.create(tmp_path, "lockless")
    with caplog.at_level(logging.WARNING), hold_run(folder):
        pass
    assert "the file system has no locks; only run.json guards the run" in caplog.text


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="could not be written"), hold_run(RunFolder(tmp_path / "missing")):
        pass
