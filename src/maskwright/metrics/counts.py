"""Confusion counts: how many pixels were called rightly and wrongly, per image and channel.

Everything else is computed from these whole numbers, so results can be merged by addition and never depend on how
images were batched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import DataError, ModelError, ShapeError
from maskwright.pixels import require_same_hw

__all__ = ["as_bool", "confusion_counts", "count_arrays", "probability_counts"]


def confusion_counts(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Count true positives, false positives, false negatives and true negatives among the pixels that count.

    Args:
        pred: (B, K, H, W) bool, True where called positive.
        target: (B, K, H, W) bool, True where positive.
        valid: (B, H, W) bool; other pixels are in none of the counts.

    Returns:
        (B, K, 4) int64 on the device of ``pred``: TP, FP, FN, TN.

    Raises:
        ShapeError: If the three do not fit together.
        ModelError: If one of them is not bool, for example probabilities that no threshold cut.
    """
    _check(pred, target, valid)
    if pred.device.type == "cpu":
        return torch.from_numpy(_count(pred.detach().numpy(), target.numpy(), valid.numpy()))
    counted = valid.unsqueeze(1)
    said, true = pred & counted, target & counted
    hits = (said & true).sum(dim=(-2, -1), dtype=torch.int64)
    said_pixels = said.sum(dim=(-2, -1), dtype=torch.int64)
    true_pixels = true.sum(dim=(-2, -1), dtype=torch.int64)
    valid_pixels = counted.sum(dim=(-2, -1), dtype=torch.int64)
    rest = valid_pixels - said_pixels - true_pixels + hits
    return torch.stack((hits, said_pixels - hits, true_pixels - hits, rest), dim=-1)


def count_arrays(pred: NDArray[np.bool_], target: NDArray[np.bool_], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The same as :func:`confusion_counts` for numpy arrays: (B, K, 4) int64."""
    _check(pred, target, valid)
    return _count(pred, target, valid)


def probability_counts(
    probs: Tensor, target: Tensor, valid: Tensor, probability_threshold: float
) -> tuple[Tensor, Tensor]:
    """Cut probabilities and count, in one pass over each image.

    Args:
        probs: (B, K, H, W) float, probabilities 0..1; called positive above the threshold.
        target: (B, K, H, W) bool, True where positive.
        valid: (B, H, W) bool; other pixels are in none of the counts and may hold anything.
        probability_threshold: 0..1.

    Returns:
        (B, K, 4) int64 TP, FP, FN, TN; and a scalar bool, True if a valid pixel holds something that is no probability,
        NaN or a value outside 0..1. Both on the device of ``probs``, which is not waited for.

    Raises:
        ShapeError: If the three do not fit together.
        ModelError: If target or valid is not bool.
    """
    _check(probs, target, valid, pred_is_bool=False)
    values = probs.detach()
    if not values.is_cpu:
        inside = (values >= 0) & (values <= 1)  # NaN is not
        strange = (~inside & valid.unsqueeze(1)).any()
        return confusion_counts(values > probability_threshold, target, valid), strange
    plain = values if values.dtype in (torch.float32, torch.float64) else values.float()
    counts, strange_found = _cut_and_count(plain.numpy(), target.numpy(), valid.numpy(), probability_threshold)
    return torch.from_numpy(counts), torch.tensor(strange_found)


def as_bool(mask: Tensor) -> Tensor:
    """A mask of zeros and ones as bool; a bool mask is handed back untouched.

    Raises:
        DataError: If the mask holds anything else, for example 255 for pixels that do not count, or NaN.
    """
    if mask.dtype == torch.bool:
        return mask
    positive = mask == 1
    strange = ~(positive | (mask == 0))
    if bool(strange.any()):
        found = mask[strange].flatten()[0].item()
        raise DataError(
            f"A mask to be scored holds {found:g}; only 0 and 1 have a meaning. "
            "Give pixels that do not count through valid, as False."
        )
    return positive


def _check(pred: Any, target: Any, valid: Any, *, pred_is_bool: bool = True) -> None:
    require_same_hw(pred=pred, target=target, valid=valid)
    shape = tuple(pred.shape)
    if len(shape) != 4 or shape != tuple(target.shape) or tuple(valid.shape) != (shape[0], *shape[2:]):
        raise ShapeError(
            f"Called {shape}, target {tuple(target.shape)} and valid {tuple(valid.shape)} do not fit together: "
            "the first two are (B, K, H, W), valid is (B, H, W)."
        )
    for name, array in (("pred", pred), ("target", target), ("valid", valid))[not pred_is_bool :]:
        if array.dtype not in (torch.bool, np.dtype(np.bool_)):
            raise ModelError(f"{name} is {array.dtype}, not bool. Compare values with a threshold before counting.")


def _count(pred: NDArray[np.bool_], target: NDArray[np.bool_], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Slice by slice: an image's masks stay in the processor's cache, and count_nonzero reads bytes at full width."""
    batch, channels, *size = pred.shape
    counts = np.empty((batch, channels, 4), dtype=np.int64)
    scratch = np.empty((3, *size), dtype=np.bool_)  # kept for all slices: fresh pages cost more than counting
    for b in range(batch):
        for k in range(channels):
            counts[b, k] = _count_slice(pred[b, k], target[b, k], valid[b], scratch)
    return counts


def _cut_and_count(
    probs: NDArray[Any], target: NDArray[np.bool_], valid: NDArray[np.bool_], probability_threshold: float
) -> tuple[NDArray[np.int64], bool]:
    batch, channels, *size = probs.shape
    counts = np.empty((batch, channels, 4), dtype=np.int64)
    scratch = np.empty((3, *size), dtype=np.bool_)
    said, strange = np.empty(size, dtype=np.bool_), False
    for b in range(batch):
        for k in range(channels):
            values = probs[b, k]
            if values.size and not _all_in_0_to_1(values):
                counted = values[valid[b]]
                strange = strange or not ((counted >= 0) & (counted <= 1)).all()
            np.greater(values, probability_threshold, out=said)
            counts[b, k] = _count_slice(said, target[b, k], valid[b], scratch)
    return counts, bool(strange)


def _all_in_0_to_1(values: NDArray[Any]) -> bool:
    """Whether nothing lies outside, in one pass: bits of floats from 0 to 1 rise with them, read as whole numbers.

    Those of negative numbers and NaN lie above, and so do those of -0.0, which is looked at a second time.
    """
    whole = np.uint32 if values.dtype == np.float32 else np.uint64
    if values.view(whole).max() <= np.ones((), values.dtype).view(whole):
        return True
    return bool(values.min() >= 0 and values.max() <= 1)


def _count_slice(
    said: NDArray[np.bool_], true: NDArray[np.bool_], valid: NDArray[np.bool_], scratch: NDArray[np.bool_]
) -> tuple[int, int, int, int]:
    said_valid, true_valid, both = scratch
    valid_pixels = int(np.count_nonzero(valid))
    if valid_pixels == valid.size:
        said_valid, true_valid = said, true
    else:
        np.logical_and(said, valid, out=said_valid)
        np.logical_and(true, valid, out=true_valid)
    np.logical_and(said_valid, true_valid, out=both)
    hits, said_pixels, true_pixels = (int(np.count_nonzero(mask)) for mask in (both, said_valid, true_valid))
    rest = valid_pixels - said_pixels - true_pixels + hits
    return hits, said_pixels - hits, true_pixels - hits, rest
