from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from maskwright.errors import ConfigError, ShapeError
from maskwright.metrics.baselines import everything_counts, nothing_counts, prevalence_counts, pseudo_canopy
from maskwright.metrics.scores import iou

COUNTS = np.array([[[30, 10, 20, 40], [0, 5, 0, 95]]])  # 50 and 0 gap pixels of 100


def test_nothing_misses_every_gap() -> None:
    assert nothing_counts(COUNTS).tolist() == [[[0, 0, 50, 50], [0, 0, 0, 100]]]


def test_everything_finds_every_gap_and_calls_the_rest_too() -> None:
    assert everything_counts(COUNTS).tolist() == [[[50, 50, 0, 0], [0, 100, 0, 0]]]
    assert iou(everything_counts(COUNTS))[0, 0] == 0.5


def test_the_coin_hits_as_often_as_chance_does() -> None:
    counts = prevalence_counts(COUNTS, np.array([0.3, 0.05]))

    assert counts.tolist() == [[[15, 15, 35, 35], [0, 5, 0, 95]]]
    assert counts.dtype == np.int64


def test_baselines_keep_the_pixels_and_the_truth() -> None:
    counts = np.random.default_rng(0).integers(0, 999, size=(6, 3, 4))
    for baseline in (nothing_counts(counts), everything_counts(counts), prevalence_counts(counts, [0.1, 0.5, 1.0])):
        assert np.array_equal(baseline.sum(axis=-1), counts.sum(axis=-1))
        assert np.array_equal(baseline[..., (0, 2)].sum(axis=-1), counts[..., (0, 2)].sum(axis=-1))


def test_one_training_share_per_height_is_needed() -> None:
    with pytest.raises(ShapeError, match="1 training shares do not fit 2 heights"):
        prevalence_counts(COUNTS, [0.5])
    with pytest.raises(ConfigError, match="are not all inside"):
        prevalence_counts(COUNTS, [0.5, 1.2])
    with pytest.raises(ShapeError, match="do not end in 4"):
        nothing_counts(np.zeros((2, 3), dtype=np.int64))


@pytest.mark.parametrize("window_px", [1, 2, 3, 4, 7, 10, 31])
def test_the_pseudo_canopy_is_the_white_top_hat_of_scipy(window_px: int) -> None:
    surface = np.random.default_rng(window_px).normal(20, 5, size=(40, 33)).astype(np.float32)

    expected = surface - ndimage.grey_opening(surface, size=(window_px, window_px))

    assert np.array_equal(pseudo_canopy(surface, window_px), expected)


def test_a_tree_on_flat_ground_keeps_its_height() -> None:
    surface = np.full((21, 21), 100.0, dtype=np.float32)
    surface[8:13, 8:13] = 118.0

    canopy = pseudo_canopy(surface, 7)

    assert canopy[10, 10] == 18.0
    assert canopy[0, 0] == 0.0


def test_a_window_smaller_than_the_crown_takes_the_crown_for_ground() -> None:
    surface = np.full((21, 21), 100.0, dtype=np.float32)
    surface[8:13, 8:13] = 118.0

    assert not pseudo_canopy(surface, 5).any()


def opening_slowly(surface: np.ndarray, half: int) -> np.ndarray:
    """Odd windows only: minimum then maximum over what was measured."""
    height, width = surface.shape
    lowest = np.full(surface.shape, -np.inf)
    for i in range(height):
        for j in range(width):
            near = surface[max(0, i - half) : i + half + 1, max(0, j - half) : j + half + 1]
            if not np.isnan(near).all():
                lowest[i, j] = np.nanmin(near)
    opened = np.empty(surface.shape)
    for i in range(height):
        for j in range(width):
            opened[i, j] = lowest[max(0, i - half) : i + half + 1, max(0, j - half) : j + half + 1].max()
    return opened


def test_pixels_that_were_not_measured_take_no_part() -> None:
    rng = np.random.default_rng(5)
    surface = rng.normal(50, 4, size=(24, 24)).astype(np.float32)
    surface[rng.random((24, 24)) < 0.3] = np.nan
    surface[:9, :9] = np.nan  # wider than the window

    canopy = pseudo_canopy(surface, 5)

    assert np.array_equal(np.isnan(canopy), np.isnan(surface))
    known = ~np.isnan(surface)
    assert np.array_equal(canopy[known], (surface - opening_slowly(surface, 2).astype(np.float32))[known])
    assert (canopy[known] >= 0).all()
    assert np.isfinite(canopy[known]).all()


def test_a_surface_without_any_height_stays_unknown() -> None:
    assert np.isnan(pseudo_canopy(np.full((6, 6), np.nan, dtype=np.float32), 3)).all()
    assert pseudo_canopy(np.zeros((0, 4), dtype=np.float32), 3).shape == (0, 4)


def test_a_window_larger_than_the_surface_takes_its_lowest_point_for_ground() -> None:
    surface = np.random.default_rng(1).normal(size=(7, 9)).astype(np.float32)

    assert np.array_equal(pseudo_canopy(surface, 99), surface - surface.min())


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"A surface is \(H, W\); this one has shape \(1, 4, 4\)"):
        pseudo_canopy(np.zeros((1, 4, 4), dtype=np.float32), 3)
    with pytest.raises(ConfigError, match="window_px: 0 is smaller than 1 px"):
        pseudo_canopy(np.zeros((4, 4), dtype=np.float32), 0)
