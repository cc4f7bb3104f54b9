from __future__ import annotations

import multiprocessing
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import Affine

from maskwright.data.sources.height_file import bulk_reading, open_heights, read_header, row_bands
from maskwright.errors import DataError, GridError
from maskwright.types import Window

WriteRaster = Callable[..., Path]

HEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4)
WHOLE = Window(0, 0, 3, 4)


def test_heights_are_read_as_they_are(write_raster: WriteRaster) -> None:
    with open_heights(write_raster("a.tif", HEIGHTS)) as file:
        assert file.read(WHOLE).tolist() == HEIGHTS.tolist()
        assert file.read(Window(1, 2, 2, 1)).tolist() == [[6.0], [10.0]]
        assert file.read(WHOLE).dtype == np.float32
        assert (file.grid.height, file.grid.width, file.grid.pixel_size_m) == (3, 4, 1.0)
        assert (file.nodata_used, file.notes) == (None, ())


def test_outside_the_raster_nothing_was_measured(write_raster: WriteRaster) -> None:
    file = open_heights(write_raster("a.tif", HEIGHTS))
    nan = np.nan
    found = file.read(Window(-1, 2, 3, 4))
    assert np.array_equal(found, [[nan] * 4, [2, 3, nan, nan], [6, 7, nan, nan]], equal_nan=True)
    assert np.isnan(file.read(Window(50, 50, 2, 2))).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32"])
def test_the_nodata_tag_becomes_nan_in_every_type(write_raster: WriteRaster, dtype: str) -> None:
    values = HEIGHTS.astype(dtype)
    values[1, 1] = -9999
    file = open_heights(write_raster("a.tif", values, nodata=-9999))
    expected = HEIGHTS.copy()
    expected[1, 1] = np.nan
    assert np.array_equal(file.read(WHOLE), expected, equal_nan=True)
    assert file.nodata_used == -9999


