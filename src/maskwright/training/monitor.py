"""Monitor: the one score that decides what is best. Its name is resolved, and checked, before the first epoch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from maskwright.errors import ConfigError

__all__ = ["Monitor", "resolve_monitor"]


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


def resolve_monitor(name: str, available: Iterable[str], where: str = "callbacks.monitor") -> str:
    """The key of the history meant by ``name``.

    ``val_iou``, ``val.iou`` and ``iou`` mean ``val/iou``; ``val/total_loss`` means ``val/loss``.

    Args:
        name: What the user wrote.
        available: Keys the run will compute.
        where: The setting, for the message.

    Raises:
        ConfigError: If nothing of that name is computed; lists what is.
    """
    keys = sorted(available)
    canonical = re.sub(r"^(train|val|test)[/_.]", r"\1/", name.strip())
    canonical = re.sub(r"(^|/)total_loss$", r"\1loss", canonical)
    for candidate in (canonical, f"val/{canonical}"):
        if candidate in keys:
            return candidate
    raise ConfigError(f'monitor "{name}" is never computed ({where}). Available: {", ".join(keys)}.')
