from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from maskwright.optim import Span
from maskwright.optim.score_schedules import Adaptive, ReduceOnPlateau, mode_of


def optimizer(*lrs: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs or (0.1,)])


def after_scores(schedule: Any, scores: list[float], updates: int = 3) -> list[float]:
    seen = []
    for score in scores:
        for _ in range(updates):
            schedule.optimizer.step()
            schedule.step()
        schedule.step(score)
        seen.append(float(schedule.optimizer.param_groups[0]["lr"]))
    return seen


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("cooldown", [0, 2])
def test_a_plateau_lowers_the_rate_when_that_of_torch_does(mode: Any, threshold_mode: Any, cooldown: int) -> None:
    draw = torch.Generator().manual_seed(3)
    scores = (1 + torch.rand(60, generator=draw)).tolist()
    scores += [float("nan")] * 4 + scores[::-1]
    options = {"mode": mode, "factor": 0.5, "patience": 2, "threshold": 0.01, "threshold_mode": threshold_mode}
    options |= {"cooldown": cooldown, "min_lr": 1e-4}
    mine, other = optimizer(0.1, 0.02), optimizer(0.1, 0.02)
    ours, theirs = ReduceOnPlateau(mine, Span(3, 200), **options), ReduceLROnPlateau(other, **options)
    for score in scores:
        for _ in range(3):
            mine.step()
            ours.step()
        ours.step(score)
        theirs.step(score)
        assert [group["lr"] for group in mine.param_groups] == [group["lr"] for group in other.param_groups]
    assert mine.param_groups[0]["lr"] < 0.1


def test_scores_below_zero_count_by_their_size() -> None:
    schedule = ReduceOnPlateau(optimizer(), Span(), mode="max", patience=0, threshold=0.1, factor=0.5)
    assert after_scores(schedule, [-1.0, -0.95, -0.8]) == [0.1, 0.05, 0.05]


def test_during_the_warm_up_nothing_is_counted() -> None:
    schedule = ReduceOnPlateau(optimizer(), Span(1, 20, 4, 0.02), mode="min", patience=0, factor=0.5)
    seen = after_scores(schedule, [1.0] * 6, updates=1)
    assert seen == pytest.approx([0.04, 0.06, 0.08, 0.05, 0.025, 0.0125])


def test_adaptive_rises_after_large_gains_up_to_twice_and_halves_after_three_stale_validations() -> None:
    schedule = Adaptive(optimizer(), Span(), monitor="val/dice")
    seen = after_scores(schedule, [0.50, 0.53, 0.54, 0.54, 0.53, 0.54, 0.60, 0.60, 0.60, 0.60])
    assert seen == pytest.approx([0.1, 0.11, 0.11, 0.11, 0.11, 0.055, 0.0605, 0.0605, 0.0605, 0.03025])
    rising = [0.01 * 1.2**n for n in range(12)]
    assert max(after_scores(Adaptive(optimizer(), Span(), monitor="val/dice"), rising)) == pytest.approx(0.2)


def test_adaptive_never_falls_below_its_lowest_rate() -> None:
    schedule = Adaptive(optimizer(), Span(), mode="min", patience=1, min_lr=0.03)
    assert after_scores(schedule, [1.0] * 6)[-1] == pytest.approx(0.03)


def test_a_score_that_is_no_number_is_no_improvement() -> None:
    schedule = Adaptive(optimizer(), Span(), mode="min", patience=2)
    assert after_scores(schedule, [math.nan, math.nan])[-1] == pytest.approx(0.05)
    assert schedule.best is None


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        (None, "min"),
        ("val/loss", "min"),
        ("val_loss", "min"),
        ("val/loss/dice", "min"),
        ("train/total_loss", "min"),
        ("val/rmse", "min"),
        ("val/rmse@5m", "min"),
        ("val/count_error", "min"),
        ("val/iou", "max"),
        ("val/mAP_50", "max"),
    ],
)
def test_whether_low_is_good_is_known_from_the_name(monitor: str | None, mode: str) -> None:
    assert mode_of(monitor) == mode
