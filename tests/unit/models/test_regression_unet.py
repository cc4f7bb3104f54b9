"""The network whose output is a height."""

from __future__ import annotations

import pytest
import torch

from maskwright.errors import ModelError, ShapeError
from maskwright.models import RegressionUNet


def test_it_starts_close_to_a_third_of_the_scale_everywhere() -> None:
    torch.manual_seed(0)
    network = RegressionUNet(1, base_channels=8, depth=2, residual=True).train()
    with torch.no_grad():
        values = network(torch.randn(4, 1, 32, 32))
    assert float(values.mean()) == pytest.approx(1 / 3, abs=0.05)
    assert float(values.std()) < 0.05


def test_its_output_has_no_bounds_and_can_be_fitted() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = RegressionUNet(1, base_channels=4, depth=1)
    image = torch.linspace(-1, 1, 16 * 16).view(1, 1, 16, 16)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (network(image) - 2 * image).square().mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05
    with torch.no_grad():
        assert float(network(image).min()) < 0


def test_a_condition_is_ignored_and_a_wrong_image_refused() -> None:
    network = RegressionUNet(2, base_channels=4, depth=1).eval()
    image = torch.randn(1, 2, 8, 8)
    assert torch.equal(network(image), network(image, torch.tensor([[5.0]])))
    with pytest.raises(ShapeError):
        network(torch.randn(1, 3, 8, 8))
    with pytest.raises(ModelError):
        RegressionUNet(1, 0)
