from __future__ import annotations

import math

import pytest
import torch

from maskwright.errors import ConfigError, DataError, ModelError, ShapeError
from maskwright.metrics import (
    MetricsTracker,
    compute_all_metrics,
    compute_dice,
    compute_iou,
    compute_pixel_accuracy,
    compute_precision_recall_f1,
)

PROBS = torch.tensor([[[0.9, 0.8, 0.7, 0.1, 0.2, 0.3]]])  # TP 2, FP 1, FN 1, TN 2
TARGET = torch.tensor([[[1, 1, 0, 1, 0, 0]]])
EMPTY = torch.zeros(1, 1, 6)


def test_scores_by_hand() -> None:
    assert compute_iou(PROBS, TARGET) == pytest.approx(2 / 4)
    assert compute_dice(PROBS, TARGET) == pytest.approx(4 / 6)
    assert compute_pixel_accuracy(PROBS, TARGET) == pytest.approx(4 / 6)
    assert compute_precision_recall_f1(PROBS, TARGET) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_the_threshold_and_the_ignored_id_are_honoured() -> None:
    assert compute_iou(PROBS, TARGET, probability_threshold=0.75) == pytest.approx(2 / 3)
    assert compute_iou(PROBS, torch.tensor([[[1, 1, 255, 1, 0, 0]]])) == pytest.approx(2 / 3)
    valid = torch.tensor([[[True, True, True, False, True, True]]])
    assert compute_iou(PROBS, TARGET, valid) == pytest.approx(2 / 3)


def test_probabilities_are_never_squashed_again() -> None:
    """A second sigmoid would call every pixel positive and give the share of positives instead of 1."""
    probs = torch.tensor([[[0.99, 0.01, 0.01, 0.01]]])

    assert compute_iou(probs, torch.tensor([[[1, 0, 0, 0]]])) == 1.0
    with pytest.raises(ModelError, match="need one sigmoid first"):
        compute_iou(torch.tensor([[[4.0, -4.0]]]), torch.tensor([[[1, 0]]]))


@pytest.mark.parametrize(("empty", "score"), [("one", 1.0), ("zero", 0.0), ("skip", math.nan)])
def test_nothing_true_and_nothing_called_scores_what_was_asked(empty: str, score: float) -> None:
    scores = compute_all_metrics(EMPTY, EMPTY.bool(), empty=empty)  # type: ignore[arg-type]

    assert scores["accuracy"] == 1.0
    for name in ("iou", "dice", "precision", "recall", "f1"):
        assert scores[name] == pytest.approx(score, nan_ok=True)


@pytest.mark.parametrize(("probs", "target"), [(EMPTY, TARGET), (PROBS, EMPTY.long())])
def test_only_one_side_empty_is_zero_and_finite(probs: torch.Tensor, target: torch.Tensor) -> None:
    scores = compute_all_metrics(probs, target)

    assert [scores[name] for name in ("iou", "dice", "precision", "recall", "f1")] == [0.0] * 5


def test_without_pixels_that_count_nothing_is_defined() -> None:
    scores = compute_all_metrics(PROBS, torch.full_like(TARGET, 255))

    assert all(math.isnan(score) for score in scores.values())


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ShapeError):
        compute_iou(PROBS, TARGET[..., :3])
    with pytest.raises(ShapeError):
        compute_iou(PROBS, TARGET.expand(2, 1, 6))
    with pytest.raises(DataError):
        compute_iou(PROBS, TARGET * 3)
    with pytest.raises(ConfigError, match='empty: "half" is not known'):
        compute_iou(PROBS, TARGET, empty="half")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='empty: "half" is not known'):
        MetricsTracker(empty="half")  # type: ignore[arg-type]


def test_the_tracker_gives_mean_and_spread_over_images() -> None:
    tracker = MetricsTracker()
    probs = torch.tensor([[[0.9, 0.9]], [[0.9, 0.1]], [[0.1, 0.1]]])
    target = torch.tensor([[[1, 0]], [[1, 0]], [[0, 0]]])  # IoU 1/2, 1, not defined
    tracker.update(probs, target)

    summary = tracker.get_summary()

    assert summary["iou"]["mean"] == pytest.approx(0.75)
    assert summary["iou"]["std"] == pytest.approx(math.sqrt(2 * 0.25**2))
    assert summary["iou"]["images"] == 2
    assert summary["iou"]["pooled"] == pytest.approx(2 / 3)
    assert str(tracker).splitlines()[0] == "iou: 0.7500 ± 0.3536 (2 images, pooled 0.6667)"


def test_the_tracker_does_not_depend_on_batches_or_order() -> None:
    generator = torch.Generator().manual_seed(3)
    probs = torch.rand((9, 4, 4), generator=generator)
    target = torch.rand((9, 4, 4), generator=generator) < 0.4
    whole, left, right = MetricsTracker(), MetricsTracker(), MetricsTracker()
    whole.update(probs, target)
    for rows in ([8], [2, 5, 1]):
        left.update(probs[rows], target[rows])
    right.update(probs[[0, 3, 4, 6, 7]], target[[0, 3, 4, 6, 7]])
    left.merge(right)

    assert left.get_summary() == whole.get_summary()
    left.reset()
    assert left.get_summary()["iou"]["images"] == 0
