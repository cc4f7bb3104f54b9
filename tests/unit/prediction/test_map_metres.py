"""Rows of heights on their way to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image

from maskwright.prediction.map_metres import ENDINGS, _draw, _MetreSink
from maskwright.prediction.raster_stream import Band


class Kept:
    def __init__(self) -> None:
        self.planes: list[Any] = []

    def write_band(self, band: int, row: int, plane: np.ndarray) -> None:
        self.planes.append((band, row, plane.copy()))


def test_statistics_are_those_of_measured_pixels_and_the_rest_is_empty() -> None:
    files: Any = [Kept()]
    sink = _MetreSink(files)
    sink.write(Band(0, np.array([[[3.0, 5.0, 90.0]]], np.float32), np.array([[True, True, False]])))
    assert sink.facts() == {"valid_px": 2, "total": 8.0, "low": 3.0, "high": 5.0}
    band, row, plane = files[0].planes[0]
    assert (band, row) == (1, 0)
    assert np.isnan(plane[0, 2])
    again = _MetreSink(files)
    again.restore(sink.facts())
    again.write(Band(1, np.array([[[1.0]]], np.float32), np.array([[True]])))
    assert again.facts() == {"valid_px": 3, "total": 9.0, "low": 1.0, "high": 5.0}


def test_the_picture_is_the_relief_of_the_heights(tmp_path: Path) -> None:
    heights = np.tile(np.linspace(0, 30, 40, dtype=np.float32), (30, 1))
    profile = {"driver": "GTiff", "width": 40, "height": 30, "count": 1, "dtype": "float32", "crs": "EPSG:32616"}
    with rasterio.open(tmp_path / "h.tif", "w", transform=rasterio.Affine(1, 0, 0, 0, -1, 0), **profile) as file:
        file.write(heights, 1)
    _draw(tmp_path / "h.tif", tmp_path / "h.png", 1.0)
    assert Image.open(tmp_path / "h.png").size == (40, 30)
    assert "height.tif" in ENDINGS
