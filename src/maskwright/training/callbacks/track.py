"""Track: hands what happens in a run to TensorBoard, MLflow and W&B. Resources: samples of machine and speed."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from maskwright.errors import RunError
from maskwright.files import read_json
from maskwright.tracking.folder import RunFolder
from maskwright.tracking.gpu import GpuSampler
from maskwright.tracking.system import SystemSampler
from maskwright.tracking.writers import Entry, Outcome, RunFacts, Tracker, Writer
from maskwright.training.callback import Callback
from maskwright.training.state import Note, TrainState
from maskwright.training.updater import StepOutcome
from maskwright.types import LossOutput

if TYPE_CHECKING:
    from maskwright.config.tracking import TrackingConfig

__all__ = ["Resources", "Track", "build_writers", "flat", "tracked"]

log = logging.getLogger("maskwright.training")

_PICTURES = {"epoch": "samples", "confusion": "confusion"}  # beginnings of names of files, and what they show
_FEW_SCORES = 50
_HURRY_S = 2.0  # who ended a run by force, or is shown an error, does not wait longer


class Track(Callback):
    """Hands steps, epochs, pictures and samples of resources to a tracker.

    Put it behind the callbacks that draw pictures.

    Args:
        tracker: Whom to tell.
        facts: The run; the step it begins at is filled in here.
        every_steps: Updates from one entry to the next inside an epoch.
    """

    def __init__(self, tracker: Tracker, facts: RunFacts, *, every_steps: int = 10) -> None:
        self.tracker = tracker
        self.facts = facts
        self.every_steps = every_steps
        self.global_step = facts.global_step
        self._shown: set[Path] = set()

    def on_train_begin(self, state: TrainState) -> None:
        self.global_step = state.global_step
        self._shown = set(self._pictures())  # those of former attempts
        self.tracker.start(replace(self.facts, global_step=state.global_step))

    def on_step_end(self, state: TrainState, outcome: StepOutcome) -> None:
        self.global_step = state.global_step
        if not outcome.stepped or state.global_step % self.every_steps:
            return
        rates = {f"lr/{index}": lr for index, lr in enumerate(state.lrs)}
        scalars = {"step/loss": outcome.loss, "step/grad_norm": outcome.grad_norm, **rates}
        self.tracker.log(Entry("step", state.global_step, scalars))
        self._pass_on_problems(state)

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        scalars = {**scores, "epoch": float(state.epoch)}
        self.tracker.log(Entry("epoch", state.global_step, scalars, self._new_pictures()))
        self._pass_on_problems(state)

    def on_note(self, state: TrainState, note: Note) -> None:
        if note.kind == "resources":
            scalars = {f"resources/{name}": float(value) for name, value in note.fields.items() if value is not None}
            self.tracker.log(Entry("resources", state.global_step, scalars))

    def _new_pictures(self) -> dict[str, Path]:
        """The newest of each kind that nobody was shown yet."""
        new = [path for path in self._pictures() if path not in self._shown]
        self._shown.update(new)
        return {_PICTURES[path.stem.partition("_")[0]]: path for path in new}

    def _pictures(self) -> list[Path]:
        folder = self.facts.folder.samples
        return sorted(path for kind in _PICTURES for path in folder.glob(f"{kind}_*.png"))

    def _pass_on_problems(self, state: TrainState) -> None:
        for problem in self.tracker.take_problems():
            state.note("warning", message=problem)


class Resources(Callback):
    """Notes a row ``resources`` every so often: processor, memory, disk, GPU, speed, waiting for data, time left.

    ``left_s`` counts the validations that are still to come, once one was seen.

    Args:
        folder: A folder on the disk whose free space counts.
        every_s: Seconds from one row to the next.
    """

    def __init__(self, folder: Path, *, every_s: float = 10.0) -> None:
        self.sampler = SystemSampler(folder)
        self.every_s = every_s
        self._gpu: GpuSampler | None = None
        self._idle_since_s: float | None = None
        self._paused_s: float | None = None
        self._validation_s = 0.0  # of all epochs so far, pictures included
        self._epochs = 0
        self._restart()

    def on_train_begin(self, state: TrainState) -> None:
        self._gpu = _gpu_of(state.device)
        self._restart()

    def on_epoch_begin(self, state: TrainState) -> None:
        self._idle_since_s = time.monotonic()

    def on_batch_begin(self, state: TrainState) -> None:
        if self._idle_since_s is not None:  # between two updates nothing is waited for but data
            self._waited_s += time.monotonic() - self._idle_since_s
            self._idle_since_s = None

    def on_batch_end(self, state: TrainState, loss: LossOutput) -> None:
        self._batches += 1

    def on_step_end(self, state: TrainState, outcome: StepOutcome) -> None:
        self._images += state.images_per_step
        now = time.monotonic()
        if now - self._since_s >= self.every_s:
            state.note("resources", **self._sample(state, now))
            self._restart()
        self._idle_since_s = time.monotonic()

    def on_validation_begin(self, state: TrainState) -> None:
        self._paused_s = time.monotonic()

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self._idle_since_s = None
        if self._paused_s is not None:  # speed is that of training
            pause_s = time.monotonic() - self._paused_s
            self._since_s += pause_s
            self._validation_s += pause_s
            self._paused_s = None
        self._epochs += 1

    def _restart(self) -> None:
        self._since_s = time.monotonic()
        self._waited_s = 0.0
        self._images = self._batches = 0
        self._idle_since_s = self._paused_s = None

    def _sample(self, state: TrainState, now: float) -> dict[str, float]:
        elapsed_s = max(now - self._since_s, 1e-9)
        left = (state.epochs - state.epoch) * state.batches_per_epoch - state.position
        batch_s = elapsed_s / max(self._batches, 1)
        facts = {
            "images_per_s": self._images / elapsed_s,
            "data_wait_share": min(self._waited_s / elapsed_s, 1.0),
            "epoch_s": batch_s * state.batches_per_epoch,
            "left_s": batch_s * left + self._validation_s / max(self._epochs, 1) * (state.epochs - state.epoch),
        }
        gpu = {} if self._gpu is None else self._gpu.sample()
        return {**self.sampler.sample(), **facts, **_gpu_memory(state.device), **gpu}


def build_writers(settings: TrackingConfig) -> list[Writer]:
    """Those the settings name; packages are looked for when the run begins."""
    from maskwright.tracking.writers_mlflow import MlflowWriter
    from maskwright.tracking.writers_tensorboard import TensorBoardWriter
    from maskwright.tracking.writers_wandb import WandbWriter

    writers: list[Writer] = [TensorBoardWriter()] if settings.tensorboard else []
    if settings.mlflow:
        writers.append(MlflowWriter(settings.mlflow_uri, settings.mlflow_experiment))
    if settings.wandb:
        writers.append(WandbWriter(settings.wandb_project, settings.wandb_entity))
    return writers


@contextmanager
def tracked(
    settings: TrackingConfig,
    folder: RunFolder,
    experiment: Mapping[str, Any],
    graph: Callable[[], Any] | None = None,
) -> Iterator[list[Callback]]:
    """The callbacks that follow a run; when the body ends, whatever it ended with, everybody is told how.

    Args:
        settings: Whom to tell.
        folder: The run folder; status, final scores and files are taken from it at the end.
        experiment: The settings of the run as plain values, nested.
        graph: Makes the graph of the network, for those who show it.
    """
    tracker = Tracker(build_writers(settings))
    facts = RunFacts(
        folder,
        folder.path.name,
        flat(experiment),
        folder.config.read_text("utf-8"),
        int(folder.record.load().get("attempt", 1)),
        graph=graph,
    )
    track = Track(tracker, facts, every_steps=settings.log_every_steps)
    try:
        yield [Resources(folder.path, every_s=settings.resources_every_s), track]
    finally:
        outcome = _outcome(folder, track.global_step)
        is_calm = outcome.status in ("finished", "stopped")
        patience_s = settings.finish_timeout_s if is_calm else min(settings.finish_timeout_s, _HURRY_S)
        tracker.finish(outcome, patience_s)
        for problem in tracker.take_problems():
            log.warning("%s", problem)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level with dotted names; lists stay values."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _outcome(folder: RunFolder, global_step: int) -> Outcome:
    strip, numbers = folder.samples / "strip.png", folder.path / "evaluation.json"
    files = (folder.config, folder.history, folder.report, numbers, strip, folder.model)
    try:
        status, scores = str(folder.record.load()["status"]), _final_scores(folder)
    except (
        RunError,
        KeyError,
        TypeError,
    ):  # the folder was deleted, or is damaged: the services are still told that it is over
        return Outcome("failed", global_step)
    kept = tuple(path for path in files if path.exists()) if status == "finished" else ()
    return Outcome(status, global_step, scores, kept)


def _final_scores(folder: RunFolder) -> dict[str, float]:
    """The scores of the model folder and those on the test part: ``test/iou@5m``."""
    if not (folder.path / "evaluation.json").is_file():
        return {}
    content = read_json(folder.path / "evaluation.json")
    name = content.get("score", "iou")
    rows = content.get("model", [])[:_FEW_SCORES]
    scores = {f"test/{name}@{str(row['column']).replace(' ', '')}": row["scores"].get(name) for row in rows}
    scores["test/mean"] = content.get("mean")
    return {key: float(value) for key, value in scores.items() if value is not None and math.isfinite(value)}


def _gpu_of(device: torch.device) -> GpuSampler | None:
    return GpuSampler(str(torch.cuda.get_device_properties(device).uuid)) if device.type == "cuda" else None


def _gpu_memory(device: torch.device) -> dict[str, float]:
    """What this process has of a GPU's memory."""
    if device.type != "cuda":
        return {}
    return {
        "gpu_memory_mb": torch.cuda.memory_allocated(device) / 2**20,
        "gpu_memory_most_mb": torch.cuda.max_memory_allocated(device) / 2**20,
    }
