"""A raster seen at the pixel size of the training, and the answer brought back to the raster's own pixels.

Both ways are weighted means along rows and columns: shares of area where pixels become larger, linear between centres
where they become smaller. Means are taken over pixels that count, so nothing bleeds out of nodata, and centres stay
where they are on the ground: no shift by half a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from maskwright.data.sources.interface import Grid
from maskwright.prediction.raster_stream import Band
from maskwright.types import Window

__all__ = ["Rescale", "ScaleAxis", "ScaledImage", "plan_rescale", "restored", "scale_axis", "scaled_heights"]

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
ReadRows = Callable[[Window], tuple[npt.NDArray[Any], BoolArray]]

_ROWS = 256  # of the larger pixels' raster that are held at a time
_LEAST_WEIGHT = 1e-4  # of pixels that count: less is rounding


@dataclass(frozen=True)
class ScaleAxis:
    """Pixels along one axis as weighted means of others.

    Attributes:
        index: (n, T) pixels that each of the n new ones is made of.
        weight: (n, T) float32, summing to 1.
    """

    index: npt.NDArray[np.int64]
    weight: FloatArray

    def part(self, start: int, stop: int) -> tuple[int, int, ScaleAxis]:
        """First and last (excluded) pixel needed for the new ones start..stop, and these alone, counted from there."""
        index = self.index[start:stop]
        low, high = int(index.min()), int(index.max()) + 1
        return low, high, ScaleAxis(index - low, self.weight[start:stop])

    def apply(self, values: FloatArray, axis: int) -> FloatArray:
        """The new pixels along an axis of ``values``."""
        shape = [1] * values.ndim
        shape[axis] = -1
        total: FloatArray | None = None
        for tap in range(self.index.shape[1]):
            part = values.take(self.index[:, tap], axis) * self.weight[:, tap].reshape(shape)
            total = part if total is None else np.add(total, part, out=total)
        assert total is not None
        return total


def scale_axis(length: int, count: int, scale: float) -> ScaleAxis:
    """The weights of ``count`` new pixels, each ``scale`` old ones long, over ``length`` old pixels.

    Both begin at the same edge; new pixels that reach past the other one are made of what there is.
    """
    start = np.arange(count) * scale
    if scale < 1:
        centre = np.clip(start + scale / 2 - 0.5, 0, length - 1)
        low = np.minimum(np.floor(centre).astype(np.int64), max(length - 2, 0))
        index = np.minimum(np.stack([low, low + 1], axis=1), length - 1)
        weight = np.stack([1 - (centre - low), centre - low], axis=1)
    else:
        taps = np.arange(int(np.ceil(scale)) + 1)
        index = np.floor(start).astype(np.int64)[:, None] + taps
        weight = np.minimum(index + 1, (start + scale)[:, None]) - np.maximum(index, start[:, None])
        weight = np.where(index < length, np.maximum(weight, 0), 0)
        index = np.minimum(index, length - 1)
    return ScaleAxis(index, (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32))


@dataclass(frozen=True)
class Rescale:
    """How a raster is seen at another pixel size.

    Attributes:
        grid: Where the new pixels lie; the upper left corner is that of the raster.
        pixel_size_m: Their side in metres.
        there: Rows and columns of the new pixels, of the raster's.
        back: Rows and columns of the raster's pixels, of the new ones.
    """

    grid: Grid
    pixel_size_m: float
    there: tuple[ScaleAxis, ScaleAxis]
    back: tuple[ScaleAxis, ScaleAxis]


def plan_rescale(grid: Grid, pixel_size_m: float) -> Rescale:
    """See a raster with pixels of so many metres on each side."""
    across, down = (pixel_size_m / (side * grid.metres_per_unit) for side in grid.pixel_size)
    height, width = max(1, int(np.ceil(grid.height / down - 1e-9))), max(1, int(np.ceil(grid.width / across - 1e-9)))
    a, b, c, d, e, f = grid.transform
    transform = (a * across, b * down, c, d * across, e * down, f)
    return Rescale(
        replace(grid, height=height, width=width, transform=transform),
        pixel_size_m,
        (scale_axis(grid.height, height, down), scale_axis(grid.width, width, across)),
        (scale_axis(height, grid.height, 1 / down), scale_axis(width, grid.width, 1 / across)),
    )


def scaled_heights(read: Callable[[Window], FloatArray], scale: Rescale) -> Callable[[Window], FloatArray]:
    """A reader of heights at the new pixel size, NaN where not measured and outside; ``read`` is one of the raster."""

    def rows(window: Window) -> tuple[FloatArray, BoolArray]:
        heights = read(window)[None]
        return heights, np.isfinite(heights[0])

    def scaled(window: Window) -> FloatArray:
        out = np.full((window.height, window.width), np.nan, np.float32)
        inside = window.intersection(scale.grid.window)
        if inside is not None:
            values, valid = _scaled(rows, scale, inside)
            np.copyto(values[0], np.nan, where=~valid)
            row, col = inside.row - window.row, inside.col - window.col
            out[row : row + inside.height, col : col + inside.width] = values[0]
        return out

    return scaled


class ScaledImage:
    """An image at the new pixel size, in the place of its reader.

    Args:
        reader: Of the image.
        scale: The new pixels.
    """

    def __init__(self, reader: Any, scale: Rescale) -> None:
        self._reader, self._scale = reader, scale
        self.grid, self.band_names = scale.grid, reader.band_names

    def read(self, window: Window) -> tuple[npt.NDArray[Any], BoolArray]:
        """Values (C, h, w) of the image's type, 0 where not valid; valid (h, w)."""
        values, valid = _scaled(self._reader.read, self._scale, window)
        dtype = np.dtype(self._reader.dtype)
        return (np.rint(values) if dtype.kind in "iu" else values).astype(dtype, copy=False), valid


