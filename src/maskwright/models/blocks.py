"""Pieces networks are made of: convolution units, up and down, norms that suit the batch, padding, initialisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import nn

from maskwright.errors import ModelError
from maskwright.models.attention import build_attention
from maskwright.models.droppath import DropPath

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from maskwright.models.film import Modulation

__all__ = [
    "ACTIVATIONS",
    "AdaptiveNorm",
    "ConvUnit",
    "ResidualUnit",
    "SkipUnit",
    "adapt_norms",
    "add_to_each",
    "build_activation",
    "build_norm",
    "downsampler",
    "initialise",
    "largest_divisor",
    "norm_for_batch",
    "pad_to_multiple",
    "upsampler",
    "with_positions",
]

NormKind = Literal["batch", "group", "instance"]
_GROUPS = 8
_BATCH_NORM_FROM = 16

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "mish": nn.Mish,
    "relu": lambda: nn.ReLU(inplace=True),
    "silu": nn.SiLU,
}


class ConvUnit(nn.Module):
    """Convolution, norm, activation; between norm and activation a modulation may come in.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        norm: ``batch``, ``group`` or ``instance``.
        activation: A key of ``ACTIVATIONS``; None for none.
        kernel_size: Odd.
        dilation: Distance between the pixels a kernel looks at; 1 for neighbours.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: str,
        activation: str | None,
        kernel_size: int = 3,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv = _conv(in_channels, out_channels, kernel_size, dilation)
        self.norm = build_norm(norm, out_channels)
        self.activation = nn.Identity() if activation is None else build_activation(activation)

    def forward(self, features: Tensor, modulation: Modulation | None = None) -> Tensor:
        """(B, C, H, W) to (B, C', H, W); with a modulation for K conditions (B * K, C', H, W)."""
        features = self.norm(self.conv(features))
        if modulation is not None:
            features = modulation.apply_to(features)
        return self.activation(features)  # type: ignore[no-any-return]


