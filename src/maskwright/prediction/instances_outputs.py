"""What is drawn and written once all trees of an image are known: crowns, land cover, heat maps, the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from maskwright.config.prediction import PredictionConfig
from maskwright.data.sources.interface import Grid
from maskwright.errors import PredictionError
from maskwright.files import explain_os_error, reserve
from maskwright.metrics.stand import ALL, Stand
from maskwright.objects import FoundObjects, paint_crops
from maskwright.pictures import RGB, legend
from maskwright.pictures.colors import PAPER, class_colors
from maskwright.pixels import IGNORE_INDEX
from maskwright.prediction.class_overlay import save_palette
from maskwright.prediction.geotiff import RowWriter, copy_to_cog, open_raster, remove_rows
from maskwright.prediction.instances_heat import GroundCells, heat_picture, write_heat
from maskwright.prediction.instances_report import write_stand_page
from maskwright.prediction.instances_source import StitchedMaps
from maskwright.prediction.instances_table import Ground
from maskwright.types import Window

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ENDINGS", "CrownPicture", "PaintedClasses", "land_cover", "write_pictures"]

ENDINGS = (
    *("crowns.gpkg", "crowns.geojson", "inventory.csv", "coco.json", "mask.png", "mask.tif", "overlay.png"),
    *("density.tif", "density.png", "shade.tif", "shade.png", "report.html", "summary.json"),
)
"""Everything that may be written for trees, without the stem of the input."""

_PORTION_PX = 2**22
_PAGE_PX = 1000  # of a picture on the page
_HEAT_PX = 600  # of a smooth one
_FINE_BITS = 4  # parts of a pixel in which outlines are drawn


class CrownPicture:
    """The image with the outline of each crown, drawn as trees are found.

    Args:
        rgb: (h, w, 3) the image, thinned out.
        factor: Pixels of the scene to one of it.
        names: Class ids to names of trees.
    """

    def __init__(self, rgb: npt.NDArray[np.uint8], factor: int, names: Mapping[int, str]) -> None:
        self._rgb, self._factor, self._names = np.ascontiguousarray(rgb), factor, dict(names)
        colors = class_colors(len(self._names), has_background=False)
        self._colors: dict[int, RGB] = dict(zip(self._names, colors, strict=True))
        self._counts = dict.fromkeys(self._names, 0)

    def add(self, found: FoundObjects) -> None:
        """Draw some trees."""
        import cv2

        fine = 1 << _FINE_BITS
        for label, crop in zip(found.labels, found.masks, strict=True):
            self._counts[int(label)] += 1
            rings, _ = cv2.findContours(crop.pixels.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            placed = [(ring + (crop.col, crop.row) + 0.5) / self._factor - 0.5 for ring in rings]
            lines = [np.rint(ring * fine).astype(np.int32) for ring in placed]
            cv2.polylines(self._rgb, lines, True, self._colors[int(label)], 1, cv2.LINE_AA, _FINE_BITS)

    def picture(self) -> Image:
        """The image, and below it the classes with their numbers of trees."""
        import PIL.Image

        entries = [(f"{name}: {self._counts[number]}", self._colors[number]) for number, name in self._names.items()]
        image = PIL.Image.fromarray(self._rgb)
        key = legend(entries, max_width_px=max(image.width, 320))
        sheet = PIL.Image.new("RGB", (max(image.width, key.width), image.height + key.height), PAPER)
        sheet.paste(image, (0, 0))
        sheet.paste(key, (0, image.height))
        return sheet


class PaintedClasses:
    """The class of the object on each pixel, painted as objects are found: into a file, so that memory stays bounded.

    Args:
        path: The file, a byte a pixel; it is removed at the end of the with block.
        height: Rows.
        width: Columns.

    Raises:
        PredictionError: If the disk has no room for it.
    """

    def __init__(self, path: Path, height: int, width: int) -> None:
        self._path = path
        with open(path, "wb") as file:
            try:
                reserve(file.fileno(), height * width)
            except OSError as error:
                path.unlink()
                raise PredictionError(explain_os_error(error, path)) from error
        self.ids = np.memmap(path, np.uint8, "r+", shape=(height, width))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        del self.ids
        self._path.unlink()

    def add(self, found: FoundObjects) -> None:
        """Paint some objects, the best on top."""
        order = np.argsort(found.scores, kind="stable")
        paint_crops(self.ids, [found.masks[index] for index in order], found.labels[order])


def land_cover(
    folder: Path,
    stem: str,
    maps: StitchedMaps,
    grid: Grid,
    names: Sequence[str],
    *,
    photograph: bool,
    painted: PaintedClasses | None = None,
) -> dict[str, Path]:
    """The class of each pixel, as PNG of a photograph, as GeoTIFF of a raster.

    Args:
        folder: Where.
        stem: Name of the input.
        maps: Probabilities of classes, and where pixels count.
        grid: Of the image.
        names: Of the classes.
        photograph: It has no place in a map.
        painted: Classes by objects; None: the likeliest class of the maps.
    """
    colors = class_colors(len(names), has_background=True)
    table: dict[int, tuple[int, ...]] = {k: (*color, 255) for k, color in enumerate(colors)}
    part = folder / "mask.part.vrt"
    step = max(1, _PORTION_PX // grid.width)
    facts = {"MASKWRIGHT_CLASSES": ",".join(names)}
    shown = table | {IGNORE_INDEX: (0, 0, 0, 0)}
    with RowWriter(
        part, grid, dtype="uint8", nodata=IGNORE_INDEX, names=("class",), tags=facts, colors=shown
    ) as writer:
        for row in range(0, grid.height, step):
            window = Window(row, 0, min(step, grid.height - row), grid.width)
            told, valid = maps.read(window, ("semantic",))
            codes = told["semantic"].argmax(axis=0).astype(np.uint8)
            if painted is not None:
                codes = painted.ids[row : row + window.height]
            writer.write_band(1, row, np.where(valid, codes, np.uint8(IGNORE_INDEX)))
    path = folder / f"{stem}_mask.{'png' if photograph else 'tif'}"
    if photograph:
        with open_raster(part) as dataset:
            save_palette(path, dataset.read(1), colors)
    else:
        copy_to_cog(part, path, resampling="nearest")
    remove_rows(part)
    return {"mask": path}


def write_pictures(
    folder: Path,
    stem: str,
    stand: Stand,
    cells: GroundCells,
    ground: Ground,
    drawing: CrownPicture,
    *,
    settings: PredictionConfig,
    shade_class: str,
    facts: Mapping[str, str],
    notes: Sequence[str],
    tags: Mapping[str, str],
) -> dict[str, Path]:
    """Heat maps, the picture of crowns and the page.

    Args:
        folder: Where.
        stem: Name of the input.
        stand: Its figures.
        cells: Trees and ground in larger pixels.
        ground: The pixels trees were found in.
        drawing: The image with crowns.
        settings: Says which pictures are wanted.
        shade_class: Whose crowns give shade.
        facts: What was done, for the page.
        notes: What a person should know.
        tags: Kept in rasters.
    """
    reach_px = stand.shade_reach / ground.side
    files: dict[str, Path] = {}
    shown: dict[str, Any] = {}
    overlay = drawing.picture()
    if settings.quicklook:
        files["overlay"] = folder / f"{stem}_overlay.png"
        _save(overlay, files["overlay"])
    shown["Crowns on the image."] = _fitted(overlay)
    near = f"within {stand.shade_reach:.3g} {stand.unit}"
    for name, heat in (("density", cells.density(reach_px)), ("shade", cells.shade(reach_px, shade_class))):
        files[name] = folder / f"{stem}_{name}.tif"
        write_heat(files[name], ground, cells.factor, heat, tags)
        files[f"{name} picture"] = folder / f"{stem}_{name}.png"
        whose = "" if name == "density" or shade_class == ALL else f" of {shade_class} trees"
        caption = f"Trees {near}." if name == "density" else f"Ground under crowns{whose} {near}."
        shown[caption] = _fitted(heat_picture(heat, files[f"{name} picture"]), _HEAT_PX)
    files["report"] = folder / f"{stem}_report.html"
    write_stand_page(files["report"], stem, stand, pictures=shown, facts=facts, notes=notes)
    return files


def _fitted(image: Image, side_px: int = _PAGE_PX) -> Image:
    small = image.copy()
    small.thumbnail((side_px, side_px))
    return small


def _save(image: Image, path: Path) -> None:
    try:
        image.save(path, "PNG")
    except OSError as error:
        raise PredictionError(explain_os_error(error, path)) from error
