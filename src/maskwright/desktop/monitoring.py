"""MonitoringTab: a training as it goes: progress, curves, samples, checkpoints, log."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QHideEvent, QImage, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSlider,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from maskwright.desktop.jobs import Job, run_job
from maskwright.desktop.pictures_view import PictureView, load_picture
from maskwright.desktop.watching import CheckpointRow, RunView, RunWatch
from maskwright.tracking import ControlFolder, RunFolder

if TYPE_CHECKING:
    from maskwright.desktop.plots import CurvePlot

__all__ = ["MonitoringTab"]

_LOOK_AGAIN_MS = 500  # at a run at work
_LOOK_LATER_MS = 5000  # at one that is over: it may be resumed
_STEPS = 1000  # of a progress bar
_LOG_LINES = 5000
_SAMPLE_PX = 1600
_COLUMNS = ("file", "what", "epoch", "score", "size", "saved (UTC)")
_NOTHING = "No training is shown. Start one, or open one from the list of runs."


class MonitoringTab(QScrollArea):
    """Shows a run while it works, and after it. Everything is read in other threads, and only what is new.

    On a low screen, or with large letters, it scrolls.

    Args:
        parent: Owner.
    """

    resume_requested = Signal(str)
    """Path of the checkpoint that training is to continue from."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._watch: RunWatch | None = None
        self._view: RunView | None = None
        self._rows: tuple[CheckpointRow, ...] = ()
        self._wanted_chart = ""  # once a person chose one
        self._asked_to_pause: bool | None = None  # until the training has obeyed
        self._job: Job[Any] | None = None
        self._plots: tuple[CurvePlot, CurvePlot] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)
        self._build()
        self.follow(None)
        run_job(partial(importlib.import_module, "maskwright.desktop.plots"), self._put_plots, self._say, self)

    @property
    def run(self) -> Path | None:
        """The run that is shown."""
        return None if self._watch is None else self._watch.path

    @property
    def is_drawn(self) -> bool:
        """Whether the plots are there and the first look at the run has been shown."""
        return self._plots is not None and (self._watch is None or self._view is not None)

    def follow(self, run: Path | None) -> None:
        """Show a run from now on; None: none."""
        if self._job is not None:
            self._job.cancel()
        self._watch = None if run is None else RunWatch(Path(run))
        self._view = self._asked_to_pause = None
        self.log.clear()
        self._show_empty(_NOTHING if run is None else f"Reading {run} ...")
        if run is not None:
            self._look()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._look()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._timer.stop()

    # --- what it is made of -------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # what has the focus is scrolled into sight
        inside = QWidget()
        layout = QVBoxLayout(inside)
        self.status = QLabel(self)
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout.addWidget(self.status)
        self.epoch_bar, self.epoch_left = self._bar("Progress of the epoch")
        self.total_bar, self.total_left = self._bar("Progress of the training")
        bars = QFormLayout()
        bars.addRow("This epoch", _beside(self.epoch_bar, self.epoch_left))
        bars.addRow("Training", _beside(self.total_bar, self.total_left))
        layout.addLayout(bars)
        split = QSplitter(Qt.Orientation.Vertical, self)
        split.addWidget(self._plot_area())
        split.addWidget(self._pages())
        split.setStretchFactor(0, 3)
        split.setStretchFactor(1, 2)
        split.setSizes([3000, 2000])
        layout.addWidget(split, 1)
        layout.addLayout(self._buttons())
        self.setWidget(inside)

    def _bar(self, name: str) -> tuple[QProgressBar, QLabel]:
        bar = QProgressBar(self)
        bar.setRange(0, _STEPS)
        bar.setAccessibleName(name)
        return bar, QLabel(self)

    def _plot_area(self) -> QWidget:
        self._area = QSplitter(Qt.Orientation.Horizontal, self)
        self._area.setMinimumHeight(12 * self.fontMetrics().height())
        right = QWidget(self)
        self._right = QVBoxLayout(right)
        self._right.setContentsMargins(0, 0, 0, 0)
        self.chart_choice = QComboBox(right)
        self.chart_choice.setAccessibleName("What the right plot shows")
        self.chart_choice.setToolTip("What this plot shows")
        self.chart_choice.activated.connect(self._choose_chart)
        self._right.addWidget(self.chart_choice)
        self._area.addWidget(right)
        return self._area

    def _pages(self) -> QWidget:
        self.pages = QTabWidget(self)
        self.log = QPlainTextEdit(self)
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(_LOG_LINES)
        self.log.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.log.setAccessibleName("Log")
        self.pages.addTab(self.log, "&Log")
        self.pages.addTab(self._sample_page(), "S&amples")
        self.pages.addTab(self._checkpoint_page(), "Ch&eckpoints")
        return self.pages

    def _sample_page(self) -> QWidget:
        page = QWidget(self)
        layout = QVBoxLayout(page)
        self.sample = PictureView(page, by_width=True)
        self.sample.setAccessibleName("What the model says of some tiles")
        self.sample_slider = QSlider(Qt.Orientation.Horizontal, page)
        self.sample_slider.setAccessibleName("Epoch of the samples")
        self.sample_slider.setRange(0, 0)
        self.sample_name = QLabel(page)
        self._samples: tuple[Path, ...] = ()
        self._shown_sample: Path | None = None
        self.sample_slider.valueChanged.connect(self._load_sample)
        layout.addWidget(self.sample, 1)
        layout.addLayout(_beside(self.sample_slider, self.sample_name))
        return page

    def _checkpoint_page(self) -> QWidget:
        page = QWidget(self)
        layout = QVBoxLayout(page)
        self.checkpoints = QTableWidget(0, len(_COLUMNS), page)
        self.checkpoints.setHorizontalHeaderLabels(_COLUMNS)
        self.checkpoints.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.checkpoints.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.checkpoints.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.checkpoints.verticalHeader().setVisible(False)
        self.checkpoints.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.checkpoints.horizontalHeader().setStretchLastSection(True)
        self.checkpoints.setTabKeyNavigation(False)
        self.checkpoints.setAccessibleName("Checkpoints")
        self.checkpoints.itemSelectionChanged.connect(self._allow_resume)
        self.resume = QPushButton("Resume from &here", page)
        self.resume.setToolTip(
            "Continue training from the chosen checkpoint: from the newest one the run goes on exactly where it was; "
            "from an older one, or if the run is finished, a new run begins with its weights."
        )
        self.resume.clicked.connect(self._ask_resume)
        layout.addWidget(self.checkpoints, 1)
        layout.addWidget(self.resume, 0, Qt.AlignmentFlag.AlignLeft)
        return page

    def _buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.pause = QPushButton("Pa&use", self)
        self.pause.setToolTip("The training waits after its present batch, in memory, until it is told to continue.")
        self.pause.clicked.connect(self._ask_to_pause)
        self.open_folder = QPushButton("Open &folder", self)
        self.open_folder.clicked.connect(lambda: self._open(lambda run: run.path))
        self.open_report = QPushButton("Open rep&ort", self)
        self.open_report.clicked.connect(lambda: self._open(lambda run: run.report))
        for button in (self.pause, self.open_folder, self.open_report):
            button.setAutoDefault(False)
            row.addWidget(button)
        self.resume.setAutoDefault(False)
        row.addStretch(1)
        return row

    def _put_plots(self, module: Any) -> None:
        """The plots, once what draws them has been loaded."""
        loss = module.CurvePlot("Loss", "epoch", self)
        chart = module.CurvePlot("", "epoch", self)
        self._plots = loss, chart
        self._area.insertWidget(0, loss)
        self._right.addWidget(chart, 1)
        self._area.setSizes([1000, 1000])
        self._put_in_tab_order(loss.names, chart.names)
        if self._view is not None:
            self._draw(self._view, None)

    def _put_in_tab_order(self, loss: QWidget, chart: QWidget) -> None:
        """From left to right: late as they come, they would stand behind everything else in the whole window."""
        choice = self.chart_choice
        for earlier, later in ((choice, loss), (loss, choice), (choice, chart)):
            QWidget.setTabOrder(earlier, later)

    # --- looking ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        watch = self._watch
        if watch is None or (self._job is not None and self._job.pending):
            return
        self._job = run_job(watch.look, partial(self._show, watch), partial(self._failed, watch), self)

    def _look_again(self, delay_ms: int) -> None:
        if self.isVisible():
            self._timer.start(delay_ms)

    def _show(self, watch: RunWatch, view: RunView) -> None:
        if watch is not self._watch:
            return  # another run is shown since
        before, self._view = self._view, view
        self._look_again(_LOOK_AGAIN_MS if view.alive or view.log else _LOOK_LATER_MS)
        self._say("\n".join([view.sentence, *view.problems]))
        _set_bar(self.epoch_bar, self.epoch_left, view.epoch_share, view.epoch_text)
        _set_bar(self.total_bar, self.total_left, view.total_share, view.total_text)
        self.open_folder.setEnabled(view.exists)
        self.open_report.setEnabled(view.has_report)
        self._allow_pause()
        if view.log:
            self.log.appendPlainText(view.log.rstrip("\n"))
        self._draw(view, before)
        if before is None or view.samples != before.samples or self._shown_sample is None:
            self._show_samples(view.samples)
        if before is None or view.checkpoints != before.checkpoints:
            self._show_checkpoints(view.checkpoints, view.monitor)
        self._allow_resume()

    def _failed(self, watch: RunWatch, reason: str) -> None:
        if watch is self._watch:
            self._say(reason)
            self._look_again(_LOOK_LATER_MS)

    def _say(self, sentence: str) -> None:
        if self.status.text() != sentence:
            self.status.setText(sentence)

    def _show_empty(self, sentence: str) -> None:
        self._say(sentence)
        for bar, label in ((self.epoch_bar, self.epoch_left), (self.total_bar, self.total_left)):
            _set_bar(bar, label, None, "")
        self._show_samples(())
        self._show_checkpoints((), "")
        self.open_folder.setEnabled(False)
        self.open_report.setEnabled(False)
        self._allow_resume()
        self._allow_pause()
        for plot in self._plots or ():
            plot.set_lines(())

    # --- pausing ------------------------------------------------------------------------------------------------------

    @property
    def _is_paused(self) -> bool:
        return self._view is not None and self._view.status == "paused"

    def _allow_pause(self) -> None:
        if self._asked_to_pause is self._is_paused:
            self._asked_to_pause = None  # it has obeyed
        at_work = self._view is not None and self._view.alive
        self.pause.setText("Contin&ue" if self._is_paused else "Pa&use")
        self.pause.setEnabled(at_work and self._asked_to_pause is None)

    def _ask_to_pause(self) -> None:
        if self.run is None:
            return
        self._asked_to_pause = not self._is_paused
        self.pause.setEnabled(False)
        control = ControlFolder(RunFolder(self.run).control)
        run_job(
            partial(control.send, "pause" if self._asked_to_pause else "resume"),
            lambda file: None,  # the run itself tells when it has obeyed
            self._not_asked,
            self,
        )

    def _not_asked(self, reason: str) -> None:
        self._asked_to_pause = None
        self._say(reason)
        self._allow_pause()

    # --- curves -------------------------------------------------------------------------------------------------------

    def _draw(self, view: RunView, before: RunView | None) -> None:
        if self._plots is None:
            return
        if before is None or view.losses is not before.losses:
            self._plots[0].set_lines(view.losses)
        names = list(view.charts)
        shown = [self.chart_choice.itemText(place) for place in range(self.chart_choice.count())]
        if names != shown:
            self.chart_choice.clear()
            self.chart_choice.addItems(names)
            self.chart_choice.setCurrentIndex(max(self.chart_choice.findText(self._wanted_chart), 0))
        if names != shown or before is None or view.charts is not before.charts:
            self._draw_chart()

    def _choose_chart(self) -> None:
        self._wanted_chart = self.chart_choice.currentText()
        self._draw_chart()

    def _draw_chart(self) -> None:
        if self._plots is not None and self._view is not None:
            name = self.chart_choice.currentText()
            self._plots[1].setAccessibleName(name)
            self._plots[1].set_lines(self._view.charts.get(name, ()))

    # --- samples ------------------------------------------------------------------------------------------------------

    def _show_samples(self, samples: tuple[Path, ...]) -> None:
        was_last = self.sample_slider.value() == self.sample_slider.maximum()
        self._samples = samples
        self.sample_slider.blockSignals(True)
        self.sample_slider.setRange(0, max(len(samples) - 1, 0))
        if was_last:
            self.sample_slider.setValue(self.sample_slider.maximum())
        self.sample_slider.blockSignals(False)
        self.sample_slider.setEnabled(len(samples) > 1)
        self._load_sample()

    def _load_sample(self) -> None:
        if not self._samples:
            self._shown_sample = None
            self.sample.show_picture(None)
            self.sample_name.setText("none yet")
            return
        path = self._samples[self.sample_slider.value()]
        self.sample_name.setText(_sample_name(path))
        if path != self._shown_sample:
            self._shown_sample = path
            load = partial(load_picture, path, most_px=_SAMPLE_PX)
            run_job(load, partial(self._show_sample, path), self._forget_sample, self)

    def _forget_sample(self, reason: str) -> None:
        """A picture that is still being written cannot be read yet; the next look tries again."""
        self.sample_name.setToolTip(reason)
        self._shown_sample = None

    def _show_sample(self, path: Path, picture: QImage) -> None:
        if path == self._shown_sample:
            self.sample.show_picture(picture)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _show_checkpoints(self, rows: tuple[CheckpointRow, ...], monitor: str) -> None:
        chosen = self._chosen()
        self.checkpoints.setHorizontalHeaderLabels([monitor or "score" if n == "score" else n for n in _COLUMNS])
        self._rows = rows
        self.checkpoints.setRowCount(len(rows))
        for place, row in enumerate(rows):
            what = row.what if row.is_there else f"{row.what}, missing"
            cells = (row.path.name, what, str(row.epoch), row.score, row.size, row.saved)
            for column, text in enumerate(cells):
                self.checkpoints.setItem(place, column, QTableWidgetItem(text))
            if chosen is not None and row.path == chosen.path:
                self.checkpoints.selectRow(place)

    def _chosen(self) -> CheckpointRow | None:
        places = self.checkpoints.selectionModel().selectedRows()
        return self._rows[places[0].row()] if places and places[0].row() < len(self._rows) else None

    def _allow_resume(self) -> None:
        chosen = self._chosen()
        at_work = self._view is not None and self._view.alive
        self.resume.setEnabled(chosen is not None and chosen.is_there and not at_work)

    def _ask_resume(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            self.resume_requested.emit(str(chosen.path))

    def _open(self, which: Callable[[RunFolder], Path]) -> None:
        if self.run is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(which(RunFolder(self.run)))))


def _beside(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for place, widget in enumerate(widgets):
        row.addWidget(widget, int(place == 0))
    return row


def _sample_name(path: Path) -> str:
    epoch = int(path.stem.rpartition("_")[2])
    return f"after epoch {epoch}" if epoch else "in the first epoch"


def _set_bar(bar: QProgressBar, label: QLabel, share: float | None, text: str) -> None:
    bar.setValue(0 if share is None else round(share * _STEPS))
    bar.setFormat("" if share is None else f"{share:.0%}")
    label.setText(text)
