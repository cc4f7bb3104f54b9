from __future__ import annotations

import pytest

from maskwright.config.loss import CombinedLossConfig
from maskwright.losses import build_loss
from maskwright.losses.composite import CombinedLoss


def test_every_setting_reaches_the_loss() -> None:
    config = CombinedLossConfig(
        bce=0.6, dice=0.3, focal=0.1, pos_weight=2, label_smoothing=0.05, dice_smooth=3, dice_reduction="batch",
        focal_alpha=0.4, focal_gamma=1.5,
    )  # fmt: skip
    loss = build_loss(config)
    assert isinstance(loss, CombinedLoss)
    assert loss.terms == {"bce": 0.6, "dice": 0.3, "focal": 0.1}
    assert (loss.pos_weight, loss.label_smoothing, loss.dice_smooth) == (2, 0.05, 3)
    assert (loss.dice_reduction, loss.focal_alpha, loss.focal_gamma) == ("batch", 0.4, 1.5)


def test_weights_are_normalised_or_taken_raw_as_asked() -> None:
    parts = {"bce": 1.0, "dice": 2.0, "focal": 1.0}
    assert build_loss(CombinedLossConfig(**parts, weights="raw")).terms == parts
    normalised = build_loss(CombinedLossConfig(**parts, weights="normalize")).terms
    assert normalised == pytest.approx({"bce": 0.25, "dice": 0.5, "focal": 0.25})
