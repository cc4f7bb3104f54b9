from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QPalette, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QLineEdit,
    QSpinBox,
    QWidget,
)

from maskwright.config import FieldSpec
from maskwright.config.drafts import all_settings
from maskwright.desktop.fields import MessageLabel, Row, editor_for, narrowed, text_of, tip_of

SPECS = all_settings()


@pytest.mark.parametrize(
    ("path", "widget", "value"),
    [
        ("training.epochs", QSpinBox, 7),
        ("data.augment.strength", QDoubleSpinBox, 0.75),
        ("training.ema.enabled", QCheckBox, True),
        ("training.precision", QComboBox, "bf16"),
        ("data.loader.workers", QComboBox, "auto"),
        ("data.loader.workers", QComboBox, 3),
        ("data.tiles.size_px", QSpinBox, 512),
        ("training.clip_norm", QLineEdit, None),
        ("training.clip_norm", QLineEdit, 2.5),
        ("optim.optimizer.betas", QLineEdit, [0.9, 0.99]),
        ("data.images", QLineEdit, "/pictures"),
        ("data.images", QLineEdit, None),
    ],
)
def test_an_editor_shows_what_it_is_given(qtbot: Any, path: str, widget: type[QWidget], value: Any) -> None:
    editor = editor_for(SPECS[path])
    qtbot.addWidget(editor)
    assert isinstance(editor.part, widget)
    said: list[Any] = []
    editor.edited.connect(said.append)
    editor.set_value(value)
    assert editor.value() == value
    assert said == []  # only a person edits


def test_ranges_units_and_help_come_from_the_schema(qtbot: Any) -> None:
    editor = editor_for(SPECS["training.epochs"])
    qtbot.addWidget(editor)
    box = editor.part
    assert (box.minimum(), box.maximum(), box.suffix()) == (1, 100_000, " epochs")
    assert SPECS["training.epochs"].help in box.toolTip()
    assert "training.epochs" in box.toolTip()
    assert "Default: 50 epochs" in tip_of(SPECS["training.epochs"])


def test_a_form_may_offer_less_but_shows_what_a_file_says(qtbot: Any) -> None:
    spec = narrowed(SPECS["training.epochs"], 1, 1000)
    editor = editor_for(spec)
    qtbot.addWidget(editor)
    assert editor.part.maximum() == 1000
    editor.set_value(5000)
    assert editor.value() == 5000


def test_small_numbers_keep_their_digits(qtbot: Any) -> None:
    spec = narrowed(SPECS["optim.optimizer.lr"], 1e-6, 1)
    editor = editor_for(spec, decimals=6)
    qtbot.addWidget(editor)
    editor.set_value(1e-4)
    assert (editor.value(), editor.part.decimals()) == (1e-4, 6)
    editor.set_value(2.5e-8)
    assert editor.value() == pytest.approx(2.5e-8)


def press_check(editor: Any) -> None:
    QTest.keyClick(editor.part, Qt.Key.Key_Space)


def press_up(editor: Any) -> None:
    QTest.keyClick(editor.part, Qt.Key.Key_Up)


def press_down(editor: Any) -> None:
    QTest.keyClick(editor.part, Qt.Key.Key_Down)


def write(text: str) -> Callable[[Any], None]:
    return lambda editor: QTest.keyClicks(editor.part, text)


@pytest.mark.parametrize(
    ("path", "before", "act", "after"),
    [
        ("training.ema.enabled", False, press_check, True),
        ("training.epochs", 50, press_up, 51),
        ("training.precision", "auto", press_down, "fp32"),
        ("training.clip_norm", None, write("2"), 2),
        ("optim.optimizer.betas", None, write("0"), [0]),
        ("data.images", None, write("/"), "/"),
    ],
)
def test_everything_can_be_edited_with_the_keyboard(
    qtbot: Any, path: str, before: Any, act: Callable[[Any], None], after: Any
) -> None:
    editor = editor_for(SPECS[path])
    qtbot.addWidget(editor)
    editor.set_value(before)
    editor.show()
    said: list[Any] = []
    editor.edited.connect(said.append)
    act(editor)
    assert said[-1:] == [after]


