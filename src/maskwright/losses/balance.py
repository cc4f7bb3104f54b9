"""Weights measured from data: of classes, of heights, and of terms that learn their own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from maskwright.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HeightWeights", "UncertaintyWeights", "class_weights", "height_weights", "pos_weight"]

Rule = Literal["rare_gaps", "imbalance"]


def pos_weight(positives: int, negatives: int, *, cap: float = 10.0) -> float:
    """Weight of pixels with target 1 that makes both classes count alike: negatives / positives, within 1 / cap..cap.

    Without any pixel: 1.

    Raises:
        ConfigError: If a count is negative or ``cap`` is below 1.
    """
    _check_cap(cap)
    if positives < 0 or negatives < 0:
        raise ConfigError(f"pos_weight: counts {positives} and {negatives} must be 0 or more.")
    if positives == negatives:
        return 1.0
    ratio = negatives / positives if positives else math.inf
    return min(max(ratio, 1 / cap), cap)


def class_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Weights in inverse proportion to the pixels of each class, adding up to the number of classes.

    Args:
        counts: Pixels of each class. A class without a pixel gets 0: nothing can be learned about it.

    Raises:
        ConfigError: If a count is negative or all are 0.
    """
    if not counts or min(counts) < 0 or max(counts) == 0:
        raise ConfigError(f"class_weights: counts {list(counts)} must be 0 or more, and one of them above 0.")
    inverse = [1 / count if count else 0.0 for count in counts]
    return tuple(len(counts) * each / sum(inverse) for each in inverse)


def height_weights(
    gap_shares: Mapping[float, float], *, cap: float = 10.0, rule: Rule = "rare_gaps"
) -> dict[float, float]:
    """A weight for each height, averaging to 1 and at most ``cap``.

    Args:
        gap_shares: Height in metres to the share of gap pixels at it, 0..1.
        cap: 1 or more: how many times the weight of one height may be that of another.
        rule: ``rare_gaps``: in inverse proportion to the share of gaps. ``imbalance``: in proportion to larger class
            over smaller class, which also raises heights at which nearly everything is a gap.

    Returns:
        Equal shares give 1 for all.

    Raises:
        ConfigError: If there is no height, a share is not in 0..1, or ``cap`` is below 1.
    """
    _check_cap(cap)
    wrong = {height: share for height, share in gap_shares.items() if not 0 <= share <= 1}
    if wrong or not gap_shares:
        raise ConfigError(f"height_weights: shares of gap pixels must be in 0..1, one for each height, not {wrong}.")
    rarity = {
        height: share if rule == "rare_gaps" else _smaller_over_larger(share) for height, share in gap_shares.items()
    }
    most = max(rarity.values())
    weights = {height: cap if rare * cap <= most else most / rare for height, rare in rarity.items()}
    if most == 0:
        weights = dict.fromkeys(weights, 1.0)
    mean = sum(weights.values()) / len(weights)
    return {height: weight / mean for height, weight in weights.items()}


class HeightWeights:
    """Weights by height, looked up for each sample: what ``sample_weights`` of a combined loss takes.

    Args:
        weights: Height in metres to weight, 0 or more.

    Raises:
        ConfigError: If there is no height, or a weight is negative or no number.
    """

    def __init__(self, weights: Mapping[float, float]) -> None:
        if not weights or not all(math.isfinite(weight) and weight >= 0 for weight in weights.values()):
            raise ConfigError(f"Weights by height must be 0 or more, one or several, not {dict(weights)}.")
        ordered = sorted((float(height), float(weight)) for height, weight in weights.items())
        self.heights_m = tuple(height for height, _ in ordered)
        self.weights = tuple(weight for _, weight in ordered)

    def of(self, condition: Tensor) -> Tensor:
        """The weight of the nearest listed height, the lower of two as near.

        Args:
            condition: (B, K) float, heights in metres.

        Returns:
            (B, K) float32 on the device of ``condition``.
        """
        # A plain copy of either would make every step wait for the device.
        heights, weights = (
            torch.tensor(numbers, dtype=torch.float32).to(condition.device, non_blocking=True)
            for numbers in (self.heights_m, self.weights)
        )
        nearest = (condition.float()[..., None] - heights).abs().argmin(dim=-1)
        return weights[nearest]


class UncertaintyWeights(nn.Module):
    """Factors that are learned together with the network and cannot run away.

    The total is the sum over terms of ``exp(-s) * value + s``, with one s for each term: making a factor small costs
    ``s``, so the smallest loss cannot win by starving the others, and ``s`` stays within ``-limit..limit``, so that
    neither a term that reaches 0 nor one that explodes takes everything. Give its parameters to the optimizer, without
    weight decay.

    Args:
        names: Names of the terms.
        limit: Larger than 0: factors stay within ``exp(-limit)..exp(limit)``.

    Raises:
        ConfigError: If there are no names, or ``limit`` is not above 0.

    Source: arXiv:1705.07115, with a bound.
    """

    def __init__(self, names: Iterable[str], limit: float = 3.0) -> None:
        super().__init__()
        self.names = tuple(names)
        if not self.names or not (math.isfinite(limit) and limit > 0):
            raise ConfigError(f"Uncertainty weights need terms and a limit above 0, not {self.names} and {limit}.")
        self.limit = limit
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)))

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """The total, with gradient for the network and the factors; it may be below 0.

        Args:
            values: Scalar of each term, with gradient, for example from ``CombinedLoss.values``.

        Raises:
            ConfigError: If the names are not those of the constructor.
        """
        if set(values) != set(self.names):
            raise ConfigError(f"Uncertainty weights are for {', '.join(self.names)}, not for {', '.join(values)}.")
        bounded = self._bounded()
        return (torch.exp(-bounded) * torch.stack([values[name] for name in self.names]) + bounded).sum()

    def weights(self) -> dict[str, float]:
        """The factors now, by name."""
        factors: list[float] = torch.exp(-self._bounded()).tolist()
        return dict(zip(self.names, factors, strict=True))

    def _bounded(self) -> Tensor:
        return self.limit * torch.tanh(self.log_variance / self.limit)


def _smaller_over_larger(share: float) -> float:
    return min(share, 1 - share) / max(share, 1 - share)


def _check_cap(cap: float) -> None:
    if not (math.isfinite(cap) and cap >= 1):
        raise ConfigError(f"cap is {cap:g}, but must be 1 or more.")
