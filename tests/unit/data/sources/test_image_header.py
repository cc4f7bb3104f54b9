"""Headers of image files, told by content."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from maskwright.data.sources.image_header import MOST_PIXELS, printable, read_header
from maskwright.errors import DataError, UnreadableError


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "webp"])
@pytest.mark.parametrize("bands", [1, 3])
def test_every_kind_of_file_tells_size_and_bands(tmp_path: Path, ending: str, bands: int) -> None:
    shape = (7, 11) if bands == 1 else (7, 11, 3)
    header = read_header(save(tmp_path / f"a.{ending}", np.zeros(shape, np.uint8)))
    assert (header.grid.height, header.grid.width, header.dtype) == (7, 11, "uint8")
    assert header.bands == (3 if ending == "webp" else bands)
    assert header.alpha is None
    assert not header.grid.is_georeferenced


def test_content_counts_and_not_the_ending(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", np.zeros((4, 5, 3), np.uint8))
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png").grid.width == 5


def test_opacity_is_known_from_the_header(tmp_path: Path) -> None:
    assert read_header(save(tmp_path / "a.png", np.zeros((4, 5, 4), np.uint8))).alpha == 3
    assert read_header(save(tmp_path / "b.png", np.zeros((4, 5, 2), np.uint8))).alpha == 1
    Image.fromarray(np.zeros((4, 5), np.uint8), mode=None).save(tmp_path / "c.png", transparency=0)
    assert read_header(tmp_path / "c.png").alpha == 1


def test_sixteen_bits_are_seen_in_grey_and_in_colour(tmp_path: Path) -> None:
    save(tmp_path / "grey.png", np.zeros((4, 5), np.uint16))
    profile = {"driver": "PNG", "height": 4, "width": 5, "count": 3, "dtype": "uint16"}
    with rasterio.open(tmp_path / "rgb.png", "w", **profile) as file:
        file.write(np.zeros((3, 4, 5), np.uint16))
    assert [read_header(tmp_path / name).dtype for name in ("grey.png", "rgb.png")] == ["uint16", "uint16"]


def test_a_geotiff_tells_place_nodata_and_names_of_bands(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "height": 6, "width": 8, "count": 2, "dtype": "float32", "nodata": -9.0}
    with rasterio.open(
        tmp_path / "a.tif", "w", crs="EPSG:32611", transform=from_origin(100, 200, 0.5, 0.5), **profile
    ) as file:
        file.write(np.zeros((2, 6, 8), np.float32))
        file.set_band_description(2, "nir")
    header = read_header(tmp_path / "a.tif")
    assert header.grid.transform == (0.5, 0.0, 100.0, 0.0, -0.5, 200.0)
    assert header.nodata == -9.0
    assert header.band_names[1] == "nir"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_swaps_rows_and_columns(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for ending in ("jpg", "png"):
        header = read_header(save(tmp_path / f"a.{ending}", np.zeros((4, 9, 3), np.uint8), exif=exif))
        assert header.orientation == orientation
        assert (header.grid.height, header.grid.width) == ((9, 4) if orientation >= 5 else (4, 9))


def test_a_text_named_png_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("id,class\n1,crack\n")
    with pytest.raises(UnreadableError, match=r"a\.png is no image: it begins with"):
        read_header(tmp_path / "a.png")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UnreadableError, match=r"a\.jpg is empty\. Copy it again"):
        read_header(tmp_path / "a.jpg")


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "webp"])
def test_a_header_that_breaks_off_is_refused(tmp_path: Path, ending: str) -> None:
    path = save(tmp_path / f"a.{ending}", np.zeros((40, 50, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UnreadableError, match=rf"a\.{ending} "):
        read_header(path)


def test_a_decompression_bomb_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(content)
    assert MOST_PIXELS < 60000 * 60000
    with pytest.raises(DataError, match=r"bomb\.png is not read: it claims 60000 x 60000 pixels in \d+ bytes"):
        read_header(tmp_path / "bomb.png")


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png cannot be read: No such file"):
        read_header(tmp_path / "gone.png")


def test_names_that_are_no_text_are_shown_with_their_bytes(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 1.png"))
    assert printable(path).endswith(r"/caf\xe9 1.png")
    profile = {"driver": "GTiff", "height": 3, "width": 2, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "plain.tif", "w", **profile) as file:
        file.write(np.ones((1, 3, 2), np.uint8))
    try:
        (tmp_path / "plain.tif").rename(path.with_suffix(".tif"))
    except OSError:
        pytest.skip("this file system takes no such name")
    assert read_header(path.with_suffix(".tif")).grid.height == 3
