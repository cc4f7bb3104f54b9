"""Heights above ground on the pixels of an image, wherever the file has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.warp import Resampling, calculate_default_transform, reproject

from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError
from maskwright.objects import Crop, FoundObjects, join_objects
from maskwright.prediction.instances_source import heights_around, open_heights
from maskwright.types import Window

UTM = CRS.from_epsg(32724)
PLACE = rasterio.Affine(1.0, 0, 500_000, 0, -1.0, 8_300_000)
GRID = Grid(30, 40, PLACE[:6], UTM.to_wkt())


def _write(path: Path, values: np.ndarray, place: rasterio.Affine, crs: CRS | None, nodata: float | None) -> Path:
    shape = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": "float32", "nodata": nodata}
    with rasterio.open(path, "w", driver="GTiff", transform=place, crs=crs, **shape) as dataset:
        dataset.write(values.astype(np.float32), 1)
    return path


def test_heights_of_another_grid_lie_where_they_belong(tmp_path: Path) -> None:
    values = np.zeros((20, 20))
    values[10, 12] = 17.0  # two metres a pixel: rows 20 and 21, columns 24 and 25 from a corner 4 m to the left
    values[0] = -9999.0
    place = rasterio.Affine(2.0, 0, 499_996, 0, -2.0, 8_300_000)
    with open_heights(_write(tmp_path / "chm.tif", values, place, UTM, -9999.0), GRID) as read:
        found = read(Window(18, 18, 6, 6))
        assert sorted(zip(*np.nonzero(found == 17.0), strict=True)) == [(2, 2), (2, 3), (3, 2), (3, 3)]
        assert np.isnan(read(Window(0, 0, 2, 4))).all()
        assert np.isnan(read(Window(0, 36, 30, 4))).all()  # beyond the file


def test_heights_in_another_crs_are_found(tmp_path: Path) -> None:
    values = np.zeros((60, 80), np.float32)
    values[20:30, 30:40] = 9.0
    fine = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 8_300_000)
    degrees = CRS.from_epsg(4326)
    place, width, height = calculate_default_transform(UTM, degrees, 80, 60, 500_000, 8_299_970, 500_040, 8_300_000)
    turned = np.zeros((height, width), np.float32)
    there = {"src_transform": fine, "src_crs": UTM, "dst_transform": place, "dst_crs": degrees}
    reproject(values, turned, resampling=Resampling.nearest, **there)
    with open_heights(_write(tmp_path / "chm.tif", turned, place, degrees, None), GRID) as read:
        assert read(Window(11, 16, 3, 3)).min() == 9.0
        assert np.nan_to_num(read(Window(0, 0, 9, 14))).max() == 0.0


def test_heights_without_a_place_are_taken_pixel_by_pixel(tmp_path: Path) -> None:
    values = np.arange(1200.0).reshape(30, 40)
    with open_heights(_write(tmp_path / "chm.tif", values, PLACE, None, None), GRID) as read:
        np.testing.assert_array_equal(read(Window(3, 4, 2, 2)), values[3:5, 4:6])


def test_a_file_that_is_no_raster_is_said(tmp_path: Path) -> None:
    (tmp_path / "chm.tif").write_text("no raster")
    with pytest.raises(DataError, match="cannot be read as a raster"), open_heights(tmp_path / "chm.tif", GRID):
        pass


def test_heights_of_many_objects_are_read_once() -> None:
    values = np.arange(600.0, dtype=np.float32).reshape(20, 30)
    asked = []

    def read(window: Window) -> np.ndarray:
        asked.append(window)
        return values[window.row : window.row_stop, window.col : window.col_stop]

    crops = [Crop(5, 6, np.ones((3, 2), bool)), Crop(10, 1, np.ones((2, 8), bool))]
    parts = [
        FoundObjects(
            np.zeros((1, 4), np.float32),
            np.ones(1, np.int64),
            np.ones(1, np.float32),
            np.zeros((1, 2), np.float32),
            np.zeros(1, np.float32),
            (crop,),
        )
        for crop in crops
    ]
    around = heights_around(join_objects(parts), read)
    np.testing.assert_array_equal(around(Window(5, 6, 3, 2)), values[5:8, 6:8])
    np.testing.assert_array_equal(around(Window(10, 1, 2, 8)), values[10:12, 1:9])
    assert asked == [Window(5, 1, 7, 8)]
    assert heights_around(FoundObjects.none(), read) is read
