from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from maskwright.prediction import postprocess
from maskwright.prediction.class_masks import class_codes, filled_holes, kept_objects


def _reader(plane: np.ndarray):
    return lambda start, stop: plane[start:stop]


def _filled(plane: np.ndarray, most_px: int) -> np.ndarray:
    out = np.empty_like(plane)

    def write(row: int, codes: np.ndarray) -> None:
        out[row : row + len(codes)] = codes

    filled_holes(_reader(plane), write, *plane.shape, most_px)
    return out


def _sieved(plane: np.ndarray, codes: list[int], least_px: float) -> np.ndarray:
    out = np.empty_like(plane)

    def write(row: int, part: np.ndarray) -> None:
        out[row : row + len(part)] = part

    kept_objects(_reader(plane), write, *plane.shape, codes, lambda gaps, _: gaps.area_px >= least_px)
    return out


def test_each_class_is_called_above_its_own_threshold_and_nothing_where_not_valid() -> None:
    probs = np.array([[[0.4, 0.6, 0.9]], [[0.4, 0.6, 0.9]]], np.float32)
    codes = class_codes(probs, np.array([[True, True, False]]), (0.5, 0.7), exclusive=False)
    assert codes.tolist() == [[[0, 1, 255]], [[0, 0, 255]]]


def test_of_equal_classes_the_first_wins() -> None:
    probs = np.array([[[0.4, 0.2]], [[0.4, 0.3]], [[0.2, 0.5]]], np.float32)
    assert class_codes(probs, np.ones((1, 2), bool), (), exclusive=True).tolist() == [[[0, 2]]]


@pytest.fixture(params=[10**9, 40], ids=["one band", "many bands"])
def band_px(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(postprocess, "BAND_PX", request.param)
    return int(request.param)


@pytest.mark.parametrize("seed", range(3))
def test_holes_of_one_class_are_those_scipy_fills(seed: int, band_px: int) -> None:
    plane = (ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((40, 30)), 1) > -0.1).astype(np.uint8)
    expected = ndimage.binary_fill_holes(plane)
    np.testing.assert_array_equal(_filled(plane, 10**6), expected)
    assert expected.sum() > plane.sum()  # the comparison is about something


def test_only_holes_of_the_asked_size_inside_one_class_are_filled(band_px: int) -> None:
    plane = np.zeros((12, 24), np.uint8)
    plane[1:11, 1:11] = 1
    plane[3:5, 3:5] = 0  # 4 px
    plane[6:9, 6:9] = 0  # 9 px: too large
    plane[1:11, 12:22] = 2
    plane[4:6, 14] = 0  # 2 px: another class around it
    plane[4:6, 18] = 0
    plane[4, 19] = 1  # touches another class
    plane[8, 14] = 0
    plane[8, 15] = 255  # touches what is not valid
    filled = _filled(plane, 4)
    expected = plane.copy()
    expected[3:5, 3:5] = 1
    expected[4:6, 14] = 2
    np.testing.assert_array_equal(filled, expected)


@pytest.mark.parametrize("seed", range(3))
def test_objects_below_the_size_are_left_out_class_by_class(seed: int, band_px: int) -> None:
    plane = np.random.default_rng(seed).integers(0, 3, (40, 30)).astype(np.uint8)
    plane[:3] = 255
    expected = plane.copy()
    for code in (1, 2):
        labels, _ = ndimage.label(plane == code, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel())
        expected[(sizes[labels] < 6) & (plane == code)] = 0
    np.testing.assert_array_equal(_sieved(plane, [1, 2], 6), expected)
