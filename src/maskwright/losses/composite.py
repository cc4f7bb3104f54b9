"""Weighted sums of losses, every term kept by name for the log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from maskwright.errors import ConfigError
from maskwright.losses.fused import FusedTerms, fused_loss
from maskwright.losses.overlap import Reduction, count_samples, dice_sum
from maskwright.losses.pixel import bce_sum, check_shapes, count_pixels, focal_sum, split_ignored
from maskwright.types import LossOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["TERMS", "CombinedLoss", "ComboLoss", "check_sum"]

TERMS = {"bce": "pixels", "dice": "samples", "focal": "pixels"}  # name of a term: what its sum is divided by
_SUM_TOLERANCE = 1e-6


class CombinedLoss(nn.Module):
    """Binary cross entropy, Dice and focal loss on the same logits, weighted and added.

    A term is a sum (over pixels or over samples) and a weight that depends on ``valid`` alone. Given the weights of a
    whole accumulation group, the totals of its batches add up to the loss of the one big batch.

    Args:
        terms: Factor of each term, names from bce, dice, focal; 0 leaves a term out.
        pos_weight: Larger than 0. Weight of pixels with target 1 in cross entropy.
        label_smoothing: In 0..0.5. Distance of the targets from 0 and 1 in cross entropy.
        dice_smooth: Larger than 0. Added above and below the Dice ratio, in pixels.
        dice_reduction: ``sample``: overlap per tile. ``batch``: over the batch, which depends on how tiles are grouped.
        squared_pred: Squares below the Dice ratio.
        focal_alpha: In 0..1. Weight of pixels with target 1 in the focal loss, 1 minus this for the others.
        focal_gamma: 0 or more. How strongly easy pixels are played down.

    Raises:
        ConfigError: If a term is unknown, negative, or all are 0.
    """

    def __init__(
        self,
        terms: Mapping[str, float],
        *,
        pos_weight: float = 1.0,
        label_smoothing: float = 0.0,
        dice_smooth: float = 1.0,
        dice_reduction: Reduction = "sample",
        squared_pred: bool = False,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
    ) -> None:
        super().__init__()
        unknown = sorted(set(terms) - set(TERMS))
        if unknown:
            raise ConfigError(f"loss: unknown term {unknown[0]!r}. Available: {', '.join(TERMS)}.")
        if not all(math.isfinite(factor) and factor >= 0 for factor in terms.values()) or not any(terms.values()):
            raise ConfigError(f"loss: factors {dict(terms)} must be 0 or more, and one of them above 0.")
        self.terms = {name: float(terms[name]) for name in TERMS if terms.get(name, 0) > 0}
        self.pos_weight = pos_weight
        self.label_smoothing = label_smoothing
        self.dice_smooth = dice_smooth
        self.dice_reduction: Reduction = dice_reduction
        self.squared_pred = squared_pred
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma

    def measure(self, valid: Tensor, channels: int) -> dict[str, Tensor]:
        """What sums are divided by: add these over the batches and ranks that belong to one update.

        Args:
            valid: (B, H, W) bool.
            channels: K of the logits.

        Returns:
            ``pixels``: (pixel, channel) pairs that count; ``samples``: (sample, channel) pairs with such a pixel.
            Float64 scalars on the mask's device.
        """
        return {"pixels": count_pixels(valid, channels), "samples": count_samples(valid, channels)}

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, weights: Mapping[str, Tensor] | None = None
    ) -> LossOutput:
        """The loss of a batch, or its part in the loss of a group.

        Args:
            logits: (B, K, H, W) float, before sigmoid.
            target: (B, K, H, W) float, exactly 0 or 1.
            valid: (B, H, W) bool; other pixels add nothing and receive a gradient of exactly 0.
            weights: The added ``measure`` of the group; None: this batch stands alone.

        Returns:
            The total, and each term's value unweighted. Without a pixel that counts: 0 with a gradient of 0.

        Raises:
            ShapeError: If the tensors do not fit together.
        """
        check_shapes(logits, target, valid)
        weights = self.measure(valid, logits.shape[1]) if weights is None else weights
        divisors = {name: weights[TERMS[name]].clamp(min=1) for name in self.terms}  # an empty sum stays 0
        # One sweep on the CPU, where moving memory is the cost; elsewhere, and for squares, the formulas as written.
        fused = logits.device.type == "cpu" and not self.squared_pred
        return (self._fused if fused else self._plain)(logits, target, valid, divisors)

    def _fused(self, logits: Tensor, target: Tensor, valid: Tensor, divisors: Mapping[str, Tensor]) -> LossOutput:
        factors = {name: factor / float(divisors[name]) for name, factor in self.terms.items()}
        options = FusedTerms(
            bce=factors.get("bce", 0.0),
            dice=factors.get("dice", 0.0),
            focal=factors.get("focal", 0.0),
            pos_weight=self.pos_weight,
            label_smoothing=self.label_smoothing,
            smooth=self.dice_smooth,
            by_batch=self.dice_reduction == "batch",
            alpha=self.focal_alpha,
            gamma=self.focal_gamma,
        )
        total, sums = fused_loss(logits, target, valid, options)
        values = dict(zip(("bce", "dice", "focal"), sums.unbind(), strict=True))
        return LossOutput(total, {name: values[name] / divisors[name].to(total.dtype) for name in self.terms})

    def _plain(self, logits: Tensor, target: Tensor, valid: Tensor, divisors: Mapping[str, Tensor]) -> LossOutput:
        values = {name: self._term_sum(name, logits, target, valid) for name in self.terms}
        values = {name: value / divisors[name].to(value.dtype) for name, value in values.items()}
        total = torch.stack([factor * values[name] for name, factor in self.terms.items()]).sum()
        return LossOutput(total, {name: value.detach() for name, value in values.items()})

    def _term_sum(self, name: str, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        if name == "bce":
            return bce_sum(logits, target, valid, pos_weight=self.pos_weight, label_smoothing=self.label_smoothing)
        if name == "focal":
            return focal_sum(logits, target, valid, alpha=self.focal_alpha, gamma=self.focal_gamma)
        return dice_sum(
            logits,
            target,
            valid,
            smooth=self.dice_smooth,
            reduction=self.dice_reduction,
            squared_pred=self.squared_pred,
        )


class ComboLoss(nn.Module):
    """Cross entropy, Dice and focal loss whose weights add up to 1, for a loop of one's own.

    Args:
        bce_weight: 0 or more.
        dice_weight: 0 or more.
        focal_weight: 0 or more.
        smooth: Larger than 0. Added above and below the Dice ratio, in pixels.
        alpha: Class weight of the focal loss, in 0..1.
        gamma: How strongly the focal loss plays down easy pixels, 0 or more.

    Raises:
        ConfigError: If the weights do not add up to 1.
    """

    def __init__(
        self,
        bce_weight: float = 0.5,
        dice_weight: float = 0.3,
        focal_weight: float = 0.2,
        *,
        smooth: float = 1.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        check_sum({"bce_weight": bce_weight, "dice_weight": dice_weight, "focal_weight": focal_weight})
        self.loss = CombinedLoss(
            {"bce": bce_weight, "dice": dice_weight, "focal": focal_weight},
            dice_smooth=smooth,
            focal_alpha=alpha,
            focal_gamma=gamma,
        )

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss with gradient, and its parts without, by name: the unweighted terms and ``total``.

        Args:
            logits: (B, K, H, W) float, before sigmoid.
            target: (B, K, H, W), or (B, H, W) for K = 1: 0, 1, and 255 for pixels that do not count.
            valid: (B, H, W) bool, further pixels to leave out, or None.
        """
        target, counts = split_ignored(target, valid)
        output = self.loss(logits, target, counts)
        return output.total, {**output.terms, "total": output.total.detach()}


def check_sum(weights: Mapping[str, float]) -> None:
    """Raise ConfigError unless the weights add up to 1, within 1e-6."""
    total = sum(weights.values())
    if abs(total - 1) > _SUM_TOLERANCE:
        parts = " + ".join(weights)
        raise ConfigError(f"{parts} = {total:g}, but must be 1. Divide each by {total:g} or set them anew.")
