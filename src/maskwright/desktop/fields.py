"""Editors: a widget for any setting, made from what the schema says of it: range, step, default, unit, help."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import Any

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QColor, QPalette, QShowEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from maskwright.config import FieldSpec
from maskwright.config.drafts import value_from_text
from maskwright.errors import ConfigError

__all__ = ["Editor", "MessageLabel", "Row", "editor_for", "narrowed", "text_of", "tip_of"]

_LARGEST = 2**31 - 1  # of a spin box
_UNSET = "unset"
_FOLDER_WORDS = ("folder", "dir", "images", "files")
_DARK_FAULT, _LIGHT_FAULT = QColor("#b3261e"), QColor("#ffb4ab")  # both read well on their ground


class Editor(QWidget):
    """Shows a setting and lets it be changed.

    Args:
        spec: The setting.
        parts: Widgets side by side; the first has the cursor, and is kept as ``part``.

    Signals:
        edited: The new plain value, when a person changed it.
        unreadable: A sentence, when what a person wrote cannot be a value; empty once it can again.
    """

    edited = Signal(object)
    unreadable = Signal(str)

    def __init__(self, spec: FieldSpec, *parts: QWidget) -> None:
        super().__init__()
        self.spec, self.part = spec, parts[0]
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        for place, part in enumerate(parts):
            line.addWidget(part, 0 if place else 1)
            part.setToolTip(tip_of(spec))
            part.setWhatsThis(tip_of(spec))
            part.setAccessibleDescription(spec.help)
        self.setFocusProxy(parts[0])

    def set_value(self, value: Any) -> None:
        """Show a value without telling anybody."""
        raise NotImplementedError

    def value(self) -> Any:
        """What it shows, as a plain value."""
        raise NotImplementedError


class _Check(Editor):
    def __init__(self, spec: FieldSpec) -> None:
        self.box = QCheckBox()
        super().__init__(spec, self.box)
        self.box.clicked.connect(lambda ticked: self.edited.emit(ticked))

    def set_value(self, value: Any) -> None:
        self.box.setChecked(bool(value))

    def value(self) -> bool:
        return self.box.isChecked()


class _Choice(Editor):
    """Words to choose from; editable where other values may stand beside them."""

    def __init__(self, spec: FieldSpec) -> None:
        self.box = _quiet(QComboBox())
        super().__init__(spec, self.box)
        self._words: list[str | None] = [*([None] if spec.optional else []), *spec.choices]
        self.box.addItems([_UNSET if word is None else word for word in self._words])
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.box.setMinimumContentsLength(12)
        if spec.type != "choice":
            self.box.setEditable(True)
            self.box.lineEdit().editingFinished.connect(self._typed)
        self.box.activated.connect(lambda place: self.edited.emit(self.value()))

    def set_value(self, value: Any) -> None:
        text = _UNSET if value is None else str(value)
        while self.box.count() > len(self._words) and self.box.itemText(self.box.count() - 1) != text:
            self.box.removeItem(self.box.count() - 1)
        place = self.box.findText(text)
        if place >= 0:
            self.box.setCurrentIndex(place)
        elif self.box.isEditable():
            self.box.setEditText(text)
        else:  # of a file: none of the words offered
            self.box.addItem(text)
            self.box.setCurrentIndex(self.box.count() - 1)

    def value(self) -> Any:
        text = self.box.currentText()
        if text == _UNSET and self.spec.optional:
            return None
        if self.box.isEditable() and text not in self.spec.choices:
            return value_from_text(self.spec, text)
        return int(text) if text.isdecimal() else text  # of 1, 2 and 4, say

    def _typed(self) -> None:
        _tell(self)


class _Whole(Editor):
    def __init__(self, spec: FieldSpec, step: int) -> None:
        self.box: QSpinBox = _quiet(QSpinBox())
        super().__init__(spec, self.box)
        low, high = _bounds(spec)
        self.box.setRange(int(low), int(high))
        self.box.setSingleStep(step)
        self.box.setSuffix(f" {spec.unit}" if spec.unit else "")
        self.box.setKeyboardTracking(False)
        self.box.valueChanged.connect(self.edited.emit)

    def set_value(self, value: Any) -> None:
        _widen(self.box, int(value))
        _silently(self.box, lambda: self.box.setValue(int(value)))

    def value(self) -> int:
        return self.box.value()


class _Decimal(Editor):
    def __init__(self, spec: FieldSpec, step: float, decimals: int) -> None:
        self.box: QDoubleSpinBox = _quiet(QDoubleSpinBox())
        super().__init__(spec, self.box)
        self.box.setDecimals(decimals)
        low, high = _bounds(spec)
        self.box.setRange(low, high)
        self.box.setSingleStep(step)
        self.box.setSuffix(f" {spec.unit}" if spec.unit else "")
        self.box.setKeyboardTracking(False)
        if decimals > 3:  # over many orders of magnitude
            self.box.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        self.box.valueChanged.connect(self.edited.emit)

    def set_value(self, value: Any) -> None:
        number = float(value)
        while round(number, self.box.decimals()) != number and self.box.decimals() < 12:
            self.box.setDecimals(self.box.decimals() + 1)  # what is shown is what is trained with
        _widen(self.box, number)
        _silently(self.box, lambda: self.box.setValue(number))

    def value(self) -> float:
        return self.box.value()


class _Text(Editor):
    """Numbers without bounds, lists, texts, and whatever may be left empty."""

    def __init__(self, spec: FieldSpec, *more: QWidget) -> None:
        self.line = QLineEdit()
        super().__init__(spec, self.line, *more)
        self.line.setPlaceholderText(_UNSET if spec.optional else spec.what)
        self._is_typed = False
        self.line.textEdited.connect(self._on_typed)
        self.line.editingFinished.connect(self._on_finished)

    def set_value(self, value: Any) -> None:
        if not self._is_typed:  # 1e-4 is not rewritten as 0.0001 while it is typed
            self.line.setText(text_of(value))

    def value(self) -> Any:
        return value_from_text(self.spec, self.line.text())

    def _on_typed(self) -> None:
        self._is_typed = True
        _tell(self)

    def _on_finished(self) -> None:
        self._is_typed = False


class _Place(_Text):
    """A path, with a button to look for it."""

    def __init__(self, spec: FieldSpec) -> None:
        self.browse = QPushButton("Browse...")
        self.browse.setAutoDefault(False)
        super().__init__(spec, self.browse)
        self.browse.setAccessibleName(f"Browse for {spec.name}")
        self.browse.clicked.connect(self._look)

    def _look(self) -> None:
        window, begin = self.window(), self.line.text()
        if any(word in self.spec.name for word in _FOLDER_WORDS):
            chosen = QFileDialog.getExistingDirectory(window, self.spec.help, begin)
        else:
            chosen = QFileDialog.getOpenFileName(window, self.spec.help, begin)[0]
        if chosen:
            self.line.setText(chosen)
            _tell(self)


def editor_for(spec: FieldSpec, *, step: float | None = None, decimals: int | None = None) -> Editor:
    """The widget that suits a setting.

    Args:
        spec: The setting, :func:`narrowed` where a form offers less than the schema allows.
        step: Of the arrows; unset: 1 for whole numbers, else a twentieth of the range.
        decimals: Behind the point; unset: 2, more where a value needs them.
    """
    if spec.type == "bool":
        return _Check(spec)
    if spec.choices and not spec.type.startswith("list["):
        return _Choice(spec)
    if spec.type == "path":
        return _Place(spec)
    if spec.type == "int" and not spec.optional:
        return _Whole(spec, int(step or 1))
    if spec.type == "float" and not spec.optional and spec.minimum is not None and spec.maximum is not None:
        span = spec.maximum - spec.minimum
        return _Decimal(spec, step or max(span / 20, 0.01), 2 if decimals is None else decimals)
    return _Text(spec)


def narrowed(spec: FieldSpec, minimum: float | None = None, maximum: float | None = None) -> FieldSpec:
    """The same setting with the range that a form offers; a value of a file may still lie beyond it."""
    return replace(
        spec,
        minimum=spec.minimum if minimum is None else minimum,
        maximum=spec.maximum if maximum is None else maximum,
        above_minimum=spec.above_minimum and minimum is None,
        below_maximum=spec.below_maximum and maximum is None,
    )


def tip_of(spec: FieldSpec) -> str:
    """Help, what may be written, the default and the path, as a tip that wraps."""
    facts = [spec.help, f"Takes {spec.values}." if spec.values and not spec.choices else ""]
    if spec.default is not None and spec.type != "section":
        facts.append(f"Default: {text_of(spec.default)}{f' {spec.unit}' if spec.unit else ''}.")
    words = "<br>".join(escape(fact) for fact in facts if fact)
    return f"<p>{words}<br><i>{escape(spec.path)}</i></p>"


def text_of(value: Any) -> str:
    """A plain value as it is written in a form."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(text_of(entry) for entry in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


