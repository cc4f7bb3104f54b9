"""Errors of heights from sums."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.config import MetricsConfig
from maskwright.workflows.height_evaluation import _grouped, _interval, _resampled, _scores, _sums

SAID, TRUE = np.array([2.0, 4.0, 9.0]), np.array([1.0, 4.0, 7.0])


def test_errors_are_those_of_the_pixels() -> None:
    scores = _scores(_sums(SAID, TRUE))
    assert scores["rmse"] == pytest.approx(np.sqrt(5 / 3))
    assert scores["mae"] == 1.0
    assert scores["bias"] == 1.0
    assert scores["r2"] == pytest.approx(1 - 5 / 18)  # spread of 1, 4, 7 is 18


def test_sums_of_pieces_are_the_sums_of_the_whole() -> None:
    pieces = np.stack([_sums(SAID[:1], TRUE[:1]), _sums(SAID[1:], TRUE[1:])])
    assert np.allclose(pieces.sum(axis=0), _sums(SAID, TRUE))
    assert np.allclose(_grouped(pieces, ["a", "a"]), [_sums(SAID, TRUE)])


def test_without_pixels_nothing_is_defined() -> None:
    assert np.isnan(_scores(np.zeros(6))["rmse"])
    flat = _scores(_sums(np.array([1.0, 2.0]), np.array([3.0, 3.0])))
    assert np.isnan(flat["r2"])


def test_the_interval_does_not_depend_on_the_order_of_tiles() -> None:
    metrics = MetricsConfig(bootstrap=200)
    rng = np.random.default_rng(0)
    sums = np.stack([_sums(rng.random(4), rng.random(4)) for _ in range(6)])
    first, second = (_interval(_scores(_resampled(rows, metrics))["rmse"], metrics) for rows in (sums, sums[::-1]))
    assert first == second
    assert first[0] < float(_scores(sums.sum(axis=0))["rmse"]) < first[1]
