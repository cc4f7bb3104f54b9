from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform, transform_bounds

from maskwright.data.sources import Grid, open_heights
from maskwright.data.sources.alignment import differences, ground_ids, offset_units, overlaps, read_onto
from maskwright.types import Window

WriteRaster = Callable[..., Path]

UTM33, UTM32 = CRS.from_epsg(32633).to_wkt(), CRS.from_epsg(32632).to_wkt()


def _grid(
    left: float = 500_000.0,
    top: float = 5_000_000.0,
    size: tuple[int, int] = (100, 100),
    pixel_size: float = 1.0,
    crs: str | None = UTM33,
) -> Grid:
    return Grid(*size, (pixel_size, 0.0, left, 0.0, -pixel_size, top), crs)


def test_equal_grids_do_not_differ() -> None:
    assert differences(_grid(), _grid()) == ()
    assert differences(_grid(), _grid(crs=None)) == ()
    assert offset_units(_grid(), _grid()) == 0.0


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (_grid(crs=UTM32), "CRS EPSG:32632 against EPSG:32633"),
        (_grid(pixel_size=2.0), "pixel size 2 x 2 against 1 x 1"),
        (_grid(pixel_size=1.02), "pixel size 1.02 x 1.02 against 1 x 1"),
        (_grid(size=(99, 100)), "99 x 100 pixels against 100 x 100"),
        (_grid(left=500_000.6), "shifted by 0.6 units"),
        (_grid(top=5_000_300.0), "shifted by 300 units"),
        (
            Grid(100, 100, (1.0, 0.0, 500_000.0, 0.0, 1.0, 4_999_900.0), UTM33),
            "pixel size 1 x 1 (flipped) against 1 x 1",
        ),
    ],
)
def test_every_departure_is_named(other: Grid, said: str) -> None:
    assert differences(_grid(), other)[0] == said


def test_shifts_within_a_tenth_of_a_pixel_and_one_unit_are_tolerated() -> None:
    assert differences(_grid(), _grid(left=500_000.09)) == ()
    assert differences(_grid(), _grid(left=500_000.11)) == ("shifted by 0.11 units",)
    assert differences(_grid(pixel_size=5), _grid(left=500_000.4, pixel_size=5)) == ()
    assert differences(_grid(pixel_size=20), _grid(left=500_001.1, pixel_size=20)) == ("shifted by 1.1 units",)
    assert differences(_grid(), _grid(pixel_size=1.0005)) == ()


def test_a_crs_with_a_vertical_part_is_the_same_place() -> None:
    compound = CRS.from_string("EPSG:32633+5773").to_wkt()
    assert differences(_grid(), _grid(crs=compound)) == ()


def test_overlap_is_more_than_a_shared_edge() -> None:
    assert overlaps(_grid(), _grid(left=500_099.0))
    assert not overlaps(_grid(), _grid(left=500_100.0))
    assert not overlaps(_grid(), _grid(left=600_000.0))


def test_overlap_is_seen_across_coordinate_systems() -> None:
    left, _, _, top = transform_bounds("EPSG:32633", "EPSG:32632", *_grid().bounds)
    assert overlaps(_grid(), _grid(left, top, crs=UTM32))
    assert not overlaps(_grid(), _grid(left + 5000, top, crs=UTM32))


