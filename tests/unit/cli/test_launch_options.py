"""When a command starts others of itself, and how."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from maskwright.cli import launch_options as module
from maskwright.cli.launch_options import launch_this, must_launch
from maskwright.errors import ConfigError


@pytest.mark.parametrize(
    ("devices", "started", "launches"),
    [(1, None, False), (1, "4", False), (2, None, True), (2, "1", True), (2, "2", False)],
)
def test_the_first_process_starts_the_others_and_those_start_none(
    devices: int, started: str | None, launches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if started is not None:
        monkeypatch.setenv("WORLD_SIZE", started)
    assert must_launch(devices) is launches


def test_a_launcher_that_started_another_number_is_not_contradicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=r"^--devices 2: a launcher such as torchrun has started 4 processes\. Leave"):
        must_launch(2)


def test_the_same_words_are_started_again_and_what_happens_is_told_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: dict[str, Any] = {}

    def launch(command: Sequence[str], processes: int, *, restarts: int, say: Callable[[str], None]) -> int:
        called.update(command=command, processes=processes, restarts=restarts)
        say("Process 1 of 3 was killed.")
        return 137

    monkeypatch.setattr(module, "launch", launch)
    context: Any = SimpleNamespace(obj=["train", "forest.yaml", "--devices", "3"])
    assert launch_this(context, 3, 5) == 137
    assert called == {
        "command": [sys.executable, "-m", "maskwright", "train", "forest.yaml", "--devices", "3"],
        "processes": 3,
        "restarts": 5,
    }
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "Process 1 of 3 was killed.\n")
