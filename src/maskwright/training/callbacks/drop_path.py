"""DropPathSchedule: raises the rates at which branches are left out, from epoch to epoch."""

from __future__ import annotations

from maskwright.checkpoints import bare_model
from maskwright.models.droppath import DropPathScheduler
from maskwright.training.callback import Callback
from maskwright.training.state import TrainState

__all__ = ["DropPathSchedule"]


class DropPathSchedule(Callback):
    """Sets the rates at the beginning of each epoch; its number alone decides, so a resumed run goes on as before.

    Args:
        strategy: How they rise, see :class:`~maskwright.models.droppath.DropPathScheduler`.
        start: Share of the full rates in the first epoch, 0..1.
        until: Share of the epochs after which they are full.
    """

    def __init__(self, strategy: str = "linear", start: float = 0.0, until: float = 0.8) -> None:
        self.strategy = strategy
        self.start = start
        self.until = until
        self._scheduler: DropPathScheduler | None = None

    def on_train_begin(self, state: TrainState) -> None:
        self._scheduler = DropPathScheduler(
            bare_model(state.model), state.epochs, start=self.start, strategy=self.strategy, until=self.until
        )

    def on_epoch_begin(self, state: TrainState) -> None:
        assert self._scheduler is not None  # a run begins before its epochs
        self._scheduler.step(state.epoch)
