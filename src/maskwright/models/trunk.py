"""What all U-Nets share: an encoder, a decoder, and skips between them. arXiv:1505.04597."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypedDict

import torch
import torch.nn.functional as F
from torch import nn

from maskwright.errors import ModelError, ShapeError
from maskwright.models.attention import build_attention
from maskwright.models.blocks import (
    ConvUnit,
    ResidualUnit,
    SkipUnit,
    add_to_each,
    build_activation,
    downsampler,
    initialise,
    pad_to_multiple,
    upsampler,
    with_positions,
)
from maskwright.models.droppath import DropPath, rising_rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from maskwright.models.film import Modulation

__all__ = [
    "Decoder",
    "Encoder",
    "Trunk",
    "TrunkOptions",
    "check_image",
    "check_sizes",
    "level_widths",
    "receptive_halo_px",
]


class TrunkOptions(TypedDict, total=False):
    """Options of every U-Net.

    Attributes:
        base_channels: Channels of the first level, by default 32; doubled at each level below.
        depth: Times the image is halved, 1 or more, by default 4.
        norm: ``batch`` (default), ``group`` or ``instance``.
        activation: ``relu`` (default), ``leaky_relu``, ``gelu``, ``silu`` or ``mish``.
        dropout: Share of channels dropped at the bottleneck in training, in 0..1, by default 0.
        downsampling: ``max`` (default), ``average`` or ``strided``.
        upsampling: ``bilinear`` (default), ``transpose`` or ``pixel_shuffle``.
        init: ``kaiming`` (default), ``xavier``, ``orthogonal`` or ``default``, PyTorch's own.
        attention: ``none`` (default), ``se``, ``cbam``, or ``gate``, which weighs the pixels of the skips
            (arXiv:1804.03999).
        positional: True to add four channels that say where in the image a pixel lies; False by default.
        residual: True for a shortcut beside the two convolutions of each level; False by default.
        drop_path: With ``residual``: chance of leaving the last level out in training, less for those before it.
        shrink: The network works on blocks of this many pixels to a side, whose pixels are channels, and answers for
            each pixel of a block; that much squared less to compute. 1, by default, is on pixels.
    """

    base_channels: int
    depth: int
    norm: str
    activation: str
    dropout: float
    downsampling: str
    upsampling: str
    init: str
    attention: str
    positional: bool
    residual: bool
    drop_path: float
    shrink: int


class Trunk(nn.Module):
    """Image to features of its own size; heads and conditions are added by the networks that inherit from it.

    Attributes:
        in_channels: Channels of the image.
        widths: Channels of each level; the first is that of the features.
        multiple: Images are padded to multiples of this, in pixels.
        receptive_field_px: Farthest a pixel of the image can lie, in rows or columns, from a pixel of the logits it
            has a part in. None if all can: group and instance norm, ``se`` and ``cbam`` average over the whole image,
            and positions depend on its size.

    Raises:
        ModelError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        base_channels: int = 32,
        depth: int = 4,
        norm: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        downsampling: str = "max",
        upsampling: str = "bilinear",
        init: str = "kaiming",
        attention: str = "none",
        positional: bool = False,
        residual: bool = False,
        drop_path: float = 0.0,
        shrink: int = 1,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, base_channels=base_channels, depth=depth, shrink=shrink)
        widths = level_widths(base_channels, depth)
        self.in_channels = in_channels
        self.widths = widths
        self.shrink = shrink
        self.multiple = shrink * 2**depth
        self.positional = positional
        local = norm == "batch" and attention in ("none", "gate") and not positional
        # A pixel at one end of its block is told of blocks so far away, to the other end of the last.
        self.receptive_field_px = (receptive_halo_px(depth, upsampling) + 1) * shrink - 1 if local else None
        rates = rising_rates(drop_path, 2 * depth + 1) if residual else None
        seen = (in_channels + 4 if positional else in_channels) * shrink**2
        self.encoder = Encoder(
            seen, widths, norm, activation, dropout, downsampling, attention, rates and rates[: depth + 1]
        )
        self.decoder = Decoder(widths, norm, activation, upsampling, attention, rates and rates[depth + 1 :])
        self._style = (norm, activation)
        self._init = init

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of each level of an image (B, C, H, W), padded at its lower and right edge.

        Raises:
            ShapeError: If the image has another number of channels or dimensions.
        """
        check_image(image, self.in_channels)
        if self.positional:
            image = with_positions(image)
        image = pad_to_multiple(image, self.multiple)
        if self.shrink > 1:
            image = F.pixel_unshuffle(image, self.shrink)
        features: list[Tensor] = self.encoder(image)
        return features

    def pixel_head(self, channels: int) -> nn.Module:
        """A linear map of the features to so many channels for each pixel, also of those inside a block."""
        linear = nn.Conv2d(self.widths[0], channels * self.shrink**2, kernel_size=1)
        return linear if self.shrink == 1 else nn.Sequential(linear, nn.PixelShuffle(self.shrink))

    def _initialise(self) -> None:
        """To be called when the last part has been made."""
        initialise(self, self._init, self._style[1])


class Encoder(nn.Module):
    """Features of each level, from the image's size down to the bottleneck; two convolutions at each.

    Args:
        in_channels: Channels of the image.
        widths: Channels of each level.
        norm: As in ``TrunkOptions``, like those that follow.
        activation: Of every convolution.
        dropout: At the bottleneck.
        downsampling: Between levels.
        attention: At the end of each level.
        drop_path: Rate of each level, of which each then has a shortcut; None for no shortcuts.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        norm: str,
        activation: str,
        dropout: float,
        downsampling: str = "max",
        attention: str = "none",
        drop_path: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        levels: list[nn.Module] = []
        for i, (before, after) in enumerate(itertools.pairwise((in_channels, *widths))):
            if drop_path is not None:
                levels.append(ResidualUnit(before, after, norm, activation, attention, drop_path[i]))
                continue
            parts = [ConvUnit(before, after, norm, activation), ConvUnit(after, after, norm, activation)]
            levels.append(nn.Sequential(*parts, build_attention(attention, after)))
        self.levels = nn.ModuleList(levels)
        self.halvers = nn.ModuleList(downsampler(width, downsampling) for width in widths[:-1])
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, H, W) to (B, widths[i], H / 2**i, W / 2**i) for each level i."""
        features: list[Tensor] = [self.levels[0](image)]
        for halve, level in zip(self.halvers, self.levels[1:], strict=True):
            features.append(level(halve(features[-1])))
        features[-1] = self.dropout(features[-1])
        return features


class Decoder(nn.Module):
    """From the bottleneck back to the image's size, one skip at each level; arguments as of ``Encoder``."""

    def __init__(
        self,
        widths: Sequence[int],
        norm: str,
        activation: str,
        upsampling: str,
        attention: str = "none",
        drop_path: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))[::-1]  # (skip, deep) of each level, the deepest first
        if drop_path is None:
            self.levels = nn.ModuleList(
                _PlainLevel(deep, skip, norm, activation, upsampling, attention) for skip, deep in pairs
            )
        else:
            self.levels = nn.ModuleList(
                _ResidualLevel(deep, skip, norm, activation, upsampling, attention, rate)
                for (skip, deep), rate in zip(pairs, drop_path, strict=True)
            )

    def forward(self, features: Sequence[Tensor], modulations: Sequence[Modulation] | None = None) -> Tensor:
        """Features of the encoder to (B, widths[0], H, W); with one modulation a level, K each, to (B * K, ...).

        The deepest features may be (B * K, ...) already.
        """
        *skips, deep = features
        for i, level in enumerate(self.levels):
            deep = level(deep, skips[-1 - i], None if modulations is None else modulations[i])
        return deep


