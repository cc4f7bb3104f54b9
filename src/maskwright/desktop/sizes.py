"""open_at: how large a window opens, whatever the size of the letters and of the screen."""

from __future__ import annotations

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QWidget

__all__ = ["open_at"]

_USUAL_PX = 18  # height of a line of letters of the usual size
_SHARE = 0.95  # of the screen; the frame of the window needs the rest


def open_at(window: QWidget, width: int, height: int) -> None:
    """Give a window its size: that of usual letters, larger with larger ones, as far as the screen goes.

    A screen of high resolution often has fewer pixels for a window to count in than one expects: 1920 x 1080 at 150 %
    are 1280 x 720. Buttons at the foot must not lie below its edge.

    Args:
        window: Not on show yet.
        width: With letters of the usual size, pixels.
        height: As ``width``.
    """
    wanted = QSize(width, height) * max(window.fontMetrics().height() / _USUAL_PX, 1.0)
    window.resize(wanted.boundedTo(window.screen().availableSize() * _SHARE))
