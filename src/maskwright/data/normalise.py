"""Heights in metres to network input, the same in training and in prediction.

A surface is shifted by a reference that depends on the place on the ground and never on the window: a coarse grid of
low percentiles, interpolated. Divided by a constant it keeps its metres, so that a height means something to a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import ndimage

from maskwright.data.band_normalise import BAND_KINDS, BandNormaliser, PerTileBands, Unfitted, make_normaliser
from maskwright.errors import DataError
from maskwright.types import Window

__all__ = [
    "BandNormaliser",
    "HeightNormaliser",
    "MetresNormaliser",
    "Normaliser",
    "PerTileBands",
    "PerTileNormaliser",
    "ReferenceSurface",
    "Unfitted",
    "build_reference",
    "make_normaliser",
    "normalise_heights",
    "normaliser_from_dict",
    "reference_shape",
]

_LEAST_SHARE = 0.1  # of a cell; a percentile of fewer pixels says little about the ground


@dataclass(frozen=True, slots=True)
class ReferenceSurface:
    """A smooth surface through a coarse grid of heights.

    Attributes:
        values: (rows, cols) float32 metres at the cell centres.
        cell_px: Side of a cell in pixels of the scene; the grid starts at pixel (0, 0).
    """

    values: np.ndarray
    cell_px: float

    def window(self, window: Window) -> np.ndarray:
        """The surface in a window, (H, W) float32 metres: bilinear, constant beyond the outermost centres.

        Each pixel is computed from its place in the scene alone, so windows agree bit for bit.
        """
        row, row_weight = self._between(window.row, window.height, self.values.shape[0])
        col, col_weight = self._between(window.col, window.width, self.values.shape[1])
        first = col[0]
        cells = self.values[:, first : col[-1] + 2]
        below = np.minimum(row + 1, len(cells) - 1)
        rows = cells[row] + (cells[below] - cells[row]) * row_weight[:, None]
        steps = np.diff(rows, axis=1, append=rows[:, -1:])
        out = np.empty((window.height, window.width), np.float32)
        starts = np.flatnonzero(np.diff(col, prepend=-1))  # runs of pixels between the same two centres
        for start, stop in zip(starts, [*starts[1:], window.width], strict=True):
            cell = col[start] - first
            part = out[:, start:stop]
            np.multiply(steps[:, cell, None], col_weight[start:stop], out=part)
            part += rows[:, cell, None]
        return out

    def _between(self, start: int, length: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
        """For each pixel the cell centre before it and how far it lies towards the next, 0..1."""
        place = (np.arange(start, start + length) + 0.5) / self.cell_px - 0.5
        place = np.clip(place, 0.0, cells - 1.0)
        before = np.floor(place).astype(np.intp)
        return before, (place - before).astype(np.float32)


def reference_shape(height: int, width: int, cell_px: float) -> tuple[int, int]:
    """Rows and columns of the grid that covers a scene."""
    return math.ceil(height / cell_px), math.ceil(width / cell_px)


def build_reference(
    read: Callable[[Window], np.ndarray], height: int, width: int, *, cell_px: float, percentile: float
) -> ReferenceSurface:
    """Low percentiles of the measured heights in a coarse grid of cells.

    A cell with too few measured pixels takes the value of the nearest one that has enough.

    Args:
        read: Window to heights (H, W) float32 metres, NaN where not measured; asked once, from top to bottom.
        height: Rows of the scene.
        width: Columns of the scene.
        cell_px: Side of a cell in pixels, at least 1; need not be whole.
        percentile: 0..100; the measured height at this rank or just below it.

    Raises:
        DataError: If nothing was measured at all.
    """
    cell_px = max(1.0, float(cell_px))
    rows, cols = reference_shape(height, width, cell_px)
    values = np.full((rows, cols), np.nan, np.float32)
    count = np.zeros((rows, cols), np.int64)
    row_edges, col_edges = _edges(rows, cell_px, height), _edges(cols, cell_px, width)
    for row in range(rows):
        if row_edges[row] == row_edges[row + 1]:
            continue  # a cell of less than half a pixel at the lower edge
        band = read(Window(row_edges[row], 0, row_edges[row + 1] - row_edges[row], width))
        measured = np.isfinite(band)
        for col in range(cols):
            part = slice(col_edges[col], col_edges[col + 1])
            heights = band[:, part][measured[:, part]]
            count[row, col] = heights.size
            if heights.size:
                rank = math.floor(percentile / 100.0 * (heights.size - 1))
                values[row, col] = np.partition(heights, rank)[rank]
    if not count.any():
        raise DataError("No pixel was measured, so there is no reference surface. Check the nodata value.")
    enough = count >= _LEAST_SHARE * cell_px * cell_px
    return ReferenceSurface(_filled(values, enough if enough.any() else count > 0), cell_px)


@dataclass(frozen=True, slots=True)
class MetresNormaliser:
    """Heights minus a reference, divided by a constant.

    Attributes:
        scale_m: The constant, in metres.
        reference_cell_m: Cell of the reference surface, in metres.
        reference_percentile: Its percentile, 0..100.
    """

    kind: ClassVar[str] = "metres"
    scale_m: float = 30.0
    reference_cell_m: float = 60.0
    reference_percentile: float = 5.0

    def normalise(
        self,
        heights: np.ndarray,
        valid: np.ndarray,
        reference: np.ndarray | float,
        *,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Network input (H, W) float32, exactly 0 where not valid.

        Args:
            heights: (H, W) float32 metres; anything where not valid.
            valid: (H, W) bool.
            reference: (H, W) float32 metres, or 0.0 for heights above ground.
            out: Written to if given.
        """
        out = self.level(heights, reference, out=out)
        np.copyto(out, 0.0, where=~valid)
        return out

    def level(self, heights: np.ndarray, reference: np.ndarray | float, *, out: np.ndarray | None = None) -> np.ndarray:
        """As :meth:`normalise`, NaN staying NaN."""
        out = np.subtract(heights, reference, out=out, dtype=np.float32)
        out /= np.float32(self.scale_m)
        return out

    def to_dict(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "scale_m": self.scale_m,
            "reference_cell_m": self.reference_cell_m,
            "reference_percentile": self.reference_percentile,
        }


