"""Where trees stand dense and where they shade: maps with larger pixels, gathered tree by tree in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from maskwright.errors import PredictionError
from maskwright.files import explain_os_error
from maskwright.metrics.stand import ALL
from maskwright.objects import FoundObjects
from maskwright.pictures import legend
from maskwright.pictures.colors import PAPER, RGB
from maskwright.prediction.class_overlay import LIMIT_PX
from maskwright.prediction.geotiff import RowWriter, copy_to_cog, remove_rows
from maskwright.prediction.instances_table import Ground

if TYPE_CHECKING:
    from PIL.Image import Image
    from shapely.geometry import MultiPolygon, Polygon

__all__ = ["GroundCells", "HeatMap", "heat_picture", "write_heat"]

FloatArray = npt.NDArray[np.float32]

_RAMP: tuple[RGB, ...] = ((247, 245, 238), (199, 221, 172), (120, 183, 112), (44, 127, 84), (12, 64, 57))
_NOT_VALID: RGB = (200, 200, 200)
_LEAST_SIDE_PX = 480  # of a picture; smaller ones are enlarged
_OUTLINE_CELLS = 256  # the ground's outline is told on at most so many cells to a side
_ENOUGH = 0.5  # of a cell must count


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A map of larger pixels.

    Attributes:
        name: What it tells, with its unit, for people.
        values: (h, w) float32, NaN where nothing counts.
    """

    name: str
    values: FloatArray


