from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from maskwright.prediction import neighbourhood
from maskwright.prediction.neighbourhood import closed, opened, voted


@pytest.fixture(params=[2**22, 60], ids=["one band", "many bands"], autouse=True)
def band_px(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(neighbourhood, "_BAND_PX", request.param)
    return int(request.param)


def _changed(change: Callable[..., None], plane: np.ndarray, codes: list[int], size: int) -> np.ndarray:
    out = np.full_like(plane, 7)

    def write(row: int, part: np.ndarray) -> None:
        out[row : row + len(part)] = part

    change(lambda start, stop: plane[start:stop], write, *plane.shape, codes, size)
    return out


def _blobs(seed: int, cut: float = 0.0) -> np.ndarray:
    return (ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((50, 33)), 1.2) > cut).astype(np.uint8)


def _disc(radius: int) -> np.ndarray:
    steps = np.arange(-radius, radius + 1)
    return steps[:, None] ** 2 + steps**2 <= radius**2


@pytest.mark.parametrize("radius", [1, 2, 4])
def test_opening_and_closing_are_those_of_scipy_with_a_disc(radius: int) -> None:
    plane = _blobs(1)
    around = np.pad(plane.astype(bool), 2 * radius, constant_values=True)  # outside is no obstacle
    expected = ndimage.binary_opening(around, _disc(radius))
    inside = (slice(2 * radius, -2 * radius),) * 2
    np.testing.assert_array_equal(_changed(opened, plane, [1], radius), expected[inside] & (plane == 1))
    around = np.pad(plane.astype(bool), 2 * radius, constant_values=False)
    expected = ~ndimage.binary_opening(~around | (np.pad(np.ones_like(plane), 2 * radius) == 0), _disc(radius))
    np.testing.assert_array_equal(_changed(closed, plane, [1], radius), expected[inside] | (plane == 1))


def test_a_thin_bridge_is_opened_and_a_cleft_is_closed() -> None:
    plane = np.zeros((9, 15), np.uint8)
    plane[2:7, 1:6] = plane[2:7, 9:14] = plane[4, 6:9] = 1
    without = _changed(opened, plane, [1], 1)
    assert without[4].tolist() == [0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0]  # its ends are arms of a disc
    plane[4, 6:9] = 0
    plane[2:7, 5:10] = 1
    plane[:, 7] = 0
    assert _changed(closed, plane, [1], 1)[3:6, 7].tolist() == [1, 1, 1]


def test_pixels_that_are_not_valid_neither_open_nor_close_nor_vote() -> None:
    plane = np.full((7, 7), 255, np.uint8)
    plane[3, :] = 1  # one valid row between nothing
    for change, size in ((opened, 2), (closed, 2), (voted, 5)):
        np.testing.assert_array_equal(_changed(change, plane, [1], size), plane)
    plane[3, 3] = 0
    assert _changed(voted, plane, [1], 3)[3].tolist() == [1] * 7
    assert (_changed(voted, plane, [1], 3)[[0, 6]] == 255).all()


def test_the_vote_on_a_mask_is_its_median() -> None:
    plane = _blobs(3)
    expected = ndimage.median_filter(plane, size=5, mode="constant", cval=0)[2:-2, 2:-2]
    np.testing.assert_array_equal(_changed(voted, plane, [1], 5)[2:-2, 2:-2], expected)


def test_of_several_classes_the_most_common_wins_and_a_pixel_keeps_its_own_on_a_tie() -> None:
    plane = np.array([[1, 1, 2], [1, 2, 2], [0, 2, 2]], np.uint8)
    assert _changed(voted, plane, [1, 2], 3)[1, 1] == 2
    tie = np.array([[0, 1]], np.uint8)
    assert _changed(voted, tie, [1], 3).tolist() == [[0, 1]]


@pytest.mark.parametrize(("change", "size"), [(opened, 2), (closed, 2), (voted, 5)])
def test_a_mask_inside_another_stays_inside(change: Callable[..., None], size: int) -> None:
    low, high = _blobs(4, 0.1), _blobs(4, 0.0)
    rng = np.random.default_rng(5)
    gone = rng.random(low.shape) < 0.1
    low[gone] = high[gone] = 255
    inner, outer = (_changed(change, plane, [1], size) for plane in (low, high))
    assert not ((inner == 1) & (outer == 0)).any()
