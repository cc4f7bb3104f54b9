"""EarlyStopping: end the run when the monitored score no longer improves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskwright.training.callback import Callback
from maskwright.training.monitor import Monitor
from maskwright.training.state import TrainState

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Counts validated epochs without improvement.

    Args:
        monitor: The score; None: that of the run.
        patience: So many validated epochs without improvement end the run.
        min_delta: A gain that is not larger than this is no improvement.
        min_epochs: Never stop before so many epochs are done; the best counts from the first epoch all the same.
    """

    def __init__(
        self, monitor: Monitor | None = None, *, patience: int = 10, min_delta: float = 0.0, min_epochs: int = 0
    ) -> None:
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.min_epochs = min_epochs
        self.best: float | None = None
        self.best_epoch = 0
        self.waited = 0

    def on_train_begin(self, state: TrainState) -> None:
        self._stop_if_due(state)  # a run that had stopped early stays stopped when it is resumed

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        monitor = self.monitor or state.monitor
        if monitor.name not in scores:  # this epoch was not validated
            return
        score = float(scores[monitor.name])
        if monitor.is_better(score, self.best, self.min_delta):
            self.best, self.best_epoch, self.waited = score, state.epoch, 0
        else:
            self.waited += 1
        self._stop_if_due(state)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]

    def _stop_if_due(self, state: TrainState) -> None:
        if self.waited < self.patience or state.epoch < self.min_epochs:
            return
        name = (self.monitor or state.monitor).name
        reached = (
            "never had a value" if self.best is None else f"is best with {self.best:.4f} in epoch {self.best_epoch}"
        )
        reason = f"early stopping: {name} {reached}, {self.waited} validated epochs without improvement"
        state.request_stop(reason, finished=True)
