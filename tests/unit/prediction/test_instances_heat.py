"""Cells of ground and trees, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.data.sources.interface import Grid
from maskwright.errors import PredictionError
from maskwright.metrics.stand import ALL
from maskwright.objects import Crop, FoundObjects
from maskwright.prediction.instances_heat import GroundCells, HeatMap, heat_picture
from maskwright.prediction.instances_table import Ground

GROUND = Ground(Grid(40, 60, (2.0, 0.0, 0.0, 0.0, -2.0, 0.0), None), 4.0)
NAMES = {1: "cacao", 2: "shade"}


def _square(x: int, y: int, side: int, label: int) -> FoundObjects:
    return FoundObjects(
        np.array([(x, y, x + side, y + side)], np.float32),
        np.array([label]),
        np.ones(1, np.float32),
        np.array([(x + side / 2, y + side / 2)], np.float32),
        np.array([np.nan], np.float32),
        (Crop(y, x, np.ones((side, side), bool)),),
    )


@pytest.fixture
def cells() -> GroundCells:
    cells = GroundCells(GROUND, NAMES, limit=15)
    valid = np.ones((40, 60), bool)
    valid[:, 40:] = False
    for row in (0, 30):
        cells.add_valid(row, valid[row : row + 30])
    return cells


def test_cover_counts_ground_once_where_crowns_overlap(cells: GroundCells) -> None:
    assert (cells.factor, cells.shape) == (4, (10, 15))
    cells.add(_square(0, 0, 8, 1))
    cells.add(_square(4, 0, 8, 2))  # half of it on the first
    cover = cells.cover()
    assert cover["cacao"] == pytest.approx(64 / 1600)
    assert cover["shade"] == pytest.approx(64 / 1600)
    assert cover[ALL] == pytest.approx(96 / 1600)


def test_the_ground_that_counts_is_outlined_in_metres(cells: GroundCells) -> None:
    assert cells.outline().bounds == (0.0, 0.0, 80.0, 80.0)
    assert cells.outline().area == 6400.0
    whole = GroundCells(GROUND, NAMES, limit=15)
    whole.add_valid(0, np.ones((40, 60), bool))
    assert whole.outline().bounds == (0.0, 0.0, 120.0, 80.0)
    assert GroundCells(GROUND, NAMES).outline().is_empty


def test_density_is_trees_over_the_ground_around(cells: GroundCells) -> None:
    cells.add(_square(16, 16, 2, 1))
    heat = cells.density(reach_px=4.0)  # a cell and its four neighbours
    assert heat.name == "trees per hectare"
    assert heat.values[4, 4] == pytest.approx(1 / (5 * 16 * 4) * 1e4)
    assert heat.values[4, 5] == pytest.approx(heat.values[4, 4])
    assert heat.values[5, 5] == pytest.approx(0.0, abs=1e-3)
    assert np.isnan(heat.values[:, 10:]).all()


def test_shade_is_the_share_under_crowns_of_one_class(cells: GroundCells) -> None:
    cells.add(_square(16, 16, 4, 2))
    cells.add(_square(24, 16, 4, 1))
    assert cells.shade(4.0, "shade").values[4, 4] == pytest.approx(1 / 5)
    assert cells.shade(4.0, ALL).values[4, 5] == pytest.approx(2 / 5)


def test_no_ground_at_all_gives_no_numbers() -> None:
    cells = GroundCells(GROUND, NAMES)
    assert math.isnan(cells.cover()[ALL])
    assert np.isnan(cells.density(5.0).values).all()


def test_a_picture_shows_its_scale_and_an_unwritable_one_is_said(tmp_path: Path) -> None:
    values = np.array([[0.0, 1.0], [np.nan, 0.5]], np.float32)
    picture = heat_picture(HeatMap("trees per hectare", values), tmp_path / "heat.png")
    with Image.open(tmp_path / "heat.png") as image:
        assert image.size == picture.size
    left, right = picture.getpixel((5, 5)), picture.getpixel((470, 5))
    assert left == (247, 245, 238)
    assert right == (12, 64, 57)
    assert picture.getpixel((5, 470)) == (200, 200, 200)
    with pytest.raises(PredictionError, match="missing"):
        heat_picture(HeatMap("x", values), tmp_path / "missing/heat.png")
