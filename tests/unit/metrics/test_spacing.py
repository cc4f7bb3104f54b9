"""How trees stand to each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from shapely.geometry import Polygon, box

from maskwright.errors import ConfigError
from maskwright.metrics.spacing import clark_evans, nearest_distances, ripley_k, spread, voronoi_areas

SQUARE = box(0, 0, 10, 10)


def strewn(count: int, seed: int = 0, side: float = 10.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, side, (count, 2))


def test_nearest_distances_are_those_of_all_pairs() -> None:
    points = strewn(40)
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    assert nearest_distances(points) == pytest.approx(apart.min(1))
    others = strewn(7, seed=1)
    expected = np.hypot(*(points[:, None] - others[None]).transpose(2, 0, 1)).min(1)
    assert nearest_distances(points, to=others) == pytest.approx(expected)


def test_points_without_a_neighbour_have_no_distance() -> None:
    assert np.isnan(nearest_distances(np.array([[1.0, 1.0]]))).all()
    assert np.isnan(nearest_distances(strewn(3), to=np.zeros((0, 2)))).all()
    assert nearest_distances(np.zeros((0, 2))).shape == (0,)


def test_a_square_grid_is_regular_and_has_the_ratio_two() -> None:
    points = np.stack(np.meshgrid(np.arange(0.5, 10), np.arange(0.5, 10)), -1).reshape(-1, 2)
    found = clark_evans(points, SQUARE, at_edges="none")
    assert found.ratio == pytest.approx(2.0)  # mean 1 over 0.5 / sqrt(100 / 100)
    assert found.words == "regular"


def test_pairs_of_twins_are_clustered_and_strewn_points_are_random() -> None:
    centres = strewn(60)
    twins = np.concatenate([centres, centres + 0.01])
    assert clark_evans(twins, SQUARE).words == "clustered"
    ratios = [clark_evans(strewn(100, seed), SQUARE).ratio for seed in range(60)]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.02)
    plain = [clark_evans(strewn(100, seed), SQUARE, at_edges="none").ratio for seed in range(60)]
    assert np.mean(plain) > 1.03  # what the correction is for


def test_one_tree_says_nothing() -> None:
    found = clark_evans(np.array([[1, 1]]), SQUARE)
    assert math.isnan(found.ratio)
    assert found.words == "unknown"


def test_k_of_strewn_points_is_the_area_of_the_disc() -> None:
    radii = [0.5, 1.0, 2.0]
    found = np.mean([ripley_k(strewn(80, seed), SQUARE, radii) for seed in range(80)], axis=0)
    assert found == pytest.approx(np.pi * np.square(radii), rel=0.03)


def test_k_counts_pairs_by_hand() -> None:
    points = np.array([[2.0, 2.0], [3.0, 2.0], [8.0, 8.0]])
    found = ripley_k(points, SQUARE, [0.5, 1.0, 9.0])
    weights = [100 * 100 / (9 * 10), 100 * 100 / (4 * 4), 100 * 100 / (5 * 4)]
    assert found == pytest.approx([0.0, 2 / 6 * weights[0], 2 / 6 * sum(weights)])


def test_k_on_a_polygon_that_is_a_rectangle_in_disguise_is_the_same() -> None:
    points, radii = strewn(30), [1.0, 3.0]
    notched = Polygon([(0, 0), (10, 0), (10, 10), (5, 10), (5, 9.99999), (4.99999, 9.99999), (4.99999, 10), (0, 10)])
    assert ripley_k(points, notched, radii) == pytest.approx(ripley_k(points, SQUARE, radii), rel=1e-4)


def test_a_negative_radius_is_refused() -> None:
    with pytest.raises(ConfigError, match="radii: -1 is negative"):
        ripley_k(strewn(3), SQUARE, [-1.0])


def test_cells_divide_the_whole_ground_and_follow_the_nearest_point() -> None:
    points = strewn(25)
    areas = voronoi_areas(points, SQUARE)
    assert areas.sum() == pytest.approx(100.0)
    grid = np.stack(np.meshgrid(np.linspace(0.01, 9.99, 400), np.linspace(0.01, 9.99, 400)), -1).reshape(-1, 2)
    nearest = np.hypot(*(grid[:, None] - points[None]).transpose(2, 0, 1)).argmin(1)
    assert areas == pytest.approx(np.bincount(nearest, minlength=25) * 100 / len(grid), abs=0.15)


def test_two_points_share_the_ground_at_their_middle() -> None:
    assert voronoi_areas(np.array([[2.0, 5.0], [4.0, 5.0]]), SQUARE) == pytest.approx([30.0, 70.0])
    assert voronoi_areas(np.array([[2.0, 5.0]]), SQUARE) == pytest.approx([100.0])


def test_coinciding_points_have_no_cell() -> None:
    areas = voronoi_areas(np.array([[2.0, 5.0], [4.0, 5.0], [4.0, 5.0]]), SQUARE)
    assert areas[0] == pytest.approx(30.0)
    assert np.isnan(areas[1:]).all()


def test_spread_leaves_out_what_is_not_known() -> None:
    found = spread(np.array([1.0, 3.0, np.nan]))
    assert (found.mean, found.std, found.cv) == pytest.approx((2.0, math.sqrt(2), math.sqrt(2) / 2))
    assert math.isnan(spread(np.array([2.0])).std)
