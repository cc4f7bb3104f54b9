"""Losses of overlap: one minus the soft Dice ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from maskwright.losses.pixel import as_weight, in_full_precision, split_ignored

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DiceLoss", "Reduction", "count_samples", "dice_loss", "dice_sum"]

Reduction = Literal["sample", "batch"]


def dice_loss(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    smooth: float = 1.0,
    reduction: Reduction = "sample",
    squared_pred: bool = False,
) -> Tensor:
    """One minus the soft Dice overlap, for each sample and channel.

    Args:
        logits: (B, K, H, W) float, before sigmoid. Half precision is raised to float32.
        target: (B, K, H, W) float, 0 or 1.
        valid: (B, H, W) bool; other pixels are in no sum and receive a gradient of exactly 0.
        smooth: Larger than 0. Added above and below the ratio, in pixels; an empty tile stays defined.
        reduction: ``sample``: one ratio for each sample and channel. ``batch``: one ratio for each channel over the
            whole batch, which depends on how tiles are grouped.
        squared_pred: Sum squares below the ratio instead of plain values (arXiv:1606.04797 as printed).

    Returns:
        (B, K), or (1, K) for ``batch``, in 0..1. Nothing to find and nothing found: 0. Nothing to find, everything
        painted: close to 1. A sample without a valid pixel: 0.

    Raises:
        ShapeError: If the three tensors do not fit together.

    Source: arXiv:1606.04797 (plain sums instead of squares unless asked).
    """
    logits, target, counts = in_full_precision(logits, target, valid)
    probs = torch.sigmoid(logits) * counts
    dims = (2, 3) if reduction == "sample" else (0, 2, 3)
    overlap = (probs * target).sum(dims)
    painted = (probs * probs if squared_pred else probs).sum(dims)
    wanted = target.sum(dims)
    loss = 1 - (2 * overlap + smooth) / (painted + wanted + smooth)
    return loss.view(-1, logits.shape[1])


def dice_sum(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    smooth: float = 1.0,
    reduction: Reduction = "sample",
    squared_pred: bool = False,
) -> Tensor:
    """``dice_loss`` summed over samples and channels; with ``batch`` each channel's loss counts once for every sample.

    Divide by ``count_samples``. Arguments and errors as in ``dice_loss``.
    """
    loss = dice_loss(logits, target, valid, smooth=smooth, reduction=reduction, squared_pred=squared_pred)
    if reduction == "sample":
        return loss.sum()
    return loss.sum() * valid.flatten(1).any(dim=1).sum()


def count_samples(valid: Tensor, channels: int) -> Tensor:
    """Number of (sample, channel) pairs with a pixel that counts, a float64 scalar; valid: (B, H, W) bool."""
    return as_weight(valid.flatten(1).any(dim=1).sum() * channels)


class DiceLoss(nn.Module):
    """Mean Dice loss over the samples and channels that have a pixel that counts, on logits.

    Args:
        smooth: Larger than 0. Added above and below the ratio, in pixels.
        reduction: ``sample`` or ``batch``, see ``dice_loss``.
        squared_pred: Sum squares below the ratio instead of plain values.
    """

    def __init__(self, smooth: float = 1.0, reduction: Reduction = "sample", squared_pred: bool = False) -> None:
        super().__init__()
        self.smooth = smooth
        self.reduction: Reduction = reduction
        self.squared_pred = squared_pred

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Scalar in 0..1; shapes as ``dice_loss``, 255 in ``target`` does not count, ``valid`` may be left out."""
        target, counts = split_ignored(target, valid)
        total = dice_sum(
            logits, target, counts, smooth=self.smooth, reduction=self.reduction, squared_pred=self.squared_pred
        )
        return total / count_samples(counts, logits.shape[1]).clamp(min=1).to(total.dtype)
