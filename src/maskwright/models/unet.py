"""U-Net: an encoder, a decoder, and skips between them. arXiv:1505.04597."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from maskwright.errors import ModelError, ShapeError
from maskwright.models.blocks import ConvUnit, SkipUnit, initialise, pad_to_multiple, upsampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from maskwright.models.film import Modulation

__all__ = ["Decoder", "Encoder", "UNet", "check_image", "check_sizes", "level_widths", "receptive_halo_px"]


class UNet(nn.Module):
    """U-Net for images of any size; a condition is accepted and ignored.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        base_channels: Channels of the first level; doubled at each level below.
        depth: Times the image is halved, 1 or more.
        norm: ``batch``, ``group`` or ``instance``.
        activation: ``relu``, ``leaky_relu``, ``gelu``, ``silu`` or ``mish``.
        dropout: Share of channels dropped at the bottleneck in training, in 0..1.
        upsampling: ``bilinear`` or ``transpose``.
        init: ``kaiming``, ``xavier``, ``orthogonal`` or ``default``.

    Attributes:
        receptive_field_px: Farthest a pixel of the image can lie, in rows or columns, from a pixel of the logits it
            has a part in. None if all can: group and instance norm average over the whole image.

    Raises:
        ModelError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        base_channels: int = 32,
        depth: int = 4,
        norm: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        upsampling: str = "bilinear",
        init: str = "kaiming",
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, num_classes=num_classes, base_channels=base_channels, depth=depth)
        widths = level_widths(base_channels, depth)
        self.in_channels = in_channels
        self.multiple = 2**depth
        self.receptive_field_px = receptive_halo_px(depth, upsampling) if norm == "batch" else None
        self.encoder = Encoder(in_channels, widths, norm, activation, dropout)
        self.decoder = Decoder(widths, norm, activation, upsampling)
        self.head = nn.Conv2d(widths[0], num_classes, kernel_size=1)
        initialise(self, init, activation)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, num_classes, H, W) of an image (B, C, H, W); ``condition`` is ignored.

        Raises:
            ShapeError: If the image has another number of channels or dimensions.
        """
        check_image(image, self.in_channels)
        height, width = image.shape[2:]
        features = self.encoder(pad_to_multiple(image, self.multiple))
        logits: Tensor = self.head(self.decoder(features))
        return logits[:, :, :height, :width]


class Encoder(nn.Module):
    """Features of each level, from the image's size down to the bottleneck; two convolutions at each."""

    def __init__(self, in_channels: int, widths: Sequence[int], norm: str, activation: str, dropout: float) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(ConvUnit(before, after, norm, activation), ConvUnit(after, after, norm, activation))
            for before, after in zip((in_channels, *widths), widths, strict=False)
        )
        self.halve = nn.MaxPool2d(2)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, H, W) to (B, widths[i], H / 2**i, W / 2**i) for each level i."""
        features: list[Tensor] = []
        for level in self.levels:
            features.append(level(self.halve(features[-1]) if features else image))
        features[-1] = self.dropout(features[-1])
        return features


class Decoder(nn.Module):
    """From the bottleneck back to the image's size, one skip at each level."""

    def __init__(self, widths: Sequence[int], norm: str, activation: str, upsampling: str) -> None:
        super().__init__()
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.levels = nn.ModuleList(_DecoderLevel(deep, skip, norm, activation, upsampling) for deep, skip in pairs)

    def forward(self, features: Sequence[Tensor], modulations: Sequence[Modulation] | None = None) -> Tensor:
        """Features of the encoder to (B, widths[0], H, W); with one modulation a level, K each, to (B * K, ...)."""
        *skips, deep = features
        for i, level in enumerate(self.levels):
            deep = level(deep, skips[-1 - i], None if modulations is None else modulations[i])
        return deep


class _DecoderLevel(nn.Module):
    """Twice the size, joined with the skip, two convolutions; a modulation acts in the second."""

    def __init__(self, deep: int, skip: int, norm: str, activation: str, upsampling: str) -> None:
        super().__init__()
        self.up = upsampler(deep, skip, upsampling)
        self.join = SkipUnit(skip, skip, skip, norm, activation)
        self.refine = ConvUnit(skip, skip, norm, activation)

    def forward(self, deep: Tensor, skip: Tensor, modulation: Modulation | None = None) -> Tensor:
        """Deep (B or B * K, 2C, H, W) and skip (B, C, 2H, 2W) to (B or B * K, C, 2H, 2W)."""
        return self.refine(self.join(self.up(deep), skip), modulation)  # type: ignore[no-any-return]


def level_widths(base_channels: int, depth: int) -> tuple[int, ...]:
    """Channels of each level from the image's size down: doubled at each."""
    return tuple(base_channels * 2**level for level in range(depth + 1))


def receptive_halo_px(depth: int, upsampling: str) -> int:
    """Farthest an image pixel with a part in a logit can lie from it, in pixels along rows or columns.

    Follows the longest path backwards, from every position a pixel can have relative to the grid of the bottleneck.
    """
    reach = 0
    for pixel in range(2**depth):
        low = high = pixel
        for _ in range(depth):
            low, high = low - 2, high + 2  # two 3x3 convolutions
            if upsampling == "bilinear":
                low, high = (low - 1) // 2, (high + 1) // 2
            else:
                low, high = low // 2, high // 2
        low, high = low - 2, high + 2
        for _ in range(depth):
            low, high = 2 * low - 2, 2 * high + 1 + 2  # each pixel comes from two, then two 3x3 convolutions
        reach = max(reach, pixel - low, high - pixel)
    return reach


def check_image(image: Tensor, in_channels: int) -> None:
    """Raise ShapeError unless the image is (B, in_channels, H, W)."""
    if image.ndim != 4 or image.shape[1] != in_channels:
        raise ShapeError(f"image is {tuple(image.shape)}, the network takes (batch, {in_channels}, height, width).")


def check_sizes(**sizes: int) -> None:
    """Raise ModelError for a size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ModelError(f"model.{name}: {size} is below the minimum 1.")
