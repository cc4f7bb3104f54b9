"""Thawing: parts of a pretrained network begin to learn one after another."""

from __future__ import annotations

from collections.abc import Sequence

from maskwright.checkpoints import bare_model
from maskwright.models import learning_parts, thaw
from maskwright.training.callback import Callback
from maskwright.training.state import TrainState

__all__ = ["Thawing"]


class Thawing(Callback):
    """At the begin of each epoch freezes the parts that do not learn yet and thaws those that do.

    What learns follows from the number of the epoch alone, so a resumed run goes on as before.

    Args:
        parts: Paths in the order in which they begin to learn; the first learns from the beginning.
        start_epoch: Epochs completed when the second part begins, 1 or more.
        every: Epochs from one part to the next, 1 or more.
    """

    def __init__(self, parts: Sequence[str], start_epoch: int = 1, every: int = 1) -> None:
        self.parts = tuple(parts)
        self.start_epoch = start_epoch
        self.every = every

    def on_epoch_begin(self, state: TrainState) -> None:
        learning = learning_parts(self.parts, state.epoch, start_epoch=self.start_epoch, every=self.every)
        thaw(bare_model(state.model), self.parts, learning)
