"""Whether a checkpoint fits the run that goes on from it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import StepLR

from maskwright.errors import CheckpointError
from maskwright.optim.schedules import Schedule, Span, cosine
from maskwright.training.fitting import lay_out_anew, require_same_plan, require_same_weights

PLAN = {"epochs": 4, "batches_per_epoch": 10, "accumulate": 2}


def cosine_over(epochs: int, lr: float = 1.0) -> tuple[Optimizer, Schedule]:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    return optimizer, cosine(optimizer, Span(1, epochs))


def stepped(schedule: Schedule, steps: int) -> None:
    for _ in range(steps):
        schedule.optimizer.step()
        schedule.step()


def test_more_epochs_are_the_same_plan_and_fewer_down_to_those_that_are_done() -> None:
    require_same_plan(PLAN, PLAN | {"epochs": 9}, epochs_done=4)
    require_same_plan(PLAN, PLAN | {"epochs": 2}, epochs_done=2)
    with pytest.raises(CheckpointError, match="has 3 epochs behind it, and the run is to have 2"):
        require_same_plan(PLAN, PLAN | {"epochs": 2}, epochs_done=3)


def test_another_number_of_batches_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match="batches_per_epoch was 10 and is 12; accumulate was 2 and is 3"):
        require_same_plan(PLAN, {"epochs": 4, "batches_per_epoch": 12, "accumulate": 3}, epochs_done=1)


def test_the_weights_of_another_network_are_named_with_both_shapes() -> None:
    found = {"head.weight": torch.zeros(3, 8), "stem": torch.zeros(4), "old": torch.zeros(1)}
    own = {"head.weight": torch.zeros(5, 8), "stem": torch.zeros(4), "new": torch.zeros(1)}
    with pytest.raises(CheckpointError) as error:
        require_same_weights(found, own)
    assert "head.weight is (3, 8) there and (5, 8) here; not in the checkpoint: new; in the checkpoint alone: old." in (
        str(error.value)
    )
    require_same_weights(found, dict(found))


def test_a_longer_run_has_the_rates_of_one_planned_so_long_from_the_present_step_on() -> None:
    short_optimizer, short = cosine_over(4)
    stepped(short, 2)
    long_optimizer, long = cosine_over(8)
    long_optimizer.load_state_dict(short_optimizer.state_dict())
    long.load_state_dict(short.state_dict())
    assert long_optimizer.param_groups[0]["lr"] == pytest.approx(0.5)  # half way down the short fall
    told = lay_out_anew(long, 4, 8)
    assert long_optimizer.param_groups[0]["lr"] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert told == (
        "The run was planned for 4 epochs and now has 8: the schedule is laid out over all of them, and its rate goes "
        "from 0.5 to 0.854."
    )
    fresh_optimizer, fresh = cosine_over(8)
    stepped(fresh, 2)
    for _ in range(6):
        assert long_optimizer.param_groups[0]["lr"] == fresh_optimizer.param_groups[0]["lr"]
        stepped(long, 1)
        stepped(fresh, 1)


def test_a_rate_set_by_hand_goes_on_scaling_the_longer_schedule() -> None:
    short_optimizer, short = cosine_over(4)
    stepped(short, 2)
    short.base_lrs = [0.1]  # a tenth, as set by hand
    long_optimizer, long = cosine_over(8)
    long_optimizer.load_state_dict(short_optimizer.state_dict())
    long.load_state_dict(short.state_dict())
    lay_out_anew(long, 4, 8)
    assert long_optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)) / 2)


def test_a_schedule_of_ones_own_goes_on_as_it_is() -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    told = lay_out_anew(StepLR(optimizer, 3), 2, 5)
    assert told.endswith("now has 5; its own schedule goes on as it is, with a learning rate of 0.2.")
