"""Pixels of one image file, as settings ask for them: bands chosen, orientation honoured, what does not count marked.

Training and prediction read through :func:`read_image` and :func:`open_image` with one :class:`ImageFormat`, which is
stored with the model, so that they see the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from maskwright.data.sources.image_header import ImageHeader, open_raster, printable, read_header
from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError, UnreadableError
from maskwright.types import Window

__all__ = [
    "Bands",
    "DecodedImage",
    "ImageFormat",
    "ImageReader",
    "choose_bands",
    "open_image",
    "read_image",
    "resize_image",
    "resize_nearest",
    "resized_grid",
    "upright",
]

Alpha = Literal["auto", "mask", "band", "drop"]

_NUMBERED = re.compile(r"(?:band )?(\d+)")
_NATIVE = ("uint8", "uint16", "float32")
_MOST_HALF_CLEAR = 0.5  # share of an image; smooth edges have some such pixels, data has little else
_ORIENTATIONS = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "mirrored and turned by 180 degrees",
    5: "mirrored and turned",
    6: "turned by 90 degrees clockwise",
    7: "mirrored and turned",
    8: "turned by 90 degrees counterclockwise",
}


@dataclass(frozen=True)
class ImageFormat:
    """How image files are read; what training read, prediction repeats.

    Attributes:
        bands: Bands used, by number from 1 or by name; None: all that are no opacity.
        alpha: What a band of opacity is: ``mask``: pixels less than half opaque do not count; ``band``: data;
            ``drop``: left out; ``auto``: mask if the file declares it, else data. ``mask`` and ``drop`` take the last
            of two or four bands as opacity, whatever the file declares.
        nodata: A pixel with this value does not count (all bands of whole numbers, any band of floats); None: what the
            file declares.
        resize_px: Rows and columns every image is resized to, or None.
        pixel_size_m: Side of a pixel in metres of images without georeference, before resizing; None: not known.
    """

    bands: tuple[int | str, ...] | None = None
    alpha: Alpha = "auto"
    nodata: float | None = None
    resize_px: tuple[int, int] | None = None
    pixel_size_m: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "bands": None if self.bands is None else list(self.bands),
            "alpha": self.alpha,
            "nodata": self.nodata,
            "resize_px": None if self.resize_px is None else list(self.resize_px),
            "pixel_size_m": self.pixel_size_m,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageFormat:
        """What :meth:`to_dict` gave."""
        known = dict(values)
        for name in ("bands", "resize_px"):
            if known.get(name) is not None:
                known[name] = tuple(known[name])
        return cls(**known)


@dataclass(frozen=True)
class DecodedImage:
    """An image in memory.

    Attributes:
        values: (C, H, W) uint8, uint16 or float32, as stored; 0 where not valid.
        valid: (H, W) bool.
        grid: Its pixels, resized if that was asked.
        original: Its pixels before any resizing; labels are painted on these.
        band_names: C names.
        notes: What a person should know about the file, a sentence each, without its name.
    """

    values: np.ndarray
    valid: np.ndarray
    grid: Grid
    original: Grid
    band_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bands:
    """Which bands of a file are used.

    Attributes:
        chosen: Indices from 0, in order.
        names: Their names.
        alpha: Index of the band that says which pixels count, or None.
        dtype: Type the values have in memory.
        is_assumed: True if ``alpha`` is opacity because the file says so and nobody else.
    """

    chosen: tuple[int, ...]
    names: tuple[str, ...]
    alpha: int | None
    dtype: str
    is_assumed: bool = False


def choose_bands(header: ImageHeader, format: ImageFormat) -> Bands:
    """The bands of a file that a format asks for.

    Raises:
        DataError: If a band does not exist, is asked twice, or the type of the values is not read.
    """
    wanted = None if format.bands is None else tuple(_band_index(header, band) for band in format.bands)
    if wanted is not None and len(set(wanted)) < len(wanted):
        raise DataError(f"data.bands: {list(format.bands or ())} names a band twice. Name each band once.")
    opacity = header.alpha
    if opacity is None and format.alpha in ("mask", "drop") and header.bands in (2, 4):
        opacity = header.bands - 1
    if format.alpha == "band" or (format.alpha == "auto" and wanted is not None and opacity in wanted):
        opacity = None
    chosen = tuple(index for index in range(header.bands) if index != opacity) if wanted is None else wanted
    names = tuple(f"band {index + 1}" if index == header.alpha else header.band_names[index] for index in chosen)
    opacity = opacity if format.alpha in ("auto", "mask") else None
    return Bands(chosen, names, opacity, _memory_type(header), opacity is not None and format.alpha == "auto")


def _band_index(header: ImageHeader, band: int | str) -> int:
    numbered = _NUMBERED.fullmatch(str(band))
    if numbered:
        band = int(numbered[1])
        if 1 <= band <= header.bands:
            return band - 1
        raise DataError(
            f"{printable(header.path)} has {header.bands} bands and data.bands asks for number {band}. Bands count "
            f"from 1; this file has {', '.join(header.band_names)}."
        )
    band = str(band)
    if band in header.band_names:
        return header.band_names.index(band)
    folded = [name.casefold() for name in header.band_names]
    if folded.count(band.casefold()) == 1:
        return folded.index(band.casefold())
    raise DataError(
        f"{printable(header.path)} has no band named {band!r} (data.bands). It has {', '.join(header.band_names)}; "
        f"numbers from 1 to {header.bands} work as well."
    )


def _memory_type(header: ImageHeader) -> str:
    if header.dtype in _NATIVE:
        return header.dtype
    if header.dtype in ("int8", "int16", "int32", "uint32", "float64", "float16"):
        return "float32"
    raise DataError(
        f"{printable(header.path)} holds values of type {header.dtype}, which are not read. Write them as uint8, "
        "uint16 or float32."
    )


# --- a whole image ----------------------------------------------------------------------------------------------------


def read_image(path: Path, format: ImageFormat | None = None) -> DecodedImage:
    """Decode an image.

    Args:
        path: PNG, JPEG, BMP, WebP, TIFF or GeoTIFF; told by content.
        format: How to read it.

    Raises:
        DataError: If the file is missing, damaged, no image, absurdly large, or lacks a band that is asked.
    """
    format = format or ImageFormat()
    with open_image(path, replace(format, resize_px=None)) as reader:
        values, valid = reader.read(reader.grid.window)
        grid, notes = reader.grid, reader.notes
    if format.resize_px is None:
        return DecodedImage(values, valid, grid, grid, reader.band_names, notes)
    values, valid = resize_image(values, valid, format.resize_px)
    return DecodedImage(values, valid, resized_grid(grid, format.resize_px), grid, reader.band_names, notes)


def open_image(path: Path, format: ImageFormat | None = None) -> ImageReader:
    """Open an image to be read window by window; TIFFs stream from the disk, photographs are decoded as a whole.

    Raises:
        DataError: As :func:`read_image`, as far as the header tells.
    """
    format = format or ImageFormat()
    header = read_header(path)
    return ImageReader(header, choose_bands(header, format), format)


class ImageReader:
    """Windows of one image. Not safe for use by two threads at once.

    Args:
        header: What the file declares.
        bands: Which bands are read.
        format: Its ``nodata`` and ``resize_px`` are used; a resized image is held in memory as a whole.

    Attributes:
        header: As given.
        grid: Its pixels, resized if that was asked.
        band_names: Names of the bands read.
        dtype: Type of the values: ``uint8``, ``uint16`` or ``float32``.
        notes: What a person should know about the file, a sentence each, without its name.
    """

    def __init__(self, header: ImageHeader, bands: Bands, format: ImageFormat) -> None:
        self.header = header
        self.band_names = bands.names
        self.dtype = bands.dtype
        self.grid = header.grid if format.resize_px is None else resized_grid(header.grid, format.resize_px)
        self.notes = _notes(header, bands)
        self._bands = bands
        self._format = format
        self._nodata = header.nodata if format.nodata is None else format.nodata
        self._whole: tuple[np.ndarray, np.ndarray] | None = None
        self._open = ExitStack()
        self._dataset: Any = None

    @property
    def always_valid(self) -> bool:
        """True if the header alone says that every pixel counts."""
        opaque = self._bands.alpha is None and self._nodata is None and not self.header.has_mask
        return opaque and self.dtype != "float32"

    @property
    def streams(self) -> bool:
        """True if windows are read from the disk one by one."""
        plain = self._format.resize_px is None and not self.header.is_palette and self.header.orientation == 1
        return self.header.driver == "raster" and plain

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Values (C, H, W) of type ``dtype``, 0 where not valid; valid (H, W) bool, False outside the image.

        Raises:
            DataError: If the file is damaged or gone.
        """
        inside = window.intersection(self.grid.window)
        if inside == window:
            return self._inside(window)
        values = np.zeros((len(self.band_names), window.height, window.width), self.dtype)
        valid = np.zeros((window.height, window.width), np.bool_)
        if inside is not None:
            row, col = inside.row - window.row, inside.col - window.col
            part = np.s_[row : row + inside.height, col : col + inside.width]
            values[(slice(None), *part)], valid[part] = self._inside(inside)
        return values, valid

    def close(self) -> None:
        """Close the file and give the memory back."""
        self._whole = self._dataset = None
        self._open.close()

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _inside(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        if self.streams:
            return self._finished(*self._raster_pixels(window))
        if self._whole is None:
            values, valid = self._finished(*self._decoded())
            if self._format.resize_px is not None:
                values, valid = resize_image(values, valid, self._format.resize_px)
            self._whole = values, valid
        rows, cols = slice(window.row, window.row_stop), slice(window.col, window.col_stop)
        return self._whole[0][:, rows, cols], self._whole[1][rows, cols]

    def _decoded(self) -> tuple[np.ndarray, np.ndarray | None]:
        if self.header.driver == "pillow":
            return _pillow_pixels(self.header, self._bands)
        size = _stored_size(self.header)
        values, opaque = self._raster_pixels(Window(0, 0, *size))
        turned = np.stack([upright(band, self.header.orientation) for band in values])
        return turned, None if opaque is None else upright(opaque, self.header.orientation)

    def _raster_pixels(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """From the file, which stays open until :meth:`close`: opening it costs more than a window."""
        try:
            if self._dataset is None:
                self._dataset = self._open.enter_context(open_raster(self.header.path))
            return _raster_pixels(self._dataset, self.header, self._bands, window)
        except (RasterioError, OSError) as error:
            raise UnreadableError(
                f"{printable(self.header.path)} is damaged: {_cause(error)}. Copy it again, or remove it."
            ) from error

    def _finished(self, values: np.ndarray, opaque: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Stored values in the type of memory, and which pixels count; 0 where they do not."""
        missing = None if opaque is None else ~opaque
        if self._nodata is not None and np.isfinite(self._nodata):
            same = values == values.dtype.type(self._nodata) if _fits(self._nodata, values.dtype) else None
            if same is not None:
                empty = same.any(axis=0) if self.dtype == "float32" else same.all(axis=0)
                missing = empty if missing is None else missing | empty
        values = np.ascontiguousarray(values, dtype=self.dtype)
        if self.dtype == "float32":
            bad = ~np.isfinite(values).all(axis=0)
            missing = bad if missing is None else missing | bad
        if missing is None or not missing.any():
            return values, np.ones(values.shape[1:], np.bool_)
        values[:, missing] = 0
        return values, ~missing


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    """True if a value can stand in an array of this type."""
    if dtype.kind == "f":
        return abs(value) <= float(np.finfo(dtype).max) * (1 + 1e-6)
    limits = np.iinfo(dtype)
    return bool(limits.min <= value <= limits.max and value == int(value))


def _stored_size(header: ImageHeader) -> tuple[int, int]:
    height, width = header.grid.height, header.grid.width
    return (width, height) if header.orientation >= 5 else (height, width)


def _notes(header: ImageHeader, bands: Bands) -> tuple[str, ...]:
    notes = []
    if header.orientation != 1:
        notes.append(f"its EXIF orientation is honoured: it is {_ORIENTATIONS[header.orientation]}")
    if bands.dtype != header.dtype:
        notes.append(f"its {header.dtype} values are read as {bands.dtype}")
    if header.is_palette:
        notes.append("its colours come from a palette and are read as red, green and blue")
    if header.pages > 1:
        notes.append(f"it holds {header.pages} pages, and only the first is read")
    return tuple(notes)


# --- decoding ---------------------------------------------------------------------------------------------------------


def _pillow_pixels(header: ImageHeader, bands: Bands) -> tuple[np.ndarray, np.ndarray | None]:
    """Stored values (C, H, W) and which pixels are at least half opaque."""
    mode = ("L" if header.bands - (header.alpha is not None) == 1 else "RGB") + (
        "A" if header.alpha is not None else ""
    )
    try:
        with Image.open(header.path) as image:
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    except Exception as error:  # Pillow raises whatever its decoders raise on damaged files
        raise UnreadableError(f"{printable(header.path)} is damaged: {error}. Copy it again, or remove it.") from error
    pixels = upright(pixels[..., None] if pixels.ndim == 2 else pixels, header.orientation)
    values = pixels.transpose(2, 0, 1)[list(bands.chosen)]
    return values, None if bands.alpha is None else _opaque(header, bands, pixels[..., bands.alpha])


def _raster_pixels(
    dataset: Any, header: ImageHeader, bands: Bands, window: Window
) -> tuple[np.ndarray, np.ndarray | None]:
    """Stored values (C, H, W) of a window and which pixels the file says were measured."""
    part = RasterWindow(window.col, window.row, window.width, window.height)
    if header.is_palette:
        values = _coloured(dataset.read(1, window=part), dataset.colormap(1))[list(bands.chosen)]
    else:
        values = dataset.read([index + 1 for index in bands.chosen], window=part)
    if bands.alpha is not None:
        return values, _opaque(header, bands, dataset.read(bands.alpha + 1, window=part))
    return values, dataset.dataset_mask(window=part) > 0 if header.has_mask else None


def _opaque(header: ImageHeader, bands: Bands, alpha: np.ndarray) -> np.ndarray:
    """Which pixels are at least half opaque.

    Raises:
        DataError: If the file alone says that this is opacity, and it does not look like it.
    """
    most = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
    if bands.is_assumed and np.count_nonzero((alpha > 0) & (alpha < most)) > _MOST_HALF_CLEAR * alpha.size:
        raise DataError(
            f"{printable(header.path)} declares its band {(bands.alpha or 0) + 1} as opacity, and most of its pixels "
            "are neither opaque nor clear. If it is data, such as near infrared, set data.alpha: band; if it is "
            "opacity, set data.alpha: mask; to leave it out, drop."
        )
    return np.asarray(alpha > most / 2)


def _cause(error: BaseException) -> str:
    """What the library under rasterio said, which rasterio puts behind its own error."""
    return str(error.__cause__ or error).rstrip(".")


def _coloured(indices: np.ndarray, colours: Mapping[int, tuple[int, ...]]) -> np.ndarray:
    table = np.zeros((256, 3), np.uint8)
    for index, colour in colours.items():
        if index < 256:
            table[index] = colour[:3]
    return np.ascontiguousarray(table[indices].transpose(2, 0, 1))


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels (H, W) or (H, W, C) as EXIF says they are to be shown; a view where possible."""
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


# --- resizing ---------------------------------------------------------------------------------------------------------


def resized_grid(grid: Grid, size: tuple[int, int]) -> Grid:
    """The grid of an image resized to rows and columns; it shows the same ground."""
    if not grid.is_georeferenced:
        return replace(grid, height=size[0], width=size[1])
    a, b, c, d, e, f = grid.transform
    across, down = grid.width / size[1], grid.height / size[0]
    return replace(grid, height=size[0], width=size[1], transform=(a * across, b * down, c, d * across, e * down, f))


def resize_image(values: np.ndarray, valid: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Values (C, H, W) and valid (H, W) resized: averaged where the image shrinks, bilinear where it grows.

    What does not count takes no part; a new pixel counts if at least half of what it is made of does.
    """
    if valid.shape == size:
        return values, valid
    if valid.all():
        resized = np.stack([_resized(band, size) for band in values])
        return resized, np.ones(size, np.bool_)
    share = _resized(valid.astype(np.float32), size)
    weight = np.maximum(share, 1e-6)
    kept = share >= 0.5
    out = np.zeros((len(values), *size), values.dtype)
    for band, target in zip(values, out, strict=True):
        mean = _resized(np.where(valid, band, 0).astype(np.float32), size) / weight
        target[kept] = (mean if values.dtype.kind == "f" else np.rint(mean))[kept]
    return out, kept


def _resized(band: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, cols = band.shape
    grows, shrinks = size[0] > rows or size[1] > cols, size[0] < rows or size[1] < cols
    if not (grows and shrinks):
        return _scaled(band, size, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    middle = (min(rows, size[0]), min(cols, size[1]))  # first along the axis that shrinks, then along the other
    scaled = _scaled(_scaled(band.astype(np.float32), middle, cv2.INTER_AREA), size, cv2.INTER_LINEAR)
    return scaled if band.dtype.kind == "f" else np.rint(scaled).astype(band.dtype)


def _scaled(band: np.ndarray, size: tuple[int, int], how: int) -> np.ndarray:
    return cv2.resize(np.ascontiguousarray(band), (size[1], size[0]), interpolation=how)


def resize_nearest(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label (H, W) resized by the nearest pixel; its values never blend."""
    rows = ((np.arange(size[0]) + 0.5) * (plane.shape[0] / size[0])).astype(np.int64)
    cols = ((np.arange(size[1]) + 0.5) * (plane.shape[1] / size[1])).astype(np.int64)
    return plane if plane.shape == size else np.asarray(plane[rows[:, None], cols])
