"""The split as a GeoJSON file: opens in a GIS, and reads back exactly.

Geometry stands in the CRS of the scenes where they share one with an EPSG code (named by the ``crs`` member), in
longitude and latitude (RFC 7946) where they do not. What is read back are the pixel windows in the properties.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.data.regions import PARTS, Region, Split, crs_name
from maskwright.errors import DataError
from maskwright.files import write_text
from maskwright.types import Place, Window

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Grid, Scene

__all__ = ["read_manifest", "write_manifest"]

_VERSION = 1
_LONGITUDE_LATITUDE = "EPSG:4326"


def write_manifest(split: Split, scenes: Sequence[Scene], path: Path) -> None:
    """Write a split, whole or not at all.

    Args:
        split: What to write.
        scenes: Its scenes, for the geometry.
        path: File to write, usually ``splits.geojson`` in the run folder.

    Raises:
        RunError: If the file cannot be written.
    """
    grids = {scene.name: scene.grid for scene in scenes}
    crs = _common_crs(list(grids.values()))
    entries = [("region", region.part, Place(region.scene, region.window)) for region in split.regions]
    entries += [("tile", part, place) for part in PARTS for place in split.tiles[part]]
    features = [_feature(kind, part, place, grids[place.scene], crs) for kind, part, place in entries]
    head: dict[str, Any] = {"type": "FeatureCollection", "name": "splits"}
    if crs not in (None, _LONGITUDE_LATITUDE):  # longitude and latitude are what a file without this member means
        head["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{str(crs).replace(':', '::')}"}}
    head["maskwright"] = {
        "version": _VERSION,
        "by": split.by,
        "seed": split.seed,
        "shares": list(split.shares),
        "tile_px": split.tile_px,
        "buffer_px": split.buffer_px,
        "notes": list(split.notes),
        "grids": {
            name: {"height": grid.height, "width": grid.width, "transform": list(grid.transform), "crs": grid.crs}
            for name, grid in split.grids.items()
        },
    }
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False) for feature in features)
    opening = json.dumps(head, ensure_ascii=False, indent=1)[:-1].rstrip()
    write_text(path, f'{opening},\n "features": [\n{lines}\n ]\n}}\n')


def read_manifest(path: Path) -> Split:
    """Read a split that :func:`write_manifest` wrote; equal to the one written.

    Raises:
        DataError: If the file is missing, damaged, of another version or no split of Maskwright.
    """
    from maskwright.data.sources.interface import Grid

    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"There is no split at {path}. Name a run folder or a splits.geojson.") from error
    except OSError as error:
        raise DataError(f"The split {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: it is no JSON ({error}).") from error
    head = content.get("maskwright") if isinstance(content, dict) else None
    if not isinstance(head, dict):
        raise DataError(f"{path} is no split written by Maskwright. Name a run folder or its splits.geojson.")
    if head.get("version") != _VERSION:
        raise DataError(
            f"{path} is a split of version {head.get('version')}, this Maskwright reads version {_VERSION}. "
            "Use the Maskwright that wrote it, or start afresh with data.split.keep: none."
        )
    try:
        regions, tiles = _entries(content["features"])
        return Split(
            by=str(head["by"]),
            seed=int(head["seed"]),
            shares=tuple(float(share) for share in head["shares"]),  # type: ignore[arg-type]
            tile_px=int(head["tile_px"]),
            buffer_px=int(head["buffer_px"]),
            regions=tuple(regions),
            tiles={part: tuple(places) for part, places in tiles.items()},
            grids={
                name: Grid(int(g["height"]), int(g["width"]), tuple(float(v) for v in g["transform"]), g["crs"])  # type: ignore[arg-type]
                for name, g in head["grids"].items()
            },
            notes=tuple(str(note) for note in head["notes"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged: {type(error).__name__} {error}. Start afresh: data.split.keep: none."
        ) from error


def _entries(features: Sequence[Any]) -> tuple[list[Region], dict[str, list[Place]]]:
    regions: list[Region] = []
    tiles: dict[str, list[Place]] = {part: [] for part in PARTS}
    for feature in features:
        p = feature["properties"]
        if p["part"] not in PARTS:
            raise ValueError(f"part {p['part']!r} is none of {', '.join(PARTS)}")
        window = Window(int(p["row"]), int(p["col"]), int(p["height"]), int(p["width"]))
        if p["kind"] == "region":
            regions.append(Region(str(p["scene"]), p["part"], window))
        else:
            tiles[p["part"]].append(Place(str(p["scene"]), window))
    return regions, tiles


def _common_crs(grids: Sequence[Grid]) -> str | None:
    """The CRS the geometry is written in; None for plain coordinates of rasters without any."""
    names = {crs_name(grid.crs) for grid in grids}
    if names == {None}:
        return None
    name = names.pop() if len(names) == 1 else None
    return name if name is not None and name.startswith("EPSG:") else _LONGITUDE_LATITUDE


def _feature(kind: str, part: str, place: Place, grid: Grid, crs: str | None) -> dict[str, Any]:
    window = place.window
    return {
        "type": "Feature",
        "properties": {
            "kind": kind,
            "part": part,
            "scene": place.scene,
            "row": window.row,
            "col": window.col,
            "height": window.height,
            "width": window.width,
        },
        "geometry": _geometry(window, grid, crs),
    }


def _geometry(window: Window, grid: Grid, crs: str | None) -> dict[str, Any] | None:
    if crs is not None and grid.crs is None:
        return None  # a place that cannot be given in the file's coordinates
    corners = [
        (window.col, window.row_stop),
        (window.col_stop, window.row_stop),
        (window.col_stop, window.row),
        (window.col, window.row),
    ]  # counterclockwise on a north-up map
    a, b, c, d, e, f = grid.transform
    ring = [[a * col + b * row + c, d * col + e * row + f] for col, row in [*corners, corners[0]]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    if crs == _LONGITUDE_LATITUDE and crs_name(grid.crs) != crs:
        from rasterio.crs import CRS
        from rasterio.warp import transform_geom

        moved = transform_geom(CRS.from_wkt(grid.crs), CRS.from_user_input(crs), geometry, precision=8)
        return {"type": "Polygon", "coordinates": [[list(point) for point in moved["coordinates"][0]]]}
    return geometry
