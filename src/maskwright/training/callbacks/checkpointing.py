"""Checkpointing: when the state of a run is saved. What is kept of it is the store's business."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from maskwright.checkpoints import bare_model, check_plain
from maskwright.errors import CheckpointError
from maskwright.tracking.manifest import CheckpointKind, CheckpointRecord
from maskwright.training.callback import Callback
from maskwright.training.state import TrainState
from maskwright.training.updater import StepOutcome

__all__ = ["BestWeights", "Checkpointing", "Store"]


class Store(Protocol):
    """Where checkpoints go; CheckpointStore is one."""

    def save(
        self,
        state: Mapping[str, Any],
        *,
        epoch: int,
        position: int,
        global_step: int,
        scores: Mapping[str, float],
        kind: CheckpointKind,
    ) -> CheckpointRecord: ...


class Checkpointing(Callback):
    """Saves at the end of epochs, inside them, when asked, and when the run is stopped or fails.

    A checkpoint that cannot be written, for example because the disk is full, becomes a warning; the run goes on and
    the former checkpoints stay. Put it behind the callbacks whose state must be in the checkpoint.

    Args:
        store: Where checkpoints go.
        every_epochs: Epochs from one checkpoint to the next; an epoch that is the best or the last is saved anyway.
        every_steps: Also save inside an epoch after so many updates.
        every_minutes: Also save inside an epoch when the last checkpoint is so old.
        description: Plain values saved with every checkpoint: what is needed to rebuild the model.
    """

    def __init__(
        self,
        store: Store,
        *,
        every_epochs: int = 1,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.store = store
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.description = dict(description or {})
        self._saved_at_s = time.monotonic()
        self._saved: tuple[int, int, int] | None = None

    def on_train_begin(self, state: TrainState) -> None:
        self._saved_at_s = time.monotonic()
        self._saved = _place(state)  # where its checkpoint was taken, or nothing has happened yet
        check_plain(self._content(state))  # what cannot be saved must be known before the first epoch, not after

    def on_step_end(self, state: TrainState, outcome: StepOutcome) -> None:
        wanted = state.checkpoint_wanted or self._is_old()
        if self.every_steps is not None and outcome.stepped and state.global_step % self.every_steps == 0:
            wanted = True
        if wanted:
            self._save(state, "step")

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        is_best = state.best is not None and state.best.epoch == state.epoch
        is_last = state.epoch >= state.epochs or state.stop_reason is not None
        if is_best or is_last or state.checkpoint_wanted or state.epoch % self.every_epochs == 0:
            self._save(state, "epoch")

    def on_train_end(self, state: TrainState) -> None:
        self._save(state, "epoch" if state.is_finished else "interrupted")

    def on_exception(self, state: TrainState, error: BaseException) -> None:
        if isinstance(error, Exception) and state.at_boundary:
            self._save(state, "error")

    def _content(self, state: TrainState) -> dict[str, Any]:
        return state.state_dict() | {"description": self.description}

    def _is_old(self) -> bool:
        return self.every_minutes is not None and time.monotonic() - self._saved_at_s >= 60 * self.every_minutes

    def _save(self, state: TrainState, kind: CheckpointKind) -> None:
        if self._saved == _place(state) and not state.checkpoint_wanted:
            return  # nothing has happened since
        state.checkpoint_wanted = False
        self._saved_at_s = time.monotonic()  # a disk that refuses is asked again after the same pause
        try:
            record = self.store.save(
                self._content(state),
                epoch=state.epoch,
                position=state.position,
                global_step=state.global_step,
                scores=state.scores if state.position == 0 else {},
                kind=kind,
            )
        except CheckpointError as error:
            state.note("warning", message=f"No checkpoint was saved after {state.global_step} updates: {error}")
            return
        self._saved = _place(state)
        state.note("checkpoint", file=record.file, checkpoint_kind=kind, epoch=state.epoch, bytes=record.bytes)


class BestWeights(Callback):
    """Keeps the weights of the best epoch in memory, for runs without a folder."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] | None = None

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        if state.best is not None and state.best.epoch == state.epoch:
            with torch.no_grad():
                weights = bare_model(state.model).state_dict()
                self.weights = {name: value.to("cpu", copy=True) for name, value in weights.items()}


def _place(state: TrainState) -> tuple[int, int, int]:
    return state.epoch, state.position, state.global_step
