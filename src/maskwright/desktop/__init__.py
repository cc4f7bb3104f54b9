"""The desktop window: train and predict without writing a line. Needs the extra ``desktop``."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.desktop.immortal import keep_alive
from maskwright.errors import ConfigError

if TYPE_CHECKING:
    from maskwright.desktop.inference_thread import InferenceThread
    from maskwright.desktop.predict_dialog import PredictDialog
    from maskwright.desktop.train_dialog import TrainConfigDialog
    from maskwright.desktop.training_thread import TrainingThread
    from maskwright.desktop.window import MainWindow

keep_alive()  # before the first call of Qt, whichever module makes it

__all__ = ["InferenceThread", "MainWindow", "PredictDialog", "TrainConfigDialog", "TrainingThread", "main"]

_MODULES = {
    "InferenceThread": "inference_thread",
    "MainWindow": "window",
    "PredictDialog": "predict_dialog",
    "TrainConfigDialog": "train_dialog",
    "TrainingThread": "training_thread",
}
_OF_THE_EXTRA = ("PySide6", "shiboken6", "pyqtgraph")
_LIBRARY = re.compile(r"(lib\S+): cannot open shared object file")
_SYSTEM_PACKAGES = (  # what Qt's own files ask for on Linux, and desktops have
    "libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 "
    "libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxkbcommon-x11-0"
)


def main(experiment: Path | None = None, runs: Path = Path("outputs")) -> int:
    """Show the window until it is closed.

    Args:
        experiment: An experiment file to open in the training dialog.
        runs: Folder of run folders.

    Returns:
        The exit code.

    Raises:
        ConfigError: If what it is made of is missing, or there is no screen.
    """
    application = _module("app")
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform == "linux" and not any(map(os.environ.get, screens)):  # Qt would end the program
        raise ConfigError(
            "There is no screen for the desktop window: neither DISPLAY nor WAYLAND_DISPLAY is set. Start it in a "
            "desktop session; runs on a computer without one are watched in a browser with: maskwright monitor"
        )
    return int(application.main(experiment, runs))


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_module(_MODULES[name]), name)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ImportError as cause:
        words = _what_is_missing(cause)
        if not words:
            raise
        raise ConfigError(words) from cause


def _what_is_missing(cause: ImportError) -> str:
    """What to install; empty if it is a defect."""
    package = (cause.name or "").partition(".")[0]
    if isinstance(cause, ModuleNotFoundError) and package in _OF_THE_EXTRA:
        return f"The desktop window needs {package}. Install: pip install 'maskwright[desktop]'"
    library = _LIBRARY.search(str(cause))
    if library is None:
        return ""
    return (
        f"The desktop window needs {library[1]}, a library of the system. Install on Debian and Ubuntu: "
        f"sudo apt install {_SYSTEM_PACKAGES}; elsewhere the packages that hold the same libraries."
    )
