"""What tasks with a combined loss share: the one look at the first outputs."""

from __future__ import annotations

import logging

import pytest
import torch

from maskwright.config.loss import CombinedLossConfig, RegressionLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import HeightCdfConfig, RegressionUNetConfig, UNetConfig
from maskwright.config.task import BinaryTask, HeightGapsTask, HeightTask
from maskwright.tasks import build_task
from maskwright.types import Batch, Place, Window

WHERE = (Place("invented", Window(0, 0, 4, 4)),)


def batch_of(target: torch.Tensor, condition: torch.Tensor | None = None) -> Batch:
    return Batch(torch.zeros(1, 1, 4, 4), target, torch.ones(1, 4, 4, dtype=torch.bool), condition, WHERE)


def probabilities(channels: int) -> torch.Tensor:
    return torch.linspace(0.1, 0.9, 16 * channels).reshape(1, channels, 4, 4)


def test_first_outputs_that_look_like_probabilities_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    task = build_task(BinaryTask(), CombinedLossConfig(), MetricsConfig(), UNetConfig(), ("crack",))
    batch = batch_of(torch.ones(1, 4, 4, dtype=torch.int64))
    with caplog.at_level(logging.WARNING, "maskwright"):
        task.loss(probabilities(1), batch)
        assert "all lie in 0..1, as if a sigmoid or softmax" in caplog.text
        assert "take the activation off the end of the network" in caplog.text
        caplog.clear()
        task.loss(probabilities(1), batch)
    assert not caplog.text


@pytest.mark.parametrize("outputs", [6 * probabilities(1) - 3, torch.full((1, 1, 4, 4), 0.5)])
def test_logits_and_constant_outputs_are_not_suspected(outputs: torch.Tensor, caplog: pytest.LogCaptureFixture) -> None:
    task = build_task(BinaryTask(), CombinedLossConfig(), MetricsConfig(), UNetConfig(), ("crack",))
    with caplog.at_level(logging.WARNING, "maskwright"):
        task.loss(outputs, batch_of(torch.ones(1, 4, 4, dtype=torch.int64)))
    assert not caplog.text


def test_outputs_that_are_no_logits_are_not_suspected(caplog: pytest.LogCaptureFixture) -> None:
    height = build_task(HeightTask(), RegressionLossConfig(), MetricsConfig(), RegressionUNetConfig())
    loss = CombinedLossConfig(bce=0, dice=0, focal=0, likelihood=1)
    mixture = build_task(HeightGapsTask(heights_m=(5.0,)), loss, MetricsConfig(), HeightCdfConfig())
    canopy = torch.full((1, 4, 4), 3.0)
    with caplog.at_level(logging.WARNING, "maskwright"):
        height.loss(probabilities(1), batch_of(canopy))
        mixture.loss(probabilities(3), batch_of(canopy, torch.tensor([[5.0]])))
    assert not caplog.text
