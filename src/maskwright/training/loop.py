"""The training loop: fit, train_epoch and the order of everything, readable on one screen."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from maskwright.checkpoints import bare_model
from maskwright.data.loaders import explain_workers
from maskwright.errors import TrainingError
from maskwright.models import forgets_inside
from maskwright.tasks.interface import Task
from maskwright.training.averages import LossSums
from maskwright.training.callback import CallbackList
from maskwright.training.learning import is_one_pass, learn_from, learn_together
from maskwright.training.memory import clear_cache, is_out_of_memory, out_of_memory_advice, pieces
from maskwright.training.nonfinite import find_culprit
from maskwright.training.state import TrainState
from maskwright.training.together import ShortElsewhereError
from maskwright.training.updater import StepOutcome, StepUpdater
from maskwright.training.validation import scores_of, walk
from maskwright.types import Batch

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
        while state.epoch < epochs and not state.must_stop():
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
        explained = explain_workers(error)  # torch tells of a dead one wherever the process is at that moment
        if explained is not None:
            raise explained from error
        raise


def train_epoch(
    state: TrainState, task: Task, loader: TrainBatches, updater: StepUpdater, callbacks: CallbackList
) -> dict[str, float] | None:
    """The rest of an epoch. Returns its average losses, or None if it was stopped before its end."""
    state.images = 0
    state.remember()
    for group in _groups_left(state, loader, updater.accumulate):
        weights = state.weights_of_all(task.loss_weights(group), group)  # valid pixels and samples of the whole group
        outcome = _update(state, task, group, weights, updater, callbacks)
        if outcome is None:
            return None
        if outcome.finite or _passes(state, task, group, weights, outcome):
            state.end_group(len(group), state.images_of(group), stepped=outcome.stepped)
        callbacks.on_step_end(state, outcome)
        if state.must_stop():
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


def _groups_left(state: TrainState, loader: TrainBatches, accumulate: int) -> Iterator[list[Batch]]:
    """The groups of the epoch behind the present position; the last may be shorter.

    When the state goes back to the beginning of the epoch, so do the batches.
    """
    while state.position < len(loader):
        for group in groups_of(loader.batches(state.epoch, state.position), accumulate):
            after = state.position + len(group)
            yield group
            if state.position != after:
                break
        else:
            return


def _update(
    state: TrainState,
    task: Task,
    group: Sequence[Batch],
    weights: Mapping[str, Tensor],
    updater: StepUpdater,
    callbacks: CallbackList,
) -> StepOutcome | None:
    """One update from the batches of a group; None if it was stopped inside and is to be done again after a resume."""
    while True:
        batch = group[0]
        try:
            state.begin_group(weights)
            if is_one_pass(state, task, group):
                for number, batch in enumerate(group, 1):
                    callbacks.on_batch_begin(state)
                    with state.passing(last=number == len(group)):
                        loss = learn_from(state, task, batch, weights)
                    state.sums.add(loss, weights)
                    callbacks.on_batch_end(state, loss)
                    if state.stop_reason is not None:
                        break
            else:
                whole = learn_together(state, task, group, weights, lambda: callbacks.on_batch_begin(state))
                if whole is not None:
                    state.sums.add(whole, weights)
                    for _ in group:
                        callbacks.on_batch_end(state, whole)
            if state.stop_reason is not None:
                state.return_to_boundary()
                return None
            state.meet()
            return updater.update(state.optimizer)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            _make_room(state, batch.image, "training", error)
        gc.collect()  # here, since the exception holds on to all that the failed pass had computed
        clear_cache(state.device)


def _make_room(state: TrainState, images: Tensor, doing: str, error: BaseException) -> None:
    """Halve what is computed at once, and note it; an error with advice where that is not wanted or not possible."""
    automatic = state.recovery.out_of_memory == "smaller"
    now = min(state.micro_batch or len(images), len(images))
    if state.together is not None and automatic:  # all go on with the same
        now = error.at_once if isinstance(error, ShortElsewhereError) else state.together.tell_short(now)
    can_go_on = state.return_to_boundary()
    if not automatic or now == 1 or not can_go_on:
        advice = out_of_memory_advice(
            images,
            device=state.device,
            at_once=now,
            accumulate=state.updater.accumulate,
            automatic=automatic,
            checkpointing=forgets_inside(bare_model(state.model)),
            doing=doing,
        )
        raise TrainingError(advice) from error
    state.micro_batch = now // 2
    state.checkpoint_wanted = True  # a resumed run goes on with as much as this one
    state.note(
        "warning",
        message=f"Out of memory in {doing} with {now} images at once: from here on {state.micro_batch} are computed at "
        "once. Updates are the same as before, except for networks with batch norm, whose statistics are those of the "
        "pieces.",
    )


def _validated(
    state: TrainState,
    task: Task,
    loader: EvalBatches,
    updater: StepUpdater,
    callbacks: CallbackList,
    scores: dict[str, float],
) -> dict[str, float] | None:
    seen: list[Batch] = []  # the batch at hand

    def watched() -> Iterator[Batch]:
        for batch in loader if state.together is None else state.together.rounds(loader, state):
            seen[:] = [batch]
            yield from pieces(batch, state.micro_batch)

    def go_on() -> bool:
        callbacks.on_validation_batch_end(state)
        return state.stop_reason is None

    state.validation_batches = len(loader)
    callbacks.on_validation_begin(state)
    while True:
        sums, meter = LossSums(task.loss_terms, keep_rows=state.together is not None), task.meters()
        try:
            with state.predicting():
                is_whole = walk(
                    state.model,
                    task,
                    watched(),
                    sums,
                    meter,
                    device=state.device,
                    autocast=updater.autocast,
                    after_batch=go_on,
                )
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not seen:
                raise
            _make_room(state, seen[0].image, "validation", error)
        gc.collect()
        clear_cache(state.device)
    if not is_whole or state.stop_reason is not None:
        return None
    if state.together is not None:
        sums, meter = state.together.merged(sums, meter, task)
    state.meter = meter
    scores = scores | scores_of(sums, meter, "val")
    callbacks.on_validation_end(state, scores)
    return scores


def _passes(
    state: TrainState, task: Task, group: Sequence[Batch], weights: Mapping[str, Tensor], outcome: StepOutcome
) -> bool:
    """What comes of an update that was not taken because a number was not finite, by the policy of the run.

    Returns:
        True if the group is to be passed over, False if the state went back to the beginning of the epoch.

    Raises:
        TrainingError: If the run is to stop, or went back as often as it may.
    """
    state.return_to_boundary()
    message = (
        f"Loss or gradient is not finite in epoch {state.epoch + 1}, step {state.global_step + 1} "
        f"(loss {outcome.loss:g}, gradient norm {outcome.grad_norm:g}): {_told_culprit(state, task, group, weights)}."
    )
    policy = state.recovery.on_nonfinite
    if policy == "stop":
        raise TrainingError(
            f"{message} Lower optim.optimizer.lr, set training.clip_norm, look for bad values in the data, or set "
            "training.on_nonfinite: skip or restore."
        )
    if policy == "skip":
        state.note("warning", message=f"{message} The step was skipped, {state.updater.skipped} so far.")
        return True
    try:
        state.go_back()
    except TrainingError as error:
        raise TrainingError(f"{message} {error}") from error
    state.note(
        "warning",
        message=f"{message} The state of the beginning of the epoch was restored, {state.restored} of "
        f"{state.recovery.restore_times} times; the learning rate is {state.lrs[0]:g} now.",
    )
    return False


def _told_culprit(state: TrainState, task: Task, group: Sequence[Batch], weights: Mapping[str, Tensor]) -> str:
    """Which term of which sample it comes from, in words."""
    if state.shards is not None:
        return "no sample is looked at alone while the network is divided (training.strategy: fsdp)"
    culprit = find_culprit(state, task, group, weights)
    if state.together is not None:
        culprit = state.together.first(culprit)
    return str(culprit or "no sample of it shows it again, so it comes from the statistics of the whole batch")
