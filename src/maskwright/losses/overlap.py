"""Losses of overlap: one minus a soft Dice, Jaccard or Tversky ratio, and the Lovasz extension of Jaccard.

All give a value for each sample and channel. With ``reduction="batch"`` a ratio is taken over the whole batch: such a
loss depends on how tiles are grouped, and parts of an accumulation group do not add up to the loss of one big batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from maskwright.losses.pixel import as_weight, check_classes, in_full_precision, one_hot

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Activation",
    "LovaszForm",
    "Reduction",
    "count_images",
    "count_samples",
    "dice_by_sample",
    "dice_loss",
    "dice_sum",
    "jaccard_by_sample",
    "jaccard_loss",
    "lovasz_by_sample",
    "lovasz_softmax_by_sample",
    "tversky_by_sample",
    "tversky_loss",
]

Reduction = Literal["sample", "batch"]
Activation = Literal["sigmoid", "softmax"]
LovaszForm = Literal["hinge", "sigmoid"]


def dice_loss(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    smooth: float = 1.0,
    reduction: Reduction = "sample",
    squared_pred: bool = False,
    activation: Activation = "sigmoid",
) -> Tensor:
    """One minus the soft Dice overlap, for each sample and channel.

    Args:
        logits: (B, K, H, W) float, before sigmoid or softmax. Half precision is raised to float32.
        target: (B, K, H, W) float, 0 or 1.
        valid: (B, H, W) bool; other pixels are in no sum and receive a gradient of exactly 0.
        smooth: Larger than 0. Added above and below the ratio, in pixels; an empty tile stays defined.
        reduction: ``sample``: one ratio for each sample and channel. ``batch``: one ratio for each channel over the
            whole batch, which depends on how tiles are grouped.
        squared_pred: Sum squares below the ratio instead of plain values (arXiv:1606.04797 as printed).
        activation: ``sigmoid``: channels are questions of their own. ``softmax``: they exclude each other.

    Returns:
        (B, K), or (1, K) for ``batch``, in 0..1. Nothing to find and nothing found: 0. Nothing to find, everything
        painted: close to 1. A sample without a valid pixel: 0.

    Raises:
        ShapeError: If the three tensors do not fit together.

    Source: arXiv:1606.04797 (plain sums instead of squares unless asked).
    """
    overlap, painted, wanted = _areas(logits, target, valid, reduction, activation, squared_pred)
    return 1 - (2 * overlap + smooth) / (painted + wanted + smooth)


def dice_by_sample(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    smooth: float = 1.0,
    reduction: Reduction = "sample",
    squared_pred: bool = False,
    activation: Activation = "sigmoid",
) -> Tensor:
    """``dice_loss`` as (B, K); with ``batch`` each sample that has a pixel to count gets its channel's loss."""
    loss = dice_loss(
        logits,
        target,
        valid,
        smooth=smooth,
        reduction=reduction,
        squared_pred=squared_pred,
        activation=activation,
    )
    return _for_each_sample(loss, valid, reduction)


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
    return dice_by_sample(logits, target, valid, smooth=smooth, reduction=reduction, squared_pred=squared_pred).sum()


def jaccard_loss(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    smooth: float = 1.0,
    reduction: Reduction = "sample",
    squared_pred: bool = False,
    activation: Activation = "sigmoid",
) -> Tensor:
    """One minus the soft Jaccard overlap (intersection over union), for each sample and channel.

    Arguments, shape, the four empty and full cases, and errors as in ``dice_loss``.
    """
    overlap, painted, wanted = _areas(logits, target, valid, reduction, activation, squared_pred)
    return 1 - (overlap + smooth) / (painted + wanted - overlap + smooth)


def jaccard_by_sample(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    smooth: float = 1.0,
    reduction: Reduction = "sample",
    squared_pred: bool = False,
    activation: Activation = "sigmoid",
) -> Tensor:
    """``jaccard_loss`` as (B, K); with ``batch`` each sample that has a pixel to count gets its channel's loss."""
    loss = jaccard_loss(
        logits,
        target,
        valid,
        smooth=smooth,
        reduction=reduction,
        squared_pred=squared_pred,
        activation=activation,
    )
    return _for_each_sample(loss, valid, reduction)


def tversky_loss(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    reduction: Reduction = "sample",
    activation: Activation = "sigmoid",
) -> Tensor:
    """One minus the Tversky index, which weighs false alarms and misses apart, for each sample and channel.

    Args:
        logits: As in ``dice_loss``, like all not explained here.
        target: (B, K, H, W) float, 0 or 1.
        valid: (B, H, W) bool.
        alpha: 0 or more: weight of false alarms (painted, not wanted).
        beta: 0 or more: weight of misses (wanted, not painted). Larger than ``alpha`` favours recall. Both 0.5: Dice
            with twice the ``smooth``; both 1: Jaccard.
        smooth: Larger than 0, in pixels.
        reduction: ``sample`` or ``batch``.
        activation: ``sigmoid`` or ``softmax``.

    Returns:
        As ``dice_loss``.

    Source: arXiv:1706.05721.
    """
    overlap, painted, wanted = _areas(logits, target, valid, reduction, activation, squared_pred=False)
    false_alarms, misses = painted - overlap, wanted - overlap
    return 1 - (overlap + smooth) / (overlap + alpha * false_alarms + beta * misses + smooth)


