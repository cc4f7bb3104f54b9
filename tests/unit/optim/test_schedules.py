from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as oracle

from maskwright.errors import CheckpointError, ConfigError, TrainingError
from maskwright.optim import SCHEDULES, Schedule, Span
from maskwright.optim.optimizers import adamw
from maskwright.optim.schedules import (
    constant,
    cosine,
    cyclic_cosine,
    exponential,
    one_cycle,
    polynomial,
    step_decay,
    warm_restarts,
)

BY_EPOCH = Span(steps_per_epoch=1, epochs=20)


def optimizers(*lrs: float) -> list[torch.optim.Optimizer]:
    """Two optimizers alike, one for us and one for the oracle."""
    return [torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]) for _ in range(2)]


def rates(schedule: Any, steps: int) -> list[list[float]]:
    seen = []
    for _ in range(steps):
        seen.append([float(group["lr"]) for group in schedule.optimizer.param_groups])
        schedule.optimizer.step()
        schedule.step()
    return seen


def first_rates(schedule: Any, steps: int) -> list[float]:
    return [row[0] for row in rates(schedule, steps)]


# --- equal to torch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "steps"),
    [
        (lambda o: cosine(o, BY_EPOCH, eta_min=1e-4), lambda o: oracle.CosineAnnealingLR(o, 20, 1e-4), 21),
        (lambda o: cosine(o, BY_EPOCH, t_max=7), lambda o: oracle.CosineAnnealingLR(o, 7), 8),
        (
            lambda o: warm_restarts(o, BY_EPOCH, t_0=3, eta_min=1e-4),
            lambda o: oracle.CosineAnnealingWarmRestarts(o, 3, 1, 1e-4),
            40,
        ),
        (
            lambda o: warm_restarts(o, BY_EPOCH, t_0=2, t_mult=3),
            lambda o: oracle.CosineAnnealingWarmRestarts(o, 2, 3),
            60,
        ),
        (lambda o: step_decay(o, BY_EPOCH, step_size=4, gamma=0.3), lambda o: oracle.StepLR(o, 4, 0.3), 20),
        (lambda o: exponential(o, BY_EPOCH, gamma=0.9), lambda o: oracle.ExponentialLR(o, 0.9), 20),
        (lambda o: polynomial(o, BY_EPOCH, power=0.9), lambda o: oracle.PolynomialLR(o, 20, 0.9), 21),
        (lambda o: polynomial(o, BY_EPOCH, power=2), lambda o: oracle.PolynomialLR(o, 20, 2), 21),
        (lambda o: constant(o), lambda o: oracle.ConstantLR(o, 1.0, 0), 5),
    ],
)
def test_rates_equal_those_of_torch(ours: Callable[[Any], Any], theirs: Callable[[Any], Any], steps: int) -> None:
    mine, other = optimizers(0.1, 0.02)
    seen, expected = rates(ours(mine), steps), rates(theirs(other), steps)
    assert seen == [pytest.approx(row, rel=1e-9, abs=1e-16) for row in expected]


@pytest.mark.parametrize("pct_start", [0.1, 0.3, 0.65])
@pytest.mark.parametrize("total", [1, 2, 3, 7, 50, 101])
def test_one_cycle_equals_that_of_torch_to_the_last_bit(total: int, pct_start: float) -> None:
    mine, other = optimizers(0.01, 0.002)
    options: dict[str, Any] = {"pct_start": pct_start, "div_factor": 20.0, "final_div_factor": 1e3}
    theirs = oracle.OneCycleLR(other, [0.01, 0.002], total, cycle_momentum=False, **options)
    assert rates(one_cycle(mine, Span(total, 1), **options), total) == rates(theirs, total)


def test_constant_changes_nothing_to_the_last_bit() -> None:
    mine, _ = optimizers(3e-4, 0.1)
    assert all(row == [3e-4, 0.1] for row in rates(constant(mine), 5))