class MessageLabel(QLabel):
    """A sentence that stands out where something is wrong; takes no room where nothing is."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.hide()

    def say(self, text: str) -> None:
        """Show a sentence; nothing: hide."""
        if text != self.text():
            self.setText(text)
        self.setVisible(bool(text))

    def showEvent(self, event: QShowEvent) -> None:
        self._colour()
        super().showEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.ApplicationPaletteChange:
            self._colour()
        super().changeEvent(event)

    def _colour(self) -> None:
        palette = QPalette((self.parentWidget() or self).palette())
        is_dark = palette.color(QPalette.ColorRole.Window).lightness() < 128
        palette.setColor(QPalette.ColorRole.WindowText, _LIGHT_FAULT if is_dark else _DARK_FAULT)
        self.setPalette(palette)


class Row:
    """A line of a form: label, editor, and what is wrong below it.

    Args:
        form: Where it is put.
        label: With ``&`` before the letter that leads to it.
        editor: The widget.
    """

    def __init__(self, form: QFormLayout, label: str, editor: Editor) -> None:
        self.form, self.editor = form, editor
        self.message = MessageLabel()
        self.label = QLabel(label)
        self.label.setBuddy(editor.part)
        self.label.setToolTip(tip_of(editor.spec))
        editor.part.setAccessibleName(label.replace("&", ""))
        self._box = QWidget()
        column = QVBoxLayout(self._box)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(editor)
        column.addWidget(self.message)
        form.addRow(self.label, self._box)

    def set_shown(self, shown: bool) -> None:
        """Hide the whole line, or show it."""
        self.form.setRowVisible(self._box, shown)


class _NoWheel(QObject):
    """Turning the wheel over a form scrolls it; it changes a number only where the cursor stands in it."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return False


def _quiet(box: Any) -> Any:
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    box.installEventFilter(_NoWheel(box))
    return box


def _bounds(spec: FieldSpec) -> tuple[float, float]:
    low = -_LARGEST if spec.minimum is None else spec.minimum
    return low, _LARGEST if spec.maximum is None else spec.maximum


def _widen(box: Any, value: float) -> None:
    if not box.minimum() <= value <= box.maximum():
        _silently(box, lambda: box.setRange(min(box.minimum(), value), max(box.maximum(), value)))


def _silently(box: QWidget, act: Any) -> None:
    before = box.blockSignals(True)
    act()
    box.blockSignals(before)


def _tell(editor: Editor) -> None:
    """Emit what was typed, or why it cannot be read."""
    try:
        value = editor.value()
    except ConfigError as error:
        editor.unreadable.emit(str(error).partition(": ")[2])
        return
    editor.unreadable.emit("")
    editor.edited.emit(value)
