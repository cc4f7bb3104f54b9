from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QImage, QWheelEvent
from PySide6.QtWidgets import QApplication

from maskwright.desktop.pictures_view import (
    NOT_VALID,
    Layer,
    OverlayView,
    PictureView,
    Preview,
    Thumbnails,
    load_picture,
)
from maskwright.errors import PredictionError


def _grey(values: np.ndarray) -> QImage:
    height, width = values.shape
    return QImage(values.astype(np.uint8).tobytes(), width, height, width, QImage.Format.Format_Indexed8).copy()


def _plain(width: int = 40, height: int = 20, color: str = "white") -> QImage:
    image = QImage(width, height, QImage.Format.Format_RGB32)
    image.fill(QColor(color))
    return image


def test_a_picture_is_decoded_no_larger_than_asked_and_upright(tmp_path: Path) -> None:
    pixels = np.zeros((60, 120, 3), np.uint8)
    pixels[:, :60] = (200, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    image = load_picture(tmp_path / "a.jpg", most_px=60)
    assert (image.width(), image.height()) == (30, 60)
    assert image.pixelColor(15, 5).red() > 150
    assert image.pixelColor(15, 55).red() < 50


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(PredictionError, match=r"a\.png cannot be shown: "):
        load_picture(tmp_path / "a.png", most_px=10)


def test_zooming_with_wheel_and_keys_and_back(qtbot: Any) -> None:
    view = PictureView()
    qtbot.addWidget(view)
    view.resize(400, 300)
    view.show()
    view.show_picture(_plain())
    fitted = view.transform().m11()
    wheel = QWheelEvent(
        QPointF(50, 50),
        QPointF(50, 50),
        QPoint(),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(view.viewport(), wheel)
    assert view.transform().m11() == pytest.approx(fitted * 1.25)
    qtbot.keyClick(view, Qt.Key.Key_Minus)
    qtbot.keyClick(view, Qt.Key.Key_Minus)
    assert view.transform().m11() == pytest.approx(fitted / 1.25)
    qtbot.keyClick(view, Qt.Key.Key_0)
    assert view.transform().m11() == pytest.approx(fitted)


def test_a_sheet_is_fitted_by_its_width_and_never_enlarged(qtbot: Any) -> None:
    view = PictureView(by_width=True)
    qtbot.addWidget(view)
    view.resize(300, 200)
    view.show()
    view.show_picture(_plain(600, 2000))
    assert view.transform().m11() == pytest.approx(view.viewport().width() / 600)
    view.show_picture(_plain(40, 20))
    assert view.transform().m11() == 1.0


def test_the_slider_cuts_the_stored_probabilities(qtbot: Any) -> None:
    view = OverlayView()
    qtbot.addWidget(view)
    levels = np.array([[0, 100, 200, NOT_VALID]])  # probabilities 0, 0.39, 0.79 and none
    layer = Layer("crack", (213, 94, 0), _grey(np.repeat(levels, 2, axis=0)))
    view.show_preview(Preview(_plain(4, 2), (layer,)))
    view.set_threshold(0.5)
    assert [view.layer_at("crack", x, 0) for x in range(4)] == [False, False, True, False]
    with qtbot.waitSignal(view.threshold_changed) as changed:
        view.slider.setValue(30)
    assert changed.args == [pytest.approx(0.3)]
    assert [view.layer_at("crack", x, 0) for x in range(4)] == [False, True, True, False]


def test_what_is_painted_is_seen(qtbot: Any) -> None:
    view = OverlayView()
    qtbot.addWidget(view)
    view.resize(300, 300)
    view.show()
    levels = np.zeros((40, 40), np.uint8)
    levels[:, 20:] = 254
    view.show_preview(Preview(_plain(40, 40), (Layer("crack", (255, 0, 0), _grey(levels)),)))
    view.set_threshold(0.5)
    shot = view.view.viewport().grab().toImage()
    height, width = shot.height(), shot.width()
    assert shot.pixelColor(width // 2 - 30, height // 2) == QColor("white")
    assert shot.pixelColor(width // 2 + 30, height // 2).green() < 140  # half of it shines through
    view.set_threshold(0.99)
    view.show_preview(Preview(_plain(40, 40)))
    assert not view.slider.isEnabled()
    assert view.view.viewport().grab().toImage().pixelColor(width // 2 + 30, view.view.height() // 2).green() == 255


def test_a_name_is_shown_as_it_is_written(qtbot: Any) -> None:
    view = OverlayView()
    qtbot.addWidget(view)
    view.show_preview(Preview(_plain(4, 2), (Layer("<b>5 m</b>", (1, 2, 3), _grey(np.zeros((2, 4)))),)))
    assert "&lt;b&gt;5 m" in view._key.text()


def test_thumbnails_with_pictures_and_faults(qtbot: Any) -> None:
    list_ = Thumbnails()
    qtbot.addWidget(list_)
    assert [list_.add("a.png"), list_.add("b.png", "/photos/b.png")] == [0, 1]
    list_.set_icon(0, _plain())
    list_.set_fault(1, "b.png is damaged.")
    assert not list_.item(0).icon().isNull()
    assert list_.item(1).toolTip() == "b.png is damaged."
    list_.set_icon(7, _plain())  # gone meanwhile
    assert list_.count() == 2


@pytest.mark.parametrize("points", [9.0, 18.0])
def test_names_of_pictures_have_room_in_large_letters_too(qtbot: Any, points: float) -> None:
    list_ = Thumbnails()
    qtbot.addWidget(list_)
    font = list_.font()
    font.setPointSizeF(points)
    list_.setFont(font)
    list_.add("facade_12b.png")
    assert list_.fontMetrics().horizontalAdvance("facade_12b.png") + 8 < list_.item(0).sizeHint().width()
