"""TrainingThread: a training in a process of its own, told to the window as the signals of document 004."""

from __future__ import annotations

import math
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QCoreApplication, QObject, QThread, Signal

from maskwright.config import Experiment, from_flat, load_experiment, save_experiment
from maskwright.desktop.following import NewRun, RunTail, error_in, outcome_of, starts_anew, why_it_ended
from maskwright.desktop.jobs import words_of
from maskwright.tracking import ControlFolder, RunFolder
from maskwright.tracking.processes import Started, resume_command, start

__all__ = ["TrainingThread", "experiment_of"]

_LOOK_EVERY_S = 0.1
_at_work: set[TrainingThread] = set()  # a thread that lost its window still has to end by itself


def experiment_of(config: Mapping[str, Any] | Experiment | str | os.PathLike[str]) -> Experiment:
    """What a configuration means: the flat dictionary of document 004, an experiment, or the file of one.

    Raises:
        ConfigError: Every fault, one a line.
    """
    if isinstance(config, Experiment):
        return config
    if isinstance(config, Mapping):
        experiment = from_flat(config)
        every_step = experiment.tracking.model_copy(update={"log_every_steps": 1})  # the dictionary cannot say it
        return experiment.model_copy(update={"tracking": every_step})
    return load_experiment([config])


class TrainingThread(QThread):
    """Trains as ``maskwright train`` does, in another process, and tells what happens there when it happens.

    The thread starts the process and follows its run folder; the training neither slows the window nor dies with it.
    :meth:`attach` follows a run that is at work already, :meth:`resume` continues one that was stopped.

    Args:
        config: The flat dictionary of document 004, an experiment, or the file of one.
        parent: Owner, as of any QObject.

    Signals:
        epoch_started: Its number, from 1.
        epoch_completed: Its number, training loss, validation loss (NaN where it was not validated), all scores by
            name such as ``val/iou``. The last epoch as well.
        batch_progress: Batches done and in all, ``train`` or ``val``, the loss (NaN in validation), further numbers
            such as ``lr`` and ``grad_norm``. After as many updates as ``tracking.log_every_steps`` says.
        training_completed: How it ended, ``finished`` or ``stopped``; see :func:`~.following.outcome_of`.
        training_failed: A sentence: what stood in the way and what to do.
        run_found: The run folder, as soon as there is one.
        stage_changed: What it does at the moment, in words.

    Every training ends with exactly one of ``training_completed`` and ``training_failed``, unless :meth:`leave` was
    called before.
    """

    epoch_started = Signal(int)
    epoch_completed = Signal(int, float, float, dict)
    batch_progress = Signal(int, int, str, float, dict)
    training_completed = Signal(dict)
    training_failed = Signal(str)
    run_found = Signal(str)
    stage_changed = Signal(str)

    def __init__(
        self, config: Mapping[str, Any] | Experiment | str | os.PathLike[str], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._config = config
        self._run: RunFolder | None = None
        self._resumes: Path | None = None
        self._started: Started | None = None
        self._stop, self._leave, self._wake = threading.Event(), threading.Event(), threading.Event()
        self._stop_sent = False
        self._attempt_before: int | None = None  # of a run that is continued
        self._stage = ""

    @classmethod
    def attach(cls, run: str | os.PathLike[str], parent: QObject | None = None) -> TrainingThread:
        """Follow a run that somebody started before; what happened until now is not told again."""
        thread = cls({}, parent)
        thread._run = RunFolder(Path(run))
        return thread

    @classmethod
    def resume(cls, run: str | os.PathLike[str], parent: QObject | None = None) -> TrainingThread:
        """Go on from a run folder, or from one of its checkpoints.

        The folder, or the newest checkpoint of a run that is not finished: the run goes on exactly where it was, in its
        folder. An older checkpoint, or one of a finished run: a new run beside it begins with these weights.
        """
        path = Path(run)
        thread = cls.attach(path.parent.parent if path.suffix == ".pt" else path, parent)
        thread._resumes = path
        return thread

    @property
    def run_folder(self) -> Path | None:
        """The run folder; None before there is one."""
        return None if self._run is None else self._run.path

    def start(self, priority: QThread.Priority = QThread.Priority.InheritPriority) -> None:
        """Begin."""
        _at_work.add(self)
        self.finished.connect(self._forget)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._leave_and_wait)
        super().start(priority)

    def stop(self) -> None:
        """End the training after its present batch, with its state saved; returns at once."""
        self._stop.set()
        self._wake.set()

    def leave(self) -> None:
        """End this thread and let the training go on; returns at once."""
        self._leave.set()
        self._wake.set()

    def run(self) -> None:
        """What the thread does; called by Qt."""
        try:
            self._work()
        except Exception as error:  # whatever it is, the person who waits is told
            self.training_failed.emit(words_of(error))

    def _work(self) -> None:
        if self._run is None or self._resumes is not None:
            self._say("Starting")
        begun = self._begin()
        if begun is None:
            return
        folder, tail = begun
        if self._resumes is not None:
            self._attempt_before = folder.record.load().get("attempt")
            self._started = start(resume_command(self._resumes))
        self._run = folder
        self.run_found.emit(str(folder.path))
        while True:
            over = self._is_over(folder)  # asked first, so that what was written last is read
            for row in tail.read():
                self._tell(row)
            if over:
                self._end(folder)
                return
            if self._leave.is_set():
                return
            self._send_stop()
            self._pause()

    def _begin(self) -> tuple[RunFolder, RunTail] | None:
        """The folder to follow; None if there will be none, which has been told."""
        if self._run is not None:
            folder = RunFolder.open(self._run.path)
            if self._resumes is None or not starts_anew(folder, self._resumes):
                return folder, RunTail(folder, skip=True)
            checkpoint, self._resumes, self._run = self._resumes, None, None
            name = f"{folder.record.load()['name']}_from_{checkpoint.stem}"
            words = ["--resume", str(checkpoint), "--experiment-name", name, "--output-dir", str(folder.path.parent)]
            return self._begin_new(words, NewRun(folder.path.parent, name))
        experiment = experiment_of(self._config)
        handle, file = tempfile.mkstemp(prefix="maskwright_", suffix=".yaml")
        os.close(handle)
        save_experiment(experiment, file)
        begun = self._begin_new([file], NewRun(experiment.tracking.output_dir, experiment.name))
        if not self._leave.is_set():  # else the file stays: the process may not have read it yet
            Path(file).unlink(missing_ok=True)
        return begun

    def _begin_new(self, words: Sequence[str], new: NewRun) -> tuple[RunFolder, RunTail] | None:
        """Start a training and wait for its run folder."""
        self._started = start(["maskwright", "train", *words])
        self._say("Looking at the data")
        while not self._leave.is_set():
            over = self._started.code is not None
            found = new.find(self._started)
            if found is not None:
                return found, RunTail(found, skip=False)
            if over:
                self._end_without_folder(self._started)
                return None
            self._send_stop()
            self._pause()
        return None

    def _is_over(self, folder: RunFolder) -> bool:
        if self._started is not None:
            return self._started.code is not None
        return not folder.record.is_alive()

    def _tell(self, row: Mapping[str, Any]) -> None:
        """One row of the log as a signal."""
        kind = row.get("kind")
        if kind == "epoch_begin":
            self._say("Training")
            self.epoch_started.emit(int(row["epoch"]))
        elif kind == "step":
            facts = {name: row[name] for name in ("lr", "grad_norm", "epoch", "global_step", "images") if name in row}
            self.batch_progress.emit(
                int(row["position"]), int(row["batches_per_epoch"]), "train", _float(row.get("loss")), facts
            )
        elif kind == "validation":
            self._say("Validating")
            self.batch_progress.emit(
                int(row["position"]), int(row["batches"]), "val", math.nan, {"epoch": int(row["epoch"])}
            )
        elif kind == "epoch":
            scores = {name: _float(value) for name, value in row["scores"].items()}
            losses = (scores.get(f"{part}/loss", math.nan) for part in ("train", "val"))
            self.epoch_completed.emit(int(row["epoch"]), *losses, scores)
        elif kind == "train_end":
            self._say("Making the final numbers")

    def _send_stop(self) -> None:
        """Pass on what was asked of :meth:`stop`, once."""
        if not self._stop.is_set() or self._stop_sent:
            return
        self._stop_sent = True
        self._say("Stopping after this batch")
        if self._run is not None and self._has_begun(self._run):
            ControlFolder(self._run.control).send("stop")
        elif self._started is not None:  # nothing is written before the run has begun, so nothing is lost
            self._started.process.terminate()

    def _has_begun(self, folder: RunFolder) -> bool:
        """False while a run that is to be continued has not been taken up yet: commands would be forgotten."""
        return self._attempt_before is None or folder.record.load().get("attempt") != self._attempt_before

    def _end(self, folder: RunFolder) -> None:
        """Tell how a run ended."""
        if self._started is not None and not self._has_begun(folder):
            self._end_without_folder(self._started)
        elif folder.record.status() in ("finished", "stopped"):
            self._say("Finished" if folder.record.status() == "finished" else "Stopped")
            self.training_completed.emit(outcome_of(folder))
            self._discard_output()
        else:
            self._say("Failed")
            self.training_failed.emit(why_it_ended(folder, self._started))

    def _end_without_folder(self, started: Started) -> None:
        """Tell of a process that ended before it made a run folder, or took one up again."""
        if self._stop_sent:
            self._say("Stopped")
            run = None if self._run is None else str(self._run.path)
            self.training_completed.emit({"status": "stopped", "reason": "stopped before it began", "run": run})
            return
        self._say("Failed")
        said = started.said()
        words = f"The training process ended with exit code {started.code}. {said}".strip()
        self.training_failed.emit(error_in(said) or words)

    def _pause(self) -> None:
        self._wake.wait(_LOOK_EVERY_S)
        self._wake.clear()  # what it was set for is looked at next

    def _say(self, stage: str) -> None:
        if stage != self._stage:
            self._stage = stage
            self.stage_changed.emit(stage)

    def _discard_output(self) -> None:
        """What the process printed stands in the run's log as well."""
        if self._started is not None:
            self._started.output.unlink(missing_ok=True)

    def _forget(self) -> None:
        _at_work.discard(self)

    def _leave_and_wait(self) -> None:
        self.leave()
        self.wait()


def _float(value: object) -> float:
    """A number of the log; one that is not finite stands there as a text."""
    return float(value) if isinstance(value, int | float | str) else math.nan
