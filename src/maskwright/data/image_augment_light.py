"""Changes of light of one sample: on values in 0..1, only where pixels count, from the sample's own random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import torch
from scipy import special
from torch import Tensor

from maskwright.data.balance import rng
from maskwright.data.image_augment_draw import ImageChange

__all__ = ["blurred", "change_light", "color_matrix"]

# Streams of random numbers of a sample; 0 and 1 belong to its geometry.
_SHADOW, _FOG, _FLARE, _SENSOR, _NOISE, _GRAIN = 2, 3, 4, 5, 6, 7
_LUMA = (0.299, 0.587, 0.114)
_VEIL = 0.9  # light grey of haze and fog
_GRAIN_STD, _STRIPE_STD, _DEAD_SHARE = 0.03, 0.01, 0.0005  # of a sensor at strength 1


def change_light(
    image: Tensor,
    valid: Tensor,
    change: ImageChange,
    seed: int,
    gain: Sequence[float],
    offset: Sequence[float],
    clip: bool,
    colors: tuple[int, int, int] | None,
) -> None:
    """Change the light of one sample in place.

    The order is that of the world: shadow, veils and sun before the lens (vignetting, blur), then the sensor and its
    noise, then what is done to a finished picture (brightness, contrast, gamma, colours).

    Args:
        image: (C, H, W) float32 normalised; 0 where not valid, and afterwards too.
        valid: (H, W) bool.
        change: What is done.
        seed: Of the sample.
        gain: (C,) ``image * gain + offset`` lies in 0..1.
        offset: (C,).
        clip: Cut changed values at 0 and 1.
        colors: The bands that are red, green and blue.
    """
    bands = (len(image), 1, 1)
    scale = torch.tensor(gain, dtype=torch.float32).reshape(bands).to(image.device, non_blocking=True)
    zero = torch.tensor(offset, dtype=torch.float32).reshape(bands).to(image.device, non_blocking=True)
    light = (image * scale).add_(zero)  # faster than one addcmul
    _outdoors(light, change, seed)
    if change.blur_px:
        light = blurred(light, valid, change.blur_px)
    if change.sensor:
        _sensor(light, change.sensor, seed)
    if change.noise:
        light.add_(_normal(light, seed, _NOISE), alpha=change.noise)
    _developed(light, change, colors)
    if clip:
        light.clamp_(0.0, 1.0)
    torch.div(light.sub_(zero), scale, out=image)
    _clear(image, valid)


def _clear(image: Tensor, valid: Tensor) -> None:
    """0 where not valid, never minus zero."""
    if image.device.type != "cpu":
        image.masked_fill_(~valid, 0.0)
    elif not valid.numpy().all():
        np.copyto(image.numpy(), 0.0, where=~valid.numpy())  # a fifth of the time


# --- before the lens --------------------------------------------------------------------------------------------------


def _outdoors(light: Tensor, change: ImageChange, seed: int) -> None:
    height, width = light.shape[-2:]
    if change.shadow or change.vignette:
        factor = 1 - np.float32(change.shadow) * _shadow(height, width, seed)
        factor *= 1 - np.float32(change.vignette) * _corners(height, width)
        light.mul_(torch.from_numpy(factor).to(light.device))
    if change.haze:
        light.lerp_(torch.full_like(light, _VEIL), change.haze)
    if change.fog:
        share = torch.from_numpy(np.float32(change.fog) * _swathes(height, width, seed)).to(light.device)
        light.mul_(1 - share).add_(share, alpha=_VEIL)
    if change.flare:
        light.add_(torch.from_numpy(np.float32(change.flare) * _spot(height, width, seed)).to(light.device))


def _axes(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (H, 1) and columns (1, W), -1..1 along the longer side."""
    half = max(height, width) / 2
    rows = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / half
    cols = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / half
    return rows[:, None].astype(np.float32), cols[None, :].astype(np.float32)


def _shadow(height: int, width: int, seed: int) -> np.ndarray:
    """0..1: in shadow beyond a line, within a soft edge."""
    angle, place, softness = rng(seed, 0, 0, _SHADOW).random(3)
    rows, cols = _axes(height, width)
    distance = math.cos(2 * math.pi * angle) * cols + math.sin(2 * math.pi * angle) * rows + (1.2 * place - 0.6)
    return np.asarray(np.clip(distance / (0.02 + 0.2 * softness) + 0.5, 0, 1), np.float32)


def _corners(height: int, width: int) -> np.ndarray:
    rows, cols = _axes(height, width)
    square = rows**2 + cols**2
    return np.asarray(square / max(float(square.max()), 1e-6), np.float32)


def _swathes(height: int, width: int, seed: int) -> np.ndarray:
    coarse = rng(seed, 0, 0, _FOG).random((6, 6), dtype=np.float32)
    return np.asarray(np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1))


def _spot(height: int, width: int, seed: int) -> np.ndarray:
    row, col, radius = rng(seed, 0, 0, _FLARE).random(3)
    rows, cols = _axes(height, width)
    square = (rows - (2 * row - 1)) ** 2 + (cols - (2 * col - 1)) ** 2
    return np.asarray(np.exp(-square / (2 * (0.1 + 0.3 * radius) ** 2)), np.float32)


