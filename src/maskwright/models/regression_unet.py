"""U-Net whose output is a number for every pixel, such as the canopy height."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import torch

from maskwright.models.trunk import Trunk, TrunkOptions, check_sizes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RegressionUNet"]

_FIRST_VALUE = 1 / 3  # of the scale: 10 m where heights are multiplied by 30 m, in the middle of most forests
_FIRST_SPREAD = 0.01  # of the usual weights, so that training does not begin with wild heights


class RegressionUNet(Trunk):
    """Encoder and decoder with skips and a plain linear output; a condition is accepted and ignored.

    Args:
        in_channels: Channels of the image.
        num_classes: Numbers predicted for each pixel.
        options: Those of ``TrunkOptions``.

    Raises:
        ModelError: If an option is unknown or out of range.
    """

    def __init__(self, in_channels: int, num_classes: int = 1, **options: Unpack[TrunkOptions]) -> None:
        super().__init__(in_channels, **options)
        check_sizes(num_classes=num_classes)
        self.head = self.pixel_head(num_classes)
        self._initialise()
        weight, bias = self.head.parameters()
        with torch.no_grad():
            weight.mul_(_FIRST_SPREAD)
            bias.fill_(_FIRST_VALUE)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Values (B, num_classes, H, W) of an image (B, C, H, W), without bounds; ``condition`` is ignored.

        Raises:
            ShapeError: If the image has another number of channels or dimensions.
        """
        values: Tensor = self.head(self.decoder(self.encode(image)))
        return values[:, :, : image.shape[2], : image.shape[3]]
