"""What an image file says about itself before any pixel is decoded: told by its content, never by its ending.

PNG and JPEG headers are read here, in microseconds and whatever size they claim; TIFF by rasterio, others by Pillow.
"""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError, UnreadableError

__all__ = [
    "IMAGE_ENDINGS",
    "MOST_PIXELS",
    "ImageHeader",
    "open_raster",
    "printable",
    "read_header",
]

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".jp2")

MOST_PIXELS = 178_956_970
"""Pixels of a photograph that has to be decoded as a whole; a file that claims more is refused. TIFFs may be larger."""

_PILLOW_PIXELS = MOST_PIXELS // 2  # beyond this Pillow warns
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_GREY, _RGB = ("grey",), ("red", "green", "blue")
_ORIENTATION = 0x0112
_opening = threading.Lock()  # warning filters are shared by all threads


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file declares.

    Attributes:
        path: The file.
        driver: What decodes it: ``pillow`` or ``raster``.
        grid: Its pixels as they are shown, EXIF orientation applied.
        band_names: A name for each band, alpha included.
        dtype: Type of the stored values, as numpy names it.
        alpha: Index of the band that is declared as opacity, or None.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        nodata: Value declared as "not measured", or None.
        has_mask: True if the file holds a mask of the pixels that were measured.
        is_palette: True if pixels are stored as indices into a table of colours.
        bits: Bits of a stored value.
        pages: Images in the file; the first is the one described here.
    """

    path: Path
    driver: str
    grid: Grid
    band_names: tuple[str, ...]
    dtype: str
    alpha: int | None = None
    orientation: int = 1
    nodata: float | None = None
    has_mask: bool = False
    is_palette: bool = False
    bits: int = 8
    pages: int = 1

    @property
    def bands(self) -> int:
        return len(self.band_names)


def printable(path: Path | str) -> str:
    r"""A path as text that can be shown and written anywhere; bytes that are no text appear as ``\xe9``."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def read_header(path: Path) -> ImageHeader:
    """The header of an image file.

    Raises:
        UnreadableError: If the file is missing, empty, no image, or claims an absurd size.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(32)
            if not start:
                raise UnreadableError(f"{printable(path)} is empty. Copy it again, or remove it.")
            header = _by_content(path, file, start)
    except OSError as error:
        raise UnreadableError(f"{printable(path)} cannot be read: {error.strerror or error}. Copy it again.") from error
    except (struct.error, ValueError, IndexError, SyntaxError) as error:
        raise UnreadableError(
            f"{printable(path)} is damaged: its header breaks off ({error}). Copy it again."
        ) from error
    _refuse_absurd(header)
    return header


def _by_content(path: Path, file: BinaryIO, start: bytes) -> ImageHeader:
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_header(path, file)
    if start.startswith(b"\xff\xd8\xff"):
        return _jpeg_header(path, file)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") or start[4:8] == b"jP  ":
        return _raster_header(path)
    if start.startswith(b"BM"):
        width, height = struct.unpack("<ii", start[18:26])
        _refuse_size(path, abs(height), abs(width))
    elif not (start.startswith(b"RIFF") and start[8:12] == b"WEBP"):
        raise UnreadableError(
            f"{printable(path)} is no image: it begins with {_shown(start)}. Maskwright reads PNG, JPEG, BMP, WebP and "
            "TIFF. Export it again, or remove it."
        )
    return _pillow_header(path)


def _shown(start: bytes) -> str:
    text = start[:16]
    return repr(text.decode("ascii")) if text.isascii() and text.decode("ascii").isprintable() else text[:8].hex(" ")


# --- PNG and JPEG -----------------------------------------------------------------------------------------------------


def _png_header(path: Path, file: BinaryIO) -> ImageHeader:
    file.seek(8)
    alpha, orientation = False, 1
    width = height = bits = colour = 0
    while True:
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack(">IIBB", file.read(10))
            file.seek(length - 10 + 4, 1)
        elif kind == b"eXIf":
            orientation = _exif_orientation(file.read(length))
            file.seek(4, 1)
        elif kind in (b"IDAT", b"IEND"):
            break
        else:
            alpha |= kind == b"tRNS"
            file.seek(length + 4, 1)
    alpha |= colour in (4, 6)
    names = _GREY if colour in (0, 4) else _RGB
    names = (*names, "alpha") if alpha else names
    as_raster = bits == 16 or height * width > _PILLOW_PIXELS
    return ImageHeader(
        path,
        "raster" if as_raster else "pillow",
        _plain_grid(height, width, orientation),
        names,
        "uint16" if bits == 16 else "uint8",
        alpha=len(names) - 1 if alpha else None,
        orientation=orientation,
        is_palette=colour == 3,
        bits=bits,
    )


def _jpeg_header(path: Path, file: BinaryIO) -> ImageHeader:
    file.seek(2)
    orientation = 1
    while True:
        marker = file.read(2)
        if len(marker) < 2 or marker[0] != 0xFF:
            raise ValueError("no size is given")
        if marker[1] == 0xFF:  # padding
            file.seek(-1, 1)
            continue
        if marker[1] == 0x01 or 0xD0 <= marker[1] <= 0xD8:
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):
            bits, height, width, bands = struct.unpack(">BHHB", file.read(6))
            break
        content = file.read(length - 2)
        if marker[1] == 0xE1 and content.startswith(b"Exif\0\0"):
            orientation = _exif_orientation(content[6:])
    if bits != 8:
        raise UnreadableError(
            f"{printable(path)} is a JPEG of {bits} bits, which is not read. Export it as PNG or TIFF."
        )
    return ImageHeader(
        path,
        "raster" if height * width > _PILLOW_PIXELS else "pillow",
        _plain_grid(height, width, orientation),
        _GREY if bands == 1 else _RGB,
        "uint8",
        orientation=orientation,
    )


def _exif_orientation(exif: bytes) -> int:
    """The orientation an EXIF block gives; 1 where it gives none that is known."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 10:
        return 1
    (start,) = struct.unpack(order + "I", exif[4:8])
    if start + 2 > len(exif):
        return 1
    (count,) = struct.unpack(order + "H", exif[start : start + 2])
    for place in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, _, _, value = struct.unpack(order + "HHIH", exif[place : place + 10])
        if tag == _ORIENTATION:
            return value if 1 <= value <= 8 else 1
    return 1


