"""Pictures in the window: one to zoom into, a list of thumbnails, and a picture under what a model found in it.

Files are decoded off the GUI thread (:func:`load_picture`); what arrives here are finished ``QImage`` objects.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import (
    QIcon,
    QImage,
    QImageReader,
    QKeyEvent,
    QPainter,
    QPixmap,
    QResizeEvent,
    QTransform,
    QWheelEvent,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QGraphicsPixmapItem,
    QGraphicsScene,
    QGraphicsView,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from maskwright.errors import PredictionError

__all__ = ["ICON_PX", "NOT_VALID", "Layer", "OverlayView", "PictureView", "Preview", "Thumbnails", "load_picture"]

ICON_PX = 112
_NAME_LETTERS = 18  # of the name of a file, shown below its picture
_ZOOM = 1.25
_MOST_ZOOM = 32.0
_LEVELS = 100  # steps of the slider
_LIVE = (
    "Where the probabilities are cut. The files hold the masks as they were predicted; predict again to write them "
    "with another threshold."
)
_NO_PROBABILITIES = (
    "There are no probabilities of this picture. Tick Probabilities and predict again to move the threshold."
)
NOT_VALID = 255
"""Value of a layer where nothing was measured; probabilities are 0 to 254."""


@dataclass(frozen=True)
class Layer:
    """What a model says of one class or height.

    Attributes:
        name: Of the class or height.
        color: Red, green, blue.
        levels: An 8-bit picture: 254 times the probability, 255 where nothing was measured.
    """

    name: str
    color: tuple[int, int, int]
    levels: QImage


@dataclass(frozen=True)
class Preview:
    """A picture and what was found in it.

    Attributes:
        picture: What the model saw, or the finished overlay where there are no layers.
        layers: Drawn over it, the first one on top.
        threshold: Where probabilities were cut, 0 to 1.
    """

    picture: QImage
    layers: tuple[Layer, ...] = ()
    threshold: float = 0.5


def load_picture(path: Path, *, most_px: int) -> QImage:
    """Decode a picture, no larger than asked; for another thread than that of the window.

    Args:
        path: PNG, JPEG or another photograph.
        most_px: The longer side of the result.

    Raises:
        PredictionError: If it cannot be read.
    """
    reader = QImageReader(str(path))
    reader.setAutoTransform(True)
    size = reader.size()
    if size.isValid() and max(size.width(), size.height()) > most_px:
        reader.setScaledSize(size.scaled(most_px, most_px, Qt.AspectRatioMode.KeepAspectRatio))
    image = reader.read()
    if image.isNull():
        raise PredictionError(f"{path} cannot be shown: {reader.errorString()}.")
    return image


class PictureView(QGraphicsView):
    """A picture, fitted to the view until one zooms: wheel or + and -, 0 to fit it again; drag to move.

    Args:
        parent: Owner.
        by_width: Fit the width alone, and no larger than it is: for sheets that are read from top to bottom. The wheel
            then scrolls, and zooms with Ctrl.
    """

    def __init__(self, parent: QWidget | None = None, *, by_width: bool = False) -> None:
        super().__init__(parent)
        self._by_width = by_width
        self._scene = QGraphicsScene(self)
        self.setScene(self._scene)
        self.setDragMode(QGraphicsView.DragMode.ScrollHandDrag)
        self.setTransformationAnchor(QGraphicsView.ViewportAnchor.AnchorUnderMouse)
        self.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        self.setMinimumSize(160, 120)
        self._base = self._scene.addPixmap(QPixmap())
        self._over: list[QGraphicsPixmapItem] = []
        self._is_fitted = True
        if by_width:
            self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignHCenter)

    @property
    def has_picture(self) -> bool:
        """Whether anything is shown."""
        return not self._base.pixmap().isNull()

    def show_picture(self, picture: QImage | None) -> None:
        """Show a picture, all of it; None: nothing."""
        for item in self._over:
            self._scene.removeItem(item)
        self._over = []
        before = self._base.pixmap().size()
        self._base.setPixmap(QPixmap() if picture is None else QPixmap.fromImage(picture))
        self._scene.setSceneRect(self._base.boundingRect())
        if self._base.pixmap().size() != before:
            self._is_fitted = True
        self._fit()

    def show_over(self, layers: Sequence[QImage]) -> None:
        """Lay translucent pictures over it, the first one on top; each is stretched to the picture."""
        while len(self._over) < len(layers):
            self._over.append(self._scene.addPixmap(QPixmap()))
        size = self._base.pixmap().size()
        for place, (item, layer) in enumerate(zip(self._over, layers, strict=True)):
            item.setPixmap(QPixmap.fromImage(layer))
            item.setScale(size.width() / max(layer.width(), 1))
            item.setZValue(len(layers) - place)

    def zoom(self, factor: float) -> None:
        """Show the picture larger or smaller."""
        if 1 / _MOST_ZOOM < self.transform().m11() * factor < _MOST_ZOOM:
            self._is_fitted = False
            self.scale(factor, factor)

    def fit(self) -> None:
        """Fit the picture, now and when the window changes."""
        self._is_fitted = True
        self._fit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self._by_width and not event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            super().wheelEvent(event)
        else:
            self.zoom(_ZOOM if event.angleDelta().y() > 0 else 1 / _ZOOM)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom(_ZOOM)
        elif event.key() == Qt.Key.Key_Minus:
            self.zoom(1 / _ZOOM)
        elif event.key() == Qt.Key.Key_0:
            self.fit()
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        if not self._is_fitted or not self.has_picture:
            return
        if self._by_width:
            scale = min(self.viewport().width() / self._base.boundingRect().width(), 1.0)
            self.setTransform(QTransform.fromScale(scale, scale))
            self.verticalScrollBar().setValue(self.verticalScrollBar().minimum())
        else:
            self.fitInView(self._base, Qt.AspectRatioMode.KeepAspectRatio)


class Thumbnails(QListWidget):
    """Small pictures with names, in rows; the arrows of the keyboard walk through them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setViewMode(QListWidget.ViewMode.IconMode)
        self.setIconSize(QSize(ICON_PX, ICON_PX))
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setMovement(QListWidget.Movement.Static)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setSpacing(4)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # numbers and endings are what names differ in

    def add(self, name: str, tip: str = "") -> int:
        """Add an entry without a picture yet; its row."""
        item = QListWidgetItem(name, self)
        item.setToolTip(tip or name)
        letters = self.fontMetrics()
        width = max(ICON_PX + 16, _NAME_LETTERS * letters.averageCharWidth())
        item.setSizeHint(QSize(width, ICON_PX + 2 * letters.height()))
        return self.count() - 1

    def set_icon(self, row: int, picture: QImage) -> None:
        """Give an entry its picture."""
        item = self.item(row)
        if item is not None:
            item.setIcon(QIcon(QPixmap.fromImage(picture)))

    def set_fault(self, row: int, reason: str) -> None:
        """Mark an entry that could not be done, and say why."""
        item = self.item(row)
        if item is not None:
            style = self.style()
            item.setIcon(style.standardIcon(style.StandardPixmap.SP_MessageBoxWarning))
            item.setToolTip(reason)


