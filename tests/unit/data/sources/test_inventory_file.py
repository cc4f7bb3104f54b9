"""Lists of trees as people keep them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from maskwright.data.sources.inventory_file import read_inventory
from maskwright.errors import DataError


def _write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_geojson_of_points_and_outlines_is_in_degrees_unless_it_says_otherwise(tmp_path: Path) -> None:
    point = {
        "type": "Feature",
        "properties": {"Species": "cacao"},
        "geometry": {"type": "Point", "coordinates": [1, 2]},
    }
    ring = [[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]
    crown = {"type": "Feature", "properties": None, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    content = {"type": "FeatureCollection", "features": [point, crown]}
    found = read_inventory(_write(tmp_path / "a.geojson", content))
    np.testing.assert_allclose(found.xy, [(1, 2), (1, 1)])
    assert (found.species, found.crs) == (("cacao", ""), "EPSG:4326")
    named = content | {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32724"}}}
    assert read_inventory(_write(tmp_path / "b.geojson", named)).crs == "urn:ogc:def:crs:EPSG::32724"
    assert read_inventory(_write(tmp_path / "b.json", named), crs="EPSG:31984").crs == "EPSG:31984"


@pytest.mark.parametrize(
    "content",
    [
        [{"x": 1, "y": 2, "species": "cacao"}, {"x": 3, "y": 4}],
        {"trees": [{"X": 1, "Y": 2, "class": "cacao"}, {"X": 3.0, "Y": 4}]},
        {"trees": [{"position": [1, 2], "type": "cacao"}, {"position": [3, 4]}]},
        {"trees": [{"location": {"easting": 1, "northing": 2}, "species": "cacao"}, {"easting": 3, "northing": 4}]},
    ],
)
def test_json_lists_of_several_shapes_say_the_same(content: object, tmp_path: Path) -> None:
    found = read_inventory(_write(tmp_path / "a.json", content))
    np.testing.assert_allclose(found.xy, [(1, 2), (3, 4)])
    assert (found.species, found.crs) == (("cacao", ""), None)


@pytest.mark.parametrize(
    ("text", "crs"),
    [
        ("x,y,species\n1,2,cacao\n3,4,\n", None),
        ("\ufeffEasting;Northing;Species\n1,0;2,0;cacao\n\n3,0;4,0;\n", None),
        ("species\tlon\tlat\ncacao\t1\t2\n\t3\t4\n", "EPSG:4326"),
    ],
)
def test_csv_of_several_habits_is_read(text: str, crs: str | None, tmp_path: Path) -> None:
    found = read_inventory(_write(tmp_path / "a.csv", text))
    np.testing.assert_allclose(found.xy, [(1, 2), (3, 4)])
    assert (found.species, found.crs) == (("cacao", ""), crs)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.csv", "x,y\n", "lists no tree"),
        ("a.csv", "", "is empty"),
        ("a.csv", "tree,species\n1,cacao\n", "Name columns x and y, easting"),
        ("a.csv", "x,y\n1,2\n3,\nfour,5\n", "tree 2, 3 has no place that is two numbers"),
        ("a.json", "{", "is no JSON"),
        ("a.json", {"plants": []}, 'list under "trees"'),
        ("a.json", {"trees": []}, "lists no tree"),
        ("a.json", [{"x": True, "y": 1}], "tree 1 has no place"),
        ("a.geojson", {"type": "FeatureCollection", "features": [{"geometry": None}]}, "feature 1 has no shape"),
        ("a.json", {"crs": "EPSG:nothing", "trees": [{"x": 1, "y": 2}]}, "no coordinate reference system"),
        ("a.xlsx", "x", "is a .geojson, .json or .csv"),
    ],
)
def test_what_is_wrong_is_said(name: str, content: object, text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        read_inventory(_write(tmp_path / name, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"trees\.csv cannot be read"):
        read_inventory(tmp_path / "trees.csv")
