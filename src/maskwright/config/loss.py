"""What the training minimises."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from maskwright.config.base import Field, Section

__all__ = ["CombinedLossConfig", "LossConfig"]


class CombinedLossConfig(Section):
    """Weighted sum of binary cross entropy, Dice and focal loss; each term is kept by name for the log."""

    kind: Literal["combined"] = Field("combined", help="Weighted sum of terms.")
    bce: float = Field(0.5, ge=0, help="Weight of binary cross entropy.")
    dice: float = Field(0.3, ge=0, help="Weight of the Dice loss.")
    focal: float = Field(0.2, ge=0, help="Weight of the focal loss.")
    weights: Literal["strict", "normalize", "raw"] = Field(
        "strict", help="strict: weights must add up to 1; normalize: divided by their sum; raw: taken as they are."
    )
    pos_weight: float = Field(1.0, gt=0, help="Weight of gap pixels in binary cross entropy.")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, help="Targets are moved this far from 0 and 1 in cross entropy.")
    dice_smooth: float = Field(1.0, gt=0, unit="px", help="Added above and below the Dice ratio.")
    dice_reduction: Literal["sample", "batch"] = Field(
        "sample", help="Overlap per tile, or over the whole batch (depends on how tiles are grouped)."
    )
    focal_alpha: float = Field(
        0.25, ge=0, le=1, help="Weight of gap pixels in the focal loss; 1 minus this for others."
    )
    focal_gamma: float = Field(2.0, ge=0, help="How strongly easy pixels are played down in the focal loss.")

    @model_validator(mode="after")
    def _weights_make_sense(self) -> CombinedLossConfig:
        total = self.bce + self.dice + self.focal
        if total <= 0:
            raise ValueError("bce, dice and focal are all 0; at least one term needs a weight")
        if self.weights == "strict" and abs(total - 1) > 1e-6:
            raise ValueError(f"bce + dice + focal = {total:g}, but must be 1; or set weights: normalize or raw")
        return self


LossConfig = CombinedLossConfig
