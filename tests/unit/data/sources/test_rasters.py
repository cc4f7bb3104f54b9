from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maskwright.data.cache import Cache
from maskwright.data.normalise import MetresNormaliser, PerTileNormaliser, build_reference
from maskwright.data.sources import HeightRasters, Site
from maskwright.data.sources import decode as decode_module
from maskwright.data.terrain import Terrain
from maskwright.errors import DataError, GridError
from maskwright.types import Window

WriteRaster = Callable[..., Path]
SHAPE = (70, 90)
WHOLE = Window(0, 0, *SHAPE)


def _rounded(values: np.ndarray) -> np.ndarray:
    return (np.round(values * 64) / 64).astype(np.float32)


def _canopy(seed: int = 0) -> np.ndarray:
    return _rounded(np.random.default_rng(seed).uniform(0, 30, SHAPE))


def _ground() -> np.ndarray:
    rows, cols = np.indices(SHAPE)
    return _rounded(300 + 0.5 * rows + 0.25 * cols)


@pytest.fixture
def pair(write_raster: WriteRaster) -> Site:
    """DSM and CHM with nodata -9999 in different places."""
    chm, dsm = _canopy(), _ground() + _canopy()
    chm[:5], dsm[:, :7] = -9999, -9999
    return Site("a", dsm=write_raster("a_DSM.tif", dsm, nodata=-9999), chm=write_raster("a_CHM.tif", chm, nodata=-9999))


def test_surface_and_canopy_come_back_as_they_are_in_the_files(pair: Site) -> None:
    source = HeightRasters([pair])
    surface, canopy = source.surface("a", WHOLE), source.canopy("a", WHOLE)
    assert np.array_equal(canopy[5:], _canopy()[5:])
    assert np.isnan(canopy[:5]).all()
    assert np.array_equal(surface[:, 7:], (_ground() + _canopy())[:, 7:])
    assert np.isnan(surface[:, :7]).all()
    assert (surface.dtype, canopy.dtype) == (np.float32, np.float32)
    surface[...] = 0  # a copy: what lies in the cache stays
    assert source.surface("a", WHOLE)[30, 30] > 300


def test_a_sample_is_valid_where_both_rasters_are_and_zero_elsewhere(pair: Site) -> None:
    image, target, valid = HeightRasters([pair]).sample("a", WHOLE)
    expected = np.ones(SHAPE, bool)
    expected[:5], expected[:, :7] = False, False
    assert np.array_equal(valid, expected)
    assert (image.shape, image.dtype, target.dtype) == ((1, *SHAPE), np.float32, np.float32)
    assert not image[0][~valid].any()
    assert not target[~valid].any()
    assert np.array_equal(target[valid], _canopy()[valid])


def test_image_and_label_are_valid_on_their_own(pair: Site) -> None:
    source = HeightRasters([pair])
    _, image_valid = source.read("a", WHOLE)
    target, label_valid = source.label("a", WHOLE)
    assert image_valid.sum() == 70 * 83
    assert label_valid.sum() == 65 * 90
    assert not target[:5].any()


def test_the_image_is_the_surface_over_its_reference_in_units_of_the_scale(pair: Site) -> None:
    source = HeightRasters([pair], normaliser=MetresNormaliser(20.0, 13.0, 10.0))
    surface = source.surface("a", WHOLE)
    reference = build_reference(
        lambda window: surface[window.row : window.row_stop], *SHAPE, cell_px=13.0, percentile=10.0
    )
    window = Window(11, 17, 32, 40)
    image, valid = source.read("a", window)
    expected = (source.surface("a", window) - reference.window(window)) / np.float32(20)
    assert np.array_equal(image[0][valid], expected[valid])
    found = source.reference("a")
    assert found is not None
    assert np.array_equal(found.values, reference.values)


def test_any_tiling_gives_the_same_pixels_padding_included(pair: Site) -> None:
    source = HeightRasters([pair], terrain=None)
    whole = source.sample("a", Window(-10, -10, 100, 120))
    rng = np.random.default_rng(0)
    for _ in range(30):
        row, col = int(rng.integers(0, 80)), int(rng.integers(0, 100))
        part = source.sample("a", Window(row - 10, col - 10, 20, 20))
        for one, all_of_it in zip(part, whole, strict=True):
            assert np.array_equal(one, all_of_it[..., row : row + 20, col : col + 20])
    assert not source.sample("a", Window(500, 500, 8, 8))[2].any()