class _PlainLevel(nn.Module):
    """Twice the size, joined with the skip, two convolutions; a modulation acts in the second."""

    def __init__(self, deep: int, skip: int, norm: str, activation: str, upsampling: str, attention: str) -> None:
        super().__init__()
        self.up = upsampler(deep, skip, upsampling)
        self.gate = _SkipGate(skip, norm, activation) if attention == "gate" else None
        self.join = SkipUnit(skip, skip, skip, norm, activation)
        self.refine = ConvUnit(skip, skip, norm, activation)
        self.attention = build_attention(attention, skip)

    def forward(self, deep: Tensor, skip: Tensor, modulation: Modulation | None = None) -> Tensor:
        """Deep (B or B * K, 2C, H, W) and skip (B, C, 2H, 2W) to (B or B * K, C, 2H, 2W)."""
        deep = self.up(deep)
        if self.gate is not None:
            skip = self.gate(deep, skip)
        return self.attention(self.refine(self.join(deep, skip), modulation))  # type: ignore[no-any-return]


class _ResidualLevel(nn.Module):
    """As ``_PlainLevel``, with a shortcut beside the convolutions."""

    def __init__(
        self, deep: int, skip: int, norm: str, activation: str, upsampling: str, attention: str, drop_path: float
    ) -> None:
        super().__init__()
        self.up = upsampler(deep, skip, upsampling)
        self.gate = _SkipGate(skip, norm, activation) if attention == "gate" else None
        self.join = SkipUnit(skip, skip, skip, norm, activation)
        self.refine = ConvUnit(skip, skip, norm, None)
        self.attention = build_attention(attention, skip)
        self.drop_path = DropPath(drop_path)
        self.shortcut = SkipUnit(skip, skip, skip, norm, None, kernel_size=1)
        self.activation = build_activation(activation)

    def forward(self, deep: Tensor, skip: Tensor, modulation: Modulation | None = None) -> Tensor:
        """Deep (B or B * K, 2C, H, W) and skip (B, C, 2H, 2W) to (B or B * K, C, 2H, 2W)."""
        deep = self.up(deep)
        if self.gate is not None:
            skip = self.gate(deep, skip)
        branch = self.drop_path(self.attention(self.refine(self.join(deep, skip), modulation)))
        return self.activation(add_to_each(branch, self.shortcut(deep, skip)))  # type: ignore[no-any-return]


class _SkipGate(nn.Module):
    """Each pixel of a skip weighed by what the deep features say of it. arXiv:1804.03999."""

    def __init__(self, channels: int, norm: str, activation: str) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.join = SkipUnit(channels, channels, inner, norm, activation, kernel_size=1)
        self.score = nn.Conv2d(inner, 1, kernel_size=1)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Deep (B * K, C, H, W) and skip (B, C, H, W) to the weighed skip, (B * K, C, H, W)."""
        share = torch.sigmoid(self.score(self.join(deep, skip)))
        return (skip[:, None] * share.view(skip.shape[0], -1, *share.shape[1:])).flatten(0, 1)


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
