"""From batches to gradients: one batch at a time, or a whole group where its loss cannot be taken apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.tasks.interface import Task
from maskwright.training.memory import pieces
from maskwright.training.rewinding import Statistics, random_state, set_random_state
from maskwright.training.state import TrainState
from maskwright.types import Batch, LossOutput, Mixed

if TYPE_CHECKING:
    from maskwright.training.together import Together

__all__ = ["is_one_pass", "learn_from", "learn_together"]


def is_one_pass(state: TrainState, task: Task, group: Sequence[Batch]) -> bool:
    """Whether the losses of the pieces of a group, each computed by itself, add up to that of the group."""
    if task.loss_adds_up:
        return True
    if state.together is not None:
        return False
    most = state.micro_batch
    return len(group) == 1 and (most is None or most >= len(group[0]))


def learn_from(state: TrainState, task: Task, batch: Batch, weights: Mapping[str, Tensor]) -> LossOutput:
    """Add the gradients of a batch, in one pass or, where memory is short, in pieces that add up to it.

    Args:
        state: Inside an accumulation group.
        task: Its task.
        batch: Anywhere; it is moved to the device.
        weights: What the terms of the whole group are divided by.

    Returns:
        The loss of the batch; without gradient if it was computed in pieces.
    """
    parts = []
    for piece in pieces(batch.to(state.device), state.micro_batch):
        if not len(piece):  # a process whose share of a short last batch is nothing
            return _nothing(task, state.device)
        with state.updater.autocast():
            outputs = state.network(piece.image, piece.condition)
            loss = task.loss(outputs, piece, weights)
        state.updater.backward(loss.total)
        parts.append(loss)
    return parts[0] if len(parts) == 1 else _added(parts)


def learn_together(
    state: TrainState,
    task: Task,
    group: Sequence[Batch],
    weights: Mapping[str, Tensor],
    before_batch: Callable[[], None],
) -> LossOutput | None:
    """Add the gradients of a group whose loss is one over all its images, such as an overlap over the batch.

    The outputs of all batches come first, without what a backward pass needs; then the loss and its gradient by them;
    then each batch again, with its part of that gradient and the same random numbers. That is the gradient of one big
    batch, in the memory of a small one, for a third more time.

    Args:
        state: Inside an accumulation group.
        task: Its task.
        group: The batches; smaller images are filled up with pixels that do not count.
        weights: What the terms of the whole group are divided by.
        before_batch: Called before each batch.

    Returns:
        The loss of the group; None if the run was asked to stop inside.
    """
    if state.together is not None and len(group) == 1 and state.micro_batch is None:
        before_batch()
        return _learn_beside_others(state, state.together, task, group[0].to(state.device), weights)
    parts: list[Batch] = []
    drawn: list[dict[str, Tensor]] = []
    outputs: list[Tensor] = []
    statistics = Statistics(state.model)
    for batch in group:
        before_batch()
        for piece in pieces(batch.to(state.device), state.micro_batch) if len(batch) else ():
            drawn.append(random_state(state.device))
            with torch.no_grad(), state.updater.autocast():
                outputs.append(state.model(piece.image, piece.condition).clone())
            parts.append(piece)
        if state.stop_reason is not None:
            return None
    statistics.restore()
    said = [each.requires_grad_() for each in outputs]
    everything, truths = (said, parts) if state.together is None else state.together.with_others(said, parts)
    size = max(part.valid.shape[-2] for part in truths), max(part.valid.shape[-1] for part in truths)
    with state.updater.autocast():
        loss = task.loss(torch.cat([_grown(each, size) for each in everything]), _joined(truths, size), weights)
    state.updater.backward(loss.total)
    if state.together is not None:
        loss = state.together.count_once(state.updater, loss)
    for piece, random, each in zip(parts, drawn, said, strict=True):
        set_random_state(random, state.device)
        with state.updater.autocast():
            again = state.model(piece.image, piece.condition)
        again.backward(each.grad)
        if state.stop_reason is not None:
            return None
    return loss


def _learn_beside_others(
    state: TrainState, together: Together, task: Task, batch: Batch, weights: Mapping[str, Tensor]
) -> LossOutput:
    """The same in one pass where the group is one batch, divided among processes: each adds its part's gradient."""
    parts = [batch] if len(batch) else []
    with state.passing(last=True):
        with state.updater.autocast():
            outputs = [state.network(part.image, part.condition) for part in parts]
        everything, truths = together.with_others(outputs, parts)
        size = max(part.valid.shape[-2] for part in truths), max(part.valid.shape[-1] for part in truths)
        with state.updater.autocast():
            loss = task.loss(torch.cat([_grown(each, size) for each in everything]), _joined(truths, size), weights)
        if parts:
            state.updater.backward(loss.total)
    return together.count_once(state.updater, loss)


def _nothing(task: Task, device: torch.device) -> LossOutput:
    """The loss of no images."""
    zero = torch.zeros((), device=device)
    return LossOutput(zero, dict.fromkeys(task.loss_terms, zero))


def _added(parts: Sequence[LossOutput]) -> LossOutput:
    """The loss of a batch from those of its pieces."""
    total = torch.stack([part.total.detach() for part in parts]).sum()
    terms = {name: torch.stack([part.terms[name] for part in parts]).sum() for name in parts[0].terms}
    return LossOutput(total, terms)


def _joined(parts: Sequence[Batch], size: tuple[int, int]) -> Batch:
    """All samples as one batch, without their images: no loss looks at them."""
    first = parts[0]
    conditions = [part.condition for part in parts if part.condition is not None]
    return Batch(
        torch.cat([_grown(part.image[:, :0], size) for part in parts]),
        torch.cat([_grown(part.target, size) for part in parts]),
        torch.cat([_grown(part.valid, size) for part in parts]),
        torch.cat(conditions) if conditions else None,
        tuple(place for part in parts for place in part.where),
        None if first.instances is None else [each for part in parts for each in part.instances or ()],
        _joined_mix(parts, size),
    )


def _joined_mix(parts: Sequence[Batch], size: tuple[int, int]) -> Mixed | None:
    if all(part.mix is None for part in parts):
        return None
    mixes = [part.mix or Mixed(part.target, part.valid, part.valid.new_ones(len(part)).float()) for part in parts]
    return Mixed(
        torch.cat([_grown(mix.target, size) for mix in mixes]),
        torch.cat([_grown(mix.valid, size) for mix in mixes]),
        torch.cat([mix.share for mix in mixes]),
    )


def _grown(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., H, W) with rows and columns of zeros at the end, which are pixels that do not count."""
    rows, cols = size[0] - values.shape[-2], size[1] - values.shape[-1]
    return values if rows == cols == 0 else F.pad(values, (0, cols, 0, rows))
