from __future__ import annotations

import pytest

from maskwright.config import canonical_metric, resolve_monitor
from maskwright.errors import ConfigError

AVAILABLE = ("train/loss", "val/loss", "val/loss/bce", "val/iou", "val/iou@10m")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("val_iou", "val/iou"),
        ("val.iou", "val/iou"),
        ("val/iou", "val/iou"),
        (" val_iou ", "val/iou"),
        ("val_loss", "val/loss"),
        ("val/total_loss", "val/loss"),
        ("train_total_loss", "train/loss"),
        ("test.f1", "test/f1"),
        ("val_iou@2.5m", "val/iou@2.5m"),
        ("val_gap_share", "val/gap_share"),
        ("val_miou", "val/miou"),
        ("total_loss", "loss"),
        ("iou", "iou"),
        ("validity", "validity"),
    ],
)
def test_a_score_has_one_name(said: str, meant: str) -> None:
    assert canonical_metric(said) == meant
    assert canonical_metric(meant) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("val/iou", "val/iou"),
        ("val_iou", "val/iou"),
        ("iou", "val/iou"),
        ("miou", "val/iou"),
        ("val/miou", "val/iou"),
        ("val_miou@10m", "val/iou@10m"),
        ("val_loss", "val/loss"),
        ("val/total_loss", "val/loss"),
        ("train_loss", "train/loss"),
        ("val/loss/bce", "val/loss/bce"),
    ],
)
def test_every_way_of_writing_a_score_is_understood(written: str, meant: str) -> None:
    assert resolve_monitor(written, AVAILABLE) == meant


def test_where_classes_are_several_iou_means_the_mean_over_them() -> None:
    available = ("val/miou", "val/iou@crack", "val/iou@a b")
    assert resolve_monitor("val_iou", available) == "val/miou"
    assert resolve_monitor("miou", available) == "val/miou"
    assert resolve_monitor("val/iou@crack", available) == "val/iou@crack"
    assert resolve_monitor("val.iou@a b", available) == "val/iou@a b"


def test_a_score_that_is_never_computed_is_refused_with_the_list_of_scores() -> None:
    with pytest.raises(ConfigError) as error:
        resolve_monitor("val/dise", AVAILABLE)
    assert str(error.value) == (
        'monitor "val/dise" is never computed (callbacks.monitor). '
        "Available: train/loss, val/iou, val/iou@10m, val/loss, val/loss/bce."
    )
