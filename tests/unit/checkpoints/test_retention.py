from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from maskwright.checkpoints import best_of, files_to_keep, is_better
from maskwright.tracking import CheckpointRecord


def records_with(scores: Sequence[float | None]) -> list[CheckpointRecord]:
    """One record per epoch, files "1", "2" ..., scored ``val/iou`` where a score is given."""
    return [
        CheckpointRecord(str(epoch), "", 0, epoch, 0, epoch, {} if score is None else {"val/iou": score}, "epoch", "")
        for epoch, score in enumerate(scores, start=1)
    ]


@pytest.mark.parametrize(
    ("score", "than", "mode", "answer"),
    [
        (0.6, 0.5, "max", True),
        (0.5, 0.5, "max", False),
        (0.4, 0.5, "min", True),
        (0.6, 0.5, "min", False),
        (0.0, None, "max", True),
        (None, None, "max", False),
        (math.nan, None, "max", False),
        (math.inf, 0.5, "max", False),
        (-math.inf, 0.5, "min", False),
    ],
)
def test_better_means_strictly_better_and_finite(
    score: float | None, than: float | None, mode: str, answer: bool
) -> None:
    assert is_better(score, than, mode) is answer  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "mode", "best"),
    [
        ([0.1, 0.5, 0.3], "max", "2"),
        ([0.1, 0.5, 0.3], "min", "1"),
        ([0.5, 0.5, 0.5], "max", "1"),
        ([math.nan, 0.2, None, math.inf], "max", "2"),
        ([None, math.nan], "max", None),
        ([], "max", None),
    ],
)
def test_the_best_is_the_first_of_the_highest_scores(scores: list[float | None], mode: str, best: str | None) -> None:
    found = best_of(records_with(scores), "val/iou", mode)  # type: ignore[arg-type]
    assert (found and found.file) == best


def test_without_a_score_to_watch_nothing_is_best() -> None:
    assert best_of(records_with([0.5]), None, "max") is None
    assert best_of(records_with([0.5]), "val/dice", "max") is None


@pytest.mark.parametrize(
    ("count", "best", "kept"),
    [
        (3, None, {"4", "5", "6"}),
        (3, 0, {"1", "4", "5", "6"}),
        (3, 5, {"4", "5", "6"}),
        (1, 2, {"3", "6"}),
        (0, None, {"6"}),
        (99, 0, {"1", "2", "3", "4", "5", "6"}),
    ],
)
def test_the_newest_and_the_best_stay(count: int, best: int | None, kept: set[str]) -> None:
    records = records_with([None] * 6)
    assert files_to_keep(records, max_checkpoints=count, best=None if best is None else records[best]) == kept


def test_nothing_saved_keeps_nothing() -> None:
    assert files_to_keep([], max_checkpoints=3, best=None) == frozenset()
