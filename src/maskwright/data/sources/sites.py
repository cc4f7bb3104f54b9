"""Sites: which files belong together, named one by one or found in a folder by their shared prefix."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maskwright.errors import DataError

__all__ = ["Site", "find_sites"]

_ENDINGS = (".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Site:
    """The rasters of one piece of ground.

    Attributes:
        name: Unique in the source.
        dsm: Digital surface model, elevation of the top of everything, in metres.
        chm: Canopy height model, height above ground, in metres.
        dtm: Digital terrain model, elevation of the ground, in metres.
        nodata: Value meaning "not measured" in all of them; None: each file's tag.
        chm_nodata: The same for the CHM alone; ``"none"`` ignores its tag, ``"tag"`` follows ``nodata``, then the tag.
        ground: Sites with the same word cover the same ground; None: found from the extents.
    """

    name: str
    dsm: Path | None = None
    chm: Path | None = None
    dtm: Path | None = None
    nodata: float | None = None
    chm_nodata: float | Literal["tag", "none"] = "tag"
    ground: str | None = None


def find_sites(
    folder: Path, dsm_suffix: str = "DSM", chm_suffix: str = "CHM", dtm_suffix: str = "DTM"
) -> tuple[tuple[Site, ...], tuple[str, ...]]:
    """Match the rasters directly inside a folder by what stands before the suffix, whatever the case.

    ``plot1_DSM.tif`` and ``plot1-chm.tiff`` are the site ``plot1``. A site needs a CHM, or a DSM with a DTM.

    Args:
        folder: Searched for ``.tif`` and ``.tiff``.
        dsm_suffix: Ending of the names of surface models.
        chm_suffix: Ending of the names of canopy height models.
        dtm_suffix: Ending of the names of terrain models.

    Returns:
        The sites sorted by name, and a sentence for each raster that belongs to none.

    Raises:
        DataError: If the folder is missing, holds no site, or two files claim one place.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder. Set data.folder to the folder that holds the rasters.")
    rasters = sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS and path.is_file())
    suffixes = {"dsm": dsm_suffix, "chm": chm_suffix, "dtm": dtm_suffix}
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    orphans = []
    for path in rasters:
        kind = _kind(path.stem, suffixes)
        if kind is None:
            orphans.append(f"{path.name}: its name ends in none of {', '.join(suffixes.values())}")
        else:
            found[_prefix(path.stem, suffixes[kind]).casefold()][kind].append(path)
    _refuse_rivals(folder, found)
    sites = []
    for kinds in found.values():
        files = {kind: paths[0] for kind, paths in kinds.items()}
        first = files.get("dsm") or files.get("chm") or files["dtm"]
        if "chm" in files or {"dsm", "dtm"} <= files.keys():
            name = (
                _prefix(first.stem, suffixes[next(kind for kind in suffixes if kind in files)]) or folder.resolve().name
            )
            sites.append(Site(name, files.get("dsm"), files.get("chm"), files.get("dtm")))
        else:
            partner = f"{chm_suffix} or {dtm_suffix}" if "dsm" in files else f"{dsm_suffix} or {chm_suffix}"
            orphans.append(f"{first.name}: no {partner} with the same prefix, so heights above ground are not known")
    if not sites:
        raise DataError(_nothing_found(folder, suffixes, orphans))
    return tuple(sorted(sites, key=lambda site: site.name)), tuple(sorted(orphans))


def _kind(stem: str, suffixes: dict[str, str]) -> str | None:
    fitting = [kind for kind, suffix in suffixes.items() if stem.casefold().endswith(suffix.casefold())]
    return max(fitting, key=lambda kind: len(suffixes[kind]), default=None)


def _prefix(stem: str, suffix: str) -> str:
    return stem[: len(stem) - len(suffix)].rstrip("_-. ")


def _refuse_rivals(folder: Path, found: dict[str, dict[str, list[Path]]]) -> None:
    rivals = [
        " and ".join(path.name for path in paths)
        for kinds in found.values()
        for paths in kinds.values()
        if len(paths) > 1
    ]
    if rivals:
        raise DataError(
            f"{folder}: {'; '.join(sorted(rivals))} claim the same place in a site. Remove or rename one of them."
        )


def _nothing_found(folder: Path, suffixes: dict[str, str], orphans: list[str]) -> str:
    text = (
        f"{folder} holds no site: no {suffixes['chm']}, and no {suffixes['dsm']} with {suffixes['dtm']}, "
        f"among its .tif and .tiff files. Name the sites one by one in data.sites, or set the suffixes."
    )
    return "\n".join([text, *(f"  {orphan}" for orphan in sorted(orphans))])
