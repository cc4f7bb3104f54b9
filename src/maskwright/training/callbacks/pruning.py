"""Pruning: tell a search the score of each epoch, and end the run when the search gives it up or its time is over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from maskwright.training.callback import Callback
from maskwright.training.state import TrainState

__all__ = ["Pruning"]


class Pruning(Callback):
    """Asks after every validated epoch whether the run is worth going on with.

    Args:
        judge: Called with the number of the epoch, from 1, and its monitored score; True gives the run up.
        ends_s: The time, by ``clock``, at which the run is to stop and be continued some other day; None: none.
        clock: Seconds.

    Attributes:
        gave_up: Whether the search gave this run up.
    """

    def __init__(
        self,
        judge: Callable[[int, float], bool],
        *,
        ends_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.judge, self.ends_s, self.clock = judge, ends_s, clock
        self.gave_up = False

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        score = float(scores.get(state.monitor.name, math.nan))
        if math.isnan(score):  # not validated, or without a value
            return
        if self.judge(state.epoch, score) and not state.is_finished and state.stop_reason is None:
            self.gave_up = True
            state.request_stop(f"given up by the search: {state.monitor.name} {score:.4f} in epoch {state.epoch}")

    def on_batch_begin(self, state: TrainState) -> None:
        self._look_at_the_clock(state)

    def on_validation_batch_end(self, state: TrainState) -> None:
        self._look_at_the_clock(state)

    def _look_at_the_clock(self, state: TrainState) -> None:
        if self.ends_s is not None and self.clock() >= self.ends_s:
            state.request_stop("the minutes of the search are over")
