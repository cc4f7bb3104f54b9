"""Cutting a size into square tiles, and the measured share of each: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from maskwright.types import Window

__all__ = ["covered_px", "tile_grid", "tiles_within", "window_shares"]

_COARSE_MESH_PX = 8  # of scenes too large to look at each pixel
_MOST_CELLS = 4_000_000


def tile_grid(height: int, width: int, tile_px: int, overlap_px: int = 0) -> list[Window]:
    """Square tiles that cover a scene, row by row; the last ones reach past its edge where it does not divide evenly.

    Args:
        height: Rows of the scene, at least 1.
        width: Columns of the scene, at least 1.
        tile_px: Side of every tile.
        overlap_px: Pixels that neighbours share, 0 to ``tile_px - 1``.

    Raises:
        ValueError: If a size is below 1 or the overlap does not lie below the tile.
    """
    return tiles_within(Window(0, 0, height, width), height, width, tile_px, overlap_px)


def tiles_within(region: Window, height: int, width: int, tile_px: int, overlap_px: int = 0) -> list[Window]:
    """Square tiles inside a rectangle of a scene, row by row, anchored at its upper left corner.

    A tile leaves the rectangle only where the rectangle ends with the scene: there it is padded. Elsewhere a remainder
    narrower than a tile is left over, unless tiles may overlap: then one more ends exactly at the rectangle's edge.

    Args:
        region: The rectangle, inside the scene.
        height: Rows of the scene.
        width: Columns of the scene.
        tile_px: Side of every tile.
        overlap_px: Pixels that neighbours share, 0 to ``tile_px - 1``.

    Raises:
        ValueError: If a size is below 1 or the overlap does not lie below the tile.
    """
    if min(height, width, tile_px) < 1 or not 0 <= overlap_px < tile_px:
        raise ValueError(f"{height} x {width} px cannot be cut into tiles of {tile_px} px with {overlap_px} px overlap")
    rows = _starts(region.row, region.row_stop, height, tile_px, overlap_px)
    cols = _starts(region.col, region.col_stop, width, tile_px, overlap_px)
    return [Window(row, col, tile_px, tile_px) for row in rows for col in cols]


def _starts(start: int, stop: int, scene_stop: int, tile_px: int, overlap_px: int) -> list[int]:
    stride, length = tile_px - overlap_px, stop - start
    if stop >= scene_stop:
        return [start + stride * step for step in range(max(0, math.ceil((length - tile_px) / stride)) + 1)]
    if length < tile_px:
        return []
    starts = list(range(start, stop - tile_px + 1, stride))
    if overlap_px and starts[-1] + tile_px < stop:
        starts.append(stop - tile_px)
    return starts


def window_shares(cells: Callable[[int], np.ndarray], windows: Sequence[Window]) -> np.ndarray:
    """The measured share of each of several equal squares of one scene.

    Exact, except in scenes of many million pixels for squares whose corners lie on no mesh of 8 px or more: those are
    summed from cells of 8 px, the ones on their border counted by area.

    Args:
        cells: Cell size in pixels to the (rows, cols) share of measured pixels in the cells anchored at (0, 0);
            what lies outside the scene counts as not measured.
        windows: Squares of one size.

    Returns:
        (len(windows),) float64 in 0..1.
    """
    if not windows:
        return np.zeros(0)
    tile_px = windows[0].height
    corners = np.array([(window.row, window.col) for window in windows], dtype=np.int64)
    mesh_px = int(np.gcd.reduce(np.append(corners.ravel(), tile_px)))
    if np.prod(corners.max(axis=0) + tile_px) > _MOST_CELLS * mesh_px**2:
        mesh_px = min(tile_px, max(mesh_px, _COARSE_MESH_PX))
    sums = _running_sums(np.asarray(cells(mesh_px), dtype=np.float64))
    first, last = corners / mesh_px, (corners + tile_px) / mesh_px
    total = (
        _at(sums, last[:, 0], last[:, 1])
        - _at(sums, first[:, 0], last[:, 1])
        - _at(sums, last[:, 0], first[:, 1])
        + _at(sums, first[:, 0], first[:, 1])
    )
    return np.asarray(np.clip(total * (mesh_px / tile_px) ** 2, 0.0, 1.0))


def _running_sums(values: np.ndarray) -> np.ndarray:
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    np.cumsum(np.cumsum(values, axis=0), axis=1, out=sums[1:, 1:])
    return sums


def _at(sums: np.ndarray, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Running sums between their nodes; linear in each axis, which is the share of a cell's area."""
    row, col = np.clip(row, 0, sums.shape[0] - 1), np.clip(col, 0, sums.shape[1] - 1)
    row_0, col_0 = np.floor(row).astype(np.int64), np.floor(col).astype(np.int64)
    row_1, col_1 = np.minimum(row_0 + 1, sums.shape[0] - 1), np.minimum(col_0 + 1, sums.shape[1] - 1)
    down, right = row - row_0, col - col_0
    upper = sums[row_0, col_0] * (1 - right) + sums[row_0, col_1] * right
    lower = sums[row_1, col_0] * (1 - right) + sums[row_1, col_1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def covered_px(windows: Sequence[Window]) -> int:
    """Pixels that the rectangles of one scene hold together, those that several share counted once."""
    if not windows:
        return 0
    rows = np.unique([edge for window in windows for edge in (window.row, window.row_stop)])
    cols = np.unique([edge for window in windows for edge in (window.col, window.col_stop)])
    change = np.zeros((len(rows), len(cols)), dtype=np.int64)
    top = np.searchsorted(rows, [window.row for window in windows])
    bottom = np.searchsorted(rows, [window.row_stop for window in windows])
    left = np.searchsorted(cols, [window.col for window in windows])
    right = np.searchsorted(cols, [window.col_stop for window in windows])
    np.add.at(change, (top, left), 1)
    np.add.at(change, (bottom, right), 1)
    np.add.at(change, (top, right), -1)
    np.add.at(change, (bottom, left), -1)
    held = change.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0
    return int((np.diff(rows)[:, None] * np.diff(cols)[None, :])[held].sum())
