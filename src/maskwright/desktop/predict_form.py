"""PredictForm: what to predict, with what, and how; the settings come from the one schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from maskwright.config import FieldSpec, PredictionConfig, field_specs, load_section
from maskwright.desktop.fields import MessageLabel, Row, editor_for, narrowed
from maskwright.desktop.inference_thread import InferenceConfig
from maskwright.desktop.model_facts import ModelFacts
from maskwright.errors import ConfigError

__all__ = ["PredictForm"]

_MAIN = {  # setting: its label
    "probability_threshold": "Thres&hold",
    "heights_m": "Hei&ghts",
    "tta": "&Views averaged",
    "min_area_px": "S&mallest object",
    "closing_px": "C&losing",
}
_KINDS = {
    "probabilities": "Pro&babilities",
    "polygons": "Pol&ygons",
    "quicklook": "&Overlay",
    "side_by_side": "Side by side",
    "uncertainty": "&Uncertainty",
    "qgis_style": "Styles for &QGIS",
}
_RANGES = {"min_area_px": (0, 10_000), "closing_px": (0, 21)}
_LIVE = {"probabilities": True}  # without them the slider has nothing to cut
_FILES = "Photographs and rasters (*.png *.jpg *.jpeg *.bmp *.tif *.tiff *.webp *.jp2 *.vrt *.img *.asc);;All files (*)"


class PredictForm(QScrollArea):
    """The left side of the window."""

    model_changed = Signal(str)
    """Another model was chosen: its path."""
    inputs_changed = Signal()
    threshold_changed = Signal(float)
    """A threshold was written."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.rows: dict[str, Row] = {}
        self._initial: dict[str, Any] = {}
        self._unreadable: dict[str, str] = {}
        self._page = page = QWidget(self)
        self._layout = QVBoxLayout(page)
        self._layout.addWidget(self._model_box())
        self._layout.addWidget(self._input_box())
        self._layout.addWidget(self._settings_box())
        self._layout.addWidget(self._output_box())
        self._layout.addWidget(self._advanced_box())
        self._layout.addStretch(1)
        self.setWidget(page)
        self.show_model(None)

    def minimumSizeHint(self) -> QSize:
        """As wide as what it holds, whatever the letters: it scrolls up and down alone."""
        least = super().minimumSizeHint()
        edges = 2 * self.frameWidth() + self.verticalScrollBar().sizeHint().width()
        return least.expandedTo(QSize(self._page.minimumSizeHint().width() + edges, 0))

    # --- what is chosen -----------------------------------------------------------------------------------------------

    @property
    def model(self) -> Path | None:
        """The run, model folder or checkpoint; None: none is named."""
        text = self.model_line.text().strip()
        return Path(text) if text else None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files and folders."""
        return tuple(Path(self.input_list.item(place).text()) for place in range(self.input_list.count()))

    def set_model(self, path: Path | None) -> None:
        """Choose a model."""
        self.model_line.setText("" if path is None else str(path))
        self.model_changed.emit(self.model_line.text())

    def ask_for_model(self) -> None:
        """Say that one is missing."""
        self.model_message.say("Choose the folder of a run, a model folder or a checkpoint.")

    def set_inputs(self, paths: Sequence[Path]) -> None:
        """Choose what to predict, in place of what was chosen before."""
        self.input_list.clear()
        self.add_inputs(paths)

    def add_inputs(self, paths: Sequence[Path]) -> None:
        """Add files or folders; those that are there already are passed over."""
        there = {str(path) for path in self.inputs}
        self.input_list.addItems([str(path) for path in dict.fromkeys(paths) if str(path) not in there])
        self.input_message.say("")
        self.inputs_changed.emit()

    def propose_out(self, folder: Path) -> None:
        """Name a folder for the results, unless a person named one."""
        if not self.out_line.isModified():
            self.out_line.setText(str(folder))  # its end is in sight, which tells it from others

    def show_model(self, facts: ModelFacts | None, fault: str = "") -> None:
        """Say what a model does and take its settings, or say what is wrong with it."""
        self.model_about.setText("" if facts is None else facts.sentence)
        self.model_about.setVisible(facts is not None)
        self.model_message.say(fault)
        self.rows["heights_m"].set_shown(facts is not None and facts.task == "height_gaps")
        self.rows["probability_threshold"].set_shown(facts is None or facts.task not in ("height", "multiclass"))
        told = dict(_LIVE) if facts is None else {**facts.prediction, **_LIVE}
        for name, row in self.rows.items():
            value = told.get(name, row.editor.spec.default)
            row.editor.set_value(str(value) if row.editor.spec.choices and value is not None else value)
            self._initial[name] = None if name in _LIVE else row.editor.value()

    def set_threshold(self, threshold: float) -> None:
        """Write the threshold of the slider into the form, for the next prediction."""
        self.rows["probability_threshold"].editor.set_value(round(threshold, 2))

    def config(self) -> InferenceConfig | None:
        """What to do; None if something is missing or wrong, which is then said beside it."""
        if self.model is None:
            self.ask_for_model()
        if not self.inputs:
            self.input_message.say("Add files or a folder, or drop them here.")
        out = self.out_line.text().strip()
        self.out_message.say("" if out else "Name a folder for the results.")
        if not self._check() or self.model is None or not self.inputs or not out:
            return None
        values = {name: row.editor.value() for name, row in self.rows.items()}
        heights = values.pop("heights_m") or ()
        changed = {name: value for name, value in values.items() if value != self._initial[name]}
        return InferenceConfig(
            model=self.model,
            inputs=self.inputs,
            out=Path(out),
            settings=changed,
            heights_m=tuple(heights) if heights != self._initial["heights_m"] else (),
            recursive=self.recursive.isChecked(),
            overwrite=self.overwrite.isChecked(),
        )

    # --- what it is made of -------------------------------------------------------------------------------------------

    def _model_box(self) -> QGroupBox:
        box = QGroupBox("Model", self)
        layout = QVBoxLayout(box)
        self.model_line = QLineEdit(box)
        self.model_line.setPlaceholderText("run, model folder or checkpoint")
        self.model_line.setAccessibleName("Model")
        self.model_line.editingFinished.connect(lambda: self.model_changed.emit(self.model_line.text()))
        folder, file = _button("&Run...", box), _button("Chec&kpoint...", box)
        folder.clicked.connect(self._browse_run)
        file.clicked.connect(self._browse_checkpoint)
        self.model_about = QLabel(box)
        self.model_about.setWordWrap(True)
        self.model_message = MessageLabel()
        layout.addWidget(self.model_line)
        layout.addLayout(_in_row(folder, file))
        layout.addWidget(self.model_about)
        layout.addWidget(self.model_message)
        return box

    def _input_box(self) -> QGroupBox:
        box = QGroupBox("Photographs or rasters", self)
        layout = QVBoxLayout(box)
        self.input_list = QListWidget(box)
        self.input_list.setAccessibleName("Inputs")
        self.input_list.setMinimumHeight(3 * self.fontMetrics().height())
        self.input_list.setMaximumHeight(4 * self.fontMetrics().height())
        self.input_list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        files, folder, clear = _button("Fil&es...", box), _button("Fol&der...", box), _button("&Clear", box)
        files.clicked.connect(self._browse_files)
        folder.clicked.connect(self._browse_folder)
        clear.clicked.connect(lambda: self.set_inputs(()))
        self.recursive = QCheckBox("Folders &inside folders too", box)
        self.input_message = MessageLabel()
        layout.addWidget(self.input_list)
        layout.addLayout(_in_row(files, folder, clear))
        layout.addWidget(self.recursive)
        layout.addWidget(self.input_message)
        return box

    def _settings_box(self) -> QGroupBox:
        box = QGroupBox("How", self)
        self._fill(QFormLayout(box), _MAIN)
        threshold = self.rows["probability_threshold"].editor
        for editor in (threshold, self.rows["heights_m"].editor):
            line: Any = editor.focusProxy()
            line.setPlaceholderText("the model's own")
        threshold.edited.connect(self._tell_threshold)
        return box

    def _output_box(self) -> QGroupBox:
        box = QGroupBox("What is written beside the masks", self)
        form = QFormLayout(box)
        self._fill(form, _KINDS)
        self.out_line = QLineEdit(box)
        self.out_line.setAccessibleName("Folder of the results")
        browse = _button("Bro&wse...", box)
        browse.clicked.connect(self._browse_out)
        self.overwrite = QCheckBox("Replace files of an earlier prediction", box)
        self.out_message = MessageLabel()
        into = QLabel("I&nto", box)
        into.setBuddy(self.out_line)
        form.addRow(into)
        form.addRow(_in_row(self.out_line, browse))  # below and not beside its name: paths are long
        form.addRow(self.overwrite)
        form.addRow(self.out_message)
        return box

    def _advanced_box(self) -> QGroupBox:
        self.advanced = box = QGroupBox("&Advanced", self)
        box.setCheckable(True)
        box.setChecked(False)
        inner = QWidget(box)
        inner.setVisible(False)
        box.toggled.connect(inner.setVisible)
        rest = [spec.name for spec in field_specs(PredictionConfig) if spec.name not in {**_MAIN, **_KINDS}]
        self._fill(QFormLayout(inner), {name: name.replace("_", " ").capitalize() for name in rest})
        QVBoxLayout(box).addWidget(inner)
        return box

    def _fill(self, form: QFormLayout, names: dict[str, str]) -> None:
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        specs = {spec.name: spec for spec in field_specs(PredictionConfig)}
        for name, label in names.items():
            row = self.rows[name] = Row(form, label, editor_for(_offered(specs[name])))
            row.editor.unreadable.connect(lambda text, name=name: self._mark(name, text))
            row.editor.edited.connect(lambda _value, name=name: self._mark(name, ""))

    def _mark(self, name: str, fault: str) -> None:
        self._unreadable[name] = fault
        self._check()

    def _check(self) -> bool:
        """Say beside each setting what is wrong with it; whether nothing is."""
        readable = {name: row for name, row in self.rows.items() if not self._unreadable.get(name)}
        faults = _faults({name: row.editor.value() for name, row in readable.items()})
        for name, row in self.rows.items():
            row.message.say(self._unreadable.get(name) or faults.get(name, ""))
        return len(readable) == len(self.rows) and not faults

    def _tell_threshold(self, value: object) -> None:
        if isinstance(value, float) and 0 < value < 1:
            self.threshold_changed.emit(value)

    # --- looking for files --------------------------------------------------------------------------------------------

    def _browse_run(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of a run, or of a model", self.model_line.text())
        if chosen:
            self.set_model(Path(chosen))

    def _browse_checkpoint(self) -> None:
        kinds = "Checkpoints (*.pt *.pth *.ckpt);;All files (*)"
        chosen, _ = QFileDialog.getOpenFileName(self, "Checkpoint of a run", self.model_line.text(), kinds)
        if chosen:
            self.set_model(Path(chosen))

    def _browse_files(self) -> None:
        chosen, _ = QFileDialog.getOpenFileNames(self, "Photographs or rasters", "", _FILES)
        self.add_inputs([Path(name) for name in chosen])

    def _browse_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of photographs or rasters")
        self.add_inputs([Path(chosen)] if chosen else [])

    def _browse_out(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of the results", self.out_line.text())
        if chosen:
            self.out_line.setText(chosen)
            self.out_line.setModified(True)


def _faults(values: dict[str, Any]) -> dict[str, str]:
    """What the schema says against settings, by setting."""
    try:
        load_section(PredictionConfig, (), values)
    except ConfigError as error:
        lines = [line.replace(" (overrides)", "").partition(": ") for line in str(error).splitlines()]
        return {name.split("[")[0]: fault for name, _, fault in lines}
    return {}


def _offered(spec: FieldSpec) -> FieldSpec:
    """The setting with the range of this window."""
    if spec.name == "tta":
        return replace(spec, type="choice", choices=("1", "2", "4", "8"))
    return narrowed(spec, *_RANGES[spec.name]) if spec.name in _RANGES else spec


def _button(text: str, parent: QWidget) -> QPushButton:
    button = QPushButton(text, parent)
    button.setAutoDefault(False)
    return button


def _in_row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
