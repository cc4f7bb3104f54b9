"""GeoTIFFs written in row bands, and their last step: a Cloud-Optimised GeoTIFF with overviews."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError  # what copying raises as it is; rasterio.errors does not have it
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow

from maskwright.data.sources.interface import Grid
from maskwright.errors import PredictionError

__all__ = [
    "BLOCK_PX",
    "RowWriter",
    "check_whole",
    "copy_to_cog",
    "grid_of",
    "mask_reader",
    "open_raster",
    "probability_reader",
]

BLOCK_PX = 512


class RowWriter:
    """An uncompressed GeoTIFF that is filled from top to bottom, to be read again or copied; used inside ``with``.

    Args:
        path: The file.
        grid: Its pixels on the ground.
        dtype: ``float32`` or ``uint8``.
        nodata: Value meaning "not measured".
        names: Description of each band.
        tags: Facts kept in the file.
        colors: Colours of the values of the one band.
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
    ) -> None:
        self.path = path
        self._profile: dict[str, Any] = {
            "driver": "GTiff",
            "height": grid.height,
            "width": grid.width,
            "count": len(names),
            "dtype": dtype,
            "nodata": nodata,
            "crs": grid.crs,
            "transform": grid.affine(),
            "interleave": "band",
            "bigtiff": "IF_SAFER",
        }
        self._names, self._tags, self._colors = tuple(names), dict(tags or {}), colors
        self._dataset: Any = None

    def __enter__(self) -> RowWriter:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            self._dataset = rasterio.open(self.path, "w", **self._profile)
        self._dataset.descriptions = self._names
        if self._tags:
            self._dataset.update_tags(**self._tags)
        if self._colors is not None:
            self._dataset.write_colormap(1, dict(self._colors))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._dataset.close()
        if kind is None:
            check_whole(self.path)

    def write(self, row: int, values: np.ndarray) -> None:
        """Write (K, h, W), all bands, with the first row at ``row``."""
        self._write(row, values, None)

    def write_band(self, band: int, row: int, values: np.ndarray) -> None:
        """Write (h, W) of one band, counted from 1, with the first row at ``row``."""
        self._write(row, values, band)

    def _write(self, row: int, values: np.ndarray, band: int | None) -> None:
        window = RasterWindow(0, row, values.shape[-1], values.shape[-2])
        try:
            self._dataset.write(values, band, window=window)
        except (RasterioError, CPLE_BaseError, OSError) as error:
            raise _not_written(self.path, error) from error


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
        with warnings.catch_warnings():
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
