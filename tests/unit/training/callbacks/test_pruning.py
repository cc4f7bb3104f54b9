"""Pruning: what a search is told of each epoch, and how a run it gives up comes to its end."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

from maskwright.training import TrainState
from maskwright.training.callbacks import Pruning
from maskwright.training.monitor import Monitor


def state(*, epoch: int = 1, finished: bool = False) -> Any:
    made = SimpleNamespace(epoch=epoch, is_finished=finished, stop_reason=None, monitor=Monitor("val/iou", "max"))
    made.request_stop = lambda reason: setattr(made, "stop_reason", reason)
    return made


def watch(told: list[tuple[int, float]], verdict: bool) -> Pruning:
    def judge(epoch: int, score: float) -> bool:
        told.append((epoch, score))
        return verdict

    return Pruning(judge)


def test_every_validated_epoch_is_told_with_its_number_and_score() -> None:
    told: list[tuple[int, float]] = []
    pruning = watch(told, verdict=False)

    for epoch, scores in enumerate(({"val/iou": 0.3}, {"train/loss": 1.0}, {"val/iou": math.nan}, {"val/iou": 0.4}), 1):
        pruning.on_epoch_end(cast(TrainState, state(epoch=epoch)), scores)

    assert told == [(1, 0.3), (4, 0.4)]
    assert not pruning.gave_up


def test_a_run_that_is_given_up_stops_so_that_it_could_be_resumed() -> None:
    run = state(epoch=3)
    pruning = watch([], verdict=True)

    pruning.on_epoch_end(run, {"val/iou": 0.25})

    assert run.stop_reason == "given up by the search: val/iou 0.2500 in epoch 3"
    assert pruning.gave_up


def test_a_run_that_is_at_its_end_is_told_and_not_given_up() -> None:
    told: list[tuple[int, float]] = []
    run = state(epoch=5, finished=True)
    pruning = watch(told, verdict=True)

    pruning.on_epoch_end(run, {"val/iou": 0.25})

    assert told == [(5, 0.25)]
    assert run.stop_reason is None
    assert not pruning.gave_up


def test_a_run_stops_between_two_batches_when_the_time_is_over() -> None:
    now = [0.0]
    run = state()
    pruning = Pruning(lambda epoch, score: False, ends_s=60.0, clock=lambda: now[0])

    pruning.on_batch_begin(run)
    assert run.stop_reason is None

    now[0] = 60.0
    pruning.on_validation_batch_end(run)
    assert run.stop_reason == "the minutes of the search are over"
    assert not pruning.gave_up
