"""CacheClearing: hands memory that torch keeps for later back to the device, every so many batches."""

from __future__ import annotations

from maskwright.training.callback import Callback
from maskwright.training.memory import clear_cache
from maskwright.training.state import TrainState
from maskwright.types import LossOutput

__all__ = ["CacheClearing"]


class CacheClearing(Callback):
    """For a GPU that is shared with others, or whose memory falls to pieces: each time costs a moment.

    Elsewhere there is nothing to clear, and a note says so once.

    Args:
        every: Batches from one time to the next, 1 or more.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._batches = 0

    def on_train_begin(self, state: TrainState) -> None:
        if state.device.type not in ("cuda", "mps"):
            state.note(
                "warning",
                message=f"training.empty_cache_every: {self.every} does nothing on {state.device}, where torch keeps "
                "no memory of its own.",
            )

    def on_batch_end(self, state: TrainState, loss: LossOutput) -> None:
        self._batches += 1
        if self._batches % self.every == 0:
            clear_cache(state.device)
