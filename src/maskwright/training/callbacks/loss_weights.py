"""LossWeights: moves the factors of the loss after each epoch, by its schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from maskwright.training.callback import Callback
from maskwright.training.state import TrainState

if TYPE_CHECKING:
    from maskwright.losses import LossScheduler

__all__ = ["LossWeights"]


class LossWeights(Callback):
    """Steps a loss schedule with the scores of the epoch; its state is saved, so a resumed run goes on with it.

    The factors an epoch was trained with stand in its scores as ``train/loss_weight/dice``.

    Args:
        schedule: The schedule of the task's loss.
    """

    def __init__(self, schedule: LossScheduler) -> None:
        self.schedule = schedule

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self.schedule.step(state.epoch - 1, scores)

    def state_dict(self) -> dict[str, Any]:
        return self.schedule.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.schedule.load_state_dict(state)
