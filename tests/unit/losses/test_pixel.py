from __future__ import annotations

import math

import pytest
import torch

from maskwright.errors import DataError, ShapeError
from maskwright.losses.pixel import (
    balanced_bce_by_sample,
    bce_sum,
    class_focal_by_sample,
    count_pixels,
    count_positions,
    cross_entropy_by_sample,
    focal_sum,
    looks_like_probabilities,
    one_hot,
    split_ignored,
    split_ignored_classes,
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


def test_balanced_cross_entropy_weighs_each_sample_by_its_own_classes() -> None:
    logits, valid = torch.zeros(3, 1, 2, 3), torch.ones(3, 2, 3, dtype=torch.bool)
    valid[0, 1, 2] = False
    target = torch.zeros(3, 1, 2, 3)
    target[0, 0, 0, 0] = 1  # one against four that count: weight 4
    target[1, 0] = 1  # no other: the least weight
    loss = balanced_bce_by_sample(logits, target, valid, cap=10.0)
    assert (loss / math.log(2)).flatten().tolist() == pytest.approx([4 + 4, 6 / 10, 6])
    capped = balanced_bce_by_sample(logits, target, valid, cap=2.0)
    assert (capped / math.log(2)).flatten().tolist() == pytest.approx([2 + 4, 6 / 2, 6])


def one_pixel_of_classes(*logits: float) -> torch.Tensor:
    return torch.tensor(logits).view(1, len(logits), 1, 1)


ONE = torch.ones(1, 1, 1, dtype=torch.bool)


def test_cross_entropy_of_classes_by_hand() -> None:
    logits = one_pixel_of_classes(math.log(1), math.log(2), math.log(5))
    classes = torch.full((1, 1, 1), 1)
    assert cross_entropy_by_sample(logits, classes, ONE).item() == pytest.approx(-math.log(2 / 8))
    weighted = cross_entropy_by_sample(logits, classes, ONE, class_weights=[1, 3, 1])
    assert weighted.item() == pytest.approx(-3 * math.log(2 / 8))
    smoothed = cross_entropy_by_sample(logits, classes, ONE, label_smoothing=0.3)
    mean = (math.log(1 / 8) + math.log(2 / 8) + math.log(5 / 8)) / 3
    assert smoothed.item() == pytest.approx(-0.7 * math.log(2 / 8) - 0.3 * mean)


def test_focal_of_classes_by_hand() -> None:
    logits = one_pixel_of_classes(math.log(1), math.log(2), math.log(5))
    loss = class_focal_by_sample(logits, torch.full((1, 1, 1), 2), ONE, gamma=2.0, class_weights=[1, 1, 4])
    assert loss.item() == pytest.approx(-4 * (3 / 8) ** 2 * math.log(5 / 8))


def test_focal_without_class_weight_is_twice_the_one_of_alpha_one_half() -> None:
    pixel = one_pixel(0.7, 1.0)
    assert focal_sum(*pixel, alpha=None).item() == pytest.approx(2 * focal_sum(*pixel, alpha=0.5).item())


def test_a_class_id_out_of_range_is_refused_unless_the_pixel_does_not_count() -> None:
    logits, classes = torch.zeros(1, 3, 1, 2), torch.tensor([[[0, 7]]])
    with pytest.raises(DataError, match="Class ids reach from 0 to 7, the network has 3 channels: 0 to 2"):
        cross_entropy_by_sample(logits, classes, torch.ones(1, 1, 2, dtype=torch.bool))
    some = torch.tensor([[[True, False]]])
    assert cross_entropy_by_sample(logits, classes, some).item() == pytest.approx(math.log(3))


def test_wrong_types_and_numbers_of_classes_are_refused() -> None:
    logits, classes = torch.zeros(1, 3, 1, 1), torch.zeros(1, 1, 1)
    with pytest.raises(ShapeError, match="class ids must be integers"):
        cross_entropy_by_sample(logits, classes, ONE)
    with pytest.raises(ShapeError, match="2 class weights are given for logits of 3 channels"):
        cross_entropy_by_sample(logits, classes.long(), ONE, class_weights=[1, 2])
    with pytest.raises(ShapeError, match="need 2 channels or more"):
        class_focal_by_sample(logits[:, :1], classes.long(), ONE)


def test_class_ids_become_channels_and_255_does_not_count() -> None:
    classes, valid = split_ignored_classes(torch.tensor([[[0, 2, 255]]]))
    assert valid.tolist() == [[[True, True, False]]]
    assert one_hot(classes, valid, 3)[0, :, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert count_positions(valid).item() == 2
