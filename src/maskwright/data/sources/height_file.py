"""One file of heights: what its header says, and windows of it in metres with NaN where nothing was measured."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow

from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError, GridError
from maskwright.types import Window

__all__ = ["HIGHEST_M", "LOWEST_M", "Header", "HeightFile", "bulk_reading", "open_heights", "read_header", "row_bands"]

LOWEST_M = -999.0  # at or below this no ground on Earth: an undeclared nodata
HIGHEST_M = 9000.0  # above this neither
_HUGE = 1e30  # nodata tags such as -3.4e38 are often rounded, so everything of that size is meant
_BAND_BYTES = 32 * 2**20
_BLOCK_CACHE_BYTES = 64 * 2**20
_FEET = ("ft", "foot", "feet", "us-ft", "us survey foot", "us survey feet")


@dataclass(frozen=True, slots=True)
class Header:
    """What a raster says about itself before any pixel is read.

    Attributes:
        path: The file.
        grid: Its pixels on the ground.
        dtype: Name of its data type.
        tag: Its nodata tag, or None.
        block_rows: Rows of its blocks; reading multiples of them decodes nothing twice.
        scale: Stored values times this, plus ``offset``, are metres.
        offset: See ``scale``.
        has_mask: True if a mask band says which pixels were measured.
    """

    path: Path
    grid: Grid
    dtype: str
    tag: float | None
    block_rows: int
    scale: float
    offset: float
    has_mask: bool


class HeightFile:
    """Heights of one raster, read window by window; opened when first read, again in every process.

    Not safe for use by two threads at once.

    Args:
        header: From :func:`read_header`.
        nodata: Value meaning "not measured"; None or ``"tag"``: the file's tag; ``"none"``: no value means that.

    Attributes:
        header: As given.
        nodata_used: The value that counts as not measured, or None. NaN and infinity never count as measured.
        notes: What a person should know about the file, a sentence each, without its name.
    """

    def __init__(self, header: Header, nodata: float | str | None = None) -> None:
        self.header = header
        self.nodata_used = _nodata_used(header, nodata)
        self.notes = _notes(header, nodata, self.nodata_used)
        self._dataset: Any = None
        self._process = 0

    @property
    def path(self) -> Path:
        return self.header.path

    @property
    def grid(self) -> Grid:
        return self.header.grid

    @property
    def block_rows(self) -> int:
        return self.header.block_rows

    def read(self, window: Window, *, out: np.ndarray | None = None) -> np.ndarray:
        """Heights in metres, (H, W) float32, NaN where not measured and outside the raster.

        Args:
            window: What is read.
            out: (H, W) float32, contiguous: where the heights go if they need no detour; look at what is returned.

        Raises:
            DataError: If the file is damaged or gone, or holds a value that cannot be a height.
        """
        inside = window.intersection(self.grid.window)
        if inside == window:
            return self._read_inside(window, out if self.header.dtype == "float32" else None)
        out = np.full((window.height, window.width), np.nan, np.float32)
        if inside is not None:
            row, col = inside.row - window.row, inside.col - window.col
            out[row : row + inside.height, col : col + inside.width] = self._read_inside(inside)
        return out

    def close(self) -> None:
        """Give the file handle back; the next read opens it again."""
        if self._dataset is not None and self._process == os.getpid():
            self._dataset.close()
        self._dataset = None

    def __enter__(self) -> HeightFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_dataset": None, "_process": 0}

    def _read_inside(self, window: Window, out: np.ndarray | None = None) -> np.ndarray:
        values = self._stored(window, out=out)
        missing = self._missing(values, window)
        if values.dtype.kind == "f":
            np.copyto(values, np.nan, where=missing)
            self._refuse_impossible(values, np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None))
            heights = values.astype(np.float32, copy=False)
        else:
            measured = values[~missing]
            if measured.size:
                self._refuse_impossible(values, measured.min(), measured.max())
            heights = values.astype(np.float32)
            np.copyto(heights, np.nan, where=missing)
        if self.header.scale != 1.0 or self.header.offset != 0.0:
            heights *= np.float32(self.header.scale)
            heights += np.float32(self.header.offset)
        return heights

    def _stored(self, window: Window, *, mask: bool = False, out: np.ndarray | None = None) -> np.ndarray:
        """Values as stored, in ``out`` if given; with ``mask`` those of the mask band (0 where not measured)."""
        part = RasterWindow(window.col, window.row, window.width, window.height)
        try:
            if self._dataset is None or self._process != os.getpid():
                self._dataset, self._process = _open(self.path), os.getpid()
            values: np.ndarray = (
                self._dataset.read_masks(1, window=part) if mask else self._dataset.read(1, window=part, out=out)
            )
        except (RasterioError, OSError) as error:
            reason = str(error.__cause__ or error)
            if not self.path.exists():
                raise DataError(f"{self.path} is gone. Put the file back or remove the site.") from error
            raise DataError(
                f"{self.path} cannot be read at rows {window.row} to {window.row_stop}: it is damaged or cut short "
                f"({reason}). Copy or download the file again."
            ) from error
        return values

    def _missing(self, values: np.ndarray, window: Window) -> np.ndarray:
        nodata = self.nodata_used
        missing: np.ndarray = ~np.isfinite(values)
        if nodata is not None and math.isfinite(nodata):
            missing |= np.abs(values) > _HUGE if abs(nodata) > _HUGE else values == nodata
        if self.header.has_mask:
            missing |= self._stored(window, mask=True) == 0
        return missing

    def _refuse_impossible(self, values: np.ndarray, low: float, high: float) -> None:
        scale, offset = self.header.scale, self.header.offset
        for value in (float(low), float(high)):
            if not LOWEST_M < value * scale + offset <= HIGHEST_M and not math.isnan(value):
                raise DataError(self._impossible(value))

    def _impossible(self, value: float) -> str:
        count = 0
        for window in row_bands(self.grid, self.block_rows):
            count += int(np.count_nonzero(self._stored(window) == value))
        share = count / (self.grid.height * self.grid.width)
        declared = "no nodata value is declared" if self.nodata_used is None else f"nodata is {self.nodata_used:g}"
        return (
            f"{self.path}: {count} pixels ({share:.2%}) hold {value:g}, which is no height in metres, and {declared}. "
            f"If that means 'not measured', set data.nodata: {value:g} (in a command --nodata {value:g}), or write it "
            "into the file as its nodata tag."
        )


def open_heights(path: Path | str, nodata: float | str | None = None) -> HeightFile:
    """Open a single-band raster of heights in metres for reading by window.

    Args:
        path: A GeoTIFF, or any raster GDAL reads.
        nodata: Value meaning "not measured"; None or ``"tag"``: the file's tag; ``"none"``: no value means that.

    Raises:
        DataError: If the file is missing, unreadable, has several bands, or no metres.
        GridError: If its coordinates are angles.
    """
    return HeightFile(read_header(Path(path)), nodata)


def read_header(path: Path) -> Header:
    """What a raster of heights says about itself.

    Raises:
        DataError: If the file is missing, unreadable, has several bands, or no metres.
        GridError: If its coordinates are angles.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist. Check the path, or remove the site.")
    try:
        with _open(path) as dataset:
            if dataset.count != 1:
                raise DataError(
                    f"{path} has {dataset.count} bands, a raster of heights has 1. "
                    "Write the band of heights to a file of its own."
                )
            header = _header(path, dataset)
            unit = (dataset.units[0] or "").strip().lower()
    except (RasterioError, OSError) as error:
        raise DataError(f"{path} is no raster that can be read: {error}. Copy or download the file again.") from error
    if np.dtype(header.dtype).kind not in "fiu":
        raise DataError(
            f"{path} holds values of type {header.dtype}, heights are plain numbers. Convert it to float32."
        )
    if unit in _FEET:
        raise DataError(f"{path} holds heights in feet ({unit}). Convert it to metres (times 0.3048).")
    try:
        _ = header.grid.metres_per_unit
    except GridError as error:
        raise GridError(f"{path}: {error}") from error
    return header


