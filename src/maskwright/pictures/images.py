"""Pictures of rasters: relief, masks painted over it, outlines, sheets of panels with titles, legends.

An image is (H, W, 3) uint8 until it becomes a sheet; sheets and legends are PIL images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ShapeError
from maskwright.pictures.colors import INK, MUTED, PAPER, RGB, height_colors

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = [
    "contact_sheet",
    "downsample",
    "draw_outlines",
    "legend",
    "outlines",
    "overlay_heights",
    "overlay_mask",
    "shade",
    "stretched",
]

Rgb = NDArray[np.uint8]

_RELIEF: tuple[RGB, ...] = ((62, 74, 82), (124, 136, 132), (190, 192, 180), (240, 238, 228))
_NOT_MEASURED: RGB = (246, 245, 242)
_UNCOUNTED: RGB = (200, 200, 200)
_SUN = np.array([-0.5, -0.5, math.sqrt(0.5)], dtype=np.float32)  # from the north-west, 45 degrees high
_MARGIN_PX = 14
_TITLE_PX = 15


def shade(heights: NDArray[np.floating[Any]], pixel_size_m: float = 1.0) -> Rgb:
    """A calm grey relief: dark where low, lit from the north-west, nearly white where not measured.

    Steep ground, as the tops of trees are, is flattened until a fifth of it is steeper than 45 degrees; the picture
    is for looking, not for measuring.

    Args:
        heights: (H, W) metres, NaN where not measured.
        pixel_size_m: Metres per pixel.

    Returns:
        (H, W, 3) uint8.
    """
    if heights.ndim != 2:
        raise ShapeError(f"Heights to shade are (H, W); these have shape {heights.shape}.")
    known = np.isfinite(heights)
    if not known.any():
        return np.full((*heights.shape, 3), _NOT_MEASURED, dtype=np.uint8)
    values = np.where(known, heights, np.nan).astype(np.float32)
    low, high = np.nanpercentile(values, (2, 98))
    level = np.clip((values - low) / max(float(high - low), 1e-6), 0, 1)
    stops = np.linspace(0, 1, len(_RELIEF))
    tint = np.stack([np.interp(level, stops, [color[band] for color in _RELIEF]) for band in range(3)], axis=-1)
    lit = tint * (0.55 + 0.6 * _light(values, pixel_size_m))[..., None]
    lit[~known] = _NOT_MEASURED
    relief: Rgb = np.clip(lit + 0.5, 0, 255).astype(np.uint8)
    return relief


def downsample(values: NDArray[Any], max_side_px: int) -> tuple[NDArray[Any], int]:
    """Shrink a raster for a picture by averaging square blocks.

    Args:
        values: (H, W) or (H, W, C). NaN takes no part in an average; a bool block is True if at least half of it is.
        max_side_px: The longer side of the result is at most this.

    Returns:
        The smaller raster, of the same type, and how many pixels one of its pixels stands for, along a side.
    """
    height, width = values.shape[:2]
    step = max(1, math.ceil(max(height, width) / max_side_px))
    if step == 1:
        return values, 1
    numbers = values.astype(np.float32)
    known = np.isfinite(numbers)
    starts = np.arange(0, height, step), np.arange(0, width, step)
    total = _block_sums(np.where(known, numbers, 0), starts)
    count = _block_sums(known.astype(np.float32), starts)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    if values.dtype == np.bool_:
        return mean >= 0.5, step
    if np.issubdtype(values.dtype, np.integer):
        mean = np.rint(mean)
    return mean.astype(values.dtype), step


def stretched(values: NDArray[Any], valid: NDArray[np.bool_]) -> Rgb:
    """(H, W, 3) to look at: the first three bands as red, green, blue, or the first as grey.

    Bytes stay as they are; other types are stretched between their percentiles 2 and 98. Not valid pixels are grey.
    """
    bands = values[:3] if len(values) >= 3 else np.repeat(values[:1], 3, axis=0)
    if bands.dtype != np.uint8:
        counted = bands[:, valid]
        low, high = np.percentile(counted, (2, 98)) if counted.size else (0.0, 1.0)
        bands = np.clip((bands.astype(np.float32) - low) / max(float(high - low), 1e-12) * 255 + 0.5, 0, 255)
    rgb: Rgb = np.ascontiguousarray(bands.transpose(1, 2, 0), np.uint8).copy()
    rgb[~valid] = _UNCOUNTED
    return rgb


def overlay_mask(rgb: Rgb, mask: NDArray[np.bool_], color: RGB, alpha: float = 0.5) -> Rgb:
    """Paint a mask over an image.

    Args:
        rgb: (H, W, 3) uint8.
        mask: (H, W) bool.
        color: Paint.
        alpha: 0 shows the image alone, 1 the paint alone.
    """
    if rgb.shape[:2] != mask.shape:
        raise ShapeError(f"A mask {mask.shape} does not cover an image {rgb.shape[:2]}; cut both from the same window.")
    painted = rgb.copy()
    painted[mask] = np.rint(rgb[mask] * (1 - alpha) + np.array(color) * alpha).astype(np.uint8)
    return painted


def outlines(mask: NDArray[np.bool_], width_px: int = 1) -> NDArray[np.bool_]:
    """The rim of a mask, inside it; the edge of the raster is no rim."""
    inner = mask
    for _ in range(width_px):
        padded = np.pad(inner, 1, constant_values=True)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def draw_outlines(rgb: Rgb, mask: NDArray[np.bool_], color: RGB, width_px: int = 1) -> Rgb:
    """Draw the rim of a mask onto an image (H, W, 3) uint8."""
    return overlay_mask(rgb, outlines(mask, width_px), color, alpha=1.0)


def overlay_heights(
    rgb: Rgb, masks: NDArray[np.bool_], *, alpha: float = 0.45, outline_px: int = 1
) -> tuple[Rgb, list[RGB]]:
    """Paint gaps at several heights, the lowest on top and darkest.

    Args:
        rgb: (H, W, 3) uint8.
        masks: (K, H, W) bool, heights ascending.
        alpha: Strength of the paint.
        outline_px: Width of the rims; 0 for none.

    Returns:
        The image and the colour of each height, for the legend.
    """
    colors = height_colors(len(masks))
    covered = np.zeros(rgb.shape[:2], dtype=np.bool_)
    painted = rgb
    for mask, color in zip(masks, colors, strict=True):
        painted = overlay_mask(painted, mask & ~covered, color, alpha)
        covered |= mask
    if outline_px:
        for mask, color in zip(masks[::-1], colors[::-1], strict=True):
            painted = draw_outlines(painted, mask, color, outline_px)
    return painted, colors


def contact_sheet(
    panels: Sequence[tuple[str, NDArray[np.uint8]]],
    *,
    columns: int | None = None,
    panel_px: int = 320,
    title: str = "",
    entries: Sequence[tuple[str, RGB]] = (),
) -> Image:
    """Pictures side by side, each with its title.

    Args:
        panels: (title, (H, W, 3) uint8) pairs, row by row.
        columns: Panels in a row; unset: about a square, at most four.
        panel_px: Longer side of each panel on the sheet.
        title: Line above all.
        entries: (label, colour) pairs of a legend below all.

    Returns:
        The sheet; ``info["panels"]`` holds (left, top, right, bottom) of each panel on it, in pixels.
    """
    import PIL.Image
    import PIL.ImageDraw

    if not panels:
        raise ShapeError("A contact sheet needs at least one picture.")
    columns = min(len(panels), columns or min(4, math.ceil(math.sqrt(len(panels)))))
    images = [_fitted(rgb, panel_px) for _, rgb in panels]
    rows = math.ceil(len(panels) / columns)
    cell_width = max(image.width for image in images)
    heights = [max(image.height for image in images[r * columns : (r + 1) * columns]) for r in range(rows)]
    head = _TITLE_PX + 22 if title else 0
    key = legend(entries, max_width_px=_MARGIN_PX + columns * (cell_width + _MARGIN_PX)) if entries else None
    width = _MARGIN_PX + columns * (cell_width + _MARGIN_PX)
    height = head + _MARGIN_PX + sum(h + _TITLE_PX + 6 + _MARGIN_PX for h in heights) + (key.height if key else 0)
    sheet = PIL.Image.new("RGB", (width, height), PAPER)
    draw = PIL.ImageDraw.Draw(sheet)
    if title:
        draw.text((_MARGIN_PX, _MARGIN_PX), _shortened(title, width - 2 * _MARGIN_PX, 18), fill=INK, font=_font(18))
    top = head + _MARGIN_PX
    boxes = []
    for index, ((name, _), image) in enumerate(zip(panels, images, strict=True)):
        row, column = divmod(index, columns)
        left = _MARGIN_PX + column * (cell_width + _MARGIN_PX)
        y = top + sum(h + _TITLE_PX + 6 + _MARGIN_PX for h in heights[:row])
        draw.text((left, y), _shortened(name, cell_width, _TITLE_PX - 1), fill=INK, font=_font(_TITLE_PX - 1))
        y += _TITLE_PX + 6
        sheet.paste(image, (left, y))
        boxes.append((left, y, left + image.width, y + image.height))
    if key is not None:
        sheet.paste(key, (0, height - key.height))
    sheet.info["panels"] = boxes
    return sheet


def legend(entries: Sequence[tuple[str, RGB]], *, max_width_px: int = 960) -> Image:
    """Coloured squares with labels, wrapped to as many lines as are needed."""
    import PIL.Image
    import PIL.ImageDraw

    font, line_px, x, y = _font(14), 24, _MARGIN_PX, 6
    spots = []
    for label, color in entries:
        wide = 16 + 8 + math.ceil(font.getlength(label)) + 22
        if x + wide > max_width_px and x > _MARGIN_PX:
            x, y = _MARGIN_PX, y + line_px
        spots.append((x, y, label, color))
        x += wide
    image = PIL.Image.new("RGB", (max_width_px, y + line_px + 8), PAPER)
    draw = PIL.ImageDraw.Draw(image)
    for left, top, label, color in spots:
        draw.rectangle((left, top + 1, left + 15, top + 16), fill=color, outline=MUTED)
        draw.text((left + 24, top), label, fill=INK, font=font)
    return image


def _light(values: NDArray[np.float32], pixel_size_m: float) -> NDArray[np.float32]:
    """How much light each pixel gets, 0..1."""
    if min(values.shape) < 2:
        return np.full(values.shape, 0.75, dtype=np.float32)
    down, right = (np.nan_to_num(slope, nan=0.0) for slope in np.gradient(values, pixel_size_m))
    steep = float(np.percentile(np.hypot(down, right), 80))
    flatten = 1 / steep if steep > 1 else 1.0
    right, down = right * flatten, down * flatten
    light = -right * _SUN[0] - down * _SUN[1] + _SUN[2]
    shown: NDArray[np.float32] = np.clip(light / np.sqrt(right**2 + down**2 + 1), 0, 1).astype(np.float32)
    return shown


def _block_sums(values: NDArray[np.float32], starts: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[np.float32]:
    rows = np.add.reduceat(values, starts[0], axis=0)
    sums: NDArray[np.float32] = np.add.reduceat(rows, starts[1], axis=1)
    return sums


def _fitted(rgb: NDArray[np.uint8], panel_px: int) -> Image:
    import PIL.Image

    image = PIL.Image.fromarray(np.ascontiguousarray(rgb))
    scale = panel_px / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    way = PIL.Image.Resampling.NEAREST if scale >= 1 else PIL.Image.Resampling.BOX  # never invent pixels
    return image.resize(size, way)


def _font(size_px: int) -> FreeTypeFont | ImageFont:
    import PIL.ImageFont

    return PIL.ImageFont.load_default(size_px)


def _shortened(text: str, width_px: int, size_px: int) -> str:
    font = _font(size_px)
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "...") > width_px:
        text = text[:-1]
    return text + "..."