def test_changing_values_under_nodata_changes_no_sample_bit_for_bit(write_raster: WriteRaster) -> None:
    samples = []
    holes = np.random.default_rng(5).random((2, *SHAPE)) < 0.2
    for name, garbage in (("a", 0.0), ("b", 7777.0)):
        paths = []
        for kind, heights, hole in zip(("DSM", "CHM"), (_ground() + _canopy(), _canopy()), holes, strict=True):
            mask = np.where(hole, 0, 255).astype(np.uint8)
            paths.append(write_raster(f"{name}_{kind}.tif", np.where(hole, np.float32(garbage), heights), mask=mask))
        source = HeightRasters([Site("x", dsm=paths[0], chm=paths[1])])
        samples.append((*source.sample("x", WHOLE), *source.read("x", WHOLE), source.valid_share("x", 16)))
    for first, second in zip(*samples, strict=True):
        assert np.array_equal(first, second)


def test_canopy_is_surface_minus_terrain_where_there_is_no_canopy_model(write_raster: WriteRaster) -> None:
    dtm = _ground()
    dtm[0, 0] = np.nan
    site = Site("a", dsm=write_raster("a_DSM.tif", _ground() + _canopy()), dtm=write_raster("a_DTM.tif", dtm))
    canopy = HeightRasters([site]).canopy("a", WHOLE)
    assert np.isnan(canopy[0, 0])
    canopy[0, 0] = _canopy()[0, 0]
    assert np.array_equal(canopy, _canopy())


def test_with_all_three_the_canopy_model_is_the_truth_and_the_terrain_is_said_to_be_unused(
    pair: Site, write_raster: WriteRaster
) -> None:
    site = Site("a", dsm=pair.dsm, chm=pair.chm, dtm=write_raster("a_DTM.tif", _ground() + 5))
    source = HeightRasters([site])
    assert np.array_equal(source.canopy("a", WHOLE)[5:], _canopy()[5:])
    assert "DTM: not used, the heights above ground come from the CHM" in source.scenes[0].notes


def test_a_canopy_model_alone_needs_invented_terrain_and_the_setting_is_named(write_raster: WriteRaster) -> None:
    site = Site("a", chm=write_raster("a_CHM.tif", _canopy()))
    for input in ("dsm", "both"):
        with pytest.raises(DataError, match=rf"data\.input is {input}.*data\.terrain\.simulate: true"):
            HeightRasters([site], input=input)
    terrain = Terrain(20.0, 50.0, 3)
    source = HeightRasters([site], terrain=terrain)
    x, y = 500_000.5 + np.arange(90), 4_999_999.5 - np.arange(70)
    assert np.array_equal(source.surface("a", WHOLE), _canopy() + terrain.surface(x, y))
    assert source.reference("a") is not None
    assert "surface: the CHM on invented terrain (amplitude 20 m, wavelength 50 m, seed 3)" in source.scenes[0].notes


def test_invented_terrain_depends_on_the_ground_and_not_on_the_raster(write_raster: WriteRaster) -> None:
    whole = Site("whole", chm=write_raster("whole.tif", _canopy()))
    part = Site("part", chm=write_raster("part.tif", _canopy()[20:50, 30:80], left=500_030.0, top=4_999_980.0))
    source = HeightRasters([whole, part], terrain=Terrain())
    assert np.array_equal(source.surface("part", Window(0, 0, 30, 50)), source.surface("whole", Window(20, 30, 30, 50)))


def test_sites_with_their_own_surface_get_no_invented_terrain(pair: Site) -> None:
    plain, simulated = HeightRasters([pair]), HeightRasters([pair], terrain=Terrain())
    assert np.array_equal(plain.surface("a", WHOLE), simulated.surface("a", WHOLE), equal_nan=True)


def test_the_canopy_as_input_has_reference_zero(pair: Site) -> None:
    source = HeightRasters([pair], input="chm")
    image, target, valid = source.sample("a", WHOLE)
    assert source.reference("a") is None
    assert source.in_channels == 1
    assert np.array_equal(image[0], target / np.float32(30))
    assert valid.sum() == 65 * 90  # the surface model plays no part
    assert "DSM: not used, data.input is chm" in source.scenes[0].notes
    assert np.array_equal(source.surface("a", WHOLE), source.canopy("a", WHOLE), equal_nan=True)


