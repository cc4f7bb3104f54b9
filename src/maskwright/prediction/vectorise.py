"""Masks to polygons, in row bands: exact outlines along pixel edges, with holes, areas in square metres.

Gaps are joined over corners (8 neighbours), so a gap may be a multi-polygon whose parts touch at corners. A gap of
several parts, or one that lies in several bands, is outlined piece by piece and the pieces are joined. That happens in
whole pixel numbers, before outlines are placed on the ground: joining is exact, the result does not depend on bands.
A gap is handed on as soon as its last row has passed, so memory holds the gaps at hand and not those of the whole map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import shapes

from maskwright.data.sources.interface import Grid
from maskwright.errors import PredictionError
from maskwright.prediction.gap_heights import measure_heights
from maskwright.prediction.geotiff import grid_of, mask_reader, open_raster, probability_reader
from maskwright.prediction.polygon_files import Polygons, open_polygon_file
from maskwright.prediction.postprocess import Gaps, find_gaps
from maskwright.prediction.shapes import compactness

__all__ = ["BAND_PX", "ClassPlane", "outline_gaps", "pixel_area_m2", "placed", "vectorise_classes", "vectorise_mask"]

BAND_PX = 2**22

_GAP_COLUMNS = {"gap_id": int, "height_m": float, "area_m2": float, "perimeter_m": float, "compactness": float}
_SURFACE_COLUMNS = dict.fromkeys(("surface_min_m", "surface_mean_m", "surface_max_m", "surface_std_m"), float)
_CONFIDENCE = {"confidence": float}

ReadMask = Callable[[int, int], npt.NDArray[np.bool_]]


def vectorise_mask(
    mask: str | Path,
    path: str | Path,
    *,
    heights_m: Sequence[float],
    probabilities: str | Path | None = None,
    surface: Callable[[int, int], npt.NDArray[np.float32]] | None = None,
) -> tuple[int, ...]:
    """Write the gaps of a mask raster as polygons.

    Columns: gap_id, height_m, area_m2, perimeter_m, compactness (see :mod:`~maskwright.prediction.shapes`), with a
    surface surface_min_m, surface_mean_m, surface_max_m and surface_std_m, and with probabilities confidence, their
    mean over the gap.

    Args:
        mask: Raster with a band for each height: 1 in gaps; anything else (0, nodata) is no gap.
        path: The file to write, ``.gpkg`` or ``.geojson``; replaced if it exists. GeoPackage keeps the CRS; GeoJSON is
            WGS 84 as its standard wants, or in the file's own coordinates where there is no CRS.
        heights_m: The heights in metres of the bands.
        probabilities: Raster of the same size and bands, for the confidence.
        surface: (start, stop) to rows of the surface or canopy that was mapped, (h, W) metres, NaN where not measured.

    Returns:
        The number of gaps at each height. ``gap_id`` rises from 1 through all heights, from the top of the map down.

    Raises:
        PredictionError: If the rasters do not fit together, or the ending or the disk is no good.
    """
    with ExitStack() as stack:
        source = stack.enter_context(open_raster(mask))
        probs = None if probabilities is None else stack.enter_context(open_raster(probabilities))
        if source.count != len(heights_m):
            raise PredictionError(
                f"{mask} has {source.count} bands for {len(heights_m)} heights; one for each is needed."
            )
        if probs is not None and (probs.count, probs.shape) != (source.count, source.shape):
            raise PredictionError(
                f"{probabilities} and {mask} differ in size or number of bands; give a matching pair."
            )
        grid = grid_of(source)
        counts: list[int] = []
        columns = _GAP_COLUMNS | (_SURFACE_COLUMNS if surface else {}) | (_CONFIDENCE if probs is not None else {})
        writer = stack.enter_context(open_polygon_file(Path(path), grid.crs, layer="gaps", columns=columns))
        pixel_m2, metres = pixel_area_m2(grid), grid.metres_per_unit
        for band, height_m in enumerate(heights_m, start=1):
            read = mask_reader(source, band)
            read_probs = None if probs is None else probability_reader(probs, band)
            gaps = find_gaps(read, grid.height, grid.width, probabilities=read_probs)
            known = None if surface is None else measure_heights(gaps, read, surface)
            for numbers, outlines in outline_gaps(gaps, read):
                geometry = placed(outlines, grid)
                area = gaps.area_px[numbers].astype(np.float64) * pixel_m2
                perimeter = shapely.length(geometry) * metres
                facts: dict[str, npt.NDArray[Any]] = {
                    "gap_id": numbers + sum(counts) + 1,
                    "height_m": np.full(len(numbers), float(height_m)),
                    "area_m2": area,
                    "perimeter_m": perimeter,
                    "compactness": compactness(area, perimeter),
                }
                if known is not None:
                    parts = (known.low, known.mean, known.high, known.spread)
                    facts |= {name: part[numbers] for name, part in zip(_SURFACE_COLUMNS, parts, strict=True)}
                if gaps.mean_probability is not None:
                    facts["confidence"] = gaps.mean_probability[numbers]
                writer.add(Polygons(geometry, facts))
            counts.append(len(gaps))
    return tuple(counts)


@dataclass(frozen=True, slots=True)
class ClassPlane:
    """Where a mask raster holds one class.

    Attributes:
        name: The class.
        band: Band of the mask, from 1.
        code: Value in that band.
        probability_band: Band of the raster of probabilities, from 1.
    """

    name: str
    band: int
    code: int
    probability_band: int


def vectorise_classes(
    mask: str | Path,
    path: str | Path,
    planes: Sequence[ClassPlane],
    *,
    pixel_m2: float | None,
    probabilities: str | Path | None = None,
) -> tuple[int, ...]:
    """Write the objects of each class as polygons: object_id, class, area, perimeter, compactness, confidence.

    Args:
        mask: Raster of codes.
        path: The file to write, ``.gpkg`` or ``.geojson``; replaced if it exists.
        planes: The classes.
        pixel_m2: Ground in square metres that a pixel covers; None: areas are told in pixels.
        probabilities: Raster of the same size, for the confidence: the mean probability of each object.

    Returns:
        The number of objects of each class. ``object_id`` rises from 1 through all classes.

    Raises:
        PredictionError: If the ending or the disk is no good.
    """
    unit, area = ("px", 1.0) if pixel_m2 is None else ("m", pixel_m2)
    side = area**0.5
    counts: list[int] = []
    with ExitStack() as stack:
        source = stack.enter_context(open_raster(mask))
        probs = None if probabilities is None else stack.enter_context(open_raster(probabilities))
        grid = grid_of(source)
        columns = {"object_id": int, "class": object, "area_m2" if unit == "m" else "area_px": float}
        columns |= {f"perimeter_{unit}": float, "compactness": float} | (_CONFIDENCE if probs is not None else {})
        crs = grid.crs if (on_ground := grid.is_georeferenced) else None
        writer = stack.enter_context(open_polygon_file(Path(path), crs, layer="objects", columns=columns))
        for plane in planes:
            read = mask_reader(source, plane.band, plane.code)
            read_probs = None if probs is None else probability_reader(probs, plane.probability_band)
            gaps = find_gaps(read, grid.height, grid.width, probabilities=read_probs)
            for numbers, outlines in outline_gaps(gaps, read):
                lengths = shapely.length(outlines) * side
                areas = gaps.area_px[numbers].astype(np.float64) * area
                values = [
                    numbers + sum(counts) + 1,
                    np.full(len(numbers), plane.name, dtype=object),
                    areas,
                    lengths,
                    compactness(areas, lengths),
                ]
                if gaps.mean_probability is not None:
                    values.append(gaps.mean_probability[numbers])
                writer.add(
                    Polygons(placed(outlines, grid) if on_ground else outlines, dict(zip(columns, values, strict=True)))
                )
            counts.append(len(gaps))
    return tuple(counts)


def pixel_area_m2(grid: Grid) -> float:
    """Ground in square metres that one pixel covers."""
    a, b, _, d, e, _ = grid.transform
    return float(abs(a * e - b * d) * grid.metres_per_unit**2)


def placed(outlines: npt.NDArray[np.object_], grid: Grid) -> npt.NDArray[np.object_]:
    """Outlines in pixels as polygons in units of the CRS."""
    a, b, c, d, e, f = grid.transform
    to_ground = np.array([[a, d], [b, e]])
    geometry: npt.NDArray[np.object_] = shapely.transform(outlines, lambda xy: xy @ to_ground + (c, f))
    return geometry


def outline_gaps(
    gaps: Gaps, read: ReadMask, *, band_px: int = BAND_PX
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.object_]]]:
    """Outlines in pixel coordinates (x = column, y = row): numbers of gaps, rising, and their (multi-)polygons.

    Every gap comes once, whole, when its last row has passed.

    Args:
        gaps: From :func:`~maskwright.prediction.postprocess.find_gaps`.
        read: The reader they were found with.
        band_px: Pixels outlined at a time, about.
    """
    unfinished: dict[int, list[Any]] = {}
    for row, numbers in _taller(gaps.numbers(read), band_px):
        found = shapes(numbers, mask=numbers >= 0, connectivity=4, transform=Affine.translation(0, row))
        for outline, number in found:
            unfinished.setdefault(int(number), []).append(shapely.geometry.shape(outline))
        # A gap that goes on below is in the last row of this band.
        open_below = set() if row + len(numbers) == gaps.height else set(np.unique(numbers[-1]).tolist())
        finished = sorted(unfinished.keys() - open_below)
        if finished:
            outlines = np.empty(len(finished), dtype=object)
            for index, number in enumerate(finished):
                outlines[index] = _joined(unfinished.pop(number))
            yield np.array(finished, np.int64), shapely.normalize(outlines)


def _taller(
    bands: Iterator[tuple[int, npt.NDArray[np.int32]]], band_px: int
) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    """The same rows in bands of about ``band_px`` pixels: fewer borders, fewer pieces to join."""
    held: list[npt.NDArray[np.int32]] = []
    first = 0
    for row, numbers in bands:
        if held and sum(part.size for part in held) + numbers.size > band_px:
            yield first, np.concatenate(held)
            held = []
        if not held:
            first = row
        held.append(numbers)
    if held:
        yield first, np.concatenate(held)


def _joined(pieces: list[Any]) -> Any:
    """One (multi-)polygon, without the corners that lay on a border between bands."""
    if len(pieces) == 1:
        return pieces[0]
    # Normalised, rings begin at their leftmost corner, which is a true one: simplify keeps the first point of a ring.
    return shapely.simplify(shapely.normalize(shapely.union_all(pieces)), 0.0)
