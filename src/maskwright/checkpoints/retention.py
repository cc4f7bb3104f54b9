"""Which checkpoints stay: records in, file names out. Pure: no file is touched here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from maskwright.tracking import CheckpointRecord

__all__ = ["best_of", "files_to_keep", "is_better"]


def is_better(score: float | None, than: float | None, mode: Literal["min", "max"]) -> bool:
    """Whether ``score`` is strictly better than ``than``. A score that is missing or not finite is never better."""
    if score is None or not math.isfinite(score):
        return False
    if than is None:
        return True
    return score > than if mode == "max" else score < than


def best_of(
    records: Sequence[CheckpointRecord], monitor: str | None, mode: Literal["min", "max"]
) -> CheckpointRecord | None:
    """The record with the best score ``monitor``, the earliest of equals; None if no record has that score."""
    best: CheckpointRecord | None = None
    best_score: float | None = None
    for record in records:
        score = None if monitor is None else record.scores.get(monitor)
        if is_better(score, best_score, mode):
            best, best_score = record, score
    return best


def files_to_keep(
    records: Sequence[CheckpointRecord], *, max_checkpoints: int, best: CheckpointRecord | None
) -> frozenset[str]:
    """The newest ``max_checkpoints`` files (at least the newest one), and the best.

    Args:
        records: In the order saved, the newest last.
        max_checkpoints: How many to keep beside the best, at least 1.
        best: The record never to lose; None if there is none.
    """
    newest = {record.file for record in records[-max(max_checkpoints, 1) :]}
    return frozenset(newest if best is None else newest | {best.file})
