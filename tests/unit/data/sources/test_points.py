from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.data.sources.count_maps import density_map
from maskwright.data.sources.image_header import read_header
from maskwright.data.sources.interface import Grid
from maskwright.data.sources.points import PointLabel, open_point_labels
from maskwright.errors import DataError

GRID = Grid(6, 8, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)
MAP = Grid(6, 8, (0.5, 0.0, 1000.0, 0.0, -0.5, 2000.0), None)


def lay_out(folder: Path, **texts: str) -> dict[str, Path]:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "points").mkdir(exist_ok=True)
    for stem, text in texts.items():
        (folder / "points" / f"{stem}.csv").write_text(text, encoding="utf-8")
    return {stem: folder / "images" / f"{stem}.tif" for stem in texts}


def label_of(folder: Path, text: str, **options: Any) -> PointLabel:
    found = open_point_labels(None, lay_out(folder, a=text), **options)
    assert found.faults == ()
    label = found.labels["a"]
    assert isinstance(label, PointLabel)
    return label


def test_points_are_discs(tmp_path: Path) -> None:
    out = label_of(tmp_path, "x,y\n3,2\n", radius_px=1.0).paint(GRID)
    np.testing.assert_array_equal(np.argwhere(out), [[1, 3], [2, 2], [2, 3], [2, 4], [3, 3]])
    assert out.dtype == np.uint8


def test_whole_numbers_are_pixels_unless_the_corner_is_the_origin(tmp_path: Path) -> None:
    assert label_of(tmp_path, "x,y\n3,2\n").points(GRID)[0].tolist() == [[3.5, 2.5]]
    assert label_of(tmp_path, "x,y\n3,2\n", origin="corner").points(GRID)[0].tolist() == [[3.0, 2.0]]


def test_a_pixel_in_two_discs_belongs_to_the_nearer_point(tmp_path: Path) -> None:
    text = "x,y,kind\n1,2,oak\n5,2,elm\n"
    found = label_of(tmp_path, text, class_column="kind", form="multiclass", radius_px=4.0)
    row = found.paint(GRID)[2]
    assert found.meaning.classes.names == ("background", "elm", "oak")
    assert row.tolist() == [2, 2, 2, 2, 1, 1, 1, 1]  # the pixel halfway goes to the point listed first
    bits = label_of(tmp_path, text, class_column="kind", form="multilabel", radius_px=2.0).paint(GRID)
    assert bits[2].tolist() == [2, 2, 2, 3, 1, 1, 1, 1]


def test_map_coordinates_and_metres_follow_the_raster(tmp_path: Path) -> None:
    label = label_of(tmp_path, "x,y\n1001.75,1998.75\n", unit="map", radius_m=0.5)
    assert label.points(MAP)[0].tolist() == [[3.5, 2.5]]
    assert label.paint(MAP).sum() == 5
    with pytest.raises(DataError, match=r"radius_m needs the size of a pixel.*data\.pixel_size_m"):
        label_of(tmp_path, "x,y\n1,1\n", radius_m=0.5).paint(GRID)


def test_points_outside_the_image_are_refused_or_left_out(tmp_path: Path, write_raster: Callable[..., Path]) -> None:
    label = label_of(tmp_path, "x,y\n3,2\n8,2\n")
    with pytest.raises(DataError, match=r"a\.csv: points outside the image of 6 x 8 pixels: line 3\. Correct"):
        label.paint(GRID)
    images = {"a": write_raster("images/a.tif", np.zeros((6, 8), np.uint8))}
    assert "points outside their image: " in open_point_labels(None, images).faults[0]
    assert "a.csv line 3 (a.tif has 6 x 8 pixels)" in open_point_labels(None, images).faults[0]
    found = open_point_labels(None, images, unusable="skip")
    assert found.faults == ()
    assert "left out, points outside their image" in found.notes[0]
    assert found.labels["a"].paint(GRID).any()


