from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from maskwright.prediction.postprocess import Gaps, find_gaps, keep_where


def _blobs(seed: int, shape: tuple[int, int] = (90, 70), cut: float = 0.2) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2.0)
    return field > cut * field.std()


def _find(mask: np.ndarray, band_rows: int | None = None, probs: np.ndarray | None = None) -> Gaps:
    return find_gaps(
        lambda start, stop: mask[start:stop],
        *mask.shape,
        band_rows=band_rows,
        probabilities=None if probs is None else lambda start, stop: probs[start:stop],
    )


def _painted(gaps: Gaps, mask: np.ndarray) -> np.ndarray:
    return np.concatenate([numbers for _, numbers in gaps.numbers(lambda start, stop: mask[start:stop])])


def _at_least(gaps: Gaps, least_px: int) -> Gaps:
    return keep_where(gaps, gaps.area_px >= least_px)


@pytest.mark.parametrize("band_rows", [None, 1, 7, 90])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gaps_are_those_of_one_labelling_of_the_whole_mask(seed: int, band_rows: int | None) -> None:
    mask = _blobs(seed, cut=0.0)
    expected, count = ndimage.label(mask, np.ones((3, 3)))
    gaps = _find(mask, band_rows)
    assert len(gaps) == count
    np.testing.assert_array_equal(gaps.area_px, np.bincount(expected.ravel())[1:])
    np.testing.assert_array_equal(_painted(gaps, mask), expected - 1)


def test_a_gap_that_turns_back_across_bands_is_one_gap() -> None:
    mask = np.zeros((9, 7), bool)
    mask[1:8, 1] = mask[1:8, 5] = mask[7, 1:6] = True  # a U: two arms that meet in the last band
    gaps = _find(mask, band_rows=2)
    assert gaps.area_px.tolist() == [17]


def test_pixels_that_touch_at_a_corner_are_one_gap() -> None:
    for mask in (np.eye(4, dtype=bool), np.eye(4, dtype=bool)[::-1]):
        assert _find(mask, band_rows=2).area_px.tolist() == [4]


def test_mean_probability_is_taken_over_the_pixels_of_the_gap() -> None:
    mask = np.zeros((4, 6), bool)
    mask[0:3, 0] = mask[3, 4:6] = True
    probs = np.arange(24, dtype=np.float32).reshape(4, 6) / 24
    probs[~mask] = np.nan
    gaps = _find(mask, band_rows=2, probs=probs)
    assert gaps.mean_probability is not None
    np.testing.assert_allclose(gaps.mean_probability, [6 / 24, 22.5 / 24], rtol=1e-6)


@pytest.mark.parametrize("mask", [np.zeros((5, 4), bool), np.ones((5, 4), bool)], ids=["empty", "full"])
def test_empty_and_full_masks_are_defined(mask: np.ndarray) -> None:
    gaps = _find(mask, band_rows=2)
    assert gaps.area_px.tolist() == ([20] if mask.any() else [])
    np.testing.assert_array_equal(_painted(gaps, mask), mask.astype(int) - 1)


def test_small_gaps_are_left_out_and_the_others_keep_their_order() -> None:
    mask = np.zeros((3, 9), bool)
    mask[0, 0:3] = mask[0, 4] = mask[2, 0] = mask[2, 2:7] = True
    gaps = _at_least(_find(mask, band_rows=1), 3)
    assert gaps.area_px.tolist() == [3, 5]
    painted = _painted(gaps, mask)
    assert (painted[0, 0:3] == 0).all()
    assert (painted[2, 2:7] == 1).all()
    assert (painted >= 0).sum() == 8


@pytest.mark.parametrize("seed", range(5))
def test_leaving_out_small_gaps_keeps_gaps_inside_gaps(seed: int) -> None:
    low, high = _blobs(seed, cut=0.6), _blobs(seed, cut=0.1)
    assert (low <= high).all()
    kept = [_painted(_at_least(_find(mask, band_rows=8), 25), mask) >= 0 for mask in (low, high)]
    assert 0 < kept[0].sum() < low.sum()
    assert (kept[0] <= kept[1]).all()
