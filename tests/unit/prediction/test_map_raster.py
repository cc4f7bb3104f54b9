from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from maskwright.data.sources import HeightFile, open_heights
from maskwright.prediction.height_input import HeightRange, cache_bytes
from maskwright.prediction.map_raster import gap_codes, order_over_heights
from maskwright.types import Window


def test_probabilities_never_fall_from_one_height_to_the_next() -> None:
    probs = np.array([[[0.2, 0.9]], [[0.1, 0.3]], [[0.5, 0.4]]], np.float32)
    order_over_heights(probs, np.ones((1, 2), bool))
    np.testing.assert_array_equal(probs, np.array([[[0.2, 0.9]], [[0.2, 0.9]], [[0.5, 0.9]]], np.float32))


def test_violations_are_counted_before_the_mending_and_on_valid_pixels_only() -> None:
    probs = np.array([[[0.2, 0.9, 0.9]], [[0.1, 0.3, 0.1]], [[0.5, 0.4, 0.0]]], np.float32)
    violations = order_over_heights(probs, np.array([[True, True, False]]))
    assert violations.tolist() == [2, 0]  # 0.9, 0.3, 0.4 breaks the order once: 0.4 lies above 0.3


def test_equal_probabilities_are_no_violation() -> None:
    assert order_over_heights(np.full((2, 1, 3), 0.4, np.float32), np.ones((1, 3), bool)).tolist() == [0]


def test_rounding_beyond_one_is_taken_back() -> None:
    probs = np.array([[[1.0000001, -0.0000001]]], np.float32)
    assert order_over_heights(probs, np.ones((1, 2), bool)).tolist() == []
    assert probs.min() == 0.0
    assert probs.max() == 1.0


def test_codes_are_one_above_the_threshold_and_255_where_not_valid() -> None:
    probs = np.array([[[0.5, 0.51, 0.9]]], np.float32)
    codes = gap_codes(probs, np.array([[True, True, False]]), 0.5)
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[[0, 1, 255]]]


def _heights(path: Path, height: int, block_rows: int) -> HeightFile:
    options = {"tiled": False, "blockysize": block_rows, "compress": "deflate", "crs": "EPSG:32611"}
    place = rasterio.Affine(1, 0, 500_000, 0, -1, 4_000_000)
    with rasterio.open(path, "w", "GTiff", 100, height, 1, dtype="float64", transform=place, **options) as dataset:
        dataset.write(np.ones((1, height, 100)))
    return open_heights(path)


def test_the_cache_grows_with_blocks_and_files_but_not_with_the_raster(tmp_path: Path) -> None:
    small, tall = _heights(tmp_path / "a.tif", 64, 16), _heights(tmp_path / "b.tif", 6400, 16)
    one_block = _heights(tmp_path / "c.tif", 6400, 6400)
    assert cache_bytes([small]) == cache_bytes([tall])
    assert cache_bytes([tall, tall]) - cache_bytes([tall]) == 100 * 16 * 8
    assert cache_bytes([one_block]) >= 100 * 6400 * 8


@pytest.mark.parametrize(
    ("kind", "name", "heights", "doubted"),
    [
        ("dsm", "farm.tif", [0.0, 30.0], True),
        ("dsm", "farm_chm.tif", [5.0, 30.0], True),
        ("dsm", "farm.tif", [5.0, 30.0], False),
        ("dsm", "farm.tif", [300.0, 360.0], False),
        ("chm", "farm.tif", [300.0, 360.0], True),
        ("chm", "farm.tif", [0.0, 60.0], False),
    ],
)
def test_heights_unlike_those_of_the_training_are_doubted(
    kind: str, name: str, heights: list[float], doubted: bool
) -> None:
    extent = HeightRange()
    values = np.array([[*heights, np.nan]], np.float32)
    assert extent.watching(lambda window: values)(Window(0, 0, 1, 3)) is values
    assert bool(extent.notes(kind, Path(name))) is doubted
