from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QWidget

from maskwright.desktop.sizes import open_at


class Window(QWidget):
    """On a screen of a size of our own."""

    def __init__(self, points: float, available: QSize) -> None:
        super().__init__()
        self.available = available
        font = self.font()
        font.setPointSizeF(points)
        self.setFont(font)

    def screen(self) -> Any:
        return self

    def availableSize(self) -> QSize:
        return self.available


@pytest.mark.parametrize(
    ("points", "available", "grows"), [(8.0, QSize(4000, 3000), False), (24.0, QSize(4000, 3000), True)]
)
def test_a_window_grows_with_its_letters(qtbot: Any, points: float, available: QSize, grows: bool) -> None:
    window = Window(points, available)
    qtbot.addWidget(window)
    open_at(window, 900, 600)
    assert (window.width() > 900, window.height() > 600) == (grows, grows)
    assert window.width() / window.height() == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("points", [8.0, 30.0])
def test_it_opens_inside_the_screen_with_room_for_its_frame(qtbot: Any, points: float) -> None:
    window = Window(points, QSize(800, 500))
    qtbot.addWidget(window)
    open_at(window, 900, 600)
    assert (window.width(), window.height()) == (760, 475)
