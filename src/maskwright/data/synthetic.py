"""Invented scenes with known truth, for tests, examples and the demo: a forest on rough ground, with gaps.

The forest follows the rules of real ones, so that a network can learn from the surface alone: taller trees have wider
crowns, so texture tells height; gaps end at walls of trees; the ground is so rough that the surface minus its own
opening does not find them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from scipy import ndimage

from maskwright.data.terrain import Terrain

__all__ = ["NODATA", "Forest", "Gap", "make_forest", "write_forest"]

NODATA = -9999.0

_STEP_M = 1.0 / 64.0  # heights are whole multiples of it, so that DTM + CHM is exact in float32
_GROUND_M = 250.0
_HILLS = ((16.0, 500.0), (3.5, 150.0), (0.8, 50.0), (0.15, 16.0))  # standard deviation and wavelength, both in metres
_RIDGE_M, _RIDGE_WAVELENGTH_M = 5.0, 220.0
_CANOPY_M, _CANOPY_STD_M, _CANOPY_WAVELENGTH_M = 26.0, 2.5, 260.0
_REGROWTH_CLASSES = ((0.0, 4.0, 0.105), (5.5, 8.8, 0.085), (10.5, 13.5, 0.095))  # lowest, highest height, share of area
_GAP_RADIUS_M = (6.0, 26.0)
_LAYERS = ((14.0, 60.0, 4.4), (6.0, 14.0, 2.4), (1.0, 6.0, 1.6))  # height from, height to, spacing of the trees, metres
_BORDER_M = 45.0
_APART_M = 20_000.0  # between the forests of two seeds, when written


@dataclass(frozen=True, slots=True)
class Gap:
    """A place where the canopy was lost and grows again.

    Attributes:
        row: Centre, in pixels.
        col: Centre, in pixels.
        radius_m: Mean radius; the outline is irregular.
        regrowth_m: Height of what grows in it; 0 is bare ground.
    """

    row: float
    col: float
    radius_m: float
    regrowth_m: float


@dataclass(frozen=True, slots=True)
class Forest:
    """An invented forest.

    Attributes:
        dsm: (H, W) float32 metres, NaN where not measured; exactly ``dtm + chm``.
        chm: (H, W) float32 metres, 0 or more, NaN where not measured.
        dtm: (H, W) float32 metres, known everywhere.
        gaps: All gaps that were made; later ones may lie over earlier ones.
        pixel_size_m: Side of a pixel.
    """

    dsm: np.ndarray
    chm: np.ndarray
    dtm: np.ndarray
    gaps: tuple[Gap, ...]
    pixel_size_m: float


def make_forest(size_px: int = 2048, pixel_size_m: float = 1.0, seed: int = 0, *, nodata_edge: bool = True) -> Forest:
    """Invent a square forest; the same arguments give the same forest, bit for bit.

    About 8, 14 and 22 % of the ground lie lower than 5, 10 and 15 m.

    Args:
        size_px: Rows and columns.
        pixel_size_m: Side of a pixel.
        seed: Which forest.
        nodata_edge: Leave an irregular rim of a few percent not measured.
    """
    rng = np.random.default_rng(seed)
    at_m = np.arange(size_px) * pixel_size_m
    dtm = _rounded(_ground(rng, at_m))
    top, gaps = _tops(rng, at_m, pixel_size_m)
    chm = _rounded(_crowns(rng, top, pixel_size_m))
    if nodata_edge:
        chm[_not_measured(rng, at_m)] = np.nan
    return Forest(dsm=dtm + chm, chm=chm, dtm=dtm, gaps=gaps, pixel_size_m=pixel_size_m)


def write_forest(
    folder: Path | str,
    *,
    name: str = "forest",
    size_px: int = 2048,
    pixel_size_m: float = 1.0,
    seed: int = 0,
    nodata_edge: bool = True,
) -> tuple[Path, Path]:
    """Invent a forest and write ``{name}_DSM.tif`` and ``{name}_CHM.tif`` (float32, EPSG:32633, nodata -9999).

    Args:
        folder: Made if missing.
        name: What both file names begin with; forests of different seeds lie on different ground.
        size_px: See :func:`make_forest`, as all that follow.
        pixel_size_m: As above.
        seed: As above.
        nodata_edge: As above.

    Returns:
        The paths of the DSM and the CHM.
    """
    forest = make_forest(size_px, pixel_size_m, seed, nodata_edge=nodata_edge)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}_DSM.tif", folder / f"{name}_CHM.tif"
    left_m, top_m = 400_000.0 + _APART_M * (seed % 10), 5_000_000.0 + _APART_M * (seed // 10 % 100)
    corner = Affine(pixel_size_m, 0.0, left_m, 0.0, -pixel_size_m, top_m)
    for path, heights in zip(paths, (forest.dsm, forest.chm), strict=True):
        _write(path, heights, corner)
    return paths


def _ground(rng: np.random.Generator, at_m: np.ndarray) -> np.ndarray:
    ground = np.full((len(at_m), len(at_m)), _GROUND_M, np.float32)
    for std_m, wavelength_m in _HILLS:
        ground += _field(rng, at_m, std_m, wavelength_m)
    ground -= _RIDGE_M * np.abs(_field(rng, at_m, 1.0, _RIDGE_WAVELENGTH_M))  # sharp crests, round valleys
    return ground


def _tops(rng: np.random.Generator, at_m: np.ndarray, pixel_size_m: float) -> tuple[np.ndarray, tuple[Gap, ...]]:
    """Height the trees reach at each pixel, lowered in the gaps."""
    top = _CANOPY_M + _field(rng, at_m, _CANOPY_STD_M, _CANOPY_WAVELENGTH_M)
    np.maximum(top, 21.0, out=top)
    extent_m = len(at_m) * pixel_size_m
    shortest, longest = np.minimum(_GAP_RADIUS_M, (0.03 * extent_m, 0.1 * extent_m))  # small scenes have small gaps
    outline = _field(rng, at_m, 0.35, 22.0)
    kind_of = np.full(top.shape, -1, np.int8)
    wanted = np.array([share for _, _, share in _REGROWTH_CLASSES]) * top.size
    have = np.zeros(len(wanted))
    gaps = []
    while (have < wanted).any():
        kind = int(np.argmax(1.0 - have / wanted))
        low, high, _ = _REGROWTH_CLASSES[kind]
        gap = Gap(
            row=float(rng.uniform(0, len(at_m))),
            col=float(rng.uniform(0, len(at_m))),
            radius_m=float(shortest * (longest / shortest) ** rng.uniform(0, 1)),
            regrowth_m=float(rng.uniform(low, high)),
        )
        gaps.append(gap)
        _lower(top, kind_of, outline, gap, kind, have, pixel_size_m)
    return top, tuple(gaps)


def _lower(
    top: np.ndarray,
    kind_of: np.ndarray,
    outline: np.ndarray,
    gap: Gap,
    kind: int,
    have: np.ndarray,
    pixel_size_m: float,
) -> None:
    """Cut one gap into ``top`` and keep ``have``, the pixels of each kind, up to date."""
    reach = int(2.0 * gap.radius_m / pixel_size_m) + 1
    row, col = int(gap.row), int(gap.col)
    rows = slice(max(0, row - reach), row + reach + 1)
    cols = slice(max(0, col - reach), col + reach + 1)
    part = top[rows, cols]
    down = np.arange(rows.start, rows.start + part.shape[0])[:, None] - gap.row
    right = np.arange(cols.start, cols.start + part.shape[1])[None, :] - gap.col
    inside = np.hypot(down, right) * pixel_size_m < gap.radius_m * (1.0 + outline[rows, cols])
    inside &= part > gap.regrowth_m
    before = kind_of[rows, cols][inside]
    have -= np.bincount(before[before >= 0], minlength=len(have))
    have[kind] += before.size
    kind_of[rows, cols][inside] = kind
    part[inside] = gap.regrowth_m


def _crowns(rng: np.random.Generator, top: np.ndarray, pixel_size_m: float) -> np.ndarray:
    """Canopy height: crowns of all sizes over a floor of branches and herbs."""
    size_px = len(top)
    chm: np.ndarray = 0.72 * ndimage.uniform_filter(top, 3) + rng.normal(0.0, 0.02, top.shape).astype(np.float32) * top
    np.maximum(chm, 0.0, out=chm)
    for low_m, high_m, spacing_m in _LAYERS:
        across = max(1, int(size_px * pixel_size_m / spacing_m))
        step = size_px / across
        row, col = (np.indices((across, across)).reshape(2, -1) + rng.uniform(0.0, 1.0, (2, across * across))) * step
        height_m = top[np.minimum(row.astype(np.intp), size_px - 1), np.minimum(col.astype(np.intp), size_px - 1)]
        grows = (height_m >= low_m) & (height_m < high_m)
        height_m = height_m[grows] * rng.uniform(0.8, 1.1, int(grows.sum()))
        _stamp(chm, row[grows], col[grows], height_m, (0.9 + 0.13 * height_m) / pixel_size_m)
    return chm


def _stamp(chm: np.ndarray, row: np.ndarray, col: np.ndarray, height_m: np.ndarray, radius_px: np.ndarray) -> None:
    """Raise ``chm`` to round crowns: full height in the middle, 60 % of it at the rim."""
    size_px = len(chm)
    flat = chm.reshape(-1)
    first_row, first_col = np.floor(row).astype(np.intp), np.floor(col).astype(np.intp)
    reach = int(np.ceil(radius_px.max(initial=0.0)))
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            rows, cols = first_row + down, first_col + right
            away = ((rows + 0.5 - row) ** 2 + (cols + 0.5 - col) ** 2) / radius_px**2
            hit = (away < 1.0) & (rows >= 0) & (rows < size_px) & (cols >= 0) & (cols < size_px)
            heights = (height_m[hit] * (1.0 - 0.4 * away[hit])).astype(np.float32)
            np.maximum.at(flat, rows[hit] * size_px + cols[hit], heights)


def _not_measured(rng: np.random.Generator, at_m: np.ndarray) -> np.ndarray:
    """An irregular rim, narrower in small scenes."""
    extent_m = at_m[-1] + (at_m[1] - at_m[0] if len(at_m) > 1 else 1.0)
    from_side = np.minimum(at_m, at_m[::-1])
    from_edge = np.minimum(from_side[:, None], from_side[None, :])
    width_m = min(_BORDER_M, 0.06 * extent_m)
    rim: np.ndarray = from_edge < width_m * (0.3 + _field(rng, at_m, 0.4, 3.0 * width_m))
    return rim


def _field(rng: np.random.Generator, at_m: np.ndarray, std_m: float, wavelength_m: float) -> np.ndarray:
    return Terrain(std_m, wavelength_m, int(rng.integers(2**62))).surface(at_m, at_m)


def _rounded(heights: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = (np.rint(heights / _STEP_M) * _STEP_M).astype(np.float32)
    return rounded


def _write(path: Path, heights: np.ndarray, transform: Affine) -> None:
    profile = {
        "driver": "GTiff",
        "height": heights.shape[0],
        "width": heights.shape[1],
        "count": 1,
        "dtype": "float32",
        "crs": "EPSG:32633",
        "transform": transform,
        "nodata": NODATA,
        "compress": "DEFLATE",
        "predictor": 3,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    }
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(np.where(np.isnan(heights), np.float32(NODATA), heights), 1)
