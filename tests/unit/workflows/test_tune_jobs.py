"""Several processes of a search: what they are started with, how they are stopped, and what is told of a failure."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from maskwright.config import Override
from maskwright.errors import RunError
from maskwright.training.interrupt import StopAsked, stoppable
from maskwright.workflows.tune_jobs import run_jobs

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in for a process is a shell script")


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A shell script in place of Python: ``$*`` is what a process of the search is given."""
    path = tmp_path / "stand_in.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr("maskwright.workflows.tune_jobs.sys", SimpleNamespace(executable=str(path)))
    monkeypatch.setattr("maskwright.workflows.tune_jobs._LOOK_EVERY_S", 0.01)


def test_each_process_is_told_its_number_and_all_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, 'echo "$*"')
    said = ["model.depth=3", Override("tune.jobs", 2, "--jobs 2"), Override("tracking.quiet", True, "--quiet")]
    told: list[str] = []

    assert run_jobs(["a.yaml"], said, 2, tmp_path, lambda: "1 of 4 trials", told.append) is None
    for index in (0, 1):
        assert (tmp_path / f"job_{index + 1}.log").read_text() == (
            "-m maskwright tune a.yaml --set model.depth=3 --set tune.jobs=2 --set tracking.quiet=true "
            f"--out {tmp_path} --job {index} --quiet\n"
        )
    assert told == ["1 of 4 trials"]


def test_one_failure_is_told_and_failures_of_all_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, 'case "$*" in *"--job 0"*) echo "no disk"; exit 2;; esac')
    told: list[str] = []
    assert run_jobs([], [], 2, tmp_path, lambda: "", told.append) is None
    assert told == ["job_1.log: ended with code 2: no disk"]

    stand_in(tmp_path, monkeypatch, "echo no data; exit 2")
    with pytest.raises(RunError, match=r"All 2 processes of the search failed; .*job_1\.log says: no data"):
        run_jobs([], [], 2, tmp_path, lambda: "", told.append)


def test_a_signal_is_passed_on_once_and_all_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    script = f'trap "echo stopped; exit 130" TERM; echo x >> {started}; while true; do sleep 0.05; done'
    stand_in(tmp_path, monkeypatch, script)

    def interrupt() -> None:
        while not started.exists() or len(started.read_text()) < 4:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(StopAsked), stoppable():
        run_jobs([], [], 2, tmp_path, lambda: "", print)
    assert [(tmp_path / f"job_{index}.log").read_text() for index in (1, 2)] == ["stopped\n"] * 2
