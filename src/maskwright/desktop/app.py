"""The application: ``maskwright desktop`` starts it."""

from __future__ import annotations

import sys
from pathlib import Path

from PySide6.QtWidgets import QApplication

from maskwright.desktop.immortal import keep_alive
from maskwright.desktop.window import MainWindow

__all__ = ["main", "open_window"]


def open_window(experiment: Path | None = None, runs: Path = Path("outputs")) -> MainWindow:
    """The main window, on show; with the training dialog if an experiment is given."""
    window = MainWindow(runs)
    window.show()
    if experiment is not None:
        window.train(experiment)
    return window


def main(experiment: Path | None = None, runs: Path = Path("outputs")) -> int:
    """Show the window until it is closed; returns the exit code."""
    keep_alive()
    application = QApplication.instance() or QApplication(sys.argv[:1])
    application.setApplicationName("Maskwright")
    window = open_window(experiment, runs)
    code = application.exec()
    del window
    return int(code)
