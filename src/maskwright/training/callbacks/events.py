"""EventsCallback: rows of the event log, which every face reads."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from maskwright.tracking.events import EventLog
from maskwright.training.callback import Callback
from maskwright.training.state import Note, TrainState
from maskwright.training.updater import StepOutcome

__all__ = ["EventsCallback"]

_VALIDATION_EVERY_S = 1.0


class EventsCallback(Callback):
    """Writes the beginning and end of a run and of its epochs, steps, how far a validation is, and what others note.

    Notes are warnings, checkpoints, commands.

    Args:
        log: The event log of the run folder.
        every_steps: Updates from one step row to the next.
    """

    def __init__(self, log: EventLog, *, every_steps: int = 10) -> None:
        self.log = log
        self.every_steps = every_steps
        self._validated = 0  # batches of the validation at hand
        self._written_s = 0.0  # when its last row was written

    def on_train_begin(self, state: TrainState) -> None:
        self._write(
            "train_begin",
            state,
            epoch=state.epoch + 1,
            position=state.position,
            epochs=state.epochs,
            batches_per_epoch=state.batches_per_epoch,
            accumulate=state.updater.accumulate,
            precision=state.updater.precision,
            deterministic=torch.are_deterministic_algorithms_enabled(),
        )

    def on_epoch_begin(self, state: TrainState) -> None:
        self._write("epoch_begin", state, epoch=state.epoch + 1, position=state.position)

    def on_step_end(self, state: TrainState, outcome: StepOutcome) -> None:
        if outcome.stepped and state.global_step % self.every_steps != 0:
            return
        self._write(
            "step",
            state,
            epoch=state.epoch + 1,
            position=state.position,
            batches_per_epoch=state.batches_per_epoch,
            loss=outcome.loss,
            grad_norm=outcome.grad_norm,
            lr=state.lrs[0],
            images=state.images_per_step,
            stepped=outcome.stepped,
        )

    def on_validation_begin(self, state: TrainState) -> None:
        self._validated = 0
        self._write_validation(state)

    def on_validation_batch_end(self, state: TrainState) -> None:
        self._validated += 1
        if time.monotonic() - self._written_s >= _VALIDATION_EVERY_S or self._validated == state.validation_batches:
            self._write_validation(state)

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self._write("epoch", state, epoch=state.epoch, scores=dict(scores))

    def on_note(self, state: TrainState, note: Note) -> None:
        self._write(note.kind, state, **note.fields)

    def on_train_end(self, state: TrainState) -> None:
        best = {} if state.best is None else {"best_score": state.best.score, "best_epoch": state.best.epoch}
        reason = state.stop_reason or "all epochs are done"
        self._write("train_end", state, epoch=state.epoch, reason=reason, monitor=state.monitor.name, **best)

    def on_exception(self, state: TrainState, error: BaseException) -> None:
        message = f"{type(error).__name__}: {error}"
        self._write("error", state, epoch=state.epoch + 1, position=state.position, message=message)

    def _write_validation(self, state: TrainState) -> None:
        self._written_s = time.monotonic()
        self._write(
            "validation",
            state,
            epoch=state.epoch + 1,
            position=min(self._validated, state.validation_batches),  # more where memory ran short in the middle
            batches=state.validation_batches,
        )

    def _write(self, kind: str, state: TrainState, **fields: object) -> None:
        self.log.write(kind, global_step=state.global_step, **fields)