def test_a_file_without_points_is_background(tmp_path: Path) -> None:
    label = label_of(tmp_path, "x,y\n")
    assert not label.paint(GRID).any()
    instances = label.instances(GRID)
    assert instances is not None
    assert len(instances) == 0


def test_one_file_serves_all_images_by_name(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("image,x,y\na.tif,1,1\nsub/a,2,2\na,3,3\n", encoding="utf-8")
    images = {"a": tmp_path / "a.tif", "b": tmp_path / "b.tif"}
    found = open_point_labels(None, images, file=path)
    assert found.faults == ()
    assert "does not name, taken as without objects: b.tif" in found.notes[0]
    assert isinstance(found.labels["a"], PointLabel)
    assert isinstance(found.labels["b"], PointLabel)
    assert len(found.labels["a"].points(GRID)[0]) == 3
    assert len(found.labels["b"].points(GRID)[0]) == 0
    path.write_text("image,x,y\ngone.tif,1,1\n", encoding="utf-8")
    assert "images that are not there: gone.tif" in open_point_labels(None, images, file=path).faults[0]


def test_map_points_find_their_raster_by_themselves(tmp_path: Path, write_raster: Callable[..., Path]) -> None:
    raster = write_raster("a.tif", np.zeros((6, 8), np.uint8), pixel_size=0.5, left=1000.0, top=2000.0)
    path = tmp_path / "all.csv"
    path.write_text("x,y\n1001,1999\n5001,1999\n", encoding="utf-8")
    found = open_point_labels(None, {"a": raster}, file=path, unit="map")
    assert "points that lie on no raster, left out: line 3" in found.notes[0]
    label = found.labels["a"]
    assert isinstance(label, PointLabel)
    assert label.points(MAP)[0].tolist() == [[2.0, 2.0]]
    path.write_text("x,y\n5001,1999\n", encoding="utf-8")
    assert "no point lies on any raster" in open_point_labels(None, {"a": raster}, file=path, unit="map").faults[0]


def test_unknown_classes_are_told_with_the_values_found(tmp_path: Path) -> None:
    images = lay_out(tmp_path, a="x,y,kind\n1,1,oak\n2,2,palm\n")
    found = open_point_labels(None, images, class_column="kind", classes_config=[("oak", ())])
    assert 'a.csv line 3 ("palm")' in found.faults[0]
    assert "the files say oak, palm" in found.faults[0]
    ignored = open_point_labels(
        None, images, class_column="kind", classes_config=[("oak", ())], ignore_values=("palm",)
    )
    assert ignored.faults == ()
    assert ignored.labels["a"].paint(GRID).max() == 255


def test_several_classes_need_a_column(tmp_path: Path) -> None:
    classes = [("oak", ()), ("elm", ())]
    found = open_point_labels(None, lay_out(tmp_path, a="x,y\n1,1\n"), form="multiclass", classes_config=classes)
    assert "Set data.labels.class_column" in found.faults[0]


def test_all_bad_files_are_told_at_once(tmp_path: Path) -> None:
    found = open_point_labels(None, lay_out(tmp_path, a="u,v\n", b="", c="x,y\n"))
    assert len(found.faults) == 2


@pytest.mark.real
def test_real_points_of_urban_trees(real_data: Path) -> None:
    folder = real_data / "trees_urban_naip"
    images = {path.stem: path for path in sorted((folder / "images").iterdir())}
    found = open_point_labels(None, images)
    assert (found.faults, found.notes, len(found.labels)) == ((), (), 24)
    total = 0
    for name, label in found.labels.items():
        assert isinstance(label, PointLabel)
        grid = read_header(images[name]).grid
        points, _ = label.points(grid)
        np.testing.assert_allclose(density_map(points, grid, 3.0).sum(dtype=np.float64), len(points), rtol=1e-5)
        total += len(points)
    assert total == 1682
