from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize
from rasterio.warp import transform_geom

from maskwright.data.sources.image_header import read_header
from maskwright.data.sources.vector_file import Features, mend, open_layer
from maskwright.data.sources.vectors import VectorLabel, open_vector_labels
from maskwright.errors import DataError

WriteRaster = Callable[..., Path]
LEFT, TOP = 500_000.0, 5_000_000.0
DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf"}


def box(col: float, row: float, col_stop: float, row_stop: float) -> Any:
    """A rectangle in pixels of the raster the tests use, in its map coordinates."""
    return shapely.box(LEFT + col, TOP - row_stop, LEFT + col_stop, TOP - row)


def write(
    path: Path,
    shapes: Sequence[Any],
    *,
    crs: str | None = "EPSG:32633",
    geometry_type: str = "Polygon",
    layer: str | None = None,
    append: bool = False,
    **columns: Any,
) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # files without a CRS are meant here
        _write(path, shapes, crs, geometry_type, layer, append, columns)
    return path


def _write(
    path: Path,
    shapes: Sequence[Any],
    crs: str | None,
    geometry_type: str,
    layer: str | None,
    append: bool,
    columns: dict[str, Any],
) -> None:
    pyogrio.raw.write(
        path,
        np.array([None if shape is None else shapely.to_wkb(shape) for shape in shapes], object),
        [np.array(values) for values in columns.values()],
        list(columns),
        geometry_type=geometry_type,
        crs=crs,
        driver=DRIVERS[path.suffix],
        layer=layer,
        append=append,
    )


@pytest.fixture
def raster(write_raster: WriteRaster) -> Path:
    return write_raster("a.tif", np.zeros((3, 6, 8), np.uint8))


def paint(file: Path, raster: Path, **options: Any) -> np.ndarray:
    found = open_vector_labels(file, {"a": raster}, **options)
    assert found.faults == ()
    return found.labels["a"].paint(read_header(raster).grid)


def moved(shape: Any, crs: str) -> Any:
    return shapely.geometry.shape(transform_geom("EPSG:32633", crs, shapely.geometry.mapping(shape)))


@pytest.mark.parametrize("ending", sorted(DRIVERS))
def test_every_kind_of_file_is_burned(tmp_path: Path, raster: Path, ending: str) -> None:
    shape = box(1, 2, 4, 5) - box(2, 3, 3, 4)
    crs = "EPSG:4326" if ending == ".geojson" else "EPSG:32633"
    path = write(tmp_path / f"shapes{ending}", [moved(shape, crs) if crs == "EPSG:4326" else shape], crs=crs)
    expected = np.zeros((6, 8))
    expected[2:5, 1:4] = 1
    expected[3, 2] = 0
    np.testing.assert_array_equal(paint(path, raster), expected)


def test_shapes_in_another_crs_come_to_the_same_pixels(tmp_path: Path, write_raster: WriteRaster) -> None:
    raster = write_raster("large.tif", np.zeros((200, 300), np.uint8), pixel_size=10.0)
    rng = np.random.default_rng(0)
    shapes = [
        shapely.Point(LEFT + x, TOP - y).buffer(r) for x, y, r in rng.random((30, 3)) * [3000, 2000, 150] + [0, 0, 30]
    ]
    own = paint(write(tmp_path / "own.gpkg", shapes), raster)
    there = paint(write(tmp_path / "wgs.gpkg", [moved(s, "EPSG:3857") for s in shapes], crs="EPSG:3857"), raster)
    assert own.mean() > 0.05
    assert (own != there).mean() < 2e-4


def test_long_straight_edges_bend_with_the_crs(tmp_path: Path, write_raster: WriteRaster) -> None:
    raster = write_raster("wide.tif", np.zeros((100, 400), np.uint8), pixel_size=200.0, left=400_000.0)
    south = moved(shapely.box(400_000, 4_980_000, 480_000, 5_000_000), "EPSG:4326").bounds
    parallel = shapely.box(south[0] - 1, south[1] + 0.1, south[2] + 1, 80)  # all that lies north of a parallel
    path = write(tmp_path / "north.gpkg", [parallel], crs="EPSG:4326")
    out = paint(path, raster)
    grid = read_header(raster).grid
    dense = shapely.segmentize(shapely.intersection(parallel, shapely.box(south[0] - 1, 44, south[2] + 1, 46)), 0.001)
    geometry = transform_geom("EPSG:4326", "EPSG:32633", shapely.geometry.mapping(dense))
    expected = rasterize([(geometry, 1)], out_shape=(100, 400), transform=grid.affine(), dtype="uint8")
    assert 0.1 < expected.mean() < 0.9
    assert (out != expected).sum() <= 8


