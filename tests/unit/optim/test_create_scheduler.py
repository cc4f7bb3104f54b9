"""Schedules for loops of one's own: names in any spelling, mappings and sections."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from maskwright.config.optim import SCHEDULE_NAMES, CosineSchedule, OptimConfig, SGDConfig, StepSchedule
from maskwright.errors import ConfigError
from maskwright.optim import create_scheduler


def rates(config: Any, steps: int = 12, *, lr: float = 0.1, per_epoch: int = 2, epochs: int | None = 6) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = create_scheduler(optimizer, config, per_epoch, epochs)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize("name", sorted(SCHEDULE_NAMES))
def test_every_name_builds_and_steps(name: str) -> None:
    seen = rates(name)
    assert all(0 <= lr <= 0.1 for lr in seen)
    assert rates({"type": name.upper()}) == seen


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ReduceLROnPlateau", "reduce_on_plateau"),
        ("reduce_on_plateau", "reduce_on_plateau"),
        ("plateau", "reduce_on_plateau"),
        ("CosineAnnealing", "cosine"),
        ("CosineAnnealingLR", "cosine"),
        ("cosine_warm_restarts", "warm_restarts"),
        ("cosine_restart", "cyclic_cosine"),
        ("StepLR", "step"),
        ("OneCycleLR", "onecycle"),
        ("None", "constant"),
        (None, "constant"),
    ],
)
def test_names_of_other_systems_are_known_in_any_spelling(name: str | None, kind: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    assert create_scheduler(optimizer, {"kind": name}, 2, 6).kind == kind


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ConfigError) as error:
        rates("cosin")
    assert str(error.value) == (
        "The schedule 'cosin' is unknown. Available: adaptive, constant, cosine, cyclic_cosine, exponential, onecycle, "
        "polynomial, reduce_on_plateau, step, warm_restarts. Did you mean cosine?"
    )


def test_a_mapping_without_a_name_and_an_option_of_another_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match="The schedule is not named"):
        rates({"T_max": 5})
    with pytest.raises(ConfigError, match="max_lr: unknown setting"):
        rates({"type": "cosine", "max_lr": 0.1})
    assert rates({"type": "cosine", "T_max": None, "max_lr": None}) == rates("cosine")


def test_the_documented_calls_and_a_section_mean_the_same() -> None:
    section = OptimConfig(schedule=StepSchedule(step_size=2, gamma=0.5))
    expected = [0.1] * 4 + [0.05] * 4 + [0.025] * 4
    assert rates(section) == rates(section.schedule) == expected
    assert rates({"type": "StepLR", "step_size": 2, "gamma": 0.5}) == expected
    assert rates({"type": "step", "step_size": 2, "gamma": 0.5, "epochs": 6}, epochs=None) == expected


def test_a_schedule_over_the_whole_run_asks_for_its_length() -> None:
    with pytest.raises(ConfigError, match="cosine covers the whole run and must know its length"):
        rates("cosine", epochs=None)
    assert rates({"kind": "cosine", "T_max": 6}, epochs=None) == rates("cosine")


def test_names_with_a_warm_up_bring_five_epochs_of_it_unless_told_otherwise() -> None:
    assert rates("cosine_warm", epochs=20) == rates({"kind": "cosine", "warmup_epochs": 5}, epochs=20)
    assert rates({"kind": "cosine_warm", "warmup_epochs": 2}) == rates({"kind": "cosine", "warmup_steps": 4})
    assert OptimConfig(schedule={"kind": "cosine_warm"}).warmup_epochs == 5  # type: ignore[arg-type]
    said = OptimConfig(schedule={"kind": "WarmupPlateau"}, warmup_epochs=1)  # type: ignore[arg-type]
    assert (said.schedule.kind, said.warmup_epochs) == ("reduce_on_plateau", 1)


def test_settings_take_names_in_any_spelling() -> None:
    config = OptimConfig(optimizer={"kind": "SGD"}, schedule={"kind": "CosineAnnealingLR", "t_max": 5})  # type: ignore[arg-type]
    assert (config.optimizer, config.schedule) == (SGDConfig(), CosineSchedule(t_max=5))


def test_a_warm_up_of_two_lengths_is_refused() -> None:
    with pytest.raises(ConfigError, match="warmup_steps: the length of the warm-up is said twice"):
        OptimConfig(warmup_epochs=1, warmup_steps=10)
