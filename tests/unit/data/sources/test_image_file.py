"""Pixels of image files: bands, opacity, nodata, orientation, resizing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from maskwright.data.sources import image_file
from maskwright.data.sources.image_file import ImageFormat, open_image, read_image, resize_nearest
from maskwright.data.sources.image_header import open_raster
from maskwright.errors import DataError, UnreadableError
from maskwright.types import Window


def random(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    top = np.iinfo(dtype).max + 1 if np.issubdtype(dtype, np.integer) else 1000
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def write(path: Path, values: np.ndarray, *, kinds: Any = None, names: Any = None, **profile: Any) -> Path:
    count, height, width = values.shape
    settings = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": values.dtype, **profile}
    with rasterio.open(path, "w", **settings) as file:
        file.write(values)
        if kinds:
            file.colorinterp = kinds
        for index, name in enumerate(names or ()):
            file.set_band_description(index + 1, name)
    return path


def test_a_colour_png_is_read_as_it_was_written(tmp_path: Path) -> None:
    values = random(5, 6, 3)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.values, values.transpose(2, 0, 1))
    assert image.valid.all()
    assert image.band_names == ("red", "green", "blue")


def test_sixteen_bit_values_are_not_cut_to_eight(tmp_path: Path) -> None:
    grey, colour = random(5, 6, dtype=np.uint16), random(3, 5, 6, dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    write(tmp_path / "rgb.png", colour, driver="PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png").values[0], grey)
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png").values, colour)


def test_pixels_that_are_mostly_clear_do_not_count(tmp_path: Path) -> None:
    values = random(4, 4, 4)
    values[..., 3] = 255
    values[0, 0, 3], values[0, 1, 3], values[0, 2, 3] = 0, 127, 128
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.values.shape == (3, 4, 4)
    assert not image.valid[0, 0]
    assert not image.valid[0, 1]
    assert image.valid.sum() == 14
    assert not image.values[:, 0, :2].any()


def test_what_lies_under_clear_pixels_changes_nothing(tmp_path: Path) -> None:
    values = random(4, 4, 4)
    values[..., 3] = 255
    values[1:3, 1:3, 3] = 0
    Image.fromarray(values).save(tmp_path / "a.png")
    values[1:3, 1:3, :3] += 90
    Image.fromarray(values).save(tmp_path / "b.png")
    first, second = read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png")
    np.testing.assert_array_equal(first.values, second.values)


@pytest.mark.parametrize(("alpha", "bands"), [("band", 4), ("drop", 3), ("mask", 3)])
def test_settings_say_what_a_fourth_band_is(tmp_path: Path, alpha: Any, bands: int) -> None:
    values = random(4, 20, 20)
    kinds = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    image = read_image(write(tmp_path / "a.tif", values, kinds=kinds), ImageFormat(alpha=alpha))
    assert len(image.values) == bands
    expected = values[3] > 127 if alpha == "mask" else np.ones((20, 20), bool)
    np.testing.assert_array_equal(image.valid, expected)


def test_a_fourth_band_that_is_not_declared_as_opacity_is_data(tmp_path: Path) -> None:
    kinds = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]
    image = read_image(write(tmp_path / "a.tif", random(4, 5, 6), kinds=kinds, alpha="NO"))
    assert image.band_names == ("red", "green", "blue", "band 4")
    assert image.valid.all()


def test_near_infrared_declared_as_opacity_is_refused(tmp_path: Path) -> None:
    kinds = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    path = write(tmp_path / "a.tif", random(4, 20, 20), kinds=kinds)
    with pytest.raises(DataError, match=r"declares its band 4 as opacity.*set data\.alpha: band"):
        read_image(path)


def test_bands_are_chosen_by_number_and_name_in_the_order_asked(tmp_path: Path) -> None:
    values = random(4, 5, 6)
    path = write(tmp_path / "a.tif", values, names=["B2", "B3", "B4", "NIR"], photometric="MINISBLACK")
    image = read_image(path, ImageFormat(bands=("NIR", 1, "b3")))
    np.testing.assert_array_equal(image.values, values[[3, 0, 1]])
    assert image.band_names == ("NIR", "B2", "B3")


@pytest.mark.parametrize(
    ("bands", "text"),
    [
        ((5,), r"has 3 bands and data\.bands asks for number 5"),
        ((0,), r"asks for number 0\. Bands count from 1"),
        (("nir",), r"has no band named 'nir' \(data\.bands\)\. It has red, green, blue"),
        ((1, "red"), "names a band twice"),
    ],
)
def test_a_band_that_is_not_there_is_refused(tmp_path: Path, bands: Any, text: str) -> None:
    Image.fromarray(random(5, 6, 3)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=text):
        read_image(tmp_path / "a.png", ImageFormat(bands=bands))


def test_nodata_of_whole_numbers_needs_all_bands(tmp_path: Path) -> None:
    values = np.full((2, 2, 2), 7, np.uint8)
    values[0, 0, 0] = 255
    values[:, 1, 1] = 255
    path = write(tmp_path / "a.tif", values, nodata=255, photometric="MINISBLACK")
    np.testing.assert_array_equal(read_image(path).valid, [[True, True], [True, False]])
    assert read_image(path, ImageFormat(nodata=3)).valid.all()


def test_nan_and_nodata_of_floats_never_count_in_any_band(tmp_path: Path) -> None:
    values = np.ones((2, 2, 2), np.float32)
    values[0, 0, 0], values[1, 0, 1], values[1, 1, 0] = np.nan, -9999, np.inf
    image = read_image(write(tmp_path / "a.tif", values, nodata=-9999))
    np.testing.assert_array_equal(image.valid, [[False, False], [False, True]])
    assert np.isfinite(image.values).all()
    assert not image.values[:, ~image.valid].any()


def test_signed_values_are_read_as_floats_and_that_is_said(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "a.tif", np.array([[[-5, 7]]], np.int16)))
    assert image.values.dtype == np.float32
    assert image.values.tolist() == [[[-5.0, 7.0]]]
    assert image.notes == ("its int16 values are read as float32",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured_as_pillow_does(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(random(5, 7, 3)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.values.transpose(1, 2, 0), expected)
    assert bool(image.notes) == (orientation != 1)


def test_a_palette_is_read_as_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png")
    assert found.values[:, 1, 0].tolist() == [70, 80, 90]
    assert "palette" in found.notes[0]


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp"])
def test_a_truncated_file_is_told_apart_from_a_good_one(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(random(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.raises(UnreadableError, match=rf"a\.{ending} "):
        read_image(path)


def test_windows_of_a_geotiff_equal_the_whole(tmp_path: Path) -> None:
    values = random(3, 40, 50, dtype=np.uint16)
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=16, blockysize=16, nodata=0)
    whole = read_image(path)
    with open_image(path) as reader:
        assert reader.streams
        part, valid = reader.read(Window(30, 40, 20, 20))
    np.testing.assert_array_equal(part[:, :10, :10], whole.values[:, 30:, 40:])
    assert not valid[10:].any()
    assert not valid[:, 10:].any()
    assert not part[:, ~valid].any()


def test_shrinking_averages_and_keeps_the_ground(tmp_path: Path) -> None:
    values = np.array([[[0, 100, 8, 8], [100, 200, 8, 8]]], np.uint8)
    path = write(tmp_path / "a.tif", values, crs="EPSG:32611", transform=from_origin(10, 20, 0.5, 0.5))
    image = read_image(path, ImageFormat(resize_px=(1, 2)))
    assert image.values.tolist() == [[[100, 8]]]
    assert image.grid.bounds == image.original.bounds
    assert image.grid.pixel_size == (1.0, 1.0)


def test_what_does_not_count_takes_no_part_in_an_average(tmp_path: Path) -> None:
    values = np.array([[[10, 250, 250, 250], [10, 10, 250, 10]]], np.uint8)
    image = read_image(write(tmp_path / "a.tif", values, nodata=250), ImageFormat(resize_px=(1, 2)))
    assert image.values.tolist() == [[[10, 0]]]
    assert image.valid.tolist() == [[True, False]]


def test_growing_is_bilinear_as_opencv_does_it(tmp_path: Path) -> None:
    values = random(6, 7)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", ImageFormat(resize_px=(12, 14)))
    np.testing.assert_array_equal(image.values[0], cv2.resize(values, (14, 12), interpolation=cv2.INTER_LINEAR))


def test_labels_are_resized_by_the_nearest_pixel() -> None:
    plane = np.array([[1, 2], [3, 255]], np.uint8)
    np.testing.assert_array_equal(resize_nearest(plane, (4, 4)), np.kron(plane, np.ones((2, 2), np.uint8)))
    assert set(np.unique(resize_nearest(plane, (3, 5)))) <= {1, 2, 3, 255}
    np.testing.assert_array_equal(resize_nearest(np.arange(9).reshape(3, 3), (1, 1)), [[4]])


def test_a_format_survives_being_written() -> None:
    format = ImageFormat(bands=(1, "nir"), alpha="band", nodata=-1.5, resize_px=(20, 30), pixel_size_m=0.1)
    assert ImageFormat.from_dict(format.to_dict()) == format
    assert ImageFormat.from_dict(ImageFormat().to_dict()) == ImageFormat()


def test_a_raster_read_in_windows_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "height": 64, "width": 8, "count": 1, "dtype": "uint8", "tiled": False}
    with rasterio.open(
        path, "w", **profile, crs="EPSG:32633", transform=rasterio.Affine(1, 0, 5e5, 0, -1, 5e6)
    ) as file:
        file.write(np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(1, 64, 8))
    opened = []

    def counted(name: Path) -> object:
        opened.append(name)
        return open_raster(name)

    monkeypatch.setattr(image_file, "open_raster", counted)
    with open_image(path) as reader:
        rows = np.concatenate([reader.read(Window(row, 0, 8, 8))[0] for row in range(0, 64, 8)], axis=1)
    assert np.array_equal(rows, read_image(path).values)
    assert len(opened) == 2  # once for the windows, once for the whole
    with open_image(path) as reader:
        reader.read(Window(0, 0, 1, 8))
        reader.close()
        assert reader.read(Window(1, 0, 1, 8))[0].tolist() == [[list(range(8, 16))]]  # opened anew


def test_pages_after_the_first_are_told(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (1, 2, 3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    image = read_image(tmp_path / "a.tif")
    assert image.notes == ("it holds 3 pages, and only the first is read",)
    assert (image.values == 1).all()
