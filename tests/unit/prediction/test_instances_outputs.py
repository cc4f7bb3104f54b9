"""Pictures and land cover of trees."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from maskwright.data.sources.interface import Grid
from maskwright.errors import PredictionError
from maskwright.objects import Crop, FoundObjects
from maskwright.pictures.colors import class_colors
from maskwright.prediction.geotiff import RowWriter, open_raster
from maskwright.prediction.instances_outputs import ENDINGS, CrownPicture, PaintedClasses, land_cover
from maskwright.prediction.instances_source import StitchedMaps

GRID = Grid(6, 8, (1.0, 0.0, 100.0, 0.0, -1.0, 50.0), None)
NAMES = ("background", "cacao", "shade")


def _found(row: int, col: int, side: int, label: int) -> FoundObjects:
    return FoundObjects(
        np.array([(col, row, col + side, row + side)], np.float32),
        np.array([label]),
        np.ones(1, np.float32),
        np.array([(col + side / 2, row + side / 2)], np.float32),
        np.array([np.nan], np.float32),
        (Crop(row, col, np.ones((side, side), bool)),),
    )


def test_crowns_are_outlined_in_the_colour_of_their_class_and_counted() -> None:
    drawing = CrownPicture(np.zeros((60, 80, 3), np.uint8), 2, {1: "cacao", 2: "shade"})
    drawing.add(_found(20, 40, 20, 1))
    drawing.add(_found(80, 100, 20, 2))
    picture = np.asarray(drawing.picture())[:60, :80]
    first, second = class_colors(2, has_background=False)
    for row, col, color in ((15, 20, first), (45, 50, second)):  # left edges, at half the size, drawn smoothly
        near = picture[row, col - 1 : col + 1].astype(int)
        shares = near[near.sum(axis=1).argmax()] / np.maximum(color, 1)
        assert shares[np.array(color) > 50] == pytest.approx(shares[np.argmax(color)], abs=0.03)
        assert 0.4 < shares[np.argmax(color)] <= 1
    assert tuple(picture[15, 25]) == (0, 0, 0)  # what lies under a crown stays visible


def _maps(folder: Path) -> Path:
    values = np.zeros((3, 6, 8), np.float32)
    values[0], values[1, :, 2:4], values[2, :3, 5] = 0.4, 0.5, 0.6
    values[:, :, 7] = np.nan
    path = folder / "maps.part.vrt"
    with RowWriter(path, GRID, dtype="float32", nodata=np.nan, names=NAMES) as writer:
        writer.write(0, values)
    return path


def test_land_cover_is_a_raster_with_nodata_or_a_picture(tmp_path: Path) -> None:
    with open_raster(_maps(tmp_path)) as dataset:
        maps = StitchedMaps(dataset, {"semantic": 3}, lambda values, valid: FoundObjects.none())
        raster = land_cover(tmp_path, "farm", maps, GRID, NAMES, photograph=False)["mask"]
        picture = land_cover(tmp_path, "farm", maps, GRID, NAMES, photograph=True)["mask"]
    with rasterio.open(raster) as written:
        codes = written.read(1)
        assert written.nodata == 255
        assert written.transform.c == 100.0
    assert codes[0].tolist() == [0, 0, 1, 1, 0, 2, 0, 255]
    assert codes[5].tolist() == [0, 0, 1, 1, 0, 0, 0, 255]
    with Image.open(picture) as image:
        np.testing.assert_array_equal(np.asarray(image), codes)
    assert {path.name.removeprefix("farm_") for path in (raster, picture)} <= set(ENDINGS)


def test_a_full_disk_is_told_before_anything_is_painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PaintedClasses(tmp_path / "classes.part", 3, 4) as painted:
        assert painted.ids.tolist() == [[0] * 4] * 3
        assert (tmp_path / "classes.part").stat().st_size == 12

    def full(handle: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(PredictionError, match="the disk is full"):
        PaintedClasses(tmp_path / "classes.part", 3, 4)
    assert list(tmp_path.iterdir()) == []
