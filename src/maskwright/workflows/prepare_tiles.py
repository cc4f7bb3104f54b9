"""Cut rasters that lie on one grid into equal tiles, with an index of where each came from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from maskwright.data.sources.alignment import differences
from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError, GridError
from maskwright.files import write_bytes, write_text
from maskwright.types import Window
from maskwright.workflows.prepare_job import Job, file_facts
from maskwright.workflows.raster_draft import raster_draft

__all__ = ["TileSummary", "prepare_tiles"]

_INDEX = "tiles.jsonl"


@dataclass(frozen=True)
class TileSummary:
    """What was written: tiles kept and left out by site, and the index, a line of JSON for each tile kept."""

    kept: dict[str, int]
    left_out: dict[str, int]
    index: Path


@dataclass(frozen=True)
class _Raster:
    path: Path
    grid: Grid
    bands: int
    dtype: str
    nodata: float | None


def prepare_tiles(
    sites: Mapping[str, Mapping[str, Path]],
    out: Path,
    *,
    tile_px: int = 256,
    overlap: float = 0.0,
    min_valid: float = 0.7,
    form: Literal["tif", "npy"] = "tif",
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> TileSummary:
    """Write ``{site}_{row}_{col}_{kind}.tif`` (or ``.npy``) for every tile with enough pixels measured.

    All tiles are of one size; those at the edge are filled up with nodata. The index tells for each its files, window
    and share of valid pixels (measured in every raster of the site). Killed and started again, it goes on.

    Args:
        sites: For each site its rasters by kind (``DSM``, ``CHM``, ``labels`` ...), all on one grid.
        out: Folder for the tiles.
        tile_px: Side of a tile in pixels.
        overlap: Below 1 a share of the tile, from 1 on a number of pixels.
        min_valid: Least share 0..1 of valid pixels.
        form: GeoTIFF or numpy file, (C, H, W) in the raster's type; not measured is its nodata value.
        overwrite: Replace files of another job.
        progress: Called with (done, total, what).

    Raises:
        DataError: If a raster cannot be read, or those of a site lie on different grids.
        RunError: If the folder cannot be written or holds such files of another job.
    """
    step = _step(tile_px, overlap)
    rasters = {name: {kind: _header(path) for kind, path in kinds.items()} for name, kinds in sites.items()}
    _refuse_different_grids(rasters)
    tiles = [(name, window) for name, found in rasters.items() for window in _windows(_grid(found), tile_px, step)]
    names = [_name(name, window, kind, form) for name, window in tiles for kind in rasters[name]]
    recipe = {
        "files": file_facts(raster.path for found in rasters.values() for raster in found.values()),
        "tiles": [tile_px, step, min_valid, form],
    }
    job = Job(out, "tiles", recipe, [*names, _INDEX], overwrite=overwrite)
    rows: list[dict[str, Any]] = []
    kept, left_out = dict.fromkeys(rasters, 0), dict.fromkeys(rasters, 0)
    for index, (name, window) in enumerate(tiles):
        if progress is not None:
            progress(index, len(tiles), "tiles")
        row = _tile(job, name, window, rasters[name], min_valid, form)
        if row is None:
            left_out[name] += 1
        else:
            kept[name] += 1
            rows.append(row)
    write_text(out / _INDEX, "".join(json.dumps(row) + "\n" for row in rows))
    job.finish(_INDEX)
    if progress is not None:
        progress(len(tiles), len(tiles), "tiles")
    return TileSummary(kept, left_out, out / _INDEX)


def _tile(
    job: Job, name: str, window: Window, rasters: Mapping[str, _Raster], min_valid: float, form: str
) -> dict[str, Any] | None:
    """Write the files of a tile that are not finished; its line in the index, None if too little is valid."""
    names = {kind: _name(name, window, kind, form) for kind in rasters}
    known = [job.finished(file) for file in names.values()]
    if all(facts is not None for facts in known):
        return known[0]
    with ExitStack() as stack:
        opened = {kind: stack.enter_context(_open(raster.path)) for kind, raster in rasters.items()}
        parts = {kind: _read(opened[kind], raster, window) for kind, raster in rasters.items()}
    valid = np.logical_and.reduce([measured for _, measured in parts.values()])
    share = float(valid.mean())
    if share < min_valid:
        return None
    row = {
        "site": name,
        "files": names,
        "window": [window.row, window.col, window.height, window.width],
        "valid_share": share,
        "bounds": list(_grid(rasters).world_box(window)),
    }
    for kind, (values, _) in parts.items():
        _write(job.out / names[kind], values, rasters[kind], window)
        job.finish(names[kind], row)
    return row


def _read(file: Any, raster: _Raster, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Values (C, H, W) and measured (H, W); outside the raster nodata (0 without one) and not measured."""
    inside = window.intersection(raster.grid.window)
    fill = 0 if raster.nodata is None else raster.nodata
    values = np.full((raster.bands, window.height, window.width), fill, raster.dtype)
    measured = np.zeros(values.shape[1:], bool)
    if inside is None:
        return values, measured
    place = rasterio.windows.Window(inside.col, inside.row, inside.width, inside.height)
    try:
        found = file.read(window=place)
        mask = (file.read_masks(window=place) != 0).all(axis=0) & np.isfinite(found).all(axis=0)
    except RasterioError as cause:
        raise DataError(f"{raster.path} is damaged or cut short: {cause}. Copy or download it again.") from cause
    part = np.s_[: inside.height, : inside.width]
    values[(slice(None), *part)] = found
    measured[part] = mask
    return values, measured


