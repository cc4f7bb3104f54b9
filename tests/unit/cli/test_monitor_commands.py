from __future__ import annotations

import importlib
import importlib.util
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from maskwright.cli.main import main
from maskwright.cli.monitor_commands import monitor
from maskwright.errors import ConfigError


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"needs streamlit and plotly\. Install: pip install 'maskwright\[dashboard\]'"
    ):
        monitor()


def test_the_server_is_given_folder_address_and_switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    server = SimpleNamespace(main=seen.append)
    monkeypatch.setattr(importlib, "import_module", lambda name: server)
    assert monitor(tmp_path, port=8599, read_only=True, no_browser=True) == 0
    assert monitor(tmp_path, port=8599) == 0
    address = [str(tmp_path), "--host", "127.0.0.1", "--port", "8599"]
    assert seen == [[*address, "--read-only"], [*address, "--browser"]]


def test_a_file_and_a_taken_port_are_explained(tmp_path: Path) -> None:
    file = tmp_path / "run.txt"
    file.write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        monitor(file)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1, port {port}: Address already in use"):
            monitor(tmp_path, port=port)


def test_help_shows_the_tunnel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "ssh -L 8501:localhost:8501 USER@SERVER" in said
