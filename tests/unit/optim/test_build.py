from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, OneCycleLR

from maskwright.config.optim import AdamWConfig, ConstantSchedule, OneCycleSchedule, OptimConfig
from maskwright.optim import OPTIMIZERS, SCHEDULES, build_optimizer, build_schedule


def kinds(*sections: type) -> list[str]:
    return sorted(get_args(section.model_fields["kind"].annotation)[0] for section in sections)  # type: ignore[attr-defined]


def test_tables_and_kinds_agree() -> None:
    assert list(OPTIMIZERS) == kinds(AdamWConfig)
    assert list(SCHEDULES) == kinds(OneCycleSchedule, ConstantSchedule)


def test_every_setting_reaches_the_optimizer() -> None:
    config = OptimConfig(optimizer=AdamWConfig(lr=3e-4, weight_decay=0.2, betas=(0.7, 0.8), eps=1e-6))
    optimizer = build_optimizer(config, nn.Linear(2, 2))
    assert isinstance(optimizer, torch.optim.AdamW)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"], group["eps"]) == (3e-4, 0.2, (0.7, 0.8), 1e-6)


def test_every_setting_reaches_the_schedule() -> None:
    cycle = OneCycleSchedule(max_lr=0.02, pct_start=0.4, div_factor=10, final_div_factor=100)
    config = OptimConfig(schedule=cycle)
    optimizer = build_optimizer(config, nn.Linear(2, 2))
    schedule = build_schedule(config, optimizer, 100)
    assert isinstance(schedule, OneCycleLR)
    for group in optimizer.param_groups:
        assert group["initial_lr"] == pytest.approx(0.02 / 10)
        assert group["min_lr"] == pytest.approx(0.02 / 10 / 100)
        assert group["max_lr"] == 0.02
    assert schedule.total_steps == 100


def test_no_schedule_is_a_constant_one() -> None:
    config = OptimConfig(schedule=ConstantSchedule())
    schedule = build_schedule(config, build_optimizer(config, nn.Linear(2, 2)), 0)
    assert isinstance(schedule, ConstantLR)


def test_parts_with_rates_of_their_own_keep_their_share_of_the_peak() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    config = OptimConfig(optimizer=AdamWConfig(lr=1e-3), schedule=OneCycleSchedule(max_lr=0.02, div_factor=10))
    optimizer = build_optimizer(config, model, groups={"0": {"lr": 1e-4}})
    assert [group["name"] for group in optimizer.param_groups] == ["0", "rest"]
    build_schedule(config, optimizer, 100)
    assert [group["max_lr"] for group in optimizer.param_groups] == pytest.approx([0.002, 0.02])
