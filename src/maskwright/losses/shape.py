"""Losses of shape: boundaries, and centre lines of thin things (soft clDice).

Both look at neighbours. A pixel that does not count is no neighbour: it neither makes an edge nor hides one. Both give
a value for each sample and channel, so grouping changes nothing. A uniform picture has neither edges nor centre lines:
painting everything where nothing is wanted costs 0 here. Use them beside a loss of overlap, not instead of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from maskwright.losses.pixel import in_full_precision

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["boundary_by_sample", "cldice_by_sample", "soft_skeleton"]


def boundary_by_sample(
    logits: Tensor, target: Tensor, valid: Tensor, *, width_px: int = 3, tolerance_px: int = 5, smooth: float = 1.0
) -> Tensor:
    """One minus the soft F1 score of boundaries, for each sample and channel.

    Args:
        logits: (B, K, H, W) float, before sigmoid. Half precision is raised to float32.
        target: (B, K, H, W) float, 0 or 1.
        valid: (B, H, W) bool; other pixels are in no sum and receive a gradient of exactly 0.
        width_px: Odd, 3 or more: side of the square in which a pixel next to the background is a boundary.
        tolerance_px: Odd: side of the square within which two boundaries meet.
        smooth: Larger than 0. Added above and below both ratios, in pixels.

    Returns:
        (B, K) in 0..1. No boundary on either side: 0.

    Raises:
        ShapeError: If the three do not fit together.

    Source: arXiv:1905.07852.
    """
    logits, target, counts = in_full_precision(logits, target, valid)
    painted = _boundary(torch.sigmoid(logits), counts, width_px)
    wanted = _boundary(target, counts, width_px)
    near_painted, near_wanted = (_pool(edge, tolerance_px) for edge in (painted, wanted))
    precision = _ratio(painted * near_wanted, painted, smooth)
    recall = _ratio(wanted * near_painted, wanted, smooth)
    return 1 - 2 * precision * recall / (precision + recall)


def cldice_by_sample(
    logits: Tensor, target: Tensor, valid: Tensor, *, iterations: int = 3, smooth: float = 1.0
) -> Tensor:
    """One minus the soft centre line Dice, for each sample and channel: whether thin things stay connected.

    Args:
        logits: (B, K, H, W) float, before sigmoid. Half precision is raised to float32.
        target: (B, K, H, W) float, 0 or 1.
        valid: (B, H, W) bool; other pixels are in no sum and receive a gradient of exactly 0.
        iterations: 0 or more: half the width, in pixels, of the widest thing that is thinned to its centre line.
        smooth: Larger than 0. Added above and below both ratios, in pixels.

    Returns:
        (B, K) in 0..1. No centre line on either side: 0.

    Raises:
        ShapeError: If the three do not fit together.

    Source: arXiv:2003.07311.
    """
    logits, target, counts = in_full_precision(logits, target, valid)
    probs = torch.sigmoid(logits) * counts
    line, wanted_line = (soft_skeleton(area, counts, iterations) for area in (probs, target))
    precision = _ratio(line * target, line, smooth)
    recall = _ratio(wanted_line * probs, wanted_line, smooth)
    return 1 - 2 * precision * recall / (precision + recall)


def soft_skeleton(area: Tensor, counts: Tensor, iterations: int) -> Tensor:
    """Centre lines of an area: what openings of ever thinner remains take away.

    Args:
        area: (B, K, H, W) in 0..1, 0 where not valid.
        counts: (B, 1, H, W), 1 where valid and 0 elsewhere.
        iterations: How often the area is eroded.
    """
    line = F.relu(area - _open(area, counts))
    for _ in range(iterations):
        area = _erode(area, counts)
        rest = F.relu(area - _open(area, counts))
        line = line + F.relu(rest - line * rest)
    return line


def _boundary(area: Tensor, counts: Tensor, width_px: int) -> Tensor:
    """How much of the background around a pixel is not in the pixel itself: 1 on the inner edge of an area."""
    background = (1 - area) * counts
    return (_pool(background, width_px) - background) * counts


def _open(area: Tensor, counts: Tensor) -> Tensor:
    return _pool(_erode(area, counts), 3) * counts


def _erode(area: Tensor, counts: Tensor) -> Tensor:
    """The lowest value of the cross around a pixel; beyond the picture and where not valid nothing is low."""
    lack = (1 - area) * counts
    rows = F.max_pool2d(lack, (3, 1), stride=1, padding=(1, 0))
    cols = F.max_pool2d(lack, (1, 3), stride=1, padding=(0, 1))
    return (1 - torch.maximum(rows, cols)) * counts


def _pool(values: Tensor, side_px: int) -> Tensor:
    return F.max_pool2d(values, side_px, stride=1, padding=side_px // 2)


def _ratio(part: Tensor, whole: Tensor, smooth: float) -> Tensor:
    return (part.sum((2, 3)) + smooth) / (whole.sum((2, 3)) + smooth)
