"""Checkpointing: when the state of a run is saved. What is kept of it is the store's business."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from maskwright.checkpoints import DividedStore, Writing, check_divided, check_plain
from maskwright.errors import CheckpointError
from maskwright.tracking.manifest import CheckpointKind, CheckpointRecord
from maskwright.training.callback import Callback
from maskwright.training.state import TrainState
from maskwright.training.updater import StepOutcome

__all__ = ["BestWeights", "Checkpointing", "Store"]


class Store(Protocol):
    """Where checkpoints go; CheckpointStore is one. Without ``background`` only ``save`` is called."""

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

    def save_later(
        self,
        state: Mapping[str, Any],
        *,
        epoch: int,
        position: int,
        global_step: int,
        scores: Mapping[str, float],
        kind: CheckpointKind,
    ) -> Writing[CheckpointRecord]: ...

    def prepare(self, state: Mapping[str, Any]) -> None: ...


class _Place(NamedTuple):
    """Where a run stands."""

    epoch: int
    position: int
    global_step: int


class Checkpointing(Callback):
    """Saves at the end of epochs, inside them, when asked, and when the run is stopped or fails.

    A checkpoint that cannot be written, for example because the disk is full, becomes a warning; the run goes on and
    the former checkpoints stay. Put it behind the callbacks whose state must be in the checkpoint.

    With ``background`` a checkpoint is copied, and written while training goes on; one at a time, so a save that is due
    before the last one is on disk waits for it and none is left out. It is told of once it is written, at the next
    update or batch of the validation. What is saved as the run ends is on disk before it ends.

    Where the state is divided among processes each has this callback with a DividedStore, and all save at the same
    points: at the ends of epochs and of updates, never in the background, and not when one of them fails.

    Args:
        store: Where checkpoints go.
        background: Write while training goes on; needs memory for one more copy of the state.
        every_epochs: Epochs from one checkpoint to the next; an epoch that is the best or the last is saved anyway.
        every_steps: Also save inside an epoch after so many updates.
        every_minutes: Also save inside an epoch when the last checkpoint is so old.
        description: Plain values saved with every checkpoint: what is needed to rebuild the model.
    """

    def __init__(
        self,
        store: Store,
        *,
        background: bool = False,
        every_epochs: int = 1,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.store = store
        self._is_divided = isinstance(store, DividedStore)
        self.background = background and not self._is_divided
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.description = dict(description or {})
        self._saved_at_s = time.monotonic()
        self._saved: _Place | None = None
        self._under_way: tuple[Writing[CheckpointRecord], _Place] | None = None
        self._is_prepared = not self.background

    def on_train_begin(self, state: TrainState) -> None:
        self._saved_at_s = time.monotonic()
        self._saved = _place(state)  # where its checkpoint was taken, or nothing has happened yet
        check = check_divided if self._is_divided else check_plain
        check(self._content(state))  # what cannot be saved must be known before the first epoch, not after

    def on_step_end(self, state: TrainState, outcome: StepOutcome) -> None:
        self._tell(state, wait=False)
        is_old = self._is_old()
        if is_old and self._is_divided:
            state.checkpoint_wanted = True  # all will know of it before the next update
        wanted = self._is_wanted(state) or (is_old and not self._is_divided)
        if self.every_steps is not None and outcome.stepped and state.global_step % self.every_steps == 0:
            wanted = True
        if not self._is_prepared:  # only now the optimizer has its state
            self._is_prepared = True
            self.store.prepare(self._content(state))
        if wanted:
            self._save(state, "step")

    def on_validation_batch_end(self, state: TrainState) -> None:
        self._tell(state, wait=False)
        if self._is_divided:
            return  # the processes have different numbers of batches
        if state.checkpoint_wanted and state.at_boundary:  # with averaged weights in place only the epoch's end is one
            self._save(state, "step")

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        is_best = state.best is not None and state.best.epoch == state.epoch
        is_last = state.epoch >= state.epochs or state.stop_reason is not None
        if is_best or is_last or self._is_wanted(state) or state.epoch % self.every_epochs == 0:
            self._save(state, "epoch", now=is_last)

    def on_train_end(self, state: TrainState) -> None:
        self._save(state, "epoch" if state.is_finished else "interrupted", now=True)

    def on_exception(self, state: TrainState, error: BaseException) -> None:
        if self._is_divided or not isinstance(error, Exception):
            return  # the others know nothing of it; or somebody wants to leave, and a write under way still ends well
        if state.at_boundary:
            self._save(state, "error", now=True)
        else:
            self._tell(state, wait=True)

    def _content(self, state: TrainState) -> dict[str, Any]:
        return state.state_dict() | {"description": self.description}

    def _is_wanted(self, state: TrainState) -> bool:
        """Whether somebody asked for a checkpoint, in all processes that save it."""
        return state.checkpoint_agreed if self._is_divided else state.checkpoint_wanted

    def _is_old(self) -> bool:
        return self.every_minutes is not None and time.monotonic() - self._saved_at_s >= 60 * self.every_minutes

    def _save(self, state: TrainState, kind: CheckpointKind, *, now: bool = False) -> None:
        self._tell(state, wait=True)
        place = _place(state)
        if self._saved == place and not self._is_wanted(state):
            return  # nothing has happened since
        state.checkpoint_wanted = state.checkpoint_agreed = False
        self._saved_at_s = time.monotonic()  # a disk that refuses is asked again after the same pause
        save = self.store.save_later if self.background and not now else self.store.save
        try:
            saved = save(
                self._content(state),
                **place._asdict(),
                scores=state.scores if state.position == 0 else {},
                kind=kind,
            )
        except CheckpointError as error:
            self._tell_refused(state, place, error)
            return
        if isinstance(saved, CheckpointRecord):
            self._tell_saved(state, place, saved)
        else:
            self._under_way = saved, place

    def _tell(self, state: TrainState, *, wait: bool) -> None:
        """Tell of the write in the background once it has ended."""
        if self._under_way is None or not (wait or self._under_way[0].is_done):
            return
        (writing, place), self._under_way = self._under_way, None
        try:
            self._tell_saved(state, place, writing.result())
        except CheckpointError as error:
            self._tell_refused(state, place, error)

    def _tell_saved(self, state: TrainState, place: _Place, record: CheckpointRecord) -> None:
        self._saved = place
        state.note("checkpoint", file=record.file, checkpoint_kind=record.kind, epoch=record.epoch, bytes=record.bytes)

    def _tell_refused(self, state: TrainState, place: _Place, error: CheckpointError) -> None:
        state.note("warning", message=f"No checkpoint was saved after {place.global_step} updates: {error}")


class BestWeights(Callback):
    """Keeps the weights of the best epoch in memory, for runs without a folder."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] | None = None

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        if state.best is not None and state.best.epoch == state.epoch:
            with torch.no_grad():
                self.weights = {name: value.to("cpu", copy=True) for name, value in state.weights().items()}


def _place(state: TrainState) -> _Place:
    return _Place(state.epoch, state.position, state.global_step)
