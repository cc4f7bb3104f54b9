"""What augmentation does to samples, for people to look at: before, after, and the record of every change below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ShapeError
from maskwright.pictures.colors import INK, PAPER, RGB
from maskwright.pictures.images import draw_outlines

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["AugmentedSample", "augmented_sheet"]

_MARGIN_PX = 14
_FONT_PX = 13
_LINE_PX = 17
_RIM: RGB = (230, 60, 40)
_OUTSIDE: RGB = (246, 245, 242)


@dataclass(frozen=True, eq=False)
class AugmentedSample:
    """One sample before and after its random changes.

    Attributes:
        before: (H, W, 3) uint8.
        after: (H, W, 3) uint8.
        mask_before: (H, W) bool or class ids; the rim of what is not 0 is drawn.
        mask_after: The same of the changed sample.
        valid_after: (H, W) bool; what does not count is painted over.
        text: What was done, printed below.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    mask_before: NDArray[Any]
    mask_after: NDArray[Any]
    valid_after: NDArray[np.bool_]
    text: str


def augmented_sheet(
    samples: Sequence[AugmentedSample], *, columns: int = 3, panel_px: int = 224, title: str = ""
) -> Image:
    """Samples side by side: each as it was, beside it as it became, below both what was done to it.

    Args:
        samples: At least one.
        columns: Samples in a row.
        panel_px: Longer side of each picture on the sheet.
        title: Line above all.

    Raises:
        ShapeError: If there is no sample, or the parts of a sample differ in size.
    """
    import PIL.Image
    import PIL.ImageDraw

    if not samples:
        raise ShapeError("A sheet of changed samples needs at least one.")
    columns = min(columns, len(samples))
    cell_px = 2 * panel_px + 4
    texts = [_wrapped(sample.text, cell_px) for sample in samples]
    rows = [texts[first : first + columns] for first in range(0, len(samples), columns)]
    heights = [panel_px + 6 + _LINE_PX * max(len(lines) for lines in row) + _MARGIN_PX for row in rows]
    head = _MARGIN_PX + (_LINE_PX + 6 if title else 0)
    size = _MARGIN_PX + columns * (cell_px + _MARGIN_PX), head + sum(heights)
    sheet = PIL.Image.new("RGB", size, PAPER)
    pen = PIL.ImageDraw.Draw(sheet)
    if title:
        pen.text((_MARGIN_PX, _MARGIN_PX - 4), title, fill=INK, font=_font())
    for index, sample in enumerate(samples):
        row, column = divmod(index, columns)
        left, top = _MARGIN_PX + column * (cell_px + _MARGIN_PX), head + sum(heights[:row])
        for place, picture in enumerate(_pictures(sample, panel_px)):
            sheet.paste(picture, (left + place * (panel_px + 4), top))
        pen.multiline_text((left, top + panel_px + 6), "\n".join(texts[index]), fill=INK, font=_font(), spacing=4)
    return sheet


def _pictures(sample: AugmentedSample, panel_px: int) -> list[Image]:
    import PIL.Image

    pictures = []
    for rgb, mask in ((sample.before, sample.mask_before), (sample.after, sample.mask_after)):
        if rgb.shape[:2] != mask.shape or sample.valid_after.shape != sample.after.shape[:2]:
            raise ShapeError(f"Image {rgb.shape[:2]} and mask {mask.shape} of a changed sample differ in size.")
        shown = rgb
        if rgb is sample.after and not sample.valid_after.all():
            shown = np.where(sample.valid_after[..., None], rgb, np.array(_OUTSIDE, np.uint8))
        image = PIL.Image.fromarray(np.ascontiguousarray(draw_outlines(shown, _regions(mask), _RIM)))
        scale = panel_px / max(image.size)
        way = PIL.Image.Resampling.NEAREST if scale >= 1 else PIL.Image.Resampling.BOX
        pictures.append(image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), way))
    return pictures


def _regions(mask: NDArray[Any]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = mask != 0
    return found


def _wrapped(text: str, width_px: int) -> list[str]:
    """Lines no wider than asked; a word that alone is wider is broken."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.split(" "):
            joined = f"{line} {word}" if line else word
            if _width(joined) <= width_px:
                line = joined
                continue
            if line:
                lines.append(line)
            line = word
            while _width(line) > width_px:
                fits = max(1, next(n for n in range(len(line), 0, -1) if n == 1 or _width(line[:n]) <= width_px))
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line)
    return lines


def _width(text: str) -> float:
    return float(_font().getlength(text))


def _font() -> FreeTypeFont | ImageFont:
    import PIL.ImageFont

    return PIL.ImageFont.load_default(_FONT_PX)
