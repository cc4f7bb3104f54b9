"""DeepLabV3+: one pyramid of dilated convolutions over deep features, sharpened by shallow ones. arXiv:1802.02611."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import nn

from maskwright.errors import ModelError
from maskwright.models.blocks import ConvUnit, SkipUnit, build_activation, initialise, pad_to_multiple, with_positions
from maskwright.models.film import BottleneckCondition, FilmGenerator, as_conditions, check_scale
from maskwright.models.trunk import Encoder, check_image, check_sizes, level_widths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from maskwright.models.film import Modulation

__all__ = ["DeepLabOptions", "DeepLabV3Plus", "DeepLabV3PlusFilm"]

_SHALLOW = 2  # the level whose features sharpen the deep ones: a quarter of the image's size


class DeepLabOptions(TypedDict, total=False):
    """Options of both networks.

    Attributes:
        base_channels: Channels of the first level of the encoder, by default 32; doubled at each level below.
        depth: Times the image is halved, 1 or more, by default 4.
        norm: ``batch`` (default), ``group`` or ``instance``.
        activation: ``relu`` (default), ``leaky_relu``, ``gelu``, ``silu`` or ``mish``.
        dropout: Share of channels dropped at the bottleneck in training, in 0..1, by default 0.
        downsampling: ``max`` (default), ``average`` or ``strided``.
        init: ``kaiming`` (default), ``xavier``, ``orthogonal`` or ``default``, PyTorch's own.
        positional: True to add four channels that say where in the image a pixel lies; False by default.
        aspp_channels: Channels of each part of the pyramid, by default 256.
        aspp_rates: Dilation of each 3x3 convolution of the pyramid, by default 6, 12, 18.
        low_level_channels: Channels the shallow features are brought down to, by default 48.
    """

    base_channels: int
    depth: int
    norm: str
    activation: str
    dropout: float
    downsampling: str
    init: str
    positional: bool
    aspp_channels: int
    aspp_rates: Sequence[int]
    low_level_channels: int


class _DeepLab(nn.Module):
    """What both networks share.

    Attributes:
        receptive_field_px: None: the pyramid averages over the whole image.
    """

    receptive_field_px: int | None = None

    def __init__(
        self,
        in_channels: int,
        outputs: int,
        *,
        base_channels: int = 32,
        depth: int = 4,
        norm: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        downsampling: str = "max",
        init: str = "kaiming",
        positional: bool = False,
        aspp_channels: int = 256,
        aspp_rates: Sequence[int] = (6, 12, 18),
        low_level_channels: int = 48,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, num_classes=outputs, base_channels=base_channels, depth=depth)
        check_sizes(aspp_channels=aspp_channels, low_level_channels=low_level_channels, aspp_rates=min(aspp_rates))
        self.in_channels = in_channels
        self.multiple = 2**depth
        self.positional = positional
        self.widths = level_widths(base_channels, depth)
        seen = in_channels + 4 if positional else in_channels
        self.encoder = Encoder(
            seen, self.widths, norm, activation, dropout, downsampling, drop_path=[0.0] * len(self.widths)
        )
        self.shallow = min(_SHALLOW, depth - 1)
        self.pyramid = _Pyramid(self.widths[-1], aspp_channels, aspp_rates, norm, activation)
        self.reduce = ConvUnit(self.widths[self.shallow], low_level_channels, norm, activation, kernel_size=1)
        self.join = SkipUnit(aspp_channels, low_level_channels, aspp_channels, norm, activation)
        self.refine = ConvUnit(aspp_channels, aspp_channels, norm, activation)
        self.head = nn.Conv2d(aspp_channels, outputs, kernel_size=1)
        self._style = (norm, activation)
        self._init = init

    def _initialise(self) -> None:
        """To be called when the last part has been made."""
        initialise(self, self._init, self._style[1])

    def _encode(self, image: Tensor) -> list[Tensor]:
        check_image(image, self.in_channels)
        if self.positional:
            image = with_positions(image)
        features: list[Tensor] = self.encoder(pad_to_multiple(image, self.multiple))
        return features

    def _decode(self, features: Sequence[Tensor], modulations: Sequence[Modulation | None] = (None, None)) -> Tensor:
        """Features of the encoder to (B or B * K, aspp_channels, H / 4, W / 4)."""
        deep = self.pyramid(features[-1], modulations[0])
        skip = self.reduce(features[self.shallow])
        deep = F.interpolate(deep, size=skip.shape[2:], mode="bilinear", align_corners=False)
        return self.refine(self.join(deep, skip), modulations[1])  # type: ignore[no-any-return]

    def _to_size(self, logits: Tensor, image: Tensor) -> Tensor:
        """Logits of the padded image, cropped to the image's size."""
        factor = 2**self.shallow
        if factor > 1:
            logits = F.interpolate(logits, scale_factor=factor, mode="bilinear", align_corners=False)
        return logits[:, :, : image.shape[2], : image.shape[3]]


