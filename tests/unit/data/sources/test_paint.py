from __future__ import annotations

import numpy as np
import shapely

from maskwright.data.sources.classes import ClassTable
from maskwright.data.sources.paint import UNCOUNTED, LabelObject, burn, empty_value, paint_objects
from maskwright.data.sources.shapes import Geometry, Polygons, Runs, box_shape, encode_counts

CLASSES = [("a", ()), ("b", ())]
BINARY = ClassTable.from_config([("a", ())], "background", "binary")
MULTICLASS = ClassTable.from_config(CLASSES, "background", "multiclass")
NAMED = ClassTable.from_config(CLASSES, None, "multiclass")
MULTILABEL = ClassTable.from_config(CLASSES, "background", "multilabel")


def thing(label: int, *box: float, **more: bool) -> LabelObject:
    return LabelObject(label, (box[0], box[1], box[2], box[3]), box_shape((box[0], box[1], box[2], box[3])), **more)


def test_a_pixel_belongs_to_an_area_if_its_centre_lies_inside() -> None:
    out = np.zeros((3, 3), np.uint8)
    burn(out, [box_shape((0.4, 0.6, 2.4, 2.6))], [1])
    np.testing.assert_array_equal(out, [[0, 0, 0], [1, 1, 0], [1, 1, 0]])


def test_areas_that_share_an_outline_through_centres_share_no_pixel() -> None:
    left, right = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    burn(left, [box_shape((0.0, 0.0, 1.5, 4.0))], [1])
    burn(right, [box_shape((1.5, 0.0, 4.0, 4.0))], [1])
    np.testing.assert_array_equal(left + right, 1)


def test_all_touched_takes_every_pixel_an_area_meets() -> None:
    out = np.zeros((3, 3), np.uint8)
    burn(out, [box_shape((0.6, 0.6, 1.4, 1.4))], [1], all_touched=True)
    assert out[:2, :2].all()
    assert out.sum() == 4


def test_the_smaller_object_is_on_top() -> None:
    objects = [thing(1, 1, 1, 2, 2), thing(2, 0, 0, 3, 3)]
    out = paint_objects(objects, 3, 3, MULTICLASS)
    np.testing.assert_array_equal(out, [[2, 2, 2], [2, 1, 2], [2, 2, 2]])
    assert out.dtype == np.uint8


def test_as_listed_the_later_object_is_on_top() -> None:
    objects = [thing(1, 1, 1, 2, 2), thing(2, 0, 0, 3, 3)]
    np.testing.assert_array_equal(paint_objects(objects, 3, 3, MULTICLASS, order="as_listed"), 2)


def test_run_lengths_and_polygons_keep_their_order() -> None:
    mask = np.zeros((3, 3), bool)
    mask[:, :2] = True
    runs = LabelObject(2, (0, 0, 2, 3), Runs(encode_counts(mask), 3, 3))
    objects = [thing(1, 0, 0, 3, 1), runs, thing(1, 0, 2, 3, 3)]
    out = paint_objects(objects, 3, 3, MULTICLASS, order="as_listed")
    np.testing.assert_array_equal(out, [[2, 2, 1], [2, 2, 0], [1, 1, 1]])


def test_polygons_of_one_object_are_a_union() -> None:
    rings = tuple(shape.rings[0] for shape in (box_shape((0, 0, 2, 2)), box_shape((1, 1, 3, 3))))
    out = paint_objects([LabelObject(1, (0, 0, 3, 3), Polygons(rings))], 3, 3, BINARY)
    np.testing.assert_array_equal(out, [[1, 1, 0], [1, 1, 1], [0, 1, 1]])


def test_holes_of_vector_shapes_stay_empty() -> None:
    ring = shapely.box(0, 0, 3, 3) - shapely.box(1, 1, 2, 2)
    out = paint_objects([LabelObject(1, (0, 0, 3, 3), Geometry(ring))], 3, 3, BINARY)
    np.testing.assert_array_equal(out, [[1, 1, 1], [1, 0, 1], [1, 1, 1]])


def test_objects_that_do_not_count_lie_below_the_others() -> None:
    objects = [thing(1, 0, 0, 1, 1), thing(UNCOUNTED, 0, 0, 2, 1), thing(1, 2, 0, 3, 1, ignored=True, crowd=True)]
    np.testing.assert_array_equal(paint_objects(objects, 1, 4, BINARY), [[1, 255, 255, 0]])


def test_labels_that_overlap_are_sets_of_bits() -> None:
    out = paint_objects([thing(0, 0, 0, 2, 1), thing(1, 1, 0, 3, 1), thing(UNCOUNTED, 3, 0, 4, 1)], 1, 5, MULTILABEL)
    np.testing.assert_array_equal(out, [[1, 3, 2, 65535, 0]])
    assert out.dtype == np.uint16


def test_what_a_label_that_overlaps_leaves_open_does_not_count_at_all() -> None:
    out = paint_objects([thing(0, 0, 0, 2, 1), thing(UNCOUNTED, 1, 0, 3, 1)], 1, 3, MULTILABEL)
    np.testing.assert_array_equal(out, [[1, 65535, 65535]])


def test_without_background_empty_pixels_do_not_count() -> None:
    assert empty_value(NAMED) == 255
    np.testing.assert_array_equal(paint_objects([thing(0, 0, 0, 1, 1)], 1, 2, NAMED), [[0, 255]])


def test_an_image_without_objects_is_background() -> None:
    np.testing.assert_array_equal(paint_objects([], 2, 3, MULTICLASS), np.zeros((2, 3)))


def test_a_window_holds_what_the_whole_holds_there() -> None:
    shapes = [
        box_shape((1.2, 2.2, 6.7, 5.1)),
        Geometry(shapely.Point(5, 5).buffer(2.3)),
        Runs(encode_counts(np.eye(9, dtype=bool)), 9, 9),
    ]
    whole, window = np.zeros((9, 9), np.uint8), np.zeros((4, 5), np.uint8)
    burn(whole, shapes, [1, 2, 3])
    burn(window, shapes, [1, 2, 3], origin=(3, 2))
    np.testing.assert_array_equal(window, whole[3:7, 2:7])
