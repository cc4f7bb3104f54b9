"""A picture of the map: shaded surface, gaps coloured by the lowest height that finds them, legend, scale bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from maskwright.data.sources.interface import Grid
from maskwright.data.targets import GAP
from maskwright.errors import PredictionError
from maskwright.files import explain_os_error
from maskwright.pictures import RGB, legend, overlay_heights, shade
from maskwright.pictures.colors import INK, PAPER
from maskwright.types import Window

__all__ = ["LIMIT_PX", "Thumbnail", "draw_quicklook", "scale_bar_m"]

LIMIT_PX = 1200  # a larger raster is thinned out
_LEAST_PX = 640  # a smaller one is enlarged
_MARGIN_PX = 14
_TITLE_PX = 18


class Thumbnail:
    """Every n-th row and column of a scene, gathered while its rows pass by.

    Args:
        height: Rows of the scene.
        width: Columns of the scene.
        limit_px: The longer side of the thumbnail has at most so many pixels.

    Attributes:
        factor: n.
        surface: (h, w) float32 metres, NaN where not measured.
        codes: (K, h, w) uint8 of 1 gap, 0 none, 255 not valid; None before any came by.
    """

    def __init__(self, height: int, width: int, limit_px: int = LIMIT_PX) -> None:
        self.factor, self._width = math.ceil(max(height, width) / limit_px), width
        self._first = tuple(min(self.factor // 2, length - 1) for length in (height, width))
        shape = tuple(
            len(range(first, length, self.factor)) for first, length in zip(self._first, (height, width), strict=True)
        )
        self.surface: npt.NDArray[np.float32] = np.full(shape, np.nan, np.float32)
        self.codes: npt.NDArray[np.uint8] | None = None

    def watching(
        self, read: Callable[[Window], npt.NDArray[np.float32]]
    ) -> Callable[[Window], npt.NDArray[np.float32]]:
        """The same reader of full-width windows; what it reads is sampled for ``surface``."""

        def watched(window: Window) -> npt.NDArray[np.float32]:
            heights = read(window)
            if window.width == self._width:  # others reach past the scene, for what is derived from neighbours
                self._sample(self.surface, window.row, heights)
            return heights

        return watched

    def add_mask(self, row: int, codes: npt.NDArray[np.uint8]) -> None:
        """Sample (K, h, width) codes whose first row is ``row``."""
        if self.codes is None:
            self.codes = np.full((len(codes), *self.surface.shape), 255, np.uint8)
        self._sample(self.codes, row, codes)

    def _sample(self, target: np.ndarray, row: int, rows: np.ndarray) -> None:
        first_row, first_col = self._first
        skip = (first_row - row) % self.factor
        sampled = rows[..., skip :: self.factor, first_col :: self.factor]
        first = (row + skip - first_row) // self.factor
        target[..., first : first + sampled.shape[-2], :] = sampled


def draw_quicklook(
    path: Path,
    thumbnail: Thumbnail,
    heights_m: Sequence[float],
    shares: Sequence[float | None],
    grid: Grid,
    *,
    title: str,
) -> None:
    """Draw the map as a PNG.

    Args:
        path: The file to write.
        thumbnail: Surface and masks, complete.
        heights_m: The heights in metres of the masks.
        shares: Share 0..1 of gap at each height, for the legend; None if unknown.
        grid: Where the scene lies.
        title: Line above the map.

    Raises:
        PredictionError: If the file cannot be written.
    """
    pixel_size_m = grid.pixel_size_m * thumbnail.factor
    codes = thumbnail.codes
    masks = np.zeros((len(heights_m), *thumbnail.surface.shape), np.bool_) if codes is None else codes == GAP
    rgb, colors = overlay_heights(shade(thumbnail.surface, pixel_size_m), masks)
    zoom = max(1, _LEAST_PX // max(rgb.shape[:2]))
    picture = Image.fromarray(rgb.repeat(zoom, axis=0).repeat(zoom, axis=1))
    named = [
        (f"below {height:g} m" + (f": {share:.1%}" if share is not None else ""), color)
        for height, share, color in zip(heights_m, shares, colors, strict=True)
    ]
    sheet = _sheet(picture, title, named, scale_bar_m(picture.width * pixel_size_m / zoom), pixel_size_m / zoom)
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise PredictionError(explain_os_error(error, path)) from error


def scale_bar_m(width_m: float) -> float:
    """A round length (1, 2 or 5 times a power of ten) of at most a quarter of ``width_m``."""
    power = 10.0 ** math.floor(math.log10(width_m / 4))
    return next(step * power for step in (5.0, 2.0, 1.0) if step * power <= width_m / 4 * (1 + 1e-9))


def _sheet(
    picture: Image.Image, title: str, named: Sequence[tuple[str, RGB]], bar_m: float, metres_per_px: float
) -> Image.Image:
    """Title, map, legend, scale bar, from top to bottom."""
    width = max(picture.width + 2 * _MARGIN_PX, _LEAST_PX // 2)
    key = legend(named, max_width_px=width)
    top = _MARGIN_PX + _TITLE_PX + _MARGIN_PX // 2
    bar_top = top + picture.height + _MARGIN_PX // 2 + key.height
    sheet = Image.new("RGB", (width, bar_top + 2 * _MARGIN_PX + _TITLE_PX), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TITLE_PX)
    draw.text((_MARGIN_PX, _MARGIN_PX // 2), title, fill=INK, font=font)
    sheet.paste(picture, (_MARGIN_PX, top))
    sheet.paste(key, (0, top + picture.height + _MARGIN_PX // 2))
    bar_px = round(bar_m / metres_per_px)
    draw.rectangle((_MARGIN_PX, bar_top + 6, _MARGIN_PX + bar_px, bar_top + 11), fill=INK)
    label = f"{bar_m / 1000:g} km" if bar_m >= 1000 else f"{bar_m:g} m"
    draw.text((_MARGIN_PX + bar_px + 10, bar_top - 2), label, fill=INK, font=font)
    return sheet
