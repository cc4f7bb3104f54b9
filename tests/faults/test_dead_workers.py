"""A data worker that dies, and shared memory that is full: the run stops with one sentence and goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="how workers die and share memory is the system's way")

CHILD = Path(__file__).with_name("worker_child.py")


def child(output: Path, what: str, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    ended = subprocess.run(
        [*prefix, sys.executable, str(CHILD), str(output), what],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def test_a_worker_that_is_killed_stops_the_run_which_then_ends_with_the_same_bits(
    tmp_path: Path, tally: Callable[..., None]
) -> None:
    killed = child(tmp_path, "killed")
    assert "A loader process ended unexpectedly" in killed["error"]
    assert "\n" not in killed["error"]
    assert killed["kinds"][-1] in ("error", "step")  # no error is saved from within an update, half done
    assert killed["digest"] == killed["alone"]
    tally("dead data worker", 1)


@pytest.mark.parametrize("room_kib", [4, 64])  # not even for locks; for those, but not for batches
def test_full_shared_memory_stops_the_run_with_one_sentence(
    tmp_path: Path, room_kib: int, tally: Callable[..., None]
) -> None:
    mount = f'mount -t tmpfs -o size={room_kib}k tmpfs /dev/shm && exec "$@"'
    small = ("unshare", "--mount", "sh", "-c", mount, "sh")
    if shutil.which("unshare") is None or subprocess.run([*small, "true"], capture_output=True).returncode:
        pytest.skip("a /dev/shm of one's own is not permitted here")
    told = child(tmp_path, "full", small)
    assert "Shared memory (/dev/shm) is full" in told["error"]
    assert "\n" not in told["error"]
    tally("full /dev/shm", 1)
