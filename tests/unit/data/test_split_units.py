"""Which scenes belong together, and rectangles seen from another raster."""

from __future__ import annotations

import math

from rasterio.crs import CRS

from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.split_units import group_scenes, is_upright, outwards, seen_from, share_frame, too_close
from maskwright.types import Window

UTM = CRS.from_epsg(32616).to_wkt()


def scene(name: str, x: float = 0.0, size: int = 100, pixel: float = 1.0, ground: str | None = None) -> Scene:
    return Scene(name, Grid(size, size, (pixel, 0.0, x, 0.0, -pixel, 0.0), UTM), ground or name, ())


def names(groups: list[tuple[Scene, ...]]) -> list[list[str]]:
    return [[one.name for one in group] for group in groups]


def test_scenes_nearer_than_the_buffer_belong_together() -> None:
    scenes = [scene("a"), scene("far", x=1000), scene("b", x=120)]  # a ends at 100
    assert names(group_scenes(scenes, 32, whole_grounds=False)) == [["a", "b"], ["far"]]
    assert names(group_scenes(scenes, 20, whole_grounds=False)) == [["a"], ["far"], ["b"]]


def test_the_buffer_is_counted_in_pixels_of_the_coarser_scene() -> None:
    scenes = [scene("fine"), scene("coarse", x=150, pixel=2.0)]  # 50 m apart
    assert len(group_scenes(scenes, 26, whole_grounds=False)) == 1  # 52 m
    assert len(group_scenes(scenes, 25, whole_grounds=False)) == 2


def test_scenes_of_one_ground_belong_together_where_that_is_asked() -> None:
    scenes = [scene("then", ground="g"), scene("now", x=1000, ground="g")]
    assert len(group_scenes(scenes, 10, whole_grounds=True)) == 1
    assert len(group_scenes(scenes, 10, whole_grounds=False)) == 2


def test_a_rectangle_is_found_in_another_raster_by_its_whole_pixels() -> None:
    fine, coarse = scene("fine").grid, scene("coarse", size=50, pixel=2.0).grid
    assert seen_from((10, 20, 0, 100), fine, coarse) == Window(5, 0, 5, 50)
    assert seen_from((11, 19, 0, 100), fine, coarse) == Window(6, 0, 3, 50)  # halves of pixels are left out
    assert seen_from((10, 20, 0, 100), fine, scene("other", x=500).grid) is None


def test_edges_of_a_scene_reach_to_infinity() -> None:
    grid = scene("a").grid
    assert outwards(Window(0, 10, 50, 90), grid) == (-math.inf, 50, 10, math.inf)


def test_distance_is_along_the_axis_where_they_lie_farther_apart() -> None:
    a, b = scene("a").grid, scene("b", x=110).grid
    assert too_close((a, a.window), (b, b.window), 11)
    assert not too_close((a, a.window), (b, b.window), 10)


def test_rotated_rasters_share_no_rectangles() -> None:
    turned = Scene("turned", Grid(10, 10, (1.0, 0.5, 0.0, 0.5, -1.0, 0.0), UTM), "turned", ())
    assert not is_upright(turned.grid)
    assert share_frame([turned])
    assert not share_frame([turned, scene("a")])