def test_a_turned_raster_is_burned_on_its_own_grid(tmp_path: Path, write_raster: WriteRaster) -> None:
    turned = Affine.translation(LEFT, TOP) @ Affine.rotation(30) @ Affine.scale(1, -1)
    raster = write_raster("turned.tif", np.zeros((20, 20), np.uint8), transform=turned)
    shape = shapely.Point(*(turned @ (12.3, 7.2))).buffer(4.1)
    out = paint(write(tmp_path / "s.gpkg", [shape]), raster)
    rows, cols = np.indices((20, 20)) + 0.5
    np.testing.assert_array_equal(out, np.hypot(cols - 12.3, rows - 7.2) < 4.1)


def test_attributes_become_classes(tmp_path: Path, raster: Path) -> None:
    path = write(tmp_path / "s.gpkg", [box(0, 0, 2, 2), box(4, 4, 6, 6)], kind=["oak", "elm"], code=[1.0, 2.0])
    found = open_vector_labels(path, {"a": raster}, attribute="kind", form="multiclass")
    assert found.classes.names == ("background", "elm", "oak")
    out = found.labels["a"].paint(read_header(raster).grid)
    assert (out[0, 0], out[4, 4], out[0, 4]) == (2, 1, 0)
    out = paint(path, raster, attribute="code", form="multiclass", classes_config=[("x", (2,)), ("y", (1,))])
    assert (out[0, 0], out[4, 4]) == (2, 1)
    out = paint(path, raster, attribute="kind", classes_config=[("oak", ())], ignore_values=("elm",))
    assert (out[0, 0], out[4, 4]) == (1, 255)


def test_unknown_values_are_told_with_all_values(tmp_path: Path, raster: Path) -> None:
    path = write(tmp_path / "s.gpkg", [box(0, 0, 2, 2), box(4, 4, 6, 6)], kind=np.array(["oak", "palm"], object))
    found = open_vector_labels(path, {"a": raster}, attribute="kind", classes_config=[("oak", ())])
    assert "values of kind that belong to no class: palm (1 shapes). The values are oak, palm" in found.faults[0]
    with pytest.raises(DataError, match='kind is "palm", which belongs to no class'):
        found.labels["a"].paint(read_header(raster).grid)
    lacking = write(tmp_path / "n.gpkg", [box(0, 0, 2, 2)], kind=np.array([None], object))
    found = open_vector_labels(lacking, {"a": raster}, attribute="kind", classes_config=[("oak", ())])
    assert "features without a value of kind: feature 1 of n.gpkg" in found.faults[0]


def test_missing_attributes_and_layers_are_told_with_those_there(tmp_path: Path, raster: Path) -> None:
    path = write(tmp_path / "s.gpkg", [box(0, 0, 2, 2)], layer="one", kind=["oak"])
    with pytest.raises(DataError, match="has no attribute species; its attributes are kind"):
        open_vector_labels(path, {"a": raster}, attribute="species")
    write(path, [box(4, 4, 6, 6)], layer="two", append=True, kind=["elm"])
    with pytest.raises(DataError, match=r"has several layers: one, two\. Name one"):
        open_vector_labels(path, {"a": raster})
    with pytest.raises(DataError, match="has no layer three"):
        open_vector_labels(path, {"a": raster}, layer="three")
    assert paint(path, raster, layer="two")[4, 4] == 1
    with pytest.raises(DataError, match="does not exist"):
        open_vector_labels(tmp_path / "gone.gpkg", {"a": raster})
    (tmp_path / "text.gpkg").write_text("nothing")
    with pytest.raises(DataError, match="cannot be read as a vector file"):
        open_vector_labels(tmp_path / "text.gpkg", {"a": raster})