def test_both_bands_are_the_surface_over_its_reference_and_the_canopy(pair: Site) -> None:
    both, surface = HeightRasters([pair], input="both"), HeightRasters([pair])
    image, valid = both.read("a", WHOLE)
    assert image.shape == (2, *SHAPE)
    assert both.in_channels == 2
    assert np.array_equal(image[0][valid], surface.read("a", WHOLE)[0][0][valid])
    assert np.array_equal(image[1][valid], _canopy()[valid] / np.float32(30))
    assert not image[:, ~valid].any()
    assert np.array_equal(valid, surface.sample("a", WHOLE)[2])


def test_per_tile_stretching_uses_valid_pixels_of_the_window_alone(pair: Site) -> None:
    source = HeightRasters([pair], normaliser=PerTileNormaliser())
    image, _, valid = source.sample("a", Window(0, 0, 30, 30))
    assert source.reference("a") is None
    assert (image[0][valid].min(), image[0][valid].max()) == (0.0, 1.0)


def test_the_valid_share_counts_padding_as_not_valid(pair: Site) -> None:
    source = HeightRasters([pair])
    _, _, valid = source.sample("a", Window(0, 0, 96, 96))
    expected = valid.reshape(3, 32, 3, 32).mean(axis=(1, 3))
    assert np.array_equal(source.valid_share("a", 32), expected)
    assert source.valid_share("a", 128).tolist() == [[65 * 83 / 128**2]]
    assert source.valid_share("a", 128).shape == (1, 1)


def test_a_scene_smaller_than_a_tile_is_noted(pair: Site) -> None:
    source = HeightRasters([pair])
    assert source.tile_notes(64) == ()
    assert source.tile_notes(80) == (
        "a: 70 x 90 pixels are less than a tile of 80 px; it is padded with pixels that do not count",
    )


def test_slightly_negative_heights_are_kept_and_told(write_raster: WriteRaster) -> None:
    canopy = _canopy()
    canopy[3, 3] = -3.5
    source = HeightRasters([Site("a", chm=write_raster("a.tif", canopy))], input="chm")
    assert source.canopy("a", WHOLE)[3, 3] == -3.5
    assert source.scenes[0].notes == ("canopy: heights down to -3.50 m are kept as they are",)


def test_a_canopy_model_whose_nodata_is_zero_is_reported_with_the_cure(write_raster: WriteRaster) -> None:
    canopy = _canopy()
    canopy[:7] = 0
    path = write_raster("a.tif", canopy, nodata=0)
    notes = HeightRasters([Site("a", chm=path)], input="chm").scenes[0].notes
    zeros = int((canopy == 0).sum())
    assert "CHM: nodata is 0: every height of exactly 0 m counts as not measured" in notes
    share = f"{zeros / canopy.size:.2%}"
    assert (
        f"CHM: {zeros} pixels ({share}) are not measured because nodata is 0; "
        "if ground lies at 0 m there, set data.chm_nodata: none"
    ) in notes
    cured = HeightRasters([Site("a", chm=path, chm_nodata="none")], input="chm")
    assert cured.scenes[0].notes == ()
    assert cured.label("a", WHOLE)[1].all()


def test_a_surface_full_of_zeros_among_mountains_is_reported(write_raster: WriteRaster) -> None:
    dsm = _ground() + _canopy()
    dsm[:7] = 0
    site = Site("a", dsm=write_raster("a_DSM.tif", dsm), chm=write_raster("a_CHM.tif", _canopy()))
    notes = HeightRasters([site]).scenes[0].notes
    assert any(note.startswith("DSM: 630 pixels (10.00%) are exactly 0 m while all others") for note in notes)


def test_settings_of_nodata_reach_their_files(write_raster: WriteRaster) -> None:
    dsm, chm = _ground() + _canopy(), _canopy()
    dsm[0], chm[1] = -9999, -1
    site = Site(
        "a", dsm=write_raster("a_DSM.tif", dsm), chm=write_raster("a_CHM.tif", chm), nodata=-9999, chm_nodata=-1.0
    )
    valid = HeightRasters([site]).sample("a", WHOLE)[2]
    assert valid.all(axis=1).tolist() == [False, False] + [True] * 68


def test_undeclared_nodata_is_refused_at_opening(write_raster: WriteRaster) -> None:
    chm = _canopy()
    chm[:7] = -9999
    path = write_raster("a.tif", chm)
    with pytest.raises(DataError, match=r"site a: .*630 pixels \(10\.00%\) hold -9999.*set data\.nodata: -9999"):
        HeightRasters([Site("a", chm=path)], input="chm")
    assert HeightRasters([Site("a", chm=path, nodata=-9999)], input="chm").label("a", WHOLE)[1].sum() == 63 * 90


