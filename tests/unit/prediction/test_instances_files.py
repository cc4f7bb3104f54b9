"""Files of trees are written portion by portion and can be read back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.crs import CRS

from maskwright.data.sources.coco_file import read_coco
from maskwright.data.sources.interface import Grid
from maskwright.errors import PredictionError
from maskwright.objects import Crop, FoundObjects
from maskwright.prediction.instances_files import CrownFiles, column_types
from maskwright.prediction.instances_table import Ground, crown_rows

UTM = CRS.from_epsg(32724).to_wkt()
GROUND = Ground(Grid(50, 50, (2.0, 0.0, 500_000.0, 0.0, -2.0, 8_300_000.0), UTM), 4.0)
NAMES = {1: "cacao", 2: 'shade, "tall"'}


def _one(row: int, col: int, pixels: np.ndarray, label: int) -> FoundObjects:
    height, width = pixels.shape
    return FoundObjects(
        np.array([(col, row, col + width, row + height)], np.float32),
        np.array([label]),
        np.array([0.75], np.float32),
        np.array([(col + width / 2, row + height / 2)], np.float32),
        np.array([np.nan], np.float32),
        (Crop(row, col, pixels),),
    )


def _write(folder: Path, ground: Ground = GROUND, **options: object) -> dict[str, Path]:
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    parts = [_one(10, 20, ring, 1), _one(0, 0, np.ones((2, 4), bool), 2)]
    files = CrownFiles(folder, "farm", ground, NAMES, image=("farm.png", 100, 100), **options)  # type: ignore[arg-type]
    with files:
        for number, part in enumerate(parts, start=1):
            files.add(part, crown_rows(part, np.array([number == 2]), number, None))
        files.add(FoundObjects.none(), crown_rows(FoundObjects.none(), np.zeros(0, bool), 3, None))
    return files.files


def test_the_table_quotes_names_and_says_places_in_both_coordinates(tmp_path: Path) -> None:
    with _write(tmp_path, with_height=True)["inventory"].open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(NAMES.values())
    assert (rows[0]["x"], rows[0]["y"]) == ("500043.0", "8299977.0")
    assert float(rows[0]["longitude"]) == pytest.approx(-39.0 + 43 / 107_400, abs=1e-6)
    assert [row["area_m2"] for row in rows] == ["32.0", "32.0"]
    assert [row["height_m"] for row in rows] == ["", ""]
    assert [row["cut"] for row in rows] == ["no", "yes"]


def test_geojson_is_in_degrees_and_keeps_holes(tmp_path: Path) -> None:
    content = json.loads(_write(tmp_path, polygons="geojson")["crowns"].read_text("utf-8"))
    first = content["features"][0]
    assert first["properties"]["class"] == "cacao"
    shape = shapely.geometry.shape(first["geometry"])
    assert len(shape.interiors) == 1
    assert -39.1 < shape.centroid.x < -38.9


def test_coco_is_in_pixels_of_the_file_whatever_was_seen(tmp_path: Path) -> None:
    path = _write(tmp_path, scale=(2.0, 3.0))["coco"]
    read_coco(path)
    first, second = json.loads(path.read_text("utf-8"))["annotations"]
    assert first["bbox"] == [40.0, 30.0, 6.0, 9.0]
    assert first["area"] == 8 * 6
    assert second["segmentation"] == [[0.0, 0.0, 0.0, 6.0, 8.0, 6.0, 8.0, 0.0]]
    assert second["category_id"] == 2


def test_without_polygons_there_is_no_file_of_them_and_without_a_place_all_is_in_pixels(tmp_path: Path) -> None:
    assert "crowns" not in _write(tmp_path, polygons=None)
    nowhere = Ground(Grid(50, 50, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None), None)
    files = _write(tmp_path, nowhere)
    assert list(column_types(nowhere, with_height=False)) == ["tree_id", "class", "score", "area_px", "diameter_px"]
    meta, _, geometry, _ = pyogrio.raw.read(files["crowns"])
    assert meta["crs"] is None
    assert shapely.from_wkb(geometry)[1].bounds == (0.0, 0.0, 4.0, 2.0)
    assert files["inventory"].read_text("utf-8").startswith("tree_id,class,score,x_px,y_px,area_px,diameter_px,cut\n")


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="missing"):
        _write(tmp_path / "missing")
