"""Pictures of classes: colours, the image with what was found in it, masks and probabilities as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.errors import PredictionError
from maskwright.files import explain_os_error
from maskwright.pictures import RGB, draw_outlines, legend, overlay_mask
from maskwright.pixels import IGNORE_INDEX

__all__ = [
    "LIMIT_PX",
    "Sampler",
    "draw_overlay",
    "save_binary",
    "save_palette",
    "save_probability",
]

LIMIT_PX = 2400  # the overlay of a larger image is thinned out
_NOT_VALID: RGB = (200, 200, 200)


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
