"""Found trees against a list: small cases by hand, large ones against the plain optimal matching."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from maskwright.metrics.canopy import match_positions
from maskwright.metrics.inventory import compare_inventory, match_within


def test_a_plantation_of_five_by_hand() -> None:
    listed = np.array([(0.0, 0.0), (10.0, 0.0), (20.0, 0.0), (30.0, 0.0), (40.0, 0.0)])
    found = np.array([(0.3, 0.4), (10.0, 1.5), (23.0, 4.0), (100.0, 0.0)])  # 0.5, 1.5 and 5 m off, and one too many
    scores = compare_inventory(
        found,
        listed,
        within_m=2.0,
        species=["cacao", "shade", "cacao", "cacao"],
        listed_species=["cacao", "cacao", "cacao", "", "shade"],
    )
    assert scores.pairs.tolist() == [[0, 0], [1, 1]]
    assert scores.detection_rate == pytest.approx(2 / 5)
    assert scores.precision == pytest.approx(2 / 4)
    assert scores.f1 == pytest.approx(4 / 9)
    assert (scores.count.called, scores.count.true, scores.count.error) == (4, 5, -1)
    assert scores.error_mean_m == pytest.approx(1.0)
    assert scores.error_median_m == pytest.approx(1.0)
    assert scores.error_rmse_m == pytest.approx(math.sqrt((0.25 + 2.25) / 2))
    assert scores.offset_m == pytest.approx((0.15, 0.95))
    assert scores.found_within == {0.5: 1 / 5, 1.0: 1 / 5, 2.0: 2 / 5, 5.0: 3 / 5}
    assert scores.species_accuracy == pytest.approx(0.5)
    assert scores.species_compared == 2
    assert scores.per_species == {
        "cacao": {"listed": 3, "found": 2, "named": 1},
        "shade": {"listed": 1, "found": 0, "named": 0},
    }
    assert json.loads(json.dumps(scores.to_dict()))["found_within"]["0.5 m"] == pytest.approx(0.2)


def test_a_tree_takes_one_partner_so_that_most_find_one() -> None:
    found, listed = np.array([(0.0, 0.0), (1.5, 0.0)]), np.array([(1.0, 0.0), (3.0, 0.0)])
    assert match_within(found, listed, 2.0).tolist() == [[0, 0], [1, 1]]  # the nearest pair alone would leave one over


def test_trees_at_the_same_place_are_a_pair() -> None:
    same = np.array([(5.0, 5.0)])
    scores = compare_inventory(same, same)
    assert (scores.f1, scores.error_mean_m) == (1.0, 0.0)
    assert math.isnan(scores.species_accuracy)


@pytest.mark.parametrize("seed", range(3))
def test_groups_of_near_trees_are_matched_as_all_at_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, listed = rng.uniform(0, 60, (150, 2)), rng.uniform(0, 60, (130, 2))
    alone, together = match_within(found, listed, 3.0), match_positions(found, listed, 3.0)
    assert len(alone) == len(together.pairs)
    apart = np.hypot(*(found[alone[:, 0]] - listed[alone[:, 1]]).T)
    assert apart.sum() == pytest.approx(together.distances.sum())
    assert len(set(alone[:, 0])) == len(set(alone[:, 1])) == len(alone)


@pytest.mark.parametrize(("found", "listed"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_found_and_nothing_listed_are_defined(found: int, listed: int) -> None:
    scores = compare_inventory(np.zeros((found, 2)), np.ones((listed, 2)) * 50)
    assert len(scores.pairs) == 0
    assert math.isnan(scores.detection_rate) == (listed == 0)
    assert math.isnan(scores.precision) == (found == 0)
    assert math.isnan(scores.f1) == (found + listed == 0)
    assert 0 <= scores.count.accuracy <= 1


def test_ten_thousand_trees_are_matched_in_bounded_memory() -> None:
    side = np.stack(np.meshgrid(np.arange(100.0), np.arange(100.0)), axis=-1).reshape(-1, 2) * 4
    scores = compare_inventory(side + 0.3, side[::-1])
    assert scores.f1 == 1.0
    assert scores.error_mean_m == pytest.approx(math.hypot(0.3, 0.3))
