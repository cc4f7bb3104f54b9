"""The shape of gaps: how long their outline is and how drawn out they are, measured in row bands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maskwright.prediction.postprocess import Gaps

__all__ = ["Shapes", "compactness", "measure_shapes"]

FloatArray = npt.NDArray[np.float64]

_PIXEL_SPREAD = 1 / 12  # variance of a coordinate inside a pixel


@dataclass(frozen=True)
class Shapes:
    """Shapes of n gaps, in the order of their numbers.

    Attributes:
        area_px: (n,) pixels.
        perimeter_px: (n,) sides of pixels along all outlines, those of holes included.
        elongation: (n,) length by width of the ellipse with the same moments, 1 or more; of a rectangle its sides.
    """

    area_px: npt.NDArray[np.int64]
    perimeter_px: npt.NDArray[np.int64]
    elongation: FloatArray

    @property
    def compactness(self) -> FloatArray:
        """(n,) see :func:`compactness`."""
        return compactness(self.area_px.astype(np.float64), self.perimeter_px.astype(np.float64))


def compactness(area: FloatArray, perimeter: FloatArray) -> FloatArray:
    """4 pi area / perimeter^2, 0..1: 1 for a circle, 0.785 for a square, less the more ragged a shape is.

    Args:
        area: (n,) in the square of some unit.
        perimeter: (n,) in that unit, larger than 0. Along pixels a large disc has 0.617, since steps are longer than
            an arc.
    """
    found: FloatArray = 4 * np.pi * area / np.square(perimeter)
    return found


def measure_shapes(gaps: Gaps, read: Callable[[int, int], npt.NDArray[np.bool_]]) -> Shapes:
    """Measure every gap in one pass.

    Args:
        gaps: From :func:`~maskwright.prediction.postprocess.find_gaps`.
        read: The reader they were found with.
    """
    count = len(gaps)
    pairs = np.zeros(count, np.int64)
    moments = np.zeros((5, count))  # sums of y, x, yy, xx, xy
    above: npt.NDArray[np.int32] | None = None
    for row, numbers in gaps.numbers(read):
        pairs += _alike(numbers[:, :-1], numbers[:, 1:], count) + _alike(numbers[:-1], numbers[1:], count)
        if above is not None:
            pairs += _alike(above, numbers[0], count)
        above = numbers[-1]
        rows, cols = np.nonzero(numbers >= 0)
        mine, y, x = numbers[rows, cols], rows + float(row), cols.astype(np.float64)
        for sums, weights in zip(moments, (y, x, y * y, x * x, x * y), strict=True):
            sums += np.bincount(mine, weights, minlength=count)
    return Shapes(gaps.area_px, 4 * gaps.area_px - 2 * pairs, _elongation(gaps.area_px, moments))


def _alike(first: npt.NDArray[np.int32], second: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int64]:
    """How often each gap lies on both sides."""
    same = first[(first == second) & (first >= 0)]
    return np.bincount(same, minlength=count)


def _elongation(area_px: npt.NDArray[np.int64], moments: FloatArray) -> FloatArray:
    y, x, yy, xx, xy = moments / np.maximum(area_px, 1)
    var_y, var_x = yy - y * y + _PIXEL_SPREAD, xx - x * x + _PIXEL_SPREAD
    middle, apart = (var_y + var_x) / 2, np.hypot((var_y - var_x) / 2, xy - x * y)
    ratio: FloatArray = np.sqrt((middle + apart) / np.maximum(middle - apart, _PIXEL_SPREAD / 2))
    return ratio
