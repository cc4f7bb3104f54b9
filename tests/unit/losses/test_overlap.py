from __future__ import annotations

import pytest
import torch

from maskwright.losses.overlap import DiceLoss, count_samples, dice_loss, dice_sum

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


@pytest.mark.parametrize("reduction", ["sample", "batch"])
def test_module_is_the_mean_over_samples_that_count(reduction: str) -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 1, 4, 4), torch.randint(0, 2, (3, 4, 4))
    mask[1] = 255
    kept = torch.tensor([0, 2])
    loss = DiceLoss(reduction=reduction)  # type: ignore[arg-type]
    torch.testing.assert_close(loss(logits, mask), loss(logits[kept], mask[kept]))
