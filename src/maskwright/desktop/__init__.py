"""The desktop window: train and predict without writing a line. Needs the extra ``desktop``."""

from __future__ import annotations

import importlib
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

__all__ = ["InferenceThread", "MainWindow", "PredictDialog", "TrainConfigDialog", "TrainingThread"]

_MODULES = {
    "InferenceThread": "inference_thread",
    "MainWindow": "window",
    "PredictDialog": "predict_dialog",
    "TrainConfigDialog": "train_dialog",
    "TrainingThread": "training_thread",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as cause:
        if (cause.name or "").partition(".")[0] not in ("PySide6", "shiboken6", "pyqtgraph"):
            raise
        raise ConfigError(
            f"The desktop window needs {(cause.name or '').partition('.')[0]}. "
            "Install: pip install 'maskwright[desktop]'"
        ) from cause
    return getattr(module, name)
