"""GeoPackage and GeoJSON files of gaps or of objects of classes, written piece by piece."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

import numpy as np
import numpy.typing as npt
import pyogrio
import pyogrio.raw
import shapely
from rasterio._err import CPLE_BaseError  # what a transform raises as it is; rasterio.errors does not have it
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform

from maskwright.errors import PredictionError
from maskwright.files import explain_os_error

__all__ = ["ClassPolygons", "GapPolygons", "PolygonFile", "open_polygon_file"]

_AT_ONCE = 20_000  # gaps; every addition to a GeoPackage opens it anew
_DEGREE_DIGITS = 8  # about a millimetre
_OGR_ERRORS = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.CRSError)


@dataclass(frozen=True)
class GapPolygons:
    """Some gaps of one height.

    Attributes:
        gap_id: (n,) int64, unique in the file.
        height_m: The height in metres.
        geometry: (n,) shapely polygons or multi-polygons in units of the CRS.
        area_m2: (n,) pixels times the area of a pixel.
        perimeter_m: (n,) length of all outlines, those of holes included.
        mean_probability: (n,) or None.
    """

    gap_id: npt.NDArray[np.int64]
    height_m: float
    geometry: npt.NDArray[np.object_]
    area_m2: npt.NDArray[np.float64]
    perimeter_m: npt.NDArray[np.float64]
    mean_probability: npt.NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.gap_id)

    def fields(self, *, with_probability: bool) -> dict[str, npt.NDArray[Any]]:
        """Columns of the table by name."""
        columns: dict[str, npt.NDArray[Any]] = {
            "gap_id": self.gap_id,
            "height_m": np.full(len(self), self.height_m),
            "area_m2": self.area_m2,
            "perimeter_m": self.perimeter_m,
        }
        if with_probability:
            unknown = np.full(len(self), np.nan)
            columns["mean_probability"] = unknown if self.mean_probability is None else self.mean_probability
        return columns


@dataclass(frozen=True)
class ClassPolygons:
    """Some objects of one class.

    Attributes:
        object_id: (n,) int64, unique in the file.
        name: The class.
        geometry: (n,) shapely polygons or multi-polygons in units of the CRS, or in pixels (x = column, y = row).
        area: (n,) in ``unit`` squared.
        perimeter: (n,) length of all outlines, those of holes included, in ``unit``.
        mean_probability: (n,) or None.
        unit: ``m``, or ``px`` where pixels have no size.
    """

    object_id: npt.NDArray[np.int64]
    name: str
    geometry: npt.NDArray[np.object_]
    area: npt.NDArray[np.float64]
    perimeter: npt.NDArray[np.float64]
    mean_probability: npt.NDArray[np.float64] | None
    unit: str

    def __len__(self) -> int:
        return len(self.object_id)

    def fields(self, *, with_probability: bool) -> dict[str, npt.NDArray[Any]]:
        """Columns of the table by name."""
        columns: dict[str, npt.NDArray[Any]] = {
            "object_id": self.object_id,
            "class": np.full(len(self), self.name, dtype=object),
            f"area_{self.unit}2" if self.unit == "m" else "area_px": self.area,
            f"perimeter_{self.unit}": self.perimeter,
        }
        if with_probability:
            unknown = np.full(len(self), np.nan)
            columns["mean_probability"] = unknown if self.mean_probability is None else self.mean_probability
        return columns

    @classmethod
    def none(cls, unit: str) -> ClassPolygons:
        """No object at all: the columns of an empty file."""
        nothing = np.empty(0)
        return cls(np.empty(0, np.int64), "", np.empty(0, dtype=object), nothing, nothing, nothing, unit)


Polygons = GapPolygons | ClassPolygons


class PolygonFile(Protocol):
    """A file of polygons that is being written; used inside ``with``."""

    def __enter__(self) -> PolygonFile: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def add(self, gaps: Polygons) -> None:
        """Write some more polygons."""


def open_polygon_file(
    path: Path, crs: str | None, *, with_probability: bool, layer: str = "gaps", empty: Polygons | None = None
) -> PolygonFile:
    """Begin a file of polygons; an older one is replaced.

    Args:
        path: The file; its ending, ``.gpkg`` or ``.geojson``, decides the format.
        crs: WKT of the CRS of the polygons, or None.
        with_probability: Whether there is a column for the mean probability.
        layer: Name of the layer.
        empty: No polygons of the kind that will come, for a file that stays empty; unset: gaps.

    Raises:
        PredictionError: If the ending is not known. While writing: if the disk refuses.
    """
    kinds: dict[str, type[_GeoPackage] | type[_GeoJson]] = {".geojson": _GeoJson, ".gpkg": _GeoPackage}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise PredictionError(f"{path}: polygons are written as .gpkg or .geojson. Change the ending.")
    return kind(path, crs, with_probability, layer, _NO_GAPS if empty is None else empty)


class _GeoPackage:
    """One layer of multi-polygons, filled in portions."""

    def __init__(self, path: Path, crs: str | None, with_probability: bool, layer: str, empty: Polygons) -> None:
        self._path, self._crs, self._with_probability = path, crs, with_probability
        self._layer, self._empty = layer, empty
        self._held: list[Polygons] = []
        self._exists = False

    def __enter__(self) -> _GeoPackage:
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise PredictionError(explain_os_error(error, self._path)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and (self._held or not self._exists):
            self._write()

    def add(self, gaps: Polygons) -> None:
        self._held.append(gaps)
        if sum(len(held) for held in self._held) >= _AT_ONCE:
            self._write()

    def _write(self) -> None:
        held = self._held or [self._empty]
        columns = [gaps.fields(with_probability=self._with_probability) for gaps in held]
        names = list(columns[0])
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="'crs' was not provided")  # said in the notes of the map
                pyogrio.raw.write(
                    self._path,
                    shapely.to_wkb(np.concatenate([gaps.geometry for gaps in held])),
                    [np.concatenate([column[name] for column in columns]) for name in names],
                    names,
                    layer=self._layer,
                    driver="GPKG",
                    geometry_type="MultiPolygon",
                    promote_to_multi=True,
                    crs=self._crs,
                    append=self._exists,
                )
        except (*_OGR_ERRORS, OSError) as error:
            raise _not_written(self._path, error) from error
        self._held, self._exists = [], True


class _GeoJson:
    """A FeatureCollection, one feature a line; WGS 84 where the CRS is known, as RFC 7946 wants."""

    def __init__(self, path: Path, crs: str | None, with_probability: bool, layer: str, empty: Polygons) -> None:
        self._path, self._with_probability, self._layer = path, with_probability, layer
        self._place = None if crs is None else _to_degrees(crs, path)
        self._file: TextIO
        self._first = True

    def __enter__(self) -> _GeoJson:
        try:
            self._file = self._path.open("w", encoding="utf-8")
        except OSError as error:
            raise PredictionError(explain_os_error(error, self._path)) from error
        self._put(f'{{"type": "FeatureCollection", "name": {json.dumps(self._layer)}, "features": [')
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with self._file:  # closing writes what is still held
                if kind is None:
                    self._put("\n]}\n")
        except OSError as error:
            raise PredictionError(explain_os_error(error, self._path)) from error

    def add(self, gaps: Polygons) -> None:
        placed = gaps.geometry if self._place is None else shapely.transform(gaps.geometry, self._place)
        outlines = shapely.to_geojson(shapely.orient_polygons(placed))
        columns = {
            name: values.tolist() for name, values in gaps.fields(with_probability=self._with_probability).items()
        }
        for index, outline in enumerate(outlines):
            properties = json.dumps({name: values[index] for name, values in columns.items()})
            comma = "" if self._first else ","
            self._put(f'{comma}\n{{"type": "Feature", "properties": {properties}, "geometry": {outline}}}')
            self._first = False

    def _put(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            raise PredictionError(explain_os_error(error, self._path)) from error


_NO_GAPS = GapPolygons(
    np.empty(0, np.int64), 0.0, np.empty(0, dtype=object), np.empty(0), np.empty(0), mean_probability=np.empty(0)
)


def _to_degrees(wkt: str, path: Path) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """A function from coordinates (n, 2) in a CRS to longitude and latitude.

    Args:
        wkt: The CRS.
        path: The file they are for, named in the error.

    Raises:
        PredictionError: If the CRS has no place on Earth.
    """
    try:
        crs = CRS.from_wkt(wkt)
        transform(crs, "EPSG:4326", [0.0], [0.0])
    except (CRSError, CPLE_BaseError) as error:
        raise PredictionError(
            f"{path}: GeoJSON is in longitude and latitude, and the raster's CRS does not lead there ({error}). "
            "Write polygons as gpkg, which keeps any CRS."
        ) from error

    def place(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.round(np.column_stack(transform(crs, "EPSG:4326", xy[:, 0], xy[:, 1])), _DEGREE_DIGITS)

    return place


def _not_written(path: Path, error: Exception) -> PredictionError:
    return PredictionError(f"{path} could not be written: {error}. Check the disk or choose another folder.")
