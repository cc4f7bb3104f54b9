"""What trees are made of: stitched maps, read window by window, and heights above ground on the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT

from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError
from maskwright.objects import FoundObjects
from maskwright.prediction.geotiff import RowWriter, open_raster
from maskwright.prediction.instances_table import ReadHeights
from maskwright.prediction.raster_stream import Band
from maskwright.types import Window

__all__ = ["MapSink", "StitchedMaps", "heights_around", "open_heights"]

FloatArray = npt.NDArray[np.float32]
Group = Callable[[Mapping[str, FloatArray], npt.NDArray[np.bool_]], FoundObjects]


class MapSink:
    """Writes the finished rows of all maps, NaN where not valid.

    Args:
        file: A band for each channel.

    Attributes:
        valid_px: Pixels that count.
    """

    def __init__(self, file: RowWriter) -> None:
        self.files: Sequence[RowWriter] = (file,)
        self.valid_px = 0

    def write(self, band: Band) -> None:
        """Take the next rows."""
        self.valid_px += int(np.count_nonzero(band.valid))
        np.copyto(band.probs, np.nan, where=~band.valid)
        self.files[0].write(band.row, band.probs)

    def facts(self) -> dict[str, Any]:
        """What was counted so far."""
        return {"valid_px": self.valid_px}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.valid_px = int(facts["valid_px"])


class StitchedMaps:
    """Windows of maps that a :class:`MapSink` wrote, and the objects in them.

    Args:
        dataset: The open raster of all maps.
        channels: Channels of each map by name, in the order of its bands.
        group: Maps (C, h, w) by name, and which pixels are valid (h, w), to objects.
    """

    def __init__(self, dataset: Any, channels: Mapping[str, int], group: Group) -> None:
        self._dataset, self._channels, self._group = dataset, dict(channels), group

    def __call__(self, window: Window) -> FoundObjects:
        """The objects of a window, told from its corner."""
        maps, valid = self.read(window)
        return self._group(maps, valid) if valid.any() else FoundObjects.none()

    def read(self, window: Window, names: Sequence[str] | None = None) -> tuple[dict[str, FloatArray], Any]:
        """Maps of a window by name, 0 where not valid, and which pixels are valid (h, w)."""
        place = ((window.row, window.row_stop), (window.col, window.col_stop))
        first, maps, valid = 1, {}, None
        for name, count in self._channels.items():
            if names is None or name in names:
                values = self._dataset.read(list(range(first, first + count)), window=place)
                valid = np.isfinite(values[0]) if valid is None else valid
                maps[name] = np.where(valid, values, np.float32(0)).astype(np.float32, copy=False)
            first += count
        assert valid is not None
        return maps, valid


@contextmanager
def open_heights(path: Path, grid: Grid) -> Generator[ReadHeights]:
    """Windows of a canopy height model, in the pixels of a grid: metres of the nearest pixel, NaN where not measured.

    Args:
        path: A raster of heights above ground.
        grid: Where the trees are told.

    Raises:
        DataError: If it cannot be read, or its place is not known and its pixels are others than those of the grid.
    """
    try:
        dataset = open_raster(path)
    except RasterioError as error:
        raise DataError(f"{path} cannot be read as a raster: {error}. Give a GeoTIFF of heights.") from error
    with dataset:
        same = dataset.shape == (grid.height, grid.width)
        if not same and (dataset.crs is None or grid.crs is None):
            raise DataError(
                f"{path} has {dataset.height} x {dataset.width} pixels and the image {grid.height} x {grid.width}, and "
                "where they lie is not said by both. Give rasters with a CRS, or of the same pixels."
            )
        if dataset.crs is None or grid.crs is None:
            yield _reader(dataset)
            return
        options = {"crs": CRS.from_wkt(grid.crs), "transform": grid.affine(), "height": grid.height}
        with WarpedVRT(
            dataset, width=grid.width, resampling=Resampling.nearest, dtype="float32", nodata=np.nan, **options
        ) as warped:
            yield _reader(warped)


def heights_around(found: FoundObjects, heights: ReadHeights) -> ReadHeights:
    """The same heights, read once for all objects given: many small reads would be slow."""
    if not len(found):
        return heights
    tops, lefts = [crop.row for crop in found.masks], [crop.col for crop in found.masks]
    bottom = max(crop.row + crop.pixels.shape[0] for crop in found.masks)
    right = max(crop.col + crop.pixels.shape[1] for crop in found.masks)
    row, col = min(tops), min(lefts)
    block = heights(Window(row, col, bottom - row, right - col))

    def read(window: Window) -> FloatArray:
        return block[window.row - row : window.row_stop - row, window.col - col : window.col_stop - col]

    return read


def _reader(dataset: Any) -> ReadHeights:
    def read(window: Window) -> FloatArray:
        place = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        values: FloatArray = dataset.read(1, window=place, masked=True).astype(np.float32).filled(np.nan)
        return values

    return read