# --- lens and sensor --------------------------------------------------------------------------------------------------


def blurred(light: Tensor, valid: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of (C, H, W) that takes only pixels that count: others weigh nothing.

    Args:
        light: (C, H, W) float32; any finite value where not valid.
        valid: (H, W) bool.
        sigma_px: Standard deviation in pixels.
    """
    kernel = cv2.getGaussianKernel(2 * max(1, math.ceil(3 * sigma_px)) + 1, sigma_px, cv2.CV_32F)
    weight = valid.to(torch.float32)
    planes = torch.cat([light * weight, weight[None]])
    smooth = _convolved_cv2(planes, kernel) if light.device.type == "cpu" else _convolved(planes, kernel)
    return smooth[:-1] / smooth[-1].clamp_min(1e-6)


def _convolved_cv2(planes: Tensor, kernel: np.ndarray) -> Tensor:
    border = cv2.BORDER_CONSTANT
    return torch.from_numpy(
        np.stack([cv2.sepFilter2D(plane, cv2.CV_32F, kernel, kernel, borderType=border) for plane in planes.numpy()])
    )


def _convolved(planes: Tensor, kernel: np.ndarray) -> Tensor:
    """Sums of moved planes: a convolution could run at lower precision."""
    radius = len(kernel) // 2
    for dim in (-1, -2):
        pad = (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius)
        padded, length = torch.nn.functional.pad(planes, pad), planes.shape[dim]
        planes = torch.zeros_like(planes)
        for start, share in enumerate(kernel.ravel().tolist()):
            planes.add_(padded.narrow(dim, start, length), alpha=share)
    return planes


def _normal(like: Tensor, seed: int, stream: int) -> Tensor:
    """Normal random numbers; on the CPU each is one of 65,536 evenly likely ones, which takes half the time."""
    if like.device.type == "cpu":
        count = like.numel()
        drawn = rng(seed, 0, 0, stream).bit_generator.random_raw(-(-count // 4)).view(np.uint16)[:count]
        return torch.from_numpy(_quantiles().take(drawn, mode="clip").reshape(like.shape))
    generator = torch.Generator(like.device).manual_seed((seed + stream * 0x9E3779B97F4A7C15) % 2**63)
    return torch.randn(like.shape, generator=generator, device=like.device)


@cache
def _quantiles() -> np.ndarray:
    """(65536,) float32: the middles of as many evenly likely parts of the normal distribution."""
    return special.ndtri((np.arange(65536) + 0.5) / 65536).astype(np.float32)  # type: ignore[no-any-return]


def _sensor(light: Tensor, strength: float, seed: int) -> None:
    """Grain that grows with the root of the light, stripes between columns, dead and hot pixels."""
    height, width = light.shape[-2:]
    light.add_(_normal(light, seed, _GRAIN) * light.clamp(0.0, 1.0).sqrt(), alpha=_GRAIN_STD * strength)
    generator = rng(seed, 0, 0, _SENSOR)
    stripes = generator.standard_normal(width, dtype=np.float32) * np.float32(_STRIPE_STD * strength)
    light.add_(torch.from_numpy(stripes).to(light.device))
    dead = generator.integers(0, height * width, round(_DEAD_SHARE * strength * height * width))
    ends = np.unique(dead, return_index=True)
    values = generator.integers(0, 2, len(dead)).astype(np.float32)[ends[1]]
    places = torch.from_numpy(ends[0]).to(light.device)
    light.view(len(light), -1)[:, places] = torch.from_numpy(values).to(light.device)


# --- the finished picture ---------------------------------------------------------------------------------------------


def _developed(light: Tensor, change: ImageChange, colors: tuple[int, int, int] | None) -> None:
    if change.brightness or change.contrast:
        factor = 1 + change.contrast
        light.mul_(factor).add_(0.5 * (1 - factor) + change.brightness)
    if change.gamma != 1.0:
        light.clamp_min_(0.0).pow_(change.gamma)
    if change.value:
        light.add_(change.value)
    if colors is not None and (change.hue_deg or change.saturation):
        _recolored(light, color_matrix(change.hue_deg, change.saturation), colors)


def color_matrix(hue_deg: float, saturation: float) -> np.ndarray:
    """(3, 3) float64 that turns red, green and blue around the grey axis and moves them away from grey.

    Brightness as the eye sees it (0.299 R + 0.587 G + 0.114 B) and grey itself stay as they are.

    Args:
        hue_deg: Turn in degrees.
        saturation: 0 leaves colours alone, -1 makes them grey.
    """
    to_yiq = np.array([_LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)])
    cos, sin = math.cos(math.radians(hue_deg)), math.sin(math.radians(hue_deg))
    factor = 1 + saturation
    turn = np.array([[1, 0, 0], [0, factor * cos, -factor * sin], [0, factor * sin, factor * cos]])
    return np.asarray(np.linalg.inv(to_yiq) @ turn @ to_yiq)


def _recolored(light: Tensor, matrix: np.ndarray, colors: tuple[int, int, int]) -> None:
    red, green, blue = (light[band] for band in colors)
    rows = [red * float(row[0]) + green * float(row[1]) + blue * float(row[2]) for row in matrix]
    for band, row in zip(colors, rows, strict=True):
        light[band] = row
