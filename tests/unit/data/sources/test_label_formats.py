"""The same objects, said in every format, are the same pixels."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely

from maskwright.data.sources.coco import open_coco_labels
from maskwright.data.sources.image_header import read_header
from maskwright.data.sources.label import Label, LabelSet
from maskwright.data.sources.points import open_point_labels
from maskwright.data.sources.shapes import encode_counts
from maskwright.data.sources.vectors import open_vector_labels
from maskwright.data.sources.yolo import open_yolo_labels

HEIGHT, WIDTH = 32, 64
LEFT, TOP = 500_000.0, 5_000_000.0
NAMES = ["oak", "elm"]
Objects = list[tuple[int, np.ndarray]]


@pytest.fixture
def raster(write_raster: Callable[..., Path]) -> Path:
    return write_raster("a.tif", np.zeros((3, HEIGHT, WIDTH), np.uint8))


@pytest.fixture(params=range(4))
def objects(request: pytest.FixtureRequest) -> Objects:
    """Stars around random points; corners on quarters of a pixel, which every format holds exactly."""
    rng = np.random.default_rng(request.param)
    found = []
    for index in range(8):
        angles = np.sort(rng.random(9)) * 2 * np.pi
        radii = rng.uniform(2, 9, 9)
        corners = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
        points = np.round((corners + rng.random(2) * [WIDTH, HEIGHT]) * 4) / 4
        found.append((index % 2, np.clip(points, 0, [WIDTH, HEIGHT])))
    return found


def as_coco(folder: Path, images: Mapping[str, Path], objects: Objects, **options: Any) -> LabelSet:
    content = {
        "images": [{"id": 0, "file_name": "a.tif", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES)],
        "annotations": [
            {"id": index, "image_id": 0, "category_id": kind, "segmentation": [points.ravel().tolist()]}
            for index, (kind, points) in enumerate(objects)
        ],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    return open_coco_labels(folder / "labels.json", images, **options)


def as_yolo(folder: Path, images: Mapping[str, Path], objects: Objects, **options: Any) -> LabelSet:
    lines = [
        " ".join([str(kind), *(repr(float(value)) for value in (points / [WIDTH, HEIGHT]).ravel())])
        for kind, points in objects
    ]
    (folder / "labels").mkdir()
    (folder / "labels" / "a.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text(f"names: {NAMES}")
    return open_yolo_labels(folder / "labels", images, names=folder / "data.yaml", **options)


def as_vectors(folder: Path, images: Mapping[str, Path], objects: Objects, **options: Any) -> LabelSet:
    shapes = [shapely.Polygon(points * [1, -1] + [LEFT, TOP]) for _, points in objects]
    pyogrio.raw.write(
        folder / "shapes.gpkg",
        shapely.to_wkb(np.array(shapes)),
        [np.array([NAMES[kind] for kind, _ in objects])],
        ["kind"],
        geometry_type="Polygon",
        crs="EPSG:32633",
        driver="GPKG",
    )
    return open_vector_labels(folder / "shapes.gpkg", images, attribute="kind", **options)


def painted(found: LabelSet, raster: Path) -> np.ndarray:
    assert found.faults == ()
    return found.labels["a"].paint(read_header(raster).grid)


@pytest.mark.parametrize("form", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("order", ["small_on_top", "as_listed"])
def test_every_format_paints_the_same(tmp_path: Path, raster: Path, objects: Objects, form: Any, order: Any) -> None:
    options: dict[str, Any] = {"form": form, "order": order, "classes_config": [(name, ()) for name in NAMES]}
    first = painted(as_coco(tmp_path, {"a": raster}, objects, **options), raster)
    assert len(np.unique(first)) >= {"binary": 2, "multiclass": 3, "multilabel": 3}[form]
    np.testing.assert_array_equal(first, painted(as_yolo(tmp_path, {"a": raster}, objects, **options), raster))
    np.testing.assert_array_equal(first, painted(as_vectors(tmp_path, {"a": raster}, objects, **options), raster))


def test_masks_of_instances_make_up_the_label(tmp_path: Path, raster: Path, objects: Objects) -> None:
    label = as_coco(tmp_path, {"a": raster}, objects, form="multilabel").labels["a"]
    grid = read_header(raster).grid
    found = label.instances(grid)
    assert found is not None
    bits = np.zeros((HEIGHT, WIDTH), np.uint16)
    for mask, bit in zip(found.masks(), found.labels, strict=True):
        bits |= mask.astype(np.uint16) << np.uint16(bit)
    np.testing.assert_array_equal(bits, label.paint(grid))
    assert encode_counts(found.mask(0)).sum() == HEIGHT * WIDTH


def test_labels_travel_to_other_processes(tmp_path: Path, raster: Path, objects: Objects) -> None:
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / "a.csv").write_text("x,y\n3,4\n")
    labels: list[Label] = [
        make(tmp_path, {"a": raster}, objects).labels["a"] for make in (as_coco, as_yolo, as_vectors)
    ]
    labels.append(open_point_labels(tmp_path / "points", {"a": raster}).labels["a"])
    grid = read_header(raster).grid
    for label in labels:
        copy = pickle.loads(pickle.dumps(label))
        np.testing.assert_array_equal(copy.paint(grid), label.paint(grid))
        assert json.dumps(copy.recipe(), sort_keys=True) == json.dumps(label.recipe(), sort_keys=True)
        assert all(path.is_file() for path in label.files)
