"""PredictDialog: apply a trained model to photographs and rasters, and look at what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QUrl, Signal, Slot
from PySide6.QtGui import QCloseEvent, QDesktopServices, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from maskwright.desktop.inference_thread import InferenceThread
from maskwright.desktop.jobs import run_job
from maskwright.desktop.model_facts import ModelFacts, model_facts
from maskwright.desktop.pictures_view import ICON_PX, OverlayView, Preview, Thumbnails
from maskwright.desktop.predict_form import PredictForm
from maskwright.desktop.sizes import open_at

__all__ = ["PredictDialog", "free_folder"]

_HINT = "Drop photographs, rasters or a folder here."
_STOPPED_EARLY = (
    "Stopped before the first one was complete. The finished part of a large raster is kept: Predict goes on with it."
)
_WORDS = {  # of the command line: what there is in the window instead
    "Choose another --out, or add --overwrite (in Python overwrite=True).": "Name another folder, or tick "
    "Replace files of an earlier prediction.",
    "Choose another --out.": "Name another folder for the results.",
    "add --recursive (in Python recursive=True).": "tick Folders inside folders too.",
}
_FORM_LETTERS, _FORM_SHARE = 60, 0.4  # width of the form, and the most of the window it takes
_MOST_SHOWN = 2000  # thumbnails; the files of all are written


class PredictDialog(QDialog):
    """Chooses a model and inputs, predicts in a process of its own, and shows each result as it comes.

    With a model and inputs it begins at once, as when a file is dropped on the main window.

    Args:
        model: Run folder, model folder or checkpoint.
        inputs: Files and folders.
        parent: Owner.
    """

    stays_open = Signal()
    """It was asked to close while it predicts, and a person decided that it should not."""

    def __init__(
        self, model: Path | str | None = None, inputs: Sequence[Path | str] = (), parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Predict")
        self.setAcceptDrops(True)
        self.setSizeGripEnabled(True)
        self.thread_at_work: InferenceThread | None = None
        self._facts: ModelFacts | None = None
        self._results: Sequence[Mapping[str, Any]] = ()
        self._out: Path | None = None
        self._is_closing = False
        self._begin_when_ready = False
        self._build()
        self.form.model_changed.connect(self._read_model)
        self.form.inputs_changed.connect(self._propose_out)
        self.form.threshold_changed.connect(self.picture.set_threshold)
        self.picture.threshold_changed.connect(self.form.set_threshold)
        if model is not None:
            self.form.set_model(Path(model))
        if inputs:
            self.take([Path(path) for path in inputs])

    @property
    def is_busy(self) -> bool:
        """Whether a prediction is under way."""
        return self.thread_at_work is not None

    def take(self, paths: Sequence[Path]) -> None:
        """Predict what was dropped, with the model that is chosen; without one, ask for it."""
        self._begin_when_ready = self.form.model is not None and not self.is_busy
        self.form.set_inputs(paths)
        if self.form.model is None:
            self.form.ask_for_model()

    # --- what it is made of -------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.form = PredictForm(self)
        self.picture = OverlayView(self)
        self.fault = QLabel(self)
        self.fault.setWordWrap(True)
        self.fault.setVisible(False)
        self.fault.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.thumbnails = Thumbnails(self)
        self.thumbnails.setAccessibleName("Results")
        self.thumbnails.setMinimumHeight(ICON_PX + 3 * self.fontMetrics().height())
        self.thumbnails.currentRowChanged.connect(self._show_result)
        shown = QWidget(self)
        column = QVBoxLayout(shown)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.fault)
        column.addWidget(self.picture, 1)
        right = QSplitter(Qt.Orientation.Vertical, self)
        right.addWidget(shown)
        right.addWidget(self.thumbnails)
        right.setStretchFactor(0, 1)
        split = QSplitter(Qt.Orientation.Horizontal, self)
        split.addWidget(self.form)
        split.addWidget(right)
        split.setStretchFactor(1, 1)
        layout = QVBoxLayout(self)
        layout.addWidget(split, 1)
        layout.addLayout(self._foot())
        open_at(self, 1080, 800)
        form_px = min(_FORM_LETTERS * self.fontMetrics().averageCharWidth(), round(_FORM_SHARE * self.width()))
        split.setSizes([form_px, self.width() - form_px])

    def _foot(self) -> QVBoxLayout:
        self.status = QLabel(_HINT, self)
        self.status.setWordWrap(True)
        self.bar = QProgressBar(self)
        self.bar.setAccessibleName("Progress")
        policy = self.bar.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.bar.setSizePolicy(policy)
        self.bar.hide()  # there while something is under way
        self.start_button = QPushButton("&Predict", self)
        self.start_button.setDefault(True)
        self.start_button.clicked.connect(self.start)
        self.stop_button = QPushButton("S&top", self)
        self.stop_button.clicked.connect(self.stop)
        self.open_button = QPushButton("&Show results", self)
        self.open_button.clicked.connect(self._open_results)
        close = QPushButton("Close", self)
        close.clicked.connect(self.close)
        buttons = QHBoxLayout()
        buttons.addWidget(self.bar, 1)
        for button in (self.start_button, self.stop_button, self.open_button, close):
            button.setAutoDefault(False)
            buttons.addWidget(button)
        self.stop_button.setEnabled(False)
        self.open_button.setEnabled(False)
        foot = QVBoxLayout()
        foot.addWidget(self.status)
        foot.addLayout(buttons)
        return foot

    # --- choosing -----------------------------------------------------------------------------------------------------

    def _read_model(self, text: str) -> None:
        self._facts = None
        path = self.form.model
        if path is None:
            self.form.show_model(None)
            return
        run_job(partial(model_facts, path), partial(self._show_model, path), partial(self._refuse_model, path), self)

    def _show_model(self, path: Path, facts: ModelFacts) -> None:
        if path != self.form.model:
            return
        self._facts = facts
        self.form.show_model(facts)
        self._begin_if_ready()

    def _refuse_model(self, path: Path, reason: str) -> None:
        if path == self.form.model:
            self._begin_when_ready = False
            self.form.show_model(None, reason)

    def _propose_out(self) -> None:
        inputs = self.form.inputs
        if inputs:
            run_job(partial(free_folder, inputs[0]), self._put_out, self._say, self)

    def _put_out(self, folder: Path) -> None:
        self.form.propose_out(folder)
        self._begin_if_ready()

    def _begin_if_ready(self) -> None:
        if self._begin_when_ready and self._facts is not None and self.form.out_line.text():
            self._begin_when_ready = False
            self.start()

    # --- predicting ---------------------------------------------------------------------------------------------------

    @Slot()
    def start(self) -> None:
        """Predict what is chosen; what is missing is said beside it."""
        config = None if self.is_busy else self.form.config()
        if config is None:
            return
        self.thumbnails.clear()
        self._show_nothing()
        thread = InferenceThread(config)
        thread.progress_updated.connect(self._progress)
        thread.image_completed.connect(self._completed)
        thread.inference_completed.connect(self._finished)
        thread.inference_failed.connect(self._failed)
        thread.finished.connect(self._ended)
        self.thread_at_work = thread
        self._allow(busy=True)
        self._say("Loading the model ...")
        self.bar.setRange(0, 0)
        thread.start()

    @Slot()
    def stop(self) -> None:
        """End the prediction under way; what is finished stays."""
        if self.thread_at_work is not None:
            self._say("Stopping ...")
            self.stop_button.setEnabled(False)
            self.thread_at_work.stop()

    def _progress(self, done: int, total: int, what: str) -> None:
        self.bar.setRange(0, max(total, 1))
        self.bar.setValue(done)
        finished = len(self.thread_at_work.results) if self.thread_at_work is not None else 0
        self._say(f"{what}: {done} of {total}" + (f"; {finished} finished" if finished else ""))

    def _completed(self, number: int, path: str, went_well: bool) -> None:
        thread = self.thread_at_work
        if thread is None or number >= _MOST_SHOWN:
            return
        row = thread.results[number]
        place = self.thumbnails.add(Path(path).name, path)
        if not went_well:
            self.thumbnails.set_fault(place, str(row["error"]))
        else:
            run_job(partial(_icon, row), partial(self.thumbnails.set_icon, place), _ignore, self)
        if place == 0:
            self.thumbnails.setCurrentRow(0)

    def _finished(self, outcome: Mapping[str, Any]) -> None:
        done = len(outcome["results"]) - outcome["failed"]
        words = f"{done} predicted into {outcome['out']}."
        if outcome["stopped"]:
            words = f"Stopped: {words}" if outcome["results"] else _STOPPED_EARLY
        if outcome["failed"]:
            words += f" {outcome['failed']} failed: choose one to read why."
        self._say(words)
        self.open_button.setEnabled(done > 0)

    def _failed(self, reason: str) -> None:
        self._say("Nothing was predicted.")
        for words, own in _WORDS.items():
            reason = reason.replace(words, own)
        self._show_fault(reason)

    def _ended(self) -> None:
        self._results = [] if self.thread_at_work is None else self.thread_at_work.results
        self._out = None if self.thread_at_work is None else self.thread_at_work.config.out
        self.thread_at_work = None
        self._allow(busy=False)
        if self._is_closing:
            self.close()

    def _allow(self, *, busy: bool) -> None:
        self.bar.setVisible(busy)
        self.start_button.setEnabled(not busy)
        self.stop_button.setEnabled(busy)
        self.form.setEnabled(not busy)

    # --- looking ------------------------------------------------------------------------------------------------------

    def _show_result(self, place: int) -> None:
        results = self._results if self.thread_at_work is None else self.thread_at_work.results
        if not 0 <= place < len(results):
            return
        row = results[place]
        if row["error"]:
            self._show_fault(str(row["error"]))
            return
        work = partial(_preview, row, self._facts, self.form.model)
        run_job(work, partial(self._show_preview, place), self._show_fault, self)

    def _show_preview(self, place: int, preview: Preview) -> None:
        if place != self.thumbnails.currentRow():
            return
        self.fault.setVisible(False)
        wanted = self.form.rows["probability_threshold"].editor.value()
        self.picture.blockSignals(True)  # the model's own threshold is not one that a person wrote
        self.picture.set_threshold(wanted or preview.threshold)
        self.picture.blockSignals(False)
        self.picture.show_preview(preview)

    def _show_fault(self, reason: str) -> None:
        self._show_nothing()
        self.fault.setText(reason)
        self.fault.setVisible(True)

    def _show_nothing(self) -> None:
        self.fault.setVisible(False)
        self.picture.show_preview(None)

    def _say(self, sentence: str) -> None:
        self.status.setText(sentence)

    def _open_results(self) -> None:
        if self._out is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._out)))

    # --- coming and going ---------------------------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasUrls() and not self.is_busy:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.take(paths)

    def reject(self) -> None:
        """Escape: as closing the window."""
        self.close()

    def closeEvent(self, event: QCloseEvent) -> None:
        if not self.is_busy:
            event.accept()  # that of QDialog would ask reject() again
            return
        event.ignore()
        if self._is_closing:
            return
        if self._may_stop():
            self._is_closing = True
            self.stop()
        else:
            self.stays_open.emit()

    def _may_stop(self) -> bool:
        question = "A prediction is under way. Stop it and close? What is finished stays."
        answer = QMessageBox.question(self, "Predict", question)
        return answer == QMessageBox.StandardButton.Yes


def free_folder(path: Path) -> Path:
    """A folder for the results of an input that is not there yet: ``photos_predicted``, ``photos_predicted_2`` ..."""
    first = path.parent / f"{path.name if path.is_dir() else path.stem}_predicted"
    folder, number = first, 1
    while folder.exists():
        number += 1
        folder = first.with_name(f"{first.name}_{number}")
    return folder


def _preview(row: Mapping[str, Any], facts: ModelFacts | None, model: Path | None) -> Preview:
    from maskwright.desktop.previews import make_preview

    if facts is None:
        assert model is not None  # something was predicted
        facts = model_facts(model)
    return make_preview(row, facts)


def _icon(row: Mapping[str, Any]) -> Any:
    from maskwright.desktop.previews import make_icon

    return make_icon(row)


def _ignore(reason: str) -> None:
    """An entry without a picture still has its name; its preview says why."""
