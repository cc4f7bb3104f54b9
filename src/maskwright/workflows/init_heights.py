"""What an experiment on a folder of height rasters should say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskwright.config import HeightRastersData, load_section
from maskwright.errors import MaskwrightError
from maskwright.workflows.init_draft import Draft

__all__ = ["HeightSite", "find_heights", "put_heights", "read_stored"]

_WORDS = {"chm": "chm", "ndsm": "chm", "canopy": "chm", "dsm": "dsm", "surface": "dsm", "dtm": "dtm", "dem": "dtm"}
_HEIGHTS_M = (2.0, 5.0, 10.0)
_SIZES_PX = (256, 128, 64, 32)
_ENOUGH_TILES = 40
_LOOK_PX = 2000  # longer side of what is read of a raster to look at its values


@dataclass
class HeightSite:
    """Rasters of one place.

    Attributes:
        name: From the files' names.
        chm: Heights above ground.
        dsm: Elevation of the top of everything.
        dtm: Elevation of the ground.
        zero_is_real: True if the CHM declares 0 as nodata and yet holds ground at 0 m.
        guessed: True if nothing in the name says what the raster is.
    """

    name: str
    chm: Path | None = None
    dsm: Path | None = None
    dtm: Path | None = None
    zero_is_real: bool = False
    guessed: bool = False


def find_heights(folder: Path) -> tuple[list[HeightSite], list[str]]:
    """Sites of single-band rasters of numbers lying directly in a folder, and rasters that are something else."""
    sites: dict[str, HeightSite] = {}
    others = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (".tif", ".tiff") or not path.is_file():
            continue
        if not _is_heights(path):
            others.append(path.name)
            continue
        kind, name = _kind_of(path.stem)
        site = sites.setdefault(name.casefold(), HeightSite(name))
        if getattr(site, kind or "chm") is not None:
            site = sites[path.stem.casefold()] = HeightSite(path.stem)
        setattr(site, kind or "chm", path)
        site.guessed |= kind is None
        if kind == "chm":
            site.zero_is_real = _zero_is_real(path)
    usable = [site for site in sites.values() if site.chm is not None or (site.dsm and site.dtm)]
    others += [str(path.name) for site in sites.values() if site not in usable for path in (site.dsm, site.dtm) if path]
    return usable, others


def put_heights(draft: Draft, folder: Path, sites: Sequence[HeightSite], others: Sequence[str]) -> None:
    """Say in a draft how to learn gaps from these sites."""
    surfaces = [site for site in sites if site.dsm is not None]
    kind = "dsm" if len(surfaces) == len(sites) else "chm"
    draft.about.append(
        f"{len(sites)} sites of height rasters in {folder.name}, {len(surfaces)} with a surface model (DSM)."
    )
    if others:
        draft.about.append(f"Not used: {', '.join(others[:6])}{' ...' if len(others) > 6 else ''}.")
    draft.put("task.kind", "height_gaps", "canopy gaps: ground with a canopy lower than a height")
    draft.put("data.kind", "height_rasters", "single-band GeoTIFFs of metres")
    if _found_by_suffix(folder, sites):
        draft.put("data.folder", folder, "its files pair by name: a_DSM.tif, a_CHM.tif")
    else:
        draft.put("data.sites", [_site(site, kind) for site in sites], "named one by one, as their names do not pair")
    why = "every site has a surface model" if kind == "dsm" else "not every site has a surface model"
    draft.put("data.input", kind, f"what the network sees; {why}")
    if any(site.guessed for site in sites):
        names = ", ".join(site.name for site in sites if site.guessed)
        draft.unknown.append(f"whether these are heights above ground: {names}")
    size_px, heights = _trial(draft)
    draft.put("task.heights_m", list(heights), "metres; any others can be asked of the model later", unsure=True)
    draft.unknown.append("at which heights you call open ground a gap (task.heights_m)")
    draft.put("data.tiles.size_px", size_px, "the largest size that leaves enough tiles for every part of the split")
    draft.put("data.split.by", "auto", "whole sites from six on, else blocks with unused ground between them")
    draft.put("data.split.seed", 42, "another number divides the ground in another way")
    draft.put("data.loader.batch_size", 8, "tiles in one step; more need more memory")


def _kind_of(stem: str) -> tuple[str | None, str]:
    """What a name says a raster is, and the rest of the name."""
    for word, kind in _WORDS.items():
        match = re.search(rf"(?i)(?:^|[^a-z])({word})(?=$|[^a-z])", stem)
        if match:
            rest = (stem[: match.start(1)] + stem[match.end(1) :]).replace("__", "_")
            return kind, rest.strip("_-. ") or stem
    return None, stem


def _is_heights(path: Path) -> bool:
    import rasterio

    try:
        with rasterio.open(path) as dataset:
            return dataset.count == 1 and (
                dataset.dtypes[0].startswith("float")
                or (dataset.dtypes[0] in ("int16", "int32", "uint16") and _kind_of(path.stem)[0] is not None)
            )
    except rasterio.errors.RasterioError:
        return _kind_of(path.stem)[0] is not None  # told by the check, with the reason


def _zero_is_real(path: Path) -> bool:
    from maskwright.data.preflight_values import declared_zero_findings

    found = read_stored(path)
    return found is not None and bool(declared_zero_findings(path.name, *found))


def read_stored(path: Path) -> tuple[np.ndarray, float] | None:
    """A corner of a raster as stored, and the value it declares as nodata; None if it declares no number."""
    import rasterio
    from rasterio.windows import Window

    try:
        with rasterio.open(path) as dataset:
            nodata = dataset.nodata
            if nodata is None or not np.isfinite(nodata):
                return None
            window = Window(0, 0, min(_LOOK_PX, dataset.width), min(_LOOK_PX, dataset.height))
            return dataset.read(1, window=window).astype(np.float64), float(nodata)
    except rasterio.errors.RasterioError:
        return None  # told by the check, with the reason


def _found_by_suffix(folder: Path, sites: Sequence[HeightSite]) -> bool:
    """True if a plain ``data.folder`` finds the same files."""
    from maskwright.data.sources.sites import find_sites

    try:
        found, _ = find_sites(folder)
    except MaskwrightError:
        return False
    mine = {(site.chm, site.dsm, site.dtm) for site in sites if not (site.guessed or site.zero_is_real)}
    return mine == {(site.chm, site.dsm, site.dtm) for site in found} and len(mine) == len(sites)


def _site(site: HeightSite, kind: str) -> dict[str, str | Path]:
    entry: dict[str, str | Path] = {"name": site.name}
    if site.dsm is not None and (kind == "dsm" or site.chm is None):
        entry["dsm"] = site.dsm
    if site.chm is not None:
        entry["chm"] = site.chm
    elif site.dtm is not None:
        entry["dtm"] = site.dtm
    if site.zero_is_real:
        entry["chm_nodata"] = "none"
    return entry


def _trial(draft: Draft) -> tuple[int, tuple[float, ...]]:
    """The tile size that divides the ground well, and heights between the lowest and the highest canopy."""
    from maskwright.data.build import build_source, build_split_of

    size_px = _SIZES_PX[1]
    heights: tuple[float, ...] = _HEIGHTS_M
    source = None
    for tried in _SIZES_PX:
        data = {**draft.settings()["data"], "tiles": {"size_px": tried}}
        try:
            config = load_section(HeightRastersData, (), data)
            source = source or build_source(config)
            split = build_split_of(config, source)
        except MaskwrightError:  # the check tells why; here only a size is looked for
            if source is None:
                return size_px, heights
            continue
        size_px = tried
        if len(split.tiles["train"]) >= _ENOUGH_TILES:
            break
    if source is not None:
        facts = source.describe().values()
        low, high = min(fact["canopy_min_m"] for fact in facts), max(fact["canopy_max_m"] for fact in facts)
        fitting = tuple(height for height in _HEIGHTS_M if low < height <= high)
        heights = fitting or (round((low + high) / 2, 2),)
    return size_px, heights
