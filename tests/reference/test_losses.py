"""Losses against MONAI, segmentation_models_pytorch and plain slow code."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from maskwright.losses import CombinedLoss, ComboLoss, DiceLoss, FocalLoss

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai.losses import DiceLoss as MonaiDice
    from monai.losses import FocalLoss as MonaiFocal
    from segmentation_models_pytorch.losses import DiceLoss as SmpDice


def images(shape: tuple[int, ...] = (4, 1, 64, 48)) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(shape) * 3, (torch.rand(shape) < 0.3).float()


@pytest.mark.parametrize("squared_pred", [False, True])
@pytest.mark.parametrize(("reduction", "batch"), [("sample", False), ("batch", True)])
def test_dice_equals_monai(reduction: str, batch: bool, squared_pred: bool) -> None:
    logits, target = images((4, 3, 32, 32))
    ours = DiceLoss(smooth=0.7, reduction=reduction, squared_pred=squared_pred)  # type: ignore[arg-type]
    theirs = MonaiDice(sigmoid=True, smooth_nr=0.7, smooth_dr=0.7, batch=batch, squared_pred=squared_pred)
    torch.testing.assert_close(ours(logits, target), theirs(logits, target), rtol=1e-6, atol=1e-6)


def test_dice_over_the_batch_equals_segmentation_models_pytorch() -> None:
    logits, target = images()
    theirs = SmpDice(mode="binary", smooth=0.5)  # added to the halved ratio
    torch.testing.assert_close(
        DiceLoss(reduction="batch")(logits, target), theirs(logits, target), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 1.3)])
def test_focal_equals_monai(alpha: float, gamma: float) -> None:
    logits, target = images()
    theirs = MonaiFocal(alpha=alpha, gamma=gamma)
    torch.testing.assert_close(FocalLoss(alpha, gamma)(logits, target), theirs(logits, target), rtol=1e-6, atol=1e-6)


def test_the_combination_and_its_gradient_equal_monai_and_torch() -> None:
    logits, target = images()
    logits.requires_grad_()
    dice, focal = MonaiDice(sigmoid=True, smooth_nr=1, smooth_dr=1), MonaiFocal(alpha=0.25, gamma=2.0)
    cross_entropy = torch.nn.BCEWithLogitsLoss()
    theirs = 0.5 * cross_entropy(logits, target) + 0.3 * dice(logits, target) + 0.2 * focal(logits, target)
    (their_gradient,) = torch.autograd.grad(theirs, logits)
    ours, _ = ComboLoss()(logits, target)
    (our_gradient,) = torch.autograd.grad(ours, logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-5, atol=1e-9)


def test_weighted_smoothed_cross_entropy_equals_torch() -> None:
    logits, target = images()
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.5))(logits, target * 0.8 + 0.1)
    valid = torch.ones(4, 64, 48, dtype=torch.bool)
    ours = CombinedLoss({"bce": 1.0}, pos_weight=2.5, label_smoothing=0.1)(logits, target, valid).total
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_masked_combination_equals_plain_slow_code() -> None:
    logits, target = images((2, 2, 5, 4))
    valid = torch.rand(2, 5, 4) > 0.4
    bce = focal = dice = pixels = 0.0
    for b in range(2):
        for k in range(2):
            painted = wanted = overlap = 0.0
            for row in range(5):
                for col in range(4):
                    if not valid[b, row, col]:
                        continue
                    prob = 1 / (1 + math.exp(-logits[b, k, row, col].item()))
                    y = target[b, k, row, col].item()
                    right = prob if y == 1 else 1 - prob
                    bce -= math.log(right)
                    focal -= (0.25 if y == 1 else 0.75) * (1 - right) ** 2 * math.log(right)
                    painted, wanted, overlap = painted + prob, wanted + y, overlap + prob * y
                    pixels += 1
            dice += 1 - (2 * overlap + 1) / (painted + wanted + 1)
    output = CombinedLoss({"bce": 0.5, "dice": 0.3, "focal": 0.2})(logits, target, valid)
    assert output.terms["bce"].item() == pytest.approx(bce / pixels, rel=1e-6)
    assert output.terms["dice"].item() == pytest.approx(dice / 4, rel=1e-6)
    assert output.terms["focal"].item() == pytest.approx(focal / pixels, rel=1e-6)
    assert output.total.item() == pytest.approx(0.5 * bce / pixels + 0.3 * dice / 4 + 0.2 * focal / pixels, rel=1e-6)