def _write(path: Path, values: np.ndarray, raster: _Raster, window: Window) -> None:
    if path.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        write_bytes(path, buffer.getvalue())
        return
    a, b, c, d, e, f = raster.grid.transform
    corner = (a, b, c + a * window.col + b * window.row, d, e, f + d * window.col + e * window.row)
    grid = Grid(window.height, window.width, corner, raster.grid.crs)
    with raster_draft(path, grid, dtype=raster.dtype, nodata=raster.nodata, bands=raster.bands) as file:
        file.write(values)


def _header(path: Path) -> _Raster:
    try:
        with _open(path) as file:
            grid = Grid(file.height, file.width, tuple(file.transform[:6]), file.crs.to_wkt() if file.crs else None)
            return _Raster(path, grid, file.count, file.dtypes[0], file.nodata)
    except (RasterioError, OSError) as cause:
        raise DataError(f"{path} is no raster that can be read: {cause}. Check the path.") from cause


def _open(path: Path) -> Any:
    return rasterio.open(path)


def _refuse_different_grids(rasters: Mapping[str, Mapping[str, _Raster]]) -> None:
    faults = []
    for name, found in rasters.items():
        first, *others = found.values()
        for other in others:
            if found_differences := differences(first.grid, other.grid):
                faults.append(
                    f"{name}: {other.path} and {first.path} lie on different grids: {'; '.join(found_differences)}. "
                    "Bring them to one with maskwright prepare align."
                )
    if faults:
        raise GridError("\n".join(faults))


def _windows(grid: Grid, tile_px: int, step: int) -> Iterator[Window]:
    """Windows that cover the raster; the last ones may reach past it."""
    for row in _starts(grid.height, tile_px, step):
        for col in _starts(grid.width, tile_px, step):
            yield Window(row, col, tile_px, tile_px)


def _starts(length: int, tile_px: int, step: int) -> range:
    return range(0, max(1, length - (tile_px - step)), step)


def _step(tile_px: int, overlap: float) -> int:
    overlap_px = round(overlap * tile_px) if overlap < 1 else int(overlap)
    if not 0 <= overlap_px < tile_px:
        raise DataError(f"An overlap of {overlap_px} px is not smaller than the tile of {tile_px} px. Use less.")
    return tile_px - overlap_px


def _grid(rasters: Mapping[str, _Raster]) -> Grid:
    return next(iter(rasters.values())).grid


def _name(site: str, window: Window, kind: str, form: str) -> str:
    return f"{site}_{window.row:06d}_{window.col:06d}_{kind}.{form}"
