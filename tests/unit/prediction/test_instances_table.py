"""Rows and outlines of trees, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely

from maskwright.data.sources.interface import Grid
from maskwright.objects import Crop, FoundObjects
from maskwright.prediction.instances_table import Ground, crown_rows, join_crowns, outlines_of
from maskwright.types import Window


def _found(crops: list[Crop], diameter: float = math.nan) -> FoundObjects:
    boxes = [(c.col, c.row, c.col + c.pixels.shape[1], c.row + c.pixels.shape[0]) for c in crops]
    count = len(crops)
    return FoundObjects(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.ones(count, np.int64),
        np.full(count, 0.5, np.float32),
        np.array([((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in boxes], np.float32).reshape(-1, 2),
        np.full(count, diameter, np.float32),
        tuple(crops),
    )


def test_outlines_follow_pixel_edges_with_holes_and_parts() -> None:
    ring = np.ones((4, 4), bool)
    ring[1:3, 1:3] = False
    corners = np.array([[True, False], [False, True]])
    loose = np.zeros((5, 6), bool)
    loose[2:4, 1:5] = True
    outlines = outlines_of(_found([Crop(10, 20, ring), Crop(3, 0, corners), Crop(100, 7, loose)]))
    assert outlines[0].equals(shapely.box(20, 10, 24, 14) - shapely.box(21, 11, 23, 13))
    assert outlines[1].equals(shapely.union(shapely.box(0, 3, 1, 4), shapely.box(1, 4, 2, 5)))
    assert outlines[2].equals(shapely.box(8, 102, 12, 104))
    assert len(outlines_of(FoundObjects.none())) == 0


def test_a_thousand_outlines_keep_their_order_and_place() -> None:
    rng = np.random.default_rng(0)
    crops = []
    for number in range(1000):
        pixels = rng.random((int(rng.integers(1, 9)), int(rng.integers(1, 9)))) < 0.6
        pixels[0, 0] = True
        crops.append(Crop(7 * number, 11 * number, pixels))
    outlines = outlines_of(_found(crops))
    assert [round(shape.area) for shape in outlines] == [int(crop.pixels.sum()) for crop in crops]
    for crop, shape in zip(crops, outlines, strict=True):
        x0, y0, x1, y1 = shape.bounds
        assert crop.col <= x0
        assert crop.row <= y0
        assert x1 <= crop.col + crop.pixels.shape[1]
        assert y1 <= crop.row + crop.pixels.shape[0]


def test_rows_tell_size_height_and_number() -> None:
    heights = np.full((10, 10), np.nan, np.float32)
    heights[2:4, 2:4] = [[3.0, 9.0], [4.0, np.nan]]

    def read(window: Window) -> np.ndarray:
        return heights[window.row : window.row_stop, window.col : window.col_stop]

    found = _found([Crop(2, 2, np.array([[True, False], [True, True]])), Crop(6, 6, np.ones((2, 2), bool))])
    rows = crown_rows(found, np.array([False, True]), 5, read)
    assert rows.number.tolist() == [5, 6]
    assert rows.area_px.tolist() == [3.0, 4.0]
    assert rows.diameter_px == pytest.approx([math.sqrt(12 / math.pi), math.sqrt(16 / math.pi)])
    assert rows.height_m[0] == 4.0  # the 9 m beside it are not of this crown
    assert math.isnan(rows.height_m[1])
    assert crown_rows(_found([Crop(0, 0, np.ones((2, 2), bool))], 7.5), np.zeros(1, bool), 1, None).diameter_px == [7.5]
    both = join_crowns([rows, rows])
    assert len(both) == 4
    assert len(join_crowns([])) == 0


def test_columns_carry_their_unit_and_places_follow_the_transform() -> None:
    grid = Grid(10, 10, (0.5, 0.0, 100.0, 0.0, -0.25, 200.0), None)
    rows = crown_rows(_found([Crop(0, 0, np.ones((4, 4), bool))], 4.0), np.zeros(1, bool), 1, None)
    ground = Ground(grid, 0.125)
    told = rows.columns(ground, {1: "palm"}, with_height=False)
    assert told["class"].tolist() == ["palm"]
    assert told["area_m2"] == pytest.approx([2.0])
    assert told["diameter_m"] == pytest.approx([4 * math.sqrt(0.125)])
    assert ground.steps == pytest.approx((0.5, 0.25))
    np.testing.assert_allclose(ground.places([(2.0, 4.0)]), [(101.0, 199.0)])
    unknown = Ground(Grid(10, 10, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None), None)
    assert list(rows.columns(unknown, {1: "palm"}, with_height=True))[3:] == ["area_px", "diameter_px", "height_m"]
    np.testing.assert_allclose(unknown.places([(2.0, 4.0)]), [(2.0, 4.0)])
