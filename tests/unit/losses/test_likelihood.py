from __future__ import annotations

import math

import pytest
import torch

from maskwright.errors import ShapeError
from maskwright.losses import mixture_likelihood_by_sample
from maskwright.models import HeightMixture

SHAPE = (2, 3, 4, 5)


def mixture(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(SHAPE, generator=generator, dtype=torch.float64) * 30
    spread = torch.rand(SHAPE, generator=generator, dtype=torch.float64) * 5 + 0.25
    weight = torch.randn(SHAPE, generator=generator, dtype=torch.float64).softmax(dim=1)
    return centre.to(dtype), spread.to(dtype), weight.to(dtype)


def measured(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    heights = torch.rand(SHAPE[0], *SHAPE[2:], generator=generator, dtype=torch.float64) * 35
    return heights.to(dtype), torch.rand(heights.shape, generator=generator) < 0.7


def test_one_logistic_at_its_centre_by_hand() -> None:
    one = torch.ones(1, 1, 1, 1)
    loss = mixture_likelihood_by_sample(10 * one, 2 * one, one, torch.full((1, 1, 1), 10.0), torch.ones(1, 1, 1) == 1)
    assert loss.shape == (1, 1)
    assert loss.item() == pytest.approx(math.log(4 * 2))  # the density at the centre is 1 / (4 s)
    away = mixture_likelihood_by_sample(10 * one, 2 * one, one, torch.full((1, 1, 1), 14.0), torch.ones(1, 1, 1) == 1)
    assert away.item() == pytest.approx(-math.log(math.exp(-2) / (2 * (1 + math.exp(-2)) ** 2)))


def test_a_mixture_equals_plain_slow_code_over_the_pixels_that_count() -> None:
    (centre, spread, weight), (heights, valid) = mixture(), measured()
    expected = [0.0, 0.0]
    for b, row, col in valid.nonzero().tolist():
        density = 0.0
        for m in range(SHAPE[1]):
            c, s, w = (float(part[b, m, row, col]) for part in (centre, spread, weight))
            e = math.exp(-(float(heights[b, row, col]) - c) / s)
            density += w * e / (s * (1 + e) ** 2)
        expected[b] -= math.log(density)
    assert mixture_likelihood_by_sample(centre, spread, weight, heights, valid)[:, 0].tolist() == pytest.approx(
        expected
    )


def test_the_distribution_of_the_network_says_the_same_density() -> None:
    (centre, spread, weight), (heights, valid) = mixture(), measured()
    density = HeightMixture(centre, spread, weight).log_density(heights)
    loss = mixture_likelihood_by_sample(centre, spread, weight, heights, valid)
    torch.testing.assert_close(loss[:, 0], -(density * valid).sum((1, 2)))


def test_gradients_are_those_of_finite_differences() -> None:
    heights, valid = measured()
    parts = tuple(part.requires_grad_() for part in mixture())
    assert torch.autograd.gradcheck(lambda *each: mixture_likelihood_by_sample(*each, heights, valid), parts)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_pixels_that_do_not_count_change_nothing_and_receive_a_gradient_of_exactly_0(bad: float) -> None:
    heights, valid = measured(torch.float32)
    parts = [part.requires_grad_() for part in mixture(torch.float32)]
    before = mixture_likelihood_by_sample(*parts, heights, valid)
    shown = valid[:, None].expand(SHAPE)
    spoiled = [torch.where(shown, part, bad) for part in parts]
    after = mixture_likelihood_by_sample(*spoiled, torch.where(valid, heights, bad), valid)
    assert torch.equal(before, after)
    for gradient in torch.autograd.grad(before.sum(), parts):
        assert torch.count_nonzero(gradient[~shown]) == 0
        assert torch.count_nonzero(gradient) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("height", [-1e3, 0.0, 1e3])
def test_extreme_heights_and_sure_distributions_stay_finite(dtype: torch.dtype, height: float) -> None:
    centre = torch.full(SHAPE, 3.0, dtype=dtype, requires_grad=True)
    spread = torch.full(SHAPE, 0.25, dtype=dtype, requires_grad=True)
    weight = torch.zeros(SHAPE, dtype=dtype)
    weight[:, 0] = 1
    weight.requires_grad_()
    heights = torch.full((SHAPE[0], *SHAPE[2:]), height)
    loss = mixture_likelihood_by_sample(centre, spread, weight, heights, torch.ones(heights.shape, dtype=torch.bool))
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss).all()
    assert (loss >= 0).all()  # no spread below 0.25 m: no density above 1
    for gradient in torch.autograd.grad(loss.sum(), (centre, spread, weight)):
        assert torch.isfinite(gradient.float()).all()


def test_a_batch_of_ignored_pixels_costs_nothing() -> None:
    heights, valid = measured()
    assert mixture_likelihood_by_sample(*mixture(), heights, torch.zeros_like(valid)).tolist() == [[0.0], [0.0]]


def test_shapes_that_differ_are_refused_with_both_named() -> None:
    (centre, spread, weight), (heights, valid) = mixture(), measured()
    with pytest.raises(ShapeError, match=r"centre_m is \(2, 3, 4, 5\), spread_m \(2, 1, 4, 5\)"):
        mixture_likelihood_by_sample(centre, spread[:, :1], weight, heights, valid)
    with pytest.raises(ShapeError, match=r"target_m is \(1, 4, 5\) and valid \(2, 4, 5\).*\(2, 4, 5\)"):
        mixture_likelihood_by_sample(centre, spread, weight, heights[:1], valid)
    with pytest.raises(ShapeError, match=r"must be torch\.bool"):
        mixture_likelihood_by_sample(centre, spread, weight, heights, valid.float())


@pytest.mark.parametrize("height", [-1e30, 1e30])
def test_no_finite_height_is_infinitely_unlikely(height: float) -> None:
    parts = [part.requires_grad_() for part in mixture(torch.float32)]
    heights, valid = measured(torch.float32)
    loss = mixture_likelihood_by_sample(*parts, torch.full_like(heights, height), valid)
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(loss.sum(), parts))
