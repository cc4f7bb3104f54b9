"""The score that decides: its name and its direction."""

from __future__ import annotations

import math

from maskwright.training import Monitor


def test_direction_and_smallest_gain_are_respected() -> None:
    high, low = Monitor("val/iou", "max"), Monitor("val/loss", "min")
    assert high.is_better(0.6, 0.5)
    assert not high.is_better(0.5, 0.5)
    assert not high.is_better(0.55, 0.5, min_delta=0.1)
    assert low.is_better(0.4, 0.5)
    assert not low.is_better(0.6, 0.5)


def test_a_score_without_value_is_never_better_and_any_value_beats_none() -> None:
    high = Monitor("val/iou", "max")
    assert not high.is_better(math.nan, 0.1)
    assert not high.is_better(math.nan, None)
    assert high.is_better(0.0, None)
