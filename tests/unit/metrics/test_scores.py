from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from maskwright.errors import ConfigError, ShapeError
from maskwright.metrics.scores import SCORES, distribution, iou, mcc, nan_quantiles, per_image, score_named

COUNTS = np.array([30, 10, 20, 40])  # TP, FP, FN, TN

BY_HAND = {
    "accuracy": 70 / 100,
    "balanced_accuracy": (30 / 50 + 40 / 50) / 2,
    "dice": 60 / 90,
    "error_rate": 30 / 100,
    "f0.5": 1.25 * 30 / (1.25 * 30 + 0.25 * 20 + 10),
    "f1": 60 / 90,
    "f2": 5 * 30 / (5 * 30 + 4 * 20 + 10),
    "gap_share_predicted": 40 / 100,
    "gap_share_true": 50 / 100,
    "iou": 30 / 60,
    "kappa": (0.7 - 0.5) / (1 - 0.5),
    "mcc": (30 * 40 - 10 * 20) / math.sqrt(40 * 50 * 50 * 60),
    "precision": 30 / 40,
    "recall": 30 / 50,
    "specificity": 40 / 50,
}


@pytest.mark.parametrize("name", sorted(SCORES))
def test_each_score_equals_its_hand_value(name: str) -> None:
    assert SCORES[name].function(COUNTS) == pytest.approx(BY_HAND[name], abs=1e-15)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_scores_keep_the_shape_before_the_counts(name: str) -> None:
    table = np.broadcast_to(COUNTS, (3, 2, 4))

    values = SCORES[name].function(table)

    assert values.shape == (3, 2)
    assert values.dtype == np.float64


def test_only_the_error_rate_is_better_when_low() -> None:
    assert [name for name, score in SCORES.items() if score.higher_is_better is False] == ["error_rate"]
    assert [name for name, score in SCORES.items() if score.higher_is_better is None] == [
        "gap_share_predicted",
        "gap_share_true",
    ]


@pytest.mark.parametrize("name", sorted(SCORES))
@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (0, 0, 0, 9), (0, 0, 9, 0), (0, 9, 0, 0), (9, 0, 0, 0), (0, 5, 5, 0)])
def test_every_extreme_is_a_number_or_nan_without_a_warning(name: str, counts: tuple[int, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = float(SCORES[name].function(np.array(counts)))

    assert math.isnan(value) or -1 <= value <= 1


def test_an_empty_prediction_over_gaps_scores_zero() -> None:
    missed = np.array([0, 0, 9, 11])

    assert {name: float(SCORES[name].function(missed)) for name in ("iou", "dice", "f1", "f2", "recall")} == {
        "iou": 0.0,
        "dice": 0.0,
        "f1": 0.0,
        "f2": 0.0,
        "recall": 0.0,
    }
    assert math.isnan(SCORES["precision"].function(missed))


def test_nothing_to_find_and_nothing_found_is_undefined_for_overlaps_only() -> None:
    empty = np.array([0, 0, 0, 20])

    assert math.isnan(iou(empty))
    assert float(SCORES["accuracy"].function(empty)) == 1.0
    assert float(SCORES["gap_share_true"].function(empty)) == 0.0


def test_a_perfect_prediction_scores_one() -> None:
    for name in ("accuracy", "balanced_accuracy", "dice", "f0.5", "f1", "f2", "iou", "kappa", "mcc", "precision"):
        assert float(SCORES[name].function(np.array([7, 0, 0, 5]))) == pytest.approx(1.0)


def test_counts_of_whole_continents_do_not_overflow() -> None:
    huge = np.array([10**13, 0, 0, 10**13], dtype=np.int64)

    assert float(mcc(huge)) == pytest.approx(1.0)


def test_something_that_is_not_counts_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"Counts of shape \(3,\) do not end in 4: TP, FP, FN, TN"):
        iou(np.array([1, 2, 3]))


def test_an_unknown_score_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r'no score "dise". Available: accuracy, .*dice'):
        score_named("dise")


def test_an_empty_pair_is_skipped_or_scores_what_is_asked() -> None:
    counts = np.array([[[1, 1, 0, 8]], [[0, 0, 0, 10]], [[0, 0, 0, 0]]])  # half right, empty pair, no valid pixel

    assert np.array_equal(per_image(counts, iou)[:, 0], [0.5, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(per_image(counts, iou, empty="zero")[:, 0], [0.5, 0.0, np.nan], equal_nan=True)
    assert np.array_equal(per_image(counts, iou, empty="one")[:, 0], [0.5, 1.0, np.nan], equal_nan=True)


def test_an_undefined_precision_of_an_image_with_gaps_stays_undefined() -> None:
    counts = np.array([[0, 0, 4, 6]])

    assert math.isnan(per_image(counts, SCORES["precision"].function, empty="one")[0])


def test_an_unknown_rule_for_empty_pairs_is_refused() -> None:
    with pytest.raises(ConfigError, match='empty: "half" is not known'):
        per_image(np.zeros((1, 4)), iou, empty="half")  # type: ignore[arg-type]


def test_the_spread_over_images_leaves_undefined_ones_out() -> None:
    values = np.array([[0.2, np.nan], [0.4, np.nan], [np.nan, 0.5], [0.9, np.nan]])

    spread = distribution(values)

    assert spread["images"].tolist() == [3, 1]
    assert spread["mean"] == pytest.approx([0.5, 0.5])
    assert spread["std"][0] == pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1))
    assert math.isnan(spread["std"][1])
    assert spread["median"] == pytest.approx([0.4, 0.5])


def test_the_spread_of_nothing_is_undefined_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(distribution(np.full((3, 2), np.nan))["median"]).all()
        assert np.isnan(distribution(np.zeros((0, 2)))["mean"]).all()
        assert np.isnan(nan_quantiles(np.zeros((0, 2)), (0.5,))).all()
