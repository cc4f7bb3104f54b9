"""The real server, in a process of its own, beside a run folder."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from maskwright.tracking import RunFolder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(url: str) -> str:
    """What the address answers, asked until it does; at most a minute."""
    for _ in range(240):
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return str(reply.read().decode())
        except OSError:
            time.sleep(0.25)
    raise AssertionError(f"{url} does not answer")


def test_monitor_serves_on_loopback_ends_with_its_process_and_leaves_runs_alone(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "gaps")
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    port = free_port()
    command = [sys.executable, "-m", "maskwright", "monitor", str(tmp_path), "--no-browser", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert answer(f"http://127.0.0.1:{port}/_stcore/health") == "ok"
        assert "<title>" in answer(f"http://127.0.0.1:{port}/")
    finally:
        server.terminate()
        said, _ = server.communicate(timeout=60)
    assert f"http://127.0.0.1:{port}" in said.decode()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before
