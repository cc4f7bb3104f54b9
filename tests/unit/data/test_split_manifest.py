from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform

from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.splits import Split, build_split, read_manifest, write_manifest
from maskwright.errors import DataError, RunError

UTM = CRS.from_epsg(32616)


def scene(name: str, crs: CRS | None = UTM, x: float = 826_100.0, pixel: float = 1.25) -> Scene:
    wkt = None if crs is None else crs.to_wkt()
    return Scene(name, Grid(320, 400, (pixel, 0.0, x, 0.0, -pixel, 1_155_406.25), wkt), name, ())


def split_of(*scenes: Scene) -> Split:
    def valid_share(name: str, cell_px: int) -> np.ndarray:
        return np.ones((-(-320 // cell_px), -(-400 // cell_px)))

    return build_split(scenes, valid_share, tile_px=32, overlap_px=8, min_valid=0.1, buffer_px=32)


def test_a_split_reads_back_exactly(tmp_path: Path) -> None:
    scenes = [scene("a"), scene('b, \u00e4 "quoted"', x=900_000.1)]
    split = replace(split_of(*scenes), notes=("a note \u2014 with signs",))
    write_manifest(split, scenes, tmp_path / "splits.geojson")
    assert read_manifest(tmp_path / "splits.geojson") == split


def test_geometry_stands_on_the_ground_in_the_crs_of_the_scenes(tmp_path: Path) -> None:
    split = split_of(scene("a"))
    write_manifest(split, [scene("a")], tmp_path / "splits.geojson")
    meta, _, shapes, fields = pyogrio.raw.read(tmp_path / "splits.geojson")
    columns = dict(zip(meta["fields"], fields, strict=True))
    assert meta["crs"] == "EPSG:32616"
    assert len(shapes) == len(split.regions) + sum(split.counts().values())
    import shapely

    boxes = shapely.bounds(shapely.from_wkb(shapes))
    assert shapely.is_valid(shapely.from_wkb(shapes)).all()
    left = 826_100.0 + 1.25 * columns["col"]
    top = 1_155_406.25 - 1.25 * columns["row"]
    np.testing.assert_allclose(boxes[:, 0], left.astype(float))
    np.testing.assert_allclose(boxes[:, 3], top.astype(float))
    np.testing.assert_allclose(boxes[:, 2], left + 1.25 * columns["width"])
    np.testing.assert_allclose(boxes[:, 1], top - 1.25 * columns["height"])


def test_scenes_of_several_crs_are_written_in_longitude_and_latitude(tmp_path: Path) -> None:
    other = CRS.from_epsg(32610)
    scenes = [scene("a"), scene("b", other, x=492_858.0), scene("c", None, x=779_170.0)]
    split = split_of(*scenes)
    write_manifest(split, scenes, tmp_path / "splits.geojson")
    content = json.loads((tmp_path / "splits.geojson").read_text(encoding="utf-8"))
    assert "crs" not in content
    for feature in content["features"]:
        properties, geometry = feature["properties"], feature["geometry"]
        if properties["scene"] == "c":
            assert geometry is None  # a place without CRS has no longitude
            continue
        crs, x = (UTM, 826_100.0) if properties["scene"] == "a" else (other, 492_858.0)
        corner = [x + 1.25 * properties["col"]], [1_155_406.25 - 1.25 * properties["row"]]
        (longitude,), (latitude,) = transform(crs, CRS.from_epsg(4326), *corner)
        assert min(np.hypot(px - longitude, py - latitude) for px, py in geometry["coordinates"][0]) < 1e-7
    assert read_manifest(tmp_path / "splits.geojson") == split


def test_scenes_without_any_crs_keep_their_own_coordinates(tmp_path: Path) -> None:
    scenes = [scene("a", None)]
    split = split_of(*scenes)
    write_manifest(split, scenes, tmp_path / "splits.geojson")
    content = json.loads((tmp_path / "splits.geojson").read_text(encoding="utf-8"))
    assert "crs" not in content
    xs = [point[0] for feature in content["features"] for point in feature["geometry"]["coordinates"][0]]
    assert min(xs) == 826_100.0
    assert read_manifest(tmp_path / "splits.geojson") == split


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"splits\.geojson could not be written"):
        write_manifest(split_of(scene("a")), [scene("a")], tmp_path / "missing" / "splits.geojson")


def test_a_missing_split_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no split at .*splits\.geojson\. Name a run folder"):
        read_manifest(tmp_path / "splits.geojson")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged: it is no JSON"),
        ("[1, 2]", "is no split written by Maskwright"),
        ('{"type": "FeatureCollection", "features": []}', "is no split written by Maskwright"),
        ('{"maskwright": {"version": 99}, "features": []}', "of version 99, this Maskwright reads version 1"),
        ('{"maskwright": {"version": 1}, "features": []}', "is damaged: KeyError 'by'"),
        ('{"maskwright": {"version": 1}, "features": [{"properties": {"part": "x"}}]}', "part 'x' is none of train"),
    ],
)
def test_foreign_and_damaged_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "splits.geojson"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_manifest(path)
