"""Reading vector files: the shapes near a raster, mended, in the raster's own coordinates."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.raw
import shapely
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform, transform_bounds

from maskwright.data.sources.interface import Grid
from maskwright.data.sources.meaning import Value
from maskwright.errors import DataError, GridError

__all__ = [
    "VECTOR_ENDINGS",
    "Features",
    "Mended",
    "VectorLayer",
    "mend",
    "near_grid",
    "open_layer",
    "same_crs",
    "shapeless",
    "to_pixels",
]

VECTOR_ENDINGS = (".gpkg", ".geojson", ".json", ".shp", ".fgb")

_INDEXED = ("GPKG", "FlatGeobuf", "ESRI Shapefile")  # a window of these is read without reading the rest
_SHAPEFILE_PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
_OGR_ERRORS = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    shapely.errors.GEOSException,
)
_PIECES = 32  # of a raster's side: longer edges are divided before they are moved to another CRS, where they bend
_POLYGONS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Features:
    """Shapes of a layer.

    Attributes:
        ids: (N,) int64 feature ids, as the file counts.
        geometries: (N,) shapely geometries in the layer's CRS; None where the file has none.
        values: What the attribute says of each; None without an attribute, or where a feature has no value.
    """

    ids: np.ndarray
    geometries: np.ndarray
    values: tuple[Value | None, ...]

    def pick(self, kept: np.ndarray) -> Features:
        """Some of them; (n,) positions or (N,) bool."""
        chosen = np.arange(len(self.ids))[kept]
        return Features(self.ids[chosen], self.geometries[chosen], tuple(self.values[index] for index in chosen))


@dataclass(frozen=True)
class VectorLayer:
    """A layer of a vector file.

    Attributes:
        path: The file.
        layer: Name of the layer.
        crs: As WKT; None if the file names none.
        attribute: The attribute read, or None.
        indexed: True if a window can be read without reading the rest.
    """

    path: Path
    layer: str
    crs: str | None
    attribute: str | None
    indexed: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, and what lies beside a Shapefile."""
        if self.path.suffix.lower() != ".shp":
            return (self.path,)
        beside = {path.suffix.lower(): path for path in self.path.parent.glob(f"{_escaped(self.path.stem)}.*")}
        return tuple(beside[ending] for ending in _SHAPEFILE_PARTS if ending in beside)

    def within(self, box: Box) -> Features:
        """The features whose bounds meet a box of the layer's CRS.

        Raises:
            DataError: If the file cannot be read.
        """
        if self.indexed:
            return _read(self, box)
        changed = self.path.stat().st_mtime_ns
        everything, tree = _whole(self, changed)
        return everything.pick(np.sort(tree.query(shapely.box(*box))))


@dataclass(frozen=True, eq=False)
class Mended:
    """Features fit to be painted.

    Attributes:
        features: Those that are left, all valid.
        invalid: Id to what was wrong, of those repaired.
        area_before: Id to the area before the repair, in square units of the layer's CRS.
        empty: Ids of those without any geometry or area.
    """

    features: Features
    invalid: dict[int, str]
    area_before: dict[int, float]
    empty: tuple[int, ...]


