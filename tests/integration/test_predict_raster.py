from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
from PIL import Image
from rasterio.crs import CRS
from rasterio.features import rasterize
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage
from torch import nn

from maskwright.checkpoints import save_model
from maskwright.cli.main import main
from maskwright.config.model import FilmUNetConfig
from maskwright.config.prediction import PredictionConfig
from maskwright.data.normalise import MetresNormaliser, PerTileNormaliser
from maskwright.errors import DataError, GridError, PredictionError
from maskwright.prediction import Predictor, RasterResult, banded, map_raster
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.workflows.predict import predict

HEIGHTS = (2.0, 5.0, 10.0)
TRANSFORM = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("model"))


def _saved(folder: Path, *, depth: int = 2, input: str = "dsm", norm: str = "batch", per_tile: bool = False) -> Path:
    """A network nobody trained, with statistics and modulation as after a training."""
    torch.manual_seed(1)
    architecture = FilmUNetConfig(base_channels=4, depth=depth, norm=norm)
    in_channels = 2 if input == "both" else 1
    model = HeightGaps(HEIGHTS).build_model(architecture, in_channels)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(module.bias, 0, 0.3)
    nn.init.normal_(model.film.out.weight, 0, 0.5)
    description = {
        "task": HeightGaps(HEIGHTS).to_dict(),
        "model": architecture.model_dump(mode="json"),
        "in_channels": in_channels,
        "batch_size": 8,
        "input": input,
        "normaliser": (PerTileNormaliser() if per_tile else MetresNormaliser()).to_dict(),
        "trained_range_m": [2.0, 10.0],
        "prediction": {},
        "nodata": {},
        "pixel_size_m": [0.5, 0.5],
        "tile_px": 48,
    }
    save_model(folder, model, description)
    return folder


def _surface(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((height, width))
    slope = np.linspace(0, 30, width)
    return (300 + slope + 30 * ndimage.gaussian_filter(noise, 2.5)).astype(np.float32)


def _write(
    path: Path, heights: np.ndarray, *, missing: np.ndarray | None = None, garbage: float = -9999.0, **tags: Any
) -> Path:
    values = heights.copy()
    if missing is not None:
        values[missing] = garbage
    profile = {"crs": CRS.from_epsg(32611), "transform": TRANSFORM, "nodata": -9999.0} | tags
    height, width = heights.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype="float32", **profile
    ) as dataset:
        dataset.write(values, 1)
    return path


def _read(result: RasterResult, name: str) -> np.ndarray:
    with rasterio.open(result.files[name]) as dataset:
        values: np.ndarray = dataset.read()
    return values


def _missing(height: int, width: int) -> np.ndarray:
    missing = np.zeros((height, width), bool)
    missing[:12, :20] = missing[60:75] = missing[80:, 100:] = True
    return missing


@pytest.fixture
def dsm(tmp_path: Path) -> Path:
    return _write(tmp_path / "north.tif", _surface(130, 150), missing=_missing(130, 150))


def _threshold(predictor: Predictor, path: Path) -> float:
    """A probability that about a third of the pixels exceeds, so that an untrained network draws gaps."""
    with rasterio.open(path) as dataset:
        heights = dataset.read(1, masked=True).filled(np.nan)
    return float(np.nanquantile(predictor.predict(heights, pixel_size_m=0.5), 0.65))


