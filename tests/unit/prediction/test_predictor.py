from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from maskwright.checkpoints import save_model
from maskwright.config.model import FilmUNetConfig, UNetConfig
from maskwright.data.normalise import MetresNormaliser, PerTileNormaliser, build_reference
from maskwright.errors import CheckpointError, PredictionError
from maskwright.prediction.member import fold_batch_norm
from maskwright.prediction.predictor import Predictor
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.types import Window

HEIGHTS = (2.0, 5.0, 10.0)


def _network(*, fixed: bool = False, in_channels: int = 1, seed: int = 0) -> nn.Module:
    """A small network with running statistics and modulation as after a training."""
    torch.manual_seed(seed)
    architecture = (UNetConfig if fixed else FilmUNetConfig)(base_channels=4, depth=2)
    model = HeightGaps(HEIGHTS, fixed=fixed).build_model(architecture, in_channels)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    if not fixed:
        nn.init.normal_(model.film.out.weight, 0, 0.5)
    return model.eval()


def _saved(folder: Path, model: nn.Module, *, fixed: bool = False, input: str = "dsm", normaliser=None) -> Path:
    architecture = (UNetConfig if fixed else FilmUNetConfig)(base_channels=4, depth=2)
    description = {
        "task": HeightGaps(HEIGHTS, fixed=fixed).to_dict(),
        "model": architecture.model_dump(mode="json"),
        "in_channels": 2 if input == "both" else 1,
        "batch_size": 8,
        "input": input,
        "normaliser": (normaliser or MetresNormaliser()).to_dict(),
        "trained_range_m": [2.0, 10.0],
        "prediction": {},
        "nodata": {},
        "pixel_size_m": [1.0, 1.0],
        "tile_px": 32,
    }
    save_model(folder, model, description)
    return folder


def _surface(height: int = 45, width: int = 70, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((height, width))
    surface = (100 + 40 * ndimage.gaussian_filter(noise, 3)).astype(np.float32)
    surface[3:9, 5:15] = np.nan
    return surface


def _by_hand(model: nn.Module, image: np.ndarray, heights_m: tuple[float, ...]) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.from_numpy(image)[None], torch.tensor([heights_m]))
    return np.maximum.accumulate(torch.sigmoid(logits)[0].numpy(), axis=0)


def _normalised(surface: np.ndarray, reference: np.ndarray | float) -> np.ndarray:
    return np.nan_to_num((surface - reference) / np.float32(30.0), nan=0.0).astype(np.float32)


def _reference(surface: np.ndarray, pixel_size_m: float) -> np.ndarray:
    height, width = surface.shape

    def read(window: Window) -> np.ndarray:
        return surface[window.row : window.row_stop]

    built = build_reference(read, height, width, cell_px=60.0 / pixel_size_m, percentile=5.0)
    return built.window(Window(0, 0, height, width))


def test_one_sigmoid_and_a_running_maximum_stand_between_network_and_probabilities(tmp_path: Path) -> None:
    model, surface = _network(), _surface()
    probs = Predictor.load(_saved(tmp_path, model), device="cpu").predict(surface, (3.0, 8.0), pixel_size_m=2.0)
    expected = _by_hand(model, _normalised(surface, _reference(surface, 2.0))[None], (3.0, 8.0))
    missing = np.isnan(surface)
    assert probs.shape == (1, 2, 45, 70)
    assert np.isnan(probs[0][:, missing]).all()
    np.testing.assert_allclose(probs[0][:, ~missing], expected[:, ~missing], atol=1e-5)
    assert np.nanstd(probs) > 0.005  # the comparison is about something


def test_a_run_folder_and_its_model_folder_load_alike(tmp_path: Path) -> None:
    _saved(tmp_path / "run" / "model", _network())
    surface = _surface()
    first, second = (
        Predictor.load(path, device="cpu").predict(surface, pixel_size_m=1.0)
        for path in (tmp_path / "run", tmp_path / "run" / "model")
    )
    np.testing.assert_array_equal(first, second)


def test_a_batch_of_arrays_gives_what_each_gives_alone(tmp_path: Path) -> None:
    predictor = Predictor.load(_saved(tmp_path, _network()), device="cpu")
    stack = np.stack([_surface(seed=seed) for seed in range(3)])
    together = predictor.predict(stack, pixel_size_m=1.0)
    for index in range(3):
        np.testing.assert_array_equal(together[index], predictor.predict(stack[index], pixel_size_m=1.0)[0])


def test_canopy_heights_need_no_reference(tmp_path: Path) -> None:
    model, canopy = _network(), _surface() - 90
    predictor = Predictor.load(_saved(tmp_path, model, input="chm"), device="cpu")
    probs = predictor.predict(canopy, pixel_size_m=1.0)[0]
    expected = _by_hand(model, _normalised(canopy, 0.0)[None], HEIGHTS)
    np.testing.assert_allclose(probs[:, ~np.isnan(canopy)], expected[:, ~np.isnan(canopy)], atol=1e-5)


