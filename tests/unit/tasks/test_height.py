"""The task of heights in metres."""

from __future__ import annotations

import math

import pytest
import torch

from maskwright.config.model import RegressionUNetConfig
from maskwright.errors import ShapeError
from maskwright.losses import CombinedLoss
from maskwright.tasks import Height, task_from_dict
from maskwright.types import Batch, Place, Window


def batch_of(heights: list[float], valid: list[bool]) -> Batch:
    target = torch.tensor(heights).view(1, 1, -1)
    counts = torch.tensor(valid).view(1, 1, -1)
    return Batch(torch.zeros(1, 1, 1, len(heights)), target, counts, None, (Place("a", Window(0, 0, 1, len(heights))),))


def test_outputs_are_multiplied_to_metres() -> None:
    decoded = Height(20.0).decode(torch.tensor([[[[0.5, -0.1]]]]))
    assert decoded.probs.flatten().tolist() == pytest.approx([10.0, -2.0])


def test_loss_and_errors_are_in_metres_and_count_valid_pixels_only() -> None:
    task = Height(10.0, CombinedLoss({"absolute": 1.0}))
    batch = batch_of([12.0, 4.0, 0.0], [True, True, False])
    outputs = torch.tensor([[[[1.0, 1.0, 99.0]]]])
    assert float(task.loss(outputs, batch).total) == pytest.approx((2 + 6) / 2)
    meter = task.meters()
    task.update(meter, outputs, batch)
    scores = meter.compute()
    assert scores["mae"] == pytest.approx(4.0)
    assert scores["rmse"] == pytest.approx(math.sqrt((4 + 36) / 2))
    assert scores["bias"] == pytest.approx((-2 + 6) / 2)
    assert [row["group"] for row in meter.metrics.by_group()] == ["a"]


def test_errors_are_better_low_and_the_bias_steers_nothing() -> None:
    task = Height()
    assert set(task.score_names()) == {"rmse", "mae", "mse", "r2"}
    assert (task.better("rmse"), task.better("r2"), task.default_monitor) == ("min", "max", "val/rmse")


def test_the_network_starts_with_a_sensible_height() -> None:
    torch.manual_seed(0)
    task = Height(30.0)
    network = task.build_model(RegressionUNetConfig(base_channels=8, depth=2), 1).eval()
    with torch.no_grad():
        heights = task.decode(network(torch.randn(2, 1, 32, 32))).probs
    assert 5 < float(heights.mean()) < 15


def test_a_task_is_rebuilt_from_its_description() -> None:
    assert task_from_dict(Height(25.0).to_dict()).to_dict() == {"kind": "height", "scale_m": 25.0}


def test_more_than_one_channel_is_refused() -> None:
    with pytest.raises(ShapeError, match="are no heights"):
        Height().decode(torch.zeros(1, 2, 3, 3))
