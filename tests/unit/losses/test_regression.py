from __future__ import annotations

import pytest
import torch

from maskwright.losses.regression import (
    absolute_by_sample,
    absolute_squared_by_sample,
    huber_by_sample,
    squared_by_sample,
)

PREDICTION = torch.tensor([3.0, 0.5, 7.0, 9.0]).view(1, 1, 2, 2)
TARGET = torch.tensor([0.0, 1.0, 7.0, torch.nan]).view(1, 1, 2, 2)  # errors 3, -0.5, 0; the last is not measured
VALID = torch.isfinite(TARGET[:, 0])


def test_errors_are_summed_by_hand() -> None:
    assert absolute_by_sample(PREDICTION, TARGET, VALID).item() == pytest.approx(3.5)
    assert squared_by_sample(PREDICTION, TARGET, VALID).item() == pytest.approx(9.25)
    assert huber_by_sample(PREDICTION, TARGET, VALID, beta=1.0).item() == pytest.approx(2.5 + 0.125)
    assert huber_by_sample(PREDICTION, TARGET, VALID, beta=2.0).item() == pytest.approx(2.0 + 0.0625)
    both = absolute_squared_by_sample(PREDICTION, TARGET, VALID, squared_share=0.25)
    assert both.item() == pytest.approx(0.25 * 9.25 + 0.75 * 3.5)


@pytest.mark.parametrize(
    "function", [absolute_by_sample, squared_by_sample, huber_by_sample, absolute_squared_by_sample]
)
def test_what_was_not_measured_teaches_nothing(function: object) -> None:
    prediction = PREDICTION.clone().requires_grad_()
    function(prediction, TARGET, VALID).sum().backward()  # type: ignore[operator]
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad.flatten()[3].item() == 0