def _plain_grid(height: int, width: int, orientation: int = 1) -> Grid:
    if orientation >= 5:
        height, width = width, height
    return Grid(height, width, _IDENTITY, None)


# --- Pillow and rasterio ----------------------------------------------------------------------------------------------


def _pillow_header(path: Path) -> ImageHeader:
    try:
        with Image.open(path) as image:
            mode, size = image.mode, image.size
            transparent = "transparency" in image.info or mode in ("RGBA", "LA", "PA")
            orientation = image.getexif().get(_ORIENTATION, 1)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError(_too_large(path, str(error))) from error
    names = _GREY if mode in ("1", "L", "LA") else _RGB
    names = (*names, "alpha") if transparent else names
    return ImageHeader(
        path,
        "pillow",
        _plain_grid(size[1], size[0], orientation),
        names,
        "uint8",
        alpha=len(names) - 1 if transparent else None,
        orientation=orientation,
        is_palette=mode in ("P", "PA"),
    )


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """A raster opened by rasterio, closed afterwards; a name that is no text is read through memory.

    Raises:
        RasterioError: If it cannot be opened.
    """
    memory = None
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            if printable(path) == str(path):
                dataset = rasterio.open(path)
            else:
                memory = MemoryFile(Path(path).read_bytes())
                dataset = memory.open()
        with dataset:
            yield dataset
    finally:
        if memory is not None:
            memory.close()


def _raster_header(path: Path) -> ImageHeader:
    try:
        with open_raster(path) as dataset:
            return _header_of(path, dataset)
    except RasterioError as error:
        raise UnreadableError(f"{printable(path)} cannot be read: {error}. Copy it again, or remove it.") from error


def _header_of(path: Path, dataset: Any) -> ImageHeader:
    kinds = dataset.colorinterp
    alpha = [index for index, kind in enumerate(kinds) if kind == ColorInterp.alpha]
    palette = kinds[0] == ColorInterp.palette
    flags = dataset.mask_flag_enums[0]
    dtypes = sorted(set(dataset.dtypes))
    if len(dtypes) > 1:
        raise DataError(
            f"{printable(path)} has bands of different types ({', '.join(dtypes)}). Write them in one type, for "
            "example float32."
        )
    tag = dataset.nodata
    return ImageHeader(
        path,
        "raster",
        Grid(
            dataset.height,
            dataset.width,
            tuple(float(value) for value in dataset.transform[:6]),  # type: ignore[arg-type]
            dataset.crs.to_wkt() if dataset.crs else None,
        ),
        _RGB if palette else _raster_bands(dataset),
        dtypes[0],
        alpha=alpha[0] if alpha else None,
        nodata=None if tag is None else float(tag),
        has_mask=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
        is_palette=palette,
        bits=np.dtype(dtypes[0]).itemsize * 8,
        pages=max(1, len(dataset.subdatasets)),
    )


def _raster_bands(dataset: Any) -> tuple[str, ...]:
    """Names of the bands: what the file describes, else the colour it stands for, else its number."""
    plain = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue", ColorInterp.alpha: "alpha"}
    plain[ColorInterp.gray] = "grey"
    names: list[str] = []
    for place, (text, kind) in enumerate(zip(dataset.descriptions, dataset.colorinterp, strict=True)):
        name = text or plain.get(kind)
        names.append(name if name and name not in names else f"band {place + 1}")
    return tuple(names)


# --- refusals ---------------------------------------------------------------------------------------------------------


def _refuse_absurd(header: ImageHeader) -> None:
    if min(header.grid.height, header.grid.width) < 1:
        raise UnreadableError(f"{printable(header.path)} has no pixels. Export it again, or remove it.")
    if header.path.suffix.lower() not in (".tif", ".tiff"):
        _refuse_size(header.path, header.grid.height, header.grid.width)


def _refuse_size(path: Path, height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise UnreadableError(_too_large(path, f"it claims {height} x {width} pixels in {path.stat().st_size} bytes"))


def _too_large(path: Path, why: str) -> str:
    return (
        f"{printable(path)} is not read: {why}, which may be a decompression bomb. If it is a real image, save it as a "
        "tiled TIFF, which is read piece by piece."
    )