class GroundCells:
    """Trees, crowns and ground counted in cells of whole pixels.

    Args:
        ground: The pixels objects are found in.
        names: Class ids to names of trees.
        limit: Cells to a side, at most.

    Attributes:
        factor: Pixels to a side of a cell.
        valid: (h, w) float32 pixels of each cell that count.
        trees: (h, w) float32 centres in each cell.
        crowns: By class and for all trees, (h, w) float32 pixels under crowns.
    """

    def __init__(self, ground: Ground, names: Mapping[int, str], *, limit: int = LIMIT_PX) -> None:
        height, width = ground.grid.height, ground.grid.width
        self._ground, self._names = ground, dict(names)
        self.factor = -(-max(height, width) // limit)
        self.shape = (-(-height // self.factor), -(-width // self.factor))
        self.valid, self.trees = (np.zeros(self.shape, np.float32) for _ in range(2))
        self.crowns = {name: np.zeros(self.shape, np.float32) for name in (ALL, *self._names.values())}

    def add_valid(self, row: int, valid: npt.NDArray[np.bool_]) -> None:
        """Count ground: (h, W) bool whose first row is ``row``."""
        rows, cols = np.nonzero(valid)
        np.add.at(self.valid, ((rows + row) // self.factor, cols // self.factor), 1.0)

    def add(self, found: FoundObjects) -> None:
        """Count some trees."""
        for (x, y), label, crop in zip(found.centres, found.labels, found.masks, strict=True):
            row = min(max(int(y) // self.factor, 0), self.shape[0] - 1)
            col = min(max(int(x) // self.factor, 0), self.shape[1] - 1)
            self.trees[row, col] += 1
            rows, cols = np.nonzero(crop.pixels)
            cells = ((rows + crop.row) // self.factor, (cols + crop.col) // self.factor)
            np.add.at(self.crowns[ALL], cells, 1.0)
            np.add.at(self.crowns[self._names[int(label)]], cells, 1.0)

    def cover(self) -> dict[str, float]:
        """Share of the ground under crowns, by class and for all; where crowns overlap their ground counts once."""
        total = float(self.valid.sum(dtype=np.float64))
        shares = {name: np.minimum(crowns, self.valid).sum(dtype=np.float64) for name, crowns in self.crowns.items()}
        return {name: float(share / total) if total else float("nan") for name, share in shares.items()}

    def outline(self) -> Polygon | MultiPolygon:
        """The ground that counts, in the unit of :class:`Ground` from the upper left corner, y downwards."""
        import shapely
        from affine import Affine
        from rasterio.features import shapes

        across, down = self._ground.steps
        height, width = self._ground.grid.height, self._ground.grid.width
        whole = self._pixels_of_cells()
        if (self.valid >= whole).all():
            return shapely.box(0.0, 0.0, width * across, height * down)
        step = -(-max(self.shape) // _OUTLINE_CELLS)
        counted = (_blocks(self.valid, step) >= _ENOUGH * _blocks(whole, step)) & (_blocks(whole, step) > 0)
        side = step * self.factor
        place = Affine.scale(across, down) @ Affine.scale(side, side)
        parts = [
            shapely.geometry.shape(outline)
            for outline, _ in shapes(counted.view(np.uint8), mask=counted, connectivity=4, transform=place)
        ]
        if not parts:
            return shapely.Polygon()
        joined: Polygon | MultiPolygon = shapely.union_all(parts)
        return joined

    def density(self, reach_px: float) -> HeatMap:
        """Trees in a disc around each cell for the ground that counts in it: a hectare, or a million pixels."""
        per = 1e4 if self._ground.unit == "m" else 1e6
        share = self._around(self.trees, reach_px) * np.float32(per / self._ground.side**2)
        return HeatMap("trees per hectare" if per == 1e4 else "trees per million pixels", share)

    def shade(self, reach_px: float, name: str) -> HeatMap:
        """Share of the ground in a disc around each cell that lies under the crowns of a class."""
        covered = self._around(np.minimum(self.crowns[name], self.valid), reach_px)
        return HeatMap(f"share of the ground under crowns ({name})", np.clip(covered, 0.0, 1.0))

    def _around(self, counts: FloatArray, reach_px: float) -> FloatArray:
        """Sums of counts in a disc over sums of ground, NaN where a cell holds none."""
        import cv2

        reach = max(1.0, reach_px / self.factor)
        side = min(int(reach), max(self.shape))
        offsets = np.arange(-side, side + 1)
        disc = (offsets[:, None] ** 2 + offsets[None] ** 2 <= reach * reach).astype(np.float32)
        over, under = (
            cv2.filter2D(values, cv2.CV_32F, disc, borderType=cv2.BORDER_CONSTANT) for values in (counts, self.valid)
        )
        shares = np.clip(over, 0.0, None) / np.maximum(under, 1.0)
        return np.where(self.valid > 0, shares, np.float32(np.nan)).astype(np.float32)

    def _pixels_of_cells(self) -> FloatArray:
        grid = self._ground.grid
        down = np.minimum(self.factor, grid.height - self.factor * np.arange(self.shape[0]))
        across = np.minimum(self.factor, grid.width - self.factor * np.arange(self.shape[1]))
        return np.outer(down, across).astype(np.float32)


def write_heat(path: Path, ground: Ground, factor: int, heat: HeatMap, tags: Mapping[str, str]) -> None:
    """A map as a Cloud-Optimised GeoTIFF; its pixels are ``factor`` times as large as those of the ground."""
    height, width = heat.values.shape
    a, b, c, d, e, f = ground.grid.transform
    larger = (a * factor, b * factor, c, d * factor, e * factor, f) if ground.is_placed else ground.grid.transform
    grid = replace(ground.grid, height=height, width=width, transform=larger)
    part = path.with_suffix(".part.vrt")
    with RowWriter(part, grid, dtype="float32", nodata=np.nan, names=(heat.name,), tags=tags) as writer:
        writer.write(0, heat.values[None])
    copy_to_cog(part, path, resampling="average")
    remove_rows(part)


def heat_picture(heat: HeatMap, path: Path | None = None) -> Image:
    """A map as a picture with its scale below; written as PNG if a path is given.

    Raises:
        PredictionError: If the file cannot be written.
    """
    import PIL.Image

    known = heat.values[np.isfinite(heat.values)]
    top = float(known.max()) if known.size and known.max() > 0 else 1.0
    rgb = _colored(np.nan_to_num(heat.values) / top)
    rgb[~np.isfinite(heat.values)] = _NOT_VALID
    picture = PIL.Image.fromarray(rgb)
    larger = -(-_LEAST_SIDE_PX // max(picture.size))
    if larger > 1:
        picture = picture.resize((picture.width * larger, picture.height * larger), PIL.Image.Resampling.NEAREST)
    steps = np.linspace(0.0, 1.0, len(_RAMP))
    entries: Sequence[tuple[str, RGB]] = [
        (f"{step * top:.3g}", color) for step, color in zip(steps, _RAMP, strict=True)
    ]
    key = legend([*entries[:-1], (f"{entries[-1][0]} {heat.name}", _RAMP[-1])], max_width_px=max(picture.width, 420))
    sheet = PIL.Image.new("RGB", (max(picture.width, key.width), picture.height + key.height), PAPER)
    sheet.paste(picture, (0, 0))
    sheet.paste(key, (0, picture.height))
    if path is not None:
        try:
            sheet.save(path, "PNG")
        except OSError as error:
            raise PredictionError(explain_os_error(error, path)) from error
    return sheet


def _colored(shares: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    places = np.linspace(0.0, 1.0, len(_RAMP))
    planes = [np.interp(shares, places, [color[part] for color in _RAMP]) for part in range(3)]
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def _blocks(values: FloatArray, step: int) -> FloatArray:
    rows, cols = (np.arange(0, length, step) for length in values.shape)
    sums: FloatArray = np.add.reduceat(np.add.reduceat(values, rows, axis=0), cols, axis=1)
    return sums
