from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QWidget

from maskwright.desktop.plots import CurvePlot, line_color
from maskwright.desktop.watching import Line


def _line(name: str, count: int = 3, **options: Any) -> Line:
    return Line(name, np.arange(count, dtype=np.float64), np.arange(count, dtype=np.float64), **options)


def _palette(base: str) -> QPalette:
    palette = QPalette()
    palette.setColor(QPalette.ColorRole.Base, QColor(base))
    palette.setColor(QPalette.ColorRole.Text, QColor("white" if base == "black" else "black"))
    return palette


@pytest.fixture
def plot(qtbot: Any) -> CurvePlot:
    plot = CurvePlot("Loss", "epoch")
    qtbot.addWidget(plot)
    plot.resize(400, 300)
    plot.show()
    return plot


def test_the_view_follows_what_is_drawn(plot: CurvePlot, qtbot: Any) -> None:
    plot.set_lines([Line("training", np.array([0.0, 10.0]), np.array([2.0, 4.0]))])
    qtbot.waitUntil(lambda: plot.view_range[0][1] >= 10)
    (left, right), (low, high) = plot.view_range
    assert left <= 0 <= 10 <= right
    assert low <= 2 <= 4 <= high


def test_a_line_that_grows_keeps_its_place_and_others_go(plot: CurvePlot) -> None:
    plot.set_lines([_line("training"), _line("validation")])
    kept = plot._items["validation"]
    plot.set_lines([_line("training", 4), _line("validation", 5)])
    assert plot._items["validation"] is kept
    assert len(kept.getData()[0]) == 5
    plot.set_lines([_line("training")])
    assert list(plot._items) == ["training"]
    assert "training" in plot.names.text()
    assert "validation" not in plot.names.text()


def test_the_names_stand_below_the_lines_and_never_upon_them(plot: CurvePlot, qtbot: Any) -> None:
    plot.set_lines([_line(f"a score with a long name {number}") for number in range(7)])
    qtbot.waitUntil(lambda: plot._plot.geometry().bottom() < plot.names.geometry().top())
    assert plot.names.geometry().bottom() <= plot.rect().bottom()
    assert plot._plot.height() > plot.height() // 2


def test_a_name_hides_its_line_and_shows_it_again_also_after_new_points(plot: CurvePlot) -> None:
    plot.set_lines([_line("training"), _line("a < b")])
    plot.names.linkActivated.emit("a < b")
    assert not plot._items["a < b"].isVisible()
    assert "<s>a &lt; b</s>" in plot.names.text()
    plot.set_lines([_line("training", 4), _line("a < b", 4)])
    assert [plot._items[name].isVisible() for name in ("training", "a < b")] == [True, False]
    plot.toggle("a < b")
    assert plot._items["a < b"].isVisible()
    assert "<s>" not in plot.names.text()


def test_a_faint_line_has_the_colour_of_the_first_strong_one_also_when_others_join_later(plot: CurvePlot) -> None:
    for lines in ([_line("steps", faint=True)], [_line("steps", faint=True), _line("training"), _line("validation")]):
        plot.set_lines(lines)
        pens = {line.name: plot._items[line.name].opts["pen"].color() for line in lines}
        assert pens["steps"].alpha() < 255
        assert pens["steps"].rgb() == line_color(0, plot.palette()).rgb()
    assert pens["training"] == line_color(0, plot.palette())
    assert pens["validation"] == line_color(1, plot.palette())


def test_of_a_hundred_thousand_points_few_are_drawn_and_no_peak_is_lost(plot: CurvePlot, qtbot: Any) -> None:
    values = np.zeros(100_000)
    values[31_415] = 7.0
    plot.set_lines([Line("steps", np.arange(100_000.0), values)])
    qtbot.waitUntil(lambda: plot.view_range[0][1] >= 99_999)
    plot.grab()  # drawn once
    shown = plot._items["steps"].getData()
    assert len(shown[0]) < 10_000
    assert shown[1].max() == 7.0


def test_values_that_are_not_finite_are_gaps(plot: CurvePlot) -> None:
    plot.set_lines([Line("loss", np.array([0.0, 1.0, 2.0]), np.array([1.0, np.nan, 3.0]))])
    plot.grab()
    assert plot.lines[0].y[2] == 3.0


def test_colours_come_from_the_window_light_and_dark(plot: CurvePlot) -> None:
    plot.set_lines([_line("training")])
    for base in ("white", "black"):
        plot.setPalette(_palette(base))
        assert plot._plot.backgroundBrush().color() == QColor(base)
        pen = plot._items["training"].opts["pen"]
        assert pen.color() == line_color(0, _palette(base))
    assert line_color(0, _palette("black")).lightness() > line_color(0, _palette("white")).lightness()


def test_letters_grow_with_the_font_of_the_window(qtbot: Any) -> None:
    host = QWidget()
    qtbot.addWidget(host)
    plot = CurvePlot("Loss", "epoch", host)
    font = host.font()
    font.setPointSizeF(23.0)
    host.setFont(font)
    assert (
        "23.0pt" in plot._plot.getAxis("bottom").label.toHtml() or "23pt" in plot._plot.getAxis("bottom").label.toHtml()
    )
    assert plot._plot.getAxis("left").style["tickFont"].pointSizeF() == 23.0