def bulk_reading() -> Any:
    """A ``with`` block for reading whole rasters with a small cache of blocks; threads each read rows of their own.

    GDAL's own cache would grow to a twentieth of the machine's memory, although each block is asked for once.
    """
    return rasterio.Env(GDAL_CACHEMAX=_BLOCK_CACHE_BYTES)


def row_bands(grid: Grid, block_rows: int, *, band_bytes: int = _BAND_BYTES) -> Iterator[Window]:
    """The raster from top to bottom in windows of whole blocks, about ``band_bytes`` of float32 each."""
    rows = max(1, band_bytes // (4 * grid.width) // block_rows) * block_rows
    for row in range(0, grid.height, rows):
        yield Window(row, 0, min(rows, grid.height - row), grid.width)


def _open(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # said in the notes instead
        return rasterio.open(path)


def _header(path: Path, dataset: Any) -> Header:
    return Header(
        path=path,
        grid=Grid(
            height=dataset.height,
            width=dataset.width,
            transform=tuple(float(value) for value in dataset.transform[:6]),  # type: ignore[arg-type]
            crs=dataset.crs.to_wkt() if dataset.crs else None,
        ),
        dtype=dataset.dtypes[0],
        tag=None if dataset.nodata is None else float(dataset.nodata),
        block_rows=int(dataset.block_shapes[0][0]),
        scale=float(dataset.scales[0]),
        offset=float(dataset.offsets[0]),
        has_mask=MaskFlags.per_dataset in dataset.mask_flag_enums[0],
    )


def _nodata_used(header: Header, nodata: float | str | None) -> float | None:
    if nodata is None or nodata == "tag":
        return header.tag
    if nodata == "none":
        return None
    if isinstance(nodata, str):
        raise DataError(f"nodata {nodata!r} for {header.path} is no number; write a number, tag or none.")
    return float(nodata)


def _notes(header: Header, nodata: float | str | None, used: float | None) -> tuple[str, ...]:
    notes = []
    grid, (x, y) = header.grid, header.grid.pixel_size
    if not grid.is_georeferenced:
        notes.append("no CRS and no position: a pixel is taken as 1 m, and maps made from it have no place")
    elif grid.crs is None:
        notes.append(f"no CRS: coordinates are taken as metres, so a pixel is {x:g} m wide")
    if abs(x - y) > 0.01 * max(x, y):
        notes.append(f"pixels are not square ({x:g} by {y:g} units): lengths in pixels differ by direction")
    if header.scale != 1.0 or header.offset != 0.0:
        notes.append(
            f"stored values are multiplied by {header.scale:g} and shifted by {header.offset:g}, as the file says"
        )
    if used == 0.0:
        notes.append("nodata is 0: every height of exactly 0 m counts as not measured")
    if isinstance(nodata, float | int) and header.tag is not None and not _same(header.tag, float(nodata)):
        notes.append(f"nodata {nodata:g} was set and replaces the file's tag {header.tag:g}")
    return tuple(notes)


def _same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))
