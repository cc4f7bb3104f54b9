from __future__ import annotations

import pytest
import torch

from maskwright.losses.overlap import (
    count_images,
    count_samples,
    dice_loss,
    dice_sum,
    jaccard_loss,
    lovasz_by_sample,
    lovasz_softmax_by_sample,
    tversky_loss,
)

SURE = 1e4
EVERYWHERE = torch.ones(1, 2, 2, dtype=torch.bool)


def logits_of(painted: list[float]) -> torch.Tensor:
    """(1, 1, 2, 2) logits so sure that probabilities are exactly 0 and 1."""
    return (torch.tensor(painted) * 2 - 1).view(1, 1, 2, 2) * SURE


def test_half_overlap_by_hand() -> None:
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    loss = dice_loss(logits_of([1, 0, 1, 0]), target, EVERYWHERE, smooth=1.0)
    assert loss.item() == pytest.approx(1 - (2 * 1 + 1) / (2 + 2 + 1))


def test_nothing_to_find_and_nothing_found_is_zero() -> None:
    assert dice_loss(logits_of([0, 0, 0, 0]), torch.zeros(1, 1, 2, 2), EVERYWHERE).item() == 0


def test_nothing_to_find_and_everything_painted_is_close_to_one() -> None:
    loss = dice_loss(torch.full((1, 1, 50, 50), SURE), torch.zeros(1, 1, 50, 50), torch.ones(1, 50, 50).bool())
    assert loss.item() == pytest.approx(1, abs=1e-3)


def test_everything_found_is_zero() -> None:
    assert dice_loss(logits_of([1, 1, 1, 1]), torch.ones(1, 1, 2, 2), EVERYWHERE).item() == pytest.approx(0)


def test_squares_below_the_ratio_by_hand() -> None:
    logits = torch.zeros(1, 1, 2, 2)  # probability 0.5
    target = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2)
    plain = dice_loss(logits, target, EVERYWHERE, smooth=1.0)
    squared = dice_loss(logits, target, EVERYWHERE, smooth=1.0, squared_pred=True)
    assert plain.item() == pytest.approx(1 - (2 * 0.5 + 1) / (2 + 1 + 1))
    assert squared.item() == pytest.approx(1 - (2 * 0.5 + 1) / (1 + 1 + 1))


def test_pixels_that_do_not_count_are_in_no_sum() -> None:
    valid = torch.tensor([True, True, False, False]).view(1, 2, 2)
    target = torch.tensor([1.0, 1.0, 1.0, 1.0]).view(1, 1, 2, 2)
    loss = dice_loss(logits_of([1, 0, 1, 1]), target, valid, smooth=1.0)
    assert loss.item() == pytest.approx(1 - (2 * 1 + 1) / (1 + 2 + 1))


def test_batch_reduction_makes_one_ratio_for_each_channel() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(3, 2, 4, 4), (torch.rand(3, 2, 4, 4) > 0.5).float()
    valid = torch.rand(3, 4, 4) > 0.2
    side_by_side = logits.transpose(0, 1).reshape(1, 2, 12, 4), target.transpose(0, 1).reshape(1, 2, 12, 4)
    joined = dice_loss(logits, target, valid, reduction="batch")
    torch.testing.assert_close(joined, dice_loss(*side_by_side, valid.reshape(1, 12, 4)))
    torch.testing.assert_close(dice_sum(logits, target, valid, reduction="batch"), 3 * joined.sum())


def test_a_sample_without_valid_pixels_adds_nothing() -> None:
    valid = torch.tensor([True, False]).view(2, 1, 1).expand(2, 2, 2)
    logits = torch.cat([logits_of([1, 1, 0, 0]), logits_of([1, 1, 1, 1])]).requires_grad_()
    loss = dice_loss(logits, torch.zeros(2, 1, 2, 2), valid)
    assert loss[1].item() == 0
    assert count_samples(valid, channels=1).item() == 1


def test_jaccard_by_hand() -> None:
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    loss = jaccard_loss(logits_of([1, 0, 1, 0]), target, EVERYWHERE, smooth=1.0)
    assert loss.item() == pytest.approx(1 - (1 + 1) / (3 + 1))


def test_tversky_by_hand_weighs_false_alarms_and_misses_apart() -> None:
    target = torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2)
    loss = tversky_loss(logits_of([1, 0, 0, 1]), target, EVERYWHERE, alpha=0.3, beta=0.7, smooth=1.0)
    assert loss.item() == pytest.approx(1 - (1 + 1) / (1 + 0.3 * 1 + 0.7 * 2 + 1))


def test_tversky_of_equal_weights_is_dice_or_jaccard() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 5, 4), (torch.rand(2, 3, 5, 4) > 0.5).float()
    valid = torch.rand(2, 5, 4) > 0.3
    torch.testing.assert_close(
        tversky_loss(logits, target, valid, alpha=0.5, beta=0.5, smooth=1.0),
        dice_loss(logits, target, valid, smooth=2.0),
    )
    torch.testing.assert_close(
        tversky_loss(logits, target, valid, alpha=1.0, beta=1.0), jaccard_loss(logits, target, valid)
    )


def test_lovasz_hinge_by_hand() -> None:
    """Errors 1.5 (wanted), 0.5, 0 and below; taken in falling order they cost 1/2 and then 2/3 of the overlap."""
    logits = torch.tensor([-0.5, 3.0, -0.5, -2.0]).view(1, 1, 2, 2)
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    loss = lovasz_by_sample(logits, target, EVERYWHERE)
    assert loss.item() == pytest.approx(1.5 * 1 / 2 + 0.5 * (2 / 3 - 1 / 2))


def test_lovasz_of_certain_probabilities_is_the_jaccard_loss() -> None:
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    loss = lovasz_by_sample(logits_of([1, 0, 1, 0]), target, EVERYWHERE, form="sigmoid")
    assert loss.item() == pytest.approx(1 - 1 / 3)


def test_lovasz_softmax_of_certain_classes_is_one_minus_the_mean_overlap_of_those_present() -> None:
    predicted, classes = torch.tensor([[[0, 0], [1, 1]]]), torch.tensor([[[0, 1], [1, 1]]])
    logits = torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1) * SURE
    loss = lovasz_softmax_by_sample(logits, classes, EVERYWHERE)
    assert loss.shape == (1, 1)
    assert loss.item() == pytest.approx(1 - (1 / 2 + 2 / 3) / 2)


def test_softmax_makes_channels_exclude_each_other() -> None:
    logits = torch.zeros(1, 4, 2, 2)
    target = torch.zeros(1, 4, 2, 2)
    target[:, 0] = 1
    loss = dice_loss(logits, target, EVERYWHERE, activation="softmax")  # a quarter for each class
    assert loss[0].tolist() == pytest.approx([1 - (2 * 1 + 1) / (1 + 4 + 1), *[1 - 1 / (1 + 1)] * 3])


def test_images_with_a_pixel_that_counts_are_counted() -> None:
    valid = torch.zeros(3, 2, 2, dtype=torch.bool)
    valid[1:, 0, 1] = True
    assert count_images(valid).item() == 2
