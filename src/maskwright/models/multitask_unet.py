"""One encoder and decoder with a head for each thing asked: classes, centres, offsets, crown diameter, density.

All heads see the same features of the same pass, so each trains the whole network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import torch.nn.functional as F
from torch import nn

from maskwright.models.blocks import pad_to_multiple, with_positions
from maskwright.models.ecosystem import Ecosystem
from maskwright.models.heads import Heads
from maskwright.models.trunk import Trunk, TrunkOptions, check_image, check_sizes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MultitaskSmp", "MultitaskUNet"]


class MultitaskUNet(Trunk):
    """U-Net with several heads, for images of any size; a condition is accepted and ignored.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of all heads together.
        heads: Name to its channels; None: a single head.
        head_channels: Channels inside each head.
        shrink: The network works on blocks of this many pixels to a side, whose pixels are channels, and its answers
            are enlarged: for objects many pixels wide, that much squared less to compute. 1: on pixels.
        options: Those of ``TrunkOptions``.

    Raises:
        ModelError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        heads: Mapping[str, int] | None = None,
        head_channels: int = 32,
        shrink: int = 1,
        **options: Unpack[TrunkOptions],
    ) -> None:
        check_sizes(in_channels=in_channels, num_classes=num_classes, shrink=shrink)
        super().__init__(in_channels * shrink**2, **options)
        self.in_channels, self.shrink = in_channels, shrink
        self.multiple *= shrink
        init, activation = options.get("init", "kaiming"), options.get("activation", "relu")
        if self.receptive_field_px is not None:
            reach = self.receptive_field_px + 1  # the heads look one pixel further
            self.receptive_field_px = reach if shrink == 1 else (reach + 2) * shrink  # and enlarging one more
        self._initialise()
        self.head = Heads(self.widths[0], heads or {"output": num_classes}, head_channels, activation)
        self.head.begin(init, activation)

    def encode(self, image: Tensor) -> list[Tensor]:
        """As of ``Trunk``; levels are those of the shrunken image."""
        check_image(image, self.in_channels)
        blocks = F.pixel_unshuffle(pad_to_multiple(image, self.multiple), self.shrink)
        features: list[Tensor] = self.encoder(with_positions(blocks) if self.positional else blocks)
        return features

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Outputs (B, num_classes, H, W) of an image (B, C, H, W), heads one behind another; ``condition`` is ignored.

        Raises:
            ShapeError: If the image has another number of channels or dimensions.
        """
        outputs: Tensor = self.head(self.decoder(self.encode(image)))
        if self.shrink > 1:
            outputs = F.interpolate(outputs, scale_factor=self.shrink, mode="bilinear", align_corners=False)
        return outputs[:, :, : image.shape[2], : image.shape[3]]


class MultitaskSmp(Ecosystem):
    """As :class:`MultitaskUNet`, with an encoder and a decoder of segmentation_models_pytorch.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of all heads together.
        heads: Name to its channels; None: a single head.
        head_channels: Channels inside each head.
        decoder: As of ``Ecosystem``.
        encoder: As of ``Ecosystem``.
        encoder_weights: As of ``Ecosystem``.
        partial_weights: As of ``Ecosystem``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        heads: Mapping[str, int] | None = None,
        head_channels: int = 32,
        decoder: str = "unet",
        encoder: str = "resnet34",
        encoder_weights: str | Path = "none",
        partial_weights: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            decoder=decoder,
            encoder=encoder,
            encoder_weights=encoder_weights,
            partial_weights=partial_weights,
        )
        modules = list(self.head.modules())
        features = next(module for module in modules if isinstance(module, nn.Conv2d)).in_channels
        larger = [module for module in modules if isinstance(module, nn.UpsamplingBilinear2d | nn.Upsample)]
        split = Heads(features, heads or {"output": num_classes}, head_channels)
        split.begin()
        self.head = nn.Sequential(*larger[:1], split)  # some decoders leave the last enlargement to their head
