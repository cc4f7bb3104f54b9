"""Monitor: the one score that decides what is best. Its name is resolved by ``config.resolve_monitor``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Monitor"]


@dataclass(frozen=True, slots=True)
class Monitor:
    """A score of the history and its direction.

    Attributes:
        name: Its key in the history, for example ``val/iou``.
        mode: ``max`` if a larger value is better, else ``min``.
    """

    name: str
    mode: Literal["max", "min"]

    def is_better(self, score: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Whether ``score`` beats ``best`` by more than ``min_delta``. NaN never does; anything beats None."""
        if math.isnan(score):
            return False
        if best is None:
            return True
        gain = score - best if self.mode == "max" else best - score
        return gain > min_delta