class SkipUnit(nn.Module):
    """Convolution of deep features and a skip side by side, norm, activation.

    Written as the sum of a convolution of each, which is the same: nothing is copied side by side, and the skip's part
    is worked out once for all conditions.
    """

    def __init__(
        self,
        deep_channels: int,
        skip_channels: int,
        out_channels: int,
        norm: str,
        activation: str | None,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        self.from_deep = _conv(deep_channels, out_channels, kernel_size)
        self.from_skip = _conv(skip_channels, out_channels, kernel_size)
        self.norm = build_norm(norm, out_channels)
        self.activation = nn.Identity() if activation is None else build_activation(activation)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Deep (B * K, C, H, W) and skip (B, C', H, W) to (B * K, C'', H, W); K conditions of a sample in a row."""
        features = add_to_each(self.from_deep(deep), self.from_skip(skip))
        return self.activation(self.norm(features))  # type: ignore[no-any-return]


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions beside a shortcut. arXiv:1512.03385.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; where they differ the shortcut has a 1x1 convolution.
        norm: ``batch``, ``group`` or ``instance``.
        activation: A key of ``ACTIVATIONS``.
        attention: What weighs the features before they are added, ``none``, ``se`` or ``cbam``.
        drop_path: Chance of leaving the convolutions out in training.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm: str, activation: str, attention: str, drop_path: float
    ) -> None:
        super().__init__()
        self.first = ConvUnit(in_channels, out_channels, norm, activation)
        self.second = ConvUnit(out_channels, out_channels, norm, None)
        self.attention = build_attention(attention, out_channels)
        self.drop_path = DropPath(drop_path)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else ConvUnit(in_channels, out_channels, norm, None, kernel_size=1)
        self.activation = build_activation(activation)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W)."""
        branch = self.drop_path(self.attention(self.second(self.first(features))))
        return self.activation(branch + self.shortcut(features))  # type: ignore[no-any-return]


def add_to_each(deep: Tensor, skip: Tensor) -> Tensor:
    """Deep (B * K, C, H, W) plus skip (B, C, H, W), added to the K of its sample, which stand in a row."""
    return (deep.view(skip.shape[0], -1, *skip.shape[1:]) + skip[:, None]).flatten(0, 1)


def downsampler(channels: int, kind: str) -> nn.Module:
    """Half the size, same channels: ``max``, ``average`` or ``strided``, a convolution that learns how."""
    if kind == "strided":
        return nn.Conv2d(channels, channels, kernel_size=2, stride=2)
    if kind in ("average", "max"):
        return nn.MaxPool2d(2) if kind == "max" else nn.AvgPool2d(2)
    raise ModelError(f"model.downsampling: {kind!r} is unknown. Available: average, max, strided.")


def upsampler(in_channels: int, out_channels: int, kind: str) -> nn.Module:
    """Twice the size, other channels: ``bilinear``, ``transpose`` or ``pixel_shuffle`` (arXiv:1609.05158).

    Bilinear: the 1x1 convolution comes first; the two commute, and so it works on a quarter of the pixels.
    """
    if kind == "transpose":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2, bias=False)
    if kind == "bilinear":
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        )
    if kind == "pixel_shuffle":
        return nn.Sequential(nn.Conv2d(in_channels, 4 * out_channels, kernel_size=1, bias=False), nn.PixelShuffle(2))
    raise ModelError(f"model.upsampling: {kind!r} is unknown. Available: bilinear, pixel_shuffle, transpose.")


def build_norm(norm: str, channels: int) -> nn.Module:
    """The norm of a kind: ``batch``, ``group`` (up to 8 groups, whatever divides the channels) or ``instance``."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(largest_divisor(channels, _GROUPS), channels)
    if norm == "instance":
        return nn.GroupNorm(channels, channels)  # each channel its own group; same in training and use
    raise ModelError(
        f"model.norm: {norm!r} is unknown. Available: batch, group, instance; auto is settled by batch size."
    )


def norm_for_batch(norm: str, batch_size: int) -> str:
    """``auto`` settled once, when the network is built, so that its output never depends on the batch at hand."""
    if norm != "auto":
        return norm
    return "batch" if batch_size >= _BATCH_NORM_FROM else "group"


class AdaptiveNorm(nn.Module):
    """Batch norm where batches are large enough for its statistics, else group norm; for any number of channels.

    What it is was settled when it was built, by the size that training uses, so that the output for an image never
    depends on what else is in the batch at hand.

    Args:
        channels: Channels of the input.
        batch_size: Images of a batch in training.
    """

    def __init__(self, channels: int, batch_size: int = 1) -> None:
        super().__init__()
        self.norm = build_norm(norm_for_batch("auto", batch_size), channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.norm(features)  # type: ignore[no-any-return]


def adapt_norms(model: nn.Module, batch_size: int) -> int:
    """Put group norm in place of every batch norm of a network, where batches are too small for it; weights stay.

    Args:
        model: The network, changed in place; it must not itself be a norm.
        batch_size: Images of a batch in training.

    Returns:
        The number of norms replaced, 0 for large batches.
    """
    if norm_for_batch("auto", batch_size) == "batch":
        return 0
    replaced = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, _as_group_norm(child))
                replaced += 1
    return replaced


