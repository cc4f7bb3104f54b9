"""The four rows: which pictures are learned from, which steer, which are scored; the same files for every contestant.

A row becomes a folder: ``learn`` is what a contestant may see, ``test`` is only for the scorer. Splits are fixed by a
seed and by what belongs together: both eyes of a child, the two dates of one forest. Heights are surface models (DSM):
smooth invented terrain under the real canopies of La Selva and Cauaxi, and New Zealand as it is; the truth is canopy
below 5, 10 and 20 m. All rasters of that row lie in ``learn``, as an experiment names its test sites too.
"""

from __future__ import annotations

import random
import re
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["HEIGHTS_M", "ROWS", "Row", "Sample", "prepare", "read_samples"]

SPLIT_SEED = 42
SHARES = (0.7, 0.1)  # learned from, steering; the rest is scored
HEIGHTS_M = (5.0, 10.0, 20.0)
TERRAIN_M, WAVELENGTH_M = 15.0, 400.0
SITES = {
    "train": ("laselva_west", "cauaxi_2012", "cauaxi_2014"),
    "val": ("laselva_middle",),
    "test": ("laselva_east", "new_zealand"),
}
COLUMNS = {"laselva_west": (0, 560), "laselva_middle": (630, 780), "laselva_east": (850, 1000)}  # a tile apart


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Its name.
        folder: Of the data set; of images and masks, or of rasters.
        group: What of a file's name belongs together: its first group of brackets.
        stratum: What of a file's name every part should hold a share of.
        tile_px: Side of the tiles of those who are told one; what ``maskwright init`` chooses for this data.
        outputs: Masks asked of each picture.
    """

    name: str
    folder: str
    group: str = r"(.*)"
    stratum: str = r"()"
    tile_px: int = 256
    outputs: int = 1

    @property
    def is_heights(self) -> bool:
        return self.name == "heights"


ROWS = {
    row.name: row
    for row in (
        Row("cracks", "crack_cfd"),
        Row("tiles", "defect_magnetic_tile", stratum=r"([a-z]+)_"),
        Row("vessels", "vessel_retina", group=r"(chase_Image_\d+|hrf_.*)", stratum=r"([a-z]+)_"),
        Row("heights", "forest_chm", tile_px=64, outputs=len(HEIGHTS_M)),
    )
}


@dataclass(frozen=True)
class Sample:
    """A picture or raster.

    Attributes:
        name: Of the file.
        path: The file.
        image: (rows, columns, bands), uint8, or float32 in metres.
        masks: (outputs, rows, columns) of 0 and 1, uint8.
    """

    name: str
    path: Path
    image: np.ndarray[Any, Any]
    masks: np.ndarray[Any, Any]


def prepare(row: Row, data: Path, folder: Path) -> None:
    """Write the files of a row, once."""
    if (folder / "ready").exists():
        return
    if row.is_heights:
        _write_sites(data / row.folder, folder)
    else:
        stems = sorted(path.stem for path in (data / row.folder / "images").iterdir())
        parts = parts_of(stems, row)
        for image in sorted((data / row.folder / "images").iterdir()):
            part = parts[image.stem]
            target = folder / "test" if part == "test" else folder / "learn" / part
            for kind, source in (("images", image), ("masks", data / row.folder / "masks" / f"{image.stem}.png")):
                (target / kind).mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target / kind / source.name)
    (folder / "ready").touch()


def parts_of(stems: list[str], row: Row) -> dict[str, str]:
    """To which part each picture belongs: shares of groups, within each stratum."""
    strata: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for stem in stems:
        found = [re.match(pattern, stem) for pattern in (row.stratum, row.group)]
        stratum, group = (match.group(1) if match else stem for match in found)
        strata[stratum][group].append(stem)
    parts = {}
    for name in sorted(strata):
        groups = sorted(strata[name])
        random.Random(f"{SPLIT_SEED} {name}").shuffle(groups)
        train = min(round(SHARES[0] * len(groups)), len(groups) - 2)  # each part gets some
        val = max(1, round(SHARES[1] * len(groups)))
        for place, group in enumerate(groups):
            part = "train" if place < train else "val" if place < train + val else "test"
            parts |= dict.fromkeys(strata[name][group], part)
    return parts


def read_samples(row: Row, folder: Path, part: str) -> list[Sample]:
    """The pictures of a part with their truth."""
    if row.is_heights:
        return [_site_sample(folder, name) for name in SITES[part]]
    import cv2

    home = folder / "test" if part == "test" else folder / "learn" / part
    samples = []
    for path in sorted((home / "images").iterdir()):
        image = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(home / "masks" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        samples.append(Sample(path.stem, path, image, (mask > 127).astype(np.uint8)[None]))
    return samples


# --- heights ----------------------------------------------------------------------------------------------------------


def _site_sample(folder: Path, name: str) -> Sample:
    import rasterio

    path = folder / "learn" / f"{name}_DSM.tif"
    with rasterio.open(path) as raster:
        surface = raster.read(1)
    with rasterio.open(folder / "learn" / f"{name}_CHM.tif") as raster:
        canopy = raster.read(1)
    masks = np.stack([canopy < height for height in HEIGHTS_M]).astype(np.uint8)
    return Sample(name, path, surface[..., None], masks)


def _write_sites(data: Path, folder: Path) -> None:
    import rasterio

    target = folder / "learn"
    target.mkdir(parents=True, exist_ok=True)
    with rasterio.open(data / "laselva_west_chm_2009_125cm.tif") as raster:
        canopy = raster.read(1)
        canopy[canopy < -100] = np.median(canopy)  # 22 pixels were never measured
        surface = canopy + terrain(canopy.shape, 1.25, 1)
        for name, (first, stop) in COLUMNS.items():
            window = rasterio.windows.Window(first, 0, stop - first, raster.height)
            place = (raster.crs, raster.window_transform(window))
            _write(target, name, canopy[:, first:stop], surface[:, first:stop], *place)
    for year in (2012, 2014):
        with rasterio.open(data / f"cauaxi_chm_{year}_1m.tif") as raster:
            canopy = raster.read(1)
            _write(target, f"cauaxi_{year}", canopy, canopy + terrain(canopy.shape, 1, 2), raster.crs, raster.transform)
    with (
        rasterio.open(data / "nz_forest_chm_1m.tif") as raster,
        rasterio.open(data / "nz_forest_dsm_1m.tif") as elevations,
    ):
        _write(target, "new_zealand", raster.read(1), elevations.read(1), raster.crs, raster.transform)


def terrain(shape: tuple[int, ...], pixel_m: float, seed: int) -> np.ndarray[Any, Any]:
    """Smooth hills: noise, blurred to a wavelength, of a standard deviation of ``TERRAIN_M``."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).standard_normal(shape)
    hills = gaussian_filter(noise, WAVELENGTH_M / 4 / pixel_m, mode="reflect")
    return (TERRAIN_M * (hills - hills.mean()) / hills.std()).astype(np.float32)


def _write(target: Path, name: str, canopy: Any, surface: Any, crs: Any, transform: Any) -> None:
    import rasterio

    for kind, values in (("CHM", canopy), ("DSM", surface)):
        rows, columns = values.shape
        with rasterio.open(
            target / f"{name}_{kind}.tif", "w", driver="GTiff", height=rows, width=columns, count=1, dtype="float32",
            crs=crs, transform=transform, nodata=-9999,
        ) as raster:  # fmt: skip
            raster.write(values.astype(np.float32), 1)
