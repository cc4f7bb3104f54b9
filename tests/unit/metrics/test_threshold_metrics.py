from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch

from maskwright.errors import ConfigError, DataError, ModelError, ShapeError
from maskwright.metrics import ThresholdMetrics

PROBS = torch.tensor([[0.9, 0.9], [0.9, 0.1], [0.9, 0.9]]).reshape(3, 1, 1, 2)
TARGET = torch.tensor([1, 0, 1, 0, 1, 1]).reshape(3, 1, 1, 2)


def test_each_sample_is_scored_at_its_own_height_and_unseen_heights_are_told_apart() -> None:
    metrics = ThresholdMetrics([5.0, 10.0])
    metrics.update(PROBS, TARGET, 0.5, threshold_value=torch.tensor([5.0, 10.0, 12.0]))
    rows = metrics.rows()
    assert [(row["height_m"], row["extrapolated"], row["images"], row["iou"]) for row in rows] == [
        (5.0, False, 1, 0.5),
        (10.0, False, 1, 1.0),
        (12.0, True, 1, 1.0),
    ]
    assert metrics.thresholds == (5.0, 10.0, 12.0)
    assert (rows[0]["specificity"], rows[0]["balanced_accuracy"], rows[0]["gap_share_true"]) == (0.0, 0.5, 0.5)
    scores = metrics.compute()
    assert (scores["iou@5m"], scores["iou@10m"], scores["iou"]) == (0.5, 1.0, 0.75)
    assert metrics.summary()["iou"]["best_height_m"] == 10.0


@pytest.mark.parametrize("value", [10.0, [10.0] * 3, torch.full((3, 1), 10.0)])
def test_a_height_may_be_given_once_or_for_each_sample(value: Any) -> None:
    metrics = ThresholdMetrics([5.0, 10.0])
    metrics.update(PROBS[:, 0], TARGET[:, 0], threshold_value=value)
    assert [row["images"] for row in metrics.rows()] == [0, 3]


def test_255_and_the_probability_threshold_are_honoured() -> None:
    target = TARGET.clone()
    target[0, 0, 0, 1] = 255
    metrics = ThresholdMetrics([5.0])
    metrics.update(PROBS, target, 0.95)
    (row,) = metrics.rows()
    assert (row["tp"], row["fp"], row["fn"], row["tn"]) == (0, 0, 4, 1)


def test_batches_order_and_merging_change_nothing() -> None:
    torch.manual_seed(0)
    probs, target = torch.rand(7, 1, 5, 4), torch.randint(0, 2, (7, 1, 5, 4))
    heights = torch.tensor([5.0, 10.0, 5.0, 15.0, 10.0, 5.0, 10.0])
    whole, left, right = (ThresholdMetrics([5.0, 10.0]) for _ in range(3))
    whole.update(probs, target, 0.4, heights)
    for metrics, rows in ((left, [6, 2]), (left, [0]), (right, [5, 1, 3, 4])):
        metrics.update(probs[rows], target[rows], 0.4, heights[rows])
    left.merge(ThresholdMetrics([5.0, 10.0]))
    left.merge(right)
    assert left.rows() == whole.rows()
    assert left.to_csv() == whole.to_csv()
    left.reset()
    assert [row["images"] for row in left.rows()] == [0, 0]


def test_a_dataframe_is_made_where_pandas_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = ThresholdMetrics([5.0])
    metrics.update(PROBS, TARGET)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"needs pandas.*pip install pandas; or use rows\(\)"):
        metrics.to_dataframe()
    pandas = types.ModuleType("pandas")
    pandas.DataFrame = lambda rows: ("frame", rows)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert metrics.to_dataframe() == ("frame", metrics.rows())


def test_what_does_not_fit_is_refused() -> None:
    metrics = ThresholdMetrics([5.0, 10.0])
    with pytest.raises(ConfigError, match=r"threshold_value is missing: which of the heights \[5.0, 10.0\] m"):
        metrics.update(PROBS, TARGET)
    with pytest.raises(ShapeError, match=r"pred \(3, 1, 1, 2\) and target \(3, 1, 2\)"):
        metrics.update(PROBS, TARGET[:, 0], threshold_value=5.0)
    with pytest.raises(ShapeError, match=r"threshold_value of shape \(2,\) does not fit 3 samples"):
        metrics.update(PROBS, TARGET, threshold_value=[5.0, 10.0])
    with pytest.raises(ModelError, match="not probabilities"):
        metrics.update(PROBS * 5, TARGET, threshold_value=5.0)
    with pytest.raises(DataError, match="holds 7"):
        metrics.update(PROBS, TARGET * 7, threshold_value=5.0)
    metrics.update(PROBS, TARGET, 0.3, threshold_value=5.0)  # nothing has been counted before
    with pytest.raises(ConfigError, match=r"prob_threshold: 0.4 after 0.3"):
        metrics.update(PROBS, TARGET, 0.4, threshold_value=5.0)
    with pytest.raises(ConfigError, match="cannot be merged"):
        metrics.merge(_other())


def _other() -> ThresholdMetrics:
    metrics = ThresholdMetrics([5.0])
    metrics.update(PROBS, TARGET, 0.3)
    return metrics
