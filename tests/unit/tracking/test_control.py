from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest

from maskwright.errors import RunError
from maskwright.tracking import Command, ControlFolder, RunFolder
from maskwright.tracking.control import ask


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time in seconds, to be set by a test."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_commands_arrive_once_and_in_the_order_sent(tmp_path: Path, clock: list[float]) -> None:
    face, training = ControlFolder(tmp_path), ControlFolder(tmp_path)
    face.send("pause")
    face.send("set_lr", lr=0.001)
    face.send("resume")
    assert training.poll() == [Command("pause"), Command("set_lr", {"lr": 0.001}), Command("resume")]
    assert os.listdir(tmp_path) == []
    clock[0] += 1
    assert training.poll() == []


def test_the_folder_is_looked_at_five_times_a_second_at_most(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    scandir = os.scandir

    def counted(path: Path) -> object:
        nonlocal looks
        looks += 1
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    training = ControlFolder(tmp_path)
    for _ in range(1000):
        training.poll()
        clock[0] += 0.001
    assert looks == 5


def test_a_folder_that_is_missing_has_no_commands(tmp_path: Path) -> None:
    assert ControlFolder(tmp_path / "control").poll() == []
    ControlFolder(tmp_path / "control").send("stop")
    assert ControlFolder(tmp_path / "control").poll() == [Command("stop")]


def test_what_nobody_obeyed_can_be_cleared(tmp_path: Path) -> None:
    control = ControlFolder(tmp_path)
    control.send("stop")
    (name,) = control.clear()
    assert name.endswith("_stop.json")
    assert control.poll() == []


def test_files_that_are_no_commands_are_named_and_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "1.json").write_text("{")
    (tmp_path / "2.json").write_text('{"command": "explode"}')
    (tmp_path / "3.json").write_text('{"command": "set_lr", "lr": "fast"}')
    (tmp_path / "4.json").write_text("[]")
    (tmp_path / "notes.txt").write_text("not ours")
    control = ControlFolder(tmp_path)
    control.send("stop")
    with caplog.at_level(logging.WARNING):
        assert control.poll() == [Command("stop")]
    assert len(caplog.records) == 4
    assert "explode" in caplog.text
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_wrong_commands_are_refused_where_they_are_sent(tmp_path: Path) -> None:
    control = ControlFolder(tmp_path)
    with pytest.raises(RunError, match=r"'stopp' is unknown\. Available: checkpoint, pause, resume, set_lr, stop"):
        control.send("stopp")
    with pytest.raises(RunError, match="'set_lr' takes lr; given: none"):
        control.send("set_lr")
    with pytest.raises(RunError, match="'stop' takes no values; given: lr"):
        control.send("stop", lr=1.0)
    for lr in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RunError, match="a number above 0"):
            control.send("set_lr", lr=lr)
    assert os.listdir(tmp_path) == []


def test_only_what_was_sent_before_a_moment_is_cleared(tmp_path: Path) -> None:
    control = ControlFolder(tmp_path)
    control.send("stop")
    between = time.time_ns()
    control.send("pause")
    (name,) = control.clear(before_ns=between)
    assert name.endswith("_stop.json")
    assert control.poll() == [Command("pause")]


def test_a_run_that_nobody_works_on_is_not_asked(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "gone")
    run.record.update(status="stopped")
    with pytest.raises(RunError) as error:
        ask(run, "stop")
    assert str(error.value) == (
        f"{run.path} is not at work (status stopped), so nobody would obey. "
        f"Continue it with: maskwright train --resume {run.path}"
    )
    assert list(run.control.iterdir()) == []


def test_asking_tells_whether_the_command_was_taken(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "busy")  # by this process
    assert not ask(run, "pause", wait_s=0)

    def obey() -> None:
        while not ControlFolder(run.control).poll():
            time.sleep(0.01)

    ControlFolder(run.control).clear()
    training = threading.Thread(target=obey)
    training.start()
    assert ask(run, "set_lr", lr=0.5, wait_s=30)
    training.join()
