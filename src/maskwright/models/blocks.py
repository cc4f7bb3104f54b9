"""Pieces networks are made of: convolution units, up and down, norms that suit the batch, padding, initialisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from torch import nn

from maskwright.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from maskwright.models.film import Modulation

__all__ = [
    "ACTIVATIONS",
    "ConvUnit",
    "SkipUnit",
    "build_activation",
    "build_norm",
    "initialise",
    "largest_divisor",
    "norm_for_batch",
    "pad_to_multiple",
    "upsampler",
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
    """3x3 convolution, norm, activation; between norm and activation a modulation may come in.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        norm: ``batch``, ``group`` or ``instance``.
        activation: A key of ``ACTIVATIONS``.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str, activation: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)  # the norm has a bias
        self.norm = build_norm(norm, out_channels)
        self.activation = build_activation(activation)

    def forward(self, features: Tensor, modulation: Modulation | None = None) -> Tensor:
        """(B, C, H, W) to (B, C', H, W); with a modulation for K conditions (B * K, C', H, W)."""
        features = self.norm(self.conv(features))
        if modulation is not None:
            features = modulation.apply_to(features)
        return self.activation(features)  # type: ignore[no-any-return]


class SkipUnit(nn.Module):
    """3x3 convolution of deep features and a skip side by side, norm, activation.

    Written as the sum of a convolution of each, which is the same: nothing is copied side by side, and the skip's part
    is worked out once for all conditions.
    """

    def __init__(self, deep_channels: int, skip_channels: int, out_channels: int, norm: str, activation: str) -> None:
        super().__init__()
        self.from_deep = nn.Conv2d(deep_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.from_skip = nn.Conv2d(skip_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm = build_norm(norm, out_channels)
        self.activation = build_activation(activation)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Deep (B * K, C, H, W) and skip (B, C', H, W) to (B * K, C'', H, W); K conditions of a sample in a row."""
        from_skip = self.from_skip(skip)[:, None]  # (B, 1, C'', H, W)
        from_deep = self.from_deep(deep).view(skip.shape[0], -1, *from_skip.shape[2:])
        features = (from_deep + from_skip).flatten(0, 1)
        return self.activation(self.norm(features))  # type: ignore[no-any-return]


def upsampler(in_channels: int, out_channels: int, kind: str) -> nn.Module:
    """Twice the size, other channels: ``bilinear`` or ``transpose``.

    Bilinear: the 1x1 convolution comes first; the two commute, and so it works on a quarter of the pixels.
    """
    if kind == "transpose":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2, bias=False)
    if kind == "bilinear":
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        )
    raise ModelError(f"model.upsampling: {kind!r} is unknown. Available: bilinear, transpose.")


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
    height, width = image.shape[2:]
    rows = _missing(height, multiple)
    cols = _missing(width, multiple)
    if rows:
        image = F.pad(image, (0, 0, 0, rows), mode="reflect" if rows < height else "replicate")
    if cols:
        image = F.pad(image, (0, cols, 0, 0), mode="reflect" if cols < width else "replicate")
    return image


def _missing(size: int, multiple: int) -> int:
    return max(-(-size // multiple), 2) * multiple - size


def initialise(network: nn.Module, scheme: str, activation: str) -> None:
    """Set the weights of all convolutions: ``kaiming``, ``xavier``, ``orthogonal``, or ``default``, PyTorch's own."""
    if scheme == "default":
        return
    leaky = activation == "leaky_relu"
    gain = nn.init.calculate_gain("leaky_relu", 0.01) if leaky else nn.init.calculate_gain("relu")
    for module in network.modules():
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
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
