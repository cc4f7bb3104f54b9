"""Which checkpoints are worth keeping, and which files stay: records in, decisions out. Pure: no file is touched here.

Epochs count from 0 here, as in a loop ``for epoch in range(epochs)``. An epoch is the best if its score is strictly
better than every one before; it is kept under any strategy, as is the newest checkpoint.

==================  ==========================================================  =====================
strategy            an epoch is kept when                                       tag
==================  ==========================================================  =====================
best                it is the best                                              best
epoch               always                                                      epoch
interval            the epoch is a multiple of ``interval``                     interval
all                 always                                                      best, regular
adaptive            it is the best; or the best is 10 epochs old or older and   best, plateau,
                    the epoch a multiple of 5; or the epoch is beyond 50 and    interval
                    a multiple of 20
performance_based   it is the best; or within 5 % of the best                   best, good
time_based          it is the best; or the epoch is 1, 5, 10, 25, 50, 100, 200  best, milestone
                    or a multiple of 50
==================  ==========================================================  =====================

``best`` and the last three need the score: an epoch without it is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from maskwright.tracking import CheckpointRecord

__all__ = [
    "PASSING",
    "STRATEGIES",
    "Strategy",
    "best_of",
    "checkpoint_tag",
    "files_to_keep",
    "is_better",
    "is_near",
]

Strategy = Literal["best", "epoch", "interval", "all", "adaptive", "performance_based", "time_based"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
PASSING = "latest"  # tag of a checkpoint that no rule wants: it stays while it is the newest or the best

_MILESTONES = frozenset((1, 5, 10, 25, 50, 100, 200))
_MILESTONE_EVERY = 50
_STALE_EPOCHS, _STALE_EVERY = 10, 5
_LATE_EPOCH, _LATE_EVERY = 50, 20
_NEAR = 0.05
_ROUNDING = 1e-9  # relative: 0.05 * best is seldom exact, and a score on the edge is near


def is_better(score: float | None, than: float | None, mode: Literal["min", "max"]) -> bool:
    """Whether ``score`` is strictly better than ``than``. A score that is missing or not finite is never better."""
    if score is None or not math.isfinite(score):
        return False
    if than is None:
        return True
    return score > than if mode == "max" else score < than


def is_near(score: float, best: float, mode: Literal["min", "max"]) -> bool:
    """Whether ``score`` is at most 5 % of the size of ``best`` worse than it; so also for scores below 0.

    A best of 0 has no size to take a share of: only scores that are as good are near.
    """
    room = _NEAR * abs(best) * (1 + _ROUNDING)
    return score >= best - room if mode == "max" else score <= best + room


def checkpoint_tag(
    strategy: Strategy,
    epoch: int,
    score: float | None,
    best: tuple[float, int] | None,
    *,
    mode: Literal["min", "max"],
    interval: int = 5,
) -> str | None:
    """Why a strategy keeps the checkpoint of an epoch, by the table above; None if it does not.

    Args:
        strategy: One of ``STRATEGIES``.
        epoch: The epoch that ended, from 0.
        score: Its monitored score; None or not finite: there is none.
        best: The best score of the epochs before, and that epoch; None if none was scored.
        mode: Whether a lower or a higher score is better.
        interval: Epochs from one to the next for ``interval``, 1 or more.
    """
    if strategy == "epoch":
        return "epoch"
    is_best = is_better(score, None if best is None else best[0], mode)
    if strategy == "all":
        return "best" if is_best else "regular"
    if strategy == "interval" and epoch % interval == 0:
        return "interval"
    if is_best:
        return "best"
    if strategy in ("best", "interval") or best is None or score is None or not math.isfinite(score):
        return None
    return _further_tag(strategy, epoch, score, best, mode)


def _further_tag(
    strategy: Strategy, epoch: int, score: float, best: tuple[float, int], mode: Literal["min", "max"]
) -> str | None:
    """What the three strategies that look further than the best say of an epoch that is not the best."""
    if strategy == "performance_based":
        return "good" if is_near(score, best[0], mode) else None
    if strategy == "time_based":
        return "milestone" if epoch in _MILESTONES or epoch % _MILESTONE_EVERY == 0 else None
    if epoch - best[1] >= _STALE_EPOCHS and epoch % _STALE_EVERY == 0:
        return "plateau"
    return "interval" if epoch > _LATE_EPOCH and epoch % _LATE_EVERY == 0 else None


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
    records: Sequence[CheckpointRecord],
    *,
    max_checkpoints: int,
    best: CheckpointRecord | None,
    strategy: Strategy = "epoch",
) -> frozenset[str]:
    """The newest ``max_checkpoints`` files that the strategy wants, and besides the newest of all and the best.

    Args:
        records: In the order saved, the newest last.
        max_checkpoints: How many to keep, at least 1.
        best: The record never to lose; None if there is none.
        strategy: Under ``interval`` a former best is of no further interest.
    """
    passing = {PASSING, "best"} if strategy == "interval" else {PASSING}
    wanted = [record.file for record in records if record.tag not in passing]
    kept = {*wanted[-max(max_checkpoints, 1) :], *(record.file for record in records[-1:])}
    return frozenset(kept if best is None else kept | {best.file})
