"""MainWindow: the runs, the two dialogs, and a place to drop pictures on."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, QTimer, QUrl
from PySide6.QtGui import (
    QAction,
    QCloseEvent,
    QDesktopServices,
    QDragEnterEvent,
    QDropEvent,
    QKeySequence,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHeaderView,
    QLabel,
    QMainWindow,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from maskwright.desktop.fields import MessageLabel
from maskwright.desktop.jobs import Job, run_job
from maskwright.desktop.sizes import open_at
from maskwright.desktop.train_dialog import TrainConfigDialog
from maskwright.tracking.shelf import RunShelf, RunSummary

if TYPE_CHECKING:
    from maskwright.desktop.predict_dialog import PredictDialog

__all__ = ["MainWindow", "last_model"]

_LOOK_EVERY_MS = 2000
_PATH = Qt.ItemDataRole.UserRole
_HELP = "Double-click a run to watch it. Drop pictures or a folder here to predict them with the newest model."


class MainWindow(QMainWindow):
    """The window of ``maskwright desktop``.

    Args:
        runs: Folder of run folders.
        parent: Owner.
    """

    def __init__(self, runs: str | os.PathLike[str] = "outputs", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Maskwright")
        open_at(self, 900, 600)
        self.setAcceptDrops(True)
        self.shelf = RunShelf(Path(os.path.abspath(runs)))
        self.dialogs: list[TrainConfigDialog | PredictDialog] = []
        self._is_closing = False  # once the dialogs at work are gone
        self._items: list[QTreeWidgetItem] = []
        self._job: Job[Any] | None = None
        self._build()
        self._menus()
        self._timer = QTimer(self, interval=_LOOK_EVERY_MS)
        self._timer.timeout.connect(self.look)
        self._timer.start()
        self.look()

    # --- what it is made of -------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.place = QLabel()
        self.place.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.list = QTreeWidget()
        self.list.setHeaderLabels(["Run", "Status", "Begun"])
        self.list.setRootIsDecorated(False)
        self.list.setAlternatingRowColors(True)
        self.list.setUniformRowHeights(True)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.header().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.list.header().setStretchLastSection(True)
        self.list.setAccessibleName("Recent runs")
        self.list.itemActivated.connect(lambda item, column: self.watch(item.data(0, _PATH)))
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        self.message = MessageLabel()
        body = QWidget()
        column = QVBoxLayout(body)
        for part in (self.place, self.list, self.message):
            column.addWidget(part)
        help_line = QLabel(_HELP)
        help_line.setWordWrap(True)
        column.addWidget(help_line)
        self.setCentralWidget(body)
        self._show_place()

    def _menus(self) -> None:
        file, tools = self.menuBar().addMenu("&File"), self.menuBar().addMenu("&Tools")
        self._act(file, "&Open experiment...", self._ask_experiment, QKeySequence(QKeySequence.StandardKey.Open))
        self._act(file, "Folder of &runs...", self._ask_runs, None)
        file.addSeparator()
        self._act(file, "&Quit", self.close, QKeySequence(QKeySequence.StandardKey.Quit))
        self.train_action = self._act(tools, "&Train Model...", self._on_train_model, QKeySequence("Ctrl+T"))
        self.predict_action = self._act(tools, "&Predict...", lambda: self.predict(()), QKeySequence("Ctrl+P"))
        for words, action in (
            ("&Watch", self._watch_chosen),
            ("&Continue", self._resume_chosen),
            ("&Predict with its model...", self._predict_chosen),
            ("Open its &folder", self._open_chosen),
        ):
            entry = QAction(words, self.list)
            entry.triggered.connect(lambda checked=False, action=action: action())
            self.list.addAction(entry)

    def _act(self, menu: Any, words: str, action: Any, keys: QKeySequence | None) -> QAction:
        entry = QAction(words, self)
        if keys is not None:
            entry.setShortcut(keys)
        entry.triggered.connect(lambda checked=False: action())
        menu.addAction(entry)
        return entry

    # --- the runs -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Read the list of runs anew, unless that is under way."""
        if self._job is None or not self._job.pending:
            self._job = run_job(self.shelf.runs, self._show, self.message.say, self)

    def set_runs(self, folder: str | os.PathLike[str]) -> None:
        """Show the runs of another folder."""
        if self._job is not None:
            self._job.cancel()
        self.shelf = RunShelf(Path(os.path.abspath(folder)))
        self._show_place()
        self.look()

    def _show_place(self) -> None:
        self.place.setText(f"Runs in {self.shelf.folder}")

    def _show(self, runs: list[RunSummary]) -> None:
        self.message.say("")
        lines = [(str(run.path), run.name, run.status, run.created[:19].replace("T", " ")) for run in runs]
        if [line[0] for line in lines] != [item.data(0, _PATH) for item in self._items]:
            self._fill([line[0] for line in lines])
        for item, line in zip(self._items, lines, strict=True):
            for column, text in enumerate(line[1:]):
                if item.text(column) != text:
                    item.setText(column, text)

    def _fill(self, paths: list[str]) -> None:
        """An empty line for each run; the one that was chosen stays chosen."""
        chosen = self._chosen()
        self.list.clear()
        self._items = [QTreeWidgetItem() for _ in paths]
        self.list.addTopLevelItems(self._items)
        for item, path in zip(self._items, paths, strict=True):
            item.setData(0, _PATH, path)
            if path == str(chosen):
                self.list.setCurrentItem(item)

    def _chosen(self) -> Path | None:
        item = self.list.currentItem()
        return None if item is None else Path(item.data(0, _PATH))

    def _watch_chosen(self) -> None:
        if (run := self._chosen()) is not None:
            self.watch(run)

    def _resume_chosen(self) -> None:
        if (run := self._chosen()) is not None:
            self.watch(run).resume(str(run))

    def _predict_chosen(self) -> None:
        if (run := self._chosen()) is not None:
            self._bring_predict(lambda: run, ())

    def _open_chosen(self) -> None:
        if (run := self._chosen()) is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(run)))

    # --- the dialogs --------------------------------------------------------------------------------------------------

    def _on_train_model(self) -> TrainConfigDialog:
        return self.train()

    def train(self, experiment: str | os.PathLike[str] | None = None) -> TrainConfigDialog:
        """Open the training dialog, with an experiment file or the defaults."""
        dialog = TrainConfigDialog(experiment, {"checkpoint_dir": str(self.shelf.folder)}, self)
        self._open(dialog)
        return dialog

    def watch(self, run: str | os.PathLike[str]) -> TrainConfigDialog:
        """Show a run in the training dialog, in one that shows it already if there is one."""
        for dialog in self.dialogs:
            if isinstance(dialog, TrainConfigDialog) and dialog.monitoring.run == Path(run):
                dialog.raise_()
                dialog.activateWindow()
                return dialog
        dialog = self.train()
        dialog.watch(run)
        return dialog

    def predict(self, inputs: tuple[Path, ...]) -> None:
        """Open the window that predicts these files or folders, with the newest model there is."""
        self._bring_predict(partial(last_model, self.shelf), inputs)

    def _bring_predict(self, find: Callable[[], Path | None], inputs: tuple[Path, ...]) -> None:
        """The other dialog is imported when it is first wanted, and not on this thread."""

        def work() -> tuple[Any, Path | None]:
            return importlib.import_module("maskwright.desktop.predict_dialog"), find()

        run_job(work, lambda found: self._open(found[0].PredictDialog(found[1], inputs, self)), self.message.say, self)

    def _open(self, dialog: TrainConfigDialog | PredictDialog) -> None:
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setWindowFlag(Qt.WindowType.Window)  # beside the main window, not above it
        self.dialogs.append(dialog)
        dialog.stays_open.connect(self._stay)
        dialog.destroyed.connect(lambda: self._forget(dialog))
        dialog.show()

    def _ask_experiment(self) -> None:
        file, _ = QFileDialog.getOpenFileName(self, "Open an experiment", "", "Experiments (*.yaml *.yml)")
        if file:
            self.train(file)

    def _ask_runs(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "The folder that holds the runs", str(self.shelf.folder))
        if folder:
            self.set_runs(folder)

    # --- drops and closing --------------------------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if _dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        event.acceptProposedAction()
        self.predict(_dropped(event))

    def closeEvent(self, event: QCloseEvent) -> None:
        """Dialogs with a training at work ask first; the window closes after them."""
        busy = [dialog for dialog in self.dialogs if dialog.thread_at_work is not None]
        self._is_closing = bool(busy)
        if not busy:
            super().closeEvent(event)
        else:
            event.ignore()
        for dialog in busy or tuple(self.dialogs):
            dialog.close()

    def _stay(self) -> None:
        self._is_closing = False

    def _forget(self, dialog: TrainConfigDialog | PredictDialog) -> None:
        if dialog in self.dialogs:
            self.dialogs.remove(dialog)
        if self._is_closing:
            QTimer.singleShot(0, self, self.close)


def last_model(shelf: RunShelf) -> Path | None:
    """The newest run that holds a trained model; None if there is none yet."""
    return next((run.path for run in shelf.runs() if (run.path / "model" / "model.json").is_file()), None)


def _dropped(event: QDropEvent) -> tuple[Path, ...]:
    return tuple(Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile())
