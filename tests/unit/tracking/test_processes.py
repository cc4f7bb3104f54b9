from __future__ import annotations

import sys
from pathlib import Path

import pytest

from maskwright.errors import RunError
from maskwright.tracking.processes import resume_command, start, train_command


def test_commands_are_those_of_the_command_line(tmp_path: Path) -> None:
    assert train_command(Path("a.yaml"), tmp_path) == ["maskwright", "train", "a.yaml", "--output-dir", str(tmp_path)]
    assert resume_command(tmp_path) == ["maskwright", "train", "--resume", str(tmp_path)]


def test_a_process_of_its_own_keeps_what_it_says() -> None:
    started = start(["maskwright", "--version"])
    assert started.process.wait(timeout=60) == 0
    assert started.said().startswith("maskwright ")
    started.output.unlink()
    assert started.said() == ""


def test_a_failed_start_says_what_was_wrong(tmp_path: Path) -> None:
    started = start(train_command(tmp_path / "missing.yaml", tmp_path))
    assert started.process.wait(timeout=60) == 2
    assert started.code == 2
    assert "no such file" in started.said()
    started.output.unlink()


def test_a_missing_interpreter_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(RunError, match="maskwright --version cannot be started: "):
        start(["maskwright", "--version"])
