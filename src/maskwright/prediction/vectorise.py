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
from maskwright.prediction.geotiff import grid_of, mask_reader, open_raster, probability_reader
from maskwright.prediction.polygon_files import ClassPolygons, GapPolygons, open_polygon_file
from maskwright.prediction.postprocess import Gaps, find_gaps

__all__ = ["BAND_PX", "ClassPlane", "outline_gaps", "pixel_area_m2", "vectorise_classes", "vectorise_mask"]

BAND_PX = 2**22

ReadMask = Callable[[int, int], npt.NDArray[np.bool_]]


def vectorise_mask(
    mask: str | Path, path: str | Path, *, heights_m: Sequence[float], probabilities: str | Path | None = None
) -> tuple[int, ...]:
    """Write the gaps of a mask raster as polygons: gap_id, height_m, area_m2, perimeter_m, mean_probability.

    Args:
        mask: Raster with a band for each height: 1 in gaps; anything else (0, nodata) is no gap.
        path: The file to write, ``.gpkg`` or ``.geojson``; replaced if it exists. GeoPackage keeps the CRS; GeoJSON is
            WGS 84 as its standard wants, or in the file's own coordinates where there is no CRS.
        heights_m: The heights in metres of the bands.
        probabilities: Raster of the same size and bands, for the mean probability of each gap.

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
        writer = stack.enter_context(open_polygon_file(Path(path), grid.crs, with_probability=probs is not None))
        for band, height_m in enumerate(heights_m, start=1):
            read = mask_reader(source, band)
            read_probs = None if probs is None else probability_reader(probs, band)
            gaps = find_gaps(read, grid.height, grid.width, probabilities=read_probs)
            for found in _on_the_ground(gaps, read, grid, float(height_m), first_id=sum(counts) + 1):
                writer.add(found)
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
    """Write the objects of each class as polygons: object_id, class, area, perimeter, mean_probability.

    Args:
        mask: Raster of codes.
        path: The file to write, ``.gpkg`` or ``.geojson``; replaced if it exists.
        planes: The classes.
        pixel_m2: Ground in square metres that a pixel covers; None: areas are told in pixels.
        probabilities: Raster of the same size, for the mean probability of each object.

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
        a, b, c, d, e, f = grid.transform if grid.is_georeferenced else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        to_ground, shift = np.array([[a, d], [b, e]]), (c, f)
        crs = grid.crs if grid.is_georeferenced else None
        writer = stack.enter_context(
            open_polygon_file(
                Path(path), crs, with_probability=probs is not None, layer="objects", empty=ClassPolygons.none(unit)
            )
        )
        for plane in planes:
            read = mask_reader(source, plane.band, plane.code)
            read_probs = None if probs is None else probability_reader(probs, plane.probability_band)
            gaps = find_gaps(read, grid.height, grid.width, probabilities=read_probs)
            for numbers, outlines in outline_gaps(gaps, read):
                mean = gaps.mean_probability
                writer.add(
                    ClassPolygons(
                        object_id=numbers + sum(counts) + 1,
                        name=plane.name,
                        geometry=shapely.transform(outlines, lambda xy: xy @ to_ground + shift),
                        area=gaps.area_px[numbers].astype(np.float64) * area,
                        perimeter=shapely.length(outlines) * side,
                        mean_probability=None if mean is None else mean[numbers],
                        unit=unit,
                    )
                )
            counts.append(len(gaps))
    return tuple(counts)


def pixel_area_m2(grid: Grid) -> float:
    """Ground in square metres that one pixel covers."""
    a, b, _, d, e, _ = grid.transform
    return float(abs(a * e - b * d) * grid.metres_per_unit**2)


def _on_the_ground(gaps: Gaps, read: ReadMask, grid: Grid, height_m: float, first_id: int) -> Iterator[GapPolygons]:
    a, b, c, d, e, f = grid.transform
    to_ground = np.array([[a, d], [b, e]])
    metres, pixel_m2 = grid.metres_per_unit, pixel_area_m2(grid)
    for numbers, outlines in outline_gaps(gaps, read):
        geometry = shapely.transform(outlines, lambda xy: xy @ to_ground + (c, f))
        yield GapPolygons(
            gap_id=numbers + first_id,
            height_m=height_m,
            geometry=geometry,
            area_m2=gaps.area_px[numbers].astype(np.float64) * pixel_m2,
            perimeter_m=shapely.length(geometry) * metres,
            mean_probability=None if gaps.mean_probability is None else gaps.mean_probability[numbers],
        )


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