def test_a_mask_given_as_canopy_model_is_not_thresholded_again(write_raster: WriteRaster) -> None:
    mask = (np.random.default_rng(0).random(SHAPE) < 0.3).astype(np.uint8)
    mask[0, 0] = 255
    with pytest.raises(DataError, match=r"only the values 0, 1 and 255: a mask, not heights"):
        HeightRasters([Site("a", chm=write_raster("a.tif", mask))], input="chm")
    metres = write_raster("b.tif", _canopy().astype(np.uint8))
    assert HeightRasters([Site("b", chm=metres)], input="chm").canopy("b", WHOLE).max() > 25


def test_sites_without_a_measured_pixel_are_refused(write_raster: WriteRaster) -> None:
    empty = write_raster("empty.tif", np.full(SHAPE, -9999, np.float32), nodata=-9999)
    upper, lower = _canopy(), _canopy()
    upper[35:], lower[:35] = np.nan, np.nan
    never = Site("never", dsm=write_raster("n_DSM.tif", upper), chm=write_raster("n_CHM.tif", lower))
    with pytest.raises(DataError) as caught:
        HeightRasters([Site("empty", dsm=write_raster("full.tif", _canopy()), chm=empty), never])
    text = str(caught.value)
    assert text.startswith("2 faults in the rasters:\n")
    assert re.search(r"site empty: .*empty\.tif: not one pixel was measured .*nodata is -9999", text)
    assert re.search(r"site never: .*: no pixel was measured in all of them", text)


def test_a_sparse_site_and_towers_are_told(write_raster: WriteRaster) -> None:
    canopy = np.full(SHAPE, np.nan, np.float32)
    canopy[:7] = 1500.0
    notes = HeightRasters([Site("a", chm=write_raster("a.tif", canopy))], input="chm").scenes[0].notes
    assert notes == (
        "canopy: 1500 m at its highest, above any tree; are the heights in metres?",
        "only 10.0% of the pixels are measured",
    )


def test_all_faults_of_all_sites_are_told_at_once(write_raster: WriteRaster, tmp_path: Path) -> None:
    good = write_raster("good.tif", _canopy())
    coarse = write_raster("coarse.tif", _canopy(), pixel_size=2.0)
    bands = write_raster("rgb.tif", np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(DataError) as caught:
        HeightRasters(
            [
                Site("good", dsm=good, chm=good),
                Site("grid", dsm=good, chm=coarse),
                Site("gone", dsm=tmp_path / "gone.tif", chm=bands),
                Site("bare", dsm=good),
                Site("bare", chm=good),
            ]
        )
    lines = str(caught.value).split("\n")
    assert lines[0] == "6 faults in the rasters:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "site bare",
        "site grid",
        "site gone",
        "site gone",
        "site bare",
        "site bare",
    ]
    for words in (
        "given to more than one site",
        "pixel size 2 x 2",
        "does not exist",
        "3 bands",
        "Give a CHM, or a DSM",
    ):
        assert words in str(caught.value)


def test_the_same_file_given_twice_is_told(write_raster: WriteRaster) -> None:
    path = write_raster("a.tif", _canopy())
    notes = HeightRasters([Site("a", dsm=path, chm=path)]).scenes[0].notes
    assert notes == ("DSM and CHM are one and the same file; is that meant?",)


def test_no_sites_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match=r"no sites.*data\.sites"):
        HeightRasters([])


def test_different_grids_are_refused_or_resampled_as_the_setting_says(write_raster: WriteRaster) -> None:
    dsm = write_raster("a_DSM.tif", _ground())
    fine = np.kron(_canopy(), np.ones((2, 2), np.float32))
    site = Site("a", dsm=dsm, chm=write_raster("a_CHM.tif", fine, pixel_size=0.5))
    with pytest.raises(GridError, match=r"(?s)lie on different grids: pixel size.*140 x 180.*data\.align: resample"):
        HeightRasters([site])
    source = HeightRasters([site], align="resample")
    assert source.scenes[0].grid.height == 70
    assert source.canopy("a", WHOLE).shape == SHAPE
    assert abs(np.nanmean(source.canopy("a", WHOLE)) - _canopy().mean()) < 0.2
    assert any(note.startswith("CHM: resampled onto the grid of the DSM") for note in source.scenes[0].notes)


