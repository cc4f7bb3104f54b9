"""HistoryCallback: one entry per epoch, with epoch averages, in memory and in training_history.json."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from maskwright.errors import RunError
from maskwright.tracking.history import History
from maskwright.training.callback import Callback
from maskwright.training.state import TrainState

__all__ = ["HistoryCallback"]


class HistoryCallback(Callback):
    """Collects the entries of a run: losses, scores, learning rates, time.

    Args:
        file: The history file of the run folder; None: in memory only.
    """

    def __init__(self, file: History | None = None) -> None:
        self.file = file
        self.entries: list[dict[str, Any]] = []
        self._elapsed_s = 0.0  # of this epoch in attempts before
        self._began_s = time.monotonic()

    def on_train_begin(self, state: TrainState) -> None:
        self.entries = [entry for entry in self.entries if entry["epoch"] <= state.epoch]
        if self.file is not None:
            self.file.truncate(state.epoch)  # what an attempt before did after its last checkpoint is done again
            for entry in self.entries[len(self.file.entries) :]:
                self._write(state, entry)

    def on_epoch_begin(self, state: TrainState) -> None:
        self._began_s = time.monotonic()

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        entry = {
            "epoch": state.epoch,
            "global_step": state.global_step,
            **{name: float(score) for name, score in scores.items()},
            **{f"lr/{index}": lr for index, lr in enumerate(state.lrs)},
            "elapsed_s": round(self._elapsed_so_far(), 3),
        }
        self._elapsed_s, self._began_s = 0.0, time.monotonic()
        self.entries.append(entry)
        if self.file is not None:
            self._write(state, entry)

    def state_dict(self) -> dict[str, Any]:
        return {"entries": [dict(entry) for entry in self.entries], "elapsed_s": self._elapsed_so_far()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.entries = [dict(entry) for entry in state["entries"]]
        self._elapsed_s = state["elapsed_s"]

    def _elapsed_so_far(self) -> float:
        return self._elapsed_s + time.monotonic() - self._began_s

    def _write(self, state: TrainState, entry: Mapping[str, Any]) -> None:
        assert self.file is not None
        try:
            self.file.append(entry)
        except RunError as error:
            state.note("warning", message=f"The history was not written in epoch {state.epoch}: {error}")
