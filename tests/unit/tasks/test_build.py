"""From settings to a task."""

from __future__ import annotations

import torch

from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import FilmUNetConfig, UNetConfig
from maskwright.config.task import HeightGapsTask
from maskwright.tasks import TASKS, build_task

SETTINGS = HeightGapsTask(heights_m=(3.0, 8.0), condition_scale_m=25.0)


def test_every_kind_of_task_setting_has_a_task() -> None:
    assert set(TASKS) == {HeightGapsTask.model_fields["kind"].default}


def test_settings_reach_the_task() -> None:
    task = build_task(
        SETTINGS, CombinedLossConfig(bce=1, dice=0, focal=0), MetricsConfig(probability_threshold=0.3), FilmUNetConfig()
    )
    assert task.to_dict() == {
        "kind": "height_gaps",
        "heights_m": [3.0, 8.0],
        "condition_scale": 25.0,
        "probability_threshold": 0.3,
        "fixed": False,
    }
    assert {name: (term.factor, term.per) for name, term in task.loss_terms.items()} == {"bce": (1.0, "pixels")}


def test_heights_are_fixed_for_a_network_without_condition() -> None:
    assert build_task(SETTINGS, CombinedLossConfig(), MetricsConfig(), UNetConfig()).fixed


def test_the_task_builds_networks_that_answer_its_heights() -> None:
    image, heights = torch.zeros(2, 1, 16, 16), torch.tensor([[3.0, 8.0], [3.0, 8.0]])
    for settings in (UNetConfig(base_channels=4, depth=1), FilmUNetConfig(base_channels=4, depth=1, film_hidden=4)):
        task = build_task(SETTINGS, CombinedLossConfig(), MetricsConfig(), settings)
        assert task.build_model(settings, 1, 2)(image, heights).shape == (2, 2, 16, 16)