def test_what_cannot_be_read_is_said_until_it_can(qtbot: Any) -> None:
    editor = editor_for(SPECS["optim.optimizer.betas"])
    qtbot.addWidget(editor)
    wrong: list[str] = []
    editor.unreadable.connect(wrong.append)
    QTest.keyClicks(editor.part, "[0.9")
    assert wrong[-1].startswith("'[0.9' cannot be read. Write a list")
    QTest.keyClicks(editor.part, ", 0.99]")
    assert wrong[-1] == ""
    assert editor.value() == [0.9, 0.99]


def test_a_number_is_not_rewritten_while_it_is_typed(qtbot: Any) -> None:
    editor = editor_for(SPECS["training.clip_norm"])
    qtbot.addWidget(editor)
    QTest.keyClicks(editor.part, "1e-4")
    editor.set_value(0.0001)
    assert editor.part.text() == "1e-4"
    QTest.keyClick(editor.part, Qt.Key.Key_Return)
    editor.set_value(0.0001)
    assert editor.part.text() == "0.0001"


def test_a_word_of_a_file_that_is_not_offered_is_shown_and_goes_again(qtbot: Any) -> None:
    editor = editor_for(FieldSpec("a", "choice", "x", "", choices=("x", "y")))
    qtbot.addWidget(editor)
    editor.set_value("z")
    assert (editor.value(), editor.part.count()) == ("z", 3)
    editor.set_value("y")
    assert (editor.value(), editor.part.count()) == ("y", 2)


def test_a_choice_between_numbers_gives_a_number(qtbot: Any) -> None:
    editor = editor_for(FieldSpec("a", "choice", 1, "", choices=("1", "2", "4")))
    qtbot.addWidget(editor)
    editor.set_value(2)
    assert (editor.part.currentText(), editor.value()) == ("2", 2)
    heard: list[Any] = []
    editor.edited.connect(heard.append)
    QTest.keyClick(editor.part, Qt.Key.Key_Down)
    assert heard == [4]


def test_a_folder_can_be_looked_for(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, dialog, answer in (
        ("data.images", "getExistingDirectory", "/chosen"),
        ("model.initial_weights", "getOpenFileName", ("/chosen", "")),
    ):
        editor: Any = editor_for(SPECS[path])
        qtbot.addWidget(editor)
        said: list[Any] = []
        editor.edited.connect(said.append)
        monkeypatch.setattr(QFileDialog, dialog, lambda *given, answer=answer: answer)
        editor.browse.click()
        assert said == ["/chosen"]
        assert editor.value() == "/chosen"


def test_the_wheel_changes_nothing_that_is_only_scrolled_past(qtbot: Any) -> None:
    editor = editor_for(SPECS["training.epochs"])
    qtbot.addWidget(editor)
    editor.set_value(50)
    editor.show()
    turn = QWheelEvent(
        QPointF(5, 5),
        QPointF(5, 5),
        QPoint(),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    editor.part.clearFocus()
    QApplication.sendEvent(editor.part, turn)
    assert editor.value() == 50


def test_a_message_takes_room_only_where_there_is_one_and_can_be_read_on_any_ground(qtbot: Any) -> None:
    window = QWidget()
    qtbot.addWidget(window)
    row = Row(QFormLayout(window), "&Epochs", editor_for(SPECS["training.epochs"]))
    window.show()
    assert not row.message.isVisible()
    row.message.say("0 is below the minimum 1.")
    assert row.message.isVisible()
    assert row.label.buddy() is row.editor.part
    assert row.editor.part.accessibleName() == "Epochs"
    row.message.say("")
    assert not row.message.isVisible()

    def contrast(ground: str) -> int:
        palette = QPalette()
        palette.setColor(QPalette.ColorRole.Window, QColor(ground))
        window.setPalette(palette)
        label = MessageLabel()
        label.setParent(window)
        label.say("wrong")
        label.show()
        words = label.palette().color(QPalette.ColorRole.WindowText)
        return abs(words.lightness() - QColor(ground).lightness())

    assert contrast("#ffffff") > 100
    assert contrast("#202020") > 100


def test_values_are_written_as_a_person_would() -> None:
    assert [text_of(value) for value in (None, True, 1e-5, [1, 2.5], "a")] == ["", "true", "1e-05", "1, 2.5", "a"]
