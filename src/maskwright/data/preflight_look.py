"""One image measured: values, texture, blank borders, foreground, objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.copies import grey

__all__ = ["Look", "blank_border", "look_at", "object_diameters"]

_PERCENTILES = (0.0, 1.0, 50.0, 99.0, 100.0)
_SENTINELS = (-9999.0, -32768.0, -32767.0, -999.0, -99999.0, 65535.0, 1e20, -1e20)
_HUGE = 1e30  # values beyond are nodata of someone
_LEAST_BORDER = 0.02
_MOST_VALUES = 200_000


@dataclass(frozen=True)
class Look:
    """What one image, or one window of a large raster, is like.

    Attributes:
        name: Of the scene, with the window where it is a part of it.
        scene: Of the scene alone.
        file: The file it comes from.
        part: ``train``, ``val``, ``test``, or empty where the split does not use it.
        size: Rows, columns.
        levels: (C, 5) least value, percentiles 1, 50 and 99, largest value of the pixels that count; NaN if none do.
        mean: (C,) of the pixels that count.
        std: (C,) of the pixels that count.
        edges: Mean gradient of the grey image, in grey levels per pixel.
        valid_share: Share 0..1 of pixels that count.
        foreground: Share 0..1 of the pixels that count; NaN without labels.
        blank_share: Share 0..1 of the image that is one plain colour joined to its border and counts.
        blank_value: That colour's value in the first band; NaN if there is none.
        sentinels: Values that usually mean "not measured" but count here, with their share 0..1 of the image.
        classes: Class id to its pixels that count.
        diameters: Diameter in pixels of each object of the foreground, as circles of the same area.
    """

    name: str
    scene: str
    file: str
    part: str
    size: tuple[int, int]
    levels: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    edges: float
    valid_share: float
    foreground: float
    blank_share: float
    blank_value: float
    sentinels: dict[float, float]
    classes: dict[int, int] = field(default_factory=dict)
    diameters: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def look_at(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    foreground: NDArray[np.bool_] | None = None,
    *,
    name: str,
    scene: str = "",
    file: str = "",
    part: str = "",
    classes: dict[int, int] | None = None,
) -> Look:
    """Measure one image.

    Args:
        values: (C, H, W) of any type, before normalisation.
        valid: (H, W) bool, pixels that count.
        foreground: (H, W) bool; None without labels.
        name: Of the look.
        scene: Of the scene it is a part of; empty: the name.
        file: The file it comes from.
        part: Part of the split.
        classes: Class id to its pixels that count.
    """
    counted = values if valid.all() else values[:, valid]
    counted = counted.reshape(len(values), -1)
    picture = grey(values, valid)
    blank, blank_value = blank_border(values, valid)
    marked = None if foreground is None else foreground & valid
    return Look(
        name=name,
        scene=scene or name,
        file=file,
        part=part,
        size=(values.shape[1], values.shape[2]),
        levels=np.stack([_levels(band) for band in counted]),
        mean=np.array([band.mean(dtype=np.float64) if band.size else np.nan for band in counted]),
        std=np.array([band.std(dtype=np.float64) if band.size else np.nan for band in counted]),
        edges=_edges(picture, valid),
        valid_share=float(valid.mean()) if valid.size else 0.0,
        foreground=float("nan") if marked is None else float(marked.sum() / max(1, valid.sum())),
        blank_share=float(blank.mean()) if blank.size else 0.0,
        blank_value=blank_value,
        sentinels=_sentinels(counted, valid.size),
        classes=dict(classes or {}),
        diameters=np.zeros(0) if marked is None else object_diameters(marked),
    )


def blank_border(values: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], float]:
    """The plain area joined to the corners of an image, as around a rotated orthophoto, among pixels that count.

    Args:
        values: (C, H, W).
        valid: (H, W) bool.

    Returns:
        (H, W) bool, all False unless it is at least a fiftieth of the image; and its value in the first band, or NaN.
    """
    import cv2

    nothing = np.zeros(valid.shape, dtype=np.bool_)
    if min(valid.shape) < 2:
        return nothing, float("nan")
    best, best_value = nothing, float("nan")
    corners = {tuple(values[:, row, col].tolist()) for row in (0, -1) for col in (0, -1) if valid[row, col]}
    for corner in sorted(corners):
        same = (values == np.array(corner, dtype=values.dtype)[:, None, None]).all(axis=0) & valid
        if same.mean() < _LEAST_BORDER:
            continue
        count, parts = cv2.connectedComponents(same.astype(np.uint8), connectivity=4)
        rim = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
        touching = np.isin(np.arange(count), rim)
        touching[0] = False
        area: NDArray[np.bool_] = touching[parts]
        if area.mean() >= _LEAST_BORDER and area.sum() > best.sum():
            best, best_value = area, float(corner[0])
    return best, best_value


def object_diameters(foreground: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Diameters in pixels of the connected parts (by edge or corner) of a mask, as circles of the same area.

    Parts that touch the edge of the image are left out if there are others, since they may be cut.
    """
    import cv2

    if not foreground.any():
        return np.zeros(0)
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(foreground.astype(np.uint8), connectivity=8)
    areas = boxes[1:count, cv2.CC_STAT_AREA].astype(np.float64)
    rim = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    inner = ~np.isin(np.arange(1, count), rim)
    chosen = areas[inner] if inner.any() else areas
    diameters: NDArray[np.float64] = 2 * np.sqrt(chosen / np.pi)
    return diameters


def _edges(picture: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    if min(picture.shape) < 2 or not valid.any():
        return 0.0
    down = np.abs(np.diff(picture, axis=0))[:, :-1]
    right = np.abs(np.diff(picture, axis=1))[:-1]
    inside = valid[:-1, :-1]
    return float((down + right)[inside].mean()) if inside.any() else 0.0


def _levels(band: NDArray[Any]) -> NDArray[np.float64]:
    """Least value, percentiles 1, 50 and 99, largest; percentiles of many values from every n-th of them."""
    if not band.size:
        return np.full(len(_PERCENTILES), np.nan)
    if band.dtype == np.uint8:  # exact and many times faster by counting
        below = np.cumsum(np.bincount(band, minlength=256))
        ranks = np.ceil(np.array(_PERCENTILES) / 100 * band.size).clip(1)
        return np.searchsorted(below, ranks).astype(np.float64)
    levels = np.percentile(band[:: max(1, band.size // _MOST_VALUES)].astype(np.float64), _PERCENTILES)
    levels[0], levels[-1] = float(band.min()), float(band.max())
    return levels


def _sentinels(counted: NDArray[Any], pixels: int) -> dict[float, float]:
    """Values that usually mean "not measured", and the share of the image that has them and counts."""
    found: dict[float, float] = {}
    if counted.dtype == np.uint8 or not counted.size:
        return found
    low, high = float(counted[0].min()), float(counted[0].max())
    for value in _SENTINELS:
        share = float((counted == value).all(axis=0).sum() / max(1, pixels)) if low <= value <= high else 0.0
        if share > 0:
            found[value] = share
    if max(abs(low), abs(high)) > _HUGE:
        huge = counted[0][np.abs(counted[0].astype(np.float64)) > _HUGE]
        found[float(huge[0])] = huge.size / max(1, pixels)
    return found
