"""How high the surface lies inside each gap: lowest, mean, highest, spread; read in row bands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maskwright.prediction.postprocess import Gaps

__all__ = ["GapHeights", "measure_heights"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GapHeights:
    """Heights in metres inside n gaps; NaN where not one pixel of a gap has one.

    Attributes:
        low: (n,) lowest.
        mean: (n,) mean.
        high: (n,) highest.
        spread: (n,) standard deviation.
    """

    low: FloatArray
    mean: FloatArray
    high: FloatArray
    spread: FloatArray


def measure_heights(
    gaps: Gaps,
    read: Callable[[int, int], npt.NDArray[np.bool_]],
    heights: Callable[[int, int], npt.NDArray[np.float32]],
) -> GapHeights:
    """Heights inside every gap, in one pass.

    Args:
        gaps: From :func:`~maskwright.prediction.postprocess.find_gaps`.
        read: The reader they were found with.
        heights: (start, stop) to rows start..stop of the surface, (h, W) metres, NaN where not measured.
    """
    count = len(gaps)
    known, sums, squares = np.zeros((3, count))
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    zero: float | None = None  # squares of heights above it are small enough to lose no digits
    for row, numbers in gaps.numbers(read):
        inside = numbers >= 0
        if not inside.any():
            continue
        values = heights(row, row + len(numbers))
        inside &= np.isfinite(values)
        mine, found = numbers[inside], values[inside].astype(np.float64)
        if not found.size:
            continue
        zero = float(found[0]) if zero is None else zero
        above = found - zero
        known += np.bincount(mine, minlength=count)
        sums += np.bincount(mine, above, minlength=count)
        squares += np.bincount(mine, above * above, minlength=count)
        np.minimum.at(low, mine, found)
        np.maximum.at(high, mine, found)
    some = known > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, square = sums / known, squares / known
    spread = np.sqrt(np.maximum(square - mean * mean, 0.0))
    nothing = np.full(count, np.nan)
    return GapHeights(
        np.where(some, low, nothing),
        mean + (zero or 0.0),
        np.where(some, high, nothing),
        np.where(some, spread, nothing),
    )
