"""Gap masks, statistics and polygons straight from height rasters, without any training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio

from maskwright.config import HeightRastersData, SiteConfig
from maskwright.data.build import build_source
from maskwright.data.gap_statistics import GapCounter
from maskwright.data.sources.rasters import HeightRasters
from maskwright.data.sources.sites import Site, find_sites
from maskwright.data.targets import clean_gap_mask, gap_mask
from maskwright.errors import DataError
from maskwright.files import check_writable, write_json
from maskwright.pixels import IGNORE_INDEX
from maskwright.prediction.vectorise import vectorise_mask
from maskwright.types import Window
from maskwright.workflows.assemble import require_gaps
from maskwright.workflows.raster_draft import raster_draft

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Scene

__all__ = ["Cleaning", "GapFiles", "check_heights", "mask_rows", "prepare_gaps", "sites_from_paths", "sites_of"]

_BAND_ROWS = 512


@dataclass(frozen=True)
class Cleaning:
    """What is done to each mask before it is written; the defaults change nothing. See ``clean_gap_mask``.

    Attributes:
        min_gap_px: Gaps of fewer pixels are removed.
        max_gap_px: Gaps of more pixels are removed; None keeps them.
        median: Each pixel takes the majority of its 3 x 3 square.
        fill_holes_px: Holes in gaps of up to this many pixels become gap.
        erode: Times one pixel is taken off the rim of each gap.
        dilate: Times one pixel is added to it, after the erosion.
    """

    min_gap_px: int = 0
    max_gap_px: int | None = None
    median: bool = False
    fill_holes_px: int = 0
    erode: int = 0
    dilate: int = 0


@dataclass(frozen=True)
class GapFiles:
    """What was written for one site."""

    site: str
    masks: tuple[Path, ...]
    polygons: tuple[Path, ...]
    statistics: Path
    per_height: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def sites_from_paths(paths: Sequence[Path], **settings: Any) -> HeightRastersData:
    """Settings for a folder of pairs, or for canopy height rasters named one by one."""
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise DataError(f"No such file or folder: {', '.join(missing)}.")
    if len(paths) == 1 and paths[0].is_dir():
        return HeightRastersData(folder=paths[0], input="chm", **settings)
    folders = [str(path) for path in paths if path.is_dir()]
    if folders:
        raise DataError(f"{', '.join(folders)}: name one folder, or rasters, but not both.")
    sites = tuple(SiteConfig(name=path.stem, chm=path) for path in paths)
    return HeightRastersData(sites=sites, input="chm", **settings)


def sites_of(data: HeightRastersData) -> list[Site]:
    """The sites of a data section: those listed, and those found in its folder."""
    listed = [
        Site(
            site.name,
            dsm=site.dsm,
            chm=site.chm,
            dtm=site.dtm,
            nodata=data.nodata if site.nodata is None else site.nodata,
            chm_nodata=data.chm_nodata if site.chm_nodata is None else site.chm_nodata,
        )
        for site in data.sites
    ]
    if data.folder is None:
        return listed
    found, _ = find_sites(data.folder, data.dsm_suffix, data.chm_suffix, data.dtm_suffix)
    names = {site.name for site in listed}
    more = [replace(site, nodata=data.nodata, chm_nodata=data.chm_nodata) for site in found if site.name not in names]
    return [*listed, *more]


def prepare_gaps(
    data: HeightRastersData,
    heights_m: Sequence[float],
    out: Path,
    *,
    cleaning: Cleaning | None = None,
    polygons: str = "geojson",
    progress: Callable[[int, int, str], None] | None = None,
) -> list[GapFiles]:
    """Write, for every site and height, a georeferenced mask (1 gap, 0 none, 255 not measured) and polygons.

    The statistics of a site lie beside them as JSON. Masks are made from the canopy height: the CHM, or DSM minus DTM.
    Without cleaning the rasters are streamed in bands of rows; cleaning holds one mask of a site in memory.

    Args:
        data: The sites.
        heights_m: Heights in metres.
        out: Folder for the files; made if missing.
        cleaning: Filters of the masks; statistics and polygons describe the cleaned masks.
        polygons: ``geojson``, ``gpkg`` or ``none``.
        progress: Called with (done, total, site).

    Raises:
        DataError: If the sites or heights cannot be used; nothing is written then.
    """
    wish = cleaning or Cleaning()
    heights = check_heights(heights_m, wish)
    # The network's input plays no part here, so sites with a CHM alone need no terrain.
    source = build_source(data.model_copy(update={"input": "chm"}))
    if not isinstance(source, HeightRasters):
        raise DataError("Gaps are found in height rasters. Name them with data.kind: height_rasters.")
    require_gaps(heights, source)
    out.mkdir(parents=True, exist_ok=True)
    check_writable(out)
    written = []
    for index, scene in enumerate(source.scenes):
        if progress is not None:
            progress(index, len(source.scenes), scene.name)
        written.append(_prepare_scene(source, scene, heights, out, wish, polygons))
    if progress is not None:
        progress(len(source.scenes), len(source.scenes), "done")
    return written


def check_heights(heights_m: Sequence[float], cleaning: Cleaning) -> tuple[float, ...]:
    """The heights, rising; raises DataError if one is not above 0 or the cleaning does not suit several."""
    heights = tuple(sorted({float(height) for height in heights_m}))
    if not heights or heights[0] <= 0:
        raise DataError(f"Heights must be larger than 0 m, got {list(heights_m)}. For example --heights 2 5 10.")
    if cleaning.max_gap_px is not None and len(heights) > 1:
        raise DataError(
            "A largest gap size (max_gap_px) takes one height at a time: a gap too large at one height may be small "
            "at a lower one, and then gaps at the lower height would no longer lie inside those at the higher. "
            "Run it once for each height."
        )
    return heights


def _prepare_scene(
    source: HeightRasters, scene: Scene, heights: tuple[float, ...], out: Path, cleaning: Cleaning, polygons: str
) -> GapFiles:
    grid = scene.grid
    counter = GapCounter(heights, grid.pixel_size_m**2)
    paths = [out / f"{scene.name}_gap_mask_{height:g}m.tif" for height in heights]
    with ExitStack() as stack:
        files = [stack.enter_context(raster_draft(path, grid, dtype="uint8", nodata=IGNORE_INDEX)) for path in paths]
        for window, mask in mask_rows(source, scene, heights, cleaning):
            counter.add(mask)
            place = rasterio.windows.Window(window.col, window.row, window.width, window.height)
            for file, plane in zip(files, mask, strict=True):
                file.write(plane, 1, window=place)
    statistics = counter.result() | {"site": scene.name, "pixel_size_m": grid.pixel_size_m, "notes": list(scene.notes)}
    path = out / f"{scene.name}_gap_statistics.json"
    write_json(path, statistics)
    vectors = []
    for mask_path, height in zip(paths, heights, strict=True) if polygons != "none" else ():
        vector = mask_path.with_name(f"{scene.name}_gaps_{height:g}m.{polygons}")
        vectorise_mask(mask_path, vector, heights_m=(height,))
        vectors.append(vector)
    return GapFiles(scene.name, tuple(paths), tuple(vectors), path, tuple(statistics["heights"]), scene.notes)


def mask_rows(
    source: HeightRasters, scene: Scene, heights: tuple[float, ...], cleaning: Cleaning
) -> Iterator[tuple[Window, np.ndarray]]:
    """Windows of a scene from top to bottom and their masks (K, H, W) uint8; one window if masks are cleaned."""
    rows = scene.grid.height if cleaning != Cleaning() else _BAND_ROWS
    for row in range(0, scene.grid.height, rows):
        window = Window(row, 0, min(rows, scene.grid.height - row), scene.grid.width)
        canopy = source.canopy(scene.name, window)
        mask = gap_mask(canopy, np.isfinite(canopy), heights)
        yield window, mask if cleaning == Cleaning() else clean_gap_mask(mask, **vars(cleaning))
