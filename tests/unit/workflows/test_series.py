"""Many runs in one folder: found again by name, gone on with, and what changed between two calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maskwright.config import load_experiment, save_experiment
from maskwright.errors import RunError
from maskwright.tracking import RunFolder
from maskwright.workflows.outer_run import How
from maskwright.workflows.series import changed_settings, earlier_run, told_changes, train_or_resume

BASE = {"name": "cracks", "task": {"kind": "binary"}, "data": {"kind": "images", "folder": "pictures"}}


def run(folder: Path, *, begun: bool = True, status: str = "stopped") -> RunFolder:
    made = RunFolder.create(folder, "cracks")
    if begun:
        save_experiment(load_experiment([], BASE), made.config)
    made.record.update(status=status)
    return made


def test_the_newest_run_that_has_begun_is_found(tmp_path: Path) -> None:
    assert earlier_run(tmp_path, "cracks") is None
    first = run(tmp_path)
    run(tmp_path, begun=False)  # killed before it could begin

    assert earlier_run(tmp_path, "cracks") == first
    assert earlier_run(tmp_path, "crack") is None


def test_a_run_at_work_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path, status="running")

    with pytest.raises(RunError, match="is at work in another process"):
        earlier_run(tmp_path, "cracks")


def test_a_run_begins_or_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any, Any]] = []
    for name in ("train", "resume"):

        def stand_in(what: Any, *, callbacks: Any, name: str = name, **_: Any) -> None:
            calls.append((name, what, callbacks))

        monkeypatch.setattr(f"maskwright.workflows.shape.{name}_shaped", stand_in)
    experiment, watch, how = load_experiment([], BASE), object(), How(print)
    former = run(tmp_path)

    train_or_resume(experiment, None, How(print, callbacks=(watch,)))
    train_or_resume(experiment, former, how)
    assert calls == [("train", experiment, (watch,)), ("resume", former.path, ())]


def test_changes_are_told_by_dotted_name_but_for_what_may_differ() -> None:
    was = {"model": {"depth": 4, "kind": "unet"}, "tracking": {"quiet": True}, "training": {"threads": 1, "epochs": 5}}
    now = {"model": {"depth": 3, "kind": "unet", "more": 1}, "tracking": {"quiet": False}, "training": {"epochs": 5}}
    changed = changed_settings(was, now, ("tracking", "training.threads"))

    assert changed == {"model.depth": (4, 3), "model.more": (None, 1)}
    assert told_changes(changed) == "model.depth was 4 and is 3, model.more was None and is 1"
    assert told_changes({str(n): (n, 0) for n in range(5)}).endswith("2 was 2 and is 0 and 2 more")
