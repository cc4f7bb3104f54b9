"""One encoder and decoder with a head for each thing asked: classes, centres, offsets, crown diameter, density.

All heads see the same features of the same pass, so each trains the whole network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import torch.nn.functional as F
from torch import nn

from maskwright.models.ecosystem import Ecosystem
from maskwright.models.heads import Heads
from maskwright.models.trunk import Trunk, TrunkOptions, check_sizes

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
        options: Those of ``TrunkOptions``. With ``shrink`` the heads answer for blocks, and their answers are enlarged.

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
        **options: Unpack[TrunkOptions],
    ) -> None:
        super().__init__(in_channels, **options)
        check_sizes(num_classes=num_classes)
        init, activation = options.get("init", "kaiming"), options.get("activation", "relu")
        if self.receptive_field_px is not None:  # the heads look one block further, and enlarging one more
            self.receptive_field_px += 1 if self.shrink == 1 else 2 * self.shrink
        self._initialise()
        self.head = Heads(self.widths[0], heads or {"output": num_classes}, head_channels, activation)
        self.head.begin(init, activation)

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
