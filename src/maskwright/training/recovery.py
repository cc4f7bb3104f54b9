"""Recovery: what a run does when numbers are not finite, or when memory is short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Recovery"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a run does instead of ending.

    Attributes:
        on_nonfinite: ``stop`` with an error; ``skip`` the update and count it; ``restore`` the state of the beginning
            of the epoch and go on with a smaller learning rate.
        restore_times: So often in a run is the state restored; the next time is an error.
        restore_lr_factor: The learning rate is multiplied by this each time, in 0..1.
        out_of_memory: ``advise``: end with an error that says what would need less; ``smaller``: compute each batch in
            smaller pieces, which add up to the same update.
    """

    on_nonfinite: Literal["stop", "skip", "restore"] = "stop"
    restore_times: int = 3
    restore_lr_factor: float = 0.5
    out_of_memory: Literal["advise", "smaller"] = "advise"
