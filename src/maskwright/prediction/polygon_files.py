"""GeoPackage and GeoJSON files of polygons, written piece by piece."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

import numpy as np
import numpy.typing as npt
import shapely
from rasterio._err import CPLE_BaseError  # what a transform raises as it is; rasterio.errors does not have it
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform

from maskwright.errors import PredictionError
from maskwright.files import explain_os_error

__all__ = ["PolygonFile", "Polygons", "open_polygon_file"]

_AT_ONCE = 20_000  # polygons; every addition to a GeoPackage opens it anew
_DEGREE_DIGITS = 8  # about a millimetre


@dataclass(frozen=True)
class Polygons:
    """Some polygons and what is known about each.

    Attributes:
        geometry: (n,) shapely polygons or multi-polygons in units of the CRS, or in pixels (x = column, y = row).
        columns: (n,) values by name, the same names in all parts of a file; of names and words dtype object.
    """

    geometry: npt.NDArray[np.object_]
    columns: Mapping[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.geometry)

    @classmethod
    def none(cls, columns: Mapping[str, type]) -> Polygons:
        """No polygon at all: the columns of an empty file, by name and type."""
        return cls(np.empty(0, dtype=object), {name: np.empty(0, dtype=kind) for name, kind in columns.items()})


class PolygonFile(Protocol):
    """A file of polygons that is being written; used inside ``with``."""

    def __enter__(self) -> PolygonFile: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def add(self, polygons: Polygons) -> None:
        """Write some more polygons."""


def open_polygon_file(path: Path, crs: str | None, *, layer: str, columns: Mapping[str, type]) -> PolygonFile:
    """Begin a file of polygons; an older one is replaced.

    Args:
        path: The file; its ending, ``.gpkg`` or ``.geojson``, decides the format.
        crs: WKT of the CRS of the polygons, or None.
        layer: Name of the layer.
        columns: What is known about each polygon, by name, with the type: for a file that stays empty.

    Raises:
        PredictionError: If the ending is not known. While writing: if the disk refuses.
    """
    kinds: dict[str, type[_GeoPackage] | type[_GeoJson]] = {".geojson": _GeoJson, ".gpkg": _GeoPackage}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise PredictionError(f"{path}: polygons are written as .gpkg or .geojson. Change the ending.")
    return kind(path, crs, layer, Polygons.none(columns))


class _GeoPackage:
    """One layer of multi-polygons, filled in portions."""

    def __init__(self, path: Path, crs: str | None, layer: str, empty: Polygons) -> None:
        self._path, self._crs, self._layer, self._empty = path, crs, layer, empty
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

    def add(self, polygons: Polygons) -> None:
        self._held.append(polygons)
        if sum(len(held) for held in self._held) >= _AT_ONCE:
            self._write()

    def _write(self) -> None:
        held = self._held or [self._empty]
        names = list(held[0].columns)
        import pyogrio.raw  # it brings pandas, which nobody shall wait for who writes no polygons

        refusals = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.CRSError, OSError)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="'crs' was not provided")  # said in the notes of the map
                pyogrio.raw.write(
                    self._path,
                    shapely.to_wkb(np.concatenate([part.geometry for part in held])),
                    [np.concatenate([part.columns[name] for part in held]) for name in names],
                    names,
                    layer=self._layer,
                    driver="GPKG",
                    geometry_type="MultiPolygon",
                    promote_to_multi=True,
                    crs=self._crs,
                    append=self._exists,
                )
        except refusals as error:
            raise _not_written(self._path, error) from error
        self._held, self._exists = [], True


class _GeoJson:
    """A FeatureCollection, one feature a line; WGS 84 where the CRS is known, as RFC 7946 wants."""

    def __init__(self, path: Path, crs: str | None, layer: str, empty: Polygons) -> None:
        self._path, self._layer = path, layer
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

    def add(self, polygons: Polygons) -> None:
        placed = polygons.geometry if self._place is None else shapely.transform(polygons.geometry, self._place)
        outlines = shapely.to_geojson(shapely.orient_polygons(placed))
        columns = {name: [_plain(value) for value in values.tolist()] for name, values in polygons.columns.items()}
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


def _plain(value: Any) -> Any:
    """What JSON has no number for is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
