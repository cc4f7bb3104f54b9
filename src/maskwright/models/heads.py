"""Small heads over shared features: one for each thing asked, side by side in one tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from maskwright.errors import ModelError, ShapeError
from maskwright.models.blocks import build_activation, initialise
from maskwright.models.trunk import check_sizes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Heads", "head_slices", "split_heads"]

_FIRST_SPREAD = 0.1  # of the usual weights of the last layer, so that numbers begin near their first value
_FIRST = {"centre": -4.0, "diameter": 1.0}  # logits of a rare thing; a crown of one unit


def head_slices(heads: Mapping[str, int]) -> dict[str, slice]:
    """Name to the channels of the joint output: heads lie one behind another in their order."""
    slices, start = {}, 0
    for name, channels in heads.items():
        slices[name] = slice(start, start + channels)
        start += channels
    return slices


def split_heads(outputs: Tensor, heads: Mapping[str, int]) -> dict[str, Tensor]:
    """The joint output (B, K, H, W) as the outputs of the heads by name, views of it.

    Raises:
        ShapeError: If it has another number of channels.
    """
    total = sum(heads.values())
    if outputs.ndim != 4 or outputs.shape[1] != total:
        parts = ", ".join(f"{name} {channels}" for name, channels in heads.items())
        raise ShapeError(f"Outputs of shape {tuple(outputs.shape)} are not those of heads with {total}: {parts}.")
    return {name: outputs[:, channels] for name, channels in head_slices(heads).items()}


class Heads(nn.Module):
    """A head for each name: two convolutions, of 3 x 3 and of 1 x 1; no weight serves two of them.

    Args:
        in_channels: Channels of the features.
        heads: Name to the number of its channels.
        hidden: Channels between the two convolutions.
        activation: Between them.

    Raises:
        ModelError: If there is no head.
    """

    def __init__(self, in_channels: int, heads: Mapping[str, int], hidden: int = 32, activation: str = "relu") -> None:
        super().__init__()
        if not heads:
            raise ModelError("A network needs one head at least.")
        check_sizes(head_channels=hidden, **heads)
        self.parts = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Conv2d(in_channels, hidden, 3, padding=1),
                    build_activation(activation),
                    nn.Conv2d(hidden, channels, 1),
                )
                for name, channels in heads.items()
            }
        )

    def begin(self, init: str = "kaiming", activation: str = "relu") -> None:
        """Draw all weights; outputs begin small, those of centres low."""
        initialise(self, init, activation)
        with torch.no_grad():
            for name, part in self.parts.items():
                last = part[2]  # type: ignore[index]
                last.weight.mul_(_FIRST_SPREAD)
                last.bias.fill_(_FIRST.get(name, 0.0))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, H, W), the heads one behind another."""
        return torch.cat([part(features) for part in self.parts.values()], dim=1)
