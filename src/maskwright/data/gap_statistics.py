"""How much gap there is at each height, in how many gaps, of what size; for arrays or rasters read in bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from maskwright.data.targets import GAP, gap_mask
from maskwright.errors import ShapeError
from maskwright.pixels import IGNORE_INDEX
from maskwright.types import Window

__all__ = ["GapCounter", "GapSizes", "gap_statistics", "stream_gap_statistics"]

_BINS = ("<10", "10-50", "50-100", "100-500", ">=500")
_BIN_EDGES_PX = (10, 50, 100, 500)


@dataclass(frozen=True, slots=True, eq=False)
class GapSizes:
    """How many gaps there are of each size. A country has millions of gaps and few sizes.

    Attributes:
        px: (n,) int64 pixels, rising.
        gaps: (n,) int64, 1 or more: how many gaps have so many pixels.
    """

    px: np.ndarray
    gaps: np.ndarray

    @classmethod
    def of(cls, areas_px: np.ndarray) -> GapSizes:
        """Of gaps told one by one, (m,) pixels."""
        px, gaps = np.unique(np.asarray(areas_px, np.int64), return_counts=True)
        return cls(px, gaps.astype(np.int64))

    def __add__(self, other: GapSizes) -> GapSizes:
        """The gaps of both."""
        px, place = np.unique(np.concatenate([self.px, other.px]), return_inverse=True)
        gaps = np.zeros(len(px), np.int64)
        np.add.at(gaps, place, np.concatenate([self.gaps, other.gaps]))
        return GapSizes(px, gaps)

    @property
    def total(self) -> int:
        """Number of gaps."""
        return int(self.gaps.sum())

    @property
    def median_px(self) -> float:
        """Size in the middle, the mean of the two there if their number is even; nan without gaps."""
        if not len(self.px):
            return float("nan")
        middle = np.searchsorted(np.cumsum(self.gaps), [(self.total - 1) // 2, self.total // 2], side="right")
        return float(self.px[middle].mean())


class GapCounter:
    """Counts the gaps of a raster that arrives in bands of rows, top to bottom; memory grows with its width alone.

    Gaps are joined over corners (8 neighbours), across bands too.

    Args:
        heights_m: K heights in metres.
        pixel_area_m2: Ground covered by a pixel.
    """

    def __init__(self, heights_m: Sequence[float], pixel_area_m2: float) -> None:
        self.heights_m = tuple(float(height_m) for height_m in heights_m)
        self.pixel_area_m2 = float(pixel_area_m2)
        self._planes = [_Plane() for _ in self.heights_m]

    def add(self, mask: np.ndarray) -> None:
        """Take the next band.

        Args:
            mask: (K, rows, W) uint8 of 1 gap, 0 none, 255 not valid; W the same in every band.
        """
        if mask.ndim != 3 or len(mask) != len(self._planes):
            raise ShapeError(
                f"The mask is {mask.shape}; expected ({len(self._planes)}, rows, columns), a plane a height."
            )
        for plane, values in zip(self._planes, mask, strict=True):
            plane.add(values)

    def sizes(self) -> tuple[GapSizes, ...]:
        """For each height the sizes of the gaps so far."""
        return tuple(plane.sizes() for plane in self._planes)

    def result(self) -> dict[str, Any]:
        """Everything counted so far, plain values that JSON takes.

        Per height: share 0..1 of gap among valid pixels, number of gaps, their areas in m2 (None without gaps) and a
        histogram of their sizes in pixels.
        """
        return {
            "neighbours": 8,
            "pixel_area_m2": self.pixel_area_m2,
            "heights": [
                {"height_m": height_m, **_describe(plane, self.pixel_area_m2)}
                for height_m, plane in zip(self.heights_m, self._planes, strict=True)
            ],
        }


def gap_statistics(
    canopy: np.ndarray, valid: np.ndarray, heights_m: Sequence[float], pixel_area_m2: float
) -> dict[str, Any]:
    """Gap statistics of canopy heights held in memory, see :meth:`GapCounter.result`.

    Args:
        canopy: (H, W) float metres above ground.
        valid: (H, W) bool.
        heights_m: Heights in metres.
        pixel_area_m2: Ground covered by a pixel.
    """
    counter = GapCounter(heights_m, pixel_area_m2)
    counter.add(gap_mask(canopy, valid, heights_m))
    return counter.result()


def stream_gap_statistics(
    read: Callable[[Window], np.ndarray],
    height: int,
    width: int,
    heights_m: Sequence[float],
    pixel_area_m2: float,
    *,
    band_rows: int = 512,
) -> dict[str, Any]:
    """Gap statistics of a raster of any size, equal to those of the whole array.

    Args:
        read: Window to canopy heights (H, W) float metres, NaN where not measured; asked from top to bottom.
        height: Rows of the raster.
        width: Columns of the raster.
        heights_m: Heights in metres.
        pixel_area_m2: Ground covered by a pixel.
        band_rows: Rows read at once.
    """
    counter = GapCounter(heights_m, pixel_area_m2)
    for row in range(0, height, band_rows):
        canopy = read(Window(row, 0, min(band_rows, height - row), width))
        counter.add(gap_mask(canopy, np.isfinite(canopy), heights_m))
    return counter.result()


class _Plane:
    """The gaps of one height: the sizes of finished ones, and those that reach the last row seen."""

    def __init__(self) -> None:
        self.valid_px = 0
        self.gap_px = 0
        self.finished = GapSizes.of(np.zeros(0))
        self.open_label = np.zeros(0, np.int64)  # (W,) 0 none, else 1 + index into open_area
        self.open_area = np.zeros(0, np.int64)

    def add(self, values: np.ndarray) -> None:
        if not values.size:
            return
        gap = (values == GAP).astype(np.uint8)
        self.valid_px += int(np.count_nonzero(values != IGNORE_INDEX))
        _, label, stats, _ = cv2.connectedComponentsWithStats(gap, connectivity=8)
        area = stats[1:, cv2.CC_STAT_AREA].astype(np.int64)
        self.gap_px += int(area.sum())
        above = len(self.open_area)
        pieces = np.concatenate([self.open_area, area])  # gaps still open above first, then the gaps of this band
        upper, lower = _touching(self.open_label, label[0]).T - 1
        links = coo_array((np.ones(len(upper)), (upper, lower + above)), shape=(len(pieces), len(pieces)))
        gaps, gap_of = connected_components(links, directed=False)
        total = np.bincount(gap_of, weights=pieces, minlength=gaps).astype(np.int64)
        reaches = label[-1] > 0
        still_open, open_label = np.unique(gap_of[label[-1][reaches] - 1 + above], return_inverse=True)
        self.finished += GapSizes.of(np.delete(total, still_open))
        self.open_label = np.zeros(len(reaches), np.int64)
        self.open_label[reaches] = open_label + 1
        self.open_area = total[still_open]

    def sizes(self) -> GapSizes:
        return self.finished + GapSizes.of(self.open_area)


def _touching(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Pairs of labels that meet over the seam of two rows, corners included.

    Args:
        upper: (W,) last row above, labels from 1, 0 for none.
        lower: (W,) first row below, the same.

    Returns:
        (n, 2) labels above and below.
    """
    width = min(len(upper), len(lower))  # 0 for the first band
    upper, lower = upper[:width], lower[:width]
    seams = ((upper, lower), (upper[:-1], lower[1:]), (upper[1:], lower[:-1]))
    pairs = np.concatenate([np.stack(seam, axis=1) for seam in seams])
    return np.unique(pairs[(pairs > 0).all(axis=1)], axis=0)


def _describe(plane: _Plane, pixel_area_m2: float) -> dict[str, Any]:
    sizes = plane.sizes()
    in_bins = np.bincount(np.digitize(sizes.px, _BIN_EDGES_PX), weights=sizes.gaps, minlength=len(_BINS))
    area_m2 = None
    if sizes.total:
        total_px = int((sizes.px * sizes.gaps).sum())
        area_m2 = {
            "min": float(sizes.px[0]) * pixel_area_m2,
            "max": float(sizes.px[-1]) * pixel_area_m2,
            "mean": total_px / sizes.total * pixel_area_m2,
            "median": sizes.median_px * pixel_area_m2,
            "total": total_px * pixel_area_m2,
        }
    return {
        "valid_px": plane.valid_px,
        "gap_px": plane.gap_px,
        "gap_share": plane.gap_px / plane.valid_px if plane.valid_px else None,
        "gaps": sizes.total,
        "area_m2": area_m2,
        "histogram_px": dict(zip(_BINS, in_bins.astype(int).tolist(), strict=True)),
    }
