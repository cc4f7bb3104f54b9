"""What every kind of source offers: scenes on grids, and windows of image, target and validity out of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from maskwright.errors import GridError
from maskwright.types import Window

__all__ = ["Grid", "Scene", "Source"]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of a raster lie on the ground.

    Attributes:
        height: Rows.
        width: Columns.
        transform: ``(a, b, c, d, e, f)``: x = a * col + b * row + c, y = d * col + e * row + f, for pixel corners.
        crs: Coordinate reference system as WKT; None if the file names none, then one unit is taken as one metre.
    """

    height: int
    width: int
    transform: tuple[float, float, float, float, float, float]
    crs: str | None

    def affine(self) -> Affine:
        """The transform as rasterio takes it."""
        return Affine(*self.transform)

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Width and height of a pixel in units of the CRS, both positive."""
        a, b, _, d, e, _ = self.transform
        return math.hypot(a, d), math.hypot(b, e)

    @property
    def metres_per_unit(self) -> float:
        """Metres in one unit of the CRS; 1 without a CRS.

        Raises:
            GridError: If coordinates are angles.
        """
        return 1.0 if self.crs is None else _metres_per_unit(self.crs)

    @property
    def pixel_size_m(self) -> float:
        """Side in metres of a square with the area of one pixel.

        Raises:
            GridError: If coordinates are angles.
        """
        x, y = self.pixel_size
        return math.sqrt(x * y) * self.metres_per_unit

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in units of the CRS."""
        return self.world_box(self.window)

    @property
    def window(self) -> Window:
        """The whole raster."""
        return Window(0, 0, self.height, self.width)

    @property
    def is_georeferenced(self) -> bool:
        """False if the file names neither a CRS nor a transform, so that its place is unknown."""
        return self.crs is not None or self.transform not in (
            (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            (1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
        )

    def world_box(self, window: Window) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of a window in units of the CRS; the window may reach past the raster."""
        a, b, c, d, e, f = self.transform
        corners = [(row, col) for row in (window.row, window.row_stop) for col in (window.col, window.col_stop)]
        xs = [a * col + b * row + c for row, col in corners]
        ys = [d * col + e * row + f for row, col in corners]
        return min(xs), min(ys), max(xs), max(ys)


@dataclass(frozen=True, slots=True)
class Scene:
    """One image of a source and the ground it shows.

    Attributes:
        name: Unique in the source.
        grid: Its pixels on the ground.
        ground: Id of the piece of ground; scenes with the same ground must stay in one part of a split.
        files: The files it is made of.
        notes: What a person should know about it, a sentence each.
    """

    name: str
    grid: Grid
    ground: str
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """Scenes, and windows of them. A window may reach past its scene; pixels out there are not valid."""

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, in a fixed order."""

    @property
    def in_channels(self) -> int:
        """Bands of an image."""

    def read(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Image (C, H, W) float32, normalised, 0 where not valid; valid (H, W) bool."""

    def label(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Target (H, W), for heights float32 metres, 0 where not valid; valid (H, W) bool."""

    def sample(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image, target, valid; valid where both are, image and target 0 elsewhere."""

    def valid_share(self, scene: str, tile_px: int) -> np.ndarray:
        """(rows, cols) share 0..1 of valid pixels in each tile of the grid anchored at (0, 0), padding not valid."""


@lru_cache(maxsize=256)
def _metres_per_unit(wkt: str) -> float:
    try:
        crs = CRS.from_wkt(wkt)
        if crs.is_geographic:
            raise GridError(
                f"Coordinates are angles ({crs.to_string()}), so a pixel has no size in metres. "
                "Reproject the raster to a CRS in metres, for example the UTM zone of the site (rio warp --dst-crs)."
            )
        return float(crs.linear_units_factor[1])
    except CRSError as error:
        raise GridError(
            f"The unit of the coordinate reference system is unknown: {error}. Reproject the raster."
        ) from error
