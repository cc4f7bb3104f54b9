"""What is known about each tree: a row of numbers, and its outline. Rows are held for a whole map, outlines are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import shapes

from maskwright.data.sources.interface import Grid
from maskwright.objects import Crop, FoundObjects
from maskwright.types import Window

__all__ = ["Crowns", "Ground", "ReadHeights", "crown_rows", "join_crowns", "outlines_of"]

_AT_ONCE = 256  # outlines

ReadHeights = Callable[[Window], npt.NDArray[np.float32]]
"""A window to heights above ground (h, w) in metres, NaN where not measured."""


@dataclass(frozen=True)
class Ground:
    """Where pixels lie and how large they are.

    Attributes:
        grid: The pixels objects were found in.
        pixel_m2: Square metres of a pixel; None if unknown, then everything is told in pixels.
    """

    grid: Grid
    pixel_m2: float | None

    @property
    def unit(self) -> str:
        """``m`` or ``px``."""
        return "px" if self.pixel_m2 is None else "m"

    @property
    def side(self) -> float:
        """Side of a square as large as a pixel, in the unit."""
        return 1.0 if self.pixel_m2 is None else float(self.pixel_m2) ** 0.5

    @property
    def steps(self) -> tuple[float, float]:
        """Width and height of a pixel in the unit."""
        if self.pixel_m2 is None:
            return 1.0, 1.0
        across, down = self.grid.pixel_size
        wider = (across / down) ** 0.5
        return self.side * wider, self.side / wider

    @property
    def is_placed(self) -> bool:
        """Whether it lies somewhere on Earth, or at least in a plane of its own."""
        return self.grid.is_georeferenced

    def places(self, xy_px: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """(N, 2) pixels to coordinates of the CRS; without a place on the ground they stay pixels."""
        points = np.asarray(xy_px, np.float64).reshape(-1, 2)
        if not self.is_placed:
            return points
        a, b, c, d, e, f = self.grid.transform
        return np.column_stack((points @ (a, b) + c, points @ (d, e) + f))


@dataclass(frozen=True, eq=False)
class Crowns:
    """Numbers of N trees.

    Attributes:
        number: (N,) int64, from 1 in the order they became final.
        label: (N,) int64 class ids.
        score: (N,) float32.
        centre_px: (N, 2) float64 x, y.
        area_px: (N,) float64.
        diameter_px: (N,) float64, that of a circle of the same area where the model says none.
        height_m: (N,) float32 the highest measured point of the crown; NaN where none was.
        cut: (N,) bool: reaches to the end of all it was seen in.
    """

    number: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    score: npt.NDArray[np.float32]
    centre_px: npt.NDArray[np.float64]
    area_px: npt.NDArray[np.float64]
    diameter_px: npt.NDArray[np.float64]
    height_m: npt.NDArray[np.float32]
    cut: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.number)

    def columns(self, ground: Ground, names: Mapping[int, str], *, with_height: bool) -> dict[str, npt.NDArray[Any]]:
        """What is written of each tree, by the name of the column; the unit is part of it."""
        unit, side = ground.unit, ground.side
        area = "area_m2" if unit == "m" else "area_px"
        told: dict[str, npt.NDArray[Any]] = {
            "tree_id": self.number,
            "class": np.array([names[int(label)] for label in self.label], dtype=object),
            "score": self.score.astype(np.float64),
            area: self.area_px * side * side,
            f"diameter_{unit}": self.diameter_px * side,
        }
        return told | ({"height_m": self.height_m.astype(np.float64)} if with_height else {})


def crown_rows(found: FoundObjects, cut: npt.NDArray[np.bool_], first: int, heights: ReadHeights | None) -> Crowns:
    """The numbers of trees; ``first`` is the number of the first of them."""
    area = found.areas().astype(np.float64)
    said = found.diameter.astype(np.float64)
    tallest = np.array([np.nan if heights is None else _tallest(crop, heights) for crop in found.masks], np.float32)
    return Crowns(
        number=np.arange(first, first + len(found), dtype=np.int64),
        label=found.labels.astype(np.int64),
        score=found.scores.astype(np.float32),
        centre_px=found.centres.astype(np.float64),
        area_px=area,
        diameter_px=np.where(np.isfinite(said), said, np.sqrt(4 * area / np.pi)),
        height_m=tallest.reshape(len(found)),
        cut=cut,
    )


def join_crowns(parts: Sequence[Crowns]) -> Crowns:
    """All rows in their order."""
    if not parts:
        return crown_rows(FoundObjects.none(), np.zeros(0, np.bool_), 1, None)
    fields = ("number", "label", "score", "centre_px", "area_px", "diameter_px", "height_m", "cut")
    return Crowns(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def outlines_of(found: FoundObjects) -> npt.NDArray[np.object_]:
    """(N,) polygons in pixels, along pixel edges with their holes; multi-polygons where parts touch at corners only."""
    parts = [_outlines(found.masks[start : start + _AT_ONCE]) for start in range(0, len(found), _AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=object)


def _outlines(crops: Sequence[Crop]) -> npt.NDArray[np.object_]:
    """Outlines of a few crops, drawn side by side in one pass: a pass for each would be ten times slower."""
    lefts = np.cumsum([0, *(crop.pixels.shape[1] + 1 for crop in crops)])
    sheet = np.zeros((max(crop.pixels.shape[0] for crop in crops), int(lefts[-1])), np.int32)
    for number, (left, crop) in enumerate(zip(lefts, crops, strict=False), start=1):
        rows, cols = crop.pixels.shape
        sheet[:rows, left : left + cols][crop.pixels] = number
    pieces: list[list[Any]] = [[] for _ in crops]
    for outline, number in shapes(sheet, mask=sheet > 0, connectivity=4):
        pieces[int(number) - 1].append(shapely.geometry.shape(outline))
    outlines = np.empty(len(crops), dtype=object)
    for index, parts in enumerate(pieces):
        outlines[index] = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    points = shapely.get_num_coordinates(outlines)
    moves = [(crop.col - left, crop.row) for left, crop in zip(lefts, crops, strict=False)]
    moved = shapely.get_coordinates(outlines) + np.repeat(np.array(moves, np.float64), points, axis=0)
    placed: npt.NDArray[np.object_] = shapely.set_coordinates(outlines, moved)
    return placed


def _tallest(crop: Crop, heights: ReadHeights) -> float:
    rows, cols = crop.pixels.shape
    measured = heights(Window(crop.row, crop.col, rows, cols))[crop.pixels]
    known = measured[np.isfinite(measured)]
    return float(known.max()) if known.size else float("nan")