def test_rasters_of_different_ground_are_refused_even_with_resampling(write_raster: WriteRaster) -> None:
    site = Site("a", dsm=write_raster("d.tif", _ground()), chm=write_raster("c.tif", _canopy(), left=700_000.0))
    with pytest.raises(GridError, match="cover different ground"):
        HeightRasters([site], align="resample")


def test_one_raster_without_a_crs_is_taken_to_have_the_others(write_raster: WriteRaster) -> None:
    site = Site(
        "a", dsm=write_raster("d.tif", _ground()), chm=write_raster("c.tif", _canopy(), crs=None, left=500_000.05)
    )
    notes = HeightRasters([site]).scenes[0].notes
    assert (
        "of CHM and DSM only one names a CRS; it is taken for both; "
        "CHM: lies 0.05 units beside the DSM, taken as the same grid"
    ) in notes


def test_a_truncated_raster_is_refused_by_name_and_leaves_nothing(write_raster: WriteRaster, tmp_path: Path) -> None:
    path = write_raster("cut.tif", _canopy(), compress="deflate")
    path.write_bytes(path.read_bytes()[:-2000])
    cache = Cache(tmp_path / "cache")
    with pytest.raises(DataError, match=r"site a: .*cut\.tif cannot be read at rows"):
        HeightRasters([Site("a", chm=path)], input="chm", cache=cache)
    assert cache.size_bytes() == 0


