"""Gap shares on a coarse grid: what a forester compares, observed against predicted, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ConfigError, DataError, ShapeError
from maskwright.metrics.by_threshold import Heights, height_key, match_heights
from maskwright.metrics.counts import as_bool
from maskwright.pixels import require_same_hw
from maskwright.types import Place

__all__ = ["GridMeter", "agreement"]

Cell = tuple[str, int, int]  # scene, row and column of the cell
Floats = NDArray[np.float64]


class GridMeter:
    """Share of gaps in square cells of ground, observed and predicted, for each height.

    Cells are anchored at the first pixel of each scene; a pixel belongs to the cell its centre lies in. Tiles that cut
    a cell each add their part, so tiling changes nothing. Tiles must not overlap, or pixels would count twice.

    Args:
        cell_m: Side of the cells, metres.
        pixel_size_m: Metres per pixel, by scene.
        heights_m: Heights in metres; channel k of an update belongs to height k.

    Raises:
        ConfigError: If the cells are not larger than the pixels of every scene.
    """

    def __init__(self, cell_m: float, pixel_size_m: Mapping[str, float], heights_m: Sequence[float]) -> None:
        self.cell_m = float(cell_m)
        self.pixel_size_m = dict(pixel_size_m)
        self.heights_m = tuple(float(height) for height in heights_m)
        self._columns = {height_key(height): k for k, height in enumerate(self.heights_m)}
        self._cells: dict[Cell, NDArray[np.int64]] = {}
        for scene, size in self.pixel_size_m.items():
            if not 0 < size <= self.cell_m:
                raise ConfigError(
                    f"grid_m: cells of {self.cell_m:g} m do not hold a pixel of {scene} ({size:g} m); use larger cells."
                )

    def update(
        self,
        pred: Tensor,
        target: Tensor,
        valid: Tensor,
        where: Sequence[Place],
        heights_m: Heights | None = None,
    ) -> None:
        """Add a batch of tiles.

        Args:
            pred: (B, K, H, W) bool, True where called a gap.
            target: (B, K, H, W) bool, True where a gap; numbers 0 and 1 are taken as well.
            valid: (B, H, W) bool; other pixels are in no cell.
            where: B places; their windows have the size of the tiles.
            heights_m: (K,) or (B, K) heights in metres, each a listed one; unset: the listed ones, in their order.

        Raises:
            ShapeError: If sizes do not fit together.
            DataError: If the pixel size of a scene, or a height, is not known.
        """
        require_same_hw(pred=pred, target=target, valid=valid)
        if pred.shape != target.shape or len(where) != len(pred) or len(valid) != len(pred):
            raise ShapeError(
                f"pred {tuple(pred.shape)}, target {tuple(target.shape)}, valid {tuple(valid.shape)} and {len(where)} "
                "places do not fit together: (B, K, H, W), the same, (B, H, W) and B are needed."
            )
        asked = match_heights(self.heights_m if heights_m is None else heights_m, *pred.shape[:2])
        said, true = (as_bool(mask).detach().cpu().numpy() for mask in (pred, target))
        counts = valid.cpu().numpy()
        for b, place in enumerate(where):
            columns = [self._column(height) for height in asked[b]]
            self._add(place, columns, counts[b], true[b] & counts[b], said[b] & counts[b])

    def merge(self, other: GridMeter) -> None:
        """Add the cells of another meter, for example that of another process.

        Raises:
            ConfigError: If it has other cells or heights.
        """
        if (self.cell_m, self.heights_m) != (other.cell_m, other.heights_m):
            raise ConfigError("Grids of different cells or heights cannot be merged.")
        self.pixel_size_m |= other.pixel_size_m
        for cell, counts in other._cells.items():
            self._cells[cell] = self._cells[cell] + counts if cell in self._cells else counts.copy()

    def reset(self) -> None:
        """Forget all cells."""
        self._cells.clear()

    def shares(self, min_valid_share: float = 0.5) -> list[tuple[Floats, Floats]]:
        """Observed and predicted gap share of each cell, a pair of arrays (cells,) for each height.

        Args:
            min_valid_share: Cells of which a smaller share was measured are left out, 0..1.
        """
        cells = sorted(self._cells)
        counts = np.array([self._cells[cell] for cell in cells], dtype=np.float64).reshape(-1, len(self.heights_m), 3)
        full = np.array([(self.cell_m / self.pixel_size_m[scene]) ** 2 for scene, _, _ in cells])
        pairs = []
        for k in range(len(self.heights_m)):
            valid, true, said = counts[:, k].T
            kept = (valid > 0) & (valid >= min_valid_share * full)
            pairs.append((true[kept] / valid[kept], said[kept] / valid[kept]))
        return pairs

    def compute(self, min_valid_share: float = 0.5) -> list[dict[str, float]]:
        """One row per height.

        Args:
            min_valid_share: Cells of which a smaller share was measured are left out, 0..1.

        Returns:
            Rows with ``height_m``, ``n_cells`` and what :func:`agreement` gives.
        """
        rows = []
        for height, (observed, predicted) in zip(self.heights_m, self.shares(min_valid_share), strict=True):
            rows.append({"height_m": height, "n_cells": float(observed.size), **agreement(observed, predicted)})
        return rows

    def _column(self, height: float) -> int:
        if height_key(height) not in self._columns:
            listed = ", ".join(f"{known:g}" for known in self.heights_m)
            raise DataError(
                f"The grid was made for {listed} m and cannot take {height:g} m; list it when making the grid."
            )
        return self._columns[height_key(height)]

    def _add(
        self,
        place: Place,
        columns: Sequence[int],
        valid: NDArray[np.bool_],
        true: NDArray[np.bool_],
        said: NDArray[np.bool_],
    ) -> None:
        if place.scene not in self.pixel_size_m:
            raise DataError(f"The pixel size of {place.scene} is not known to the grid; name it in pixel_size_m.")
        if (place.window.height, place.window.width) != valid.shape:
            raise ShapeError(f"A tile of {valid.shape} pixels does not fit its window {place.window}.")
        side_px = self.cell_m / self.pixel_size_m[place.scene]
        rows, row_starts = _cell_runs(place.window.row, place.window.height, side_px)
        cols, col_starts = _cell_runs(place.window.col, place.window.width, side_px)
        stack = np.concatenate((valid[None], true, said))  # (1 + 2 K, H, W)
        sums = _block_sums(stack, row_starts, col_starts)
        channels = len(columns)
        for i, row in enumerate(rows):
            for j, col in enumerate(cols):
                measured = sums[0, i, j]
                if measured == 0:  # beyond the scene, or nothing known
                    continue
                cell = self._cells.setdefault(
                    (place.scene, row, col), np.zeros((len(self.heights_m), 3), dtype=np.int64)
                )
                cell[columns, 0] += measured
                cell[columns, 1] += sums[1 : 1 + channels, i, j]
                cell[columns, 2] += sums[1 + channels :, i, j]


def agreement(observed: Floats, predicted: Floats) -> dict[str, float]:
    """How well predicted values follow observed ones.

    Args:
        observed: (n,) observed values.
        predicted: (n,) predicted values.

    Returns:
        ``r2`` (1 - SSE / SST: 1 is perfect, 0 no better than the mean of the observed, below 0 worse), ``rmse``,
        ``mae``, and ``slope`` and ``intercept`` of the least-squares line predicted = slope * observed + intercept.
        nan where not defined: no values, or observed values that are all the same.
    """
    if observed.size == 0:
        return dict.fromkeys(("r2", "rmse", "mae", "slope", "intercept"), math.nan)
    errors = predicted - observed
    deviations = observed - observed.mean()
    spread = float(deviations @ deviations)
    varied = bool(observed.min() < observed.max())
    slope = float(deviations @ predicted) / spread if varied else math.nan
    return {
        "r2": 1 - float(errors @ errors) / spread if varied else math.nan,
        "rmse": math.sqrt(float(errors @ errors) / observed.size),
        "mae": float(np.abs(errors).mean()),
        "slope": slope,
        "intercept": float(predicted.mean()) - slope * float(observed.mean()),
    }


def _cell_runs(start: int, length: int, side_px: float) -> tuple[list[int], NDArray[np.intp]]:
    """Cells that pixels start .. start + length fall into, and where in the tile each of them begins."""
    centres = np.arange(start, start + length) + 0.5
    cells = np.floor(centres / side_px).astype(np.int64)
    begins = np.flatnonzero(np.diff(cells, prepend=cells[0] - 1))
    return cells[begins].tolist(), begins


def _block_sums(
    masks: NDArray[np.bool_], row_starts: NDArray[np.intp], col_starts: NDArray[np.intp]
) -> NDArray[np.int64]:
    by_row = np.add.reduceat(masks, row_starts, axis=1, dtype=np.int64)
    sums: NDArray[np.int64] = np.add.reduceat(by_row, col_starts, axis=2)
    return sums
