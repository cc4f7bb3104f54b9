from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from maskwright.checkpoints import best_of, checkpoint_tag, files_to_keep, is_better
from maskwright.checkpoints.retention import is_near
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


# --- strategies: which epochs are kept, traced by hand; epochs count from 0 ------------------------------------------


def traced(strategy: str, scores: Sequence[float | None], mode: str = "max", **options: int) -> list[str | None]:
    """The tag of each epoch, the best so far kept in mind as a loop would."""
    tags: list[str | None] = []
    best: tuple[float, int] | None = None
    for epoch, score in enumerate(scores):
        tags.append(checkpoint_tag(strategy, epoch, score, best, mode=mode, **options))  # type: ignore[arg-type]
        if is_better(score, None if best is None else best[0], mode):  # type: ignore[arg-type]
            assert score is not None
            best = (score, epoch)
    return tags


UP_AND_DOWN = [0.5, 0.6, 0.6, 0.58, None, 0.7]


@pytest.mark.parametrize(
    ("strategy", "tags"),
    [
        ("best", ["best", "best", None, None, None, "best"]),
        ("epoch", ["epoch"] * 6),
        ("interval", ["interval", "best", None, None, None, "interval"]),
        ("all", ["best", "best", "regular", "regular", "regular", "best"]),
        ("adaptive", ["best", "best", None, None, None, "best"]),
        ("performance_based", ["best", "best", "good", "good", None, "best"]),  # 0.58 >= 0.95 * 0.6 = 0.57
        ("time_based", ["best", "best", None, None, None, "best"]),
    ],
)
def test_each_strategy_keeps_the_epochs_of_its_rule(strategy: str, tags: list[str | None]) -> None:
    assert traced(strategy, UP_AND_DOWN) == tags


def test_the_interval_is_counted_from_the_first_epoch() -> None:
    tags = traced("interval", [1.0] + [0.5] * 8, interval=3)
    assert [epoch for epoch, tag in enumerate(tags) if tag == "interval"] == [0, 3, 6]


@pytest.mark.parametrize("strategy", ["best", "adaptive", "performance_based", "time_based"])
@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_without_the_score_the_rules_that_need_it_keep_nothing(strategy: str, missing: float | None) -> None:
    assert traced(strategy, [missing] * 61) == [None] * 61
    assert traced(strategy, [0.5, missing])[1] is None


def test_a_score_that_is_only_as_good_is_not_the_best() -> None:
    assert traced("best", [0.5, 0.5, 0.5]) == ["best", None, None]
    assert traced("best", [0.5, 0.5, 0.4], mode="min") == ["best", None, "best"]


def test_adaptive_keeps_plateaus_after_ten_epochs_and_late_intervals() -> None:
    tags = traced("adaptive", [0.9] + [0.5] * 120)
    kept = {epoch: tag for epoch, tag in enumerate(tags) if tag is not None}
    plateaus = dict.fromkeys(range(10, 121, 5), "plateau")
    assert kept == {0: "best"} | plateaus
    rising = traced("adaptive", [0.9] * 1 + [0.5] * 54 + [0.95] + [0.5] * 10)  # best again in epoch 55
    kept = {epoch: tag for epoch, tag in enumerate(rising) if tag is not None and epoch > 50}
    assert kept == {55: "best", 60: "interval", 65: "plateau"}
    assert checkpoint_tag("adaptive", 40, 0.5, (0.9, 35), mode="max") is None  # not beyond 50
    assert checkpoint_tag("adaptive", 60, 0.5, (0.9, 55), mode="max") == "interval"
    assert checkpoint_tag("adaptive", 10, 0.5, (0.9, 0), mode="max") == "plateau"
    assert checkpoint_tag("adaptive", 10, 0.5, (0.9, 1), mode="max") is None  # nine epochs old


def test_time_based_keeps_milestones() -> None:
    tags = traced("time_based", [0.9] + [0.5] * 260)
    kept = [epoch for epoch, tag in enumerate(tags) if tag == "milestone"]
    assert kept == [1, 5, 10, 25, 50, 100, 150, 200, 250]
    assert tags[0] == "best"


@pytest.mark.parametrize(
    ("score", "best", "mode", "near"),
    [
        (0.76, 0.8, "max", True),  # 0.95 * 0.8, on the edge
        (0.759, 0.8, "max", False),
        (0.84, 0.8, "min", True),  # 1.05 * 0.8, on the edge
        (0.841, 0.8, "min", False),
        (-1.05, -1.0, "max", True),  # 5 % of its size below, where 0.95 * -1 would ask for more than the best
        (-1.06, -1.0, "max", False),
        (-0.95, -1.0, "min", True),
        (-0.94, -1.0, "min", False),
        (0.0, 0.0, "max", True),
        (-0.001, 0.0, "max", False),
        (0.0, 0.0, "min", True),
        (0.001, 0.0, "min", False),
        (0.9, 0.8, "max", True),  # better is near
    ],
)
def test_near_means_within_five_percent_of_the_size_of_the_best(
    score: float, best: float, mode: str, near: bool
) -> None:
    assert is_near(score, best, mode) is near  # type: ignore[arg-type]
    tag = checkpoint_tag("performance_based", 3, score, (best, 0), mode=mode)  # type: ignore[arg-type]
    assert (tag is not None) is near


def tagged(*tags: str) -> list[CheckpointRecord]:
    return [replace(record, tag=tag) for record, tag in zip(records_with([None] * len(tags)), tags, strict=True)]


def test_what_no_rule_wants_stays_only_while_it_is_the_newest() -> None:
    records = tagged("best", "latest", "best", "latest")
    assert files_to_keep(records, max_checkpoints=5, best=records[2], strategy="best") == {"1", "3", "4"}
    assert files_to_keep([*records, *tagged("", "", "", "", "best")[4:]], max_checkpoints=1, best=records[2]) == {
        "3",
        "5",
    }


def test_a_former_best_does_not_crowd_out_intervals() -> None:
    records = tagged("interval", "best", "best", "best", "interval", "best")
    assert files_to_keep(records, max_checkpoints=2, best=records[5], strategy="interval") == {"1", "5", "6"}
    assert files_to_keep(records, max_checkpoints=2, best=records[5], strategy="time_based") == {"5", "6"}
