"""Found objects: picked, shifted, joined and painted."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.errors import ShapeError
from maskwright.objects import Crop, FoundObjects, id_map_of, join_objects


def squares(*corners: tuple[int, int], side: int = 2, scores: tuple[float, ...] = ()) -> FoundObjects:
    count = len(corners)
    boxes = [(col, row, col + side, row + side) for row, col in corners]
    return FoundObjects(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.arange(1, count + 1),
        np.array(scores or [0.5] * count, np.float32),
        np.array([(col + side / 2, row + side / 2) for row, col in corners], np.float32).reshape(-1, 2),
        np.full(count, np.nan, np.float32),
        tuple(Crop(row, col, np.ones((side, side), bool)) for row, col in corners),
    )


def test_objects_are_picked_by_position_and_by_bool() -> None:
    found = squares((0, 0), (3, 4), (6, 6))
    assert found.pick([2, 0]).labels.tolist() == [3, 1]
    assert found.pick(np.array([False, True, False])).boxes.tolist() == [[4, 3, 6, 5]]
    assert len(found.pick([])) == 0


def test_shifted_objects_move_with_boxes_centres_and_crops() -> None:
    found = squares((3, 4)).shifted(10, 20)
    assert found.boxes.tolist() == [[24, 13, 26, 15]]
    assert found.centres.tolist() == [[25, 14]]
    assert (found.masks[0].row, found.masks[0].col) == (13, 24)


def test_an_id_map_shows_the_best_score_on_top_and_cuts_at_the_border() -> None:
    found = squares((0, 0), (1, 1), (-1, 2), scores=(0.9, 0.3, 0.5))
    assert found.id_map(3, 4).tolist() == [[1, 1, 3, 3], [1, 1, 2, 0], [0, 2, 2, 0]]
    assert found.areas().tolist() == [4, 4, 4]


def test_no_objects_are_objects_too() -> None:
    none = FoundObjects.none()
    assert len(none) == len(join_objects([])) == len(join_objects([none, none])) == 0
    assert not none.id_map(2, 2).any()
    assert none.shifted(1, 1).boxes.shape == (0, 4)


def test_joined_objects_keep_their_order() -> None:
    joined = join_objects([squares((0, 0)), squares((4, 4), (8, 8))])
    assert joined.boxes[:, 0].tolist() == [0, 4, 8]
    assert id_map_of(joined.masks, [6, 5, 4], 10, 10)[[0, 4, 8], [0, 4, 8]].tolist() == [7, 6, 5]


def test_arrays_that_do_not_fit_are_refused() -> None:
    found = squares((0, 0), (3, 4))
    with pytest.raises(ShapeError, match=r"2 objects need labels \(2,\), not \(1,\)"):
        FoundObjects(found.boxes, found.labels[:1], found.scores, found.centres, found.diameter, found.masks)
