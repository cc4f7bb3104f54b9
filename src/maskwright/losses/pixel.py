"""Losses summed over pixels: cross entropy and focal, binary and for classes, and what every loss here agrees on.

Functions take logits and give the SUM over the pixels that count. Whoever calls divides once, by the number of pixels
of everything that belongs together (a batch, an accumulation group, all ranks), so grouping changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from maskwright.errors import DataError, ShapeError
from maskwright.pixels import IGNORE_INDEX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = [
    "as_weight",
    "balanced_bce_by_sample",
    "bce_by_sample",
    "bce_sum",
    "check_classes",
    "check_shapes",
    "class_focal_by_sample",
    "count_pixels",
    "count_positions",
    "cross_entropy_by_sample",
    "focal_by_sample",
    "focal_sum",
    "in_full_precision",
    "looks_like_probabilities",
    "one_hot",
    "split_ignored",
    "split_ignored_classes",
]


def bce_by_sample(
    logits: Tensor, target: Tensor, valid: Tensor, *, pos_weight: float = 1.0, label_smoothing: float = 0.0
) -> Tensor:
    """Binary cross entropy, summed over the pixels that count of each sample and channel.

    Args:
        logits: (B, K, H, W) float, before sigmoid. Half precision is raised to float32.
        target: (B, K, H, W) float, 0 or 1.
        valid: (B, H, W) bool; other pixels add nothing and receive a gradient of exactly 0.
        pos_weight: Weight of pixels whose target is 1.
        label_smoothing: In 0..0.5: targets become ``label_smoothing`` and ``1 - label_smoothing``.

    Returns:
        (B, K), 0 or more.

    Raises:
        ShapeError: If the three do not fit together.
    """
    logits, target, counts = in_full_precision(logits, target, valid)
    target = target * (1 - 2 * label_smoothing) + label_smoothing
    weight = None if pos_weight == 1 else logits.new_full((), pos_weight)
    loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    return (loss * counts).sum((2, 3))


def bce_sum(
    logits: Tensor, target: Tensor, valid: Tensor, *, pos_weight: float = 1.0, label_smoothing: float = 0.0
) -> Tensor:
    """``bce_by_sample`` added up to a scalar; divide by ``count_pixels``."""
    return bce_by_sample(logits, target, valid, pos_weight=pos_weight, label_smoothing=label_smoothing).sum()


def balanced_bce_by_sample(logits: Tensor, target: Tensor, valid: Tensor, *, cap: float = 10.0) -> Tensor:
    """Binary cross entropy in which both classes of a sample and channel count alike, summed for each.

    Pixels with target 1 weigh as many times those with 0 as there are more of the latter, within 1 / cap..cap. The
    weight is that of each sample, not of the batch, so grouping changes nothing.

    Args:
        logits: (B, K, H, W) float, before sigmoid. Half precision is raised to float32.
        target: (B, K, H, W) float, 0 or 1.
        valid: (B, H, W) bool; other pixels add nothing and receive a gradient of exactly 0.
        cap: 1 or more.

    Returns:
        (B, K), 0 or more; divide the sum by ``count_pixels``.

    Raises:
        ShapeError: If the three do not fit together.
    """
    logits, target, counts = in_full_precision(logits, target, valid)
    positives = target.sum((2, 3), keepdim=True)
    negatives = counts.sum((2, 3), keepdim=True) - positives
    weight = (negatives / positives.clamp(min=1)).clamp(1 / cap, cap)
    loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    return (loss * counts).sum((2, 3))


def focal_by_sample(
    logits: Tensor, target: Tensor, valid: Tensor, *, alpha: float | None = 0.25, gamma: float = 2.0
) -> Tensor:
    """Focal loss: cross entropy with easy pixels played down, summed for each sample and channel.

    Args:
        logits: (B, K, H, W) float, before sigmoid. Half precision is raised to float32.
        target: (B, K, H, W) float, 0 or 1.
        valid: (B, H, W) bool; other pixels add nothing and receive a gradient of exactly 0.
        alpha: In 0..1: weight of pixels whose target is 1; the others weigh ``1 - alpha``. None: all weigh 1.
        gamma: 0 or more: how strongly easy pixels are played down; 0 is weighted cross entropy.

    Returns:
        (B, K), 0 or more.

    Raises:
        ShapeError: If the three do not fit together.

    Source: arXiv:1708.02002.
    """
    logits, target, counts = in_full_precision(logits, target, valid)
    wrong = logits * (1 - 2 * target)  # the logit of being wrong: negative where the pixel is right
    cross_entropy = F.softplus(wrong)
    easiness = torch.exp(gamma * (wrong - cross_entropy))  # sigmoid(wrong) ** gamma, with a finite gradient at 0
    loss = easiness * cross_entropy * counts
    if alpha is not None:
        loss = ((1 - alpha) + (2 * alpha - 1) * target) * loss
    return loss.sum((2, 3))


def focal_sum(
    logits: Tensor, target: Tensor, valid: Tensor, *, alpha: float | None = 0.25, gamma: float = 2.0
) -> Tensor:
    """``focal_by_sample`` added up to a scalar; divide by ``count_pixels``."""
    return focal_by_sample(logits, target, valid, alpha=alpha, gamma=gamma).sum()


def cross_entropy_by_sample(
    logits: Tensor,
    classes: Tensor,
    valid: Tensor,
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy of classes that exclude each other, summed over the pixels that count of each sample.

    Args:
        logits: (B, K, H, W) float, before softmax. Half precision is raised to float32.
        classes: (B, H, W) integer class ids in 0..K - 1; anything where not valid.
        valid: (B, H, W) bool; other pixels add nothing and receive a gradient of exactly 0.
        class_weights: K numbers of 0 or more: a pixel's loss is multiplied by that of its class. Dividing the sum by
            the number of pixels, and not by their weights, keeps it independent of how tiles are grouped.
        label_smoothing: In 0..1: the share of the target that is spread evenly over all K classes.

    Returns:
        (B, 1), 0 or more; divide the sum by ``count_positions``.

    Raises:
        ShapeError: If the three do not fit together, or the weights are not K.
        DataError: If a class id is not in 0..K - 1 (looked at on the CPU only; reading values stalls other devices).
    """
    log_probs, index, counts = _log_softmax(logits, classes, valid)
    of_class = -log_probs.gather(1, index)  # (B, 1, H, W)
    loss = (1 - label_smoothing) * of_class - label_smoothing * log_probs.mean(1, keepdim=True)
    return (_by_class(loss, index, class_weights, logits.shape[1]) * counts).sum((2, 3))


