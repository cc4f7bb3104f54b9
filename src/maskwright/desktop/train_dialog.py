"""TrainConfigDialog: set up a training, check its data, start, watch and stop it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QUrl, Signal
from PySide6.QtGui import QCloseEvent, QDesktopServices, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from maskwright.config import Experiment, dump_experiment, presets
from maskwright.config.drafts import Draft, all_settings, flattened, write_draft
from maskwright.config.load import PRESET_PREFIX
from maskwright.desktop.checking import CheckResult, DataCheck
from maskwright.desktop.document_fields import DATA, MODEL, TRAINING, initial_settings
from maskwright.desktop.draft import DraftModel
from maskwright.desktop.examine import Verdict
from maskwright.desktop.fields import MessageLabel
from maskwright.desktop.forms import SettingsTab
from maskwright.desktop.jobs import run_job
from maskwright.desktop.monitoring import MonitoringTab
from maskwright.desktop.sizes import open_at
from maskwright.desktop.training_thread import TrainingThread
from maskwright.tracking import RunFolder

__all__ = ["TrainConfigDialog", "sections_of_tabs"]

_FILES = "Experiments (*.yaml *.yml)"
_PRESENT = "The settings below"
_DOCUMENT = "Defaults"
_SECTIONS = {
    "Model": ("task", "model", "loss", "metrics", "prediction"),
    "Data": ("data", "tracking", "pseudo_labels"),
}


class TrainConfigDialog(QDialog):
    """The dialog of document 004.

    It opens with the defaults of the document, and what the host gives over them. Everything can be done with the
    keyboard. The training runs in a process of its own: closing the dialog may leave it at work, and :meth:`watch`
    shows it again.

    Args:
        config: A configuration dictionary in the names of document 004, an experiment, or the file of one.
        paths_config: Folders to begin with: ``split_dir``, ``images_dir``, ``masks_dir``, ``checkpoint_dir``.
        parent: The host's window.

    Raises:
        ConfigError: Names or values in ``config`` that mean nothing, one a line.

    Signals:
        training_completed: As of :class:`TrainingThread`.
        training_failed: As of :class:`TrainingThread`.
        run_found: The run folder of the training on show.
        stays_open: It was asked to close, and a person decided that it should not.
    """

    training_completed = Signal(dict)
    training_failed = Signal(str)
    run_found = Signal(str)
    stays_open = Signal()

    def __init__(
        self,
        config: Mapping[str, Any] | Experiment | str | os.PathLike[str] | None = None,
        paths_config: Mapping[str, Any] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Train a model")
        self.setWindowFlag(Qt.WindowType.WindowMaximizeButtonHint)
        open_at(self, 1000, 800)
        self.setSizeGripEnabled(True)
        self.thread_at_work: TrainingThread | None = None
        self._check: DataCheck | None = None
        self._closes = False
        self._host_settings = _settings_of_host(config, paths_config)
        self.model = DraftModel(self._host_settings, self)
        self._build()
        self.model.changed.connect(self._show_name)
        self.model.checked.connect(self._show_verdict)
        self.model.failed.connect(self.message.say)
        self._show_name()
        if isinstance(config, str | os.PathLike):
            self.model.load(os.fspath(config))
        else:
            self.model.begin_with(self._host_settings)
        run_job(presets, self._offer_presets, self.message.say, self)

    # --- what it is made of -------------------------------------------------------------------------------------------

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.addLayout(self._heading())
        self.tabs = QTabWidget()
        fields = {"Model": MODEL, "Training": TRAINING, "Data": DATA}
        sections = sections_of_tabs()
        self.forms = {title: SettingsTab(self.model, fields[title], sections[title]) for title in fields}
        for place, (title, form) in enumerate(self.forms.items()):
            self.tabs.addTab(form, title)
            form.faults_changed.connect(lambda count, place=place, title=title: self._mark(place, title, count))
        self.monitoring = MonitoringTab()
        self.monitoring.resume_requested.connect(self.resume)
        self.tabs.addTab(self.monitoring, "Monitoring")
        column.addWidget(self.tabs, 1)
        self.message = MessageLabel()
        column.addWidget(self.message)
        self.status = QLabel("Ready.")
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        self.status.setWordWrap(True)
        column.addWidget(self.status)
        column.addLayout(self._buttons())

    def _heading(self) -> QHBoxLayout:
        self.name = QLineEdit()
        self.name.setToolTip("<p>Name of the run; its folder starts with it.</p>")
        self.name.textEdited.connect(lambda text: self.model.change({"name": text}))
        self.base = QComboBox()
        self.base.addItems([_PRESENT, _DOCUMENT])
        self.base.setToolTip("<p>Replace all settings by the defaults or by a preset.</p>")
        self.base.activated.connect(self._begin_with)
        line = QHBoxLayout()
        for words, widget in (("&Name", self.name), ("Begin f&rom", self.base)):
            label = QLabel(words)
            label.setBuddy(widget)
            line.addWidget(label)
            line.addWidget(widget, 1)
        for words, action, keys in (
            ("Load...", self._ask_load, QKeySequence.StandardKey.Open),
            ("Sa&ve...", self._ask_save, QKeySequence.StandardKey.Save),
        ):
            line.addWidget(_button(words, action))
            QShortcut(QKeySequence(keys), self, action)
        return line

    def _buttons(self) -> QHBoxLayout:
        """Side by side and not in a QDialogButtonBox, whose first button the Tab key passes over."""
        self.check_button = _button("Check da&ta", self.check_data)
        self.start_button = _button("&Start", self.start)
        self.stop_button = _button("Sto&p", self.stop)
        self.close_button = _button("Close", self.close)
        self.start_button.setDefault(True)
        self.stop_button.setEnabled(False)
        line = QHBoxLayout()
        line.addStretch(1)
        for button in (self.check_button, self.start_button, self.stop_button, self.close_button):
            line.addWidget(button)
        return line

    # --- settings -----------------------------------------------------------------------------------------------------

    def _offer_presets(self, found: dict[str, str]) -> None:
        for name, meaning in found.items():
            self.base.addItem(f"Preset {name}", f"{PRESET_PREFIX}{name}")
            self.base.setItemData(self.base.count() - 1, meaning, Qt.ItemDataRole.ToolTipRole)

    def _begin_with(self, place: int) -> None:
        source = self.base.itemData(place)
        if source:
            self.model.load(source)
        elif self.base.itemText(place) == _DOCUMENT:
            self.model.begin_with(self._host_settings)
        self.base.setCurrentIndex(0)

    def _ask_load(self) -> None:
        file, _ = QFileDialog.getOpenFileName(self, "Load an experiment", "", _FILES)
        if file:
            self.load(file)

    def load(self, file: str | os.PathLike[str]) -> None:
        """Show the settings of an experiment file."""
        self.message.say("")
        self.model.load(os.fspath(file))

    def _ask_save(self) -> None:
        file, _ = QFileDialog.getSaveFileName(self, "Save the experiment", f"{self.name.text()}.yaml", _FILES)
        if file:
            self.save(Path(file))

    def save(self, file: Path) -> None:
        """Write the settings, complete, to a file; one that is there is replaced."""

        def write(verdict: Verdict) -> None:
            experiment = verdict.experiment
            if experiment is None:
                self._point_at_faults(verdict)
                return
            target = file if file.suffix in (".yaml", ".yml") else file.with_name(f"{file.name}.yaml")
            run_job(
                lambda: write_draft(Draft(dump_experiment(experiment), ()), target, replace=True),
                lambda written: self.status.setText(f"Saved: {written}"),
                self.message.say,
                self,
            )

        self.model.when_checked(write)

    def _show_name(self) -> None:
        name = str(self.model.values.get("name") or "")
        if name != self.name.text():
            self.name.setText(name)

    def _mark(self, place: int, title: str, faults: int) -> None:
        self.tabs.setTabText(place, f"{title} ({faults})" if faults else title)

    def _show_verdict(self, verdict: Verdict) -> None:
        general = [*verdict.faults.get("", ()), *verdict.faults.get("name", ())]
        warned = [verdict.advice[path] for path in ("model.encoder_weights",) if path in verdict.advice]
        if self.thread_at_work is None:
            self.message.say("\n".join([*general, *warned]))

    def _point_at_faults(self, verdict: Verdict) -> None:
        """Lead to the first setting that keeps the training from starting."""
        count = sum(len(faults) for faults in verdict.faults.values())
        self.status.setText(f"{count} setting{'s need' if count != 1 else ' needs'} attention before the start.")
        for path in verdict.faults:
            for form in self.forms.values():
                if form.go_to(path):
                    self.tabs.setCurrentWidget(form)
                    form.go_to(path)  # once more: only what is on show can be scrolled to
                    form.show_faults(verdict)
                    return

    # --- the check of the data ----------------------------------------------------------------------------------------

    def check_data(self) -> None:
        """Look for what is wrong with the data, and show the page; a second call ends a check at work."""
        if self._check is not None:
            self._check.stop()
            return
        self.model.when_checked(self._check_if_valid)

    def _check_if_valid(self, verdict: Verdict) -> None:
        if verdict.experiment is None or not verdict.can_start:
            self._point_at_faults(verdict)
            return
        self._check = DataCheck(verdict.experiment)
        self.check_button.setText("End the check")
        self.status.setText("Checking the data ...")
        run_job(self._check.run, self._checked, self._check_failed, self)

    def _checked(self, result: CheckResult | None) -> None:
        self._end_check("The check was ended." if result is None else result.summary)
        if result is None:
            return
        self.message.say("\n".join(result.lines))
        self.show_page(result.page)

    def _check_failed(self, why: str) -> None:
        self._end_check("The data could not be checked.")
        self.message.say(why)

    def _end_check(self, words: str) -> None:
        self._check = None
        self.check_button.setText("Check da&ta")
        self.status.setText(words)

    def show_page(self, page: Path) -> None:
        """Open a page in the browser."""
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(page)))

    # --- the training -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the training, unless a setting is wrong, which is then shown."""
        if self.thread_at_work is None:
            self.start_button.setEnabled(False)
            self.model.when_checked(self._start_if_valid)

    def _start_if_valid(self, verdict: Verdict) -> None:
        if verdict.experiment is None or not verdict.can_start:
            self.start_button.setEnabled(True)
            self._point_at_faults(verdict)
            return
        self._begin(TrainingThread(verdict.experiment))

    def resume(self, run: str) -> None:
        """Continue a run, given its folder or one of its checkpoints."""
        if self.thread_at_work is None:
            self._begin(TrainingThread.resume(run))

    def watch(self, run: str | os.PathLike[str]) -> None:
        """Show a run and its settings; follow it if it is at work."""
        path = Path(run)
        self.monitoring.follow(path)
        self.tabs.setCurrentWidget(self.monitoring)
        self.model.load(str(RunFolder(path).config))

        def done(alive: bool) -> None:
            self.status.setText(f"{path.name}: at work." if alive else f"{path.name}: not at work.")
            if alive and self.thread_at_work is None:
                self._begin(TrainingThread.attach(path))

        run_job(lambda: RunFolder.open(path).record.is_alive(), done, self.message.say, self)

    def stop(self) -> None:
        """End the training after its present batch, with its state saved."""
        if self.thread_at_work is not None:
            self.stop_button.setEnabled(False)
            self.status.setText("Stopping after this batch ...")
            self.thread_at_work.stop()

    def _begin(self, thread: TrainingThread) -> None:
        self.thread_at_work = thread
        self.message.say("")
        self.start_button.setEnabled(False)
        self.stop_button.setEnabled(True)
        self.tabs.setCurrentWidget(self.monitoring)
        thread.run_found.connect(self._follow)
        thread.stage_changed.connect(self._show_stage)
        thread.epoch_started.connect(self._show_epoch)
        thread.epoch_completed.connect(self._show_scores)
        thread.training_completed.connect(self._completed)
        thread.training_failed.connect(self._failed)
        thread.start()

    def _follow(self, run: str) -> None:
        self.monitoring.follow(Path(run))
        self.run_found.emit(run)

    def _show_stage(self, stage: str) -> None:
        self.status.setText(f"{stage} ...")

    def _show_epoch(self, epoch: int) -> None:
        self.status.setText(f"Epoch {epoch} ...")

    def _show_scores(self, epoch: int, train_loss: float, val_loss: float, scores: dict[str, float]) -> None:
        iou = f", IoU {scores['val/iou']:.4f}" if "val/iou" in scores else ""
        self.status.setText(f"Epoch {epoch}: training loss {train_loss:.4f}, validation loss {val_loss:.4f}{iou}")

    def _completed(self, outcome: dict[str, Any]) -> None:
        self._over()
        best = outcome.get("best_val_metric")
        score = "" if best is None else f" Best {outcome['monitor']} {best:.4f} in epoch {outcome['best_epoch']}."
        stopped = outcome["status"] == "stopped"
        self.status.setText(("Stopped; the state is saved." if stopped else "The training is finished.") + score)
        self.training_completed.emit(outcome)
        self._close_if_asked()

    def _failed(self, why: str) -> None:
        self._over()
        self.status.setText("The training failed.")
        self.message.say(why)
        self.training_failed.emit(why)
        self._close_if_asked()

    def _over(self) -> None:
        self.thread_at_work = None
        self.start_button.setEnabled(True)
        self.stop_button.setEnabled(False)

    # --- closing ------------------------------------------------------------------------------------------------------

    def exec_(self) -> int:
        """The name that hosts of document 004 call."""
        return int(self.exec())

    def closeEvent(self, event: QCloseEvent) -> None:
        if self.thread_at_work is None:
            self._let_go()
            super().closeEvent(event)
            return
        event.ignore()
        self.ask_to_close()

    def reject(self) -> None:
        """Escape and Close: the same question as the window's cross."""
        if self.thread_at_work is None:
            self._let_go()
            super().reject()
        else:
            self.ask_to_close()

    def ask_to_close(self) -> QMessageBox:
        """Ask what becomes of the training at work; the dialog goes on meanwhile."""
        box = QMessageBox(self)
        box.setWindowTitle("A training is at work")
        box.setText("What shall become of the training when this window closes?")
        box.setInformativeText("One that is left at work can be watched again at any time.")
        leave = box.addButton("&Leave running", QMessageBox.ButtonRole.AcceptRole)
        stop = box.addButton("&Stop", QMessageBox.ButtonRole.DestructiveRole)
        cancel = box.addButton("&Cancel", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(leave)
        box.setEscapeButton(cancel)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.buttonClicked.connect(lambda pressed: self._close_as(pressed is leave, pressed is stop))
        box.open()
        return box

    def _close_as(self, leaves: bool, stops: bool) -> None:
        if stops:
            self._closes = True
            self.stop()
            self._close_if_asked()
        elif leaves:
            if self.thread_at_work is not None:
                self.thread_at_work.leave()
                self.thread_at_work = None
            self.close()
        else:
            self.stays_open.emit()

    def _close_if_asked(self) -> None:
        if self._closes and self.thread_at_work is None:
            self.close()

    def _let_go(self) -> None:
        if self._check is not None:
            self._check.stop()
        self.monitoring.follow(None)


def sections_of_tabs() -> dict[str, tuple[str, ...]]:
    """The sections of the schema whose settings stand in each tab; whatever has no other place is of the training."""
    placed = {"name"}.union(*_SECTIONS.values())
    others = dict.fromkeys(section for path in all_settings() if (section := path.partition(".")[0]) not in placed)
    return _SECTIONS | {"Training": tuple(reversed(others))}


def _settings_of_host(
    config: Mapping[str, Any] | Experiment | str | os.PathLike[str] | None, paths: Mapping[str, Any] | None
) -> dict[str, Any]:
    if isinstance(config, Experiment):
        return flattened(config)
    return initial_settings(config if isinstance(config, Mapping) else {}, paths or {})


def _button(words: str, action: Any) -> QPushButton:
    button = QPushButton(words)
    button.setAutoDefault(False)
    button.clicked.connect(lambda: action())
    return button
