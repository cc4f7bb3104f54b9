"""Epochs that fit into minutes, by a clock that only moves when told to."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from maskwright.errors import ConfigError
from maskwright.training.budget import BudgetPlan, Speed, measure_speed, plan_epochs
from maskwright.types import Batch

Toy = Any


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class SlowLoader:
    """Gives each batch after some seconds of the clock; the first ones take longer."""

    def __init__(self, batches: list[Batch], clock: Clock, batch_s: float, first_s: float = 0.0) -> None:
        self.items, self.clock, self.batch_s, self.first_s = batches, clock, batch_s, first_s

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for item in self.items[start:]:
            self.clock.now_s += self.batch_s + self.first_s
            self.first_s = 0.0
            yield item


def test_updates_and_validation_are_timed_after_a_warm_up(toy: Toy) -> None:
    clock = Clock()
    batches = [toy.batch(seed) for seed in range(4)]
    state = toy.state(toy.net(norm=True, dropout=0.5), accumulate=2)
    before, drawn = copy.deepcopy(state.state_dict()), torch.get_rng_state()
    train, val = SlowLoader(batches, clock, 0.25, first_s=30), SlowLoader(batches, clock, 0.125, first_s=1)
    speed = measure_speed(state, toy.task, train, val, clock=clock)
    assert speed == Speed(update_s=0.5, validation_batch_s=0.125)
    assert str(state.state_dict()) == str(before)
    assert torch.equal(drawn, torch.get_rng_state())


def test_a_slow_network_is_not_timed_for_long(toy: Toy) -> None:
    clock = Clock()
    train = SlowLoader([toy.batch(0)], clock, 50.0)
    assert measure_speed(toy.state(), toy.task, train, None, clock=clock) == Speed(50.0, 0.0)
    assert clock.now_s == 100 + 4 * 50


def test_quick_updates_are_timed_for_seconds(toy: Toy) -> None:
    clock = Clock()
    train = SlowLoader([toy.batch(0)], clock, 0.125)
    assert measure_speed(toy.state(), toy.task, train, None, clock=clock) == Speed(0.125, 0.0)
    assert clock.now_s == 100 + 40 * 0.125  # 5 s: 40 updates instead of 13


def test_a_short_run_does_not_give_its_minutes_to_measuring(toy: Toy) -> None:
    clock = Clock()
    train = SlowLoader([toy.batch(0)], clock, 1.0)
    assert measure_speed(toy.state(), toy.task, train, None, longest_s=4.5, clock=clock) == Speed(1.0, 0.0)
    assert clock.now_s == 100 + 5  # of 13, the first three to warm up


def plan(minutes: float, speed: Speed, updates_per_pass: int, **others: Any) -> BudgetPlan:
    given = {"spent_s": 0.0, "validation_batches": 0, "final_batches": 0} | others
    return plan_epochs(minutes, speed, updates_per_pass=updates_per_pass, **given)


def test_epochs_of_about_a_pass_fill_the_planned_share_of_the_time() -> None:
    # 20 min = 1200 s, 90 s are spent; of the 1110 s left 90 % are planned: 999 s. The final numbers take
    # 5 + 2 * 30 * 0.5 = 35 s; 964 s are left. A pass with its validation takes 100 * 0.4 + 16 * 0.5 = 48 s, and
    # 0.25 s beside: 19.98 of them, so 20 epochs of (964 - 20 * 8.25) / (20 * 0.4) = 99.9 updates.
    found = plan(20, Speed(0.4, 0.5), 100, spent_s=90, validation_batches=16, final_batches=30)
    assert (found.epochs, found.updates_per_epoch, found.validation_s, found.final_s) == (20, 99, 8, 35)
    assert str(found).startswith("20 minutes hold 20 epochs of 99 updates: 0.4 s an update, 8 s a validation, 35 s")


def test_long_passes_are_divided_and_short_ones_put_together() -> None:
    # 10 min: 540 s are planned, 535 s after the final numbers. A pass of 1000 s fits not even once: 8 epochs of 66 s.
    assert _laid_out(plan(10, Speed(1.0, 0.0), 1000)) == (8, 66)
    # A pass of 1 s would fit hundreds of times: 50 epochs of 10.7 s, less 0.25 s: 104 updates instead of 10.
    assert _laid_out(plan(10, Speed(0.1, 0.0), 10)) == (50, 104)


def test_hours_are_laid_out_in_whole_passes_again() -> None:
    # 10 h: 32,395 s hold 268.3 passes of 120 s and 0.75 s beside, each worth saving: 269 epochs of almost a pass.
    assert _laid_out(plan(600, Speed(1.0, 0.05), 120, validation_batches=10)) == (269, 119)


def test_the_smallest_plan_has_an_update() -> None:
    # 10 updates of 10 ms, 0.25 s beside and 5 s at the end: 5.35 s of 0.9 * 6 s.
    assert _laid_out(plan(0.1, Speed(0.01, 0.0), 1000)) == (1, 15)
    with pytest.raises(ConfigError, match="do not hold 10 updates"):
        plan(0.098, Speed(0.01, 0.0), 1000)


def test_validations_take_no_more_than_a_fifth_of_the_time() -> None:
    # Of 535 s a fifth is 107 s: two validations of 50 s. What is left, 434.5 s, holds two epochs of 217 updates.
    slow = {"validation_batches": 50}
    assert _laid_out(plan(10, Speed(1.0, 1.0), 20, **slow)) == (2, 217)
    # Every fifth epoch: passes of 60 s would be 5, 8 are the fewest; two validations, (535 - 100 - 2) / 8 = 54.1.
    assert _laid_out(plan(10, Speed(1.0, 1.0), 60, **slow, validate_every=5)) == (8, 54)


def test_a_budget_without_room_for_a_few_updates_says_how_much_they_need() -> None:
    # 0 + (10 * 6 + 30 + 5) / 0.9 = 105.6 s = 1.76 min
    with pytest.raises(ConfigError) as error:
        plan(1.5, Speed(6.0, 3.0), 600, validation_batches=10)
    assert "1.5 minutes do not hold 10 updates at 6 s and the validation of 30 s. Give 1.8 minutes" in str(error.value)
    assert _laid_out(plan(1.8, Speed(6.0, 3.0), 600, validation_batches=10)) == (1, 10)


def _laid_out(found: BudgetPlan) -> tuple[int, int]:
    assert found.epochs * found.updates_per_epoch * found.update_s <= 0.9 * 60 * found.minutes
    return found.epochs, found.updates_per_epoch
