"""All geometry of one sample in one resampling: OpenCV on the CPU, one grid_sample elsewhere.

Coordinates are x (columns) and y (rows) of pixel centres; a map tells for each pixel of the result where it comes from.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from maskwright.data.balance import rng
from maskwright.data.sampling import Draw, ImageChange

__all__ = ["displacement", "move_boxes", "move_points", "source_map", "warp_ids", "warp_sample"]

Sample = tuple[Tensor, Tensor, Tensor]

_ELASTIC, _BANDS = 0, 1  # streams of random numbers of a sample


def source_map(draw: Draw, height: int, width: int) -> np.ndarray:
    """(2, 3) float64: x, y of a pixel of the result to x, y of the pixel it comes from; mirror and turn included."""
    change = draw.image or ImageChange()
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    cos = math.cos(math.radians(draw.rotate_deg)) / draw.zoom
    sin = math.sin(math.radians(draw.rotate_deg)) / draw.zoom
    inner = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    moved = _translation(-middle_x - change.shift_cols * width, -middle_y - change.shift_rows * height)
    return np.asarray((_translation(middle_x, middle_y) @ _unturned(draw) @ inner @ moved)[:2])


def _unturned(draw: Draw) -> np.ndarray:
    """From centred x, y of the mirrored and turned tile to those of the tile as it was read."""
    turn = np.linalg.matrix_power(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), draw.turns % 4)
    mirror = np.diag([-1.0 if draw.flip_cols else 1.0, -1.0 if draw.flip_rows else 1.0, 1.0])
    return np.asarray(mirror @ turn)


def _translation(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def displacement(draw: Draw, height: int, width: int) -> np.ndarray | None:
    """(2, H, W) float32: pixels by which the place each pixel comes from is moved, x then y; None for none."""
    change = draw.image
    if change is None or not change.elastic_alpha_px:
        return None
    noise = rng(draw.seed, 0, 0, _ELASTIC).random((2, height, width), dtype=np.float32)
    noise = 2 * noise - 1
    sigma = change.elastic_sigma_px
    smooth = [cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101) for plane in noise]
    return np.asarray(np.stack(smooth) * np.float32(change.elastic_alpha_px), np.float32)


def move_boxes(boxes: np.ndarray, draw: Draw, size: tuple[int, int]) -> np.ndarray:
    """Boxes that follow their masks through mirror images, turns, rotation, zoom and shift.

    The box of a rotated object is the one around its rotated box; smooth displacements, a few pixels, are left out.

    Args:
        boxes: (N, 4) x0, y0, x1, y1 in pixels, edges: the first pixel reaches from 0 to 1.
        draw: What is done to the sample.
        size: Rows and columns of the tile.

    Returns:
        (N, 4) float32, cut at the tile; a box that left it has no area.
    """
    height, width = size
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    moved = _forward(boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]], draw, size)  # (N, 4, 2)
    limits = np.array([width, height], np.float64)
    low, high = np.clip(moved.min(axis=1), 0, limits), np.clip(moved.max(axis=1), 0, limits)
    return np.asarray(np.concatenate([low, high], axis=1).round(4), np.float32)


def move_points(points: np.ndarray, draw: Draw, size: tuple[int, int]) -> np.ndarray:
    """Points (N, 2) x, y that follow the image as boxes do; they may leave the tile. Float32."""
    return np.asarray(_forward(np.asarray(points, np.float64).reshape(-1, 2), draw, size).round(4), np.float32)


def _forward(points: np.ndarray, draw: Draw, size: tuple[int, int]) -> np.ndarray:
    """(..., 2) x, y before to x, y after; edges: the first pixel reaches from 0 to 1."""
    forward = np.linalg.inv(np.vstack([source_map(draw, *size), [0.0, 0.0, 1.0]]))
    return np.asarray((points - 0.5) @ forward[:2, :2].T + forward[:2, 2] + 0.5)


def warp_ids(ids: np.ndarray, draw: Draw) -> np.ndarray:
    """A map of ids (H, W) int32 below 2**24 through the map of its image, from the nearest pixel; 0 from outside."""
    height, width = ids.shape
    warp = _Cv2Warp(source_map(draw, height, width), displacement(draw, height, width), (height, width))
    return warp(ids.astype(np.float32), cv2.INTER_NEAREST, cv2.BORDER_CONSTANT).astype(np.int32)


def warp_sample(sample: Sample, draw: Draw, out: Sample) -> None:
    """One sample through its whole map: image (C, H, W) float32, target (H, W), valid (H, W), written to ``out``.

    The image is bilinear between pixels that count, target and valid come from the nearest pixel; what comes from
    outside does not count, and neither does a pixel one of whose displaced bands comes from where nothing counts.
    """
    image, target, valid = sample
    height, width = valid.shape
    affine = source_map(draw, height, width)
    field, shifts = displacement(draw, height, width), _band_shifts(draw, len(image))
    if image.device.type == "cpu":
        _warp_cv2(sample, affine, field, shifts, out)
        return
    for place, result in zip(out, _warp_grid(image, target, valid, affine, field, shifts), strict=True):
        place.copy_(result)


def _band_shifts(draw: Draw, bands: int) -> np.ndarray | None:
    """(C, 2) x, y in pixels by which the source of each band is moved; the first band stays with the mask."""
    if draw.image is None or not draw.image.band_shift_px or bands < 2:
        return None
    shifts = rng(draw.seed, 0, 0, _BANDS).uniform(-1, 1, (bands, 2)) * draw.image.band_shift_px
    shifts[0] = 0.0
    return np.asarray(shifts)


# --- on the CPU -------------------------------------------------------------------------------------------------------


class _Cv2Warp:
    """One map, applied to planes (H, W): affine where nothing is displaced, else by an explicit map."""

    def __init__(self, affine: np.ndarray, field: np.ndarray | None, size: tuple[int, int]) -> None:
        self._affine, self._size, self._map = affine, size, None
        if field is not None:
            self._map = _explicit(affine, field, *size)

    def __call__(
        self,
        plane: np.ndarray,
        way: int,
        border: int,
        outside: float = 0.0,
        shift: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        if self._map is not None:
            x, y = self._map if shift is None else self._map + shift.astype(np.float32)[:, None, None]
            return np.asarray(cv2.remap(plane, x, y, way, out, borderMode=border, borderValue=outside))
        affine = self._affine
        if shift is not None:
            affine = affine + np.array([[0, 0, shift[0]], [0, 0, shift[1]]])
        size = self._size[1], self._size[0]
        flags = way | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(plane, affine, size, out, flags, borderMode=border, borderValue=outside))


def _explicit(affine: np.ndarray, field: np.ndarray, height: int, width: int) -> np.ndarray:
    """(2, H, W) float32 x and y each pixel comes from."""
    x, y = np.arange(width, dtype=np.float64)[None, :], np.arange(height, dtype=np.float64)[:, None]
    planes = [affine[axis, 0] * x + affine[axis, 1] * y + affine[axis, 2] for axis in range(2)]
    return np.asarray(np.stack(planes) + field, np.float32)


def _warp_cv2(
    sample: Sample, affine: np.ndarray, field: np.ndarray | None, shifts: np.ndarray | None, out: Sample
) -> None:
    image, target, counted = (values.numpy() for values in sample)
    planes, out_target, out_valid = (values.numpy() for values in out)
    warp = _Cv2Warp(affine, field, (counted.shape[0], counted.shape[1]))
    whole = bool(counted.all())
    nearest = _nearest(target, counted, whole, warp)
    np.equal(nearest, nearest, out=out_valid)  # NaN where nothing counts
    weight = None if whole else counted.astype(np.float32)
    border = cv2.BORDER_REPLICATE if whole else cv2.BORDER_CONSTANT
    shared = warp(weight, cv2.INTER_LINEAR, border) if weight is not None else None
    for band, plane in enumerate(image):
        shift = None if shifts is None else shifts[band]
        planes[band] = warp(plane, cv2.INTER_LINEAR, border, shift=shift, out=planes[band])
        measured = shared if shift is None or weight is None else warp(weight, cv2.INTER_LINEAR, border, shift=shift)
        if measured is not None:
            out_valid &= measured > 1e-6
            planes[band] /= np.maximum(measured, np.float32(1e-6))
    if not out_valid.all():
        outside = ~out_valid
        np.copyto(planes, 0.0, where=outside)
        np.copyto(nearest, 0.0, where=outside)
    out_target[...] = nearest


def _nearest(target: np.ndarray, counted: np.ndarray, whole: bool, warp: _Cv2Warp) -> np.ndarray:
    """The target as float32, exact for class ids and sets of labels; NaN where nothing counts."""
    plane = target.astype(np.float32, copy=not whole)
    if not whole:
        np.copyto(plane, np.nan, where=~counted)
    return warp(plane, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, math.nan)


# --- on other devices -------------------------------------------------------------------------------------------------


def _warp_grid(
    image: Tensor,
    target: Tensor,
    valid: Tensor,
    affine: np.ndarray,
    field: np.ndarray | None,
    shifts: np.ndarray | None,
) -> tuple[Tensor, Tensor, Tensor]:
    device, (height, width) = image.device, valid.shape
    source = _source_on(affine, field, height, width, device)
    nearest = _sampled(torch.stack([target.to(torch.float32), valid.to(torch.float32)]), source, "nearest")
    out_valid = nearest[1] > 0.5
    weighted = torch.cat([image, valid[None].to(image.dtype)])
    if shifts is None:
        smooth = _sampled(weighted, source, "bilinear")
        measured, planes = smooth[-1:], smooth[:-1]
    else:
        moves = torch.from_numpy(shifts.astype(np.float32)).to(device)
        pairs = [
            _sampled(torch.stack([band, weighted[-1]]), source + move[:, None, None], "bilinear")
            for band, move in zip(image, moves, strict=True)
        ]
        planes, measured = torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])
    out_valid = out_valid & (measured > 1e-6).all(dim=0)
    planes = torch.where(out_valid, planes / measured.clamp_min(1e-6), 0.0)
    return planes, torch.where(out_valid, nearest[0], 0.0).to(target.dtype), out_valid  # whole numbers stay exact


def _source_on(affine: np.ndarray, field: np.ndarray | None, height: int, width: int, device: torch.device) -> Tensor:
    """(2, H, W) x and y each pixel comes from, written out term by term: a product could run at lower precision."""
    x = torch.arange(width, device=device, dtype=torch.float32)[None, :]
    y = torch.arange(height, device=device, dtype=torch.float32)[:, None]
    rows = [[float(value) for value in row] for row in affine]
    source = torch.stack([row[0] * x + row[1] * y + row[2] for row in rows])
    return source if field is None else source + torch.from_numpy(field).to(device)


def _sampled(planes: Tensor, source: Tensor, way: str) -> Tensor:
    height, width = planes.shape[-2:]
    grid = torch.stack([(2 * source[0] + 1) / width - 1, (2 * source[1] + 1) / height - 1], dim=-1)
    return F.grid_sample(planes[None], grid[None], mode=way, padding_mode="zeros", align_corners=False)[0]
