from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from maskwright.metrics import MeanMeter


def test_the_mean_of_an_epoch_weighs_a_short_batch_less() -> None:
    meter = MeanMeter()
    meter.update("loss", 80.0, 100)  # mean 0.8 over 100 pixels
    meter.update("loss", 2.0, 10)  # mean 0.2 over 10

    assert meter.compute() == {"loss": 82 / 110}


def test_names_are_kept_apart_and_numbers_and_tensors_mix() -> None:
    meter = MeanMeter()
    meter.update("bce", torch.tensor(3.0), torch.tensor(2.0, dtype=torch.float64))
    meter.update("dice", 1.0)
    meter.update("bce", 1, 2)

    assert meter.compute() == {"bce": 1.0, "dice": 1.0}


def test_order_changes_nothing_not_even_the_last_bit() -> None:
    rng = np.random.default_rng(3)
    values = (rng.normal(size=500) * 10.0 ** rng.integers(-12, 12, size=500)).tolist()
    exact = float(sum((Fraction(value) for value in values), Fraction(0)))
    results = set()
    for _ in range(5):
        meter = MeanMeter()
        for value in rng.permutation(values):
            meter.update("x", float(value), 1.0)
        results.add(meter.compute()["x"])

    assert results == {exact / 500}


def test_merging_equals_one_meter() -> None:
    rng = np.random.default_rng(4)
    values = (rng.normal(size=100) * 10.0 ** rng.integers(-9, 9, size=100)).tolist()
    whole, left, right = MeanMeter(), MeanMeter(), MeanMeter()
    for index, value in enumerate(values):
        whole.update("x", value, 2.0)
        (left if index % 3 else right).update("x", value, 2.0)
    right.update("y", 5.0)

    left.merge(right)

    assert left.compute() == {"x": whole.compute()["x"], "y": 5.0}


def test_the_state_goes_through_json_and_continues_exactly() -> None:
    whole, first = MeanMeter(), MeanMeter()
    for value in (0.1, 1e17, -1e17, 0.2):
        whole.update("x", value)
    for value in (0.1, 1e17):
        first.update("x", value)

    second = MeanMeter()
    second.update("other", 1.0)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for value in (-1e17, 0.2):
        second.update("x", value)

    assert second.compute() == whole.compute()
    assert second.compute()["x"] == pytest.approx(0.075, abs=1e-16)


def test_a_changed_state_leaves_the_meter_alone() -> None:
    meter = MeanMeter()
    meter.update("x", 1.0)
    meter.state_dict()["x"][0].append(99.0)

    assert meter.compute() == {"x": 1.0}


def test_no_weight_is_undefined_and_no_updates_are_nothing() -> None:
    meter = MeanMeter()
    assert meter.compute() == {}

    meter.update("x", 0.0, 0)
    assert math.isnan(meter.compute()["x"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_sum_that_is_not_finite_stays_visible(bad: float) -> None:
    meter = MeanMeter()
    for value in (1.0, bad, 2.0):
        meter.update("x", value)

    assert math.isnan(meter.compute()["x"])


def test_reset_forgets_everything() -> None:
    meter = MeanMeter()
    meter.update("x", 1.0)
    meter.reset()

    assert meter.compute() == {}


def test_a_tensor_changed_afterwards_counts_as_it_was() -> None:
    meter, total = MeanMeter(), torch.tensor(2.0, requires_grad=True)
    meter.update("x", total)
    with torch.no_grad():
        total += 5

    assert meter.compute() == {"x": 2.0}
