"""U-Net without condition. arXiv:1505.04597."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from maskwright.models.trunk import Trunk, TrunkOptions, check_sizes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["UNet"]


class UNet(Trunk):
    """U-Net for images of any size; a condition is accepted and ignored.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        options: Those of ``TrunkOptions``.

    Raises:
        ModelError: If an option is unknown or out of range.
    """

    def __init__(self, in_channels: int, num_classes: int, **options: Unpack[TrunkOptions]) -> None:
        super().__init__(in_channels, **options)
        check_sizes(num_classes=num_classes)
        self.head = self.pixel_head(num_classes)
        self._initialise()

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, num_classes, H, W) of an image (B, C, H, W); ``condition`` is ignored.

        Raises:
            ShapeError: If the image has another number of channels or dimensions.
        """
        logits: Tensor = self.head(self.decoder(self.encode(image)))
        return logits[:, :, : image.shape[2], : image.shape[3]]
