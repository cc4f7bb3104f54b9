"""Pictures of classes: colours, the image with what was found in it, masks and probabilities as PNG."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.errors import PredictionError
from maskwright.files import explain_os_error
from maskwright.pictures import RGB, draw_outlines, legend, overlay_mask
from maskwright.pictures.colors import CATEGORICAL
from maskwright.pixels import IGNORE_INDEX

__all__ = [
    "LIMIT_PX",
    "Sampler",
    "class_colors",
    "draw_overlay",
    "save_binary",
    "save_palette",
    "save_probability",
    "stretched",
]

LIMIT_PX = 2400  # the overlay of a larger image is thinned out
_NOT_VALID: RGB = (200, 200, 200)


def class_colors(count: int, *, has_background: bool) -> list[RGB]:
    """A colour for each class; the background, class 0, is black."""
    found = count - has_background
    colors = [
        CATEGORICAL[i % len(CATEGORICAL)]
        if found <= len(CATEGORICAL)
        else _bytes(colorsys.hsv_to_rgb(i * 0.618034 % 1.0, 0.55 + 0.15 * (i % 3), 0.9 - 0.2 * (i // 3 % 2)))
        for i in range(found)
    ]
    return [(0, 0, 0), *colors] if has_background else colors


def _bytes(color: tuple[float, float, float]) -> RGB:
    red, green, blue = (round(255 * part) for part in color)
    return red, green, blue


class Sampler:
    """Every n-th row and column of planes whose rows pass by from top to bottom.

    Args:
        height: Rows of the scene.
        width: Columns of the scene.
        limit_px: The longer side of what is kept has at most so many pixels.

    Attributes:
        factor: n.
    """

    def __init__(self, height: int, width: int, limit_px: int = LIMIT_PX) -> None:
        self.factor = -(-max(height, width) // limit_px)
        self._parts: list[npt.NDArray[Any]] = []

    def add(self, row: int, values: npt.NDArray[Any]) -> None:
        """Keep what is to be kept of (..., h, width) whose first row is ``row``."""
        self._parts.append(values[..., -row % self.factor :: self.factor, :: self.factor].copy())

    def result(self) -> npt.NDArray[Any]:
        """(..., h, w) of all rows."""
        return np.concatenate(self._parts, axis=-2)


def stretched(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) to look at: the first three bands as red, green, blue, or the first as grey.

    Bytes stay as they are; other types are stretched between their percentiles 2 and 98. Not valid pixels are grey.
    """
    bands = values[:3] if len(values) >= 3 else np.repeat(values[:1], 3, axis=0)
    if bands.dtype != np.uint8:
        counted = bands[:, valid]
        low, high = np.percentile(counted, (2, 98)) if counted.size else (0.0, 1.0)
        bands = np.clip((bands.astype(np.float32) - low) / max(float(high - low), 1e-12) * 255 + 0.5, 0, 255)
    rgb: npt.NDArray[np.uint8] = np.ascontiguousarray(bands.transpose(1, 2, 0), np.uint8).copy()
    rgb[~valid] = _NOT_VALID
    return rgb


def draw_overlay(
    path: Path,
    rgb: npt.NDArray[np.uint8],
    masks: Sequence[tuple[str, npt.NDArray[np.bool_], RGB]],
    *,
    alpha: float = 0.4,
) -> None:
    """The image with translucent colours and outlines, and a legend below.

    Args:
        path: PNG to write.
        rgb: (H, W, 3).
        masks: Label for the legend, (H, W) bool, colour.
        alpha: Strength of the paint.

    Raises:
        PredictionError: If the file cannot be written.
    """
    painted = rgb
    for _, mask, color in masks:
        painted = draw_outlines(overlay_mask(painted, mask, color, alpha), mask, color)
    picture = Image.fromarray(painted)
    key = legend([(label, color) for label, _, color in masks], max_width_px=max(picture.width, 320))
    sheet = Image.new("RGB", (key.width, picture.height + key.height), (255, 255, 255))
    sheet.paste(picture, (0, 0))
    sheet.paste(key, (0, picture.height))
    _save(sheet, path)


def save_binary(path: Path, plane: npt.NDArray[np.uint8]) -> None:
    """A plane of 0 and 1 as PNG of 0 and 255; pixels that are not valid are 0."""
    _save(Image.fromarray(np.where(plane == 1, np.uint8(255), np.uint8(0))), path)


def save_palette(path: Path, plane: npt.NDArray[np.uint8], colors: Sequence[RGB]) -> None:
    """Class ids as an 8-bit PNG with a palette; 255 is not valid."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    table[IGNORE_INDEX] = _NOT_VALID
    image = Image.fromarray(plane)
    image.putpalette(table.tobytes())
    _save(image, path)


def save_probability(path: Path, plane: npt.NDArray[np.float32]) -> None:
    """Probabilities as 8-bit PNG (255 is 1, not valid is 0), or as float32 TIFF (not valid is NaN), by the ending."""
    if path.suffix == ".png":
        _save(Image.fromarray(np.rint(np.nan_to_num(plane, nan=0.0) * 255).astype(np.uint8)), path)
    else:
        _save(Image.fromarray(plane), path)


def _save(image: Image.Image, path: Path) -> None:
    try:
        image.save(path)
    except OSError as error:
        raise PredictionError(explain_os_error(error, path)) from error
