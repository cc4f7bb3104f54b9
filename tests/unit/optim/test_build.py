from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

from maskwright.config.base import sections_in
from maskwright.config.optim import (
    AdamConfig,
    AdamWConfig,
    ConstantSchedule,
    OneCycleSchedule,
    OptimConfig,
    OptimGroup,
    RMSpropConfig,
    ScheduleConfig,
    SGDConfig,
)
from maskwright.errors import ConfigError, ModelError
from maskwright.optim import OPTIMIZERS, SCHEDULES, build_optimizer, build_schedule


def kinds(*sections: type) -> list[str]:
    return sorted(get_args(section.model_fields["kind"].annotation)[0] for section in sections)  # type: ignore[attr-defined]


def test_tables_and_kinds_agree() -> None:
    assert list(OPTIMIZERS) == kinds(AdamWConfig, AdamConfig, SGDConfig, RMSpropConfig)
    assert list(SCHEDULES) == kinds(*sections_in(ScheduleConfig))


def test_every_setting_reaches_the_optimizer() -> None:
    config = OptimConfig(optimizer=AdamWConfig(lr=3e-4, weight_decay=0.2, betas=(0.7, 0.8), eps=1e-6))
    optimizer = build_optimizer(config, nn.Linear(2, 2))
    assert isinstance(optimizer, torch.optim.AdamW)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"], group["eps"]) == (3e-4, 0.2, (0.7, 0.8), 1e-6)


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        (AdamWConfig(lr=0.1, weight_decay=0.2, betas=(0.7, 0.8), eps=1e-6, amsgrad=True), torch.optim.AdamW),
        (AdamConfig(lr=0.1, weight_decay=0.2, betas=(0.7, 0.8), eps=1e-6, amsgrad=True), torch.optim.Adam),
        (SGDConfig(lr=0.1, weight_decay=0.2, momentum=0.8, nesterov=True), torch.optim.SGD),
        (SGDConfig(lr=0.1, weight_decay=0.2, momentum=0.8, dampening=0.3), torch.optim.SGD),
        (
            RMSpropConfig(lr=0.1, weight_decay=0.2, alpha=0.9, eps=1e-6, momentum=0.8, centered=True),
            torch.optim.RMSprop,
        ),
    ],
)
def test_every_optimizer_has_its_settings_and_decays_weights_alone(section: Any, kind: type) -> None:
    optimizer = build_optimizer(OptimConfig(optimizer=section), nn.Linear(2, 2))
    assert type(optimizer) is kind
    decayed, free = optimizer.param_groups
    asked = section.model_dump(exclude={"kind", "weight_decay"})
    assert {name: decayed[name] for name in asked} == {name: free[name] for name in asked} == asked
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.2, 0.0)


def test_every_setting_reaches_the_schedule() -> None:
    cycle = OneCycleSchedule(max_lr=0.02, pct_start=0.4, div_factor=10, final_div_factor=100)
    config = OptimConfig(schedule=cycle)
    optimizer = build_optimizer(config, nn.Linear(2, 2))
    schedule = build_schedule(config, optimizer, 25, 4)
    seen = []
    for _ in range(100):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen[0] == pytest.approx(0.02 / 10)
    assert seen.index(max(seen)) == 39
    assert max(seen) == pytest.approx(0.02)
    assert seen[99] == pytest.approx(0.02 / 10 / 100)


def test_no_schedule_is_a_constant_one() -> None:
    config = OptimConfig(schedule=ConstantSchedule())
    assert build_schedule(config, build_optimizer(config, nn.Linear(2, 2)), 5).kind == "constant"


def test_parts_with_rates_of_their_own_keep_their_share_of_the_peak() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    config = OptimConfig(optimizer=AdamWConfig(lr=1e-3), schedule=OneCycleSchedule(max_lr=0.02, div_factor=10))
    optimizer = build_optimizer(config, model, groups={"0": {"lr": 1e-4}})
    assert [group["name"] for group in optimizer.param_groups] == ["0", "rest"]
    assert build_schedule(config, optimizer, 10, epochs=10).base_lrs == pytest.approx([0.002, 0.02])


def test_parts_of_the_network_take_the_rates_and_decay_of_the_settings() -> None:
    network = nn.ModuleDict({"encoder": nn.Conv2d(1, 2, 3), "decoder": nn.Conv2d(2, 2, 3), "head": nn.Conv2d(2, 1, 1)})
    config = OptimConfig(
        optimizer=AdamWConfig(lr=0.01, weight_decay=0.1),
        groups=(OptimGroup(name="encoder", lr_factor=0.1), OptimGroup(name="decoder", weight_decay=0.5)),
    )
    groups = build_optimizer(config, network).param_groups
    found = [(group["name"], group["lr"], group["weight_decay"]) for group in groups]
    assert found == [
        ("encoder", 0.1 * 0.01, 0.1),
        ("encoder", 0.1 * 0.01, 0.0),
        ("decoder", 0.01, 0.5),
        ("decoder", 0.01, 0.0),
        ("rest", 0.01, 0.1),
        ("rest", 0.01, 0.0),
    ]


def test_groups_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is said of encoder"):
        OptimGroup(name="encoder")
    with pytest.raises(ConfigError, match="the rate of encoder is said twice"):
        OptimGroup(name="encoder", lr=0.1, lr_factor=0.1)
    with pytest.raises(ConfigError, match="head comes twice"):
        OptimConfig(groups=(OptimGroup(name="head", lr=0.1), OptimGroup(name="head", lr=0.2)))
    with pytest.raises(ModelError, match="the network has no part 'tail'"):
        build_optimizer(OptimConfig(groups=(OptimGroup(name="tail", lr=0.1),)), nn.Conv2d(1, 1, 1))
