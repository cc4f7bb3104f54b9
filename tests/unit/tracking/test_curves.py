from __future__ import annotations

import numpy as np
import pytest

from maskwright.tracking.curves import StepCurves
from maskwright.tracking.step_rows import StepColumns


def rows(steps: object, losses: object, attempt: object = 1) -> StepColumns:
    steps = np.asarray(steps, np.int64)
    return StepColumns(
        np.broadcast_to(np.asarray(attempt, np.int64), steps.shape), steps, {"loss": np.asarray(losses, np.float64)}
    )


def test_a_short_run_keeps_each_step() -> None:
    curves = StepCurves(("loss",), points=8)
    curves.add(rows([1, 3], [0.5, 0.25]))
    curves.add(rows([5], [np.nan]))
    curve = curves.curve("loss")
    assert curve.step.tolist() == [1, 3, 5]
    np.testing.assert_array_equal(curve.mean, [0.5, 0.25, np.nan])
    assert curve.missing.tolist() == [0, 0, 1]
    assert curve.width == 1


def test_a_long_run_keeps_mean_least_and_most_of_each_bin() -> None:
    curves = StepCurves(("loss",), points=4)
    curves.add(rows(range(8), [0, 1, 2, 3, 4, 5, 6, 7]))
    curve = curves.curve("loss")
    assert (curve.width, curve.step.tolist()) == (2, [0, 2, 4, 6])
    assert curve.mean.tolist() == [0.5, 2.5, 4.5, 6.5]
    assert (curve.low.tolist(), curve.high.tolist()) == ([0, 2, 4, 6], [1, 3, 5, 7])


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_bins_hold_what_plain_numpy_finds_however_the_rows_come(piece: int) -> None:
    values = np.random.default_rng(0).normal(size=1000)
    values[::97] = np.inf
    curves = StepCurves(("loss",), points=64)
    for start in range(0, 1000, piece):
        steps = np.arange(start, min(start + piece, 1000))
        curves.add(rows(steps, values[steps]))
    curve = curves.curve("loss")
    assert curve.width == 16
    for index, step in enumerate(curve.step):
        inside = values[step : step + 16]
        finite = inside[np.isfinite(inside)]
        assert curve.mean[index] == pytest.approx(finite.mean())
        assert (curve.low[index], curve.high[index]) == (finite.min(), finite.max())
        assert curve.missing[index] == len(inside) - len(finite)


def test_what_a_resumed_run_did_again_is_dropped() -> None:
    curves = StepCurves(("loss",), points=64)
    curves.add(rows([1, 2, 3, 4, 3, 4, 5], [1, 1, 9, 9, 0.3, 0.4, 0.5], [1, 1, 1, 1, 2, 2, 2]))
    curve = curves.curve("loss")
    assert dict(zip(curve.step.tolist(), curve.mean.tolist(), strict=True)) == {1: 1, 2: 1, 3: 0.3, 4: 0.4, 5: 0.5}


def test_a_single_spike_among_a_million_steps_stays_visible() -> None:
    curves = StepCurves(("loss",))
    values = np.full(1_000_000, 0.5)
    values[123_456] = 80.0
    curves.add(rows(np.arange(1_000_000), values))
    curve = curves.curve("loss")
    assert 2048 <= len(curve) <= 4096
    (at,) = np.flatnonzero(curve.high > 1)
    assert curve.step[at] <= 123_456 < curve.step[at] + curve.width
