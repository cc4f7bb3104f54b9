"""What is written about doubtful labels."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyogrio

from maskwright.data.sources.interface import Grid, Scene
from maskwright.types import Window
from maskwright.workflows.doubtful import Doubt
from maskwright.workflows.label_next import Area
from maskwright.workflows.suspect_files import _area_polygons, _areas_csv, _csv, _labels, _polygons

GRID = Grid(50, 50, (2.0, 0.0, 100.0, 0.0, -2.0, 200.0), "EPSG:32616")
SCENE = Scene("north", GRID, "north", (Path("north_DSM.tif"), Path("north_CHM.tif")))
PARTS: Any = SimpleNamespace(source=SimpleNamespace(scenes=[SCENE]))
DOUBT = Doubt("north", Window(10, 20, 4, 2), np.ones((4, 2), bool), "5 m", True, 0.98765, 3.0, "the model", "train", 1)


def test_the_table_names_the_place_in_pixels_and_on_the_ground() -> None:
    (row,) = csv.DictReader(_csv(PARTS, [DOUBT]).splitlines())
    assert (row["rank"], row["doubt"], row["area_px"]) == ("1", "labelled, not found", "8")
    assert (row["x"], row["y"]) == ("142.000", "176.000")  # 100 + 2 x 21, 200 - 2 x 12
    assert row["confidence"] == "0.9877"


def test_files_to_correct_are_named_once() -> None:
    assert _labels(PARTS, [DOUBT, DOUBT]) == [Path("north_DSM.tif"), Path("north_CHM.tif")]


def test_polygons_lie_where_the_doubt_lies(tmp_path: Path) -> None:
    _polygons(tmp_path / "a.gpkg", GRID.crs, PARTS, [DOUBT])
    assert pyogrio.read_bounds(tmp_path / "a.gpkg")[1][:, 0].tolist() == [140.0, 172.0, 144.0, 180.0]
    assert pyogrio.read_info(tmp_path / "a.gpkg")["features"] == 1


def test_areas_to_label_next_are_a_table_and_squares(tmp_path: Path) -> None:
    area = Area(Path("area.tif"), Window(0, 0, 10, 10), 0.5, GRID.crs, GRID.transform, 1)
    assert _areas_csv([area]).splitlines()[1] == "1,area.tif,0,0,10,10,0.5"
    (path,) = _area_polygons(tmp_path, [area]).values()
    assert pyogrio.read_bounds(path)[1][:, 0].tolist() == [100.0, 180.0, 120.0, 200.0]
    assert _area_polygons(tmp_path, [Area(Path("a.png"), Window(0, 0, 1, 1), 0.5, None, GRID.transform)]) == {}