def test_invalid_shapes_are_repaired_and_noted(tmp_path: Path, raster: Path) -> None:
    x, y = LEFT, TOP
    bow = shapely.Polygon([(x, y), (x + 4, y - 4), (x + 4, y), (x, y - 4)])
    path = write(tmp_path / "s.gpkg", [box(6, 0, 8, 2), bow])
    found = open_vector_labels(path, {"a": raster})
    assert found.faults == ()
    assert "invalid shapes, repaired: feature 2 of s.gpkg (Self-intersection" in found.notes[0]
    assert "area 0 pixels before, 8 after" in found.notes[0]
    out = found.labels["a"].paint(read_header(raster).grid)
    assert out[:4, :4].sum() in (6, 8)  # two triangles; centres on their edges go to one side
    assert out[:2, 6:].all()


def test_invalid_shapes_of_another_crs_that_reach_far_are_repaired_too(tmp_path: Path, raster: Path) -> None:
    around = moved(box(0, 0, 8, 6), "EPSG:4326").bounds
    x0, y0, x1, y1 = around[0] - 1, around[1] - 1, around[2] + 1, around[3] + 1
    bow = shapely.Polygon([(x0, y0), (x1, y1), (x1, y0), (x0, y1)])
    with np.errstate(invalid="ignore"):
        nowhere = shapely.Polygon([(around[0], y0), (math.nan, y1), (x1, y0)])
    path = write(tmp_path / "s.geojson", [bow], crs="EPSG:4326")
    found = open_vector_labels(path, {"a": raster})
    assert found.faults == ()
    assert "invalid shapes, repaired" in found.notes[0]
    assert found.labels["a"].paint(read_header(raster).grid).any()
    features = Features(np.array([4, 5]), np.array([nowhere, bow], object), (None, None))
    assert mend(features).empty == (4,)


def test_features_without_a_shape_are_refused_or_left_out(tmp_path: Path, raster: Path) -> None:
    flat = shapely.Polygon([(LEFT + 1, TOP - 1), (LEFT + 3, TOP - 1), (LEFT + 1, TOP - 1)])
    for ending in (".gpkg", ".shp"):
        path = write(tmp_path / f"s{ending}", [box(0, 0, 2, 2), None, flat], code=[1, 2, 3])
        fault = open_vector_labels(path, {"a": raster}).faults[0]
        first = 1 if ending == ".gpkg" else 0
        assert "features without a shape or an area" in fault
        assert f"feature {first + 1} of" in fault
        assert f"feature {first + 2} of" in fault
        found = open_vector_labels(path, {"a": raster}, unusable="skip")
        assert found.faults == ()
        assert found.labels["a"].paint(read_header(raster).grid).sum() == 4


def test_crs_must_be_on_both_sides_or_on_none(tmp_path: Path, raster: Path, write_raster: WriteRaster) -> None:
    bare = write_raster("bare.tif", np.zeros((6, 8), np.uint8), crs=None)
    with_crs = write(tmp_path / "s.gpkg", [box(0, 0, 2, 2)])
    without = write(tmp_path / "n.shp", [box(0, 0, 2, 2)], crs=None)
    (fault, *_) = open_vector_labels(without, {"a": raster}).faults
    assert "n.shp names no CRS" in fault
    assert "ogr2ogr -a_srs EPSG:32633" in fault
    (fault, *_) = open_vector_labels(with_crs, {"a": bare}).faults
    assert fault.startswith("bare.tif: The raster names no CRS, s.gpkg has EPSG:32633")
    assert "rio edit-info" in fault
    assert paint(without, bare).sum() == 4


def test_lines_and_points_grow_by_metres(tmp_path: Path, write_raster: WriteRaster) -> None:
    raster = write_raster("fine.tif", np.zeros((20, 20), np.uint8), pixel_size=0.5)
    line = shapely.LineString([(LEFT, TOP - 5), (LEFT + 10, TOP - 5)])
    path = write(tmp_path / "l.gpkg", [line], geometry_type="LineString")
    assert paint(path, raster).sum(axis=0).tolist() == [1] * 20
    assert paint(path, raster, buffer_m=1.0).sum(axis=0).tolist() == [4] * 20
    points = write(tmp_path / "p.gpkg", [shapely.Point(LEFT + 5, TOP - 5)], geometry_type="Point")
    rows, cols = np.indices((20, 20)) + 0.5
    np.testing.assert_array_equal(
        paint(points, raster, buffer_m=2.0), np.hypot(rows - 10, cols - 10) < 4 * math.cos(math.pi / 64)
    )


