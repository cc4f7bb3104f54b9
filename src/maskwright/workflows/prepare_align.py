"""Bring the rasters of each site onto one grid, as GeoTIFFs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.sources.alignment import differences, overlaps, read_onto
from maskwright.data.sources.height_file import HeightFile, bulk_reading, open_heights, row_bands
from maskwright.data.sources.interface import Grid
from maskwright.data.sources.sites import Site
from maskwright.errors import DataError, GridError
from maskwright.workflows.prepare_job import Job, file_facts
from maskwright.workflows.raster_draft import raster_draft

__all__ = ["AlignedSite", "prepare_align"]

_NODATA = -9999.0
_ROWS = 256


@dataclass(frozen=True)
class AlignedSite:
    """What was written for one site: files by kind, what was changed, and what a person should know."""

    site: str
    files: dict[str, Path]
    changes: tuple[str, ...]
    notes: tuple[str, ...]


def prepare_align(
    sites: Sequence[Site],
    out: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[AlignedSite]:
    """Write ``{site}_DSM.tif``, ``{site}_CHM.tif``, ``{site}_DTM.tif`` on the grid of the site's DSM (or CHM).

    Heights are float32 metres with nodata -9999; a raster on another grid is resampled bilinearly, one on the same grid
    keeps its values.

    Raises:
        DataError: Listing every raster that cannot be used, before anything is written.
        RunError: If the folder cannot be written or holds such files of another job.
    """
    opened = {site.name: _opened(site) for site in sites}
    faults = [f"{name}: {fault}" for name, files in opened.items() for fault in _faults(files)]
    if faults:
        raise GridError("\n".join(faults))
    names = {(name, kind): f"{name}_{kind.upper()}.tif" for name, files in opened.items() for kind in files}
    recipe = {
        "files": file_facts(file.path for files in opened.values() for file in files.values()),
        "nodata": [repr(file.nodata_used) for files in opened.values() for file in files.values()],
    }
    job = Job(out, "align", recipe, names.values(), overwrite=overwrite)
    written = []
    for index, (name, files) in enumerate(opened.items()):
        if progress is not None:
            progress(index, len(opened), "sites")
        written.append(_align_site(job, name, files, names))
    if progress is not None:
        progress(len(opened), len(opened), "sites")
    return written


def _align_site(job: Job, name: str, files: dict[str, HeightFile], names: dict[tuple[str, str], str]) -> AlignedSite:
    base = next(iter(files))
    grid = files[base].grid
    changes = []
    for kind, file in files.items():
        found = differences(grid, file.grid)
        if found:
            changes.append(f"{kind.upper()} laid onto the grid of the {base.upper()}: {'; '.join(found)}")
        if job.finished(names[name, kind]) is None:
            _write(job.out / names[name, kind], file, grid, resample=bool(found))
            job.finish(names[name, kind])
    notes = tuple(f"{kind.upper()}: {note}" for kind, file in files.items() for note in file.notes)
    return AlignedSite(name, {kind: job.out / names[name, kind] for kind in files}, tuple(changes), notes)


def _write(path: Path, file: HeightFile, grid: Grid, *, resample: bool) -> None:
    with ExitStack() as stack:
        stack.enter_context(bulk_reading())
        stack.enter_context(file)
        target: Any = stack.enter_context(raster_draft(path, grid, dtype="float32", nodata=_NODATA))
        for window in row_bands(grid, min(_ROWS, grid.height), band_bytes=0):
            heights = read_onto(file, grid, window) if resample else file.read(window)
            heights = np.where(np.isfinite(heights), heights, np.float32(_NODATA))
            target.write(heights, 1, window=((window.row, window.row_stop), (window.col, window.col_stop)))


def _opened(site: Site) -> dict[str, HeightFile]:
    """The rasters of a site by kind, the one whose grid is kept first."""
    rules = {
        "dsm": site.nodata,
        "chm": site.nodata if site.chm_nodata == "tag" else site.chm_nodata,
        "dtm": site.nodata,
    }
    paths = {"dsm": site.dsm, "chm": site.chm, "dtm": site.dtm}
    files = {kind: open_heights(path, rules[kind]) for kind, path in paths.items() if path is not None}
    if not files:
        raise DataError(f"site {site.name} names no raster. Give its DSM, CHM or DTM.")
    return files


def _faults(files: dict[str, HeightFile]) -> list[str]:
    base, *others = files.values()
    return [
        f"{file.path} and {base.path} cover different ground. Check that they belong to one site."
        for file in others
        if not overlaps(base.grid, file.grid)
    ]