def open_layer(path: Path, layer: str | None = None, attribute: str | None = None) -> VectorLayer:
    """Look at a vector file.

    Args:
        path: GeoPackage, GeoJSON, Shapefile, FlatGeobuf.
        layer: Name of the layer; None: its only one.
        attribute: Attribute to read; None: none.

    Raises:
        DataError: If it cannot be read, has several layers and none is named, or lacks the layer or the attribute.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist. Set data.labels.file to the vector file.")
    try:
        names = [str(name) for name, _ in pyogrio.list_layers(path)]
        if layer is None and len(names) > 1:
            raise DataError(f"{path} has several layers: {', '.join(names)}. Name one with data.labels.layer.")
        if layer is not None and layer not in names:
            raise DataError(f"{path} has no layer {layer}; its layers are {', '.join(names)}. Set data.labels.layer.")
        if not names:
            raise DataError(f"{path} has no layer. Export the shapes again.")
        chosen = layer or names[0]
        info = pyogrio.read_info(path, layer=chosen)
    except _OGR_ERRORS as error:
        raise DataError(
            f"{path} cannot be read as a vector file: {error}. Give a GeoPackage, GeoJSON or Shapefile."
        ) from error
    fields = [str(name) for name in info["fields"]]
    if attribute is not None and attribute not in fields:
        raise DataError(
            f"{path} has no attribute {attribute}; its attributes are {', '.join(fields) or 'none'}. Set "
            "data.labels.attribute."
        )
    if info["geometry_type"] is None:
        raise DataError(f"{path}: the layer {chosen} is a table without shapes. Name another with data.labels.layer.")
    return VectorLayer(path, chosen, _wkt(info["crs"]), attribute, info["driver"] in _INDEXED)


def shapeless(layer: VectorLayer) -> list[int]:
    """Ids of the features without any shape, which no place would find.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        info = pyogrio.read_info(layer.path, layer=layer.layer)
        column = f'"{info["geometry_name"]}"' if info["driver"] == "GPKG" else "OGR_GEOMETRY"
        _, ids, _, _ = pyogrio.raw.read(
            layer.path, layer=layer.layer, columns=[], where=f"{column} IS NULL", return_fids=True
        )
    except _OGR_ERRORS as error:
        raise DataError(f"{layer.path} cannot be read: {error}. Export the shapes again.") from error
    return [int(number) for number in ids]


def near_grid(layer: VectorLayer, grid: Grid, rim: float = 0.0) -> Features:
    """The features of a layer whose bounds meet a raster.

    Args:
        layer: Where they are read from.
        grid: The raster.
        rim: How much farther to look, in units of the raster's CRS.

    Raises:
        DataError: If one of layer and raster has a CRS and the other has none, or the place of the raster cannot be
            told in the CRS of the layer.
    """
    left, bottom, right, top = grid.bounds
    box = (left - rim, bottom - rim, right + rim, top + rim)
    if same_crs(layer, grid):
        return layer.within(box)
    try:
        there = transform_bounds(CRS.from_wkt(grid.crs), CRS.from_wkt(layer.crs), *box)
    except (RasterioError, CRSError) as error:
        raise DataError(f"{layer.path}: its CRS cannot be brought to the raster's: {error}. Reproject it.") from error
    if not np.isfinite(there).all():
        raise DataError(f"{layer.path}: the raster lies outside the area its CRS can express. Reproject the shapes.")
    return layer.within(there)


def same_crs(layer: VectorLayer, grid: Grid) -> bool:
    """True if coordinates agree as they are; also if neither names a CRS.

    Raises:
        GridError: If one has a CRS and the other has none.
    """
    if layer.crs is None and grid.crs is None:
        return True
    if layer.crs is None:
        raise GridError(
            f"{layer.path} names no CRS, so its place on the raster is unknown. Say which it is, for example "
            f"ogr2ogr -a_srs {_crs_name(grid.crs)} mended.gpkg {layer.path.name}."
        )
    if grid.crs is None:
        raise GridError(
            f"The raster names no CRS, {layer.path.name} has {_crs_name(layer.crs)}. Say where the raster lies, for "
            "example rio edit-info --crs EPSG:32633 raster.tif."
        )
    return layer.crs == grid.crs or bool(CRS.from_wkt(layer.crs) == CRS.from_wkt(grid.crs))


def mend(features: Features) -> Mended:
    """Make invalid shapes valid; polygons keep what has an area."""
    present = np.array([geometry is not None and not geometry.is_empty for geometry in features.geometries], bool)
    empty = features.ids[~present].tolist()
    features = features.pick(present)
    valid = shapely.is_valid(features.geometries)
    broken = np.flatnonzero(~valid)
    geometries = features.geometries.copy()
    invalid: dict[int, str] = {}
    area_before: dict[int, float] = {}
    for index in broken:
        old = geometries[index]
        geometries[index] = _repaired(old)
        if not geometries[index].is_empty:
            invalid[int(features.ids[index])] = str(shapely.is_valid_reason(old))
            area_before[int(features.ids[index])] = float(old.area)
    kept = ~shapely.is_empty(geometries)
    empty += features.ids[~kept].tolist()
    return Mended(Features(features.ids, geometries, features.values).pick(kept), invalid, area_before, tuple(empty))


