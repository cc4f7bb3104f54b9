"""Lists of trees somebody has measured: GeoJSON, JSON or CSV, each tree with its place and perhaps its species."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import CRSError

from maskwright.errors import DataError

__all__ = ["Inventory", "read_inventory"]

_WGS84 = "EPSG:4326"
_PLACES = (("x", "y"), ("easting", "northing"), ("utm_x", "utm_y"), ("e", "n"))
_DEGREES = (("longitude", "latitude"), ("lon", "lat"), ("lng", "lat"), ("long", "lat"))
_SPECIES = ("species", "class", "label", "tree_type", "type", "name")
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Inventory:
    """The N trees of a list.

    Attributes:
        path: The file.
        xy: (N, 2) float64 in its CRS.
        species: N names as written; empty words where the list says none.
        crs: What it says of its coordinates, ``EPSG:4326`` for longitude and latitude; None where it says nothing.
    """

    path: Path
    xy: np.ndarray
    species: tuple[str, ...]
    crs: str | None

    def __len__(self) -> int:
        return len(self.xy)


def read_inventory(path: str | Path, *, crs: str | None = None) -> Inventory:
    """The trees of a list.

    A GeoJSON may hold points or outlines, whose centres count; its coordinates are longitude and latitude unless it
    says another CRS. A JSON is a list of trees or an object with one under ``trees``; each tree, as each line of a
    CSV, says ``x`` and ``y`` (or ``easting`` and ``northing``) or ``longitude`` and ``latitude``, and perhaps
    ``species``.

    Args:
        path: ``.geojson``, ``.json`` or ``.csv``.
        crs: Of the coordinates, such as ``EPSG:32724``; unset: what the file says.

    Raises:
        DataError: If it cannot be read, holds no tree, or one without a place; the first five are named.
    """
    path = Path(path)
    rows, said = _rows(path)
    if not rows:
        raise DataError(f"{path} lists no tree. Give an inventory with at least one.")
    chosen = crs or said
    pair = None if rows[0].get("_xy") is not None else _columns(rows[0], path)
    points: list[tuple[float, float]] = []
    faults: list[str] = []
    for number, row in enumerate(rows, start=1):
        try:
            points.append(_point(row, pair))
        except (TypeError, ValueError, KeyError, IndexError):
            faults.append(str(number))
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise DataError(
            f"{path}: tree {', '.join(faults[:_SHOWN])}{more} has no place that is two numbers. Correct or remove them."
        )
    if chosen is None and pair in _DEGREES:
        chosen = _WGS84
    if chosen is not None:
        _check_crs(chosen, path)
    return Inventory(path, np.array(points, np.float64), tuple(_species(row) for row in rows), chosen)


def _rows(path: Path) -> tuple[list[dict[str, Any]], str | None]:
    """Trees as rows, keys in lower case, and the CRS the file names; of shapes the place is under ``_xy``."""
    text = _text(path)
    if path.suffix.lower() == ".csv":
        return _csv_rows(text, path), None
    if path.suffix.lower() not in (".json", ".geojson"):
        raise DataError(f"{path}: an inventory is a .geojson, .json or .csv. Convert it.")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is no JSON: {error}. Export it again.") from error
    if isinstance(content, Mapping) and content.get("type") == "FeatureCollection":
        return _features(content, path), _said_crs(content) or _WGS84
    trees = content.get("trees") if isinstance(content, Mapping) else content
    if not isinstance(trees, Sequence) or isinstance(trees, str) or not all(isinstance(t, Mapping) for t in trees):
        raise DataError(
            f'{path} is no list of trees. Give GeoJSON, a list such as [{{"x": 1.0, "y": 2.0, "species": "cacao"}}], '
            'or an object with that list under "trees".'
        )
    return [_lower(_flat(tree)) for tree in trees], _said_crs(content) if isinstance(content, Mapping) else None


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Name the file of the inventory.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error


def _csv_rows(text: str, path: Path) -> list[dict[str, Any]]:
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=separator)
    if not reader.fieldnames:
        raise DataError(f"{path} is empty. A CSV begins with the names of its columns, for example x,y,species.")
    rows = [_lower(row) for row in reader if any((cell or "").strip() for cell in row.values() if cell is not None)]
    if not rows:
        _columns(dict.fromkeys(name.strip().lower() for name in reader.fieldnames), path)
    if separator == ";":
        rows = [
            {name: value.replace(",", ".") if name not in _SPECIES else value for name, value in row.items()}
            for row in rows
        ]
    return rows


def _features(content: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    import shapely

    rows = []
    for number, feature in enumerate(content.get("features") or (), start=1):
        try:
            centre = shapely.geometry.shape(feature["geometry"]).centroid
            place = (centre.x, centre.y)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, shapely.errors.ShapelyError) as error:
            raise DataError(f"{path}: feature {number} has no shape that can be read. Correct or remove it.") from error
        rows.append(_lower(feature.get("properties") or {}) | {"_xy": place})
    return rows


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree whose place stands in an object or a pair of its own, under position, location or coordinates."""
    flat = dict(tree)
    for name in ("position", "location", "coordinates"):
        inner = flat.pop(name, None)
        if isinstance(inner, Mapping):
            flat |= inner
        elif isinstance(inner, Sequence) and not isinstance(inner, str) and len(inner) >= 2:
            flat |= {"x": inner[0], "y": inner[1]}
    return flat


def _lower(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name).strip().lower(): value for name, value in row.items() if name is not None}


def _columns(row: Mapping[str, Any], path: Path) -> tuple[str, str]:
    for pair in (*_PLACES, *_DEGREES):
        if all(name in row for name in pair):
            return pair
    raise DataError(
        f"{path}: its trees say {', '.join(row) or 'nothing'}, and no place among it. Name columns x and y, easting "
        "and northing, or longitude and latitude."
    )


def _point(row: Mapping[str, Any], pair: tuple[str, str] | None) -> tuple[float, float]:
    x, y = row["_xy"] if pair is None else (row[pair[0]], row[pair[1]])
    if isinstance(x, bool) or isinstance(y, bool):
        raise ValueError
    place = float(x), float(y)
    if not all(math.isfinite(value) for value in place):
        raise ValueError
    return place


def _species(row: Mapping[str, Any]) -> str:
    found = next((row[name] for name in _SPECIES if row.get(name) not in (None, "")), "")
    return str(found).strip()


def _said_crs(content: Mapping[str, Any]) -> str | None:
    said = content.get("crs")
    if isinstance(said, Mapping):
        said = (said.get("properties") or {}).get("name")
    return str(said) if said else None


def _check_crs(crs: str, path: Path) -> None:
    try:
        CRS.from_user_input(crs)
    except (CRSError, ValueError) as error:
        raise DataError(
            f"{path}: {crs!r} is no coordinate reference system that is known ({error}). Write it as EPSG:32724, for "
            "example."
        ) from error