def tversky_by_sample(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    reduction: Reduction = "sample",
    activation: Activation = "sigmoid",
) -> Tensor:
    """``tversky_loss`` as (B, K); with ``batch`` each sample that has a pixel to count gets its channel's loss."""
    loss = tversky_loss(
        logits, target, valid, alpha=alpha, beta=beta, smooth=smooth, reduction=reduction, activation=activation
    )
    return _for_each_sample(loss, valid, reduction)


def lovasz_by_sample(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    form: LovaszForm = "hinge",
    reduction: Reduction = "sample",
) -> Tensor:
    """Lovasz extension of the Jaccard loss of single questions, for each sample and channel.

    Args:
        logits: (B, K, H, W) float, before sigmoid. Half precision is raised to float32.
        target: (B, K, H, W) float, 0 or 1.
        valid: (B, H, W) bool; other pixels are in no sum and receive a gradient of exactly 0.
        form: ``hinge``: errors are hinges of the logits; 0 once every pixel is right by 1, without upper bound.
            ``sigmoid``: errors of probabilities; in 0..1, so it is comparable with the other losses of overlap.
        reduction: As in ``dice_loss``; ``batch`` depends on how tiles are grouped.

    Returns:
        (B, K), 0 or more. Nothing to find: the largest error of a pixel, so close to 0 if nothing is painted.

    Source: arXiv:1705.08790.
    """
    logits, target, counts = in_full_precision(logits, target, valid)
    errors = 1 - logits * (2 * target - 1) if form == "hinge" else (target - torch.sigmoid(logits)).abs()
    if reduction == "sample":
        return _lovasz(errors.flatten(2), target.flatten(2), (counts > 0).expand_as(target).flatten(2))
    channels = logits.shape[1]
    side_by_side = (
        errors.transpose(0, 1).reshape(1, channels, -1),
        target.transpose(0, 1).reshape(1, channels, -1),
        (counts > 0).expand_as(target).transpose(0, 1).reshape(1, channels, -1),
    )
    return _for_each_sample(_lovasz(*side_by_side), valid, reduction)


def lovasz_softmax_by_sample(logits: Tensor, classes: Tensor, valid: Tensor) -> Tensor:
    """Lovasz extension of the Jaccard loss of classes that exclude each other, averaged over those present.

    Args:
        logits: (B, K, H, W) float, before softmax. Half precision is raised to float32.
        classes: (B, H, W) integer class ids in 0..K - 1; anything where not valid.
        valid: (B, H, W) bool; other pixels are in no sum and receive a gradient of exactly 0.

    Returns:
        (B, 1) in 0..1; a sample without a pixel that counts: 0. Divide the sum by ``count_images``.

    Raises:
        ShapeError: If the three do not fit together.
        DataError: If a class id is not in 0..K - 1.

    Source: arXiv:1705.08790.
    """
    check_classes(logits, classes, valid)
    target = one_hot(classes, valid, logits.shape[1])
    logits, target, counts = in_full_precision(logits, target, valid)
    errors = (target - torch.softmax(logits, dim=1)).abs()
    by_class = _lovasz(errors.flatten(2), target.flatten(2), (counts > 0).expand_as(target).flatten(2))  # (B, K)
    present = target.flatten(2).amax(dim=2)
    return (by_class * present).sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp(min=1)


def count_samples(valid: Tensor, channels: int) -> Tensor:
    """Number of (sample, channel) pairs with a pixel that counts, a float64 scalar; valid: (B, H, W) bool."""
    return as_weight(valid.flatten(1).any(dim=1).sum() * channels)


def count_images(valid: Tensor) -> Tensor:
    """Number of samples with a pixel that counts, a float64 scalar; valid: (B, H, W) bool."""
    return as_weight(valid.flatten(1).any(dim=1).sum())


def _areas(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    reduction: Reduction,
    activation: Activation,
    squared_pred: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Overlap, painted and wanted area, each (B, K), or (1, K) for ``batch``."""
    logits, target, counts = in_full_precision(logits, target, valid)
    probs = torch.sigmoid(logits) if activation == "sigmoid" else torch.softmax(logits, dim=1)
    probs = probs * counts
    dims = (2, 3) if reduction == "sample" else (0, 2, 3)
    sums = (probs * target, probs * probs if squared_pred else probs, target)
    overlap, painted, wanted = (plane.sum(dims).view(-1, logits.shape[1]) for plane in sums)
    return overlap, painted, wanted


def _for_each_sample(loss: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "sample":
        return loss
    return loss * valid.flatten(1).any(dim=1, keepdim=True).to(loss.dtype)


def _lovasz(errors: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Errors weighted by what each adds to the Jaccard loss when taken in falling order; all (B, K, pixels)."""
    errors = errors.masked_fill(~counts, -torch.inf)  # last in order, and 0 after the hinge
    falling, order = errors.sort(dim=2, descending=True)
    wanted = target.gather(2, order)
    total = wanted.sum(2, keepdim=True)
    jaccard = 1 - (total - wanted.cumsum(2)) / (total + (1 - wanted).cumsum(2))
    added = torch.cat([jaccard[..., :1], jaccard[..., 1:] - jaccard[..., :-1]], dim=2)
    return (F.relu(falling) * added).sum(2)