def _scaled(read: ReadRows, scale: Rescale, window: Window) -> tuple[FloatArray, BoolArray]:
    """A window of the new pixels, a few rows at a time."""
    rows, cols = scale.there
    left, right, across = cols.part(window.col, window.col_stop)
    step = max(1, int(_ROWS * len(rows.index) / max(1, int(rows.index.max()) + 1)))
    parts = []
    for first in range(window.row, window.row_stop, step):
        top, bottom, down = rows.part(first, min(first + step, window.row_stop))
        values, valid = read(Window(top, left, bottom - top, right - left))
        parts.append(_mean(values, valid, down, across))
    return np.concatenate([values for values, _ in parts], axis=1), np.concatenate([valid for _, valid in parts])


def _mean(
    values: npt.NDArray[Any], valid: BoolArray, down: ScaleAxis, across: ScaleAxis
) -> tuple[FloatArray, BoolArray]:
    """Weighted means over the pixels that count: (C, h, w) and where there are any, (h, w)."""
    planes = np.where(valid, values, 0).astype(np.float32)
    total = down.apply(across.apply(planes, 2), 1)
    if valid.all():
        return total, np.ones(total.shape[1:], np.bool_)
    counted = down.apply(across.apply(valid.astype(np.float32)[None], 2), 1)[0]
    some: BoolArray = counted > _LEAST_WEIGHT
    return np.where(some, total / np.where(some, counted, 1), 0).astype(np.float32), some


def restored(
    bands: Iterator[Band], scale: Rescale, valid_rows: Callable[[int, int], BoolArray], first_row: int = 0
) -> Iterator[Band]:
    """Finished rows at the raster's own pixels.

    Args:
        bands: Finished rows of new pixels, from the first that row ``first_row`` needs.
        scale: The new pixels.
        valid_rows: (start, stop) to (h, W) bool: which of the raster's own pixels count; asked from the top on.
        first_row: Where to begin; rows above it are asked of ``valid_rows``, for those who watch the reading.
    """
    rows, cols = scale.back
    row, count = 0, len(rows.index)
    held: list[Band] = []
    for start in range(0, first_row, _ROWS):
        valid_rows(start, min(start + _ROWS, first_row))
    row = first_row
    for band in bands:
        held.append(band)
        ready = band.row + len(band.valid)
        stop = count if ready == scale.grid.height else row + int(np.argmax(rows.index[row:].max(axis=1) >= ready))
        for start in range(row, stop, _ROWS):
            last = min(start + _ROWS, stop)
            low, high, down = rows.part(start, last)
            probs = np.concatenate([each.probs for each in held], axis=1)[:, low - held[0].row : high - held[0].row]
            counts = np.concatenate([each.valid for each in held])[low - held[0].row : high - held[0].row]
            yield Band(start, _mean(probs, counts, down, cols)[0], valid_rows(start, last))
        row = stop
        if row < count:
            needed = int(rows.index[row:].min())
            held = [each for each in held if each.row + len(each.valid) > needed]
