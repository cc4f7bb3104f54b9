"""Two maps of the same ground, from Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from maskwright.errors import PredictionError
from maskwright.workflows.change import change


def gaps(path: Path, values: list[list[int]]) -> Path:
    array = np.array(values, np.uint8)
    options = {"crs": "EPSG:32616", "transform": from_origin(0, 10, 1, 1), "nodata": 255}
    with rasterio.open(path, "w", "GTiff", array.shape[1], array.shape[0], 1, dtype="uint8", **options) as file:
        file.write(array, 1)
        file.descriptions = ("5 m",)
    return path


def test_a_map_that_is_not_there_is_refused(tmp_path: Path) -> None:
    before = gaps(tmp_path / "a_gaps.tif", [[0, 1], [0, 0]])
    with pytest.raises(PredictionError, match=r"b_gaps.tif"):
        change(before, tmp_path / "b_gaps.tif", tmp_path / "out")


def test_what_opened_closed_and_stayed_is_written(tmp_path: Path) -> None:
    before = gaps(tmp_path / "a_gaps.tif", [[1, 1, 0], [0, 0, 255]])
    after = gaps(tmp_path / "b_gaps.tif", [[1, 0, 1], [0, 0, 1]])
    result = change(before, after, tmp_path / "out")
    with rasterio.open(result.files["raster"]) as file:
        found = file.read(1)
    assert found[0, 0] != found[0, 1] != found[0, 2]  # stayed, closed, opened
    assert found[1, 0] == found[1, 1]  # never a gap
    assert found[1, 2] == 255  # not valid before, so nothing is known
