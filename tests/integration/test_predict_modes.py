"""Ensembles, uncertainty, resampling, worker processes, checkpoints: by networks whose answers are known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate
from torch import nn

from maskwright.checkpoints import save_model
from maskwright.checkpoints.format import save_state
from maskwright.cli.main import main
from maskwright.config.model import UNetConfig
from maskwright.config.prediction import PredictionConfig
from maskwright.data.band_normalise import BandNormaliser
from maskwright.data.normalise import MetresNormaliser
from maskwright.data.sources.image_file import ImageFormat
from maskwright.errors import CheckpointError, PredictionError
from maskwright.prediction import ModelCard, Predictor, RasterResult
from maskwright.prediction.member import Member
from maskwright.tasks.binary import Binary
from maskwright.tasks.height import Height
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.workflows.predict import predict

HEIGHTS = (5.0, 10.0)


class Pointwise(nn.Module):
    """Logits of a gap at each height: sharpness times (height - canopy), canopy in units of 30 m."""

    receptive_field_px = 0

    def __init__(self, sharpness: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.sharpness, self.shift = sharpness, shift

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        assert condition is not None
        return self.sharpness * (condition[:, :, None, None] - image[:, :1] * 30.0 + self.shift)


def _heights_card(**changes: Any) -> ModelCard:
    description = {
        "task": HeightGaps(HEIGHTS).to_dict(),
        "model": UNetConfig(base_channels=4, depth=2).model_dump(mode="json"),
        "in_channels": 1,
        "batch_size": 8,
        "input": "chm",
        "normaliser": MetresNormaliser().to_dict(),
        "trained_range_m": [2.0, 10.0],
        "prediction": {},
        "nodata": {},
        "pixel_size_m": [1.0, 1.0],
        "tile_px": 32,
        "weights": {"sha256": "abc"},
        **changes,
    }
    return ModelCard.from_description(description, Path("model.json"))


def _raster(path: Path, canopy: np.ndarray, side: float = 1.0) -> Path:
    place = {"crs": CRS.from_epsg(32611), "transform": rasterio.Affine(side, 0, 500_000, 0, -side, 4_000_000)}
    height, width = canopy.shape
    options = {"height": height, "width": width, "count": 1, "dtype": "float32", "nodata": -9999.0}
    with rasterio.open(path, "w", driver="GTiff", **options, **place) as dataset:
        dataset.write(np.where(np.isnan(canopy), -9999.0, canopy).astype(np.float32), 1)
    return path


def _canopy(height: int = 70, width: int = 90) -> np.ndarray:
    canopy = np.random.default_rng(0).uniform(0, 20, (height, width)).astype(np.float32)
    canopy[20:30, 40:60] = np.nan
    return canopy


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def _read(result: RasterResult, name: str) -> np.ndarray:
    with rasterio.open(result.files[name]) as dataset:
        values: np.ndarray = dataset.read()
    return values


PLAIN = {"polygons": "none", "quicklook": False, "gap_sizes": False}

# --- several models ---------------------------------------------------------------------------------------------------


def test_probabilities_of_several_models_are_averaged_each_with_its_own_normalisation_and_temperature(
    tmp_path: Path,
) -> None:
    canopy = _canopy()
    doubled = _heights_card(
        normaliser=MetresNormaliser(scale_m=60.0).to_dict(), temperature=2.0, weights={"sha256": "def"}
    )
    predictor = Predictor(Pointwise(), _heights_card(), "cpu", [Member(Pointwise(shift=3.0), doubled)])
    settings = PredictionConfig(uncertainty="spread", **PLAIN)
    result = predictor.predict_raster(_raster(tmp_path / "a.tif", canopy), tmp_path / "out", settings=settings)
    asked = np.array(HEIGHTS)[:, None, None]
    one = _sigmoid(asked - canopy)
    other = _sigmoid((asked - canopy / 2 + 3.0) / 2.0)
    missing = np.isnan(canopy)
    probs, spread = _read(result, "probability"), _read(result, "uncertainty")
    np.testing.assert_allclose(probs[:, ~missing], ((one + other) / 2)[:, ~missing], atol=1e-5)
    np.testing.assert_allclose(spread[:, ~missing], (np.abs(one - other) / 2)[:, ~missing], atol=1e-5)
    assert np.isnan(probs[:, missing]).all()
    assert np.isnan(spread[:, missing]).all()
    with rasterio.open(result.files["uncertainty"]) as dataset:
        assert dataset.descriptions == ("standard deviation, 5 m", "standard deviation, 10 m")
        assert dataset.units == ("1", "1")
        assert np.isnan(dataset.nodata)
    assert cog_validate(result.files["uncertainty"], strict=True)[0]
    with rasterio.open(result.files["gaps"]) as dataset:
        assert dataset.tags()["MASKWRIGHT_MODEL_SHA256"] == "abc,def"
        assert dataset.tags()["MASKWRIGHT_HEIGHTS_M"] == "5,10"
        assert dataset.tags()["MASKWRIGHT_PROBABILITY_THRESHOLD"] == "0.5"
    np.testing.assert_allclose(
        predictor.predict(canopy, pixel_size_m=1.0)[0][:, ~missing], probs[:, ~missing], atol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": "dsm"}, "input CHM against DSM"),
        ({"pixel_size_m": [2.0, 2.5]}, "pixels of 1 m against 2 to 2.5 m"),
        ({"task": Height(30.0).to_dict()}, "task height_gaps against height"),
    ],
)
def test_models_that_see_or_answer_other_things_are_not_averaged(changes: dict[str, Any], said: str) -> None:
    other = Member(Pointwise(), _heights_card(**changes))
    with pytest.raises(PredictionError, match=rf"Model 1 and model 2 cannot be averaged: .*{said}"):
        Predictor(Pointwise(), _heights_card(), "cpu", [other])


def test_models_of_other_heights_are_averaged_at_heights_that_are_named() -> None:
    other = Member(Pointwise(), _heights_card(task=HeightGaps((3.0,), probability_threshold=0.7).to_dict()))
    predictor = Predictor(Pointwise(), _heights_card(), "cpu", [other])
    assert predictor.card.task.probability_threshold == pytest.approx(0.6)
    with pytest.raises(PredictionError, match=r"Model 1 answers 5, 10 m and model 2 3 m\. Name heights"):
        predictor.heights(None)
    assert predictor.heights([4.0]) == (4.0,)


def _image_card(**changes: Any) -> ModelCard:
    unit = BandNormaliser("unit", (0.0,) * 3, (255.0,) * 3, False)
    description = {
        "task": Binary(["crack"]).to_dict(),
        "model": UNetConfig(base_channels=4, depth=2).model_dump(mode="json"),
        "in_channels": 3,
        "batch_size": 8,
        "input": "image",
        "image": ImageFormat().to_dict(),
        "normaliser": unit.to_dict(),
        "pixel_size_m": None,
        "tile_px": 32,
        "probability_threshold": 0.5,
        "prediction": {},
        "weights": {"sha256": "abc"},
        **changes,
    }
    return ModelCard.from_description(description, Path("model.json"))


class Reddish(nn.Module):
    receptive_field_px = 0

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return self.slope * (image[:, :1] - 0.5)


def test_two_models_of_images_share_one_reading_and_tell_their_entropy(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    halved = BandNormaliser("unit", (0.0,) * 3, (510.0,) * 3, False)
    other = Member(Reddish(4.0), _image_card(normaliser=halved.to_dict(), probability_threshold=0.3))
    predictor = Predictor(Reddish(20.0), _image_card(), "cpu", [other])
    settings = PredictionConfig(
        uncertainty="entropy", probabilities=True, probability_format="tif", side_by_side=True, qgis_style=False
    )
    result = predictor.predict_photograph(tmp_path / "a.png", tmp_path / "out", settings=settings)
    red = pixels[..., 0] / 255
    expected = (_sigmoid(20 * (red - 0.5)) + _sigmoid(4 * (red / 2 - 0.5))) / 2
    np.testing.assert_allclose(_read(result, "probability crack")[0], expected, atol=1e-5)
    with Image.open(result.files["mask"]) as mask:
        np.testing.assert_array_equal(np.asarray(mask) == 255, expected > 0.4)  # the mean of their thresholds
    bits = -(expected * np.log2(expected) + (1 - expected) * np.log2(1 - expected))
    np.testing.assert_allclose(_read(result, "uncertainty")[0], bits, atol=1e-4)
    with Image.open(result.files["side_by_side"]) as sheet, Image.open(result.files["overlay"]) as overlay:
        assert sheet.width == 50 + 8 + overlay.width
        np.testing.assert_array_equal(
            np.asarray(sheet.convert("RGB"))[:40, 58 : 58 + 50], np.asarray(overlay.convert("RGB"))[:40, :50]
        )
    np.testing.assert_allclose(predictor.predict_image(pixels.transpose(2, 0, 1))[0], expected, atol=1e-5)


def test_a_spread_of_one_answer_is_refused_before_any_work(tmp_path: Path) -> None:
    path = _raster(tmp_path / "a.tif", _canopy())
    with pytest.raises(PredictionError, match="there is one only"):
        Predictor(Pointwise(), _heights_card()).predict_raster(
            path, tmp_path / "out", settings=PredictionConfig(uncertainty="spread")
        )
    assert not (tmp_path / "out").exists()


# --- other pixel sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [0.2, 0.4, 2.5])
def test_a_raster_of_quite_another_pixel_size_is_seen_at_that_of_the_training(side: float, tmp_path: Path) -> None:
    cols = np.broadcast_to(np.arange(75.0), (60, 75))
    canopy = (cols + 0.5) * side * 8.0 / (75 * side) + 1.0  # rises from 1 m to 9 m; 5 m is reached in the middle
    canopy[10:20, 20:30] = np.nan
    path = _raster(tmp_path / "a.tif", canopy, side)
    predictor = Predictor(Pointwise(sharpness=20.0), _heights_card())
    with pytest.raises(PredictionError, match="--resample"):
        predictor.predict_raster(path, tmp_path / "out")
    settings = PredictionConfig(resample=True, tile_px=16, **PLAIN)
    result = predictor.predict_raster(path, tmp_path / "out", [5.0], settings=settings)
    with rasterio.open(result.files["probability"]) as dataset:
        assert dataset.shape == (60, 75)
        assert dataset.transform.a == side
        probs = dataset.read(1)
    np.testing.assert_array_equal(np.isnan(probs), np.isnan(canopy))
    for row in (0, 25, 59):
        crossing = np.flatnonzero(probs[row] < 0.5)[0]
        assert abs(crossing - 37.5) <= 0.5 + 0.5  # half a pixel, and the whole number that a pixel is
    gaps = _read(result, "gaps")[0]
    assert set(np.unique(gaps)) == {0, 1, 255}
    assert any(f"pixels of {side:g} m were seen at 1 m" in note for note in result.notes)


def test_pixels_that_are_nearly_alike_are_not_resampled(tmp_path: Path) -> None:
    canopy = _canopy()
    predictor = Predictor(Pointwise(), _heights_card())
    one, other = (
        predictor.predict_raster(
            _raster(tmp_path / "a.tif", canopy, 1.05),
            tmp_path / str(resample),
            settings=PredictionConfig(resample=resample, **PLAIN),
        )
        for resample in (False, True)
    )
    np.testing.assert_array_equal(_read(one, "probability"), _read(other, "probability"))


def test_an_orthophoto_of_another_pixel_size_is_brought_back_too(tmp_path: Path) -> None:
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:, 40:, 0] = 255
    place = {"crs": CRS.from_epsg(32611), "transform": rasterio.Affine(0.1, 0, 500_000, 0, -0.1, 4_000_000)}
    with rasterio.open(tmp_path / "o.tif", "w", "GTiff", 80, 60, 3, dtype="uint8", **place) as dataset:
        dataset.write(pixels.transpose(2, 0, 1))
    predictor = Predictor(Reddish(20.0), _image_card(pixel_size_m=[0.5, 0.5]))
    settings = PredictionConfig(resample=True, polygons="none")
    result = predictor.predict_photograph(tmp_path / "o.tif", tmp_path / "out", settings=settings)
    mask = _read(result, "mask")[0]
    np.testing.assert_array_equal(mask, pixels[..., 0] == 255)
    assert any("were seen at 0.5 m" in note for note in result.notes)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_averages_resamples_and_tells_how_sure_it_is(tmp_path: Path) -> None:
    one, other = (_saved(tmp_path / f"model_{seed}", seed)[0] for seed in (0, 1))
    path, out = _raster(tmp_path / "a.tif", _canopy(30, 40), 3.0), tmp_path / "maps"
    options = ["--set", "polygons=none", "--quiet", "--uncertainty", "spread", "--resample", "--workers", "1"]
    assert main(["predict", str(one), str(path), "--with", str(other), "--out", str(out), *options]) == 0
    summary = json.loads((out / "a_summary.json").read_text())
    assert len(summary["model_sha256"].split(",")) == 2
    assert summary["settings"]["uncertainty"] == "spread"
    assert any("were seen at 1 m" in note for note in summary["notes"])
    assert (out / "a_uncertainty.tif").is_file()


# --- processes, checkpoints -------------------------------------------------------------------------------------------


def _saved(folder: Path, seed: int = 0) -> tuple[Path, nn.Module]:
    torch.manual_seed(seed)
    model = HeightGaps(HEIGHTS, fixed=True).build_model(UNetConfig(base_channels=4, depth=2), 1)
    description = {
        "task": HeightGaps(HEIGHTS, fixed=True).to_dict(),
        "model": UNetConfig(base_channels=4, depth=2).model_dump(mode="json"),
        "in_channels": 1,
        "batch_size": 8,
        "input": "chm",
        "normaliser": MetresNormaliser().to_dict(),
        "trained_range_m": [5.0, 10.0],
        "prediction": {},
        "nodata": {},
        "pixel_size_m": [1.0, 1.0],
        "tile_px": 32,
    }
    save_model(folder, model, description)
    return folder, model


def test_any_number_of_processes_gives_the_same_file(tmp_path: Path) -> None:
    folder, _ = _saved(tmp_path / "model")
    path, files = _raster(tmp_path / "a.tif", _canopy()), []
    for workers in (1, 2, 3):
        settings = {"workers": workers, **PLAIN}
        (result,) = predict(folder, path, tmp_path / str(workers), settings=settings)
        files.append([result.files[name].read_bytes() for name in ("probability", "gaps")])
    assert files[0] == files[1] == files[2]


def test_any_number_of_threads_gives_the_same_file(tmp_path: Path) -> None:
    folder, _ = _saved(tmp_path / "model")
    path, files, before = _raster(tmp_path / "a.tif", _canopy()), [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            (result,) = predict(folder, path, tmp_path / str(threads), settings=PLAIN)
            files.append(result.files["probability"].read_bytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert files[0] == files[1]


def test_a_checkpoint_is_applied_with_what_its_run_knows(tmp_path: Path) -> None:
    run = tmp_path / "run"
    _saved(run / "model")
    _, later = _saved(tmp_path / "later", seed=1)
    _, averaged = _saved(tmp_path / "averaged", seed=2)
    (run / "checkpoints").mkdir()
    canopy = _canopy(40, 40)
    for name, state in (
        ("later", {"model": later.state_dict()}),
        ("averaged", {"model": later.state_dict(), "ema": {"updates": 1, "weights": averaged.state_dict()}}),
    ):
        path = run / "checkpoints" / f"checkpoint_{name}.pt"
        save_state(path, state)
        got = Predictor.load(path, device="cpu")
        expected = Predictor.load(tmp_path / name, device="cpu")
        np.testing.assert_array_equal(got.predict(canopy, pixel_size_m=1.0), expected.predict(canopy, pixel_size_m=1.0))
        assert got.card.sha256 not in (expected.card.sha256, Predictor.load(run, device="cpu").card.sha256)
    lonely = tmp_path / "lonely.pt"
    lonely.write_bytes(path.read_bytes())
    with pytest.raises(PredictionError, match="lies in no run folder"):
        Predictor.load(lonely)
    save_state(path, {"model": {"stem.weight": torch.zeros(1)}})
    with pytest.raises(CheckpointError, match="does not fit the network that its run describes"):
        Predictor.load(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="not a Maskwright checkpoint"):
        Predictor.load(path)
