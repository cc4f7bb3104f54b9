"""The training loop: fit, train_epoch and the order of everything, readable on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from maskwright.errors import TrainingError
from maskwright.tasks.interface import Task
from maskwright.training.callback import CallbackList
from maskwright.training.state import TrainState
from maskwright.training.updater import StepOutcome, StepUpdater
from maskwright.training.validation import validate
from maskwright.types import Batch, LossOutput

__all__ = ["EvalBatches", "TrainBatches", "fit", "groups_of", "train_epoch"]


class TrainBatches(Protocol):
    """A training loader: a batch is a function of the epoch and its position."""

    def __len__(self) -> int: ...

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]: ...


class EvalBatches(Protocol):
    """A loader without augmentation; the same batches every time."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


def fit(
    state: TrainState,
    task: Task,
    train_loader: TrainBatches,
    val_loader: EvalBatches | None,
    updater: StepUpdater,
    callbacks: CallbackList,
    *,
    epochs: int,
    validate_every: int = 1,
) -> None:
    """Train until ``epochs`` are completed or somebody asks to stop, from wherever ``state`` stands."""
    state.attach(callbacks)
    state.model.train()
    try:
        callbacks.on_train_begin(state)
        while state.epoch < epochs and state.stop_reason is None:
            callbacks.on_epoch_begin(state)
            scores = train_epoch(state, task, train_loader, updater, callbacks)
            number = state.epoch + 1
            if scores is not None and val_loader is not None and (number % validate_every == 0 or number == epochs):
                scores = _validated(state, task, val_loader, updater, callbacks, scores)
            if scores is None:  # stopped inside; a resumed run does the rest
                break
            state.finish_epoch(scores)
            callbacks.on_epoch_end(state, scores)
        callbacks.on_train_end(state)
    except BaseException as error:
        state.return_to_boundary()
        callbacks.on_exception(state, error)
        raise


def train_epoch(
    state: TrainState, task: Task, loader: TrainBatches, updater: StepUpdater, callbacks: CallbackList
) -> dict[str, float] | None:
    """The rest of an epoch. Returns its average losses, or None if it was stopped before its end."""
    state.images = 0
    batches = loader.batches(state.epoch, state.position) if state.position < len(loader) else iter(())
    for group in groups_of(batches, updater.accumulate):  # the last group may be shorter
        weights = task.loss_weights(group)
        state.begin_group(weights)
        for batch in group:
            callbacks.on_batch_begin(state)
            batch = batch.to(state.device)
            with updater.autocast():
                outputs = state.model(batch.image, batch.condition)
                loss = task.loss(outputs, batch, weights)
            updater.backward(loss.total)
            state.sums.add(loss, weights)
            callbacks.on_batch_end(state, loss)
            if state.stop_reason is not None:
                state.return_to_boundary()  # this group is done again after a resume
                return None
        outcome = updater.update(state.optimizer)
        _require_finite(state, updater, outcome, loss)
        state.end_group(len(group), sum(len(batch) for batch in group), stepped=outcome.stepped)
        callbacks.on_step_end(state, outcome)
        if state.stop_reason is not None:
            return None
    if state.position != len(loader):
        raise TrainingError(
            f"The loader promised {len(loader)} batches for epoch {state.epoch + 1} and gave {state.position}. "
            "Its length must be the number of batches it yields."
        )
    moving = {f"train/loss_weight/{name}": weight for name, weight in task.moving_weights.items()}
    return state.sums.averages("train", task.loss_terms) | moving


def groups_of(batches: Iterable[Batch], accumulate: int) -> Iterator[list[Batch]]:
    """Accumulation groups; the last may be shorter."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == accumulate:
            yield group
            group = []
    if group:
        yield group


def _validated(
    state: TrainState,
    task: Task,
    loader: EvalBatches,
    updater: StepUpdater,
    callbacks: CallbackList,
    scores: dict[str, float],
) -> dict[str, float] | None:
    def go_on() -> bool:
        callbacks.on_validation_batch_end(state)
        return state.stop_reason is None

    callbacks.on_validation_begin(state)
    found = validate(state.model, task, loader, device=state.device, autocast=updater.autocast, after_batch=go_on)
    if found is None:
        return None
    scores = scores | found
    callbacks.on_validation_end(state, scores)
    return scores


def _require_finite(state: TrainState, updater: StepUpdater, outcome: StepOutcome, loss: LossOutput) -> None:
    if outcome.finite:
        return
    terms = ", ".join(f"{name} {float(value):g}" for name, value in loss.terms.items())
    message = (
        f"Loss or gradient is not finite in epoch {state.epoch + 1}, step {state.global_step + 1} "
        f"(loss {outcome.loss:g}, {terms}, gradient norm {outcome.grad_norm:g})."
    )
    if updater.on_nonfinite == "stop":
        raise TrainingError(
            f"{message} Lower optim.optimizer.lr, set training.clip_norm, or look for bad values in the data."
        )
    state.note("warning", message=f"{message} The step was skipped, {updater.skipped} so far.")
