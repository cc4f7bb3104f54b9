"""Numbers that are not finite: which term of which sample they come from first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.checkpoints import bare_model
from maskwright.tasks.interface import Task
from maskwright.training.memory import pieces
from maskwright.training.rewinding import random_state, set_random_state
from maskwright.training.state import TrainState
from maskwright.training.validation import evaluation_mode
from maskwright.types import Batch, Place

__all__ = ["Culprit", "find_culprit"]


@dataclass(frozen=True, slots=True)
class Culprit:
    """The first number that is not finite.

    Attributes:
        what: ``its image``, ``its target``, ``the term bce`` or ``the gradient of encoder.conv.weight``.
        where: The samples that show it: one that does so alone, else all of the batch.
        alone: Whether it is one sample that shows it by itself.
    """

    what: str
    where: tuple[Place, ...]
    alone: bool

    def __str__(self) -> str:
        if not self.alone:
            return f"first in {self.what}; no sample shows it alone, the batch holds {_names(self.where)}"
        return f"first in {self.what}, for {_names(self.where)}"


def find_culprit(
    state: TrainState, task: Task, group: Sequence[Batch], weights: Mapping[str, Tensor]
) -> Culprit | None:
    """Look at the samples of an accumulation group one by one, then at its batches, in their order.

    Nothing is moved: modules are in evaluation mode, gradients are discarded, random numbers are as before.

    Args:
        state: Between two updates, with the weights the group was computed with.
        task: Its task.
        group: The batches.
        weights: What the terms of the group were divided by.

    Returns:
        None if everything is finite by now, as where only the statistics of the whole batch were not.
    """
    drawn = random_state(state.device)
    try:
        with evaluation_mode(state.model):
            for batch, alone in (*_each(group, 1), *_each(group, state.micro_batch)):
                what = _first_nonfinite(state, task, batch.to(state.device), weights)
                if what is not None:
                    return Culprit(what, batch.where, alone)
        return None
    finally:
        state.updater.discard(state.optimizer)
        set_random_state(drawn, state.device)


def _each(group: Sequence[Batch], most: int | None) -> Iterator[tuple[Batch, bool]]:
    for batch in filter(len, group):
        for piece in pieces(batch, most):
            yield piece, len(piece) == 1


def _first_nonfinite(state: TrainState, task: Task, batch: Batch, weights: Mapping[str, Tensor]) -> str | None:
    state.updater.discard(state.optimizer)
    if not bool(torch.isfinite(batch.image).all()):
        return "its image" if len(batch) == 1 else "the images"
    if batch.target.is_floating_point() and not bool(torch.isfinite(batch.target[batch.valid]).all()):
        return "its target" if len(batch) == 1 else "the targets"
    with state.updater.autocast():
        outputs = state.model(batch.image, batch.condition)
        loss = task.loss(outputs, batch, weights)
    for name, value in loss.terms.items():
        if not bool(torch.isfinite(value)):
            return f"the term {name}"
    if not bool(torch.isfinite(loss.total)):
        return "the sum of the terms"
    loss.total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in bare_model(state.model).named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return f"the gradient of {name}"
    return None


def _names(places: Sequence[Place]) -> str:
    return ", ".join(
        f"{place.scene} (row {place.window.row}, column {place.window.col}, "
        f"{place.window.height} x {place.window.width} px)"
        for place in places
    )
