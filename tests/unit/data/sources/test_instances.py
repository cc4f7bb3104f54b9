from __future__ import annotations

import math

import numpy as np

from maskwright.data.sources.instances import crown_diameter_from_area, crown_map, gather_instances
from maskwright.data.sources.paint import UNCOUNTED, LabelObject
from maskwright.data.sources.shapes import Runs, box_shape, encode_counts
from maskwright.types import Window


def boxed(label: int, *box: float, crown_diameter: float = math.nan, crowd: bool = False) -> LabelObject:
    corners = (box[0], box[1], box[2], box[3])
    return LabelObject(label, corners, box_shape(corners), crowd=crowd, crown_diameter=crown_diameter)


def test_objects_become_arrays_and_boxes_end_at_the_image() -> None:
    found = gather_instances([boxed(1, -2, 1, 3, 9, crown_diameter=4.5), boxed(2, 0, 0, 1, 1, crowd=True)], 6, 5)
    np.testing.assert_array_equal(found.boxes, np.array([[0, 1, 3, 6], [0, 0, 1, 1]], np.float32))
    assert found.boxes.dtype == np.float32
    assert found.labels.tolist() == [1, 2]
    assert found.crowd.tolist() == [False, True]
    assert found.crown_diameter[0] == 4.5
    assert np.isnan(found.crown_diameter[1])


def test_no_objects_are_arrays_without_rows() -> None:
    found = gather_instances([], 4, 4)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.masks().shape == (0, 4, 4)
    assert not found.id_map().any()
    assert len(found.crop(Window(0, 0, 2, 2))) == 0


def test_overlapping_objects_keep_their_whole_masks() -> None:
    found = gather_instances([boxed(1, 0, 0, 2, 2), boxed(1, 1, 1, 3, 3)], 3, 3)
    assert found.masks().sum(axis=(1, 2)).tolist() == [4, 4]
    np.testing.assert_array_equal(found.id_map(), [[1, 1, 0], [1, 2, 2], [0, 2, 2]])


def test_a_box_alone_has_its_box_as_mask() -> None:
    found = gather_instances([LabelObject(1, (1, 0, 3, 1), None)], 2, 4)
    np.testing.assert_array_equal(found.mask(0), [[False, True, True, False], [False] * 4])
    assert found.has_outline.tolist() == [False]


def test_a_crop_shows_the_same_pixels() -> None:
    mask = np.random.default_rng(3).random((8, 9)) < 0.4
    found = gather_instances(
        [boxed(1, 2, 1, 7, 5), LabelObject(2, (0, 0, 9, 8), Runs(encode_counts(mask), 8, 9)), boxed(1, 0, 7, 1, 8)],
        8,
        9,
    )
    part = found.crop(Window(2, 3, 4, 5))
    assert part.labels.tolist() == [1, 2]
    np.testing.assert_array_equal(part.masks(), found.masks()[:2, 2:6, 3:8])
    np.testing.assert_array_equal(part.boxes[0], [0, 0, 4, 3])
    again = part.crop(Window(1, -1, 2, 4))
    np.testing.assert_array_equal(again.mask(0)[:, 1:], found.mask(0)[3:5, 3:6])
    assert not again.mask(0)[:, 0].any() or found.mask(0)[3:5, 2].any()


def test_crowds_and_objects_that_do_not_count_are_no_instances_to_find() -> None:
    found = gather_instances([boxed(UNCOUNTED, 0, 0, 2, 2), boxed(1, 0, 0, 1, 1)], 2, 2)
    assert found.crowd.tolist() == [True, False]
    np.testing.assert_array_equal(found.id_map(), [[2, 0], [0, 0]])


def test_the_diameter_from_the_area_is_that_of_a_circle() -> None:
    found = gather_instances([boxed(1, 0, 0, 4, 4)], 5, 5)
    np.testing.assert_allclose(crown_diameter_from_area(found), [math.sqrt(4 * 16 / math.pi)], rtol=1e-6)


def test_the_crown_map_shows_the_diameter_of_the_object_on_top() -> None:
    found = gather_instances([boxed(1, 0, 0, 3, 3, crown_diameter=7.5), boxed(1, 0, 0, 1, 1)], 3, 4)
    own = np.float32(math.sqrt(4 / math.pi))
    np.testing.assert_allclose(
        crown_map(found), [[own, 7.5, 7.5, 0], [7.5, 7.5, 7.5, 0], [7.5, 7.5, 7.5, 0]], rtol=1e-6
    )
    assert crown_map(found).dtype == np.float32
    assert not crown_map(gather_instances([], 2, 2)).any()
