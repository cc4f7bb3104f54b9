"""CurvePlot: lines that grow while one looks, fluid with a hundred thousand points, in the colours of the window.

Brings pyqtgraph, half a second of import: this module is loaded off the GUI thread, by a job.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from maskwright.desktop.watching import Line
from maskwright.pictures.colors import CATEGORICAL

__all__ = ["CurvePlot", "line_color"]

_FEW_POINTS = 400  # so many are drawn with thick lines and marks, more with thin ones, which Qt draws much faster
_FAINT = 120  # of 255, how much of a faint line is seen
_DARK = 128  # lightness of a background below which lines are made brighter


class CurvePlot(QWidget):
    """A plot of some lines; drag to move, wheel to zoom, right click for more. A name below it hides its line.

    Args:
        title: Above the plot; may be empty.
        x_label: Below it.
        parent: Owner.
    """

    def __init__(self, title: str, x_label: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._plot: Any = pg.PlotWidget(self)
        for part in (self._plot, self._plot.viewport()):
            part.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keyboard has nothing to do there
        self._items: dict[str, Any] = {}
        self._lines: tuple[Line, ...] = ()
        self._title, self._x_label = title, x_label
        self._hidden: set[str] = set()
        self.names = QLabel(self)  # below and not upon the lines, however many there are
        self.names.setWordWrap(True)
        self.names.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self.names.setTextInteractionFlags(
            Qt.TextInteractionFlag.LinksAccessibleByMouse | Qt.TextInteractionFlag.LinksAccessibleByKeyboard
        )
        self.names.setToolTip("Click a name to hide its line or show it again")
        self.names.linkActivated.connect(self.toggle)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._plot, 1)
        layout.addWidget(self.names)
        self._plot.setDownsampling(auto=True, mode="peak")  # no peak is lost, and a pixel column costs two points
        self._plot.setClipToView(True)
        self.setAccessibleName(title)
        self._restyle()

    @property
    def lines(self) -> tuple[Line, ...]:
        """What is drawn."""
        return self._lines

    @property
    def view_range(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """What is in sight: (least, largest) of x and of y."""
        (left, right), (low, high) = self._plot.viewRange()
        return (left, right), (low, high)

    def set_lines(self, lines: Sequence[Line]) -> None:
        """Draw these lines; those of the same names keep their place and colour, others go."""
        if [line.name for line in lines] != [line.name for line in self._lines]:
            self._plot.clear()
            self._items = {}
        was_dense = {line.name: _is_dense(line) for line in self._lines if line.name in self._items}
        self._lines = tuple(lines)
        for line in lines:
            item = self._items.get(line.name)
            if item is None:
                item = self._items[line.name] = self._plot.plot(connect="finite")
                item.setVisible(line.name not in self._hidden)
            if was_dense.get(line.name) != _is_dense(line):
                self._style(line)
            item.setData(line.x, line.y)
        self._put_names()

    def toggle(self, name: str) -> None:
        """Hide a line, or show it again."""
        self._hidden ^= {name}
        self._items[name].setVisible(name not in self._hidden)
        self._put_names()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the window from light to dark, and to larger letters."""
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._restyle()
        super().changeEvent(event)

    def _restyle(self) -> None:
        palette = self.palette()
        self._plot.setBackground(palette.color(QPalette.ColorRole.Base))
        ink = palette.color(QPalette.ColorRole.Text)
        for side in ("left", "bottom"):
            axis = self._plot.getAxis(side)
            axis.setPen(_soft(ink, 120))
            axis.setTextPen(ink)
            axis.setTickFont(QFont(self.font()))
        self._plot.showGrid(x=True, y=True, alpha=0.15)
        self._put_words()
        for line in self._lines:
            self._style(line)
        self._put_names()

    def _put_words(self) -> None:
        ink = self.palette().color(QPalette.ColorRole.Text).name()
        size = f"{self.font().pointSizeF():.1f}pt" if self.font().pointSizeF() > 0 else f"{self.font().pixelSize()}px"
        self._plot.setTitle(self._title or None, color=ink, size=size)
        self._plot.setLabel("bottom", self._x_label, color=ink, **{"font-size": size})

    def _put_names(self) -> None:
        ink = self.palette().color(QPalette.ColorRole.WindowText).name()
        text = " &nbsp; ".join(self._entry(line, ink) for line in self._lines)
        if text != self.names.text():
            self.names.setText(text)
        self.names.setVisible(bool(text))

    def _entry(self, line: Line, ink: str) -> str:
        name = html.escape(line.name)
        words = f"<s>{name}</s>" if line.name in self._hidden else name
        mark = f'<span style="color:{self._color(line).name()}">{"─" if line.faint else "■"}</span>'
        return f'{mark}&nbsp;<a href="{name}" style="color:{ink}; text-decoration:none">{words}</a>'

    def _color(self, line: Line) -> QColor:
        """By place among the lines that are not faint; a faint one has the colour of the first of them."""
        strong = [each.name for each in self._lines if not each.faint]
        return line_color(0 if line.faint else strong.index(line.name), self.palette())

    def _style(self, line: Line) -> None:
        item = self._items[line.name]
        color = self._color(line)
        if line.faint:
            color.setAlpha(_FAINT)
            item.setZValue(-1)
        dense = _is_dense(line)
        item.setPen(pg.mkPen(color, width=1 if dense or line.faint else 2))
        item.setSymbol(None if dense or line.faint else "o")
        item.setSymbolSize(5)
        item.setSymbolBrush(color)
        item.setSymbolPen(None)


def line_color(index: int, palette: QPalette) -> QColor:
    """The colour of a line: one that colour-blind people can tell apart, brighter on a dark window."""
    color = QColor(*CATEGORICAL[index % len(CATEGORICAL)])
    is_dark = palette.color(QPalette.ColorRole.Base).lightness() < _DARK
    return color.lighter(150) if is_dark else color


def _is_dense(line: Line) -> bool:
    return len(line.x) > _FEW_POINTS


def _soft(color: QColor, alpha: int) -> QColor:
    soft = QColor(color)
    soft.setAlpha(alpha)
    return soft
