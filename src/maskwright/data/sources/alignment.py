"""Do two rasters lie on one grid, can one be laid onto the other's, and which scenes show the same ground."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject, transform, transform_bounds

from maskwright.data.sources.height_file import HeightFile
from maskwright.data.sources.interface import Grid
from maskwright.types import Window

__all__ = ["differences", "ground_ids", "offset_units", "overlaps", "read_onto"]

_RESOLUTION_TOLERANCE = 0.01  # units of the CRS
_BOUNDS_TOLERANCE = 1.0  # units of the CRS, and never more than a tenth of a pixel: labels would lie beside the canopy
_SAME_PLACE_PX = 0.01
_ANY_PLANE = "EPSG:3857"  # for two rasters without a CRS, whose coordinates are compared as they are
_OUTLINE_POINTS = 21

Box = tuple[float, float, float, float]


def differences(grid: Grid, other: Grid) -> tuple[str, ...]:
    """How ``other`` departs from ``grid``, a phrase each; empty if pixels can be compared one by one.

    Resolutions may differ by 0.01 and bounds by 1 unit of the CRS, but never by more than a tenth of a pixel. A raster
    without a CRS is taken to have the other's.
    """
    found = []
    if not _same_crs(grid, other):
        found.append(f"CRS {_crs_name(other)} against {_crs_name(grid)}")
    if any(abs(other.transform[index] - grid.transform[index]) > _RESOLUTION_TOLERANCE for index in (0, 1, 3, 4)):
        found.append(f"pixel size {_size(other)} against {_size(grid)}")
    if (other.height, other.width) != (grid.height, grid.width):
        found.append(f"{other.height} x {other.width} pixels against {grid.height} x {grid.width}")
    if not found and offset_units(grid, other) > min(_BOUNDS_TOLERANCE, 0.1 * min(grid.pixel_size)):
        found.append(f"shifted by {offset_units(grid, other):.4g} units")
    return tuple(found)


def offset_units(grid: Grid, other: Grid) -> float:
    """Largest distance between a side of one raster and the same side of the other, in units of the CRS."""
    return max(abs(first - second) for first, second in zip(grid.bounds, other.bounds, strict=True))


def overlaps(grid: Grid, other: Grid) -> bool:
    """True if the two rasters share more ground than half a pixel's width."""
    box = _box_in(other, grid)
    return box is not None and _share_ground(grid.bounds, box, 0.5 * min(*grid.pixel_size, *other.pixel_size))


def read_onto(file: HeightFile, grid: Grid, window: Window) -> np.ndarray:
    """Heights of a file resampled onto a window of another grid: bilinear (averaged where the file is finer).

    Args:
        file: Where heights come from.
        grid: The grid wanted.
        window: A window of that grid.

    Returns:
        (H, W) float32 metres; NaN where less than half of what a pixel is made of was measured.
    """
    out = np.full((window.height, window.width), np.nan, np.float32)
    source_crs, crs = _common_crs(file.grid, grid)
    source_window = _window_below(file.grid, source_crs, grid, crs, window)
    if source_window is None:
        return out
    heights = file.read(source_window)
    measured = np.isfinite(heights)
    if not measured.any():
        return out
    options = {
        "src_transform": _window_affine(file.grid, source_window),
        "src_crs": source_crs,
        "dst_transform": _window_affine(grid, window),
        "dst_crs": crs,
        "resampling": Resampling.bilinear,
        "tolerance": 0.0,
    }
    share = np.zeros_like(out)
    reproject(measured.astype(np.float32), share, **options)
    reproject(heights, out, src_nodata=np.nan, dst_nodata=np.nan, **options)
    out[share < 0.5] = np.nan
    return out


def ground_ids(grids: Mapping[str, Grid], named: Mapping[str, str | None]) -> dict[str, str]:
    """Which piece of ground each scene shows: scenes whose extents overlap show the same.

    Rasters without a CRS are compared among themselves; those without any position are never taken as overlapping.

    Args:
        grids: Grid of each scene.
        named: A word for the ground of a scene, which then stands; None to find it from the extent.

    Returns:
        Scene to id: the word, or the first name, in alphabetical order, of the scenes that overlap in a chain.
    """
    found = sorted(name for name in grids if named.get(name) is None)
    parent = {name: name for name in found}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for index, first in enumerate(found):
        for second in found[index + 1 :]:
            if root(first) != root(second) and _same_ground(grids[first], grids[second]):
                low, high = sorted((root(first), root(second)))
                parent[high] = low
    return {name: named.get(name) or root(name) for name in grids}


