"""Epochs that fit into minutes, by a clock that only moves when told to."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from maskwright.errors import ConfigError
from maskwright.training.budget import Speed, measure_speed, plan_epochs
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


def test_a_short_run_does_not_give_its_minutes_to_measuring(toy: Toy) -> None:
    clock = Clock()
    train = SlowLoader([toy.batch(0)], clock, 1.0)
    assert measure_speed(toy.state(), toy.task, train, None, longest_s=4.5, clock=clock) == Speed(1.0, 0.0)
    assert clock.now_s == 100 + 5  # of 13, the first three to warm up


def test_epochs_fill_the_planned_share_of_the_time() -> None:
    # 20 min = 1200 s, 90 s are spent; of the 1110 s left 85 % are planned: 943.5 s. The final numbers take
    # 5 + 2 * 30 * 0.5 = 35 s, an epoch 100 * 0.4 + 20 * 0.5 = 50 s: (943.5 - 35) / 50 = 18.17.
    plan = plan_epochs(
        20,
        Speed(0.4, 0.5),
        spent_s=90,
        updates_per_epoch=100,
        validation_batches=20,
        final_batches=30,
    )
    assert (plan.epochs, plan.validation_s, plan.final_s) == (18, 10, 35)
    assert str(plan).startswith("20 minutes hold 18 epochs of 100 updates: 0.4 s an update, 10 s a validation, 35 s")


def test_fewer_validations_leave_time_for_more_epochs() -> None:
    # 18.17 * 50 s = 908.5 s now hold n epochs of 40 s and ceil(n / 5) validations of 10 s: 21 * 40 + 5 * 10 = 890.
    plan = plan_epochs(
        20,
        Speed(0.4, 0.5),
        spent_s=90,
        updates_per_epoch=100,
        validation_batches=20,
        final_batches=30,
        validate_every=5,
    )
    assert plan.epochs == 21


def test_a_budget_without_room_for_an_epoch_says_how_much_one_needs() -> None:
    # 0 + (600 * 1 + 0 + 5) / 0.85 = 711.8 s = 11.9 min
    with pytest.raises(ConfigError) as error:
        plan_epochs(10, Speed(1.0, 0.0), spent_s=0, updates_per_epoch=600, validation_batches=0, final_batches=0)
    assert "10 minutes do not hold one epoch of 600 updates at 1 s. Give 11.9 minutes or more" in str(error.value)
    plan = plan_epochs(11.9, Speed(1.0, 0.0), spent_s=0, updates_per_epoch=600, validation_batches=0, final_batches=0)
    assert plan.epochs == 1
