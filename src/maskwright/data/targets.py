"""Gap masks from canopy heights, for any height, and their optional cleaning."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from maskwright.errors import DataError, ShapeError
from maskwright.pixels import IGNORE_INDEX

__all__ = ["GAP", "NO_GAP", "clean_gap_mask", "gap_mask"]

GAP = 1
NO_GAP = 0
_SQUARE = np.ones((3, 3), np.uint8)


def gap_mask(canopy: np.ndarray, valid: np.ndarray, heights_m: Sequence[float]) -> np.ndarray:
    """Where the canopy is lower than each height.

    Args:
        canopy: (H, W) float metres above ground.
        valid: (H, W) bool.
        heights_m: K heights in metres.

    Returns:
        (K, H, W) uint8: 1 where the canopy is lower than the height, 0 where it is not, 255 where not valid or NaN.

    Raises:
        ShapeError: If the shapes differ.
    """
    if canopy.shape != valid.shape or canopy.ndim != 2:
        raise ShapeError(f"canopy is {canopy.shape} and valid is {valid.shape}; both must be (H, W).")
    mask = np.empty((len(heights_m), *canopy.shape), np.uint8)
    unknown = np.isnan(canopy)
    unknown |= ~valid
    for plane, height_m in zip(mask, heights_m, strict=True):
        np.less(canopy, height_m, out=plane.view(np.bool_))
        np.copyto(plane, IGNORE_INDEX, where=unknown)
    return mask


def clean_gap_mask(
    mask: np.ndarray,
    min_gap_px: int = 0,
    max_gap_px: int | None = None,
    median: bool = False,
    fill_holes_px: int = 0,
    erode: int = 0,
    dilate: int = 0,
) -> np.ndarray:
    """A tidier copy of a gap mask. Steps in this order: median, holes, erosion, dilation, size of gaps.

    Pixels that are not valid stay 255, turn nothing into a gap and eat nothing away. Gaps are joined over corners
    (8 neighbours), holes over sides (4). With everything off the copy is equal.

    Args:
        mask: (H, W) or (K, H, W) uint8 of 1 gap, 0 none, 255 not valid.
        min_gap_px: Gaps of fewer pixels are removed.
        max_gap_px: Gaps of more pixels are removed; None keeps them.
        median: Each valid pixel takes the majority of the valid pixels in its 3 x 3 square; a tie changes nothing.
        fill_holes_px: Holes of up to so many pixels become gap, if gap surrounds them on all sides.
        erode: Times one pixel is taken off the rim of each gap.
        dilate: Times one pixel is added to it.

    Raises:
        DataError: If the mask holds other values.
    """
    if mask.ndim not in (2, 3):
        raise ShapeError(f"A gap mask is (H, W) or (K, H, W), not {mask.shape}.")
    if not np.isin(np.unique(mask), (NO_GAP, GAP, IGNORE_INDEX)).all():
        raise DataError(
            f"A gap mask holds 0, 1 and 255 only; this one holds {np.unique(mask)[:8].tolist()}. "
            "Make it with gap_mask from canopy heights."
        )
    out = np.array(mask, np.uint8, order="C")
    for plane in out.reshape(-1, *out.shape[-2:]):
        unknown = plane == IGNORE_INDEX
        gap = (plane == GAP).astype(np.uint8)
        if median:
            gap = _majority(gap, unknown)
        if fill_holes_px:
            gap = _without_holes(gap, unknown, fill_holes_px)
        if erode:
            kept = cv2.erode(gap | unknown, _SQUARE, iterations=erode, borderType=cv2.BORDER_CONSTANT, borderValue=1)
            gap = kept & ~unknown
        if dilate:
            gap = cv2.dilate(gap, _SQUARE, iterations=dilate) & ~unknown
        if min_gap_px > 1 or max_gap_px is not None:
            gap = _of_size(gap, min_gap_px, max_gap_px)
        plane[...] = np.where(unknown, np.uint8(IGNORE_INDEX), gap)
    return out


def _majority(gap: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    known = (~unknown).astype(np.uint8)
    votes = cv2.boxFilter(gap, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    voters = cv2.boxFilter(known, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    decided: np.ndarray = np.where(2 * votes == voters, gap, 2 * votes > voters) * known
    return decided


def _without_holes(gap: np.ndarray, unknown: np.ndarray, largest_px: int) -> np.ndarray:
    """Fill holes that touch neither the edge of the raster nor a pixel that was not measured."""
    count, label, stats, _ = cv2.connectedComponentsWithStats(1 - gap, connectivity=4)
    fill = stats[:, cv2.CC_STAT_AREA] <= largest_px
    fill[0] = False  # the gaps themselves
    for line in (label[0], label[-1], label[:, 0], label[:, -1], label[unknown]):
        fill[line] = False
    return gap | fill[label] if count > 1 else gap


def _of_size(gap: np.ndarray, least_px: int, most_px: int | None) -> np.ndarray:
    _, label, stats, _ = cv2.connectedComponentsWithStats(gap, connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    keep = area >= least_px
    if most_px is not None:
        keep &= area <= most_px
    keep[0] = False
    kept: np.ndarray = keep[label].astype(np.uint8)
    return kept