def _same_ground(first: Grid, second: Grid) -> bool:
    known = first.is_georeferenced and second.is_georeferenced
    return known and (first.crs is None) == (second.crs is None) and overlaps(first, second)


def _share_ground(first: Box, second: Box, least: float) -> bool:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return width > least and height > least


def _box_in(grid: Grid, wanted: Grid) -> Box | None:
    """Bounds of ``grid`` in the CRS of ``wanted``; None if they lie outside the area that CRS can express."""
    if _equal_crs(grid, wanted):
        return grid.bounds
    try:
        box = transform_bounds(CRS.from_wkt(grid.crs), CRS.from_wkt(wanted.crs), *grid.bounds)
    except RasterioError:
        return None
    return box if np.isfinite(box).all() else None


def _equal_crs(grid: Grid, other: Grid) -> bool:
    """True also if one of them names none: it is then taken to have the other's."""
    if grid.crs is None or other.crs is None or grid.crs == other.crs:
        return True
    return bool(CRS.from_wkt(grid.crs) == CRS.from_wkt(other.crs))


def _same_crs(grid: Grid, other: Grid) -> bool:
    """Equal, or different names for coordinates that agree on this ground (a vertical part, another spelling)."""
    if _equal_crs(grid, other):
        return True
    left, bottom, right, top = grid.bounds
    xs, ys = [left, left, right, right], [bottom, top, bottom, top]
    try:
        there = transform(CRS.from_wkt(grid.crs), CRS.from_wkt(other.crs), xs, ys)
    except RasterioError:
        return False
    moved = np.abs(np.array(there[:2]) - np.array([xs, ys])).max()
    return bool(moved < _SAME_PLACE_PX * min(grid.pixel_size))


def _common_crs(source: Grid, grid: Grid) -> tuple[CRS, CRS]:
    wkt = grid.crs or source.crs
    crs = CRS.from_wkt(wkt) if wkt else CRS.from_string(_ANY_PLANE)
    return (crs if _equal_crs(source, grid) else CRS.from_wkt(source.crs)), crs


def _window_below(source: Grid, source_crs: CRS, grid: Grid, crs: CRS, window: Window) -> Window | None:
    """The window of ``source`` that covers a window of ``grid``, with a rim for the interpolation."""
    steps = np.linspace(0.0, 1.0, _OUTLINE_POINTS)
    rows, cols = np.meshgrid(window.row + steps * window.height, window.col + steps * window.width)
    xs, ys = _applied(grid.affine(), cols.ravel(), rows.ravel())
    if source_crs != crs:
        there = transform(crs, source_crs, xs.tolist(), ys.tolist())
        xs, ys = np.array(there[0]), np.array(there[1])
    usable = np.isfinite(xs) & np.isfinite(ys)
    if not usable.any():
        return None
    cols, rows = _applied(~source.affine(), xs[usable], ys[usable])
    rim = 4 + int(max(np.ptp(rows) / window.height, np.ptp(cols) / window.width))
    row, col = int(np.floor(rows.min())) - rim, int(np.floor(cols.min())) - rim
    row_stop, col_stop = int(np.ceil(rows.max())) + rim, int(np.ceil(cols.max())) + rim
    return Window(row, col, row_stop - row, col_stop - col).intersection(source.window)


def _applied(affine: Affine, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return affine.a * xs + affine.b * ys + affine.c, affine.d * xs + affine.e * ys + affine.f


def _window_affine(grid: Grid, window: Window) -> Affine:
    a, b, c, d, e, f = grid.transform
    return Affine(a, b, a * window.col + b * window.row + c, d, e, d * window.col + e * window.row + f)


def _crs_name(grid: Grid) -> str:
    return str(CRS.from_wkt(grid.crs).to_string())[:60] if grid.crs else "none"


def _size(grid: Grid) -> str:
    a, b, _, d, e, _ = grid.transform
    x, y = grid.pixel_size
    turned = b != 0 or d != 0
    flipped = a < 0 or e > 0
    return f"{x:g} x {y:g}" + (" (turned)" if turned else "") + (" (flipped)" if flipped else "")
