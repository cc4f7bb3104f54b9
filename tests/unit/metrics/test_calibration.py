from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import ConfigError, ModelError, ShapeError
from maskwright.metrics import CalibrationMeter, CurveMeter, OperatingPointMeter, TemperatureMeter
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


def by_rule(meter: OperatingPointMeter, rule: str, minimum: float | None = None) -> list[tuple[float, float]]:
    rows = meter.choose(rule, minimum)  # type: ignore[arg-type]
    return [(row["probability_threshold"], row["score"]) for row in rows]


def five_pixels() -> OperatingPointMeter:
    """Probabilities .9 .8 .6 .4 .2, of which .9, .6 and .4 are positive."""
    meter = OperatingPointMeter((5.0,), (0.1, 0.3, 0.5, 0.7, 0.85, 0.95))
    probs = torch.tensor([0.9, 0.8, 0.6, 0.4, 0.2]).reshape(1, 1, 1, 5)
    meter.update(probs, torch.tensor([1, 0, 1, 1, 0]).bool().reshape(1, 1, 1, 5), torch.ones(1, 1, 5).bool())
    return meter


def test_rules_choose_the_threshold_found_by_hand() -> None:
    meter = five_pixels()

    assert by_rule(meter, "f1") == [(0.3, pytest.approx(6 / 7))]  # TP 3, FP 1
    assert by_rule(meter, "precision", 0.9) == [(0.85, pytest.approx(1 / 3))]  # only .9 is called
    assert by_rule(meter, "precision", 0.75) == [(0.3, 1.0)]  # reached exactly
    assert by_rule(meter, "precision", 0.7) == [(0.3, 1.0)]  # TP 3, FP 1
    assert by_rule(meter, "recall", 0.6) == [(0.3, 0.75)]  # .5 has TP 2, FP 1: precision 2 / 3 only
    assert by_rule(meter, "area") == [(0.5, 0.0)]  # three called, three true


def test_a_rule_that_cannot_be_met_gives_no_threshold() -> None:
    meter = OperatingPointMeter((5.0,))
    probs = torch.tensor([0.9, 0.2]).reshape(1, 1, 1, 2)
    meter.update(probs, probs < 0.5, torch.ones(1, 1, 2).bool())

    assert math.isnan(meter.choose("precision", 0.9)[0]["probability_threshold"])
    nothing = OperatingPointMeter((5.0,))
    nothing.update(probs, probs > 1, torch.ones(1, 1, 2).bool())
    assert math.isnan(nothing.choose("area")[0]["probability_threshold"])


def test_the_share_of_a_new_scene_is_unbiased_at_the_threshold_of_equal_area() -> None:
    generator = torch.Generator().manual_seed(4)
    probs = torch.rand((4, 1, 40, 40), generator=generator) ** 2
    target = torch.rand(probs.shape, generator=generator) < probs / 2
    meter = OperatingPointMeter((5.0,))
    meter.update(probs, target, torch.ones(4, 40, 40).bool())

    (row,) = meter.choose("area")

    called = probs > row["probability_threshold"]
    assert row["score"] == pytest.approx(float(called.double().mean() - target.double().mean()))
    assert abs(row["score"]) < 0.01
    for other in meter.thresholds:
        assert abs(row["score"]) <= abs(float((probs > other).double().mean() - target.double().mean())) + 1e-12


def test_unknown_rules_and_minimums_are_refused() -> None:
    meter = five_pixels()

    with pytest.raises(ConfigError, match=r'rule: "best" is not known\. Use f1, precision, recall or area'):
        meter.choose("best")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='rule "precision" with minimum None'):
        meter.choose("precision")
    with pytest.raises(ConfigError, match=r'rule "f1" with minimum 0\.5'):
        meter.choose("f1", 0.5)
    with pytest.raises(ConfigError, match=r"minimum: 1\.5 is not between 0 and 1"):
        meter.choose("recall", 1.5)


