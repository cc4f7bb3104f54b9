from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.config import PredictionConfig
from maskwright.config.model import FilmUNetConfig, UNetConfig
from maskwright.data.normalise import MetresNormaliser
from maskwright.errors import CheckpointError, PredictionError
from maskwright.prediction.model_card import ModelCard, find_model_folder
from maskwright.prediction.predictor import Predictor
from maskwright.tasks.height_gaps import HeightGaps

PATH = Path("some/model/model.json")


def _description(*, fixed: bool = False, **changes: Any) -> dict[str, Any]:
    architecture = UNetConfig() if fixed else FilmUNetConfig()
    return {
        "task": HeightGaps((2.0, 5.0, 10.0), fixed=fixed, probability_threshold=0.4).to_dict(),
        "model": architecture.model_dump(mode="json"),
        "in_channels": 1,
        "batch_size": 8,
        "input": "dsm",
        "normaliser": MetresNormaliser(scale_m=25.0).to_dict(),
        "trained_range_m": [2.0, 10.0],
        "pixel_size_m": [1.0, 1.25],
        "tile_px": 256,
        "weights": {"sha256": "abc"},
        "prediction": PredictionConfig(overlap=0.25).to_dict(),
        "nodata": {"dsm": -9999.0, "chm": "none"},
        **changes,
    }


def _card(**changes: Any) -> ModelCard:
    return ModelCard.from_description(_description(**changes), PATH)


def test_a_card_repeats_what_training_did() -> None:
    card = _card()
    assert card.task.heights_m == (2.0, 5.0, 10.0)
    assert card.task.probability_threshold == 0.4
    assert card.architecture == FilmUNetConfig()
    assert card.normaliser == MetresNormaliser(scale_m=25.0)
    assert (card.bands, card.tile_px, card.sha256) == (("dsm",), 256, "abc")
    assert card.prediction == PredictionConfig(overlap=0.25)


def test_a_file_s_own_tag_goes_before_the_nodata_of_the_training() -> None:
    card = _card()
    assert card.nodata_of("dsm", None) == -9999.0
    assert card.nodata_of("dsm", -32768.0) is None  # None: the tag counts
    assert card.nodata_of("chm", 0.0) == "none"  # the training ignored tags of canopy heights


def test_a_model_of_two_rasters_sees_the_surface_first() -> None:
    assert _card(input="both").bands == ("dsm", "chm")


@pytest.mark.parametrize("name", ["task", "model", "batch_size", "input", "normaliser", "trained_range_m", "tile_px"])
def test_a_missing_entry_is_named(name: str) -> None:
    description = _description()
    del description[name]
    with pytest.raises(CheckpointError, match=rf"model\.json lacks or does not know '{name}'"):
        ModelCard.from_description(description, PATH)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"input": "rgb"}, "rgb"),
        ({"task": {"kind": "tides"}}, "tides"),
        ({"model": {"kind": "vit"}}, "vit"),
        ({"normaliser": {"kind": "log"}}, "log"),
        ({"trained_range_m": 3}, "cannot be understood"),
    ],
)
def test_an_entry_that_is_not_known_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        _card(**change)


def test_heights_default_to_the_models_own_and_come_in_order() -> None:
    assert _card().heights(None) == (2.0, 5.0, 10.0)
    assert _card().heights([7, 3.5]) == (3.5, 7.0)


@pytest.mark.parametrize("heights_m", [[], [0, 5], [-1.0], [5, 5], [float("nan")]])
def test_heights_that_make_no_sense_are_refused(heights_m: list[float]) -> None:
    with pytest.raises(PredictionError, match="must be larger than 0 m and differ"):
        _card().heights(heights_m)


def test_a_network_without_condition_answers_its_own_heights_only() -> None:
    card = _card(fixed=True)
    assert card.heights([10, 2]) == (2.0, 10.0)
    with pytest.raises(PredictionError, match=r"answers 2, 5, 10 m only and was asked for 3, 7 m.*film_unet"):
        card.heights([3, 5, 7])


def test_heights_outside_the_training_are_called_an_extrapolation() -> None:
    (note,) = _card().notes([1.0, 5.0, 20.0], 1.1)
    assert note.startswith("1, 20 m lies outside the heights the model was trained at (2 to 10 m)")
    assert _card().notes([2.0, 10.0], 1.1) == ()


@pytest.mark.parametrize(("pixel_size_m", "said"), [(0.91, 0), (1.37, 0), (0.89, 1), (1.4, 1), (None, 0)])
def test_pixels_more_than_a_tenth_off_the_training_are_noted(pixel_size_m: float | None, said: int) -> None:
    notes = _card().notes([5.0], pixel_size_m)
    assert len(notes) == said
    if said:
        assert f"pixels of {pixel_size_m:g} m, the model was trained on 1 to 1.25 m" in notes[0]


@pytest.mark.parametrize(("pixel_size_m", "advice"), [(0.49, "Add --resample"), (2.6, "it is seen at 1.25 m")])
def test_pixels_of_quite_another_size_are_refused_with_the_size_to_resample_to(
    pixel_size_m: float, advice: str
) -> None:
    with pytest.raises(PredictionError, match=r"the model was trained on 1 to 1\.25 m") as refusal:
        _card().require_pixel_size(Path("far.tif"), pixel_size_m)
    assert advice in str(refusal.value)


@pytest.mark.parametrize("pixel_size_m", [0.5, 2.5, None])
def test_pixels_up_to_twice_or_half_as_large_are_taken(pixel_size_m: float | None) -> None:
    _card().require_pixel_size(Path("near.tif"), pixel_size_m)


def test_the_model_folder_of_a_run_is_found_from_the_run_from_itself_and_from_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    for name in ("model.json", "model.safetensors"):
        (folder / name).touch()
    for path in (tmp_path / "run", folder, folder / "model.json", folder / "model.safetensors"):
        assert find_model_folder(path) == folder


def test_what_is_no_model_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="nowhere does not exist"):
        find_model_folder(tmp_path / "nowhere")
    with pytest.raises(PredictionError, match=r"is no run folder and no model folder: there is no model\.json"):
        find_model_folder(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(PredictionError, match="has no model yet: none of its epochs was completed"):
        find_model_folder(tmp_path)


def test_turned_views_are_refused_where_the_model_sees_a_compass_direction(tmp_path: Path) -> None:
    predictor = Predictor(torch.nn.Identity(), replace(_card(), context=("slope", "aspect")), "cpu")
    with pytest.raises(PredictionError, match=r"sees the aspect.*Set prediction\.tta: 1"):
        predictor.predict_raster(tmp_path / "a.tif", tmp_path / "out", settings=PredictionConfig(tta=4))


@pytest.mark.parametrize(
    ("pixel_size_m", "seen_m"), [(0.4, 1.0), (0.91, None), (1.1, None), (1.37, None), (1.4, 1.25), (5.0, 1.25)]
)
def test_pixels_are_brought_to_the_nearest_size_of_the_training(pixel_size_m: float, seen_m: float | None) -> None:
    assert _card().resampled_m(pixel_size_m) == seen_m
