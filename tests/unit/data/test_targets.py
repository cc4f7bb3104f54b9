from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from maskwright.data.targets import clean_gap_mask, gap_mask
from maskwright.errors import DataError, ShapeError


def _mask(rows: list[str]) -> np.ndarray:
    return np.array([[{"#": 1, ".": 0, "?": 255}[letter] for letter in row] for row in rows], np.uint8)


def test_a_gap_is_lower_than_the_height_and_nothing_else() -> None:
    canopy = np.array([[4.999, 5.0, 5.001, -1.0, 0.0]], np.float32)
    mask = gap_mask(canopy, np.ones((1, 5), bool), (5.0, 0.0))
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[[1, 0, 0, 1, 1]], [[0, 0, 0, 1, 0]]]


def test_nodata_is_never_counted_as_a_gap() -> None:
    canopy = np.array([[-9999.0, np.nan, 2.0, 20.0]], np.float32)
    valid = np.array([[False, True, True, True]])
    assert gap_mask(canopy, valid, (5.0,)).tolist() == [[[255, 255, 1, 0]]]


def test_values_that_are_not_valid_change_no_mask() -> None:
    rng = np.random.default_rng(0)
    canopy = rng.uniform(0, 30, (40, 50)).astype(np.float32)
    valid = rng.random((40, 50)) > 0.2
    garbage = np.where(valid, canopy, rng.normal(0, 1e5, canopy.shape)).astype(np.float32)
    assert np.array_equal(gap_mask(canopy, valid, (2, 5, 10)), gap_mask(garbage, valid, (2, 5, 10)))


def test_masks_of_rising_heights_lie_inside_each_other() -> None:
    canopy = np.random.default_rng(1).uniform(0, 30, (30, 30)).astype(np.float32)
    mask = gap_mask(canopy, np.ones((30, 30), bool), (2, 5, 10, 15, 20))
    assert (np.diff(mask.astype(int), axis=0) >= 0).all()
    assert [int(plane.sum()) for plane in mask] == [int((canopy < height).sum()) for height in (2, 5, 10, 15, 20)]


def test_a_canopy_and_a_validity_of_different_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"canopy is \(2, 3\) and valid is \(3, 2\)"):
        gap_mask(np.zeros((2, 3)), np.ones((3, 2), bool), (5,))


def test_with_everything_off_the_mask_is_copied_unchanged() -> None:
    mask = np.random.default_rng(2).choice([0, 1, 255], (3, 20, 20)).astype(np.uint8)
    cleaned = clean_gap_mask(mask)
    assert np.array_equal(cleaned, mask)
    assert cleaned is not mask


def test_small_and_large_gaps_are_removed_and_corners_join_gaps() -> None:
    mask = _mask(["#....", ".#...", ".....", "...##", "#..##"])
    assert clean_gap_mask(mask, min_gap_px=2).tolist() == _mask(["#....", ".#...", ".....", "...##", "...##"]).tolist()
    assert clean_gap_mask(mask, max_gap_px=3).tolist() == _mask(["#....", ".#...", ".....", ".....", "#...."]).tolist()


def test_each_plane_is_cleaned_on_its_own() -> None:
    mask = np.stack([_mask(["##.", "...", "..#"]), _mask(["...", ".#.", "..."])])
    cleaned = clean_gap_mask(mask, min_gap_px=2)
    assert cleaned.tolist() == [_mask(["##.", "...", "..."]).tolist(), _mask(["...", "...", "..."]).tolist()]


def test_holes_are_filled_only_where_gap_surrounds_them() -> None:
    mask = _mask(["######", "#.##.#", "######", "####.?", "##.###", "##.###"])
    filled = _mask(["######", "######", "######", "####.?", "##.###", "##.###"])  # the others touch the edge or nodata
    assert clean_gap_mask(mask, fill_holes_px=1).tolist() == filled.tolist()


def test_holes_larger_than_allowed_stay() -> None:
    mask = _mask(["#####", "#..##", "###.#", "#####"])
    assert clean_gap_mask(mask, fill_holes_px=1).tolist() == _mask(["#####", "#..##", "#####", "#####"]).tolist()
    assert clean_gap_mask(mask, fill_holes_px=2).tolist() == _mask(["#####"] * 4).tolist()


def test_the_majority_equals_the_median_where_all_is_valid() -> None:
    mask = (np.random.default_rng(3).random((40, 40)) < 0.45).astype(np.uint8)
    inner = clean_gap_mask(mask, median=True)[1:-1, 1:-1]
    assert np.array_equal(inner, ndimage.median_filter(mask, 3)[1:-1, 1:-1])


def test_the_majority_asks_valid_pixels_only_and_a_tie_changes_nothing() -> None:
    mask = _mask(["#?", ".?"])
    assert clean_gap_mask(mask, median=True).tolist() == mask.tolist()


def test_erosion_and_dilation_equal_those_of_scipy_inside() -> None:
    mask = (ndimage.gaussian_filter(np.random.default_rng(4).random((60, 60)), 2) > 0.5).astype(np.uint8)
    square = np.ones((3, 3))
    inner = (slice(4, -4), slice(4, -4))
    eroded = ndimage.binary_erosion(mask, square, iterations=2, border_value=1)
    assert np.array_equal(clean_gap_mask(mask, erode=2)[inner], eroded[inner])
    assert np.array_equal(clean_gap_mask(mask, dilate=2), ndimage.binary_dilation(mask, square, iterations=2))
    opened = ndimage.binary_dilation(eroded, square, iterations=2)
    assert np.array_equal(clean_gap_mask(mask, erode=2, dilate=2)[inner], opened[inner])


def test_pixels_that_are_not_valid_neither_grow_gaps_nor_eat_them() -> None:
    mask = _mask(["?###", "?###", "?###", "...."])
    assert clean_gap_mask(mask, erode=1).tolist() == _mask(["?###", "?###", "?...", "...."]).tolist()
    assert clean_gap_mask(mask, dilate=1).tolist() == _mask(["?###", "?###", "?###", "####"]).tolist()


def test_canopy_heights_given_as_a_mask_are_refused() -> None:
    with pytest.raises(DataError, match=r"0, 1 and 255 only; this one holds \[3, 12\]"):
        clean_gap_mask(np.array([[3, 12]], np.uint8))
