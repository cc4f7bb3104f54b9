from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskwright.data.cache import Cache
from maskwright.data.normalise import MetresNormaliser, normaliser_from_dict
from maskwright.data.sources import HeightRasters, Site
from maskwright.prediction.scene_input import SceneInput
from maskwright.types import Place, Window

ALL = ("slope", "aspect", "altitude")


@pytest.fixture
def site(write_raster, tmp_path: Path) -> HeightRasters:
    rng = np.random.default_rng(2)
    dsm = np.cumsum(rng.normal(0, 1, (70, 90)), axis=1).astype(np.float32) + 300
    dsm[rng.random(dsm.shape) < 0.05] = np.nan
    chm = np.abs(rng.normal(10, 5, dsm.shape)).astype(np.float32)
    pair = Site("a", dsm=write_raster("a_DSM.tif", dsm), chm=write_raster("a_CHM.tif", chm))
    return HeightRasters([pair], context=ALL, cache=Cache(tmp_path / "cache"))


def test_any_tiling_gives_the_same_bands_padding_included(site: HeightRasters) -> None:
    assert (site.in_channels, site.aspect_bands) == (5, (2, 3))
    whole = site.read("a", Window(-10, -10, 95, 120))[0]
    rng = np.random.default_rng(0)
    for _ in range(60):
        row, col = int(rng.integers(0, 70)), int(rng.integers(0, 90))
        height, width = int(rng.integers(1, 25)), int(rng.integers(1, 30))
        part = site.read("a", Window(row - 10, col - 10, height, width))[0]
        assert np.array_equal(part, whole[:, row : row + height, col : col + width])


def test_prediction_repeats_the_bands_of_training(site: HeightRasters) -> None:
    expected, valid = site.read("a", Window(0, 0, 70, 90))

    def read(window: Window) -> np.ndarray:
        return site.surface("a", window)

    normaliser = normaliser_from_dict(MetresNormaliser().to_dict())
    pixel_size_m = site.scenes[0].grid.pixel_size_m
    scene = SceneInput(["dsm"], [read], 70, 90, normaliser, pixel_size_m, ALL)
    assert scene.channels == 5
    for start in range(0, 70, 13):
        values, found = scene.rows(start, min(70, start + 13))
        assert np.array_equal(found, valid[start : start + 13])
        assert np.array_equal(scene.window(values, found), expected[:, start : start + 13])


def test_training_pieces_hold_each_pixel_of_the_tiles_once(site: HeightRasters) -> None:
    places = [Place("a", Window(row, col, 32, 32)) for row, col in ((0, 0), (16, 8), (60, 80))]
    pieces = list(site.training_pieces(places))
    wanted = np.zeros((70, 90), bool)
    for place in places:
        window = place.window
        wanted[window.row : window.row_stop, window.col : window.col_stop] = True
    whole = Window(0, 0, 70, 90)
    wanted &= np.isfinite(site.surface("a", whole)) & np.isfinite(site.canopy("a", whole))
    counted = np.concatenate([values[0][valid] for values, valid in pieces])
    assert np.array_equal(np.sort(counted), np.sort(site.surface("a", whole)[wanted]))
