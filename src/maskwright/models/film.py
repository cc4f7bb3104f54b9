"""FiLM: features modulated by numbers such as a height in metres. arXiv:1709.07871."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from maskwright.errors import ModelError, ShapeError
from maskwright.models.blocks import build_activation, build_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["BottleneckCondition", "FilmGenerator", "Modulation", "as_conditions", "check_scale"]


class Modulation:
    """``(1 + gamma) * x + beta`` for K conditions of each sample.

    Args:
        gamma: (B, K, C); 0 changes nothing.
        beta: (B, K, C); 0 changes nothing.
    """

    def __init__(self, gamma: Tensor, beta: Tensor) -> None:
        self.factor = (1 + gamma)[..., None, None]
        self.offset = beta[..., None, None]

    def apply_to(self, features: Tensor) -> Tensor:
        """(B, C, H, W), or (B * K, C, H, W) if the conditions are told apart already, to (B * K, C, H, W)."""
        features = features.view(self.factor.shape[0], -1, *features.shape[1:])
        return torch.addcmul(self.offset, features, self.factor).flatten(0, 1)


class FilmGenerator(nn.Module):
    """From conditions to the modulation of each level, by one small network; no modulation at initialisation.

    Args:
        channels: Channels of each level to be modulated.
        hidden: Width of the network.
        scale: Conditions are divided by this, so that usual ones lie in 0..1.
    """

    def __init__(self, channels: Sequence[int], hidden: int, scale: float) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.scale = float(scale)
        self.hidden = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.out = nn.Linear(hidden, 2 * sum(self.channels))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, conditions: Tensor) -> list[Modulation]:
        """(B, K) conditions in their own unit to one modulation for each level."""
        scaled = conditions.to(self.out.weight.dtype)[..., None] / self.scale
        film = self.out(self.hidden(scaled))  # (B, K, 2 * channels of all levels)
        gammas, betas = film.chunk(2, dim=-1)
        pairs = zip(gammas.split(self.channels, dim=-1), betas.split(self.channels, dim=-1), strict=True)
        return [Modulation(gamma, beta) for gamma, beta in pairs]


class BottleneckCondition(nn.Module):
    """A number set beside the deepest features as further channels, and a 1x1 convolution of both.

    Written as the sum of what comes of each, which is the same and copies nothing.

    Args:
        channels: Channels of the features.
        hidden: Channels that stand for the number, out of a network of a quarter, a half and all of this width.
        scale: Conditions are divided by this, so that usual ones lie in 0..1.
        norm: ``batch``, ``group`` or ``instance``.
        activation: A key of ``ACTIVATIONS``.
    """

    def __init__(self, channels: int, hidden: int, scale: float, norm: str, activation: str) -> None:
        super().__init__()
        self.scale = float(scale)
        narrow, middle = max(hidden // 4, 1), max(hidden // 2, 1)
        self.embed = nn.Sequential(
            nn.Linear(1, narrow), nn.ReLU(), nn.Linear(narrow, middle), nn.ReLU(), nn.Linear(middle, hidden)
        )
        self.from_condition = nn.Linear(hidden, channels, bias=False)
        self.from_features = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.norm = build_norm(norm, channels)
        self.activation = build_activation(activation)

    def forward(self, features: Tensor, conditions: Tensor) -> Tensor:
        """Features (B, C, H, W) and conditions (B, K) to (B * K, C, H, W)."""
        scaled = conditions.to(self.from_condition.weight.dtype)[..., None] / self.scale
        shift = self.from_condition(self.embed(scaled))[..., None, None]  # (B, K, C, 1, 1)
        joined = (self.from_features(features)[:, None] + shift).flatten(0, 1)
        return self.activation(self.norm(joined))  # type: ignore[no-any-return]


def check_scale(condition_scale: float) -> None:
    """Raise ModelError unless heights can be divided by it."""
    if condition_scale <= 0:
        raise ModelError(f"condition_scale: {condition_scale:g} must be larger than 0; heights are divided by it.")


def as_conditions(condition: Tensor | None, batch: int) -> Tensor:
    """Conditions given as (B,), (B, 1) or (B, K), as (B, K).

    Raises:
        ModelError: If there are none.
        ShapeError: If there is not one row for each image.
    """
    if condition is None:
        raise ModelError("This network needs heights in metres as condition, (batch,) or (batch, K); none was given.")
    conditions = condition[:, None] if condition.ndim == 1 else condition
    if conditions.ndim != 2 or conditions.shape[0] != batch or conditions.shape[1] == 0:
        raise ShapeError(
            f"condition is {tuple(condition.shape)} for {batch} images. Give one number for each image, ({batch},), "
            f"or the same count of numbers for each, ({batch}, K)."
        )
    return conditions
