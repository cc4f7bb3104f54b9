"""Scores that agronomists act on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from shapely.geometry import box

from maskwright.errors import ConfigError
from maskwright.metrics.canopy import (
    band,
    canopy_scores,
    count_score,
    crown_scores,
    density_scores,
    match_positions,
    optimal_pairs,
    shade_scores,
    species_scores,
)

NAMES = {1: "cacao", 2: "shade"}


@pytest.mark.parametrize(
    ("called", "true", "accuracy"), [(10, 10, 1.0), (9, 10, 0.9), (10, 1, 0.1), (0, 7, 0.0), (0, 0, 1.0)]
)
def test_counts_are_never_worse_than_nothing(called: int, true: int, accuracy: float) -> None:
    found = count_score(called, true)
    assert found.accuracy == pytest.approx(accuracy)
    assert found.error == called - true


def test_pairs_are_as_many_as_brute_force_finds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        values = np.where(rng.random((4, 5)) < 0.5, rng.random((4, 5)), 0.0)
        best = max(
            ((sum(v >= 0.3 for v in taken), sum(v for v in taken if v >= 0.3)) for taken in every(values)),
        )
        pairs = optimal_pairs(values, 0.3)
        found = values[pairs[:, 0], pairs[:, 1]]
        assert (len(found), found.sum()) == pytest.approx(best)


def every(values: np.ndarray) -> list[list[float]]:
    rows = range(len(values))
    return [[values[r, c] for r, c in zip(rows, cols, strict=True)] for cols in itertools.permutations(range(5), 4)]


def test_two_trees_share_two_partners_although_one_would_take_the_best() -> None:
    values = np.array([[0.9, 0.6], [0.8, 0.0]])  # greedy takes .9 and leaves the second without one
    assert optimal_pairs(values, 0.5).tolist() == [[0, 1], [1, 0]]


def test_a_tree_of_the_wrong_name_is_found_and_named_wrongly() -> None:
    ious = np.diag([0.8, 0.7, 0.6, 0.2])
    found = species_scores(ious, np.array([1, 1, 2, 2]), np.array([1, 2, 2, 1]), NAMES)
    assert (found["precision"], found["recall"], found["f1"]) == (0.75, 0.75, 0.75)
    assert found["species_accuracy"] == pytest.approx(2 / 3)
    assert (found["precision/cacao"], found["recall/cacao"]) == (0.5, 0.5)
    assert (found["precision/shade"], found["recall/shade"]) == (0.5, 0.5)


def test_no_trees_at_all_decide_nothing() -> None:
    none = np.zeros(0, np.int64)
    found = species_scores(np.zeros((0, 0)), none, none, NAMES)
    assert all(math.isnan(value) for value in found.values())
    assert species_scores(np.zeros((0, 1)), none, np.array([1]), NAMES)["recall"] == 0.0


def test_positions_are_matched_within_a_distance() -> None:
    found = match_positions(np.array([[0, 0], [5, 0], [20, 0]]), np.array([[1, 0], [5, 3], [40, 0]]), within=2.0)
    assert found.pairs.tolist() == [[0, 0]]
    assert found.distances.tolist() == [1.0]
    assert (found.precision, found.recall) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    both = match_positions(np.array([[0, 0], [2, 0]]), np.array([[2, 0], [4, 0]]), within=2.0)
    assert both.pairs.tolist() == [[0, 0], [1, 1]]  # the nearest pair alone would leave two trees without partners


def test_cover_is_counted_over_what_counts() -> None:
    called, true = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    called[:2], true[1:3] = True, True
    valid = np.ones((4, 4), bool)
    valid[:, 3] = False
    found = canopy_scores(called, true, valid)
    assert found == {
        "coverage": 0.5, "true_coverage": 0.5, "coverage_error": 0.0, "canopy_iou": pytest.approx(1 / 3),
    }  # fmt: skip
    called[:, 3] = ~called[:, 3]
    assert canopy_scores(called, true, valid) == found
    assert math.isnan(canopy_scores(called, true, np.zeros((4, 4), bool))["coverage"])


def test_crowns_twice_as_wide_have_four_times_the_area() -> None:
    found = crown_scores(np.array([4.0, 8.0]), np.array([2.0, 4.0]), np.array([0.25, 0.95]))
    assert found["diameter_mean"] == 6.0
    assert (found["diameter_mae"], found["diameter_bias"], found["area_bias"]) == (3.0, 3.0, 3.0)
    assert (found["iou_mean"], found["iou_above_50"], found["iou_above_90"]) == (pytest.approx(0.6), 0.5, 0.5)
    assert all(math.isnan(value) for value in crown_scores(np.zeros(0), np.zeros(0), np.zeros(0)).values())


def test_density_errors_by_hand() -> None:
    found = density_scores(np.array([3.0, 5.0]), np.array([1.0, 6.0]))
    assert found == {
        "density_mae": 1.5, "density_rmse": pytest.approx(math.sqrt(2.5)), "density_bias": 0.5,
    }  # fmt: skip
    assert math.isnan(density_scores(np.zeros(0), np.zeros(0))["density_mae"])


def test_shade_by_hand() -> None:
    crop = np.array([[0, 0], [10, 0], [20, 0], [30, 0], [40, 0]])
    found = shade_scores(crop, np.array([[10, 5]]), box(0, 0, 50, 20))
    assert found["shade_ratio"] == 0.2
    assert found["ratio_score"] == 1.0
    assert found["shaded_share"] == 0.6  # 0, 10 and 20 lie within 12
    assert found["shade_density"] == 1 / 1000
    assert math.isnan(found["spacing_score"])  # one tree has no neighbour
    bare = shade_scores(crop, np.zeros((0, 2)), box(0, 0, 50, 20))
    assert (bare["shaded_share"], bare["ratio_score"]) == (0.0, 0.0)


def test_bands_say_what_is_good() -> None:
    assert [band("canopy_coverage", value) for value in (0.5, 0.65, 0.9, math.nan)] == [
        "good", "acceptable", "poor", "unknown",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="no bands for beauty"):
        band("beauty", 1.0)
