"""Writing small rasters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

WriteRaster = Callable[..., Path]


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """Write ``values`` (H, W) or (bands, H, W) to ``tmp_path / name``; georeferenced unless told otherwise."""

    def write(
        name: str,
        values: np.ndarray,
        *,
        left: float = 500_000.0,
        top: float = 5_000_000.0,
        pixel_size: float = 1.0,
        crs: str | None = "EPSG:32633",
        nodata: float | None = None,
        transform: Affine | None = None,
        unit: str | None = None,
        scale: float | None = None,
        offset: float | None = None,
        mask: np.ndarray | None = None,
        **options: object,
    ) -> Path:
        path = tmp_path / name
        bands = values if values.ndim == 3 else values[None]
        profile = {
            "driver": "GTiff",
            "count": len(bands),
            "height": bands.shape[1],
            "width": bands.shape[2],
            "dtype": bands.dtype.name,
            "crs": crs,
            "transform": transform or Affine(pixel_size, 0, left, 0, -pixel_size, top),
            "nodata": nodata,
            **options,
        }
        with (
            warnings.catch_warnings(),
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        ):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", **profile) as dataset:
                dataset.write(bands)
                if unit is not None:
                    dataset.units = (unit,)
                if scale is not None:
                    dataset.scales = (scale,)
                if offset is not None:
                    dataset.offsets = (offset,)
                if mask is not None:
                    dataset.write_mask(mask)
        return path

    return write
