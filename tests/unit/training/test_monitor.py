"""The score that decides: its name and its direction."""

from __future__ import annotations

import math

import pytest

from maskwright.errors import ConfigError
from maskwright.training import Monitor, resolve_monitor

AVAILABLE = ("train/loss", "val/loss", "val/loss/bce", "val/iou", "val/iou@10m")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("val/iou", "val/iou"),
        ("val_iou", "val/iou"),
        ("val.iou", "val/iou"),
        ("iou", "val/iou"),
        ("val_iou@10m", "val/iou@10m"),
        ("val_loss", "val/loss"),
        ("val/total_loss", "val/loss"),
        ("val_total_loss", "val/loss"),
        ("train_loss", "train/loss"),
        ("val/loss/bce", "val/loss/bce"),
    ],
)
def test_every_way_of_writing_a_score_is_understood(written: str, meant: str) -> None:
    assert resolve_monitor(written, AVAILABLE) == meant


def test_a_score_that_is_never_computed_is_refused_with_the_list_of_scores() -> None:
    with pytest.raises(ConfigError) as error:
        resolve_monitor("val/dise", AVAILABLE)
    assert str(error.value) == (
        'monitor "val/dise" is never computed (callbacks.monitor). '
        "Available: train/loss, val/iou, val/iou@10m, val/loss, val/loss/bce."
    )


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
