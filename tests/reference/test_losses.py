"""Losses against MONAI, segmentation_models_pytorch and plain slow code."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from maskwright.losses import (
    CombinedLoss,
    ComboLoss,
    DiceLoss,
    FocalLoss,
    IoULoss,
    LoopLoss,
    build_term,
    mixture_likelihood_by_sample,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai.losses import DiceLoss as MonaiDice
    from monai.losses import FocalLoss as MonaiFocal
    from monai.losses import SoftclDiceLoss as MonaiClDice
    from monai.losses import TverskyLoss as MonaiTversky
    from segmentation_models_pytorch.losses import DiceLoss as SmpDice
    from segmentation_models_pytorch.losses import JaccardLoss as SmpJaccard
    from segmentation_models_pytorch.losses import LovaszLoss as SmpLovasz
    from segmentation_models_pytorch.losses import TverskyLoss as SmpTversky


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


def single(name: str, **options: object) -> LoopLoss:
    return LoopLoss(CombinedLoss({name: 1.0}, functions={name: build_term(name, **options)}))


def class_images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(3, 4, 20, 16, generator=generator) * 3, torch.randint(0, 4, (3, 20, 16), generator=generator)


@pytest.mark.parametrize(("reduction", "batch"), [("sample", False), ("batch", True)])
def test_jaccard_equals_monai(reduction: str, batch: bool) -> None:
    logits, target = images((4, 3, 32, 32))
    theirs = MonaiDice(sigmoid=True, jaccard=True, smooth_nr=1.4, smooth_dr=1.4, batch=batch)  # of the doubled ratio
    ours = IoULoss(smooth=0.7, reduction=reduction)  # type: ignore[arg-type]
    torch.testing.assert_close(ours(logits, target), theirs(logits, target), rtol=1e-6, atol=1e-6)


def test_jaccard_over_the_batch_equals_segmentation_models_pytorch() -> None:
    logits, target = images()
    theirs = SmpJaccard(mode="binary", smooth=0.5)
    torch.testing.assert_close(
        IoULoss(smooth=0.5, reduction="batch")(logits, target), theirs(logits, target), rtol=1e-6, atol=1e-6
    )


def test_tversky_equals_monai_and_segmentation_models_pytorch() -> None:
    logits, target = images()
    theirs = MonaiTversky(sigmoid=True, alpha=0.3, beta=0.7, smooth_nr=1, smooth_dr=1)
    ours = single("tversky", alpha=0.3, beta=0.7, smooth=1.0)
    torch.testing.assert_close(ours(logits, target), theirs(logits, target), rtol=1e-6, atol=1e-6)
    theirs = SmpTversky(mode="binary", alpha=0.3, beta=0.7, smooth=1.0)
    ours = single("tversky", alpha=0.3, beta=0.7, smooth=1.0, reduction="batch")
    torch.testing.assert_close(ours(logits, target), theirs(logits, target), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("reduction", "per_image"), [("sample", True), ("batch", False)])
def test_lovasz_and_its_gradient_equal_segmentation_models_pytorch(reduction: str, per_image: bool) -> None:
    logits, target = images((3, 1, 20, 16))
    target[0, :, :5] = 255
    logits.requires_grad_()
    theirs = SmpLovasz(mode="binary", per_image=per_image, ignore_index=255)(logits, target)
    ours = single("lovasz", reduction=reduction)(logits, target)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_lovasz_of_classes_equals_segmentation_models_pytorch() -> None:
    logits, classes = class_images()
    classes[0, :9] = 1  # a class is absent from the first picture
    classes[0][classes[0] == 3] = 255
    theirs = SmpLovasz(mode="multiclass", per_image=True, ignore_index=255, from_logits=True)(logits, classes)
    torch.testing.assert_close(single("lovasz_softmax")(logits, classes), theirs, rtol=1e-5, atol=1e-6)


def test_cross_entropy_of_classes_equals_torch() -> None:
    logits, classes = class_images()
    classes[1, 3:6] = 255
    theirs = torch.nn.CrossEntropyLoss(ignore_index=255)(logits, classes)
    torch.testing.assert_close(single("cross_entropy")(logits, classes), theirs)
    smoothed = torch.nn.CrossEntropyLoss(ignore_index=255, label_smoothing=0.1)(logits, classes)
    torch.testing.assert_close(single("cross_entropy", label_smoothing=0.1)(logits, classes), smoothed)
    weights = [0.5, 2.0, 1.0, 0.0]
    summed = torch.nn.CrossEntropyLoss(torch.tensor(weights), ignore_index=255, reduction="sum")(logits, classes)
    ours = single("cross_entropy", class_weights=weights)(logits, classes)
    torch.testing.assert_close(ours, summed / torch.count_nonzero(classes != 255))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_of_classes_equals_monai(gamma: float) -> None:
    logits, classes = class_images()
    theirs = MonaiFocal(gamma=gamma, use_softmax=True, to_onehot_y=True)(logits, classes[:, None])
    ours = single("class_focal", gamma=gamma)(logits, classes)
    torch.testing.assert_close(ours, 4 * theirs, rtol=1e-5, atol=1e-6)  # theirs is a mean over channels too


def test_dice_of_classes_equals_monai() -> None:
    logits, classes = class_images()
    theirs = MonaiDice(softmax=True, to_onehot_y=True, smooth_nr=1, smooth_dr=1)(logits, classes[:, None])
    torch.testing.assert_close(single("class_dice")(logits, classes), theirs, rtol=1e-6, atol=1e-6)


def test_soft_cldice_and_its_gradient_equal_monai() -> None:
    logits, target = images((1, 1, 24, 20))
    logits.requires_grad_()
    theirs = MonaiClDice(iter_=3, smooth=1e-12, sigmoid=True)(logits, target)
    ours = single("cldice", iterations=3, smooth=1.0)(logits, target)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_boundary_equals_plain_slow_code() -> None:
    logits, target = images((1, 1, 11, 9))
    valid = torch.rand(1, 11, 9) > 0.2
    probs = torch.sigmoid(logits)[0, 0].tolist()
    shown, wanted = valid[0].tolist(), target[0, 0].tolist()
    pixels = [(row, col) for row in range(11) for col in range(9)]

    def around(row: int, col: int, reach: int) -> list[tuple[int, int]]:
        near = [(row + down, col + right) for down in range(-reach, reach + 1) for right in range(-reach, reach + 1)]
        return [(r, c) for r, c in near if 0 <= r < 11 and 0 <= c < 9 and shown[r][c]]

    def edges(area: list[list[float]]) -> dict[tuple[int, int], float]:
        return {
            (row, col): max(1 - area[r][c] for r, c in around(row, col, 1)) - (1 - area[row][col])
            for row, col in pixels
            if shown[row][col]
        }

    painted_edge, wanted_edge = edges(probs), edges(wanted)

    def met(edge: dict[tuple[int, int], float], other: dict[tuple[int, int], float]) -> float:
        part = sum(value * max(other[place] for place in around(*at, 2)) for at, value in edge.items())
        return (part + 1) / (sum(edge.values()) + 1)

    precision, recall = met(painted_edge, wanted_edge), met(wanted_edge, painted_edge)
    expected = 1 - 2 * precision * recall / (precision + recall)
    assert single("boundary")(logits, target, valid).item() == pytest.approx(expected, abs=1e-5)


def test_errors_of_numbers_equal_torch() -> None:
    prediction, target = images((2, 3, 8, 8))
    target = target * 4
    for ours, theirs in (
        (single("absolute"), torch.nn.functional.l1_loss),
        (single("squared"), torch.nn.functional.mse_loss),
        (single("huber"), torch.nn.functional.smooth_l1_loss),
    ):
        torch.testing.assert_close(ours(prediction, target), theirs(prediction, target))


def test_the_likelihood_of_heights_equals_scipy() -> None:
    generator = np.random.default_rng(0)
    centre, spread = generator.uniform(0, 30, (2, 3, 8, 7)), generator.uniform(0.25, 6, (2, 3, 8, 7))
    weight = generator.dirichlet((1, 1, 1), (2, 8, 7)).transpose(0, 3, 1, 2)
    heights, valid = generator.uniform(0, 40, (2, 8, 7)), generator.random((2, 8, 7)) < 0.7
    density = (weight * stats.logistic.pdf(heights[:, None], centre, spread)).sum(axis=1)
    expected = -np.where(valid, np.log(density), 0).sum(axis=(1, 2))
    parts = (torch.from_numpy(each.copy()) for each in (centre, spread, weight, heights, valid))
    torch.testing.assert_close(mixture_likelihood_by_sample(*parts)[:, 0], torch.from_numpy(expected))
