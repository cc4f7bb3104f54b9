"""Rasters written in row bands, and their last step: a Cloud-Optimised GeoTIFF with overviews."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError  # what copying raises as it is; rasterio.errors does not have it
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow

from maskwright.data.sources.interface import Grid
from maskwright.errors import PredictionError
from maskwright.files import explain_os_error

__all__ = [
    "BLOCK_PX",
    "RowWriter",
    "bytes_on_disk",
    "check_whole",
    "copy_to_cog",
    "grid_of",
    "mask_reader",
    "open_raster",
    "probability_reader",
    "remove_rows",
    "rows_of",
]

BLOCK_PX = 512
_CACHE_BYTES = 4 * 2**20


class RowWriter:
    """A raster that is filled from top to bottom, to be read again or copied; used inside ``with``.

    The rows lie uncompressed in a plain file, band after band, and ``path`` is a header that lets GDAL read them. What
    was written stands there whatever becomes of the process, so that another one can go on with it.

    Args:
        path: The header; the rows lie beside it, see :func:`rows_of`.
        grid: Its pixels on the ground.
        dtype: ``float32`` or ``uint8``.
        nodata: Value meaning "not measured".
        names: Description of each band.
        tags: Facts kept in the file.
        colors: Colours of the values of the one band.
        unit: Of the values.
        keep: Go on with the rows that stand there.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        *,
        dtype: str,
        nodata: float,
        names: Sequence[str],
        tags: Mapping[str, str] | None = None,
        colors: Mapping[int, tuple[int, ...]] | None = None,
        unit: str | None = None,
        keep: bool = False,
    ) -> None:
        self.path, self._grid, self._dtype, self._nodata = path, grid, np.dtype(dtype), nodata
        self._names, self._tags, self._colors, self._unit = tuple(names), dict(tags or {}), colors, unit
        self._keep = keep
        self._file: Any = None

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self._grid.height * self._grid.width * len(self._names) * self._dtype.itemsize

    def __enter__(self) -> RowWriter:
        rows = rows_of(self.path)
        try:
            if not self._keep:  # a new file, so that who still reads the old one is not disturbed
                rows.unlink(missing_ok=True)
            self._file = open(rows, "r+b" if rows.exists() else "x+b", buffering=0)
            self._file.truncate(self.size)
            self.path.write_text(self._header(), encoding="utf-8")
        except OSError as error:
            if self._file is not None:
                self._file.close()
            raise PredictionError(explain_os_error(error, self.path)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, row: int, values: np.ndarray) -> None:
        """Write (K, h, W), all bands, with the first row at ``row``."""
        for band, plane in enumerate(values, start=1):
            self.write_band(band, row, plane)

    def write_band(self, band: int, row: int, values: np.ndarray) -> None:
        """Write (h, W) of one band, counted from 1, with the first row at ``row``."""
        height, width = self._grid.height, self._grid.width
        rows: Any = np.ascontiguousarray(values, self._dtype)
        data = memoryview(rows).cast("B")
        place = ((band - 1) * height + row) * width * self._dtype.itemsize
        try:
            self._file.seek(place)
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise PredictionError(explain_os_error(error, self.path)) from error

    def sync(self) -> None:
        """Bring the rows to the disk, so that they outlive a power cut."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise PredictionError(explain_os_error(error, self.path)) from error

    def _header(self) -> str:
        """A virtual raster over the plain file."""
        grid, kind = self._grid, {"float32": "Float32", "uint8": "Byte"}[self._dtype.name]
        root = Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
        if grid.crs is not None:
            SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = grid.crs
        a, b, c, d, e, f = grid.transform
        if grid.is_georeferenced:
            SubElement(root, "GeoTransform").text = ", ".join(repr(value) for value in (c, a, b, f, d, e))
        facts = SubElement(root, "Metadata")
        for key, value in self._tags.items():
            SubElement(facts, "MDI", key=key).text = value
        size = self._dtype.itemsize
        for index, name in enumerate(self._names):
            band = SubElement(root, "VRTRasterBand", dataType=kind, band=str(index + 1), subClass="VRTRawRasterBand")
            SubElement(band, "Description").text = name
            SubElement(band, "NoDataValue").text = repr(float(self._nodata))
            if self._unit is not None:
                SubElement(band, "UnitType").text = self._unit
            if self._colors is not None:
                SubElement(band, "ColorInterp").text = "Palette"
                table = SubElement(band, "ColorTable")
                for code in range(max(self._colors) + 1):
                    parts = zip(("c1", "c2", "c3", "c4"), self._colors.get(code, (0, 0, 0, 255)), strict=True)
                    SubElement(table, "Entry", {key: str(part) for key, part in parts})
            SubElement(band, "SourceFilename", relativeToVRT="1").text = rows_of(self.path).name
            SubElement(band, "ImageOffset").text = str(index * grid.height * grid.width * size)
            SubElement(band, "PixelOffset").text = str(size)
            SubElement(band, "LineOffset").text = str(grid.width * size)
            SubElement(band, "ByteOrder").text = "LSB" if sys.byteorder == "little" else "MSB"
        return tostring(root, encoding="unicode")


def rows_of(path: Path) -> Path:
    """The plain file behind the header that a :class:`RowWriter` writes to ``path``."""
    return path.with_name(path.name + ".rows")


def remove_rows(path: Path) -> None:
    """Remove what a :class:`RowWriter` wrote, header and rows."""
    path.unlink(missing_ok=True)
    rows_of(path).unlink(missing_ok=True)


def bytes_on_disk(pixels: int, bands: float, finals: float) -> int:
    """What maps take at most while they are made: rows in bands, their copies, and overviews, a third of a copy.

    Args:
        pixels: Pixels of all bands of one kind.
        bands: Bytes of the uncompressed rows per pixel.
        finals: Bytes of the files made of them per pixel; compressed they are smaller, but by how much nobody knows.
    """
    return int(pixels * (bands + finals * 4 / 3))


def copy_to_cog(source: Path, path: Path, *, resampling: str) -> None:
    """Copy a GeoTIFF to a Cloud-Optimised one: tiled, compressed, with overviews.

    Args:
        source: The raster to copy; bands, CRS, transform, nodata and descriptions are kept.
        path: The file to write.
        resampling: How overviews are made: ``average`` for probabilities; ``nearest`` for masks, which keeps gaps
            inside gaps at every scale.

    Raises:
        PredictionError: If the file cannot be written whole.
    """
    try:
        with open_raster(source) as rows:  # GDAL makes a row of blocks at once
            block_bytes = rows.width * BLOCK_PX * sum(np.dtype(dtype).itemsize for dtype in rows.dtypes)
        with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES + block_bytes):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            rasterio.shutil.copy(
                source,
                path,
                driver="COG",
                blocksize=BLOCK_PX,
                compress="DEFLATE",
                level=1,  # three times as fast as the default, 3 % larger
                predictor="YES",
                overview_resampling=resampling.upper(),
                bigtiff="IF_SAFER",
                num_threads="ALL_CPUS",
            )
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise _not_written(path, error) from error
    check_whole(path)


def check_whole(path: Path) -> None:
    """Look at the end of a raster just written: on a full disk GDAL may close a file without a word.

    Raises:
        PredictionError: If it was cut short.
    """
    try:
        with open_raster(path) as written:
            written.read(window=RasterWindow(written.width - 1, written.height - 1, 1, 1))
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise _not_written(path, error) from error


def mask_reader(dataset: Any, band: int, code: int = 1) -> Callable[[int, int], npt.NDArray[np.bool_]]:
    """Rows of one band of a mask as bool, True where it holds ``code``; by default in gaps."""

    def read(start: int, stop: int) -> npt.NDArray[np.bool_]:
        rows: npt.NDArray[np.bool_] = dataset.read(band, window=((start, stop), (0, dataset.width))) == code
        return rows

    return read


def probability_reader(dataset: Any, band: int) -> Callable[[int, int], npt.NDArray[np.float32]]:
    """Rows of one band of a raster of probabilities."""

    def read(start: int, stop: int) -> npt.NDArray[np.float32]:
        rows: npt.NDArray[np.float32] = dataset.read(band, window=((start, stop), (0, dataset.width)))
        return rows

    return read


def grid_of(dataset: Any) -> Grid:
    """Where an open raster lies."""
    a, b, c, d, e, f = (float(value) for value in dataset.transform[:6])
    return Grid(dataset.height, dataset.width, (a, b, c, d, e, f), dataset.crs.to_wkt() if dataset.crs else None)


def open_raster(path: str | Path) -> Any:
    """Open a raster for reading; one without a place on the ground is as good."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def _not_written(path: Path, error: Exception) -> PredictionError:
    reason = str(error.__cause__ or error).rstrip(".")
    return PredictionError(
        f"{path} could not be written: {reason}. Free some space on that disk or choose another folder."
    )
