from __future__ import annotations

import pytest
import torch

from maskwright.errors import ConfigError, ShapeError
from maskwright.losses.composite import CombinedLoss, ComboLoss
from maskwright.losses.overlap import dice_loss
from maskwright.losses.pixel import bce_sum, focal_sum

FACTORS = {"bce": 0.5, "dice": 0.3, "focal": 0.2}
ALL = torch.ones(2, 6, 6, dtype=torch.bool)


def batch(samples: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, 2, 6, 6, generator=generator, dtype=torch.float64)
    target = (torch.rand(samples, 2, 6, 6, generator=generator) < 0.4).double()
    valid = torch.rand(samples, 6, 6, generator=generator) > 0.3
    valid[-1] = False
    return logits, target, valid


@pytest.mark.parametrize("squared_pred", [False, True])
@pytest.mark.parametrize("cuts", [(5,), (1, 4), (2, 2, 1), (1, 1, 1, 1, 1)])
def test_batches_of_a_group_add_up_to_the_loss_of_one_big_batch(cuts: tuple[int, ...], squared_pred: bool) -> None:
    logits, target, valid = batch()
    loss = CombinedLoss(FACTORS, squared_pred=squared_pred)
    whole = loss(logits.requires_grad_(), target, valid)
    (whole_gradient,) = torch.autograd.grad(whole.total, logits)
    parts = list(zip(logits.split(cuts), target.split(cuts), valid.split(cuts), strict=True))
    measures = [loss.measure(counts, 2) for _, _, counts in parts]
    weights = {name: torch.stack([measure[name] for measure in measures]).sum() for name in measures[0]}
    outputs = [loss(*part, weights) for part in parts]
    total = torch.stack([output.total for output in outputs]).sum()
    torch.testing.assert_close(total, whole.total, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(total, logits)[0], whole_gradient, rtol=1e-12, atol=1e-15)
    for name in FACTORS:
        added = torch.stack([output.terms[name] for output in outputs]).sum()
        torch.testing.assert_close(added, whole.terms[name], rtol=1e-12, atol=0)


def test_measure_counts_pixels_and_samples_by_channel() -> None:
    valid = torch.zeros(3, 2, 2, dtype=torch.bool)
    valid[0, 0] = True
    valid[1] = True
    measure = CombinedLoss(FACTORS).measure(valid, channels=4)
    assert {name: weight.item() for name, weight in measure.items()} == {"pixels": 24, "samples": 8}
    assert all(weight.dtype == torch.float64 for weight in measure.values())


def test_terms_are_means_and_the_total_is_their_weighted_sum() -> None:
    logits, target, _ = batch(2)
    output = CombinedLoss(FACTORS)(logits, target, ALL)
    torch.testing.assert_close(output.terms["bce"], bce_sum(logits, target, ALL) / 144)
    torch.testing.assert_close(output.terms["dice"], dice_loss(logits, target, ALL).mean())
    torch.testing.assert_close(output.terms["focal"], focal_sum(logits, target, ALL) / 144)
    expected = sum(factor * output.terms[name] for name, factor in FACTORS.items())
    torch.testing.assert_close(output.total, torch.as_tensor(expected))
    assert not any(term.requires_grad for term in output.terms.values())


def test_a_term_of_factor_0_is_left_out() -> None:
    logits, target, _ = batch(2)
    assert list(CombinedLoss({"bce": 1.0, "dice": 0.0})(logits, target, ALL).terms) == ["bce"]


def test_unknown_and_senseless_terms_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown term 'dise'. Available: bce, dice, focal."):
        CombinedLoss({"dise": 1.0})
    with pytest.raises(ConfigError, match="must be 0 or more, and one of them above 0"):
        CombinedLoss({"bce": 0.0})
    with pytest.raises(ConfigError, match="must be 0 or more"):
        CombinedLoss({"bce": 1.0, "dice": -0.1})


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="alike"):
        CombinedLoss(FACTORS)(torch.zeros(2, 1, 6, 6), torch.zeros(2, 2, 6, 6), ALL)


@pytest.mark.parametrize("weights", [(0.7, 0.2, 0.1), (0.4, 0.4, 0.2), (1.0, 0.0, 0.0), (1 / 3, 1 / 3, 1 / 3)])
def test_weights_that_add_up_to_1_are_accepted(weights: tuple[float, float, float]) -> None:
    ComboLoss(*weights)


def test_weights_that_do_not_add_up_to_1_are_refused_with_their_sum() -> None:
    with pytest.raises(ConfigError, match=r"bce_weight \+ dice_weight \+ focal_weight = 1.7, but must be 1"):
        ComboLoss(0.5, 0.3, 0.9)
    with pytest.raises(ConfigError, match="must be 1"):
        ComboLoss(0.5, 0.3, 0.2 + 2e-6)


def test_combo_loss_gives_the_loss_and_its_parts() -> None:
    logits, target, valid = batch(2)
    logits.requires_grad_()
    mask = target.to(torch.uint8).masked_fill(~valid[:, None], 255)
    loss, parts = ComboLoss()(logits, mask)
    expected = CombinedLoss(FACTORS)(logits, target, valid)
    assert list(parts) == ["bce", "dice", "focal", "total"]
    torch.testing.assert_close(loss, expected.total)
    torch.testing.assert_close(parts["total"], expected.total.detach())
    assert loss.requires_grad
    assert not parts["total"].requires_grad


def test_combo_loss_of_a_perfect_prediction_is_nearly_zero() -> None:
    """Probabilities taken for logits would make this 0.37."""
    _, target, _ = batch(2)
    loss, _ = ComboLoss()((target * 2 - 1) * 20, target)
    assert loss.item() < 1e-3