class OverlayView(QWidget):
    """A picture, what a model found in it, and a slider that cuts its probabilities elsewhere while one looks."""

    threshold_changed = Signal(float)
    """The slider was moved: the probability, 0.01 to 0.99."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.view = PictureView(self)
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.slider.setRange(1, _LEVELS - 1)
        self.slider.setPageStep(10)
        self.slider.setValue(_LEVELS // 2)
        self.slider.setAccessibleName("Threshold")
        self._label = QLabel("Threshold", self)
        self._label.setBuddy(self.slider)
        self._number = QLabel(self)
        self._key = QLabel(self)
        self._key.setWordWrap(True)
        self._preview: Preview | None = None
        row = QHBoxLayout()
        for widget in (self._label, self.slider, self._number):
            row.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view, 1)
        layout.addWidget(self._key)
        layout.addLayout(row)
        self.slider.valueChanged.connect(self._slid)
        self.show_preview(None)

    @property
    def threshold(self) -> float:
        """Where probabilities are cut, 0.01 to 0.99."""
        return self.slider.value() / _LEVELS

    def set_threshold(self, threshold: float) -> None:
        """Cut elsewhere."""
        self.slider.setValue(round(threshold * _LEVELS))

    def show_preview(self, preview: Preview | None) -> None:
        """Show a picture and what was found in it; None: nothing."""
        self._preview = preview
        self.view.show_picture(None if preview is None else preview.picture)
        layers = () if preview is None else preview.layers
        self.slider.setEnabled(bool(layers))
        self.slider.setToolTip(_LIVE if layers else _NO_PROBABILITIES)
        self._key.setText("&nbsp; ".join(_entry(layer) for layer in layers))
        self._key.setVisible(bool(layers))
        self._draw()

    def layer_at(self, name: str, x: int, y: int) -> bool:
        """Whether a layer is painted at a pixel of its own picture, for the threshold of now."""
        layers = () if self._preview is None else self._preview.layers
        layer = next(one for one in layers if one.name == name)
        return _is_called(layer.levels.pixelIndex(x, y), self.threshold)

    def _slid(self) -> None:
        self._draw()
        self.threshold_changed.emit(self.threshold)

    def _draw(self) -> None:
        self._number.setText(f"{self.threshold:.2f}")
        if self._preview is not None and self._preview.layers:
            self.view.show_over([_cut(layer, self.threshold) for layer in self._preview.layers])


def _is_called(level: int, threshold: float) -> bool:
    return level != NOT_VALID and level > threshold * (NOT_VALID - 1)


def _cut(layer: Layer, threshold: float) -> QImage:
    """The layer with its colour above the threshold and nothing below: only its table of 256 colours is new."""
    red, green, blue = layer.color
    painted = 0x80 << 24 | red << 16 | green << 8 | blue
    image = QImage(layer.levels)  # shares the pixels
    image.setColorTable([painted if _is_called(level, threshold) else 0 for level in range(256)])
    return image


def _entry(layer: Layer) -> str:
    """A coloured square and a name, for the line below the picture."""
    color = "#{:02x}{:02x}{:02x}".format(*layer.color)
    return f'<span style="color:{color}">■</span> {html.escape(layer.name)}'
