from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from maskwright.errors import ConfigError
from maskwright.optim.optimizers import adamw
from maskwright.optim.schedules import constant, one_cycle


def rates(schedule: Any, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_one_cycle_starts_low_peaks_after_its_share_and_ends_near_zero() -> None:
    optimizer = adamw(nn.Linear(2, 2), lr=1e-3)
    seen = rates(
        one_cycle(optimizer, 101, max_lr=0.01, pct_start=0.3, div_factor=25, final_div_factor=1e4), optimizer, 101
    )
    assert seen[0] == pytest.approx(0.01 / 25)
    assert max(seen) == pytest.approx(0.01, rel=1e-3)
    assert seen.index(max(seen)) in (29, 30)
    assert seen[-1] == pytest.approx(0.01 / 25 / 1e4)


def test_without_a_peak_the_learning_rate_of_the_optimizer_is_the_peak() -> None:
    optimizer = adamw(nn.Linear(2, 2), lr=2e-3)
    assert max(rates(one_cycle(optimizer, 50, pct_start=0.5), optimizer, 50)) == pytest.approx(2e-3, rel=1e-2)


def test_momentum_stays_as_it_was_set() -> None:
    optimizer = adamw(nn.Linear(2, 2), betas=(0.8, 0.95))
    rates(one_cycle(optimizer, 10), optimizer, 10)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.95)}


@pytest.mark.parametrize("total_steps", [1, 2, 3, 7])
def test_a_short_run_gets_through(total_steps: int) -> None:
    optimizer = adamw(nn.Linear(2, 2))
    seen = rates(one_cycle(optimizer, total_steps), optimizer, total_steps)
    assert all(0 < lr <= 1e-3 for lr in seen)


def test_a_run_without_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="onecycle needs the optimizer steps of the run, 1 or more, not 0"):
        one_cycle(adamw(nn.Linear(2, 2)), 0)


def test_constant_changes_nothing() -> None:
    optimizer = adamw(nn.Linear(2, 2), lr=3e-4)
    assert set(rates(constant(optimizer), optimizer, 5)) == {3e-4}


def build(kind: str) -> tuple[nn.Module, torch.optim.Optimizer, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = adamw(model, lr=1e-2)
    return model, optimizer, one_cycle(optimizer, 20) if kind == "onecycle" else constant(optimizer)


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean().backward()
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("kind", ["onecycle", "constant"])
def test_ten_steps_saved_loaded_and_ten_more_equal_twenty(kind: str) -> None:
    whole = build(kind)
    advance(*whole, range(20))

    first = build(kind)
    advance(*first, range(10))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    second = build(kind)
    for part, state in zip(second, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    advance(*second, range(10, 20))

    expected, ended = whole[0].state_dict(), second[0].state_dict()
    assert all(torch.equal(expected[name], ended[name]) for name in expected)
    assert second[2].state_dict() == whole[2].state_dict()
    assert second[1].param_groups[0]["lr"] == whole[1].param_groups[0]["lr"]


@pytest.mark.parametrize("kind", ["onecycle", "constant"])
def test_state_is_plain_values(kind: str) -> None:
    def is_plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(type(key) is str and is_plain(item) for key, item in value.items())
        if isinstance(value, list):
            return all(is_plain(item) for item in value)
        return type(value) in (int, float, str, bool)

    assert is_plain(build(kind)[2].state_dict())
