"""The dialog in the menu of another program, as the example shows it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from maskwright.desktop.immortal import keep_alive

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
keep_alive()

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "desktop_host.py"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("desktop_host", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_menu_opens_the_dialog_and_its_end_is_heard(qtbot: Any, host: Any, tmp_path: Path) -> None:
    window = host.Annotator()
    qtbot.addWidget(window)
    window.show()
    [tools] = [action.menu() for action in window.menuBar().actions() if action.text() == "&Tools"]
    [train] = tools.actions()
    assert train.text() == "&Train Model..."
    train.trigger()
    dialog = window.train_dialog
    assert dialog.isVisible()
    assert dialog.model.values["tracking.output_dir"] == str(tmp_path / "outputs")
    assert dialog.model.values["model.encoder_weights"] == "none"
    dialog.training_completed.emit({"model": "/runs/a/model"})
    assert window.statusBar().currentMessage() == "Trained: /runs/a/model"
    dialog.training_failed.emit("The disk is full.")
    assert window.statusBar().currentMessage() == "The disk is full."
    dialog.close()


def test_the_program_ends_with_its_window(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import desktop_host\n"
        "from PySide6.QtCore import QTimer; from PySide6.QtWidgets import QApplication\n"
        "application = QApplication([])\n"
        "QTimer.singleShot(50, QApplication.closeAllWindows)\n"
        "sys.exit(desktop_host.main())"
    )  # a process of its own: an application that has quit leaves no event loop for the tests after it
    done = subprocess.run([sys.executable, "-c", code, str(EXAMPLE.parent)], cwd=tmp_path)
    assert done.returncode == 0
