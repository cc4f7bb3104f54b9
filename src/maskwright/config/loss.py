"""What the training minimises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse

__all__ = ["CombinedLossConfig", "LossConfig"]


class CombinedLossConfig(Section):
    """Weighted sum of losses; each term is kept by name for the log."""

    kind: Literal["combined"] = Field("combined", help="Weighted sum of terms.")
    bce: float = Field(0.5, ge=0, help="Weight of binary cross entropy.")
    dice: float = Field(0.3, ge=0, help="Weight of the Dice loss.")
    focal: float = Field(0.2, ge=0, help="Weight of the focal loss.")
    jaccard: float = Field(0.0, ge=0, help="Weight of the Jaccard loss (intersection over union).")
    tversky: float = Field(0.0, ge=0, help="Weight of the Tversky loss, which weighs false alarms and misses apart.")
    lovasz: float = Field(0.0, ge=0, help="Weight of the Lovasz loss, a surrogate of intersection over union.")
    boundary: float = Field(0.0, ge=0, help="Weight of the boundary loss, the F1 score of outlines.")
    cldice: float = Field(0.0, ge=0, help="Weight of the centre line loss, which keeps thin things connected.")
    balanced_bce: float = Field(
        0.0, ge=0, help="Weight of cross entropy in which gaps and the rest of a tile count alike."
    )
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

    overlap_smooth: float = Field(
        1.0,
        gt=0,
        unit="px",
        advanced=True,
        help="Added above and below the Jaccard, Tversky, boundary and centre line ratios.",
    )
    overlap_reduction: Literal["sample", "batch"] = Field(
        "sample",
        advanced=True,
        help="Jaccard, Tversky and Lovasz per tile, or over the whole batch (depends on how tiles are grouped).",
    )
    tversky_alpha: float = Field(0.3, ge=0, advanced=True, help="Weight of false alarms in the Tversky loss.")
    tversky_beta: float = Field(0.7, ge=0, advanced=True, help="Weight of misses in the Tversky loss.")
    lovasz_form: Literal["hinge", "sigmoid"] = Field(
        "hinge", advanced=True, help="hinge: errors of logits, without upper bound; sigmoid: of probabilities, 0..1."
    )
    boundary_width_px: int = Field(
        3, ge=3, unit="px", advanced=True, help="Side of the square that makes an outline; odd."
    )
    boundary_tolerance_px: int = Field(
        5, ge=1, unit="px", advanced=True, help="Side of the square within which two outlines meet; odd."
    )
    cldice_iterations: int = Field(
        3, ge=0, advanced=True, help="Half the width, in pixels, of the widest thing thinned to its centre line."
    )
    balanced_bce_cap: float = Field(
        10.0, ge=1, advanced=True, help="How many times a gap pixel may weigh another in balanced cross entropy."
    )

    @property
    def terms(self) -> dict[str, float]:
        """The weight of each term, by its name."""
        names = ("bce", "dice", "focal", "jaccard", "tversky", "lovasz", "boundary", "cldice", "balanced_bce")
        return {name: getattr(self, name) for name in names}

    @model_validator(mode="after")
    def _settings_make_sense(self) -> CombinedLossConfig:
        refuse(self._faults())
        return self

    def _faults(self) -> list[str]:
        faults = []
        total = sum(self.terms.values())
        if total <= 0:
            faults.append(f"{_enumerate(self.terms)} are all 0; at least one term needs a weight")
        elif self.weights == "strict" and abs(total - 1) > 1e-6:
            used = [name for name, weight in self.terms.items() if weight or name in ("bce", "dice", "focal")]
            faults.append(f"{' + '.join(used)} = {total:g}, but must be 1; or set weights: normalize or raw")
        if self.tversky_alpha == self.tversky_beta == 0:
            faults.append("tversky_alpha and tversky_beta are both 0; nothing would cost anything")
        for name in ("boundary_width_px", "boundary_tolerance_px"):
            if getattr(self, name) % 2 == 0:
                faults.append(f"{name} is {getattr(self, name)}, but must be odd: the square needs a middle pixel")
        return faults


def _enumerate(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}"


LossConfig = CombinedLossConfig