@dataclass(frozen=True, slots=True)
class PerTileNormaliser:
    """Each tile stretched to 0..1 by its own valid minimum and maximum; a flat tile is all 0."""

    kind: ClassVar[str] = "per_tile"

    def normalise(
        self,
        heights: np.ndarray,
        valid: np.ndarray,
        reference: np.ndarray | float = 0.0,
        *,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """As :meth:`MetresNormaliser.normalise`; ``reference`` plays no part."""
        low = np.min(heights, initial=np.inf, where=valid)
        high = np.max(heights, initial=-np.inf, where=valid)
        if out is None:
            out = np.empty(heights.shape, np.float32)
        if not low < high:
            out[...] = 0.0
            return out
        np.subtract(heights, low, out=out, dtype=np.float32)
        out /= np.float32(high) - np.float32(low)
        np.copyto(out, 0.0, where=~valid)
        return out

    def to_dict(self) -> dict[str, object]:
        return {"kind": self.kind}


HeightNormaliser = MetresNormaliser | PerTileNormaliser | BandNormaliser | Unfitted
Normaliser = MetresNormaliser | PerTileNormaliser | BandNormaliser | PerTileBands


def normalise_heights(
    normaliser: Normaliser | Unfitted,
    planes: Sequence[np.ndarray],
    valid: np.ndarray,
    references: Sequence[np.ndarray | float],
    out: np.ndarray,
) -> None:
    """Heights of each band to network input, 0 where not valid.

    Args:
        normaliser: How; one fitted on training pixels takes heights as they are, without a reference.
        planes: For each band (H, W) float32 metres; anything where not valid.
        valid: (H, W) bool.
        references: For each band what is subtracted: (H, W) float32 metres, or 0.0.
        out: (C, H, W) float32 to write to; may be made of ``planes``.

    Raises:
        DataError: If the normalisation has not been fitted yet, or is for another number of bands.
    """
    if isinstance(normaliser, MetresNormaliser | PerTileNormaliser):
        for band, (plane, reference) in enumerate(zip(planes, references, strict=True)):
            normaliser.normalise(plane, valid, reference, out=out[band])
    elif isinstance(normaliser, BandNormaliser):
        if len(normaliser.shift) != len(planes):
            raise DataError(
                f"Heights of {len(planes)} bands meet a normalisation of {len(normaliser.shift)}. "
                "Use the data.input of the training."
            )
        for band, plane in enumerate(planes):
            normaliser.normalise_band(plane, valid, band, out[band])
    else:
        normaliser.normalise(np.stack(planes), valid, out)


def normaliser_from_dict(values: Mapping[str, Any]) -> Normaliser:
    """The normaliser whose ``to_dict`` gave ``values``.

    Raises:
        DataError: If the kind is not known or a value is missing or unknown.
    """
    if values.get("kind") in BAND_KINDS:
        return BandNormaliser.from_dict(values)
    options = {key: value for key, value in values.items() if key != "kind" and isinstance(value, int | float)}
    kinds: dict[str, type[MetresNormaliser] | type[PerTileNormaliser] | type[PerTileBands]] = {
        "metres": MetresNormaliser,
        "per_tile": PerTileNormaliser,
        "per_tile_bands": PerTileBands,
    }
    kind = kinds.get(str(values.get("kind")))
    if kind is None:
        known = ", ".join((*kinds, *BAND_KINDS))
        raise DataError(f"Normalisation {values.get('kind')!r} is not known. Known: {known}.")
    names = set(kind().to_dict()) - {"kind"}
    if set(options) != names or set(values) != {*names, "kind"}:
        raise DataError(
            f"Normalisation {kind.kind!r} needs the numbers {sorted(names)} and got {dict(values)}. "
            "The model file is damaged or of another version."
        )
    return kind(**{name: float(value) for name, value in options.items()})


def _edges(cells: int, cell_px: float, length: int) -> list[int]:
    return [min(length, round(index * cell_px)) for index in range(cells)] + [length]


def _filled(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    if good.all():
        return values
    nearest = ndimage.distance_transform_edt(~good, return_distances=False, return_indices=True)
    filled: np.ndarray = values[tuple(nearest)]
    return filled
