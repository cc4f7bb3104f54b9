"""From maps to objects without proposals: peaks are centres, and every object pixel votes for the centre it belongs to.

After Panoptic-DeepLab (arXiv:1911.10194). The cost is that of a few passes over the pixels, however many objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from maskwright.errors import ShapeError
from maskwright.models.duplicates import without_duplicates
from maskwright.objects import Crop, FoundObjects

__all__ = ["GroupSettings", "find_peaks", "group"]

_CLOSE_PX = 3.0  # a vote this near to a centre is for it, however near the pixel itself lies


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """How maps become objects.

    Attributes:
        object_ids: Class id of each channel of ``centre``; the same number is its channel in ``semantic``.
        min_score: Objects of a lower score are left out, 0..1; also the least height of a peak.
        min_distance_px: Least distance of two centres, along rows or columns.
        mask_threshold: A pixel is of an object if the classes of objects together are more probable than this, 0..1.
        min_area_px: Smaller objects are left out.
        vote_tolerance: A pixel is given up if its vote misses the nearest centre by more than this share of its own
            distance from that centre.
        max_objects: Centres looked at, the highest ones.
        shapes: ``grouped``: pixels that vote for a centre; ``discs``: around each centre a disc of its diameter.
        disc_px: Diameter of discs where no diameter is known, in pixels.
        duplicate_iou: Of two discs that overlap by more than this the better one is kept, 0..1; grouped objects share
            no pixel.
    """

    object_ids: tuple[int, ...] = (1,)
    min_score: float = 0.3
    min_distance_px: int = 3
    mask_threshold: float = 0.5
    min_area_px: int = 9
    vote_tolerance: float = 0.5
    max_objects: int = 20000
    shapes: Literal["grouped", "discs"] = "grouped"
    disc_px: float = 16.0
    duplicate_iou: float = 0.5


def find_peaks(heat: np.ndarray, min_height: float, min_distance_px: int, most: int) -> np.ndarray:
    """Places higher than all within ``min_distance_px`` of them, along rows or columns.

    Args:
        heat: (H, W) float32.
        min_height: Lower places are no peaks.
        min_distance_px: At least 1. Of equal heights so near to each other the first by rows is taken.
        most: Peaks returned, the highest.

    Returns:
        (N, 2) int64 row and column, the highest first.
    """
    import cv2

    reach = max(int(min_distance_px), 1)
    highest = cv2.dilate(heat, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    rows, cols = np.nonzero((heat >= highest) & (heat > min_height))
    order = np.argsort(-heat[rows, cols], kind="stable")
    rows, cols = rows[order], cols[order]
    kept = np.flatnonzero(_not_twice(rows, cols, heat.shape, reach))[:most]
    return np.stack((rows[kept], cols[kept]), axis=-1)


def group(maps: Mapping[str, np.ndarray], settings: GroupSettings, valid: np.ndarray | None = None) -> FoundObjects:
    """The objects that maps of one image show, the best score first. Works on a window and on stitched maps alike.

    The score is the height of the peak times the mean probability, over the object's pixels, of being part of one.

    Args:
        maps: ``semantic`` (S, H, W) probabilities 0..1; ``centre`` (I, H, W) 0..1, a channel for each class of objects;
            ``offset`` (2, H, W) x and y in pixels from each pixel to the centre of its object; ``diameter`` (1, H, W)
            pixels, if known. ``semantic`` and ``offset`` are not looked at for discs.
        settings: How.
        valid: (H, W) bool; elsewhere there is no object. None: everywhere.

    Raises:
        ShapeError: If the maps do not fit together.
    """
    centre = _map(maps, "centre", len(settings.object_ids))
    heat = centre.max(axis=0)
    if valid is not None:
        heat = np.where(valid, heat, np.float32(0))
    peaks = find_peaks(heat, settings.min_score, settings.min_distance_px, settings.max_objects)
    if not len(peaks):
        return FoundObjects.none()
    heights = heat[peaks[:, 0], peaks[:, 1]]
    by_class = centre[:, peaks[:, 0], peaks[:, 1]]
    if settings.shapes == "discs":
        found = _discs(maps, peaks, heights, by_class, settings)
    else:
        owner = _owners(maps, peaks, settings, valid)
        found = _grouped(maps, owner, peaks, heights, by_class, settings)
    found = found.pick((found.scores > settings.min_score) & (found.areas() >= settings.min_area_px))
    found = found.pick(np.argsort(-found.scores, kind="stable"))
    if settings.shapes == "discs":
        return found.pick(without_duplicates(found, settings.duplicate_iou))
    return found


# --- grouped ----------------------------------------------------------------------------------------------------------


def _owners(
    maps: Mapping[str, np.ndarray], peaks: np.ndarray, settings: GroupSettings, valid: np.ndarray | None
) -> np.ndarray:
    """(H, W) int32: 0, or 1 + the peak each pixel of an object votes for."""
    import cv2

    offset = _map(maps, "offset", 2)
    height, width = offset.shape[1:]
    foreground = _foreground(maps, settings) > settings.mask_threshold
    if valid is not None:
        foreground &= valid
    seeds = np.ones((height, width), np.uint8)
    seeds[peaks[:, 0], peaks[:, 1]] = 0
    _, near = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    number = np.zeros(len(peaks) + 1, np.int32)
    number[near[peaks[:, 0], peaks[:, 1]]] = np.arange(1, len(peaks) + 1)
    rows, cols = np.nonzero(foreground)
    x, y = cols + offset[0, rows, cols], rows + offset[1, rows, cols]
    voted_row = np.clip(np.rint(y), 0, height - 1).astype(np.intp)
    voted_col = np.clip(np.rint(x), 0, width - 1).astype(np.intp)
    mine = number[near[voted_row, voted_col]]
    at = peaks[mine - 1].astype(np.float32)
    missed = np.hypot(x - at[:, 1], y - at[:, 0])
    allowed = np.maximum(settings.vote_tolerance * np.hypot(cols - at[:, 1], rows - at[:, 0]), _CLOSE_PX)
    owner = np.zeros((height, width), np.int32)
    owner[rows, cols] = np.where(missed <= allowed, mine, 0)
    return owner


def _grouped(
    maps: Mapping[str, np.ndarray],
    owner: np.ndarray,
    peaks: np.ndarray,
    heights: np.ndarray,
    by_class: np.ndarray,
    settings: GroupSettings,
) -> FoundObjects:
    from scipy import ndimage

    semantic, ids = maps["semantic"], settings.object_ids
    diameter = _map(maps, "diameter", 1)[0] if "diameter" in maps else None
    numbers, crops, shares, across = [], [], [], []
    for number, place in enumerate(ndimage.find_objects(owner, max_label=len(peaks))):
        if place is None:
            continue
        pixels = _largest_part(owner[place] == number + 1)
        rows, cols = place
        numbers.append(number)
        crops.append(_trimmed(Crop(rows.start, cols.start, pixels)))
        shares.append([float(semantic[index][place][pixels].mean()) for index in ids])
        across.append(np.nan if diameter is None else float(diameter[place][pixels].mean()))
    if not numbers:
        return FoundObjects.none()
    share = np.array(shares, np.float32)
    labels = np.array(ids, np.int64)[np.argmax(share + by_class[:, numbers].T, axis=1)]
    scores = heights[numbers] * np.minimum(share.sum(axis=1), 1.0)
    return _found(crops, labels, scores, peaks[numbers], np.array(across, np.float32))


def _foreground(maps: Mapping[str, np.ndarray], settings: GroupSettings) -> np.ndarray:
    semantic = maps["semantic"]
    if semantic.ndim != 3 or max(settings.object_ids) >= len(semantic):
        raise ShapeError(
            f"The semantic map {semantic.shape} has no channel for every class of objects {settings.object_ids}."
        )
    return np.asarray(semantic[list(settings.object_ids)].sum(axis=0))


def _largest_part(pixels: np.ndarray) -> np.ndarray:
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(pixels.view(np.uint8), connectivity=8)
    if count <= 2:
        return pixels
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def _trimmed(crop: Crop) -> Crop:
    rows, cols = np.flatnonzero(crop.pixels.any(axis=1)), np.flatnonzero(crop.pixels.any(axis=0))
    pixels = np.ascontiguousarray(crop.pixels[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1])
    return Crop(crop.row + int(rows[0]), crop.col + int(cols[0]), pixels)


# --- discs ------------------------------------------------------------------------------------------------------------


def _discs(
    maps: Mapping[str, np.ndarray],
    peaks: np.ndarray,
    heights: np.ndarray,
    by_class: np.ndarray,
    settings: GroupSettings,
) -> FoundObjects:
    across = np.full(len(peaks), np.nan, np.float32)
    if "diameter" in maps:
        across = _map(maps, "diameter", 1)[0, peaks[:, 0], peaks[:, 1]].astype(np.float32)
    size = maps["centre"].shape[1:]
    known = np.where(np.isfinite(across), across, np.float32(settings.disc_px))
    crops = [
        _disc(int(row), int(col), float(radius), size)
        for (row, col), radius in zip(peaks, np.maximum(known, 1.0) / 2, strict=True)
    ]
    labels = np.array(settings.object_ids, np.int64)[np.argmax(by_class, axis=0)]
    return _found(crops, labels, heights, peaks, across)


def _disc(row: int, col: int, radius: float, size: tuple[int, ...]) -> Crop:
    reach = int(radius)
    top, left = max(row - reach, 0), max(col - reach, 0)
    rows = np.arange(top, min(row + reach + 1, size[0])) - row
    cols = np.arange(left, min(col + reach + 1, size[1])) - col
    return Crop(top, left, rows[:, None] ** 2 + cols[None] ** 2 <= radius**2)


# --- shared -----------------------------------------------------------------------------------------------------------


def _found(crops: list[Crop], labels: Any, scores: Any, peaks: np.ndarray, diameter: np.ndarray) -> FoundObjects:
    boxes = [(c.col, c.row, c.col + c.pixels.shape[1], c.row + c.pixels.shape[0]) for c in crops]
    centres = peaks[:, ::-1].astype(np.float32) + np.float32(0.5)
    return FoundObjects(
        np.array(boxes, np.float32).reshape(-1, 4),
        labels,
        np.asarray(scores, np.float32),
        centres,
        diameter,
        tuple(crops),
    )


def _map(maps: Mapping[str, np.ndarray], name: str, channels: int) -> np.ndarray:
    values = maps[name]
    if values.ndim != 3 or len(values) != channels:
        raise ShapeError(f"The map {name} has shape {values.shape}; ({channels}, H, W) is needed.")
    return values


def _not_twice(rows: np.ndarray, cols: np.ndarray, shape: tuple[int, ...], reach: int) -> np.ndarray:
    """(N,) bool: False for peaks of a plateau whose first pixel is another; peaks come the highest first."""
    taken = np.zeros((shape[0] + 2 * reach, shape[1] + 2 * reach), np.bool_)
    kept = np.zeros(len(rows), np.bool_)
    for index, (row, col) in enumerate(zip(rows.tolist(), cols.tolist(), strict=True)):
        if not taken[row + reach, col + reach]:
            kept[index] = True
            taken[row : row + 2 * reach + 1, col : col + 2 * reach + 1] = True
    return kept
