"""Losses of objects: values by hand, nothing from what labels do not tell."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from maskwright.config.loss import MultitaskLossConfig
from maskwright.errors import ShapeError
from maskwright.losses import build_loss
from maskwright.losses.instances import (
    centres_by_sample,
    class_by_sample,
    crown_by_sample,
    density_by_sample,
    offsets_by_sample,
)

ALL = torch.ones(1, 1, 2, dtype=torch.bool)


def test_centres_cost_what_the_formula_says() -> None:
    centre = torch.tensor([[[[1.0, 0.5]]]])
    loss = centres_by_sample(torch.zeros(1, 1, 1, 2), centre, ALL)
    assert loss.item() == pytest.approx(0.25 * math.log(2) + 0.5**4 * 0.25 * math.log(2))
    two = centres_by_sample(torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2), ALL)
    assert two.item() == pytest.approx(0.25 * math.log(2))  # a mean over the objects


def test_centres_cost_the_same_at_another_scale() -> None:
    cost = {}
    for times in (1, 3):
        side, sigma = 60 * times, 2.0 * times
        place = torch.arange(side, dtype=torch.float32) - side // 2
        bell = torch.exp(-(place[:, None] ** 2 + place**2) / (2 * sigma**2))[None, None]
        counts = torch.ones(1, side, side, dtype=torch.bool)
        cost[times] = centres_by_sample(torch.full_like(bell, -1.0), bell, counts, sigma).item()
    assert cost[3] == pytest.approx(cost[1], rel=0.01)


def test_centres_far_off_are_finite_and_right_ones_cost_nothing() -> None:
    centre = torch.tensor([[[[1.0, 0.0]]]])
    logits = torch.tensor([[[[-1e4, 1e4]]]], requires_grad=True)
    loss = centres_by_sample(logits, centre, ALL)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
    assert centres_by_sample(-logits.detach(), centre, ALL).item() == 0


def test_offsets_are_a_mean_over_the_pixels_of_objects() -> None:
    target = torch.tensor([[[[3.0, 9.0]], [[-1.0, 9.0]]]])
    inside = torch.tensor([[[True, False]]])
    assert offsets_by_sample(torch.zeros(1, 2, 1, 2), target, inside).item() == 4
    assert offsets_by_sample(torch.zeros(1, 2, 1, 2), target, ~inside & inside).item() == 0
    with pytest.raises(ShapeError, match=r"Outputs are \(1, 1, 1, 2\) and what is true \(1, 2, 1, 2\)"):
        offsets_by_sample(torch.zeros(1, 1, 1, 2), target, inside)


def test_classes_are_cross_entropy_over_the_pixels_that_count() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    counts = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(2)) > 0.4
    expected = F.cross_entropy(logits, target.masked_fill(~counts, -100), reduction="sum", ignore_index=-100)
    assert class_by_sample(logits, target, counts).sum().item() == pytest.approx(expected.item(), rel=1e-6)


def test_crowns_and_density_are_squared_errors_in_their_units() -> None:
    known = torch.tensor([[[True, False]]])
    assert crown_by_sample(torch.zeros(1, 1, 1, 2), torch.tensor([[[3.0, 5.0]]]), known).item() == 9
    peak = 1 / (2 * math.pi * 4)
    assert density_by_sample(torch.zeros(1, 1, 1, 2), torch.full((1, 1, 2), 2 * peak), ALL, 2.0).item() == 8


def test_nothing_that_does_not_count_has_a_gradient() -> None:
    nowhere = torch.zeros(1, 1, 2, dtype=torch.bool)
    parts = [torch.randn(1, channels, 1, 2, requires_grad=True) for channels in (1, 2, 3, 1, 1)]
    total = (
        centres_by_sample(parts[0], torch.ones(1, 1, 1, 2), nowhere)
        + offsets_by_sample(parts[1], torch.ones(1, 2, 1, 2), nowhere)
        + class_by_sample(parts[2], torch.full((1, 1, 2), 99), nowhere)
        + crown_by_sample(parts[3], torch.ones(1, 1, 2), nowhere)
        + density_by_sample(parts[4], torch.ones(1, 1, 2), nowhere, 2.0)
    )
    total.sum().backward()
    assert total.item() == 0
    assert all(part.grad is not None and not part.grad.any() for part in parts)


def test_the_loss_takes_the_weights_of_the_settings_and_no_logits() -> None:
    loss = build_loss(MultitaskLossConfig())
    assert loss.terms == {"instance": 1.0, "semantic": 1.0, "crown": 0.5, "density": 0.5}
    assert loss.adds_up
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    weights = {term.weight: torch.tensor(2.0) for term in loss.functions.values()}
    sums = {name: torch.full((1, 1), 4.0) for name in loss.terms}
    output = loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), valid, weights, None, sums)
    assert output.total.item() == pytest.approx(2 * (1 + 1 + 0.5 + 0.5))
    with pytest.raises(ShapeError, match="taken of maps by name"):
        loss.functions["crown"].by_sample(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), valid)
