"""Losses of numbers, such as heights: summed over the pixels that count, so grouping changes nothing.

Prediction and target are compared as they are, in the unit of the target; no activation is applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from maskwright.losses.pixel import in_full_precision

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["absolute_by_sample", "absolute_squared_by_sample", "huber_by_sample", "squared_by_sample"]


def absolute_by_sample(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Absolute error, summed for each sample and channel.

    Args:
        prediction: (B, K, H, W) float. Half precision is raised to float32.
        target: (B, K, H, W) float; anything, also NaN, where not valid.
        valid: (B, H, W) bool; other pixels add nothing and receive a gradient of exactly 0.

    Returns:
        (B, K), 0 or more.

    Raises:
        ShapeError: If the three do not fit together.
    """
    return _error(prediction, target, valid).abs().sum((2, 3))


def squared_by_sample(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Squared error, summed for each sample and channel; arguments as in ``absolute_by_sample``."""
    return _error(prediction, target, valid).square().sum((2, 3))


def huber_by_sample(prediction: Tensor, target: Tensor, valid: Tensor, *, beta: float = 1.0) -> Tensor:
    """Squared error / (2 beta) up to ``beta``, then absolute error minus beta / 2: smooth, and calm about outliers.

    Arguments as in ``absolute_by_sample``; beta: larger than 0, in the unit of the target.
    """
    size = _error(prediction, target, valid).abs()
    near = size.clamp(max=beta)
    return (near * (size - near / 2) / beta).sum((2, 3))


def absolute_squared_by_sample(
    prediction: Tensor, target: Tensor, valid: Tensor, *, squared_share: float = 0.5
) -> Tensor:
    """Squared and absolute error added; arguments as in ``absolute_by_sample``; squared_share: in 0..1."""
    error = _error(prediction, target, valid)
    return (squared_share * error.square() + (1 - squared_share) * error.abs()).sum((2, 3))


def _error(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    prediction, target, _ = in_full_precision(prediction, target, valid)  # both 0 where not valid
    return torch.sub(prediction, target)
