"""Losses summed over pixels: binary cross entropy and focal, and what every loss here agrees on.

Functions take logits and give the SUM over the pixels that count. Whoever calls divides once, by the number of pixels
of everything that belongs together (a batch, an accumulation group, all ranks), so grouping changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from maskwright.errors import ShapeError
from maskwright.pixels import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FocalLoss",
    "as_weight",
    "bce_sum",
    "check_shapes",
    "count_pixels",
    "focal_sum",
    "in_full_precision",
    "looks_like_probabilities",
    "split_ignored",
]


def bce_sum(
    logits: Tensor, target: Tensor, valid: Tensor, *, pos_weight: float = 1.0, label_smoothing: float = 0.0
) -> Tensor:
    """Binary cross entropy, summed over the pixels that count.

    Args:
        logits: (B, K, H, W) float, before sigmoid. Half precision is raised to float32.
        target: (B, K, H, W) float, 0 or 1.
        valid: (B, H, W) bool; other pixels add nothing and receive a gradient of exactly 0.
        pos_weight: Weight of pixels whose target is 1.
        label_smoothing: In 0..0.5: targets become ``label_smoothing`` and ``1 - label_smoothing``.

    Returns:
        Scalar, 0 or more.

    Raises:
        ShapeError: If the three do not fit together.
    """
    logits, target, counts = in_full_precision(logits, target, valid)
    target = target * (1 - 2 * label_smoothing) + label_smoothing
    weight = None if pos_weight == 1 else torch.tensor(pos_weight, dtype=logits.dtype, device=logits.device)
    loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    return (loss * counts).sum()


def focal_sum(logits: Tensor, target: Tensor, valid: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss: cross entropy with easy pixels played down, summed over the pixels that count.

    Args:
        logits: (B, K, H, W) float, before sigmoid. Half precision is raised to float32.
        target: (B, K, H, W) float, 0 or 1.
        valid: (B, H, W) bool; other pixels add nothing and receive a gradient of exactly 0.
        alpha: In 0..1: weight of pixels whose target is 1; the others weigh ``1 - alpha``.
        gamma: 0 or more: how strongly easy pixels are played down; 0 is weighted cross entropy.

    Returns:
        Scalar, 0 or more.

    Raises:
        ShapeError: If the three do not fit together.

    Source: arXiv:1708.02002.
    """
    logits, target, counts = in_full_precision(logits, target, valid)
    wrong = logits * (1 - 2 * target)  # the logit of being wrong: negative where the pixel is right
    cross_entropy = F.softplus(wrong)
    easiness = torch.exp(gamma * (wrong - cross_entropy))  # sigmoid(wrong) ** gamma, with a finite gradient at 0
    balance = (1 - alpha) + (2 * alpha - 1) * target
    return (balance * easiness * cross_entropy * counts).sum()


def looks_like_probabilities(logits: Tensor) -> bool:
    """Whether what should be logits lies in 0..1 throughout: a sigmoid was probably applied already.

    Meant for one look at the start of a training; it waits for the device. A constant output is not suspected: a
    network that is initialised to say nothing gives 0 everywhere.
    """
    low, high = torch.aminmax(logits.detach())
    return bool((low >= 0) & (high <= 1) & (low < high))


def in_full_precision(logits: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and target in float32 (float64 stays) and 0 where a pixel does not count, and the mask as 0 or 1.

    Setting the logits to 0 there cuts them off from the gradient, however extreme they are.
    """
    check_shapes(logits, target, valid)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    valid = valid[:, None]
    return (
        logits.to(dtype).masked_fill(~valid, 0),
        target.to(dtype).masked_fill(~valid, 0),
        valid.to(dtype),
    )


def check_shapes(logits: Tensor, target: Tensor, valid: Tensor) -> None:
    """Raise ShapeError unless logits and target are (B, K, H, W) alike and valid is their (B, H, W)."""
    if logits.ndim != 4 or target.shape != logits.shape:
        raise ShapeError(
            f"target is {tuple(target.shape)}, logits are {tuple(logits.shape)}. "
            "A loss needs both as (batch, channels, height, width), alike."
        )
    expected = (logits.shape[0], *logits.shape[2:])
    if valid.shape != expected:
        raise ShapeError(f"valid is {tuple(valid.shape)}, logits ask for {expected}: (batch, height, width).")


def count_pixels(valid: Tensor, channels: int) -> Tensor:
    """Number of (pixel, channel) pairs that count, a float64 scalar on the mask's device; valid: (B, H, W) bool."""
    return as_weight(torch.count_nonzero(valid) * channels)


def as_weight(count: Tensor) -> Tensor:
    """An integer count as the float64 scalar that sums are divided by (float32 on mps, which has no float64)."""
    return count.to(torch.float32 if count.device.type == "mps" else torch.float64)


def split_ignored(target: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A mask as loaders for foreign loops give it, as target and valid.

    Args:
        target: (B, K, H, W) or (B, H, W) with 0, 1 and 255 for "does not count".
        valid: (B, H, W) bool, further pixels to leave out, or None.

    Returns:
        Target (B, K, H, W) float32 with 0 and 1, and valid (B, H, W) bool. A pixel counts where no channel holds 255.
    """
    if target.ndim == 3:
        target = target[:, None]
    ignored = target == IGNORE_INDEX
    counts = ~ignored.any(dim=1)
    target = target.float().masked_fill(ignored, 0)
    return target, counts if valid is None else counts & valid


class FocalLoss(nn.Module):
    """Mean focal loss over the pixels that count, on logits.

    Args:
        alpha: In 0..1: weight of pixels whose target is 1; the others weigh ``1 - alpha``.
        gamma: 0 or more: how strongly easy pixels are played down.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Scalar; shapes as ``focal_sum``, 255 in ``target`` does not count, ``valid`` may be left out."""
        target, counts = split_ignored(target, valid)
        total = focal_sum(logits, target, counts, alpha=self.alpha, gamma=self.gamma)
        return total / count_pixels(counts, logits.shape[1]).clamp(min=1).to(total.dtype)
