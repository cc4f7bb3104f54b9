"""Blocks that weigh features: squeeze and excitation, CBAM, and the gate on the skips of an attention U-Net."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from maskwright.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ATTENTION", "Cbam", "SqueezeExcite", "build_attention"]

_REDUCTION = 16
_LEAST_INNER = 4


class SqueezeExcite(nn.Module):
    """Each channel is weighed by what all channels are on average. arXiv:1709.01507."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = _bottleneck(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return features * torch.sigmoid(self.weigh(features.mean(dim=(2, 3), keepdim=True)))


class Cbam(nn.Module):
    """Each channel is weighed by its mean and its largest value, then each pixel likewise. arXiv:1807.06521."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh_channels = _bottleneck(channels)
        self.weigh_pixels = nn.Conv2d(2, 1, kernel_size=7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        mean, largest = features.mean(dim=(2, 3), keepdim=True), features.amax(dim=(2, 3), keepdim=True)
        features = features * torch.sigmoid(self.weigh_channels(mean) + self.weigh_channels(largest))
        both = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
        return features * torch.sigmoid(self.weigh_pixels(both))


ATTENTION: dict[str, type[SqueezeExcite] | type[Cbam]] = {"cbam": Cbam, "se": SqueezeExcite}


def build_attention(name: str, channels: int) -> nn.Module:
    """The block of a name; one that changes nothing for ``none`` and for ``gate``, which sits on the skips."""
    if name in ("none", "gate"):
        return nn.Identity()
    if name not in ATTENTION:
        raise ModelError(f"model.attention: {name!r} is unknown. Available: none, cbam, gate, se.")
    return ATTENTION[name](channels)


def _bottleneck(channels: int) -> nn.Sequential:
    inner = max(channels // _REDUCTION, _LEAST_INNER)
    return nn.Sequential(nn.Conv2d(channels, inner, 1), nn.ReLU(inplace=True), nn.Conv2d(inner, channels, 1))