@pytest.mark.parametrize("stored", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_was_not_measured_whatever_the_tag(write_raster: WriteRaster, stored: float) -> None:
    values = HEIGHTS.copy()
    values[0, 0] = stored
    for nodata in (None, -9999.0):
        assert np.isnan(open_heights(write_raster("a.tif", values, nodata=nodata)).read(WHOLE)).sum() == 1


@pytest.mark.parametrize(
    ("dtype", "tag", "stored"), [("float32", -3.4e38, -3.4028235e38), ("float64", -1.7e308, -1.7976e308)]
)
def test_huge_nodata_values_are_recognised_although_tags_round_them(
    write_raster: WriteRaster, dtype: str, tag: float, stored: float
) -> None:
    values = HEIGHTS.astype(dtype)
    values[2, 3] = stored
    assert np.isnan(open_heights(write_raster("a.tif", values, nodata=tag)).read(WHOLE)).sum() == 1


def test_a_setting_replaces_the_tag_and_says_so(write_raster: WriteRaster) -> None:
    file = open_heights(write_raster("a.tif", HEIGHTS, nodata=3.0), nodata=5.0)
    assert np.isnan(file.read(WHOLE)).nonzero() == (np.array([1]), np.array([1]))
    assert file.notes == ("nodata 5 was set and replaces the file's tag 3",)


def test_the_tag_can_be_ignored(write_raster: WriteRaster) -> None:
    path = write_raster("a.tif", HEIGHTS, nodata=0.0)
    assert np.isnan(open_heights(path).read(WHOLE)).sum() == 1
    assert open_heights(path).notes == ("nodata is 0: every height of exactly 0 m counts as not measured",)
    assert not np.isnan(open_heights(path, "none").read(WHOLE)).any()
    assert open_heights(path, "none").notes == ()


def test_a_mask_band_is_respected(write_raster: WriteRaster) -> None:
    mask = np.full((3, 4), 255, np.uint8)
    mask[0] = 0
    file = open_heights(write_raster("a.tif", HEIGHTS, mask=mask))
    assert np.isnan(file.read(WHOLE)).sum(axis=1).tolist() == [4, 0, 0]


def test_scale_and_offset_of_the_file_are_applied_and_told(write_raster: WriteRaster) -> None:
    values = np.array([[100, 2550, -32768]], np.int16)
    file = open_heights(write_raster("a.tif", values, nodata=-32768, scale=0.01, offset=2.0))
    assert np.array_equal(file.read(Window(0, 0, 1, 3)), np.array([[3.0, 27.5, np.nan]], np.float32), equal_nan=True)
    assert file.notes == ("stored values are multiplied by 0.01 and shifted by 2, as the file says",)


@pytest.mark.parametrize("value", [-9999.0, -32768.0, -999.0, 9999.0, -3.4028235e38, 1e20])
def test_undeclared_nodata_is_refused_with_its_value_share_and_the_setting(
    write_raster: WriteRaster, value: float
) -> None:
    values = np.full((10, 10), 12.0, np.float32)
    values[0, :3] = value
    path = write_raster("a.tif", values)
    with pytest.raises(DataError) as caught:
        open_heights(path).read(Window(0, 0, 1, 5))
    text = str(caught.value)
    assert text.startswith(f"{path}: 3 pixels (3.00%) hold {value:g}, which is no height in metres")
    assert f"set data.nodata: {value:g}" in text
    assert np.isnan(open_heights(path, value).read(Window(0, 0, 10, 10))).sum() == 3


def test_another_value_than_the_declared_one_is_refused_too(write_raster: WriteRaster) -> None:
    path = write_raster("a.tif", np.array([[5, -9999, -32768]], np.int32), nodata=-9999)
    with pytest.raises(DataError, match=r"1 pixels \(33\.33%\) hold -32768, .* nodata is -9999"):
        open_heights(path).read(Window(0, 0, 1, 3))


def test_elevations_of_the_dead_sea_and_of_everest_are_heights(write_raster: WriteRaster) -> None:
    values = np.array([[-430.0, 8849.0]], np.float32)
    assert open_heights(write_raster("a.tif", values)).read(Window(0, 0, 1, 2)).tolist() == values.tolist()


def test_a_wrong_number_of_bands_is_refused_with_the_number(write_raster: WriteRaster) -> None:
    path = write_raster("rgb.tif", np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(DataError, match=r"rgb\.tif has 3 bands, a raster of heights has 1"):
        open_heights(path)


def test_a_missing_file_and_a_file_that_is_no_raster_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.tif does not exist"):
        open_heights(tmp_path / "none.tif")
    (tmp_path / "text.tif").write_text("hello")
    with pytest.raises(DataError, match=r"text\.tif is no raster that can be read"):
        open_heights(tmp_path / "text.tif")


def test_angles_feet_and_complex_numbers_are_refused(write_raster: WriteRaster) -> None:
    with pytest.raises(GridError, match=r"deg\.tif: Coordinates are angles"):
        open_heights(write_raster("deg.tif", HEIGHTS, crs="EPSG:4326", left=10, top=50, pixel_size=0.001))
    with pytest.raises(DataError, match=r"feet \(us-ft\).*0\.3048"):
        open_heights(write_raster("feet.tif", HEIGHTS, unit="us-ft"))
    with pytest.raises(DataError, match="type complex64"):
        open_heights(write_raster("complex.tif", HEIGHTS.astype(np.complex64)))


@pytest.mark.parametrize("options", [{}, {"compress": "deflate"}, {"compress": "lzw", "tiled": True}])
@pytest.mark.parametrize("keep", [0.9, 0.5])
def test_a_truncated_file_is_an_error_that_names_it(write_raster: WriteRaster, options: dict, keep: float) -> None:
    values = np.random.default_rng(0).uniform(0, 30, (600, 700)).astype(np.float32)
    path = write_raster("cut.tif", values, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(
        DataError, match=rf"{re.escape(str(path))} cannot be read at rows 0 to 600: it is damaged or cut"
    ):
        open_heights(path).read(Window(0, 0, 600, 700))


def test_a_file_that_vanishes_is_an_error_that_says_so(write_raster: WriteRaster) -> None:
    path = write_raster("a.tif", HEIGHTS)
    file = open_heights(path)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.tif is gone"):
        file.read(WHOLE)


def test_a_file_without_a_crs_is_taken_in_metres_and_one_without_a_place_too(write_raster: WriteRaster) -> None:
    file = open_heights(write_raster("a.tif", HEIGHTS, crs=None, pixel_size=1.25))
    assert file.grid.pixel_size_m == 1.25
    assert file.notes == ("no CRS: coordinates are taken as metres, so a pixel is 1.25 m wide",)
    bare = open_heights(write_raster("b.tif", HEIGHTS, crs=None, transform=Affine.identity()))
    assert bare.notes == ("no CRS and no position: a pixel is taken as 1 m, and maps made from it have no place",)


def test_pixels_that_are_not_square_are_told(write_raster: WriteRaster) -> None:
    file = open_heights(write_raster("a.tif", HEIGHTS, transform=Affine(1, 0, 5e5, 0, -2, 5e6)))
    assert file.notes == ("pixels are not square (1 by 2 units): lengths in pixels differ by direction",)


def test_values_under_nodata_change_nothing(write_raster: WriteRaster) -> None:
    values = HEIGHTS.copy()
    mask = np.full((3, 4), 255, np.uint8)
    mask[1] = 0
    garbage = values.copy()
    garbage[1] = [-1e30, 5e8, np.nan, -9999]
    first, second = (
        open_heights(write_raster(f"{name}.tif", array, mask=mask)).read(WHOLE)
        for name, array in (("a", values), ("b", garbage))
    )
    assert np.array_equal(first, second, equal_nan=True)


def test_bands_of_rows_cover_the_raster_once_in_whole_blocks(write_raster: WriteRaster) -> None:
    path = write_raster("a.tif", np.zeros((100, 64), np.float32), tiled=True, blockxsize=16, blockysize=16)
    file = open_heights(path)
    bands = list(row_bands(file.grid, file.block_rows, band_bytes=40 * 64 * 4))
    assert [(band.row, band.height) for band in bands] == [(0, 32), (32, 32), (64, 32), (96, 4)]
    assert [band.height for band in row_bands(file.grid, 16, band_bytes=1)] == [16] * 6 + [4]
    with bulk_reading(), file:
        assert sum(file.read(band).size for band in bands) == 6400


def test_an_open_file_can_be_pickled_and_read_in_a_forked_process(write_raster: WriteRaster) -> None:
    file = open_heights(write_raster("a.tif", HEIGHTS))
    file.read(WHOLE)
    assert pickle.loads(pickle.dumps(file)).read(WHOLE).tolist() == HEIGHTS.tolist()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(file.read(WHOLE).tolist()))
    child.start()
    assert queue.get(timeout=20) == HEIGHTS.tolist()
    child.join()
    assert file.read(WHOLE).tolist() == HEIGHTS.tolist()


def test_the_header_is_read_without_any_pixel(write_raster: WriteRaster) -> None:
    header = read_header(write_raster("a.tif", HEIGHTS, nodata=-1.0))
    assert (header.dtype, header.tag, header.scale, header.offset, header.has_mask) == (
        "float32",
        -1.0,
        1.0,
        0.0,
        False,
    )
