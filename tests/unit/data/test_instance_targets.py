"""Targets of objects: what is painted of outlines, boxes and points, whatever augmentation did before."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

from maskwright.config import ImagesData
from maskwright.config.labels import CocoLabels, PointLabels
from maskwright.data.augment import oriented
from maskwright.data.build import build_source
from maskwright.data.image_augment import UnitScale, augment_images
from maskwright.data.image_augment_warp import warp_ids, warp_sample
from maskwright.data.instance_targets import UNSURE, InstanceTruth, ObjectTruths, TargetPainter, ellipse_in
from maskwright.data.sampling import Draw, ImageChange
from maskwright.data.sources.images import ImageScenes
from maskwright.errors import DataError
from maskwright.types import Batch, Place, Window

SIZE = 40
PLACE = Place("a", Window(0, 0, SIZE, SIZE))
SQUARE = {"category_id": 1, "bbox": [4, 6, 8, 8], "area": 64, "iscrowd": 0}
OUTLINED = {**SQUARE, "segmentation": [[4, 6, 12, 6, 12, 14, 4, 14]]}
UNIT = UnitScale((1.0,), (0.0,), False)


def source_of(folder: Path, annotations: list[dict[str, Any]], **options: Any) -> ImageScenes:
    """One image of 40 x 40 px with cacao and shade."""
    (folder / "images").mkdir(parents=True)
    Image.fromarray(np.full((SIZE, SIZE, 3), 90, np.uint8)).save(folder / "images" / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE, "width": SIZE}],
        "annotations": [{"id": n, "image_id": 1, **entry} for n, entry in enumerate(annotations, start=1)],
        "categories": [{"id": 1, "name": "cacao"}, {"id": 2, "name": "shade"}],
    }
    (folder / "coco.json").write_text(json.dumps(content), encoding="utf-8")
    labels = CocoLabels(file=folder / "coco.json", **options)
    return opened(folder, labels)


def opened(folder: Path, labels: Any, **options: Any) -> ImageScenes:
    config = ImagesData(folder=folder, images=folder / "images", labels=labels, **options)
    source = build_source(
        config.model_copy(update={"cache": config.cache.model_copy(update={"folder": folder / "c"})}), "multiclass"
    )
    assert isinstance(source, ImageScenes)
    return source


def truth_of(source: ImageScenes, place: Place = PLACE, **options: Any) -> InstanceTruth:
    truth = ObjectTruths(source, (1, 2), **options)(place)
    assert truth is not None
    return truth


def painted(truth: InstanceTruth | None, **options: Any) -> dict[str, np.ndarray]:
    painter = TargetPainter(None, (1, 2), **options)  # type: ignore[arg-type]
    return dict(painter.maps(truth, np.ones((SIZE, SIZE), bool)))


def test_an_outline_gives_ids_centre_offsets_diameter_and_density(tmp_path: Path) -> None:
    truth = truth_of(source_of(tmp_path, [OUTLINED]))
    assert truth.centres.tolist() == [[8, 10]]
    assert truth.diameter == pytest.approx(np.sqrt(4 * 64 / np.pi))
    maps = painted(truth, density_sigma_px=2.0)
    assert np.argwhere(maps["inside"]).min(axis=0).tolist() == [6, 4]
    assert np.argwhere(maps["inside"]).max(axis=0).tolist() == [13, 11]
    assert maps["offset"][:, 6, 4].tolist() == [3.5, 3.5]  # from the middle of pixel (6, 4) to x 8, y 10
    assert maps["centre"][0].argmax() == 10 * SIZE + 8
    assert maps["centre"][0].max() == 1
    assert not maps["centre"][1].any()
    assert maps["density"].sum() == pytest.approx(1)
    assert_allclose(maps["diameter"][maps["has_diameter"]], truth.diameter[0])
    assert maps["has_diameter"].sum() == 64
    assert maps["tells_class"].all()


def test_a_box_alone_is_an_ellipse_with_unsure_corners(tmp_path: Path) -> None:
    truth = truth_of(source_of(tmp_path, [SQUARE], boxes="fill"))
    maps = painted(truth)
    assert (truth.ids[6, 4], truth.ids[10, 8], truth.ids[2, 2]) == (UNSURE, 1, 0)
    assert not maps["tells_class"][6, 4]
    assert maps["tells_class"][10, 8]
    assert not maps["inside"][6, 4]
    assert abs(int(maps["inside"].sum()) - np.pi * 16) <= 4
    assert truth.diameter == pytest.approx(8, abs=0.05)
    assert truth.has_outline.tolist() == [False]
    assert truth.has_extent.tolist() == [True]


def test_an_ellipse_fills_its_box() -> None:
    shape = ellipse_in((2, 4, 10, 8))
    assert shape.box == pytest.approx((2, 4, 10, 8))
    assert shape.area == pytest.approx(np.pi * 4 * 2, rel=0.01)


def test_points_tell_centres_and_counts_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((SIZE, SIZE, 3), 90, np.uint8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / "a.csv").write_text("x,y\n10,20\n30,5\n", encoding="utf-8")
    source = opened(tmp_path, PointLabels(folder=tmp_path / "points"))
    truth = ObjectTruths(source, (1,))(PLACE)
    assert truth is not None
    painter = TargetPainter(None, (1,), density_sigma_px=2.0)  # type: ignore[arg-type]
    maps = painter.maps(truth, np.ones((SIZE, SIZE), bool))
    assert truth.centres.tolist() == [[10.5, 20.5], [30.5, 5.5]]
    assert not maps["tells_class"].any()
    assert not maps["inside"].any()
    assert not maps["has_diameter"].any()
    assert maps["density"].sum() == pytest.approx(2)
    assert maps["centre"][0, [20, 5], [10, 30]].tolist() == [1, 1]
    assert bool(maps["has_objects"])


def test_an_image_without_trees_is_valid_and_one_without_objects_is_not_asked_for_them(tmp_path: Path) -> None:
    truth = truth_of(source_of(tmp_path, []))
    assert len(truth) == 0
    empty = painted(truth, density_sigma_px=2.0)
    assert bool(empty["has_objects"])
    assert empty["tells_class"].all()
    assert not empty["density"].any()
    unknown = painted(None, density_sigma_px=2.0)
    assert not bool(unknown["has_objects"])
    assert unknown["tells_class"].all()
    assert {name: values.shape for name, values in unknown.items()} == {
        name: values.shape for name, values in empty.items()
    }


def test_crown_diameters_are_taken_as_said_in_their_unit(tmp_path: Path) -> None:
    source = source_of(tmp_path, [{**OUTLINED, "crown_diameter": 9.0}])
    assert truth_of(source).diameter.tolist() == [9.0]
    with pytest.raises(DataError, match=r"size of a pixel is not known.*data\.pixel_size_m"):
        truth_of(source, crown_unit="m")
    sized = opened(tmp_path, CocoLabels(file=tmp_path / "coco.json"), pixel_size_m=0.5)
    assert truth_of(sized, crown_unit="m").diameter.tolist() == [18.0]
    assert truth_of(sized).pixel_size_m == 0.5


def test_diameters_of_another_size_than_outlines_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    side = math.sqrt(abs(OUTLINED["bbox"][2] * OUTLINED["bbox"][3]))
    truth_of(source_of(tmp_path / "same", [{**OUTLINED, "crown_diameter": side}]))
    assert "crown_diameter" not in caplog.text
    truth_of(source_of(tmp_path / "other", [{**OUTLINED, "crown_diameter": side / 5}]))
    assert "Is it in metres? Then set task.crown_unit: m." in caplog.text
    assert caplog.text.count("is usually") == 1


def test_crowds_count_neither_way_and_other_classes_are_left_out(tmp_path: Path) -> None:
    shade = {**OUTLINED, "category_id": 2, "segmentation": [[20, 20, 30, 20, 30, 30, 20, 30]], "bbox": [20, 20, 10, 10]}
    crowd = {**OUTLINED, "iscrowd": 1, "segmentation": {"size": [SIZE, SIZE], "counts": [0, 80, SIZE * SIZE - 80]}}
    source = source_of(tmp_path, [shade, crowd])
    truth = truth_of(source)
    assert truth.crowd.tolist() == [False, True]
    assert truth.counted(np.ones((SIZE, SIZE), bool)).tolist() == [True, False]
    only = ObjectTruths(source, (1,))(PLACE)
    assert only is not None
    assert only.crowd.tolist() == [True]


def test_every_object_belongs_to_the_tile_that_holds_its_centre(tmp_path: Path) -> None:
    source = source_of(tmp_path, [OUTLINED])
    left, right = (truth_of(source, Place("a", Window(0, col, SIZE, 10))) for col in (0, 10))
    assert left.is_inside.tolist() == [True]
    assert right.is_inside.tolist() == [False]
    assert right.centres.tolist() == [[-2, 10]]
    assert (right.ids == 1).sum() == 2 * 8  # columns 10 and 11 of the square
    assert [crop.pixels.shape for crop in right.crops()] == [(8, 2)]
    away = truth_of(source, Place("a", Window(20, 20, 10, 10)))
    assert len(away) == 0


def test_crops_hold_whole_outlines_though_others_lie_on_top(tmp_path: Path) -> None:
    small = {**OUTLINED, "segmentation": [[8, 10, 12, 10, 12, 14, 8, 14]], "bbox": [8, 10, 4, 4]}
    truth = truth_of(source_of(tmp_path, [OUTLINED, small]))
    assert [int(crop.pixels.sum()) for crop in truth.crops()] == [64, 16]
    assert [(truth.ids == n).sum() for n in (1, 2)] == [48, 16]
    moved = truth.moved(Draw(PLACE, (), flip_cols=True))
    assert [int(crop.pixels.sum()) for crop in moved.crops()] == [48, 16]


DRAWS = [
    Draw(PLACE, (), flip_rows=True),
    Draw(PLACE, (), flip_cols=True, turns=1),
    Draw(PLACE, (), turns=3),
    Draw(PLACE, (), flip_rows=True, flip_cols=True, turns=2),
]


@pytest.mark.parametrize("draw", DRAWS)
def test_ids_are_turned_exactly_and_centres_stay_in_the_middle(tmp_path: Path, draw: Draw) -> None:
    truth = truth_of(source_of(tmp_path, [OUTLINED]))
    moved = truth.moved(draw)
    assert np.array_equal(moved.ids, oriented(torch.from_numpy(truth.ids), draw).numpy())
    rows, cols = np.nonzero(moved.ids)
    assert moved.centres[0].tolist() == [cols.mean() + 0.5, rows.mean() + 0.5]
    assert moved.boxes[0].tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
    assert moved.diameter == truth.diameter


def test_ids_are_warped_as_masks_are() -> None:
    ids = np.zeros((SIZE, SIZE), np.int32)
    ids[5:20, 8:22], ids[25:35, 20:38] = 1, 2
    change = ImageChange(shift_rows=0.1, shift_cols=-0.05, elastic_alpha_px=30.0, elastic_sigma_px=4.0)
    draw = Draw(PLACE, (), flip_cols=True, rotate_deg=17.0, zoom=1.3, seed=5, image=change)
    image, target, valid = torch.zeros(1, SIZE, SIZE), torch.from_numpy(ids).long(), torch.ones(SIZE, SIZE).bool()
    out = torch.empty_like(image), torch.empty_like(target), torch.empty_like(valid)
    warp_sample((image, target, valid), draw, out)
    assert np.array_equal(warp_ids(ids, draw), out[1].numpy())


def test_diameters_grow_with_the_zoom_and_pixels_shrink(tmp_path: Path) -> None:
    source_of(tmp_path, [{**OUTLINED, "segmentation": [[16, 16, 24, 16, 24, 24, 16, 24]], "bbox": [16, 16, 8, 8]}])
    source = opened(tmp_path, CocoLabels(file=tmp_path / "coco.json"), pixel_size_m=0.5)
    moved = truth_of(source).moved(Draw(PLACE, (), zoom=2.0))
    assert moved.diameter == pytest.approx(2 * np.sqrt(4 * 64 / np.pi))
    assert moved.pixel_size_m == 0.25
    assert (moved.ids == 1).sum() == 256


def test_a_painted_batch_has_its_maps_after_augmentation(tmp_path: Path) -> None:
    source = source_of(tmp_path, [OUTLINED])
    painter = TargetPainter(ObjectTruths(source, (1, 2)), (1, 2))
    batch = Batch(
        torch.zeros(2, 1, SIZE, SIZE),
        torch.zeros(2, SIZE, SIZE, dtype=torch.int64),
        torch.ones(2, SIZE, SIZE, dtype=torch.bool),
        None,
        (PLACE, PLACE),
    )
    attached = painter.attach(batch)
    changed = augment_images(attached, [Draw(PLACE, (), flip_cols=True), Draw(PLACE, ())], unit=UNIT)
    maps = painter.paint(changed).maps
    assert maps is not None
    assert maps["centre"].shape == (2, 2, SIZE, SIZE)
    assert maps["centre"][:, 0].flatten(1).argmax(1).tolist() == [10 * SIZE + SIZE - 8, 10 * SIZE + 8]
    assert torch.equal(maps["inside"][0], maps["inside"][1].flip(-1))
    assert torch.equal(maps["offset"][0, 0], -maps["offset"][1, 0].flip(-1))


def test_centres_on_pixels_that_do_not_count_are_left_out(tmp_path: Path) -> None:
    truth = truth_of(source_of(tmp_path, [OUTLINED]))
    valid = np.ones((SIZE, SIZE), bool)
    valid[8:12] = False
    maps = TargetPainter(None, (1, 2), density_sigma_px=2.0).maps(truth, valid)  # type: ignore[arg-type]
    assert not maps["centre"].any()
    assert not maps["density"].any()
    assert maps["inside"].sum() == 32
