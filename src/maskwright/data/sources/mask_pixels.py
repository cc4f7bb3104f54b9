"""The stored values of a mask file: numbers, palette indices or colours, before their meaning is looked up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from rasterio.errors import RasterioError

from maskwright.data.sources.image_file import ImageFormat, read_image, upright
from maskwright.data.sources.image_header import ImageHeader, open_raster, printable, read_header
from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError, UnreadableError

__all__ = ["MaskPixels", "read_mask"]


@dataclass(frozen=True)
class MaskPixels:
    """A mask in memory.

    Attributes:
        path: The file.
        values: (H, W) whole numbers; colours as 0xRRGGBB.
        is_coloured: True if ``values`` are colours.
        grid: Its pixels.
        valid: (H, W) bool, False where the file declares "not measured"; None if it does nowhere.
        notes: What a person should know, without the file's name.
    """

    path: Path
    values: np.ndarray
    is_coloured: bool
    grid: Grid
    valid: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def found(self) -> dict[int, int]:
        """Each value and its number of pixels, ascending; what was not measured is left out."""
        values = self.values if self.valid is None else self.values[self.valid]
        if values.dtype.itemsize <= 2 and values.dtype.kind == "u":
            counts = np.bincount(values.ravel())
            return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
        found, numbers = np.unique(values, return_counts=True)
        return {int(value): int(number) for value, number in zip(found, numbers, strict=True)}


def read_mask(path: Path, as_colours: bool | None) -> MaskPixels:
    """Read a mask.

    Args:
        path: Any image file.
        as_colours: True: its colours count. False: its numbers; of a palette the indices, of three equal bands the
            first. None: colours if it has any.

    Raises:
        DataError: If it cannot be read, has colours where numbers are needed, is partly transparent, or holds numbers
            that are not whole.
    """
    header = read_header(path)
    mask = _read(header, as_colours)
    if header.pages > 1:
        mask = replace(mask, notes=(*mask.notes, f"{header.pages} pages, of which only the first is read"))
    return mask


def _read(header: ImageHeader, as_colours: bool | None) -> MaskPixels:
    path = header.path
    if header.is_palette and not as_colours:
        values = _stored(header)
        return MaskPixels(path, values, False, header.grid, notes=("palette images, read by index",))
    opaque_bands = header.bands - (header.alpha is not None)
    if opaque_bands == 1:
        if as_colours:
            grey = read_image(path, ImageFormat(alpha="drop")).values[0].astype(np.int64)
            return MaskPixels(path, grey * 0x010101, True, header.grid)
        return _numbers(header)
    return _colours(header, as_colours)


def _numbers(header: ImageHeader) -> MaskPixels:
    if header.bits < 8 or (header.alpha is None and header.driver == "pillow"):
        return MaskPixels(header.path, _stored(header), False, header.grid)
    with open_raster(header.path) as dataset:
        try:
            values = dataset.read(1)
        except RasterioError as error:
            raise _damaged(header.path, error) from error
    valid = np.ones(values.shape, np.bool_)
    notes: tuple[str, ...] = ()
    if values.dtype.kind == "f":
        valid &= np.isfinite(values)
    if header.nodata is not None and np.isfinite(header.nodata):
        if header.nodata == 0:
            notes = ("0 is declared as nodata, and taken as any other 0: what a mask does not paint",)
        else:
            valid &= values != values.dtype.type(header.nodata)
    if values.dtype.kind == "f":
        whole = np.where(valid, values, 0)
        if (whole != np.rint(whole)).any():
            raise DataError(
                f"The mask {printable(header.path)} holds numbers that are not whole, for example "
                f"{float(whole[whole != np.rint(whole)][0]):g}. Write class numbers as whole numbers."
            )
        values = whole.astype(np.int64)
    values = upright(values, header.orientation)
    valid = upright(valid, header.orientation)
    return MaskPixels(header.path, values, False, header.grid, None if valid.all() else valid, notes)


def _stored(header: ImageHeader) -> np.ndarray:
    """Numbers as they are stored: palette indices, or grey values that are not stretched to 8 bits."""
    if header.driver == "raster" or (not header.is_palette and header.bits < 8):
        try:
            with open_raster(header.path) as dataset:
                return upright(dataset.read(1), header.orientation)
        except RasterioError as error:
            raise _damaged(header.path, error) from error
    try:
        with Image.open(header.path) as image:
            image.load()
            values = np.asarray(image if image.mode in ("P", "L") else image.convert("L" if image.mode != "1" else "P"))
            values = (values > 0).astype(np.uint8) if image.mode == "1" else values
    except Exception as error:  # Pillow raises whatever its decoders raise on damaged files
        raise _damaged(header.path, error) from error
    return upright(values, header.orientation)


def _colours(header: ImageHeader, as_colours: bool | None) -> MaskPixels:
    image = read_image(header.path, ImageFormat(alpha="mask"))
    where = f"The mask {printable(header.path)}"
    if not image.valid.all():
        raise DataError(
            f"{where} is transparent in {np.count_nonzero(~image.valid)} pixels, and it is not clear what that means. "
            "Save masks without transparency."
        )
    if len(image.values) != 3 or image.values.dtype != np.uint8:
        raise DataError(
            f"{where} has {len(image.values)} bands of type {image.values.dtype}. A mask has one band of class "
            "numbers, or colours of 8 bits."
        )
    red, green, blue = image.values
    if not as_colours and np.array_equal(red, green) and np.array_equal(red, blue):
        return MaskPixels(header.path, red, False, header.grid, notes=("three equal bands, read as one",))
    packed = (red.astype(np.int64) << 16) | (green.astype(np.int64) << 8) | blue
    mask = MaskPixels(header.path, packed, True, header.grid)
    if as_colours is not False:
        return mask
    found = sorted(mask.found().items(), key=lambda item: -item[1])
    shown = ", ".join(f"#{value:06x} ({count} px)" for value, count in found[:8])
    raise DataError(
        f"{where} is coloured and nothing says what its colours mean. It has {shown}"
        f"{f' and {len(found) - 8} more' if len(found) > 8 else ''}. Name the colours: data.labels.classes: "
        f'[{{name: crack, values: ["#{found[-1 if len(found) < 2 else 1][0]:06x}"]}}] with background_values: '
        f'["#{found[0][0]:06x}"].'
    )


def _damaged(path: Path, error: BaseException) -> UnreadableError:
    return UnreadableError(f"The mask {printable(path)} is damaged: {error}. Export it again.")