def test_metres_need_a_raster_that_has_them(tmp_path: Path, write_raster: WriteRaster) -> None:
    raster = write_raster("deg.tif", np.zeros((4, 4), np.uint8), crs="EPSG:4326", left=10.0, top=50.0, pixel_size=0.1)
    path = write(tmp_path / "s.gpkg", [shapely.box(10, 49.8, 10.2, 50)], crs="EPSG:4326")
    assert paint(path, raster).sum() == 4
    (fault,) = [text for text in open_vector_labels(path, {"a": raster}, buffer_m=1.0).faults if "angles" in text]
    assert fault.startswith("deg.tif: Coordinates are angles")


def test_all_touched_takes_every_pixel_a_shape_meets(tmp_path: Path, raster: Path) -> None:
    path = write(tmp_path / "s.gpkg", [box(0.7, 0.7, 2.3, 1.3)])
    assert paint(path, raster).sum() == 0
    assert paint(path, raster, all_touched=True).sum() == 6


def test_pixels_outside_the_mapped_area_do_not_count(tmp_path: Path, raster: Path) -> None:
    shapes = write(tmp_path / "s.gpkg", [box(0, 0, 2, 2), box(4, 4, 6, 6)])
    area = write(tmp_path / "area.geojson", [moved(box(0, 0, 4, 6), "EPSG:4326")], crs="EPSG:4326")
    out = paint(shapes, raster, area=area)
    assert (out[:, 4:] == 255).all()
    assert (out[:, :4] == 1).sum() == 4
    far = write(tmp_path / "far.gpkg", [box(100, 100, 101, 101)])
    assert "outside the mapped area" in open_vector_labels(shapes, {"a": raster}, area=far).faults[0]


def test_a_file_for_each_raster_lies_in_a_folder(tmp_path: Path, raster: Path, write_raster: WriteRaster) -> None:
    other = write_raster("b.tif", np.zeros((6, 8), np.uint8))
    folder = tmp_path / "vectors"
    folder.mkdir()
    write(folder / "a.gpkg", [box(0, 0, 2, 2)])
    found = open_vector_labels(folder, {"a": raster, "b": other})
    assert "rasters without a vector file: b.tif" in found.faults[0]
    write(folder / "b.shp", [box(0, 0, 1, 1)])
    found = open_vector_labels(folder, {"a": raster, "b": other})
    assert found.faults == ()
    assert found.labels["b"].paint(read_header(other).grid).sum() == 1
    assert {path.suffix for path in found.labels["b"].files} == {".shp", ".shx", ".dbf", ".prj", ".cpg"}


def test_shapes_that_lie_on_no_raster_are_a_fault(tmp_path: Path, raster: Path, write_raster: WriteRaster) -> None:
    path = write(tmp_path / "s.gpkg", [box(100, 100, 101, 101)])
    assert "no shape lies on any raster" in open_vector_labels(path, {"a": raster}).faults[0]
    far = write_raster("far.tif", np.zeros((6, 8), np.uint8), left=LEFT + 96, top=TOP - 96)
    found = open_vector_labels(path, {"a": raster, "far": far})
    assert found.faults == ()
    assert "rasters without any shape, taken as all background: a.tif" in found.notes[0]


@pytest.mark.parametrize("ending", [".gpkg", ".geojson"])
def test_only_shapes_near_the_raster_are_looked_at(tmp_path: Path, ending: str) -> None:
    crs = "EPSG:4326"
    path = write(tmp_path / f"s{ending}", [shapely.box(i, 0, i + 0.5, 1) for i in range(50)], crs=crs, code=range(50))
    near = open_layer(path, attribute="code").within((9.9, 0.2, 11.2, 0.3))
    assert near.values == (10, 11)


def test_instances_are_the_shapes_that_reach_into_the_raster(tmp_path: Path, raster: Path) -> None:
    path = write(tmp_path / "s.gpkg", [box(-2, -2, 3, 2), box(5, 1, 7, 3), box(20, 20, 21, 21)])
    label = open_vector_labels(path, {"a": raster}).labels["a"]
    assert isinstance(label, VectorLabel)
    found = label.instances(read_header(raster).grid)
    np.testing.assert_allclose(found.boxes, [[0, 0, 3, 2], [5, 1, 7, 3]], atol=1e-4)
    assert found.masks().sum(axis=(1, 2)).tolist() == [6, 4]
