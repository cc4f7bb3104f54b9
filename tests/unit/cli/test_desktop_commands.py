from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from maskwright.cli.desktop_commands import desktop
from maskwright.cli.main import main
from maskwright.errors import ConfigError


def test_the_window_is_given_the_experiment_and_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    face = SimpleNamespace(main=lambda *given: seen.append(given) or 0)
    monkeypatch.setattr(importlib, "import_module", lambda name: face)
    file = tmp_path / "a.yaml"
    file.touch()
    assert desktop(file, tmp_path) == 0
    assert desktop() == 0
    assert seen == [(file, tmp_path), (None, Path("outputs"))]


def test_a_missing_experiment_and_a_file_in_place_of_the_runs_are_explained(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    with pytest.raises(ConfigError, match="no such file"):
        desktop(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a file"):
        desktop(None, file)


def test_help_needs_no_qt(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["desktop", "--help"]) == 0
    assert "--runs" in capsys.readouterr().out
