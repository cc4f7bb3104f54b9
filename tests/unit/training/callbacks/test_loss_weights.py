"""A loss schedule as a watcher of the run."""

from __future__ import annotations

from typing import Any

import pytest

from maskwright.losses import CombinedLoss, LossScheduler
from maskwright.training import LossWeights

Toy = Any


def schedule() -> LossScheduler:
    return LossScheduler(CombinedLoss({"bce": 0.3, "dice": 0.7}), "adaptive", monitor="val/iou")


def test_each_epoch_moves_the_weights_by_its_own_score(toy: Toy) -> None:
    callback, state = LossWeights(schedule()), toy.state()
    seen = []
    for score in (0.9, 0.9, 0.5, float("nan"), 0.1):
        state.finish_epoch({"val/iou": score})
        callback.on_epoch_end(state, {"val/iou": score})
        seen.append(callback.schedule.loss.weights["dice"])
    assert seen == pytest.approx([0.77, 0.847, 0.847, 0.847, 0.7623])
    assert [row["epoch"] for row in callback.schedule.history] == [0, 1, 2, 3, 4]


def test_a_resumed_run_goes_on_with_the_weights_it_had(toy: Toy) -> None:
    first, state = LossWeights(schedule()), toy.state()
    state.finish_epoch({})
    first.on_epoch_end(state, {"val/iou": 0.9})
    second = LossWeights(schedule())
    second.load_state_dict(first.state_dict())
    assert second.schedule.loss.weights == first.schedule.loss.weights
    assert second.state_dict() == first.state_dict()