def to_pixels(geometries: np.ndarray, layer: VectorLayer, grid: Grid, *, buffer: float = 0.0) -> np.ndarray:
    """Shapes in pixels of a raster, from its upper left corner.

    Args:
        geometries: (N,) valid shapely geometries in the CRS of the layer.
        layer: Where they come from.
        grid: The raster.
        buffer: Width in units of the raster's CRS by which they grow.

    Returns:
        (N,) geometries, cut some way outside the raster; empty ones where nothing is left.
    """
    geometries = np.asarray(geometries, object)
    if not len(geometries):
        return geometries
    if not same_crs(layer, grid):
        geometries = _moved(geometries, layer, grid)
    if buffer > 0:
        geometries = shapely.buffer(geometries, buffer)
    back = ~grid.affine()

    def apply(points: np.ndarray) -> np.ndarray:
        x, y = points[:, 0], points[:, 1]
        return np.stack([back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f], axis=1)

    pixels: np.ndarray = shapely.transform(geometries, apply)
    return pixels


def _moved(geometries: np.ndarray, layer: VectorLayer, grid: Grid) -> np.ndarray:
    """From the layer's CRS to the raster's: cut near the raster, long edges divided, then every point transformed."""
    here, there = CRS.from_wkt(layer.crs), CRS.from_wkt(grid.crs)
    left, bottom, right, top = transform_bounds(there, here, *grid.bounds)
    size = max(right - left, top - bottom)
    around = shapely.box(left - size, bottom - size, right + size, top + size)
    far = ~shapely.within(geometries, around)
    if far.any():
        geometries = geometries.copy()
        geometries[far] = shapely.intersection(geometries[far], around)
    geometries = shapely.segmentize(geometries, size / _PIECES)

    def apply(points: np.ndarray) -> np.ndarray:
        return np.array(transform(here, there, points[:, 0].tolist(), points[:, 1].tolist())[:2], np.float64).T

    moved: np.ndarray = shapely.transform(geometries, apply)
    return moved


def _repaired(geometry: Any) -> Any:
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        return shapely.MultiPolygon()  # nothing can be made of it
    made = shapely.make_valid(geometry)
    if shapely.get_type_id(geometry) not in _POLYGONS:
        return made
    parts = [piece for part in shapely.get_parts(made) for piece in shapely.get_parts(part) if piece.area > 0]
    return shapely.MultiPolygon(parts)


@lru_cache(maxsize=4)
def _whole(layer: VectorLayer, changed: int) -> tuple[Features, Any]:
    """Everything in a file without an index, and a tree of it; ``changed`` renews it when the file is written anew."""
    features = _read(layer, None)
    return features, shapely.STRtree(features.geometries)


def _read(layer: VectorLayer, box: Box | None) -> Features:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # measures and heights of points are not needed
            _, ids, shapes, columns = pyogrio.raw.read(
                layer.path,
                layer=layer.layer,
                columns=[] if layer.attribute is None else [layer.attribute],
                bbox=box,
                return_fids=True,
                force_2d=True,
            )
        geometries = shapely.from_wkb(shapes)
    except _OGR_ERRORS as error:
        raise DataError(f"{layer.path} cannot be read: {error}. Export the shapes again.") from error
    values: Sequence[Value | None] = [None] * len(ids) if not len(columns) else [_plain(value) for value in columns[0]]
    return Features(np.asarray(ids, np.int64), np.asarray(geometries, object), tuple(values))


def _plain(value: Any) -> Value | None:
    """A number or text as the settings write it: 2.0 (a column with gaps) is 2, yes is 1."""
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return None
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return int(value)
    text = str(value).strip()
    return text or None


def _wkt(crs: str | None) -> str | None:
    if not crs:
        return None
    try:
        known = CRS.from_user_input(crs)
    except CRSError:
        return None
    # GeoPackages say "undefined" with a CRS of its own that leads nowhere.
    return str(known.to_wkt()) if known.is_geographic or known.is_projected else None


def _crs_name(wkt: str | None) -> str:
    return str(CRS.from_wkt(wkt).to_string())[:40] if wkt else "EPSG:32633"


def _escaped(stem: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)