def test_everything_asked_for_is_written_and_nothing_else_stays(model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    result = Predictor.load(model_folder, device="cpu").predict_raster(
        dsm, tmp_path / "maps" / "today", HEIGHTS, progress=lambda *step: steps.append(step)
    )
    names = ["north_gap_sizes.csv", "north_gap_sizes.png", "north_gaps.gpkg", "north_gaps.qml", "north_gaps.tif"]
    names += ["north_probability.qml", "north_probability.tif", "north_quicklook.png", "north_summary.json"]
    assert sorted(path.name for path in (tmp_path / "maps" / "today").iterdir()) == names
    assert sorted(path.name for path in result.files.values()) == names
    assert {what for _, _, what in steps} == {"reference surface", "windows", "polygons", "rasters"}
    windows = [(done, total) for done, total, what in steps if what == "windows"]
    assert windows[-1][0] == windows[-1][1] == 30  # 5 windows down, 6 across, 48 px with half of it shared


def test_rasters_are_valid_cogs_on_the_grid_of_the_input(model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    result = Predictor.load(model_folder, device="cpu").predict_raster(dsm, tmp_path / "maps", HEIGHTS)
    for name, dtype in (("probability", "float32"), ("gaps", "uint8")):
        assert cog_validate(result.files[name], strict=True)[0]
        with rasterio.open(result.files[name]) as dataset:
            assert dataset.crs.to_epsg() == 32611
            assert dataset.transform == TRANSFORM
            assert dataset.shape == (130, 150)
            assert dataset.descriptions == ("2 m", "5 m", "10 m")
            assert dataset.dtypes == (dtype,) * 3
    probs, gaps, missing = _read(result, "probability"), _read(result, "gaps"), _missing(130, 150)
    np.testing.assert_array_equal(np.isnan(probs), np.broadcast_to(missing, probs.shape))
    np.testing.assert_array_equal(gaps == 255, np.broadcast_to(missing, gaps.shape))
    assert np.nanmin(probs) >= 0
    assert np.nanmax(probs) <= 1


@pytest.mark.parametrize("tile_px", [64, 80, 512])
def test_windows_whose_halo_fits_give_what_one_pass_gives(
    tile_px: int, model_folder: Path, dsm: Path, tmp_path: Path
) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    with rasterio.open(dsm) as dataset:
        heights = dataset.read(1, masked=True).filled(np.nan)
    whole = predictor.predict(heights, HEIGHTS, pixel_size_m=0.5)[0]
    overlap = 2 * predictor.model.receptive_field_px / tile_px + 0.1 if tile_px < 512 else 0.5
    settings = PredictionConfig(tile_px=tile_px, overlap=overlap)
    result = predictor.predict_raster(dsm, tmp_path / "maps", HEIGHTS, settings=settings)
    summary = json.loads(result.files["summary"].read_text())
    assert (summary["settings"]["halo_px"] != [0, 0]) == (tile_px < 512)
    np.testing.assert_allclose(_read(result, "probability"), whole, atol=1e-6)


def test_a_raster_smaller_than_a_tile_gives_what_one_pass_gives(model_folder: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    heights = _surface(21, 13)
    result = predictor.predict_raster(_write(tmp_path / "small.tif", heights), tmp_path / "maps", HEIGHTS)
    whole = predictor.predict(heights, HEIGHTS, pixel_size_m=0.5)[0]
    np.testing.assert_array_equal(_read(result, "probability"), whole)


def test_blended_windows_of_any_size_stay_close_to_each_other(model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    maps = [
        _read(predictor.predict_raster(dsm, tmp_path / "maps", settings=PredictionConfig(tile_px=size)), "probability")
        for size in (48, 64, 96)
    ]
    for other in maps[1:]:
        assert np.nanmean(np.abs(other - maps[0])) < 0.01


@pytest.mark.parametrize("per_tile", [False, True])
def test_values_under_nodata_change_no_bit_of_the_result(per_tile: bool, tmp_path: Path) -> None:
    predictor = Predictor.load(_saved(tmp_path / "model", per_tile=per_tile), device="cpu")
    heights, missing = _surface(130, 150), _missing(130, 150)
    results = []
    for index, garbage in enumerate((-9999.0, 1.0e20)):
        folder = tmp_path / str(index)
        folder.mkdir()
        path = _write(folder / "north.tif", heights, missing=missing, garbage=garbage, nodata=garbage)
        results.append(predictor.predict_raster(path, folder / "maps", HEIGHTS))
    for name in ("probability", "gaps"):
        assert _read(results[0], name).tobytes() == _read(results[1], name).tobytes()
    assert results[0].per_height == results[1].per_height


def test_the_batch_size_changes_no_bit_of_the_result(model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    one, many = (
        _read(predictor.predict_raster(dsm, tmp_path, settings=PredictionConfig(batch_size=size)), "probability")
        for size in (1, 7)
    )
    assert one.tobytes() == many.tobytes()


@pytest.mark.parametrize("min_area_m2", [0.0, 10.0])
def test_gaps_lie_inside_gaps_in_every_file(min_area_m2: float, model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    settings = PredictionConfig(probability_threshold=_threshold(predictor, dsm), min_area_m2=min_area_m2)
    result = predictor.predict_raster(dsm, tmp_path / "maps", HEIGHTS, settings=settings)
    probs, gaps = _read(result, "probability"), _read(result, "gaps")
    missing = _missing(130, 150)
    assert (np.diff(probs[:, ~missing], axis=0) >= 0).all()
    for low, high in pairwise(gaps):
        assert ((low == 1) <= (high == 1)).all()
    expected = probs > settings.probability_threshold
    for gap, whole in zip(gaps == 1, expected, strict=True):
        labels, _ = ndimage.label(whole, np.ones((3, 3)))
        large = np.flatnonzero(np.bincount(labels.ravel()) * 0.25 >= min_area_m2)
        np.testing.assert_array_equal(gap, np.isin(labels, large[large > 0]))
    assert 0 < (gaps[0] == 1).sum() < (~missing).sum()


def test_polygons_and_statistics_describe_the_mask(model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    settings = PredictionConfig(probability_threshold=_threshold(predictor, dsm), min_area_m2=2.0)
    result = predictor.predict_raster(dsm, tmp_path / "maps", HEIGHTS, settings=settings)
    info, _, geometry, columns = pyogrio.raw.read(result.files["polygons"])
    fields = dict(zip(info["fields"], columns, strict=True))
    shapes = shapely.from_wkb(geometry)
    probs, gaps = _read(result, "probability"), _read(result, "gaps")
    for k, height in enumerate(HEIGHTS):
        own = fields["height_m"] == height
        painted = rasterize(shapes[own], (130, 150), transform=TRANSFORM)
        np.testing.assert_array_equal(painted == 1, gaps[k] == 1)
        labels, count = ndimage.label(gaps[k] == 1, np.ones((3, 3)))
        np.testing.assert_array_equal(fields["area_m2"][own], np.bincount(labels.ravel())[1:] * 0.25)
        means = ndimage.mean(probs[k], labels, np.arange(1, count + 1))
        np.testing.assert_allclose(fields["confidence"][own], means, rtol=1e-6)
        row = result.per_height[k]
        assert (row["height_m"], row["gaps"], row["gap_px"]) == (height, count, (gaps[k] == 1).sum())
        assert row["gap_share"] == pytest.approx((gaps[k] == 1).sum() / (gaps[k] != 255).sum())


def test_the_summary_tells_settings_model_and_violations_of_the_raw_order(
    model_folder: Path, dsm: Path, tmp_path: Path
) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    settings = PredictionConfig(tile_px=512)
    result = predictor.predict_raster(dsm, tmp_path / "maps", HEIGHTS, settings=settings)
    with rasterio.open(dsm) as dataset:
        heights = dataset.read(1, masked=True).filled(np.nan)
    alone = np.stack([predictor.predict(heights, [height], pixel_size_m=0.5)[0, 0] for height in HEIGHTS])
    expected = [int((low > high).sum()) for low, high in pairwise(alone)]
    assert sum(expected) > 0
    assert result.violations == tuple(expected)
    summary = json.loads(result.files["summary"].read_text())
    assert [row["pixels"] for row in summary["raw_order_violations"]] == expected
    assert summary["taken_as"] == ["dsm"]
    assert summary["model_sha256"] == predictor.card.sha256
    assert summary["settings"]["tile_px"] == 512
    assert summary["valid_px"] == result.valid_px == (~_missing(130, 150)).sum()
    assert summary["per_height"] == list(result.per_height)


def test_only_what_is_asked_for_is_written(model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    settings = PredictionConfig(
        probabilities=False, polygons="none", quicklook=False, gap_sizes=False, qgis_style=False
    )
    result = predictor.predict_raster(dsm, tmp_path / "maps", settings=settings)
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["north_gaps.tif", "north_summary.json"]
    assert set(result.files) == {"gaps", "summary"}


def test_polygons_know_their_probability_even_if_no_raster_of_it_is_kept(
    model_folder: Path, dsm: Path, tmp_path: Path
) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    threshold = _threshold(predictor, dsm)
    settings = PredictionConfig(probabilities=False, polygons="geojson", probability_threshold=threshold)
    result = predictor.predict_raster(dsm, tmp_path / "maps", settings=settings)
    assert set(result.files) == {"gaps", "polygons", "quicklook", "summary", "gap_sizes", "gap_size_plot", "style"}
    features = json.loads(result.files["polygons"].read_text())["features"]
    assert features
    assert all(feature["properties"]["confidence"] > threshold for feature in features)


def test_heights_of_the_surface_inside_each_gap_are_told(model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    settings = PredictionConfig(probability_threshold=_threshold(predictor, dsm), gap_sizes=False)
    result = predictor.predict_raster(dsm, tmp_path / "maps", (5.0,), settings=settings)
    _, _, _, columns = pyogrio.raw.read(result.files["polygons"])
    fields = dict(zip(pyogrio.read_info(result.files["polygons"])["fields"], columns, strict=True))
    with rasterio.open(dsm) as dataset:
        heights = dataset.read(1).astype(np.float64)
    labels, count = ndimage.label(_read(result, "gaps")[0] == 1, np.ones((3, 3)))
    assert len(fields["gap_id"]) == count > 0
    where = (heights, labels, fields["gap_id"])
    np.testing.assert_allclose(fields["surface_min_m"], ndimage.minimum(*where))
    np.testing.assert_allclose(fields["surface_mean_m"], ndimage.mean(*where))
    np.testing.assert_allclose(fields["surface_max_m"], ndimage.maximum(*where))
    np.testing.assert_allclose(fields["surface_std_m"], ndimage.standard_deviation(*where), atol=1e-4)


def test_otsu_cuts_all_heights_where_their_probabilities_fall_into_two_heaps(
    model_folder: Path, dsm: Path, tmp_path: Path
) -> None:
    settings = PredictionConfig(probability_rule="otsu")
    result = Predictor.load(model_folder, device="cpu").predict_raster(dsm, tmp_path / "maps", settings=settings)
    probs, gaps = _read(result, "probability"), _read(result, "gaps")
    cut = json.loads(result.files["summary"].read_text())["settings"]["probability_threshold"]
    valid = np.isfinite(probs)
    assert probs[valid].min() < cut < probs[valid].max()
    np.testing.assert_array_equal(gaps == 1, valid & (np.nan_to_num(probs) > cut))


def test_edges_of_a_photograph_are_refused_for_heights(model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    with pytest.raises(PredictionError, match=r"prediction\.crf .* cannot be used on the heights of .*north\.tif"):
        predictor.predict_raster(dsm, tmp_path / "maps", settings=PredictionConfig(crf=True))


def test_files_an_earlier_prediction_left_beside_the_map_are_named(
    model_folder: Path, dsm: Path, tmp_path: Path
) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    first, second = (
        predictor.predict_raster(dsm, tmp_path / "maps", settings=PredictionConfig(polygons=form))
        for form in ("geojson", "gpkg")
    )
    assert first.notes == ()
    assert second.notes == ("north_gaps.geojson is left from an earlier prediction and does not belong to this map",)


def test_the_quicklook_is_a_picture_of_bounded_size(model_folder: Path, tmp_path: Path) -> None:
    path = _write(tmp_path / "long.tif", _surface(1700, 40))
    result = Predictor.load(model_folder, device="cpu").predict_raster(path, tmp_path / "maps", [5.0])
    with Image.open(result.files["quicklook"]) as picture:
        assert picture.height < 1700


def test_notes_speak_of_unlike_heights_and_pixels_and_of_a_missing_crs(model_folder: Path, tmp_path: Path) -> None:
    path = _write(
        tmp_path / "bare.tif", _surface(40, 40), crs=None, transform=rasterio.Affine(0.8, 0, 100, 0, -0.8, 200)
    )
    settings = PredictionConfig(polygons="geojson")
    result = Predictor.load(model_folder, device="cpu").predict_raster(
        path, tmp_path / "maps", [5.0, 30.0], settings=settings
    )
    assert len(result.notes) == 3
    assert "no CRS" in result.notes[0]
    assert "30 m lies outside the heights the model was trained at" in result.notes[1]
    assert "pixels of 0.8 m, the model was trained on 0.5 m" in result.notes[2]
    with rasterio.open(result.files["gaps"]) as dataset:
        assert dataset.crs is None
        assert dataset.transform == rasterio.Affine(0.8, 0, 100, 0, -0.8, 200)


def test_an_undeclared_nodata_value_is_refused_and_can_be_named(model_folder: Path, tmp_path: Path) -> None:
    path = _write(tmp_path / "north.tif", _surface(130, 150), missing=_missing(130, 150), nodata=None)
    predictor = Predictor.load(model_folder, device="cpu")
    with pytest.raises(DataError, match="-9999"):
        predictor.predict_raster(path, tmp_path / "maps", HEIGHTS)
    assert not (tmp_path / "maps").exists()
    result = predictor.predict_raster(path, tmp_path / "maps", HEIGHTS, nodata=-9999.0)
    assert result.valid_px == (~_missing(130, 150)).sum()


@pytest.mark.parametrize("input", ["dsm", "chm"])
def test_a_raster_without_a_measured_pixel_is_refused_and_leaves_nothing(input: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "north.tif", np.full((40, 40), -9999.0, np.float32))
    predictor = Predictor.load(_saved(tmp_path / "model", input=input), device="cpu")
    with pytest.raises((PredictionError, DataError), match="measured"):
        predictor.predict_raster(path, tmp_path / "maps", HEIGHTS)
    assert not (tmp_path / "maps").exists()


def test_a_model_of_two_rasters_maps_from_both(tmp_path: Path) -> None:
    predictor = Predictor.load(_saved(tmp_path / "model", input="both"), device="cpu")
    surface, canopy, missing = _surface(60, 70), _surface(60, 70, seed=5) - 300, np.zeros((60, 70), bool)
    missing[40:, 50:] = True
    dsm, chm = _write(tmp_path / "dsm.tif", surface), _write(tmp_path / "chm.tif", canopy, missing=missing)
    settings = PredictionConfig(tile_px=512)
    result = predictor.predict_raster(dsm, tmp_path / "maps", HEIGHTS, chm=chm, settings=settings)
    canopy[missing] = np.nan
    whole = predictor.predict(surface, HEIGHTS, pixel_size_m=0.5, chm=canopy)[0]
    np.testing.assert_array_equal(_read(result, "probability"), whole)
    assert result.valid_px == (~missing).sum()
    with pytest.raises(PredictionError, match="give the CHM as well"):
        predictor.predict_raster(dsm, tmp_path / "maps", HEIGHTS)
    other = _write(tmp_path / "other.tif", canopy[:50])
    with pytest.raises(PredictionError, match="lie on different grids"):
        predictor.predict_raster(dsm, tmp_path / "maps", HEIGHTS, chm=other)


def test_a_network_that_looks_at_the_whole_window_is_blended(tmp_path: Path) -> None:
    predictor = Predictor.load(_saved(tmp_path / "model", norm="group"), device="cpu")
    path = _write(tmp_path / "north.tif", _surface(130, 150))
    result = predictor.predict_raster(path, tmp_path / "maps", HEIGHTS)
    assert json.loads(result.files["summary"].read_text())["settings"]["halo_px"] == [0, 0]
    assert np.isfinite(_read(result, "probability")).all()


def test_angles_for_coordinates_are_refused(model_folder: Path, tmp_path: Path) -> None:
    path = _write(
        tmp_path / "north.tif",
        _surface(40, 40),
        crs=CRS.from_epsg(4326),
        transform=rasterio.Affine(1e-5, 0, 8, 0, -1e-5, 47),
    )
    with pytest.raises(GridError, match="Reproject"):
        Predictor.load(model_folder, device="cpu").predict_raster(path, tmp_path / "maps", HEIGHTS)


# --- failures leave nothing half-written ------------------------------------------------------------------------------


def _failing(error: BaseException) -> Callable[..., None]:
    def fail(*args: object, **options: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("step", ["vectorise_mask", "copy_to_cog", "draw_quicklook"])
@pytest.mark.parametrize("error", [PredictionError("no room"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_a_failure_at_any_step_leaves_neither_files_nor_the_folder(
    step: str,
    error: BaseException,
    model_folder: Path,
    dsm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(map_raster, step, _failing(error))
    with pytest.raises(type(error)):
        Predictor.load(model_folder, device="cpu").predict_raster(dsm, tmp_path / "maps" / "today", HEIGHTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["north.tif"]


def test_messages_name_the_output_folder_and_not_the_hidden_one(
    model_folder: Path, dsm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(mask: Path, path: Path, **options: object) -> None:
        raise PredictionError(f"{path} could not be written")

    monkeypatch.setattr(map_raster, "vectorise_mask", fail)
    with pytest.raises(PredictionError) as caught:
        Predictor.load(model_folder, device="cpu").predict_raster(dsm, tmp_path / "maps", HEIGHTS)
    assert str(caught.value) == f"{tmp_path / 'maps' / 'north_gaps.gpkg'} could not be written"


def test_a_failure_keeps_the_maps_of_the_last_time(
    model_folder: Path, dsm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    result = predictor.predict_raster(dsm, tmp_path / "maps", HEIGHTS)
    before = {path.name: path.read_bytes() for path in result.files.values()}
    monkeypatch.setattr(map_raster, "draw_quicklook", _failing(PredictionError("no room")))
    with pytest.raises(PredictionError):
        predictor.predict_raster(dsm, tmp_path / "maps", [7.0])
    assert {path.name: path.read_bytes() for path in (tmp_path / "maps").iterdir()} == before


def test_a_truncated_raster_is_told_and_leaves_nothing(model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    dsm.write_bytes(dsm.read_bytes()[:30_000])
    with pytest.raises(DataError, match="damaged or cut short"):
        Predictor.load(model_folder, device="cpu").predict_raster(dsm, tmp_path / "maps", HEIGHTS)
    assert not (tmp_path / "maps").exists()


def test_an_output_folder_that_is_a_file_is_told_before_any_work(
    model_folder: Path, dsm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "maps").write_text("a file")
    monkeypatch.setattr(banded, "stream", _failing(AssertionError("work was begun")))
    with pytest.raises(PredictionError, match="maps is a file, not a folder"):
        Predictor.load(model_folder, device="cpu").predict_raster(dsm, tmp_path / "maps", HEIGHTS)


def test_a_disk_without_room_is_told_before_any_work(
    model_folder: Path, dsm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskwright.files.free_bytes", lambda folder: 10_000)
    monkeypatch.setattr(banded, "stream", _failing(AssertionError("work was begun")))
    with pytest.raises(PredictionError, match=r"0\.7 MB are needed and 0\.0 MB are free"):
        Predictor.load(model_folder, device="cpu").predict_raster(dsm, tmp_path / "maps", HEIGHTS)
    assert not (tmp_path / "maps").exists()


def test_weights_that_answer_no_numbers_are_told(model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    predictor.model.head.bias.fill_(float("nan"))
    with pytest.raises(PredictionError, match="values that are no numbers"):
        predictor.predict_raster(dsm, tmp_path / "maps", HEIGHTS)
    assert not (tmp_path / "maps").exists()


def test_earlier_maps_are_kept_unless_told_and_nothing_is_begun(model_folder: Path, dsm: Path, tmp_path: Path) -> None:
    predict(model_folder, dsm, tmp_path / "maps", heights_m=[5.0])
    with pytest.raises(PredictionError, match=r"north_summary\.json and 8 more would be replaced.*--overwrite"):
        predict(model_folder, dsm, tmp_path / "maps", heights_m=[7.0])
    (result,) = predict(model_folder, dsm, tmp_path / "maps", heights_m=[7.0], overwrite=True)
    assert result.heights_m == (7.0,)


def _in_degrees(path: Path) -> Path:
    place = {"crs": CRS.from_epsg(4326), "transform": rasterio.Affine(1e-5, 0, 8, 0, -1e-5, 47)}
    return _write(path, _surface(40, 40), **place)


def test_a_raster_that_fails_does_not_end_the_batch_and_all_are_listed(
    model_folder: Path, dsm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = _write(tmp_path / "torn.tif", _surface(130, 150))
    torn.write_bytes(torn.read_bytes()[:30_000])
    inputs = [str(path) for path in (_in_degrees(tmp_path / "angles.tif"), torn, dsm)]
    out = tmp_path / "maps"
    assert main(["predict", str(model_folder), *inputs, "--out", str(out), "--heights", "5"]) == 2
    said = capsys.readouterr()
    assert "2 of 3 files failed; the others were finished" in said.err
    with (out / "summary.csv").open(newline="") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "angles.tif": "failed",
        "torn.tif": "failed",
        "north.tif": "done",
    }
    assert "angles" in rows["angles.tif"]["reason"]
    assert "damaged or cut short" in rows["torn.tif"]["reason"]
    assert 0 <= float(rows["north.tif"]["gap share 5 m"]) <= 1
    assert [path.name for path in out.iterdir() if path.name.startswith((".", "torn", "angles"))] == []


def test_folders_inside_folders_are_searched_where_asked_and_kept_apart(model_folder: Path, tmp_path: Path) -> None:
    for place in ("in", "in/a", "in/b/c", "in/.hidden"):
        (tmp_path / place).mkdir(parents=True)
        _write(tmp_path / place / "north.tif", _surface(30, 40))
    results = predict(model_folder, tmp_path / "in", tmp_path / "in" / "maps", heights_m=[5.0], recursive=True)
    maps = tmp_path / "in" / "maps"
    assert sorted(maps.rglob("*_gaps.tif")) == [maps / place / "north_gaps.tif" for place in ("a", "b/c", "")]
    assert len(results) == 3
    with pytest.raises(PredictionError, match="would be replaced"):
        predict(model_folder, tmp_path / "in", maps, heights_m=[5.0], recursive=True)
    assert len(predict(model_folder, tmp_path / "in", maps, heights_m=[5.0], recursive=True, overwrite=True)) == 3


def test_heights_above_ground_given_for_a_surface_are_doubted(model_folder: Path, tmp_path: Path) -> None:
    canopy = np.clip(_surface(60, 60) - 310, 0, 40)
    predictor = Predictor.load(model_folder, device="cpu")
    result = predictor.predict_raster(_write(tmp_path / "farm_chm.tif", canopy), tmp_path / "maps", HEIGHTS)
    (note,) = result.notes
    assert note.startswith(f"farm_chm.tif holds {canopy.min():.1f} to {canopy.max():.1f} m, as heights above ground do")
    assert "was trained on surfaces (DSM)" in note


def test_averaged_views_of_surfaces_stay_in_order_and_close_to_one_view(
    model_folder: Path, dsm: Path, tmp_path: Path
) -> None:
    predictor = Predictor.load(model_folder, device="cpu")
    one, eight = (
        _read(
            predictor.predict_raster(dsm, tmp_path / str(n), HEIGHTS, settings=PredictionConfig(tta=n)), "probability"
        )
        for n in (1, 8)
    )
    valid = ~np.isnan(one)
    assert (np.diff(eight, axis=0)[valid[1:]] >= 0).all()
    assert 0 < np.abs(one - eight)[valid].max() < 0.2
