from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from maskwright.losses import fused
from maskwright.losses.composite import TERMS, CombinedLoss
from maskwright.types import LossOutput

FACTORS = {"bce": 0.5, "dice": 0.3, "focal": 0.2}


def case(dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (3, 2, 9, 7)) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    logits = torch.randn(shape, dtype=torch.float64).to(dtype) * 3
    target = (torch.rand(shape) < 0.3).to(dtype)
    valid = torch.rand(shape[0], *shape[2:]) > 0.2
    valid[1] = False  # a sample that does not count at all
    return logits, target, valid


def by_formulas(loss: CombinedLoss, logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> LossOutput:
    weights = loss.measure(valid, logits.shape[1])
    return loss._plain(logits, target, valid, {name: weights[TERMS[name]] for name in loss.terms})


def with_gradient(output: LossOutput, logits: torch.Tensor) -> tuple[LossOutput, torch.Tensor]:
    (gradient,) = torch.autograd.grad(output.total, logits)
    return output, gradient


NAMES = ("pos_weight", "label_smoothing", "dice_reduction", "focal_gamma")
OPTIONS = [
    dict(zip(NAMES, values, strict=True))
    for values in itertools.product((1.0, 3.0), (0.0, 0.1), ("sample", "batch"), (0.0, 0.5, 2.0))
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("terms", [FACTORS, {"bce": 1}, {"dice": 1}, {"focal": 1}], ids=str)
def test_the_sweep_equals_the_formulas_as_written(terms: dict[str, float], options: dict[str, Any]) -> None:
    logits, target, valid = case()
    logits.requires_grad_()
    loss = CombinedLoss(terms, **options)
    swept, swept_gradient = with_gradient(loss(logits, target, valid), logits)
    written, written_gradient = with_gradient(by_formulas(loss, logits, target, valid), logits)
    torch.testing.assert_close(swept.total, written.total, rtol=0, atol=1e-12)
    torch.testing.assert_close(swept.terms, written.terms, rtol=0, atol=1e-12)
    torch.testing.assert_close(swept_gradient, written_gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"pos_weight": 2.0, "label_smoothing": 0.1, "dice_reduction": "batch"}])
def test_gradient_agrees_with_finite_differences(options: dict[str, Any]) -> None:
    logits, target, valid = case(shape=(2, 2, 3, 4))
    loss = CombinedLoss(FACTORS, **options)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, valid).total, (logits.requires_grad_(),))


def test_blocks_smaller_than_a_plane_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target, valid = case()
    logits.requires_grad_()
    loss = CombinedLoss(FACTORS, pos_weight=2.0, label_smoothing=0.1)
    whole, whole_gradient = with_gradient(loss(logits, target, valid), logits)
    monkeypatch.setattr(fused, "BLOCK", 10)
    pieces, pieces_gradient = with_gradient(loss(logits, target, valid), logits)
    torch.testing.assert_close(pieces.total, whole.total, rtol=0, atol=1e-12)
    torch.testing.assert_close(pieces_gradient, whole_gradient, rtol=0, atol=1e-12)


NO_TERMS = fused.FusedTerms(
    bce=0, dice=0, focal=0, pos_weight=1, label_smoothing=0, smooth=1, by_batch=False, alpha=0.25, gamma=2
)


def test_softplus_by_series_is_as_exact_as_float32() -> None:
    wrong = torch.cat([torch.linspace(-80, 80, 20_001), torch.tensor([-1e4, 1e4])])
    q = torch.sigmoid(wrong)
    scratch, out = torch.empty_like(q), torch.empty_like(q)
    sweep = fused._Sweep(
        torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1).bool(), NO_TERMS, with_gradient=False
    )
    sweep._softplus(wrong.clone(), q, 1 - q, scratch, out)
    torch.testing.assert_close(out.double(), F.softplus(wrong.double(), threshold=40), rtol=4e-7, atol=0)


def test_the_gradient_can_be_taken_twice_and_scaled() -> None:
    logits, target, valid = case()
    total = CombinedLoss(FACTORS)(logits.requires_grad_(), target, valid).total
    (once,) = torch.autograd.grad(total, logits, retain_graph=True)
    (scaled,) = torch.autograd.grad(total * 8, logits)
    torch.testing.assert_close(scaled, once * 8)


def test_half_precision_gradient_survives_loss_scaling() -> None:
    """Unscaled, the gradient of a pixel would vanish in float16; scaling must come before the rounding."""
    logits = torch.zeros(1, 1, 256, 256, dtype=torch.float16, requires_grad=True)
    total = CombinedLoss({"bce": 1.0})(logits, torch.zeros(1, 1, 256, 256), torch.ones(1, 256, 256).bool()).total
    (total * 2.0**14).backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.float16
    torch.testing.assert_close(logits.grad, torch.full_like(logits, 0.5 * 2**14 / 256**2))


def test_logits_whose_channels_lie_last_in_memory_give_the_same() -> None:
    logits, target, valid = case()
    loss = CombinedLoss(FACTORS)
    plain = with_gradient(loss(logits.requires_grad_(), target, valid), logits)[1]
    last = logits.detach().to(memory_format=torch.channels_last).requires_grad_()
    torch.testing.assert_close(with_gradient(loss(last, target, valid), last)[1], plain, rtol=0, atol=0)


def test_without_gradient_the_value_is_the_same() -> None:
    logits, target, valid = case(torch.float32)
    loss = CombinedLoss(FACTORS)
    with torch.no_grad():
        watched = loss(logits, target, valid)
    assert not watched.total.requires_grad
    torch.testing.assert_close(
        watched.total, loss(logits.requires_grad_(), target, valid).total.detach(), rtol=0, atol=0
    )
