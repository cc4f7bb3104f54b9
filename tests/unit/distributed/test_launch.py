"""The launcher: what its processes find in their environment, and what it does when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskwright.distributed.launch import launch
from maskwright.distributed.ranks import EXIT_LOST

KILLED_ONCE = """
import os, pathlib, signal, sys, time
out, number = pathlib.Path(sys.argv[1]), os.environ["RANK"]
(out / f"{os.environ['TORCHELASTIC_RESTART_COUNT']}_{number}").write_text(os.environ["TORCHELASTIC_RUN_ID"])
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    while number == "1" and not (out / "0_0").exists():
        time.sleep(0.01)
    if number == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
"""


def run(script: str, *words: object, processes: int = 2, restarts: int = 0) -> tuple[int, list[str]]:
    told: list[str] = []
    command = [sys.executable, "-I", "-S", "-c", script, *map(str, words)]
    return launch(command, processes, restarts=restarts, say=told.append), told


def test_each_process_finds_what_torchrun_would_tell_it(tmp_path: Path) -> None:
    script = """
import os, pathlib, sys
names = ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "TORCHELASTIC_RESTART_COUNT")
pathlib.Path(sys.argv[1], os.environ["RANK"]).write_text(" ".join(os.environ[name] for name in names))
"""
    assert run(script, tmp_path, processes=3) == (0, [])
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "0": "3 0 127.0.0.1 0",
        "1": "3 1 127.0.0.1 0",
        "2": "3 2 127.0.0.1 0",
    }


def test_one_that_is_killed_ends_the_others_within_seconds_and_all_start_again(tmp_path: Path) -> None:
    code, told = run(KILLED_ONCE, tmp_path, restarts=2)
    assert code == 0
    assert told == [
        "Process 1 of 2 was killed by SIGKILL, and the others were ended. All are started again and go on from what "
        "was saved (restart 1 of 2)."
    ]
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["0_0", "0_1", "1_0", "1_1"]
    assert len({file.read_text() for file in tmp_path.iterdir()}) == 1  # one launch, whatever its restarts


def test_without_restarts_one_sentence_says_how_to_go_on(tmp_path: Path) -> None:
    code, told = run(KILLED_ONCE, tmp_path)
    assert code == 128 + signal.SIGKILL
    assert told == [
        "Process 1 of 2 was killed by SIGKILL, and the others were ended. Continue with the same command and --resume "
        "RUN or --resume auto."
    ]


def test_one_that_ends_with_an_error_is_not_started_again(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, sys, time
pathlib.Path(sys.argv[1], os.environ["TORCHELASTIC_RESTART_COUNT"]).touch()
time.sleep(0.2 if os.environ["RANK"] == "0" else 0)
sys.exit(2 if os.environ["RANK"] == "0" else {EXIT_LOST})
"""
    assert run(script, tmp_path, restarts=3) == (2, [])  # not that of the process which lost the other
    assert [file.name for file in tmp_path.iterdir()] == ["0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_waited_for(tmp_path: Path, number: signal.Signals) -> None:
    worker = """
import os, pathlib, signal, sys, time
file = pathlib.Path(sys.argv[1], os.environ["RANK"])
def stop(*_):
    file.write_text("saved")
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
file.touch()
time.sleep(60)
"""
    script = f"""
import sys
from maskwright.distributed.launch import launch
sys.exit(launch([sys.executable, "-I", "-S", "-c", {worker!r}, {str(tmp_path)!r}], 2, restarts=3, say=print))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.05)
        assert process.poll() is None
    os.kill(process.pid, number)
    told, _ = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["saved", "saved"]