@pytest.mark.parametrize(
    ("behind", "theirs"),
    [
        (lambda o, span: cosine(o, span, eta_min=1e-4), lambda o: oracle.CosineAnnealingLR(o, 16, 1e-4)),
        (lambda o, span: step_decay(o, span, step_size=4, gamma=0.5), lambda o: oracle.StepLR(o, 4, 0.5)),
        (lambda o, span: exponential(o, span, gamma=0.9), lambda o: oracle.ExponentialLR(o, 0.9)),
    ],
)
def test_a_warm_up_in_front_equals_the_sequence_of_torch(
    behind: Callable[..., Any], theirs: Callable[..., Any]
) -> None:
    mine, other = optimizers(0.1)
    schedule = behind(mine, Span(1, 20, warmup_steps=4, warmup_start_lr=0.01))
    rise = oracle.LinearLR(other, start_factor=0.1, total_iters=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        expected = first_rates(oracle.SequentialLR(other, [rise, theirs(other)], [4]), 20)
    assert first_rates(schedule, 20) == pytest.approx(expected)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_one_cycle_starts_low_peaks_after_its_share_and_ends_near_zero() -> None:
    optimizer = adamw(nn.Linear(2, 2), lr=1e-3)
    seen = first_rates(one_cycle(optimizer, Span(101, 1), max_lr=0.01), 101)
    assert seen[0] == pytest.approx(0.01 / 25)
    assert max(seen) == pytest.approx(0.01, rel=1e-3)
    assert seen.index(max(seen)) in (29, 30)
    assert seen[-1] == pytest.approx(0.01 / 25 / 1e4)


def test_momentum_stays_as_it_was_set() -> None:
    optimizer = adamw(nn.Linear(2, 2), betas=(0.8, 0.95))
    rates(one_cycle(optimizer, Span(10, 1)), 10)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.95)}


def test_settings_in_epochs_are_counted_in_updates() -> None:
    mine, _ = optimizers(0.1)
    seen = first_rates(step_decay(mine, Span(steps_per_epoch=3, epochs=4), step_size=2, gamma=0.1), 12)
    assert seen == pytest.approx([0.1] * 6 + [0.01] * 6)
    mine, _ = optimizers(0.1)
    assert first_rates(exponential(mine, Span(2, 3), gamma=0.25), 5) == pytest.approx(
        [0.1, 0.05, 0.025, 0.0125, 0.00625]
    )


def test_cyclic_cosine_divides_the_run_and_lowers_each_top() -> None:
    mine, _ = optimizers(0.8)
    seen = first_rates(cyclic_cosine(mine, Span(1, 8), cycles=2, decay=0.5), 9)
    fall = [(1 + math.cos(math.pi * part / 4)) / 2 for part in range(4)]
    assert seen == pytest.approx([0.8 * part for part in fall] + [0.4 * part for part in fall] + [0])


def test_a_cosine_stays_at_its_lowest_and_a_group_below_it_stays_where_it_is() -> None:
    mine, _ = optimizers(0.1, 0.001)
    seen = rates(cosine(mine, Span(1, 10), t_max=2, eta_min=0.01), 6)
    assert [row[0] for row in seen] == pytest.approx([0.1, 0.055, 0.01, 0.01, 0.01, 0.01])
    assert {row[1] for row in seen} == {0.001}


def test_the_warm_up_belongs_to_the_run_and_the_schedule_has_the_rest() -> None:
    mine, _ = optimizers(0.1)
    seen = first_rates(cosine(mine, Span(2, 5, warmup_steps=4, warmup_start_lr=0.02)), 11)
    assert seen[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert seen[7] == pytest.approx(0.05)
    assert seen[10] == pytest.approx(0)


def test_a_warm_up_never_starts_above_the_schedule() -> None:
    mine, _ = optimizers(1e-7)
    assert first_rates(constant(mine, Span(1, 5, warmup_steps=3, warmup_start_lr=1e-6)), 5) == pytest.approx([1e-7] * 5)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda o: cosine(o, Span(1, 10), t_max=12),
            "t_max: 12 epochs are longer than what the run has, 10; the learning",
        ),
        (lambda o: cosine(o, Span(2, 10, 10), t_max=6), "t_max: 6 epochs are longer than what the run has, 5; the"),
        (
            lambda o: cosine(o, Span(2, 10), t_max=6),
            "t_max: the learning rate stays at its lowest for the last 8 updates.",
        ),
        (lambda o: warm_restarts(o, Span(1, 10), t_0=11), "the learning rate never restarts."),
        (
            lambda o: step_decay(o, Span(1, 10)),
            "step_size: 30 epochs are longer than what the run has, 10; the learning",
        ),
        (
            lambda o: constant(o, Span(2, 3, 6)),
            "6 updates of warm-up are all the run has, 6; the schedule behind it never",
        ),
        (
            lambda o: SCHEDULES["reduce_on_plateau"](o, Span(1, 5)),
            "patience: 10 epochs are longer than what the run has, 5",
        ),
    ],
)
def test_a_schedule_longer_or_shorter_than_the_run_says_so(build: Callable[[Any], Schedule], words: str) -> None:
    (note,) = build(optimizers(0.1)[0]).notes
    assert words in note