def test_a_model_of_two_rasters_needs_both_and_counts_where_both_are_measured(tmp_path: Path) -> None:
    model, surface = _network(in_channels=2), _surface()
    predictor = Predictor.load(_saved(tmp_path, model, input="both"), device="cpu")
    canopy = _surface(seed=9) - 95
    canopy[30:, 60:] = np.nan
    valid = ~np.isnan(surface) & ~np.isnan(canopy)
    probs = predictor.predict(surface, pixel_size_m=1.0, chm=canopy)[0]
    image = np.stack([_normalised(surface, _reference(surface, 1.0)), _normalised(canopy, 0.0)]) * valid
    assert np.isnan(probs[:, ~valid]).all()
    np.testing.assert_allclose(probs[:, valid], _by_hand(model, image, HEIGHTS)[:, valid], atol=1e-5)
    with pytest.raises(PredictionError, match="give the canopy heights as chm"):
        predictor.predict(surface, pixel_size_m=1.0)
    with pytest.raises(PredictionError, match="give arrays of one shape"):
        predictor.predict(surface, pixel_size_m=1.0, chm=canopy[1:])


def test_a_model_of_one_raster_refuses_a_second(tmp_path: Path) -> None:
    predictor = Predictor.load(_saved(tmp_path, _network()), device="cpu")
    with pytest.raises(PredictionError, match="sees a DSM only; leave chm out"):
        predictor.predict(_surface(), pixel_size_m=1.0, chm=_surface())
    with pytest.raises(PredictionError, match=r"sees a DSM only; leave the canopy height model extra\.tif out"):
        predictor.predict_raster("a.tif", tmp_path, chm="extra.tif")


def test_per_tile_normalisation_is_repeated(tmp_path: Path) -> None:
    model, surface = _network(), _surface()
    folder = _saved(tmp_path, model, normaliser=PerTileNormaliser())
    probs = Predictor.load(folder, device="cpu").predict(surface, pixel_size_m=1.0)[0]
    low, high = np.nanmin(surface), np.nanmax(surface)
    image = np.nan_to_num((surface - low) / (high - low), nan=0.0)[None].astype(np.float32)
    valid = ~np.isnan(surface)
    np.testing.assert_allclose(probs[:, valid], _by_hand(model, image, HEIGHTS)[:, valid], atol=1e-5)


def test_a_network_without_condition_gives_the_channels_of_the_asked_heights(tmp_path: Path) -> None:
    model, surface = _network(fixed=True), _surface()
    predictor = Predictor.load(_saved(tmp_path, model, fixed=True), device="cpu")
    probs = predictor.predict(surface, (10.0, 2.0), pixel_size_m=1.0)[0]
    with torch.no_grad():
        logits = model(torch.from_numpy(_normalised(surface, _reference(surface, 1.0)))[None, None])[0]
    low, high = torch.sigmoid(logits[0]).numpy(), torch.sigmoid(logits[2]).numpy()
    valid = ~np.isnan(surface)
    np.testing.assert_allclose(probs[0][valid], low[valid], atol=1e-5)
    np.testing.assert_allclose(probs[1][valid], np.maximum(low, high)[valid], atol=1e-5)
    with pytest.raises(PredictionError, match="answers 2, 5, 10 m only"):
        predictor.predict(surface, (3.0,), pixel_size_m=1.0)


@pytest.mark.parametrize("fixed", [False, True])
def test_folding_batch_norm_changes_nothing_but_rounding(fixed: bool) -> None:
    model = _network(fixed=fixed)
    image, condition = torch.randn(2, 1, 40, 36), torch.tensor([HEIGHTS, HEIGHTS])
    with torch.no_grad():
        before = model(image, condition)
        fold_batch_norm(model)
        after = model(image, condition)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_raw_probabilities_keep_the_order_the_network_gave_them(tmp_path: Path) -> None:
    model = _network()
    predictor = Predictor.load(_saved(tmp_path, model), device="cpu")
    image = torch.randn(2, 1, 24, 24)
    with torch.no_grad():
        expected = torch.sigmoid(model(image, torch.tensor([HEIGHTS, HEIGHTS])))
    raw = predictor.raw_probs(image, HEIGHTS)
    torch.testing.assert_close(raw, expected, atol=1e-5, rtol=0)
    assert (raw[:, :-1] > raw[:, 1:]).any()


def test_arrays_that_are_no_scenes_are_refused(tmp_path: Path) -> None:
    predictor = Predictor.load(_saved(tmp_path, _network()), device="cpu")
    for shape in [(5,), (1, 1, 5, 5), (0, 5)]:
        with pytest.raises(PredictionError, match=r"give \(H, W\) or \(B, H, W\) with at least one pixel"):
            predictor.predict(np.zeros(shape, np.float32), pixel_size_m=1.0)


def test_damaged_weights_are_never_used(tmp_path: Path) -> None:
    folder = _saved(tmp_path, _network())
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        Predictor.load(folder)