def _as_group_norm(norm: nn.BatchNorm2d) -> nn.GroupNorm:
    group = nn.GroupNorm(largest_divisor(norm.num_features, _GROUPS), norm.num_features, affine=norm.affine)
    if norm.affine:
        with torch.no_grad():
            group.weight.copy_(norm.weight)
            group.bias.copy_(norm.bias)
    return group.to(norm.weight.device if norm.affine else "cpu").train(norm.training)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of ``number`` that is not above ``limit``; both 1 or more."""
    return next(divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0)


def build_activation(name: str) -> nn.Module:
    """An activation by name."""
    if name not in ACTIVATIONS:
        raise ModelError(f"model.activation: {name!r} is unknown. Available: {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]()


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Grow an image at its lower and right edge, mirrored, to a multiple, and to twice the multiple at least.

    Twice, so that the deepest features have more than one pixel for a norm to work with. Where the image is too small
    to be mirrored that far, its last row or column is repeated.

    Args:
        image: (B, C, H, W), H and W 1 or more.
        multiple: 1 or more.

    Returns:
        (B, C, H', W') with the image in the upper left corner.
    """
    if torch.compiler.is_exporting():  # sizes stay open there, so nothing may be decided by them
        for axis in (2, 3):
            image = image.index_select(axis, _mirrored_places(image.shape[axis], multiple, image.device))
        return image
    height, width = image.shape[2:]
    rows = _missing(height, multiple)
    cols = _missing(width, multiple)
    if rows:
        image = F.pad(image, (0, 0, 0, rows), mode="reflect" if rows < height else "replicate")
    if cols:
        image = F.pad(image, (0, cols, 0, 0), mode="reflect" if cols < width else "replicate")
    return image


def with_positions(image: Tensor) -> Tensor:
    """The image and four more channels that say where a pixel lies: x and y in 0..1, and both distances to the middle.

    Args:
        image: (B, C, H, W).

    Returns:
        (B, C + 4, H, W).
    """
    count, _, height, width = image.shape
    y = _zero_to_one(height, image)[:, None].expand(height, width)
    x = _zero_to_one(width, image).expand(height, width)
    where = torch.stack([x, y, (x - 0.5).abs(), (y - 0.5).abs()])
    return torch.cat([image, where.expand(count, -1, -1, -1)], dim=1)


def _zero_to_one(count: int, like: Tensor) -> Tensor:
    """(count,) even steps from 0 to 1."""
    if torch.compiler.is_exporting():  # linspace wants to know how many
        steps = torch.arange(count, dtype=like.dtype, device=like.device)
        return steps / torch.full_like(steps, count - 1).clamp(min=1)
    return torch.linspace(0, 1, count, dtype=like.dtype, device=like.device)


def _conv(in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size and leaves the bias to the norm behind it."""
    padding = kernel_size // 2 * dilation
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False)


def _missing(size: int, multiple: int) -> int:
    return max(-(-size // multiple), 2) * multiple - size


def _mirrored_places(size: int, multiple: int, device: torch.device) -> Tensor:
    """Where each pixel of a padded axis comes from; the same padding for a size that may be anything."""
    grown = torch.sym_max((size + multiple - 1) // multiple, 2) * multiple
    place = torch.arange(grown, device=device)
    mirrored, last = 2 * (size - 1) - place, torch.full_like(place, size - 1)
    is_far = torch.full_like(place, grown - size) < size
    return torch.where(place < size, place, torch.where(is_far, mirrored, last))


def initialise(network: nn.Module, scheme: str, activation: str) -> None:
    """Set the weights of all convolutions: ``kaiming``, ``xavier``, ``orthogonal``, or ``default``, PyTorch's own."""
    if scheme == "default":
        return
    leaky = activation == "leaky_relu"
    gain = nn.init.calculate_gain("leaky_relu", 0.01) if leaky else nn.init.calculate_gain("relu")
    for module in network.modules():
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            continue
        if module.weight.is_meta:  # nothing to set; torch would load its compiler to draw numbers for no memory
            continue
        if scheme == "kaiming":
            nn.init.kaiming_normal_(module.weight, a=0.01 if leaky else 0.0, nonlinearity="leaky_relu")
        elif scheme == "xavier":
            nn.init.xavier_uniform_(module.weight, gain=gain)
        elif scheme == "orthogonal":
            nn.init.orthogonal_(module.weight, gain=gain)
        else:
            raise ModelError(f"model.init: {scheme!r} is unknown. Available: default, kaiming, orthogonal, xavier.")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