class DeepLabV3Plus(_DeepLab):
    """DeepLabV3+ for images of any size; a condition is accepted and ignored.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        options: Those of ``DeepLabOptions``.

    Raises:
        ModelError: If an option is unknown or out of range.
    """

    def __init__(self, in_channels: int, num_classes: int, **options: Unpack[DeepLabOptions]) -> None:
        super().__init__(in_channels, num_classes, **options)
        self._initialise()

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, num_classes, H, W) of an image (B, C, H, W); ``condition`` is ignored."""
        return self._to_size(self.head(self._decode(self._encode(image))), image)


class DeepLabV3PlusFilm(_DeepLab):
    """DeepLabV3+ told heights: FiLM on the pyramid, on the refined features and at the head.

    Args:
        in_channels: Channels of the image.
        film_hidden: Width of the small network that a height goes through.
        condition_scale: Heights are divided by this, so that usual ones lie in 0..1.
        condition_by: ``film``, ``bottleneck`` or ``both``, as of ``FilmUNet``.
        options: Those of ``DeepLabOptions``.

    Raises:
        ModelError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        film_hidden: int = 64,
        condition_scale: float = 30.0,
        condition_by: str = "film",
        **options: Unpack[DeepLabOptions],
    ) -> None:
        super().__init__(in_channels, 1, **options)
        check_sizes(film_hidden=film_hidden)
        check_scale(condition_scale)
        if condition_by not in ("film", "bottleneck", "both"):
            raise ModelError(f"model.condition_by: {condition_by!r} is unknown. Available: film, bottleneck, both.")
        self.film = self.bottleneck = None
        if condition_by != "bottleneck":
            channels = self.head.in_channels
            self.film = FilmGenerator((channels, channels, 1), film_hidden, condition_scale)
        if condition_by != "film":
            self.bottleneck = BottleneckCondition(self.widths[-1], film_hidden, condition_scale, *self._style)
        self._initialise()

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, K, H, W) of an image (B, C, H, W) at heights in metres, (B,), (B, 1) or (B, K)."""
        features = self._encode(image)
        conditions = as_conditions(condition, image.shape[0])
        if self.bottleneck is not None:
            features[-1] = self.bottleneck(features[-1], conditions)
        if self.film is None:
            logits: Tensor = self.head(self._decode(features))
        else:
            pyramid, refined, head = self.film(conditions)
            logits = head.apply_to(self.head(self._decode(features, (pyramid, refined))))
        return self._to_size(logits.view(image.shape[0], -1, *logits.shape[2:]), image)


class _Pyramid(nn.Module):
    """Deep features seen at several distances: a 1x1 convolution, dilated 3x3 ones, and the mean of the image."""

    def __init__(self, in_channels: int, out_channels: int, rates: Sequence[int], norm: str, activation: str) -> None:
        super().__init__()
        near = ConvUnit(in_channels, out_channels, norm, activation, kernel_size=1)
        far = [ConvUnit(in_channels, out_channels, norm, activation, dilation=rate) for rate in rates]
        self.views = nn.ModuleList([near, *far])
        # No norm here: of one image there is a single number in each channel, and nothing to divide it by.
        self.mean = nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size=1), build_activation(activation))
        self.project = ConvUnit((len(rates) + 2) * out_channels, out_channels, norm, activation, kernel_size=1)

    def forward(self, features: Tensor, modulation: Modulation | None = None) -> Tensor:
        """(B, C, H, W) to (B, C', H, W); with a modulation for K conditions to (B * K, C', H, W)."""
        mean = self.mean(features.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *features.shape[2:])
        return self.project(torch.cat([*(view(features) for view in self.views), mean], dim=1), modulation)  # type: ignore[no-any-return]
