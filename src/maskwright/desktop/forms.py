"""SettingsTab: the fields of a tab, and below them, folded away, the rest of the schema by section."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QFormLayout, QFrame, QScrollArea, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from maskwright.config import FieldSpec
from maskwright.config.drafts import all_settings
from maskwright.desktop.document_fields import Entry
from maskwright.desktop.draft import DraftModel
from maskwright.desktop.examine import Verdict
from maskwright.desktop.fields import Editor, MessageLabel, Row, editor_for

__all__ = ["SettingsTab"]

_ROWS_AT_ONCE = 6  # made before the window is drawn again, so that it never stands still


class SettingsTab(QScrollArea):
    """A tab of a settings dialog.

    Args:
        model: What it shows and changes.
        entries: Its own fields.
        sections: First words of the settings that stand under Advanced: ``("data", "pseudo_labels")``.

    Signals:
        faults_changed: Number of faults in its settings.
    """

    faults_changed = Signal(int)

    def __init__(self, model: DraftModel, entries: Iterable[Entry], sections: Iterable[str]) -> None:
        super().__init__()
        self.model = model
        self.sections = tuple(sections)
        self.fields = _Fields(model, tuple(entries))
        self.others = MessageLabel()
        self.advanced = _Fold("Advanced settings", self._open_advanced)
        self.boxes: dict[str, _Box] = {}
        body = QWidget()
        self._column = QVBoxLayout(body)
        for part in (self.fields, self.others, self.advanced):
            self._column.addWidget(part)
        self._column.addStretch(1)
        self.setWidget(body)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        body.setAutoFillBackground(False)  # as the other tabs, whatever the style paints behind them
        self.viewport().setAutoFillBackground(False)
        model.changed.connect(self._refresh)
        model.checked.connect(self.show_faults)
        self._refresh()

    def row(self, path: str) -> Row | None:
        """The line of a setting, if it is on show."""
        rows = [rows[path] for rows in self._rows() if path in rows]
        return rows[0] if rows else None

    def go_to(self, path: str) -> bool:
        """Put the cursor into a setting, opening what it is folded into; False if it is not of this tab."""
        row = self.row(path)
        if row is None and path.partition(".")[0] in self.sections and path in self.model.shown:
            self.advanced.open()
            self.boxes[_section_of(path)].open(at_once=True)
            row = self.row(path)
        if row is None:
            return False
        row.editor.setFocus(Qt.FocusReason.OtherFocusReason)
        self.ensureWidgetVisible(row.editor)
        return True

    def _rows(self) -> list[dict[str, Row]]:
        return [self.fields.rows, *(box.rows for box in self.boxes.values())]

    def _refresh(self) -> None:
        self.fields.refresh()
        if self.boxes:
            self._fill_advanced()

    def show_faults(self, verdict: Verdict) -> None:
        """Show what is wrong at the settings themselves; those folded away are named above."""
        said: dict[str, str] = {path: "\n".join(faults) for path, faults in verdict.faults.items()}
        texts = dict(verdict.advice) | said
        on_show: set[str] = set()
        for rows in self._rows():
            for path, row in rows.items():
                row.message.say(texts.get(path, ""))
                on_show.add(path)
        own = [path for path in said if path.partition(".")[0] in self.sections]
        self.others.say("\n".join(f"{path}: {texts[path]}" for path in own if path not in on_show))
        self.faults_changed.emit(sum(len(verdict.faults[path]) for path in own))

    def _open_advanced(self) -> None:
        if not self.boxes:
            self._fill_advanced()

    def _fill_advanced(self) -> None:
        """A box for each section with settings now; those of settings that are gone stay, empty and hidden."""
        alone = {entry.path for entry in self.fields.entries if entry.stands_alone and entry.applies(self.model.values)}
        specs: dict[str, list[FieldSpec]] = {}
        for path, spec in self.model.shown.items():
            if path.partition(".")[0] in self.sections and path not in alone:
                specs.setdefault(_section_of(path), []).append(spec)
        new = [title for title in specs if title not in self.boxes]
        for title in new:
            self.boxes[title] = _Box(self.model, title)
            self.advanced.inside.addWidget(self.boxes[title])
        if new:
            _put_in_tab_order(self.advanced)
        for title, box in self.boxes.items():
            box.refresh(specs.get(title, []))


class _Fields(QWidget):
    """The fields of the document."""

    def __init__(self, model: DraftModel, entries: tuple[Entry, ...]) -> None:
        super().__init__()
        self.model, self.entries = model, entries
        self.lines: dict[str, tuple[Entry, Row]] = {}
        self.rows: dict[str, Row] = {}
        self._form = _form(self)
        schema = all_settings()
        for entry in entries:
            spec = entry.spec(schema[entry.path])
            row = Row(self._form, entry.label, editor_for(spec, step=entry.step, decimals=entry.decimals))
            _connect(row, partial(self._write, entry))
            self.lines[entry.label] = entry, row
            self.rows.setdefault(entry.path, row)

    def refresh(self) -> None:
        """Show the settings as they are."""
        values = self.model.values
        for entry, row in self.lines.values():
            value = entry.shows(values) if entry.applies(values) else None
            applies = entry.applies(values) and (value is not None or _takes_nothing(row.editor))
            row.set_shown(applies)
            if applies:
                row.editor.set_value(value)

    def _write(self, entry: Entry, shown: Any) -> None:
        self.model.change(entry.settings(shown, self.model.values))


class _Box(QWidget):
    """The settings of a section, made when it is opened for the first time."""

    def __init__(self, model: DraftModel, title: str) -> None:
        super().__init__()
        self.model = model
        self.rows: dict[str, Row] = {}
        self.fold = _Fold(" / ".join(title.replace("_", " ").split(".")).capitalize(), self._make)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.fold)
        self._specs: list[FieldSpec] = []
        self._waiting: list[FieldSpec] = []
        self._body: QWidget | None = None

    def open(self, *, at_once: bool = False) -> None:
        """Unfold; ``at_once``: with all settings before this returns."""
        self.fold.open()
        while at_once and self._waiting:
            self._make_some()

    def refresh(self, specs: list[FieldSpec]) -> None:
        """Show these settings as they are."""
        self.setVisible(bool(specs))
        if [(spec.path, spec.when) for spec in specs] != [(spec.path, spec.when) for spec in self._specs]:
            self._specs = specs
            if self._body is not None:
                self._make()
            return
        for path, row in self.rows.items():
            _show(row.editor, self.model.values.get(path))

    def _make(self) -> None:
        if self._body is not None:
            self._body.hide()
            self._body.deleteLater()
        self._body = QWidget()
        self.fold.inside.addWidget(self._body)
        self._form = _form(self._body)
        self.rows, self._waiting = {}, list(self._specs)
        self._make_some()

    def _make_some(self) -> None:
        some, self._waiting = self._waiting[:_ROWS_AT_ONCE], self._waiting[_ROWS_AT_ONCE:]
        for spec in some:
            row = Row(self._form, spec.name.replace("_", " ").capitalize(), editor_for(spec))
            _show(row.editor, self.model.values.get(spec.path))
            _connect(row, partial(self._write, spec.path))
            self.rows[spec.path] = row
        _put_in_tab_order(self.fold)
        if self._waiting:
            QTimer.singleShot(0, self, self._make_some)

    def _write(self, path: str, value: Any) -> None:
        self.model.change({path: value})


class _Fold(QWidget):
    """A heading that unfolds what stands below it."""

    def __init__(self, title: str, when_first_opened: Callable[[], None]) -> None:
        super().__init__()
        self._when_first_opened: Callable[[], None] | None = when_first_opened
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.button.toggled.connect(self._toggled)
        self._body = QWidget()
        self._body.hide()
        self.inside = QVBoxLayout(self._body)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.button)
        column.addWidget(self._body)
        self._toggled(False)

    def open(self) -> None:
        """Unfold."""
        self.button.setChecked(True)

    def _toggled(self, is_open: bool) -> None:
        self.button.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        if is_open and self._when_first_opened is not None:
            make, self._when_first_opened = self._when_first_opened, None
            make()
        self._body.setVisible(is_open)


def _put_in_tab_order(fold: _Fold) -> None:
    """Lead from a heading into what it holds: what is made late stands behind all else in the window by itself."""
    before: QWidget = fold.button
    parts = [part for part in fold.findChildren(QWidget) if part.window() is fold.window()]  # no lists that pop up
    for part in parts:
        if part.focusPolicy() & Qt.FocusPolicy.TabFocus and part.focusProxy() is None and part is not before:
            QWidget.setTabOrder(before, part)
            before = part


def _section_of(path: str) -> str:
    """``data.augment`` for ``data.augment.flip_p``; ``training`` for ``training.epochs``."""
    return path.rpartition(".")[0] or path


def _form(parent: QWidget) -> QFormLayout:
    form = QFormLayout(parent)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
    return form


def _connect(row: Row, write: Callable[[Any], None]) -> None:
    row.editor.edited.connect(write)
    row.editor.unreadable.connect(row.message.say)


def _show(editor: Editor, value: Any) -> None:
    """A value of a file may be missing where the setting must still be given."""
    if value is not None or _takes_nothing(editor):
        editor.set_value(value)


def _takes_nothing(editor: Editor) -> bool:
    return editor.spec.optional or editor.spec.type in ("path", "str", "choice")