def test_a_refused_batch_leaves_nothing_behind() -> None:
    meter, calibration, curves = OperatingPointMeter((5.0, 10.0)), CalibrationMeter(("a", "b")), CurveMeter(("a", "b"))
    probs, target, valid = batch()
    probs[:, 1] = 2.0  # the first channel is fine

    for each in (meter, calibration, curves):
        with pytest.raises(ModelError, match="not probabilities"):
            each.update(probs, target, valid)

    assert meter.counts.sum() == 0
    assert math.isnan(calibration.compute()["brier_error"])
    assert math.isnan(curves.compute()["roc_auc"])


def test_calibration_errors_by_hand() -> None:
    """Two low and right, two high of which one is wrong: gaps of 1/8 and 3/8, each of half the pixels."""
    meter = CalibrationMeter(("5m",), bins=10)
    probs = torch.tensor([0.125, 0.125, 0.875, 0.875]).reshape(1, 1, 1, 4)
    meter.update(probs, torch.tensor([0, 0, 1, 0]).reshape(1, 1, 1, 4), torch.ones(1, 1, 4).bool())

    scores = meter.compute()

    assert scores["calibration_error"] == pytest.approx((0.125 + 0.375) / 2)
    assert scores["max_calibration_error"] == pytest.approx(0.375)
    assert scores["brier_error"] == pytest.approx((3 * 0.125**2 + 0.875**2) / 4)
    assert scores["log_loss"] == pytest.approx(-(3 * math.log(0.875) + math.log(0.125)) / 4, abs=1e-9)
    assert scores["log_loss@5m"] == scores["log_loss"]
    rows = {row["low"]: row for row in meter.reliability() if row["pixels"]}
    assert {low: (row["pixels"], row["mean_probability"], row["positive_share"]) for low, row in rows.items()} == {
        0.1: (2, 0.125, 0.0),
        0.8: (2, 0.875, 0.5),
    }


def test_certain_and_wrong_is_finite() -> None:
    meter = CalibrationMeter(("5m",))
    probs = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    meter.update(probs, probs < 0.5, torch.ones(1, 1, 2).bool())

    assert meter.compute()["log_loss"] == pytest.approx(24 * math.log(2))
    assert meter.compute()["calibration_error"] == 1.0


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 6), max_size=4), sides=st.lists(st.booleans(), min_size=5, max_size=5))
def test_any_partition_gives_the_same_bits(cuts: list[int], sides: list[bool]) -> None:
    generator = torch.Generator().manual_seed(5)
    probs = torch.rand((6, 2, 4, 5), generator=generator)
    target = probs > torch.rand(probs.shape, generator=generator)
    valid = torch.rand((6, 4, 5), generator=generator) < 0.8
    for make in (
        lambda: CalibrationMeter(("a", "b")),
        lambda: CurveMeter(("a", "b"), 64),
        lambda: TemperatureMeter(("a", "b")),
        lambda: OperatingPointMeter((5.0, 10.0)),
    ):
        whole, left, right = make(), make(), make()
        whole.update(probs, target, valid)
        edges = [0, *sorted(cuts), 6]
        for start, stop, goes_left in zip(edges, edges[1:], sides, strict=False):
            rows = slice(start, stop)
            (left if goes_left else right).update(probs[rows], target[rows], valid[rows])
        left.merge(right)
        name = next(name for name in ("compute", "fit", "best") if hasattr(whole, name))
        assert getattr(left, name)() == getattr(whole, name)()


def test_calibration_ignores_what_does_not_count() -> None:
    probs, target, valid = batch(6)
    plain, changed = CalibrationMeter(("a", "b")), CalibrationMeter(("a", "b"))
    plain.update(probs, target, valid)
    hidden = ~valid.unsqueeze(1)
    changed.update(probs.masked_fill(hidden, math.nan), target ^ hidden, valid)

    assert plain.compute() == changed.compute()


def test_calibrations_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be made"):
        CalibrationMeter(("a",), bins=0)
    with pytest.raises(ConfigError, match="names must differ"):
        CalibrationMeter(("a", "a"))
    with pytest.raises(ConfigError, match="cannot be merged"):
        CalibrationMeter(("a",)).merge(CalibrationMeter(("a",), bins=3))
