"""Rehearsal: train a little and leave no trace, to learn how fast or how well a run would go."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Generator, Iterator

from maskwright.errors import TrainingError
from maskwright.tasks.interface import Task
from maskwright.training.learning import is_one_pass, learn_from, learn_together
from maskwright.training.loop import TrainBatches, groups_of
from maskwright.training.rewinding import random_state, set_random_state
from maskwright.training.state import TrainState
from maskwright.training.updater import StepOutcome
from maskwright.types import Batch

__all__ = ["groups_forever", "rehearsal", "rehearse_update"]


@contextlib.contextmanager
def rehearsal(state: TrainState) -> Iterator[None]:
    """Inside, weights, optimizer and random numbers may move; afterwards all are back, bit for bit.

    Raises:
        TrainingError: If the run stands between two updates of a group.
    """
    if not state.at_boundary:
        raise TrainingError("A rehearsal begins between two updates, not inside an accumulation group.")
    modules = [state.model] if state.loss_module is None else [state.model, state.loss_module]
    weights = [copy.deepcopy(module.state_dict()) for module in modules]
    modes = [(module, module.training) for module in state.model.modules()]
    optimizer, updater = copy.deepcopy(state.optimizer.state_dict()), copy.deepcopy(state.updater.state_dict())
    drawn = random_state(state.device)
    state.model.train()
    try:
        yield
    finally:
        state.updater.discard(state.optimizer)
        for module, kept in zip(modules, weights, strict=True):
            module.load_state_dict(kept)
        for module, training in modes:
            module.training = training
        state.optimizer.load_state_dict(optimizer)
        state.updater.load_state_dict(updater)
        set_random_state(drawn, state.device)


def groups_forever(loader: TrainBatches, accumulate: int) -> Generator[list[Batch], None, None]:
    """Accumulation groups of one epoch after the other."""
    for epoch in itertools.count():
        yield from groups_of(loader.batches(epoch), accumulate)


def rehearse_update(state: TrainState, task: Task, group: list[Batch]) -> StepOutcome:
    """One update as the loop makes it, without counting it."""
    weights = state.weights_of_all(task.loss_weights(group), group)
    if is_one_pass(state, task, group):
        for number, batch in enumerate(group, 1):
            with state.passing(last=number == len(group)):
                learn_from(state, task, batch, weights)
    else:
        learn_together(state, task, group, weights, lambda: None)
    state.meet()
    return state.updater.update(state.optimizer)
