"""Answers that need no training. A model that does not beat them has learned nothing worth using."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ConfigError, ShapeError

__all__ = ["everything_counts", "nothing_counts", "prevalence_counts", "pseudo_canopy"]

Counts = NDArray[np.int64]


def nothing_counts(counts: NDArray[np.int64]) -> Counts:
    """Counts of "nothing is a gap".

    Args:
        counts: (..., 4) of any answer on the same ground; only the true classes are read.

    Returns:
        (..., 4) int64.
    """
    positives, negatives = _truth(counts)
    none = np.zeros_like(positives)
    return np.stack((none, none, positives, negatives), axis=-1)


def everything_counts(counts: NDArray[np.int64]) -> Counts:
    """Counts of "everything is a gap"; arguments as for :func:`nothing_counts`."""
    positives, negatives = _truth(counts)
    none = np.zeros_like(positives)
    return np.stack((positives, negatives, none, none), axis=-1)


def prevalence_counts(counts: NDArray[np.int64], train_share: Sequence[float] | NDArray[np.float64]) -> Counts:
    """Counts of a coin that says "gap" as often as gaps occur on the training ground.

    Expected values rounded to whole pixels, so nothing is thrown at random.

    Args:
        counts: (N, K, 4) of any answer on the same ground; only the true classes are read.
        train_share: (K,) share of gaps among the valid training pixels at each height, 0..1.

    Returns:
        (N, K, 4) int64.

    Raises:
        ShapeError: If there is not one share for each height.
        ConfigError: If a share is not inside 0..1.
    """
    share = np.asarray(train_share, dtype=np.float64)
    positives, negatives = _truth(counts)
    if share.shape != positives.shape[-1:]:
        raise ShapeError(f"{share.size} training shares do not fit {positives.shape[-1]} heights; give one for each.")
    if not ((share >= 0) & (share <= 1)).all():
        raise ConfigError(f"Training shares {share.tolist()} are not all inside 0..1.")
    hits, false_alarms = (np.rint(pixels * share).astype(np.int64) for pixels in (positives, negatives))
    return np.stack((hits, false_alarms, positives - hits, negatives - false_alarms), axis=-1)


def pseudo_canopy(surface: NDArray[np.floating], window_px: int) -> NDArray[np.float32]:
    """Canopy height guessed from the surface alone: the surface minus its grey opening (white top-hat).

    The opening, a moving minimum followed by a moving maximum, is the ground as far as it shows within a window. Pixels
    that were not measured, and those beyond the edge, take no part in either.

    Args:
        surface: (H, W) heights in metres, NaN where not measured.
        window_px: Side of the square window; wider than the widest crown, narrower than the hills.

    Returns:
        (H, W) float32 metres, 0 or more; NaN where the surface is.

    Raises:
        ShapeError: If the surface is not (H, W).
        ConfigError: If the window is smaller than one pixel.
    """
    if surface.ndim != 2:
        raise ShapeError(f"A surface is (H, W); this one has shape {surface.shape}.")
    if window_px < 1:
        raise ConfigError(f"window_px: {window_px} is smaller than 1 px.")
    if surface.size == 0:
        return surface.astype(np.float32)
    heights = np.ascontiguousarray(surface, dtype=np.float32)
    missing = np.isnan(heights)
    lowest = _moving_extreme(np.where(missing, np.float32(np.inf), heights), window_px, highest=False)
    lowest[np.isposinf(lowest)] = -np.inf  # nothing measured within the window: no ground to raise
    opened = _moving_extreme(lowest, window_px, highest=True)
    canopy: NDArray[np.float32] = heights - opened
    return canopy


def _moving_extreme(values: NDArray[np.float32], window_px: int, *, highest: bool) -> NDArray[np.float32]:
    """Minimum or maximum in a square window, the minimum's window mirrored for the maximum, edges left out."""
    import cv2

    before = window_px // 2
    anchor = window_px - 1 - before if highest else before
    change, beyond = (cv2.dilate, -np.inf) if highest else (cv2.erode, np.inf)
    for shape, point in (((window_px, 1), (anchor, 0)), ((1, window_px), (0, anchor))):  # rows, then columns
        kernel = cv2.getStructuringElement(cv2.MORPH_RECT, shape)
        values = np.asarray(
            change(values, kernel, anchor=point, borderType=cv2.BORDER_CONSTANT, borderValue=float(beyond)), np.float32
        )
    return values


def _truth(counts: NDArray[np.int64]) -> tuple[Counts, Counts]:
    whole = np.asarray(counts, dtype=np.int64)
    if whole.ndim == 0 or whole.shape[-1] != 4:
        raise ShapeError(f"Counts of shape {whole.shape} do not end in 4: TP, FP, FN, TN.")
    return whole[..., 0] + whole[..., 2], whole[..., 1] + whole[..., 3]
