"""Profiler: where the time of a few batches goes, as a trace for a browser and a short table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from maskwright.errors import ConfigError
from maskwright.training.callback import Callback
from maskwright.training.state import TrainState

if TYPE_CHECKING:
    from torch.profiler import profile

__all__ = ["Profiler"]

_ROWS = 25


class Profiler(Callback):
    """Records the batches ``first`` to ``last`` that this process trains on, and nothing before or after them.

    Writes ``trace.json``, to be opened in chrome://tracing or ui.perfetto.dev, and ``table.txt``, the operations that
    took longest.

    Args:
        folder: Where they go; made if missing.
        first: First batch that is recorded, counted from 1.
        last: The last one.

    Raises:
        ConfigError: If the batches make no window.
    """

    def __init__(self, folder: Path, first: int = 10, last: int = 20) -> None:
        if not 1 <= first <= last:
            raise ConfigError(
                f"training.profile_batches: [{first}, {last}] is no window. Give the first and the last batch, for "
                "example [10, 20]."
            )
        self.folder = folder
        self.first = first
        self.last = last
        self._batches = 0
        self._profile: profile | None = None

    def on_train_begin(self, state: TrainState) -> None:
        self._batches = 0

    def on_batch_begin(self, state: TrainState) -> None:
        self._batches += 1
        if self._batches == self.first:
            self._profile = _begun(state.device)
        elif self._batches == self.last + 1:
            self._finish(state)

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        if self._profile is not None and self._batches >= self.last:
            self._finish(state)

    def on_train_end(self, state: TrainState) -> None:
        if self._batches < self.first:
            message = f"Nothing was profiled: the run had {self._batches} batches, training.profile_batches begins at"
            state.note("warning", message=f"{message} {self.first}.")
        self._finish(state)

    def on_exception(self, state: TrainState, error: BaseException) -> None:
        if self._profile is not None:
            self._profile.stop()
            self._profile = None

    def _finish(self, state: TrainState) -> None:
        if self._profile is None:
            return
        profile, self._profile = self._profile, None
        if state.device.type == "cuda":
            torch.cuda.synchronize(state.device)
        profile.stop()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            profile.export_chrome_trace(str(self.folder / "trace.json"))
            (self.folder / "table.txt").write_text(_table(profile, state.device), "utf-8")
        except OSError as error:  # a full disk must not end the training
            state.note("warning", message=f"The profile was not written: {error}")
            return
        batches = f"{self.first} to {min(self._batches, self.last)}"
        state.note("profile", folder=str(self.folder), batches=batches)


def _begun(device: torch.device) -> profile:
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    begun = profile(activities=activities)
    begun.start()
    return begun


def _table(profile: profile, device: torch.device) -> str:
    order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return str(profile.key_averages().table(sort_by=order, row_limit=_ROWS))
