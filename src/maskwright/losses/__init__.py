"""Losses: (logits, target, valid) to a number to minimise."""

from __future__ import annotations

from maskwright.losses.build import LOSSES, build_loss
from maskwright.losses.composite import CombinedLoss, ComboLoss
from maskwright.losses.overlap import DiceLoss, dice_loss, dice_sum
from maskwright.losses.pixel import FocalLoss, bce_sum, focal_sum, looks_like_probabilities

__all__ = [
    "LOSSES",
    "CombinedLoss",
    "ComboLoss",
    "DiceLoss",
    "FocalLoss",
    "bce_sum",
    "build_loss",
    "dice_loss",
    "dice_sum",
    "focal_sum",
    "looks_like_probabilities",
]