def test_a_schedule_that_fits_has_nothing_to_say() -> None:
    for kind in SCHEDULES:
        assert SCHEDULES[kind](optimizers(0.1)[0], Span(2, 100, 3)).notes == (), kind


def test_a_run_without_steps_or_of_unknown_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="onecycle needs the optimizer steps of the run, 1 or more, not 0"):
        one_cycle(optimizers(0.1)[0], Span(0, 3))
    with pytest.raises(ConfigError, match="polynomial covers the whole run and must know its length"):
        polynomial(optimizers(0.1)[0], Span(3))


def test_a_schedule_that_counts_updates_refuses_a_score() -> None:
    schedule = constant(optimizers(0.1)[0])
    assert schedule.step_on == "batch"
    with pytest.raises(TrainingError, match="looks at no score"):
        schedule.step(0.5)


# --- saved and restored -----------------------------------------------------------------------------------------------


def build(kind: str) -> tuple[nn.Module, torch.optim.Optimizer, Schedule]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = adamw(model, lr=1e-2)
    return model, optimizer, SCHEDULES[kind](optimizer, Span(2, 10, 3, 1e-4))


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean().backward()
        optimizer.step()
        schedule.step()
        if schedule.step_on == "epoch" and step % 2:
            schedule.step(1.0 if step > 3 else 2.0 - step)


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
@pytest.mark.parametrize("at", [2, 10])
def test_saved_and_loaded_a_run_goes_on_to_the_last_bit(kind: str, at: int) -> None:
    whole = build(kind)
    advance(*whole, range(20))

    first = build(kind)
    advance(*first, range(at))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    second = build(kind)
    for part, state in zip(second, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    advance(*second, range(at, 20))

    expected, ended = whole[0].state_dict(), second[0].state_dict()
    assert all(torch.equal(expected[name], ended[name]) for name in expected)
    assert second[2].state_dict() == whole[2].state_dict()
    assert second[1].param_groups[0]["lr"] == whole[1].param_groups[0]["lr"]


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
def test_state_is_plain_values(kind: str) -> None:
    def is_plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(type(key) is str and is_plain(item) for key, item in value.items())
        if isinstance(value, list):
            return all(is_plain(item) for item in value)
        return value is None or type(value) in (int, float, str, bool)

    assert is_plain(build(kind)[2].state_dict())


def test_the_state_of_another_schedule_is_refused() -> None:
    saved = build("cosine")[2].state_dict()
    with pytest.raises(CheckpointError, match="holds the schedule cosine of 2 parameter groups, the run has step of 2"):
        build("step")[2].load_state_dict(saved)


def test_rates_scaled_in_the_middle_stay_scaled_to_the_end() -> None:
    plain, scaled = build("cosine"), build("cosine")
    for step in range(20):
        if step == 7:
            scaled[2].base_lrs = [float(base) / 4 for base in scaled[2].base_lrs]
        for run in (plain, scaled):
            advance(*run, range(step, step + 1))
        if step >= 7:
            assert scaled[1].param_groups[0]["lr"] == pytest.approx(plain[1].param_groups[0]["lr"] / 4, abs=1e-12)
