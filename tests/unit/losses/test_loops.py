"""Losses for loops of people's own, and what they are told there."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from maskwright.errors import ConfigError, DataError, ModelError, ShapeError
from maskwright.losses import (
    CombinedFocalDiceLoss,
    CombinedLoss,
    ComboLoss,
    DiceLoss,
    FocalLoss,
    IoULoss,
    LoopLoss,
    focal_sum,
    jaccard_loss,
)
from maskwright.losses.pixel import split_ignored


@pytest.mark.parametrize("reduction", ["sample", "batch"])
def test_module_is_the_mean_over_samples_that_count(reduction: str) -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 1, 4, 4), torch.randint(0, 2, (3, 4, 4))
    mask[1] = 255
    kept = torch.tensor([0, 2])
    loss = DiceLoss(reduction=reduction)  # type: ignore[arg-type]
    torch.testing.assert_close(loss(logits, mask), loss(logits[kept], mask[kept]))


def test_iou_loss_is_the_mean_over_samples_that_count() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 1, 4, 4), torch.randint(0, 2, (3, 4, 4))
    mask[1] = 255
    kept = torch.tensor([0, 2])
    expected = jaccard_loss(logits[kept], mask[kept][:, None].float(), torch.ones(2, 4, 4).bool()).mean()
    torch.testing.assert_close(IoULoss()(logits, mask), expected)


def test_focal_module_is_the_mean_over_pixels_that_count() -> None:
    mask = torch.tensor([[[0, 1], [255, 1]]], dtype=torch.uint8)  # (B, H, W)
    logits = torch.tensor([[[[1.0, -1.0], [50.0, 2.0]]]])
    target, valid = split_ignored(mask)
    torch.testing.assert_close(FocalLoss()(logits, mask), focal_sum(logits, target, valid) / 3)


def test_focal_module_of_nothing_that_counts_is_zero() -> None:
    assert FocalLoss()(torch.randn(1, 1, 2, 2), torch.full((1, 1, 2, 2), 255)).item() == 0


def total(
    loss: nn.Module, logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor | None = None
) -> torch.Tensor:
    result = loss(logits, target, valid=valid)
    return result[0] if isinstance(result, tuple) else result


LOSSES: dict[str, Callable[[], nn.Module]] = {
    "dice": DiceLoss,
    "iou": IoULoss,
    "focal": FocalLoss,
    "combo": ComboLoss,
    "focal and dice": CombinedFocalDiceLoss,
    "any terms": lambda: LoopLoss(CombinedLoss({"bce": 0.5, "lovasz": 0.5})),
}


@pytest.fixture(params=list(LOSSES))
def loss(request: pytest.FixtureRequest) -> nn.Module:
    return LOSSES[request.param]()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 1, 6, 5) * 3, (torch.rand(2, 1, 6, 5) < 0.4).float()


def test_nan_is_refused_with_the_number_of_pixels_and_nodata_may_hold_it(loss: nn.Module) -> None:
    logits, target = batch()
    logits[0, 0, :2, 0] = math.nan
    with pytest.raises(ModelError, match=r"Logits of shape \(2, 1, 6, 5\) are NaN on 2 of 60 pixels that count"):
        total(loss, logits, target)
    valid = torch.ones(2, 6, 5, dtype=torch.bool)
    valid[0, :2, 0] = False
    assert torch.isfinite(total(loss, logits, target, valid))


def test_probabilities_given_for_logits_are_reported_once(loss: nn.Module) -> None:
    logits, target = batch()
    with pytest.warns(UserWarning, match="as if a sigmoid or softmax had been applied already"):
        total(loss, torch.sigmoid(logits), target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total(loss, torch.sigmoid(logits), target)


def test_logits_are_not_suspected(loss: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total(loss, *batch())


def test_a_mask_of_other_values_is_refused(loss: nn.Module) -> None:
    logits, target = batch()
    target[1, 0, 2, 2] = 128
    with pytest.raises(DataError, match=r"A mask holds 128; only 0, 1 and 255 \(does not count\)"):
        total(loss, logits, target)


def test_masks_of_0_and_255_are_suspected_after_a_while(loss: nn.Module) -> None:
    logits, target = batch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(7):
            total(loss, logits, target * 255)
    with pytest.warns(UserWarning, match="The first 8 batches hold 255 and no 1"):
        total(loss, logits, target * 255)


def test_shapes_that_differ_are_refused_and_never_broadcast(loss: nn.Module) -> None:
    logits, target = batch()
    with pytest.raises(ShapeError, match=r"target is \(1, 1, 6, 5\), logits are \(2, 1, 6, 5\)"):
        total(loss, logits, target[:1])


def test_values_that_are_no_probabilities_are_refused_where_these_are_asked_for() -> None:
    logits, target = batch()
    with pytest.raises(ModelError, match=r"are no probabilities. Leave out from_logits=False"):
        CombinedFocalDiceLoss(from_logits=False)(logits, target)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DiceLoss(smooth=0), "dice.smooth: 0 must be above 0"),
        (lambda: IoULoss(smooth=-1), "jaccard.smooth: -1 must be above 0"),
        (lambda: FocalLoss(alpha=2), "focal.alpha: 2 must be at least 0 and at most 1"),
        (lambda: FocalLoss(gamma=-1), "focal.gamma: -1 must be at least 0"),
        (lambda: DiceLoss(reduction="mean"), "'mean' is none of sample, batch"),  # type: ignore[arg-type]
        (lambda: ComboLoss(-0.5, 1.0, 0.5), "must be 0 or more"),
    ],
)
def test_senseless_options_are_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
