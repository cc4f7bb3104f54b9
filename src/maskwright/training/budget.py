"""A run that must end in time: its speed, measured without leaving a trace, and the epochs that fit into the minutes.

The plan is made once, before the first epoch, and kept: a run with a budget is the run with that many epochs of that
many updates, and resumes like it. An epoch is then what lies between two looks at the validation part, be it less than
a pass over the training tiles or several.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from maskwright.distributed import largest
from maskwright.errors import ConfigError
from maskwright.tasks.interface import Task
from maskwright.training.loop import EvalBatches, TrainBatches
from maskwright.training.rehearsal import groups_forever, rehearsal, rehearse_update
from maskwright.training.state import TrainState
from maskwright.training.validation import validate

__all__ = ["BudgetPlan", "Speed", "measure_speed", "plan_epochs"]

_WARMUP_UPDATES = 3  # caches, compilation, workers that start
_UPDATES = 10  # at least, and so many more as take _LEAST_S: fractions of a second are no measure of minutes
_LEAST_S = 5.0
_VALIDATION_BATCHES = 4
_LONGEST_S = 60.0
_SAFETY = 0.9  # share of the time that is planned; the rest is for checkpoints, pictures and a slower hour
_FINAL_PASSES = 2.0  # the final numbers cost more than a plain validation: curves, intervals, pictures
_FINAL_S = 5.0
_LEAST_EPOCHS = 8  # fewer show no course and leave little to choose the best from
_ENOUGH_EPOCHS = 50  # more show no more where they are short; from _LONG_S on each pass is saved and shown
_LONG_S = 60.0
_VALIDATING = 0.2  # largest share of the time that goes to validation
_EPOCH_S = 0.25  # of an epoch beside updates and validation: checkpoint, pictures, page
_LEAST_UPDATES = 10  # fewer teach nothing


@dataclass(frozen=True, slots=True)
class Speed:
    """Measured seconds.

    Attributes:
        update_s: An update, with its batches loaded.
        validation_batch_s: A batch of validation; 0 if there is none.
    """

    update_s: float
    validation_batch_s: float


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """How a run fills its minutes.

    Attributes:
        minutes: What was given.
        epochs: Into how many parts the time for training is divided, each followed by a validation where one is due.
        updates_per_epoch: Updates in each.
        update_s: Measured seconds of an update.
        validation_s: Seconds of a validation.
        final_s: Seconds kept for the final numbers.
        spent_s: Seconds that had passed before the first epoch.
    """

    minutes: float
    epochs: int
    updates_per_epoch: int
    update_s: float
    validation_s: float
    final_s: float
    spent_s: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.minutes:g} minutes hold {self.epochs} epochs of {self.updates_per_epoch} updates: "
            f"{self.update_s:.2g} s an update, {self.validation_s:.2g} s a validation, {self.final_s:.0f} s for the "
            "final numbers."
        )


def measure_speed(
    state: TrainState,
    task: Task,
    train_loader: TrainBatches,
    val_loader: EvalBatches | None,
    *,
    longest_s: float = _LONGEST_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time updates for seconds after a warm-up, and a few batches of validation; the state stays as it is, bit for bit.

    Args:
        state: A fresh run.
        task: Its task.
        train_loader: Its training batches.
        val_loader: Its validation batches.
        longest_s: Seconds after which one timed update is enough, 60 at most.
        clock: Seconds; another one in tests.
    """
    began = clock()
    times: list[float] = []
    with rehearsal(state), closing(groups_forever(train_loader, state.updater.accumulate)) as groups:
        is_enough = False
        while not is_enough:
            start = clock()
            rehearse_update(state, task, next(groups))  # waits for the device, to learn the loss
            times.append(clock() - start)
            timed, passed_s = len(times) - _WARMUP_UPDATES, clock() - began
            settled = timed >= _UPDATES and passed_s >= _LEAST_S
            is_enough = timed > 0 and bool(largest(int(settled or passed_s > min(longest_s, _LONGEST_S))))
        update_s = fmean(times[_WARMUP_UPDATES:])
        return Speed(update_s, 0.0 if val_loader is None else _validation_batch_s(state, task, val_loader, clock))


def plan_epochs(
    minutes: float,
    speed: Speed,
    *,
    spent_s: float,
    updates_per_pass: int,
    validation_batches: int,
    final_batches: int,
    validate_every: int = 1,
) -> BudgetPlan:
    """As many updates as surely fit, in epochs of about a pass over the data; of a part, or of several, where passes
    are long or short beside the minutes.

    Args:
        minutes: The whole time, from the start of the run to its last line.
        speed: What was measured.
        spent_s: Seconds that have passed already.
        updates_per_pass: Updates in a pass over the training tiles.
        validation_batches: Batches of a validation.
        final_batches: Batches of the final evaluation.
        validate_every: Epochs from one validation to the next.

    Raises:
        ConfigError: If not even a few updates fit; says how many minutes they need.
    """
    validation_s = validation_batches * speed.validation_batch_s
    final_s = _FINAL_S + _FINAL_PASSES * final_batches * speed.validation_batch_s
    time_s = (60 * minutes - spent_s) * _SAFETY - final_s  # for updates and validations

    least = min(updates_per_pass, _LEAST_UPDATES)
    if (least_s := least * speed.update_s + validation_s + _EPOCH_S) > time_s:
        needed_s = spent_s + (least_s + final_s) / _SAFETY
        raise ConfigError(
            f"training.budget: {minutes:g} minutes do not hold {least} updates at {speed.update_s:.2g} s and the "
            f"validation of {validation_s:.2g} s. Give {math.ceil(needed_s / 6) / 10:g} minutes or more, or make the "
            "model or the tiles smaller."
        )
    passes = math.ceil(time_s / (updates_per_pass * speed.update_s + validation_s + _EPOCH_S))
    most = max(_ENOUGH_EPOCHS, int(time_s / _LONG_S))
    if validation_s > 0:
        most = min(most, max(1, int(_VALIDATING * time_s / validation_s)) * validate_every)
    epochs = min(max(passes, _LEAST_EPOCHS), most)

    def updates_in(epochs: int) -> int:
        left_s = time_s - math.ceil(epochs / validate_every) * validation_s - epochs * _EPOCH_S
        return int(left_s / (epochs * speed.update_s))

    while epochs > 1 and updates_in(epochs) < 1:
        epochs -= 1
    return BudgetPlan(minutes, epochs, updates_in(epochs), speed.update_s, validation_s, final_s, spent_s)


def _validation_batch_s(state: TrainState, task: Task, loader: EvalBatches, clock: Callable[[], float]) -> float:
    marks = [clock()]

    def go_on() -> bool:
        marks.append(clock())
        return len(marks) <= _VALIDATION_BATCHES

    validate(state.model, task, loader, device=state.device, autocast=state.updater.autocast, after_batch=go_on)
    return median(after - before for before, after in itertools.pairwise(marks))
