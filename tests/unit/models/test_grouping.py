"""Grouping: maps made by hand become the objects they were made of."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.errors import ShapeError
from maskwright.models.grouping import GroupSettings, find_peaks, group

TWO = GroupSettings(object_ids=(1, 2), min_area_px=1)


def maps_of(
    discs: list[tuple[int, int, int, int]], size: int = 64, heights: tuple[float, ...] = ()
) -> dict[str, np.ndarray]:
    """Perfect maps of discs (row, col, radius, class), later ones on top; centres reach ``heights``."""
    rows, cols = np.mgrid[:size, :size]
    maps = {
        "semantic": np.zeros((3, size, size), np.float32),
        "centre": np.zeros((2, size, size), np.float32),
        "offset": np.zeros((2, size, size), np.float32),
        "diameter": np.zeros((1, size, size), np.float32),
    }
    maps["semantic"][0] = 1
    for index, (row, col, radius, label) in enumerate(discs):
        inside = (rows - row) ** 2 + (cols - col) ** 2 <= radius**2
        maps["semantic"][:, inside] = 0
        maps["semantic"][label, inside] = 1
        maps["offset"][0, inside], maps["offset"][1, inside] = (col - cols)[inside], (row - rows)[inside]
        maps["diameter"][0, inside] = 2 * radius
        bell = np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / 8) * (heights[index] if heights else 1.0)
        maps["centre"][label - 1] = np.maximum(maps["centre"][label - 1], bell)
    return maps


def test_separate_discs_come_back_with_class_centre_diameter_and_every_pixel() -> None:
    maps = maps_of([(12, 14, 6, 1), (40, 45, 9, 2)], heights=(0.9, 0.8))
    found = group(maps, TWO)
    assert found.labels.tolist() == [1, 2]
    assert found.centres.tolist() == [[14.5, 12.5], [45.5, 40.5]]
    assert found.diameter.tolist() == [12, 18]
    assert found.scores == pytest.approx([0.9, 0.8])
    assert found.boxes.tolist() == [[8, 6, 21, 19], [36, 31, 55, 50]]
    painted = found.id_map(64, 64)
    assert np.array_equal(painted > 0, maps["semantic"][1:].sum(axis=0) > 0.5)


def test_touching_discs_are_parted_by_their_votes() -> None:
    found = group(maps_of([(30, 20, 9, 1), (30, 36, 9, 1)]), TWO)
    assert len(found) == 2
    first, second = found.areas()
    assert abs(int(first) - 253) <= 25  # 253 pixels in a disc of radius 9; the other one covers a little of it
    assert second + first == np.count_nonzero(maps_of([(30, 20, 9, 1), (30, 36, 9, 1)])["semantic"][1])


def test_pixels_whose_centre_lies_outside_belong_to_no_other() -> None:
    maps = maps_of([(30, 30, 8, 1)])
    maps["semantic"][0, :, 55:], maps["semantic"][1, :, 55:] = 0, 1
    maps["offset"][0, :, 55:] = 40  # they vote far beyond the border
    found = group(maps, TWO)
    assert len(found) == 1
    assert found.boxes.tolist() == [[22, 22, 39, 39]]


def test_nothing_is_found_where_nothing_counts_and_of_empty_maps() -> None:
    maps = maps_of([(12, 14, 6, 1), (40, 45, 9, 2)])
    valid = np.zeros((64, 64), bool)
    assert len(group(maps, TWO, valid)) == 0
    valid[:, 30:] = True
    assert group(maps, TWO, valid).labels.tolist() == [2]
    assert len(group(maps_of([]), TWO)) == 0


def test_a_centre_without_pixels_and_small_or_unsure_objects_are_left_out() -> None:
    maps = maps_of([(12, 14, 6, 1), (40, 45, 1, 2)], heights=(0.25, 0.9))
    assert group(maps, GroupSettings(object_ids=(1, 2), min_score=0.3, min_area_px=6)).labels.tolist() == []
    assert group(maps, GroupSettings(object_ids=(1, 2), min_score=0.2, min_area_px=6)).labels.tolist() == [1]
    assert group(maps, GroupSettings(object_ids=(1, 2), min_score=0.3, min_area_px=5)).labels.tolist() == [2]
    maps["semantic"][:] = 0
    assert len(group(maps, TWO)) == 0


def test_discs_have_the_diameter_told_or_that_of_the_settings() -> None:
    maps = maps_of([(12, 14, 6, 1), (40, 45, 9, 2)], heights=(0.9, 0.8))
    settings = GroupSettings(object_ids=(1, 2), shapes="discs", disc_px=10.0)
    told = group(maps, settings)
    assert told.areas().tolist() == [113, 253]
    del maps["diameter"], maps["semantic"], maps["offset"]
    same = group(maps, settings)
    assert same.areas().tolist() == [81, 81]
    assert same.labels.tolist() == [1, 2]
    assert np.isnan(same.diameter).all()


def test_peaks_of_a_plateau_are_one_and_near_ones_give_way_to_higher_ones() -> None:
    heat = np.zeros((9, 20), np.float32)
    heat[4, 3:6] = 0.5
    heat[2, 12], heat[2, 14] = 0.6, 0.7
    assert find_peaks(heat, 0.1, 3, 10).tolist() == [[2, 14], [4, 3]]
    assert find_peaks(heat, 0.1, 1, 10).tolist() == [[2, 14], [2, 12], [4, 3], [4, 5]]
    assert find_peaks(heat, 0.1, 1, 1).tolist() == [[2, 14]]


def test_many_objects_are_all_found() -> None:
    places = [(row, col, 3, 1 + (row + col) % 2) for row in range(5, 250, 8) for col in range(5, 250, 8)]
    found = group(maps_of(places, 256), TWO)
    assert len(found) == len(places)
    assert set(found.areas().tolist()) == {29}


def test_maps_of_other_channels_are_refused() -> None:
    maps = maps_of([(12, 14, 6, 1)])
    with pytest.raises(ShapeError, match=r"The map centre has shape \(1, 64, 64\); \(2, H, W\) is needed"):
        group({**maps, "centre": maps["centre"][:1]}, TWO)
    with pytest.raises(ShapeError, match="no channel for every class of objects"):
        group({**maps, "semantic": maps["semantic"][:2]}, TWO)
