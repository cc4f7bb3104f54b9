from __future__ import annotations

import pytest
from rasterio.crs import CRS

from maskwright.data.sources import Grid
from maskwright.errors import GridError
from maskwright.types import Window

UTM = CRS.from_epsg(32633).to_wkt()
NORTH_UP = (2.0, 0.0, 100.0, 0.0, -2.0, 1000.0)


def test_a_grid_knows_its_place() -> None:
    grid = Grid(10, 20, NORTH_UP, UTM)
    assert grid.pixel_size == (2.0, 2.0)
    assert grid.pixel_size_m == 2.0
    assert grid.bounds == (100.0, 980.0, 140.0, 1000.0)
    assert grid.window == Window(0, 0, 10, 20)
    assert grid.affine().c == 100.0


def test_the_box_of_a_window_may_reach_past_the_raster() -> None:
    grid = Grid(10, 20, NORTH_UP, UTM)
    assert grid.world_box(Window(2, 3, 4, 5)) == (106.0, 988.0, 116.0, 996.0)
    assert grid.world_box(Window(-1, -1, 1, 1)) == (98.0, 1000.0, 100.0, 1002.0)


def test_a_turned_grid_has_the_size_of_its_pixels_and_the_box_of_its_corners() -> None:
    grid = Grid(10, 10, (0.0, 3.0, 0.0, 3.0, 0.0, 0.0), UTM)
    assert grid.pixel_size == (3.0, 3.0)
    assert grid.bounds == (0.0, 0.0, 30.0, 30.0)


def test_feet_become_metres() -> None:
    feet = CRS.from_epsg(2263).to_wkt()  # New York, US survey feet
    assert Grid(10, 10, NORTH_UP, feet).pixel_size_m == pytest.approx(2 * 0.3048006096)


def test_pixels_that_are_not_square_have_the_side_of_the_square_of_their_area() -> None:
    assert Grid(10, 10, (1.0, 0.0, 0.0, 0.0, -4.0, 0.0), None).pixel_size_m == 2.0


def test_angles_have_no_size_in_metres() -> None:
    with pytest.raises(GridError, match=r"angles \(EPSG:4326\).*Reproject"):
        _ = Grid(10, 10, NORTH_UP, CRS.from_epsg(4326).to_wkt()).pixel_size_m


def test_without_a_crs_a_unit_is_a_metre_and_a_place_needs_a_transform() -> None:
    assert Grid(10, 10, NORTH_UP, None).pixel_size_m == 2.0
    assert Grid(10, 10, NORTH_UP, None).is_georeferenced
    assert not Grid(10, 10, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None).is_georeferenced