def class_focal_by_sample(
    logits: Tensor,
    classes: Tensor,
    valid: Tensor,
    *,
    class_weights: Sequence[float] | None = None,
    gamma: float = 2.0,
) -> Tensor:
    """Focal loss of classes that exclude each other: (1 - p) ** gamma * cross entropy, p that of the right class.

    Arguments, shape of the result and errors as in ``cross_entropy_by_sample``; K must be 2 or more.

    Source: arXiv:1708.02002 with softmax.
    """
    if logits.ndim == 4 and logits.shape[1] < 2:
        raise ShapeError(f"logits are {tuple(logits.shape)}: classes that exclude each other need 2 channels or more.")
    log_probs, index, counts = _log_softmax(logits, classes, valid)
    of_class = log_probs.gather(1, index)
    others = log_probs.masked_fill(torch.zeros_like(log_probs, dtype=torch.bool).scatter(1, index, True), -torch.inf)
    log_miss = torch.logsumexp(others, dim=1, keepdim=True)  # log(1 - p), exact where p is close to 1
    loss = torch.exp(gamma * log_miss) * -of_class
    return (_by_class(loss, index, class_weights, logits.shape[1]) * counts).sum((2, 3))


def one_hot(classes: Tensor, valid: Tensor, channels: int) -> Tensor:
    """Class ids (B, H, W) as (B, K, H, W) float32 with 0 and 1; 0 in every channel where not valid."""
    index = classes.long().masked_fill(~valid, 0)[:, None]
    shape = (classes.shape[0], channels, *classes.shape[1:])
    return torch.zeros(shape, device=classes.device).scatter_(1, index, 1.0).masked_fill(~valid[:, None], 0)


def _log_softmax(logits: Tensor, classes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log probabilities, class ids (B, 1, H, W) with 0 where not valid, and the mask as 0 or 1."""
    check_classes(logits, classes, valid)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    valid = valid[:, None]
    log_probs = torch.log_softmax(logits.to(dtype).masked_fill(~valid, 0), dim=1)
    return log_probs, classes[:, None].long().masked_fill(~valid, 0), valid.to(dtype)


def _by_class(loss: Tensor, index: Tensor, class_weights: Sequence[float] | None, channels: int) -> Tensor:
    if class_weights is None:
        return loss
    if len(class_weights) != channels:
        raise ShapeError(f"{len(class_weights)} class weights are given for logits of {channels} channels.")
    weights = torch.tensor(class_weights, dtype=loss.dtype)
    return loss * weights.to(loss.device, non_blocking=True)[index]  # a plain copy would wait for the device


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
    _check_mask(valid)


def check_classes(logits: Tensor, classes: Tensor, valid: Tensor) -> None:
    """Raise unless logits are (B, K, H, W) and classes and valid (B, H, W) of class ids in 0..K - 1 and of bool."""
    expected = (logits.shape[0], *logits.shape[2:])
    if logits.ndim != 4 or classes.shape != expected or valid.shape != expected:
        raise ShapeError(
            f"classes are {tuple(classes.shape)} and valid is {tuple(valid.shape)}, logits are {tuple(logits.shape)}. "
            "Logits must be (batch, channels, height, width), the others the same without channels."
        )
    _check_mask(valid)
    if classes.is_floating_point():
        raise ShapeError(f"classes are {classes.dtype}; class ids must be integers. Convert them with .long().")
    if classes.is_cpu:
        seen = classes[valid]
        if seen.numel() and not 0 <= int(seen.min()) <= int(seen.max()) < logits.shape[1]:
            raise DataError(
                f"Class ids reach from {int(seen.min())} to {int(seen.max())}, the network has {logits.shape[1]} "
                f"channels: 0 to {logits.shape[1] - 1}. Mark pixels that do not count as not valid."
            )


def _check_mask(valid: Tensor) -> None:
    if valid.dtype != torch.bool:
        raise ShapeError(f"valid is {valid.dtype}, but must be torch.bool: True where a pixel counts.")


def count_positions(valid: Tensor) -> Tensor:
    """Number of pixels that count, whatever the channels, a float64 scalar; valid: (B, H, W) bool."""
    return as_weight(torch.count_nonzero(valid))


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


def split_ignored_classes(classes: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Class ids (B, H, W) with 255 for "does not count", as class ids and valid (B, H, W) bool."""
    counts = classes != IGNORE_INDEX
    return classes, counts if valid is None else counts & valid
