"""GeoTIFFs that appear under their name only when complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rasterio
from rasterio.errors import RasterioError

from maskwright.errors import RunError
from maskwright.files import temporary_path

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Grid

__all__ = ["raster_draft"]

_BLOCK_PX = 256


@contextmanager
def raster_draft(path: Path, grid: Grid, *, dtype: str, nodata: float | None, bands: int = 1) -> Iterator[Any]:
    """A GeoTIFF under a temporary name, renamed when complete and removed on any failure.

    Args:
        path: Its name at the end.
        grid: Its pixels on the ground.
        dtype: Name of the type of its values.
        nodata: Value meaning "not measured", or None.
        bands: Number of bands.

    Raises:
        RunError: If it cannot be written.
    """
    draft = temporary_path(path)
    profile = {
        "driver": "GTiff",
        "width": grid.width,
        "height": grid.height,
        "count": bands,
        "dtype": dtype,
        "nodata": nodata,
        "crs": grid.crs,
        "transform": grid.affine(),
        "compress": "deflate",
        "tiled": True,
        "blockxsize": _BLOCK_PX,
        "blockysize": _BLOCK_PX,
    }
    try:
        with rasterio.open(draft, "w", **profile) as file:
            yield file
        draft.replace(path)
    except (OSError, RasterioError) as cause:
        raise RunError(
            f"{path} cannot be written: {cause}. Check the free space and the rights of the folder."
        ) from cause
    finally:
        draft.unlink(missing_ok=True)
