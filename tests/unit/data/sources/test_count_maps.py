from __future__ import annotations

import numpy as np
import pytest

from maskwright.data.sources.count_maps import centre_map, density_map
from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError

GRID = Grid(20, 30, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)


def test_centres_are_peaks_of_one_that_fall_off_like_a_bell() -> None:
    found = centre_map(np.array([[10.2, 5.9]]), GRID, 2.0)
    assert found.dtype == np.float32
    assert found[5, 10] == 1.0
    assert found.max() == 1.0
    np.testing.assert_allclose(found[5, 12], np.exp(-0.5), rtol=1e-6)
    np.testing.assert_allclose(found[6, 9], np.exp(-2 / 8), rtol=1e-6)
    assert found[19, 29] == 0.0


def test_where_bells_overlap_the_higher_one_stands() -> None:
    both = centre_map(np.array([[10.5, 5.5], [12.5, 5.5]]), GRID, 2.0)
    apart = [centre_map(np.array([point]), GRID, 2.0) for point in ([10.5, 5.5], [12.5, 5.5])]
    np.testing.assert_array_equal(both, np.maximum(*apart))


@pytest.mark.parametrize("sigma_px", [0.01, 0.4, 3.0, 50.0])
def test_density_adds_up_to_the_count_also_at_the_border(sigma_px: float) -> None:
    inside = np.random.default_rng(1).random((40, 2)) * [30, 20]
    points = np.concatenate([inside, [[0.0, 0.0], [29.999, 19.999], [0.0, 19.5]]])
    found = density_map(points, GRID, sigma_px)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(dtype=np.float64), 43, rtol=1e-6)
    assert found.min() >= 0


def test_density_lies_where_the_point_is() -> None:
    found = density_map(np.array([[15.5, 10.5]]), GRID, 1.5)
    rows, cols = np.indices(found.shape)
    np.testing.assert_allclose([(found * (cols + 0.5)).sum(), (found * (rows + 0.5)).sum()], [15.5, 10.5], rtol=1e-5)


def test_no_points_are_empty_maps() -> None:
    assert not centre_map(np.zeros((0, 2)), GRID, 2.0).any()
    assert not density_map(np.zeros((0, 2)), GRID, 2.0).any()


def test_points_outside_and_bells_without_width_are_refused() -> None:
    with pytest.raises(DataError, match="1 points lie outside the image of 20 x 30 pixels, the first at x 30, y 2"):
        density_map(np.array([[30.0, 2.0]]), GRID, 2.0)
    with pytest.raises(DataError, match="sigma_px is 0"):
        centre_map(np.array([[3.0, 2.0]]), GRID, 0.0)
