"""A run that is made of several trainings one after another: a run folder with their ordinary run folders inside.

Every face reads the outer folder as one run: its history holds the epochs of all trainings in a row, commands sent to
it reach the training at work, and at the end it holds the model, the page and the numbers of the training that counts.
A training that had finished is not repeated after a kill, and one that was cut short continues exactly.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskwright.config import Experiment, load_experiment, save_experiment
from maskwright.errors import RunError
from maskwright.files import read_json, write_bytes, write_json
from maskwright.tracking.control import ControlFolder
from maskwright.tracking.folder import RunFolder, find_runs
from maskwright.tracking.history import read_history
from maskwright.tracking.lock import hold_run
from maskwright.workflows.evaluate import Evaluation, Progress
from maskwright.workflows.parent import Parent
from maskwright.workflows.resume_plan import record_changes, settled
from maskwright.workflows.train import TrainOutcome, resume, train

__all__ = ["How", "InnerRun", "OuterRun"]

Say = Callable[[str], None]

_PUBLISHED = (
    "model/model.safetensors",
    "model/model.json",
    "evaluation.json",
    "evaluation_blocks.json",
    "evaluation_images.csv",
    "splits.geojson",
)
_LOOK_EVERY_S = 0.25


@dataclass(frozen=True)
class How:
    """What trainings are told besides their settings; see :func:`maskwright.workflows.train.train`."""

    say: Say
    progress: Progress | None = None
    callbacks: Sequence[Any] = ()
    own_process: bool = False
    quiet: bool = False

    def at(self, where: str) -> How:
        """The same, with progress that says where it is made."""
        report = self.progress
        if report is None:
            return self
        return replace(self, progress=lambda done, total, what: report(done, total, f"{where}: {what}"))


@dataclass(frozen=True)
class InnerRun:
    """A training inside an outer run.

    Attributes:
        folder: Its run folder.
        finished: False if it was stopped before its end.
        stop_reason: Why it ended before its last epoch; None if it did not.
        best_score: Best monitored score; None if none was computed.
        best_epoch: Its epoch, from 1.
        monitor: Name of that score.
        mode: ``min`` or ``max``: which way it is better.
        evaluation: Numbers on the test part, where this attempt made them.
        lines: Its last lines, where this attempt said them.
    """

    folder: RunFolder
    finished: bool
    stop_reason: str | None
    best_score: float | None
    best_epoch: int | None
    monitor: str
    mode: str = "max"
    evaluation: Evaluation | None = None
    lines: tuple[str, ...] = ()

    @property
    def score_text(self) -> str:
        """The best score and its epoch in words."""
        if self.best_score is None:
            return f"{self.monitor} -"
        return f"{self.monitor} {self.best_score:.3f} in epoch {self.best_epoch}"

    def numbers(self) -> dict[str, Any]:
        """``evaluation.json``; empty if there is no test part."""
        path = self.folder.path / "evaluation.json"
        return dict(read_json(path)) if path.is_file() else {}


class OuterRun:
    """The outer folder and what happens in it.

    Args:
        folder: The run folder.
        experiment: The whole experiment, as saved there.
        how: What each training is told.
    """

    def __init__(self, folder: RunFolder, experiment: Experiment, how: How) -> None:
        self.folder, self.experiment, self.how = folder, experiment, how
        self._inner: list[str] = []

    @classmethod
    @contextmanager
    def begun(cls, experiment: Experiment, how: How) -> Iterator[OuterRun]:
        """A new folder in the output folder of the experiment; inside, this process works on it."""
        folder = RunFolder.create(experiment.tracking.output_dir, experiment.name)
        with hold_run(folder):
            save_experiment(experiment, folder.config)
            outer = cls(folder, experiment, how)
            with outer._at_work():
                yield outer

    @classmethod
    @contextmanager
    def opened(cls, path: Path, how: How, experiment: Experiment | None = None) -> Iterator[OuterRun]:
        """A folder that was begun before; inside, this process works on it.

        Args:
            path: The folder.
            how: What each training is told.
            experiment: The settings to go on with, as :func:`maskwright.workflows.train.resume` takes them.

        Raises:
            RunError: If it is no run folder, has finished, or another living process works on it.
            ConfigError: If a setting differs that cannot change.
        """
        folder = RunFolder.open(path)
        with hold_run(folder):
            if folder.record.status() == "finished":
                raise RunError(
                    f"{folder.path} is finished, with all its trainings. Begin a new run from its weights with "
                    f"--resume {folder.path} --experiment-name NAME, or score it again with: "
                    f"maskwright evaluate {folder.path}"
                )
            kept, changes = settled(folder, experiment or load_experiment([folder.config]))
            folder.record.begin_attempt()
            for line in record_changes(folder, kept, changes):
                how.say(line)
            outer = cls(folder, kept, how)
            with outer._at_work():
                yield outer

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Inside, the record says that the run is at work, and commands sent to it are passed on."""
        record, done = self.folder.record, threading.Event()
        record.update(status="running")
        messenger = threading.Thread(target=self._pass_on, args=(done,), daemon=True)
        messenger.start()
        try:
            yield
        except KeyboardInterrupt:
            record.update(status="interrupted")
            raise
        except BaseException as error:
            record.update(status="failed", reason=f"{type(error).__name__}: {error}")
            raise
        finally:
            done.set()
            messenger.join()

    def train(self, name: str, experiment: Experiment, *, where: str, parent: Parent | None = None) -> InnerRun:
        """Train inside: anew, or from where an earlier attempt left it; one that had finished is only looked at.

        Args:
            name: Of the inner run, unique in the outer one.
            experiment: The whole inner run; its name and its output folder are set here.
            where: Said in front of its progress, for example ``Stage 1 of 2, coarse``.
            parent: The weights it starts from; None: those of its settings.
        """
        self._inner.append(name)
        former = next((run for run in find_runs(self.folder.path, name) if run.config.is_file()), None)
        if former is not None and former.record.status() == "finished":
            self.how.say(f"{where}: finished in an earlier attempt.")
            self._join_histories()
            return self._finished(former)
        how, own = self.how.at(where), experiment.tracking
        quiet = own.quiet or (how.quiet and former is None)  # a run that is continued keeps what it was told
        tracking = own.model_copy(update={"output_dir": self.folder.path, "quiet": quiet})
        settings: dict[str, Any] = {"name": name, "tracking": tracking}
        if parent is not None:
            settings["model"] = experiment.model.bare().model_copy(update={"initial_weights": parent.weights})
        experiment = experiment.model_copy(update=settings)
        told: dict[str, Any] = {
            "say": how.say,
            "progress": how.progress,
            "callbacks": how.callbacks,
            "own_process": how.own_process,
        }
        if former is None:
            outcome = train(experiment, parent=parent, **told)
        else:
            outcome = resume(former.path, quiet=how.quiet, experiment=experiment, **told)
        self._join_histories()
        return self._ended(outcome)

    def publish(self, counts: InnerRun) -> None:
        """Copy the model, the numbers and the page of the training that counts into the outer folder."""
        inner = counts.folder
        for name in _PUBLISHED:
            if (inner.path / name).is_file():
                write_bytes(self.folder.path / name, (inner.path / name).read_bytes())
        if inner.report.is_file():
            write_bytes(self.folder.report, inner.report.read_bytes())
        if inner.samples.is_dir():
            shutil.copytree(inner.samples, self.folder.samples, dirs_exist_ok=True)

    def stopped(self, at: InnerRun, where: str) -> TrainOutcome:
        """The outcome if a training inside was stopped before its end."""
        self.folder.record.update(status="stopped", reason=at.stop_reason)
        own, outer = str(at.folder.path), str(self.folder.path)
        lines = tuple(line.replace(own, outer) for line in at.lines)
        return self._outcome(at, (f"{where} was stopped.", *lines), finished=False)

    def finish(self, counts: InnerRun, lines: Sequence[str], *, extra: Mapping[str, Any] | None = None) -> TrainOutcome:
        """The outcome, with what counts copied to the outer folder; ``extra`` goes into its record."""
        self.publish(counts)
        self.folder.record.update(status="finished", reason=counts.stop_reason, **(extra or {}))
        own, outer = str(counts.folder.path), str(self.folder.path)
        return self._outcome(counts, (*lines, *(line.replace(own, outer) for line in counts.lines)), finished=True)

    def _outcome(self, inner: InnerRun, lines: tuple[str, ...], *, finished: bool) -> TrainOutcome:
        return TrainOutcome(
            self.folder, finished, inner.stop_reason, inner.best_score, inner.best_epoch, inner.evaluation, lines
        )

    def _finished(self, folder: RunFolder) -> InnerRun:
        """What a run that has finished says of itself."""
        from maskwright.checkpoints import load_description
        from maskwright.tracking.manifest import Manifest, read_manifest

        scores = load_description(folder.model)["scores"]
        monitor = next(name for name in scores if name != "test")
        manifest = read_manifest(folder.manifest) if folder.manifest.is_file() else Manifest()
        epoch = None if manifest.best_record is None else manifest.best_record.epoch
        return InnerRun(
            folder, True, folder.record.load().get("reason"), scores[monitor], epoch, monitor, manifest.mode
        )

    def _ended(self, outcome: TrainOutcome) -> InnerRun:
        """What this attempt said of a training; the name of its score is known once it has finished."""
        told = {"evaluation": outcome.evaluation, "lines": outcome.lines}
        if outcome.finished:
            return replace(self._finished(outcome.folder), **told, best_epoch=outcome.best_epoch)  # type: ignore[arg-type]
        score, epoch = outcome.best_score, outcome.best_epoch
        return InnerRun(outcome.folder, False, outcome.stop_reason, score, epoch, "", "max", **told)  # type: ignore[arg-type]

    def _join_histories(self) -> None:
        """The epochs of all trainings so far in a row, each with the number of its training."""
        entries: list[dict[str, Any]] = []
        for number, name in enumerate(self._inner, 1):
            folder = next(iter(find_runs(self.folder.path, name)))
            before = len(entries)
            entries += [
                {**entry, "epoch": before + place, "part": number}
                for place, entry in enumerate(read_history(folder.history), 1)
            ]
        write_json(self.folder.history, entries)

    def _pass_on(self, done: threading.Event) -> None:
        """Until ``done``, hand commands sent to the outer run to the training inside that is at work."""
        outside = ControlFolder(self.folder.control)
        while not done.wait(_LOOK_EVERY_S):
            at_work = [run for run in find_runs(self.folder.path) if run.record.is_alive()]
            for command in outside.poll() if at_work else ():
                ControlFolder(at_work[0].control).send(command.kind, **command.values)
