from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from maskwright.data.synthetic import Forest, make_forest, write_forest


@pytest.fixture(scope="module")
def forest() -> Forest:
    return make_forest(1024, 1.0, seed=0)


def test_the_surface_is_exactly_terrain_plus_canopy(forest: Forest) -> None:
    valid = np.isfinite(forest.chm)
    assert (forest.dsm.dtype, forest.chm.dtype, forest.dtm.dtype) == (np.float32,) * 3
    assert np.array_equal(np.isfinite(forest.dsm), valid)
    assert np.array_equal(forest.dsm[valid] - forest.dtm[valid], forest.chm[valid])


def test_the_canopy_is_never_below_the_ground_and_no_tree_is_a_tower(forest: Forest) -> None:
    assert np.nanmin(forest.chm) >= 0
    assert 30 < np.nanmax(forest.chm) < 50
    assert 15 < np.nanpercentile(forest.chm, 30) < np.nanpercentile(forest.chm, 99) < 36


def test_gaps_at_5_10_and_15_m_take_shares_that_differ(forest: Forest) -> None:
    heights = forest.chm[np.isfinite(forest.chm)]
    shares = [float((heights < height).mean()) for height in (2, 5, 10, 15)]
    for share, (low, high) in zip(shares, [(0.02, 0.08), (0.06, 0.11), (0.11, 0.2), (0.17, 0.28)], strict=True):
        assert low < share < high, shares


def test_an_irregular_rim_of_a_few_percent_is_not_measured(forest: Forest) -> None:
    missing = np.isnan(forest.chm)
    assert 0.01 < missing.mean() < 0.08
    assert not missing[200:-200, 200:-200].any()
    assert 0.1 < missing[0].mean() < 1
    assert not np.isnan(make_forest(128, nodata_edge=False).chm).any()


def test_the_ground_is_too_rough_for_the_surface_minus_its_opening(forest: Forest) -> None:
    valid = np.isfinite(forest.chm)
    filled = np.where(valid, forest.dsm, 1e4)
    for window_px in (21, 41, 81):
        pseudo = filled - ndimage.grey_opening(filled, (window_px, window_px))
        for height in (5, 10, 15):
            found, true = (pseudo < height) & valid, (forest.chm < height) & valid
            assert (found & true).sum() / (found | true).sum() < 0.8, (window_px, height)


def test_the_listed_gaps_are_where_the_canopy_is_low(forest: Forest) -> None:
    deep = [gap for gap in forest.gaps if gap.regrowth_m < 4 and gap.radius_m > 12]
    centres = [forest.chm[int(gap.row), int(gap.col)] for gap in deep]
    assert len(deep) > 20
    assert np.nanmean(np.array(centres) < 8) > 0.9  # crowns may lean over the middle of an irregular gap
    assert {gap.regrowth_m < 5 for gap in forest.gaps} == {True, False}


def test_ground_is_smooth_and_tall_canopy_is_rough(forest: Forest) -> None:
    roughness = np.abs(ndimage.laplace(forest.dsm))
    low, tall = forest.chm < 2, forest.chm > 18
    assert np.nanmedian(roughness[low]) < 0.25 * np.nanmedian(roughness[tall])


@pytest.mark.parametrize(("size_px", "pixel_size_m"), [(32, 1.0), (64, 0.5), (96, 5.0), (100, 2.0)])
def test_small_and_coarse_forests_have_gaps_and_canopy_too(size_px: int, pixel_size_m: float) -> None:
    forest = make_forest(size_px, pixel_size_m, seed=1)
    assert forest.chm.shape == (size_px, size_px)
    assert forest.pixel_size_m == pixel_size_m
    assert 0 < np.nanmean(forest.chm < 10) < 0.6


def test_the_same_seed_gives_the_same_forest_and_another_seed_another() -> None:
    first, again, other = (make_forest(96, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first.dsm, again.dsm, equal_nan=True)
    assert first.gaps == again.gaps
    assert not np.array_equal(first.dtm, other.dtm)


def test_written_rasters_hold_the_forest_and_say_where_they_lie(tmp_path: Path) -> None:
    paths = write_forest(tmp_path / "new", name="demo", size_px=96, pixel_size_m=2.0, seed=3)
    assert [path.name for path in paths] == ["demo_DSM.tif", "demo_CHM.tif"]
    forest = make_forest(96, 2.0, seed=3)
    for path, heights in zip(paths, (forest.dsm, forest.chm), strict=True):
        with rasterio.open(path) as dataset:
            assert (dataset.count, dataset.crs.to_epsg(), dataset.nodata) == (1, 32633, -9999.0)
            assert (dataset.transform.a, dataset.transform.e) == (2.0, -2.0)
            assert dataset.profile["compress"] == "deflate"
            assert dataset.profile["tiled"]
            read = dataset.read(1)
        assert np.array_equal(np.where(read == -9999, np.nan, read), heights, equal_nan=True)


def test_forests_of_two_seeds_lie_on_different_ground(tmp_path: Path) -> None:
    boxes = []
    for seed in (0, 1, 10):
        with rasterio.open(write_forest(tmp_path, name=f"s{seed}", size_px=32, seed=seed)[0]) as dataset:
            boxes.append(dataset.bounds)
    assert len({(box.left, box.top) for box in boxes}) == 3
