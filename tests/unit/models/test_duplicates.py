"""Objects that are one, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.models.duplicates import crop_iou, meeting_boxes, without_duplicates
from maskwright.models.grouping import GroupSettings, group
from maskwright.objects import Crop, FoundObjects, join_objects


def disc(x: float, y: float, radius: float, score: float) -> FoundObjects:
    """One crown: the pixels whose centres lie within a radius."""
    rows, cols = (np.arange(int(at - radius), int(at + radius) + 1) for at in (y, x))
    inside = (rows[:, None] + 0.5 - y) ** 2 + (cols[None] + 0.5 - x) ** 2 <= radius**2
    box = (cols[0], rows[0], cols[-1] + 1, rows[-1] + 1)
    return FoundObjects(
        np.array([box], np.float32),
        np.ones(1, np.int64),
        np.array([score], np.float32),
        np.array([(x, y)], np.float32),
        np.array([np.nan], np.float32),
        (Crop(int(rows[0]), int(cols[0]), inside),),
    )


def test_boxes_meet_where_they_share_more_than_a_border() -> None:
    first = np.array([(0, 0, 2, 2), (5, 5, 6, 6)], np.float32)
    second = np.array([(2, 0, 4, 2), (1, 1, 3, 3), (0, 0, 9, 9)], np.float32)
    assert meeting_boxes(first, second).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert meeting_boxes(first[:0], second).shape == (0, 2)


def test_discs_that_overlap_too_much_are_one_object() -> None:
    centre = np.zeros((1, 40, 60), np.float32)
    centre[0, 20, 20], centre[0, 20, 24], centre[0, 20, 45] = 0.8, 0.9, 0.7
    for overlap, places in ((0.3, [24.5, 45.5]), (0.9, [24.5, 20.5, 45.5])):
        settings = GroupSettings(shapes="discs", disc_px=16.0, duplicate_iou=overlap)
        assert group({"centre": centre}, settings).centres[:, 0].tolist() == places


def test_overlap_of_two_masks_by_hand() -> None:
    square = Crop(0, 0, np.ones((4, 4), bool))
    assert crop_iou(square, Crop(0, 2, np.ones((4, 4), bool))) == pytest.approx(8 / 24)
    assert crop_iou(square, Crop(4, 0, np.ones((4, 4), bool))) == 0.0
    assert crop_iou(square, square) == 1.0
    assert crop_iou(Crop(0, 0, np.zeros((2, 2), bool)), Crop(0, 0, np.zeros((2, 2), bool))) == 0.0


def test_of_duplicates_the_better_score_stays_and_what_only_it_beat_stays_too() -> None:
    row = [disc(20.0, 20.0, 10.0, 0.8), disc(23.0, 20.0, 10.0, 0.9), disc(26.0, 20.0, 10.0, 0.7)]
    chain = join_objects([*row, disc(60.0, 20.0, 10.0, 0.1)])
    assert without_duplicates(chain, 0.5).tolist() == [1, 3]
    assert without_duplicates(chain, 0.65).tolist() == [1, 3]
    apart = join_objects([disc(20.0, 20.0, 10.0, 0.8), disc(25.0, 20.0, 10.0, 0.9), disc(31.0, 20.0, 10.0, 0.7)])
    assert without_duplicates(apart, 0.6).tolist() == [0, 1, 2]
