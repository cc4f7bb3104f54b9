"""Every registered loss answers the same questions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maskwright.config.base import kind_of, sections_in
from maskwright.config.loss import CombinedLossConfig, LossConfig
from maskwright.losses import LOSSES, build_loss
from maskwright.tasks import HeightGaps
from maskwright.types import Batch, LossOutput

CONFIGS: dict[str, Any] = {
    "combined": CombinedLossConfig(),
    "combined, all options": CombinedLossConfig(pos_weight=2, label_smoothing=0.1, dice_reduction="batch"),
    "bce": CombinedLossConfig(bce=1, dice=0, focal=0),
    "dice": CombinedLossConfig(bce=0, dice=1, focal=0),
    "focal": CombinedLossConfig(bce=0, dice=0, focal=1),
    "every overlap": CombinedLossConfig(jaccard=0.5, tversky=0.5, lovasz=0.5, weights="normalize"),
    "balanced": CombinedLossConfig(bce=0, dice=0.5, focal=0, balanced_bce=0.5),
    "every shape": CombinedLossConfig(boundary=0.5, cldice=0.5, weights="normalize"),
    "nothing shared": CombinedLossConfig(bce=0, dice=0, focal=0, jaccard=0.6, tversky=0.4, overlap_reduction="batch"),
}
SHAPE = (3, 2, 16, 12)


@pytest.fixture(params=list(CONFIGS))
def loss(request: pytest.FixtureRequest) -> Any:
    return build_loss(CONFIGS[request.param])


def tensors(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    valid = torch.rand(SHAPE[0], *SHAPE[2:]) > 0.3
    return torch.randn(SHAPE).to(dtype) * 2, (torch.rand(SHAPE) < 0.4).float(), valid


def run(loss: Any, logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> tuple[LossOutput, torch.Tensor]:
    logits = logits.detach().requires_grad_()
    output = loss(logits, target, valid)
    output.total.backward()
    assert logits.grad is not None
    assert logits.grad.shape == logits.shape
    assert logits.grad.dtype == logits.dtype
    return output, logits.grad


def test_tables_and_kinds_agree() -> None:
    assert set(LOSSES) == {kind_of(section) for section in sections_in(LossConfig)}


def test_pixels_that_do_not_count_receive_no_gradient_and_change_nothing(loss: Any) -> None:
    logits, target, valid = tensors()
    before, gradient = run(loss, logits, target, valid)
    everywhere = valid[:, None].expand(SHAPE)
    changed = torch.where(everywhere, logits, torch.where(logits > 0, 1e4, -1e4))
    after, gradient_after = run(loss, changed, torch.where(everywhere, target, 1 - target), valid)
    assert torch.equal(before.total, after.total)
    assert torch.equal(gradient, gradient_after)
    assert torch.count_nonzero(gradient[~everywhere]) == 0
    assert torch.count_nonzero(gradient[everywhere]) == everywhere.sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("target_value", [0.0, 1.0])
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
def test_extreme_logits_and_uniform_masks_stay_finite(
    loss: Any, dtype: torch.dtype, target_value: float, logit: float
) -> None:
    logits = torch.full(SHAPE, logit, dtype=dtype)
    output, gradient = run(loss, logits, torch.full(SHAPE, target_value), torch.ones(3, 16, 12, dtype=torch.bool))
    assert torch.isfinite(output.total)
    assert all(torch.isfinite(term) for term in output.terms.values())
    assert torch.isfinite(gradient).all()
    assert output.total >= 0


@pytest.mark.parametrize("logit", [0.3, 1e4, -1e4])
def test_a_batch_of_ignored_pixels_costs_nothing_and_teaches_nothing(loss: Any, logit: float) -> None:
    _, target, valid = tensors()
    output, gradient = run(loss, torch.full(SHAPE, logit), target, torch.zeros_like(valid))
    assert output.total.item() == 0
    assert all(term.item() == 0 for term in output.terms.values())
    assert torch.count_nonzero(gradient) == 0


def test_right_and_sure_costs_less_than_undecided_than_wrong_and_sure(loss: Any) -> None:
    _, target, valid = tensors()
    costs = [run(loss, (target * 2 - 1) * sure, target, valid)[0].total.item() for sure in (5.0, 0.0, -5.0)]
    assert costs == sorted(costs)


def test_order_of_samples_does_not_matter(loss: Any) -> None:
    logits, target, valid = tensors()
    order = torch.tensor([2, 0, 1])
    total = run(loss, logits, target, valid)[0].total
    torch.testing.assert_close(run(loss, logits[order], target[order], valid[order])[0].total, total)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_same_loss_as_the_rounded_logits_in_float32(loss: Any, dtype: torch.dtype) -> None:
    logits, target, valid = tensors(dtype)
    half, half_gradient = run(loss, logits, target, valid)
    full, full_gradient = run(loss, logits.float(), target, valid)
    assert half.total.dtype == torch.float32
    torch.testing.assert_close(half.total, full.total)
    torch.testing.assert_close(half_gradient, full_gradient.to(dtype))


def test_mixed_precision_regions_change_nothing(loss: Any) -> None:
    logits, target, valid = tensors()
    outside, _ = run(loss, logits, target, valid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = run(loss, logits, target, valid)
    assert torch.equal(inside.total, outside.total)


def test_every_term_of_the_settings_trains_height_gaps(loss: Any) -> None:
    logits, _, valid = tensors()
    task = HeightGaps((5.0, 10.0), loss)
    batch = Batch(
        image=torch.zeros(SHAPE[0], 1, *SHAPE[2:]),
        target=torch.rand(SHAPE[0], *SHAPE[2:]) * 15,
        valid=valid,
        condition=torch.tensor([[5.0, 10.0]]).expand(SHAPE[0], -1),
        where=(),
    )
    output = task.loss(logits.requires_grad_(), batch, task.loss_weights([batch]))
    output.total.backward()
    assert set(task.loss_terms) == set(output.terms) == set(loss.terms)
    assert torch.count_nonzero(logits.grad) > 0  # type: ignore[arg-type]
