from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from maskwright.desktop import app


def test_the_application_ends_with_its_window(qapp: Any, tmp_path: Path) -> None:
    QTimer.singleShot(0, QApplication.closeAllWindows)
    QTimer.singleShot(50, QApplication.quit)
    assert app.main(None, tmp_path) == 0


def test_it_shows_the_experiment_it_was_given(qapp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(app, "open_window", lambda *given: seen.append(given))
    QTimer.singleShot(50, QApplication.quit)
    assert app.main(tmp_path / "a.yaml", tmp_path) == 0
    assert seen == [(tmp_path / "a.yaml", tmp_path)]