def _plane(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (0.3 * x + 0.2 * y).astype(np.float32)


def _source(write_raster: WriteRaster, pixel_size: float = 0.5, hole: bool = False):
    at = (np.arange(200) + 0.5) * pixel_size
    heights = _plane(at[None, :], at[:, None])
    if hole:
        heights[50:60, 50:60] = -9999
    return open_heights(write_raster("source.tif", heights, pixel_size=pixel_size, nodata=-9999))


def test_a_plane_is_resampled_to_the_same_plane(write_raster: WriteRaster) -> None:
    file = _source(write_raster)
    grid = _grid(500_000.2, 4_999_999.7, (90, 90))
    out = read_onto(file, grid, grid.window)
    expected = _plane(0.2 + np.arange(90)[None, :] + 0.5, 0.3 + np.arange(90)[:, None] + 0.5)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, expected, atol=0.06)  # the outermost pixels know one side only
    np.testing.assert_allclose(out[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-3)


def test_windows_of_a_resampled_raster_agree_with_the_whole(write_raster: WriteRaster) -> None:
    file = _source(write_raster, hole=True)
    for grid in (_grid(500_000.2, 4_999_999.7, (90, 90)), _grid(499_990.0, 5_000_010.0, (300, 300), 0.4)):
        whole = read_onto(file, grid, grid.window)
        part = read_onto(file, grid, Window(10, 20, 30, 40))
        np.testing.assert_allclose(part, whole[10:40, 20:60], atol=1e-5)


def test_nodata_never_enters_the_interpolation_and_outside_nothing_is_measured(write_raster: WriteRaster) -> None:
    file = _source(write_raster, hole=True)
    grid = _grid(499_990.0, 5_000_010.0, (120, 120))
    out = read_onto(file, grid, grid.window)
    measured = np.zeros((120, 120), bool)
    measured[10:110, 10:110] = True
    measured[35:40, 35:40] = False  # pixels 50 to 60 of half a metre
    assert np.array_equal(np.isfinite(out), measured)
    assert np.nanmin(out) >= 0
    assert np.nanmax(out) <= 50


def test_garbage_under_nodata_changes_nothing_resampled(write_raster: WriteRaster) -> None:
    heights = np.full((50, 50), 10.0, np.float32)
    mask = np.full((50, 50), 255, np.uint8)
    mask[20:30, 20:30] = 0
    outs = []
    for name, garbage in (("a.tif", 10.0), ("b.tif", 1e30)):
        heights[20:30, 20:30] = garbage
        grid = _grid(500_000.3, 4_999_999.7, (45, 45))
        outs.append(read_onto(open_heights(write_raster(name, heights, mask=mask)), grid, grid.window))
    assert np.array_equal(outs[0], outs[1], equal_nan=True)


def test_heights_are_carried_into_another_coordinate_system(write_raster: WriteRaster) -> None:
    at = (np.arange(200) + 0.5) * 1.0
    file = open_heights(write_raster("a.tif", _plane(at[None, :], at[:, None])))
    left, _, right, top = transform_bounds("EPSG:32633", "EPSG:32632", *file.grid.bounds)
    grid = _grid(left, top, (60, 60), (right - left) / 60, UTM32)
    out = read_onto(file, grid, Window(20, 20, 20, 20))
    rows, cols = np.meshgrid(np.arange(20, 40) + 0.5, np.arange(20, 40) + 0.5, indexing="ij")
    size = grid.pixel_size[0]
    xs, ys = transform("EPSG:32632", "EPSG:32633", (left + cols * size).ravel(), (top - rows * size).ravel())
    expected = _plane(np.array(xs) - 500_000, 5_000_000 - np.array(ys)).reshape(20, 20)
    np.testing.assert_allclose(out, expected, atol=0.05)


def test_scenes_that_overlap_in_a_chain_show_one_ground() -> None:
    grids = {"c": _grid(500_160.0), "a": _grid(), "b": _grid(500_080.0), "far": _grid(600_000.0)}
    assert ground_ids(grids, {}) == {"c": "a", "a": "a", "b": "a", "far": "far"}


def test_neighbours_that_share_an_edge_are_two_grounds() -> None:
    assert ground_ids({"a": _grid(), "b": _grid(500_100.0)}, {}) == {"a": "a", "b": "b"}


def test_dates_in_two_coordinate_systems_show_one_ground() -> None:
    left, _, _, top = transform_bounds("EPSG:32633", "EPSG:32632", *_grid().bounds)
    assert ground_ids({"2012": _grid(), "2019": _grid(left, top, crs=UTM32)}, {}) == {"2012": "2012", "2019": "2012"}


def test_rasters_without_a_crs_are_compared_among_themselves_and_never_without_a_place() -> None:
    bare = Grid(100, 100, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)
    grids = {"a": _grid(crs=None), "b": _grid(500_050.0, crs=None), "c": _grid(), "d": bare, "e": bare}
    assert ground_ids(grids, {}) == {"a": "a", "b": "a", "c": "c", "d": "d", "e": "e"}


def test_a_named_ground_stands() -> None:
    grids = {"a": _grid(), "b": _grid(), "c": _grid(600_000.0), "d": _grid()}
    named = {"a": "north", "b": None, "c": "north", "d": None}
    assert ground_ids(grids, named) == {"a": "north", "b": "b", "c": "north", "d": "b"}
