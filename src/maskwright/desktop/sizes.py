"""open_at: how large a window opens, whatever the size of the letters."""

from __future__ import annotations

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QWidget

__all__ = ["open_at"]

_USUAL_PX = 18  # height of a line of letters of the usual size


def open_at(window: QWidget, width: int, height: int) -> None:
    """Give a window its size: that of usual letters, larger with larger ones as far as the screen goes.

    Args:
        window: Not on show yet.
        width: With letters of the usual size, pixels.
        height: As ``width``.
    """
    usual = QSize(width, height)
    wanted = usual * max(window.fontMetrics().height() / _USUAL_PX, 1.0)
    window.resize(wanted.boundedTo(window.screen().availableSize()).expandedTo(usual))
