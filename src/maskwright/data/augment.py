"""Random changes of a training batch, on the device it lies on: image, target and valid together.

What happens to a sample depends on its own draw alone, bit for bit: never on its neighbours in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from maskwright.data.context import rotate_aspect
from maskwright.data.sampling import Draw
from maskwright.data.terrain import tile_terrain
from maskwright.errors import DataError, ShapeError
from maskwright.types import Batch

__all__ = ["augment", "oriented"]


def augment(
    batch: Batch,
    draws: Sequence[Draw],
    *,
    pixel_size_m: Sequence[float] = (),
    scale_m: float | None = None,
    surface_bands: Sequence[int] = (),
    aspect_bands: tuple[int, int] | None = None,
) -> Batch:
    """Change every sample as its draw says.

    A clearing lowers the canopy in the target, and every band of the image with it. Mirror images and quarter turns are
    exact. A free rotation and zoom is one resampling: the image bilinear between
    pixels that count, target and valid from the nearest pixel; what comes from outside does not count. Noise, shift and
    terrain are added to the surface bands of the image alone. Pixels that do not count stay exactly 0.

    Args:
        batch: image (B, C, H, W) float, target (B, H, W), valid (B, H, W) bool; image and target 0 where not valid.
            Its tensors may be reused for the result.
        draws: One for each sample.
        pixel_size_m: Side of a pixel of each sample, in metres; needed for terrain.
        scale_m: The metres that 1.0 in the image stands for; needed for noise, shift and terrain.
        surface_bands: Bands of the image that hold the surface.
        aspect_bands: Bands that hold the parts to the right and to the top of the direction downhill, which turn with
            the image; None for none.

    Returns:
        The changed batch, on the same device.

    Raises:
        ShapeError: If draws and samples differ in number, or tiles to be turned are not square.
        DataError: If metres are to be added and ``scale_m`` or ``surface_bands`` are missing.
    """
    _check(batch, draws, scale_m, surface_bands)
    image, target, valid = _oriented(batch, draws)
    for index, draw in enumerate(draws):
        if draw.is_warped:
            _warp(image[index], target[index], valid[index], draw)
        if aspect_bands is not None:
            _turn_aspect(image[index], draw, aspect_bands)
        if draw.clear_share > 0.0:
            _clear(
                image[index], target[index], draw, pixel_size_m[index] if pixel_size_m else 1.0, float(scale_m or 1.0)
            )
        if _adds_metres(draw):
            added = _field(draw, valid[index], pixel_size_m[index] if pixel_size_m else 1.0) / float(scale_m or 1.0)
            for band in surface_bands:
                image[index, band] += added
    return replace(batch, image=image, target=target, valid=valid)


def _check(batch: Batch, draws: Sequence[Draw], scale_m: float | None, surface_bands: Sequence[int]) -> None:
    height, width = batch.image.shape[-2:]
    if len(draws) != len(batch):
        raise ShapeError(f"{len(draws)} draws were given for a batch of {len(batch)} samples; one for each is needed.")
    if height != width and any(draw.turns % 2 for draw in draws):
        raise ShapeError(f"Tiles of {height} x {width} px cannot be turned by 90 degrees; use square tiles.")
    if any(_adds_metres(draw) for draw in draws) and (scale_m is None or not surface_bands):
        raise DataError(
            "Noise, shift and terrain are metres added to a surface, and this input has no surface in metres. Set "
            "data.augment.noise_m, shift_m and terrain_p to 0, or use data.input: dsm with data.normalise.kind: metres."
        )
    if scale_m is None and any(draw.clear_share > 0.0 for draw in draws):
        raise DataError(
            "A clearing lowers heights in metres, and this input has none. Set data.augment.clearing_p to 0, or use "
            "data.normalise.kind: metres."
        )


# --- mirror images and quarter turns ----------------------------------------------------------------------------------


def _oriented(batch: Batch, draws: Sequence[Draw]) -> tuple[Tensor, Tensor, Tensor]:
    orientations = [_orientation(draw) for draw in draws]
    if not any(any(orientation) for orientation in orientations):
        return batch.image, batch.target, batch.valid
    turned = [torch.empty_like(values) for values in (batch.image, batch.target, batch.valid)]
    for values, out in zip((batch.image, batch.target, batch.valid), turned, strict=True):
        for index, draw in enumerate(draws):
            out[index].copy_(oriented(values[index], draw))
    return turned[0], turned[1], turned[2]


def oriented(values: Tensor, draw: Draw) -> Tensor:
    """One sample (..., H, W) mirrored and turned as its draw says: exact, without a resampling."""
    exchange, rows, cols = _orientation(draw)
    sample = values.transpose(-2, -1) if exchange else values
    dims = [dim for dim, mirrored in ((-2, rows), (-1, cols)) if mirrored]
    return sample.flip(dims) if dims else sample


def _orientation(draw: Draw) -> tuple[bool, bool, bool]:
    """The one of eight orientations that mirror images and turns make: exchange axes, mirror rows, mirror columns."""
    rows, cols = draw.flip_rows, draw.flip_cols
    if draw.turns % 4 >= 2:  # half a turn
        rows, cols = not rows, not cols
    if draw.turns % 2 == 0:
        return False, rows, cols
    return True, not cols, rows  # a quarter turn counterclockwise: exchange rows and columns, then mirror rows


# --- free rotation and zoom -------------------------------------------------------------------------------------------


def _warp(image: Tensor, target: Tensor, valid: Tensor, draw: Draw) -> None:
    """Rotate and zoom one sample in place: image (C, H, W), target (H, W), valid (H, W)."""
    grid = _source_grid(draw, *valid.shape, device=image.device)
    weight = valid[None].to(image.dtype)
    smooth = F.grid_sample(torch.cat([image, weight])[None], grid, mode="bilinear", align_corners=False)[0]
    nearest = F.grid_sample(
        torch.stack([target.to(image.dtype), weight[0]])[None], grid, mode="nearest", align_corners=False
    )[0]
    valid.copy_(nearest[1] > 0.5)
    measured = smooth[-1].clamp_min(1e-6)  # the share of the four neighbours that count; the rest adds nothing
    image.copy_(torch.where(valid, smooth[:-1] / measured, 0.0))
    target.copy_(torch.where(valid, nearest[0], 0.0))


def _source_grid(draw: Draw, height: int, width: int, *, device: torch.device) -> Tensor:
    """(1, H, W, 2) where each pixel comes from, x and y in -1..1 from edge to edge.

    Written out term by term: a matrix product could run at lower precision on some devices.
    """
    x = torch.arange(width, device=device, dtype=torch.float32) - (width - 1) / 2
    y = torch.arange(height, device=device, dtype=torch.float32) - (height - 1) / 2
    cos = math.cos(math.radians(draw.rotate_deg)) / draw.zoom
    sin = math.sin(math.radians(draw.rotate_deg)) / draw.zoom
    from_x = cos * x[None, :] - sin * y[:, None]
    from_y = sin * x[None, :] + cos * y[:, None]
    return torch.stack([from_x * (2 / width), from_y * (2 / height)], dim=-1)[None]


def _turn_aspect(image: Tensor, draw: Draw, bands: tuple[int, int]) -> None:
    """Turn the direction downhill of one sample (C, H, W) in place, as its pixels were turned."""
    rotate_aspect(image, draw, bands)
    if draw.rotate_deg:
        cos, sin = math.cos(math.radians(draw.rotate_deg)), math.sin(math.radians(draw.rotate_deg))
        right, top = image[bands[0]].clone(), image[bands[1]].clone()
        image[bands[0]] = cos * right - sin * top
        image[bands[1]] = sin * right + cos * top


# --- clearings --------------------------------------------------------------------------------------------------------


def _clear(image: Tensor, target: Tensor, draw: Draw, pixel_size_m: float, scale_m: float) -> None:
    """Lower the canopy of part of one sample in place: image (C, H, W), target (H, W) metres, both 0 where not valid.

    Surface and canopy height sink by the same metres, so one number serves all bands. Where nothing is valid the target
    is 0 already and nothing sinks.
    """
    size = max(target.shape)
    generator = np.random.Generator(np.random.Philox(key=draw.seed, counter=[0, 0, 0, 1]))  # apart from the terrain's
    hills = tile_terrain(generator, size, pixel_size_m, 1.0, size * pixel_size_m / 2)
    part = hills[: target.shape[0], : target.shape[1]]
    cleared = torch.from_numpy(part <= np.quantile(part, draw.clear_share)).to(target.device)
    sinks_m = torch.where(cleared, (target - draw.regrowth_m).clamp_min(0.0), 0.0)
    target -= sinks_m
    image -= sinks_m / scale_m


# --- metres added to the surface --------------------------------------------------------------------------------------


def _adds_metres(draw: Draw) -> bool:
    return draw.shift_m != 0.0 or draw.noise_m > 0.0 or draw.terrain_m > 0.0


def _field(draw: Draw, valid: Tensor, pixel_size_m: float) -> Tensor:
    """(H, W) float32 metres to add, 0 where not valid."""
    total = torch.full(valid.shape, draw.shift_m, device=valid.device)
    if draw.noise_m > 0.0:
        generator = torch.Generator(valid.device).manual_seed(draw.seed)
        total += draw.noise_m * torch.randn(valid.shape, generator=generator, device=valid.device)
    if draw.terrain_m > 0.0:
        generator_np = np.random.Generator(np.random.Philox(key=draw.seed))
        hills = tile_terrain(generator_np, max(valid.shape), pixel_size_m, draw.terrain_m, draw.terrain_wavelength_m)
        total += torch.from_numpy(hills[: valid.shape[0], : valid.shape[1]]).to(valid.device)
    return torch.where(valid, total, 0.0)
