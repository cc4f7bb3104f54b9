from __future__ import annotations

import math

import pytest
import torch

from maskwright.errors import ShapeError
from maskwright.losses.pixel import (
    FocalLoss,
    bce_sum,
    count_pixels,
    focal_sum,
    looks_like_probabilities,
    split_ignored,
)


def one_pixel(logit: float, target: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.full((1, 1, 1, 1), logit), torch.full((1, 1, 1, 1), target), torch.ones(1, 1, 1, dtype=torch.bool)


def test_cross_entropy_of_an_undecided_pixel_is_log_2() -> None:
    assert bce_sum(*one_pixel(0.0, 1.0)).item() == pytest.approx(math.log(2))
    assert bce_sum(*one_pixel(0.0, 0.0)).item() == pytest.approx(math.log(2))


def test_pos_weight_acts_on_target_pixels_only() -> None:
    assert bce_sum(*one_pixel(0.0, 1.0), pos_weight=3).item() == pytest.approx(3 * math.log(2))
    assert bce_sum(*one_pixel(0.0, 0.0), pos_weight=3).item() == pytest.approx(math.log(2))


def test_label_smoothing_moves_the_best_logit_away_from_infinity() -> None:
    at_smoothed_target = math.log(0.9 / 0.1)
    logits = torch.full((1, 1, 1, 1), at_smoothed_target, requires_grad=True)
    _, target, valid = one_pixel(0.0, 1.0)
    bce_sum(logits, target, valid, label_smoothing=0.1).backward()
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(0, abs=1e-6)


def test_focal_loss_of_one_pixel_by_hand() -> None:
    logit = math.log(0.8 / 0.2)  # probability 0.8
    assert focal_sum(*one_pixel(logit, 1.0)).item() == pytest.approx(0.25 * 0.2**2 * -math.log(0.8), rel=1e-5)
    assert focal_sum(*one_pixel(logit, 0.0)).item() == pytest.approx(0.75 * 0.8**2 * -math.log(0.2), rel=1e-5)


def test_focal_loss_with_gamma_0_and_alpha_one_half_is_half_the_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, valid = torch.randn(2, 3, 4, 5), torch.rand(2, 4, 5) > 0.3
    target = (torch.rand_like(logits) > 0.5).float()
    focal = focal_sum(logits, target, valid, alpha=0.5, gamma=0)
    torch.testing.assert_close(focal, bce_sum(logits, target, valid) / 2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradient_stays_finite_at_extreme_logits(gamma: float) -> None:
    logits = torch.tensor([-1e4, 1e4, -1e4, 1e4]).view(1, 1, 2, 2).requires_grad_()
    target = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2)
    focal_sum(logits, target, torch.ones(1, 2, 2, dtype=torch.bool), gamma=gamma).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_sums_add_over_pixels_that_count_only() -> None:
    logits = torch.tensor([0.0, 0.0, 77.0, -3.0]).view(1, 1, 2, 2)
    valid = torch.tensor([True, True, False, False]).view(1, 2, 2)
    assert bce_sum(logits, torch.zeros_like(logits), valid).item() == pytest.approx(2 * math.log(2))
    assert count_pixels(valid, channels=3).item() == 6


def test_other_shapes_are_refused_with_both_shapes_named() -> None:
    logits, valid = torch.zeros(2, 1, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"target is \(2, 4, 4\), logits are \(2, 1, 4, 4\)"):
        bce_sum(logits, torch.zeros(2, 4, 4), valid)
    with pytest.raises(ShapeError, match=r"valid is \(2, 1, 4, 4\), logits ask for \(2, 4, 4\)"):
        bce_sum(logits, logits, valid[:, None])


def test_probabilities_are_told_from_logits() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 8, 8)
    assert looks_like_probabilities(torch.sigmoid(logits))
    assert not looks_like_probabilities(logits)
    assert not looks_like_probabilities(torch.zeros(2, 1, 8, 8))  # a head initialised to 0


def test_255_in_a_mask_does_not_count() -> None:
    mask = torch.tensor([[[0, 1], [255, 1]], [[0, 255], [255, 0]]], dtype=torch.uint8)[None]  # (1, 2, 2, 2)
    target, valid = split_ignored(mask)
    assert target.tolist() == [[[[0, 1], [0, 1]], [[0, 0], [0, 0]]]]
    assert valid.tolist() == [[[True, False], [False, True]]]
    _, fewer = split_ignored(mask, torch.tensor([[[False, True], [True, True]]]))
    assert fewer.tolist() == [[[False, False], [False, True]]]


def test_focal_module_is_the_mean_over_pixels_that_count() -> None:
    mask = torch.tensor([[[0, 1], [255, 1]]], dtype=torch.uint8)  # (B, H, W)
    logits = torch.tensor([[[[1.0, -1.0], [50.0, 2.0]]]])
    target, valid = split_ignored(mask)
    torch.testing.assert_close(FocalLoss()(logits, mask), focal_sum(logits, target, valid) / 3)


def test_focal_module_of_nothing_that_counts_is_zero() -> None:
    assert FocalLoss()(torch.randn(1, 1, 2, 2), torch.full((1, 1, 2, 2), 255)).item() == 0
