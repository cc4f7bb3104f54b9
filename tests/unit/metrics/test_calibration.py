from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from maskwright.errors import ConfigError, ModelError, ShapeError
from maskwright.metrics import OperatingPointMeter
from maskwright.metrics.counts import confusion_counts
from maskwright.metrics.scores import SCORES


def batch(seed: int = 0, heights: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand((3, heights, 8, 8), generator=generator)
    probs[0, 0, 0, :4] = torch.tensor([0.0, 0.3, 0.5, 1.0])  # on thresholds and at the ends
    target = torch.rand((3, heights, 8, 8), generator=generator) < probs
    return probs, target, torch.rand((3, 8, 8), generator=generator) < 0.8


def test_counts_at_each_threshold_equal_cutting_there() -> None:
    probs, target, valid = batch()
    meter = OperatingPointMeter((5.0, 10.0))
    meter.update(probs, target, valid)

    for t, threshold in enumerate(meter.thresholds):
        expected = confusion_counts(probs > float(threshold), target, valid).sum(dim=0)
        assert meter.counts[t].tolist() == expected.tolist(), threshold


@pytest.mark.parametrize("criterion", ["iou", "f1", "accuracy", "balanced_accuracy", "mcc", "error_rate"])
def test_the_best_threshold_is_that_of_a_plain_search(criterion: str) -> None:
    probs, target, valid = batch(1)
    meter = OperatingPointMeter((5.0, 10.0), (0.1, 0.35, 0.6, 0.9))
    meter.update(probs, target, valid)
    function, higher = SCORES[criterion]

    for k, row in enumerate(meter.best(criterion)):
        scores = [
            float(function(confusion_counts(probs > t, target, valid).sum(dim=0)[k].numpy())) for t in meter.thresholds
        ]
        assert row["score"] == (max if higher else min)(scores)
        assert scores[meter.thresholds.tolist().index(row["probability_threshold"])] == row["score"]


def test_of_equal_thresholds_the_one_nearest_to_a_half_is_taken() -> None:
    meter = OperatingPointMeter((5.0,))
    probs = torch.tensor([0.2, 0.8]).reshape(1, 1, 1, 2)
    meter.update(probs, probs > 0.5, torch.ones(1, 1, 2).bool())

    assert meter.best() == [{"height_m": 5.0, "probability_threshold": 0.5, "score": 1.0}]


def test_batches_and_processes_add_up() -> None:
    probs, target, valid = batch(2)
    whole, left, right = (OperatingPointMeter((5.0, 10.0)) for _ in range(3))
    whole.update(probs, target, valid)
    left.update(probs[:1], target[:1], valid[:1])
    right.update(probs[1:], target[1:], valid[1:])
    left.merge(right)

    assert np.array_equal(left.counts, whole.counts)
    with pytest.raises(ConfigError, match="cannot be merged"):
        left.merge(OperatingPointMeter((5.0, 11.0)))


def test_nodata_is_never_counted() -> None:
    probs, target, valid = batch(3)
    plain, changed = OperatingPointMeter((5.0, 10.0)), OperatingPointMeter((5.0, 10.0))
    plain.update(probs, target, valid)
    hidden = ~valid.unsqueeze(1)
    changed.update(probs.masked_fill(hidden, math.nan), target ^ hidden, valid)

    assert np.array_equal(plain.counts, changed.counts)


def test_without_pixels_there_is_no_best_threshold() -> None:
    (row,) = OperatingPointMeter((5.0,)).best()

    assert math.isnan(row["probability_threshold"])


def test_wrong_arguments_are_refused() -> None:
    probs, target, valid = batch()
    meter = OperatingPointMeter((5.0, 10.0))

    with pytest.raises(ConfigError, match="must rise and lie between 0 and 1"):
        OperatingPointMeter((5.0,), (0.5, 0.4))
    with pytest.raises(ConfigError, match="must rise and lie between 0 and 1"):
        OperatingPointMeter((5.0,), (0.0, 0.4))
    with pytest.raises(ConfigError, match='criterion: "gap_share_true" has no better direction'):
        meter.best("gap_share_true")
    with pytest.raises(ModelError, match="not probabilities"):
        meter.update(probs * 3, target, valid)
    with pytest.raises(ShapeError, match=r"\(B, 2, H, W\) twice"):
        meter.update(probs[:, :1], target[:, :1], valid)
