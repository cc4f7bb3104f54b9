"""LearningRate: gives scores to schedules that wait for them, and tells what a schedule has to say."""

from __future__ import annotations

from collections.abc import Mapping

from maskwright.optim import ScoreSchedule
from maskwright.training.callback import Callback
from maskwright.training.monitor import Monitor
from maskwright.training.state import TrainState

__all__ = ["LearningRate"]


class LearningRate(Callback):
    """After each validated epoch shows its score to the schedule, if that waits for one.

    A change of the learning rate becomes a row ``lr`` of the event log. Put it before the callback that saves
    checkpoints, so that a resumed run has seen the same scores.

    Args:
        monitor: The score; None: that of the run.
    """

    def __init__(self, monitor: Monitor | None = None) -> None:
        self.monitor = monitor

    def on_train_begin(self, state: TrainState) -> None:
        if state.global_step == 0:
            for note in getattr(state.schedule, "notes", ()):
                state.note("warning", message=note)

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        schedule, name = state.schedule, (self.monitor or state.monitor).name
        if not isinstance(schedule, ScoreSchedule) or name not in scores:
            return
        before = state.lrs[0]
        schedule.step(float(scores[name]))
        if state.lrs[0] != before:
            state.note("lr", epoch=state.epoch, lr=state.lrs[0], before=before, monitor=name, score=float(scores[name]))