def test_rasters_are_decoded_once(pair: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache")
    first = HeightRasters([pair], cache=cache).sample("a", WHOLE)

    def never(self: object, planes: np.ndarray) -> None:
        raise AssertionError("decoded twice")

    monkeypatch.setattr(decode_module.SitePlan, "decode", never)
    again = HeightRasters([pair], cache=Cache(tmp_path / "cache"))
    for one, other in zip(first, again.sample("a", WHOLE), strict=True):
        assert np.array_equal(one, other)
    assert again.scenes[0].notes == HeightRasters([pair], cache=cache).scenes[0].notes


def test_a_changed_file_is_decoded_anew_and_a_deleted_one_noticed(write_raster: WriteRaster, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    path = write_raster("a.tif", _canopy())
    site = Site("a", chm=path)
    HeightRasters([site], input="chm", cache=cache)
    write_raster("a.tif", _canopy() + np.float32(1))
    assert np.array_equal(HeightRasters([site], input="chm", cache=cache).canopy("a", WHOLE), _canopy() + np.float32(1))
    path.unlink()
    with pytest.raises(DataError, match=r"a\.tif does not exist"):
        HeightRasters([site], input="chm", cache=cache)


def test_every_setting_that_changes_the_planes_has_its_own_entry(write_raster: WriteRaster, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    path = write_raster("a.tif", _canopy(), nodata=-1)
    for terrain in (Terrain(20, 200, 7), Terrain(20, 200, 8), Terrain(10, 200, 7), Terrain(20, 100, 7)):
        HeightRasters([Site("a", chm=path)], terrain=terrain, cache=cache)
    HeightRasters([Site("a", chm=path)], input="chm", cache=cache)
    HeightRasters([Site("a", chm=path, nodata=-2)], input="chm", cache=cache)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 6


def test_bands_of_any_size_decode_to_the_same_planes(
    pair: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = HeightRasters([pair], terrain=Terrain(), cache=Cache(tmp_path / "one"))
    monkeypatch.setattr(decode_module, "_BAND_BYTES", 4 * 90 * 9)
    banded = HeightRasters([pair], terrain=Terrain(), cache=Cache(tmp_path / "two"))
    assert np.array_equal(whole.surface("a", WHOLE), banded.surface("a", WHOLE), equal_nan=True)
    assert np.array_equal(whole.canopy("a", WHOLE), banded.canopy("a", WHOLE), equal_nan=True)
    assert whole.describe()["a"]["valid_share"] == banded.describe()["a"]["valid_share"]


def _sample_sum(source: HeightRasters) -> float:
    return float(source.sample("a", Window(0, 0, 64, 64))[0].sum())


def test_a_source_works_in_forked_and_in_spawned_workers(pair: Site) -> None:
    source = HeightRasters([pair])
    expected = _sample_sum(source)
    assert _sample_sum(pickle.loads(pickle.dumps(source))) == expected
    assert len(pickle.dumps(source)) < 100_000  # no planes travel
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_sample_sum, [source] * 2) == [expected] * 2


def test_after_opening_no_source_file_is_needed(pair: Site) -> None:
    source = HeightRasters([pair])
    expected = _sample_sum(source)
    assert pair.dsm is not None
    os.unlink(pair.dsm)
    assert _sample_sum(source) == expected
    assert source.describe()["a"]["files"][0]["kind"] == "dsm"


def test_dates_of_one_ground_are_one_ground_and_it_is_said(write_raster: WriteRaster) -> None:
    sites = [
        Site("y2012", chm=write_raster("a.tif", _canopy())),
        Site("y2019", chm=write_raster("b.tif", _canopy(1)[::2, ::2], pixel_size=2.0)),
        Site("east", chm=write_raster("c.tif", _canopy(2), left=500_090.0)),
    ]
    scenes = HeightRasters(sites, input="chm").scenes
    assert [scene.ground for scene in scenes] == ["y2012", "y2012", "east"]
    assert scenes[0].notes == ("shows the same ground as y2019: they stay in one part of the split",)
    assert [scene.files for scene in scenes] == [(site.chm,) for site in sites]


def test_an_unknown_scene_is_an_error_that_lists_the_scenes(pair: Site) -> None:
    with pytest.raises(DataError, match=r"no scene 'b'\. Scenes: a"):
        HeightRasters([pair]).sample("b", WHOLE)


def test_the_facts_of_a_site_are_plain_values(pair: Site) -> None:
    source = HeightRasters([pair], notes=("ortho.tif: no partner",))
    facts = json.loads(json.dumps(source.describe(), allow_nan=False))["a"]
    valid = source.sample("a", WHOLE)[2]
    assert source.notes == ("ortho.tif: no partner",)
    assert facts["pixel_size_m"] == 1.0
    assert "32633" in facts["crs"]
    assert facts["valid_share"] == valid.mean()
    assert facts["canopy_min_m"] == float(_canopy()[5:].min())
    assert facts["canopy_max_m"] == float(_canopy()[5:].max())
    assert facts["reference"] == "percentile 5 of cells of 60 m"
    assert [set(file) for file in facts["files"]] == [{"kind", "path", "bytes", "mtime_ns", "sha256", "nodata"}] * 2
    assert HeightRasters([pair], input="chm").describe()["a"]["reference"] == "0"


@pytest.mark.real
def test_every_real_canopy_model_opens_with_the_gap_shares_of_its_description(real_data: Path) -> None:
    shares = {  # below 5 and 10 m, in percent
        "laselva_west_chm_2009_125cm": (7.5, 11.8),
        "laselva_west_chm_2009_5m": (6.9, 11.7),
        "laselva_west_chm_2019_5m": (13.0, 23.3),
        "cauaxi_chm_2012_1m": (1.2, 4.3),
        "cauaxi_chm_2014_1m": (2.4, 5.8),
        "quesnel_chm_2m": (57.8, 67.8),
        "kootenay_chm_50cm": (74.3, 98.7),
        "nz_forest_chm_1m": (3.5, 14.2),
    }
    folder = real_data / "forest_chm"
    source = HeightRasters([Site(name, chm=folder / f"{name}.tif") for name in shares], terrain=Terrain())
    grounds = {scene.name: scene.ground for scene in source.scenes}
    assert grounds["cauaxi_chm_2014_1m"] == grounds["cauaxi_chm_2012_1m"]
    assert len({grounds[name] for name in shares if name.startswith("laselva")}) == 1
    assert len(set(grounds.values())) == 5
    for scene in source.scenes:
        canopy = source.canopy(scene.name, scene.grid.window)
        canopy = canopy[np.isfinite(canopy)]
        found = tuple(float((canopy < height).mean() * 100) for height in (5, 10))
        assert found == pytest.approx(shares[scene.name], abs=0.06), scene.name


@pytest.mark.real
def test_real_surface_and_terrain_models_give_the_real_canopy(real_data: Path) -> None:
    dsm, dtm, chm = (real_data / "forest_chm" / f"nz_forest_{kind}_1m.tif" for kind in ("dsm", "dtm", "chm"))
    source = HeightRasters([Site("made", dsm=dsm, dtm=dtm, ground="nz"), Site("given", dsm=dsm, chm=chm, ground="nz")])
    window = source.scenes[0].grid.window
    difference = source.canopy("made", window) - source.canopy("given", window)
    assert np.median(np.abs(difference)) < 0.1  # the canopy model was made with some filtering
    assert "DTM: no pixel is lost because nodata is 0" in source.scenes[0].notes
