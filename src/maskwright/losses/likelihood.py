"""How well a predicted distribution of heights fits the heights that were measured.

The distribution of a pixel is a mixture of logistic ones. The loss is summed over the pixels that count, so grouping
changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from maskwright.errors import ShapeError
from maskwright.losses.terms import Term

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["likelihood_term", "mixture_likelihood_by_sample"]


def mixture_likelihood_by_sample(
    centre_m: Tensor, spread_m: Tensor, weight: Tensor, target_m: Tensor, valid: Tensor
) -> Tensor:
    """Negative log density of the measured heights, summed over the pixels that count of each sample.

    Args:
        centre_m: (B, M, H, W) float, metres. Half precision is raised to float32.
        spread_m: (B, M, H, W) float, metres, above 0. A density has no upper bound as spreads go to 0: with a least
            spread of s metres a pixel costs log(4 s) or more.
        weight: (B, M, H, W) float in 0..1, summing to 1 over M.
        target_m: (B, H, W) float, measured heights in metres; anything, also NaN, where not valid.
        valid: (B, H, W) bool; other pixels add nothing and receive a gradient of exactly 0.

    Returns:
        (B, 1), in nats; finite for any finite distance. Divide the sum by ``count_positions``.

    Raises:
        ShapeError: If the five do not fit together.
    """
    _check(centre_m, spread_m, weight, target_m, valid)
    dtype = torch.promote_types(centre_m.dtype, torch.float32)
    left_out = ~valid[:, None]
    centre, spread, share = (
        part.to(dtype).masked_fill(left_out, fill) for part, fill in ((centre_m, 0), (spread_m, 1), (weight, 1))
    )
    distance = ((target_m[:, None].to(dtype).masked_fill(left_out, 0) - centre) / spread).abs()
    # log of exp(-d) / (s * (1 + exp(-d))^2): written so that no exponential can overflow or vanish
    density = -distance - 2 * F.softplus(-distance) - spread.log()
    tiny = torch.finfo(dtype).tiny
    of_mixture = torch.logsumexp(share.clamp(min=tiny).log() + density, dim=1)
    return -of_mixture.masked_fill(~valid, 0).sum((1, 2))[:, None]


def likelihood_term() -> Term:
    """The place of the likelihood in a sum of losses of logits; its own sums must be given to the sum beside them."""
    return Term(_of_a_distribution, "positions")


def _of_a_distribution(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    raise ShapeError(
        f"The likelihood is taken of a distribution of heights, not of logits {tuple(logits.shape)}. Give its sums: "
        "given={'likelihood': mixture_likelihood_by_sample(...)}."
    )


def _check(centre_m: Tensor, spread_m: Tensor, weight: Tensor, target_m: Tensor, valid: Tensor) -> None:
    if centre_m.ndim != 4 or not centre_m.shape == spread_m.shape == weight.shape:
        raise ShapeError(
            f"centre_m is {tuple(centre_m.shape)}, spread_m {tuple(spread_m.shape)}, weight {tuple(weight.shape)}. "
            "All three must be (batch, components, height, width), alike."
        )
    expected = (centre_m.shape[0], *centre_m.shape[2:])
    if target_m.shape != expected or valid.shape != expected:
        raise ShapeError(
            f"target_m is {tuple(target_m.shape)} and valid {tuple(valid.shape)}, the mixture asks for {expected}, "
            "that is (batch, height, width)."
        )
    if valid.dtype != torch.bool:
        raise ShapeError(f"valid is {valid.dtype}, but must be torch.bool: True where a pixel counts.")
