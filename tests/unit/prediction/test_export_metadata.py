from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskwright.config.model import UNetConfig
from maskwright.data.band_normalise import BandNormaliser
from maskwright.data.sources.image_file import ImageFormat
from maskwright.errors import PredictionError
from maskwright.prediction import ModelCard
from maskwright.prediction.export_metadata import (
    check_for_qgis,
    describe_export,
    metadata_of,
    qgis_keys,
    qgis_notes,
)
from maskwright.tasks.binary import Binary
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.tasks.multiclass import Multiclass
from maskwright.tasks.multilabel import Multilabel

UNIT = BandNormaliser("unit", (0.0,) * 3, (255.0,) * 3, False)


def _description(task: Any, **changes: Any) -> dict[str, Any]:
    return {
        "task": task.to_dict(),
        "model": UNetConfig(base_channels=4, depth=2).model_dump(mode="json"),
        "in_channels": 3,
        "batch_size": 8,
        "input": "image",
        "image": ImageFormat().to_dict(),
        "normaliser": UNIT.to_dict(),
        "trained_range_m": [2, 5],
        "nodata": {},
        "heights_m": list(task.heights_m),
        "pixel_size_m": [0.1, 0.3],
        "tile_px": 32,
        "prediction": {"heights_m": [2.0]} if task.heights_m else {},
        "temperature": 1.5,
        "weights": {"sha256": "abc"},
        **changes,
    }


def _card(task: Any, **changes: Any) -> ModelCard:
    return ModelCard.from_description(_description(task, **changes), Path("model.json"))


def test_every_key_of_deepness_is_json_of_the_type_its_reader_wants() -> None:
    card = _card(Binary(["crack"]), probability_threshold=0.3)
    keys = {name: json.loads(text) for name, text in qgis_keys(card, 64).items()}
    assert str(keys["model_type"]).capitalize() == "Segmentor"
    assert keys["class_names"] == {"0": "crack"}  # numbered from 0 without a gap
    assert keys["tile_size"] == keys["tiles_size"] == 64
    assert keys["tiles_overlap"] == 50
    assert keys["seg_thresh"] == pytest.approx(0.3)
    assert keys["seg_small_segment"] == 0
    assert keys["resolution"] == 20.0  # centimetres, the middle of 0.1 and 0.3 m
    assert (keys["standardization_mean"], keys["standardization_std"]) == ([0.0] * 3, [1.0] * 3)


def test_of_exclusive_classes_the_largest_is_called_without_a_threshold() -> None:
    keys = qgis_keys(_card(Multiclass(["background", "rød"])), 64)
    assert json.loads(keys["class_names"]) == {"0": "background", "1": "rød"}
    assert json.loads(keys["seg_thresh"]) == 0


def test_an_unknown_pixel_size_is_left_out_and_told() -> None:
    card = _card(Binary(["crack"]), pixel_size_m=None)
    assert "resolution" not in qgis_keys(card, 64)
    assert qgis_notes(card) == ("the size of a pixel is not known, so set the resolution in the plugin",)
    known = _card(Binary(["crack"]), pixel_size_m=None, image=ImageFormat(pixel_size_m=0.02).to_dict())
    assert json.loads(qgis_keys(known, 64)["resolution"]) == 2.0
    assert qgis_notes(known) == ()


def test_labels_that_overlap_come_with_a_warning() -> None:
    card = _card(Multilabel(["red", "green"]), probability_thresholds=[0.3, 0.6])
    first, second = qgis_notes(card)
    assert "one class for each pixel" in first
    assert "highest of theirs, 0.6" in second


def test_models_that_deepness_cannot_feed_are_refused() -> None:
    check_for_qgis(_card(Binary(["crack"])))
    with pytest.raises(PredictionError, match=r"8 bits, and this one was trained on uint16.*without --qgis"):
        check_for_qgis(replace(_card(Binary(["crack"])), dtype="uint16"))
    heights = _card(HeightGaps((2.0, 5.0)), input="chm", in_channels=1)
    with pytest.raises(PredictionError, match=r"8 bits, and this one sees heights in metres\. Map them"):
        check_for_qgis(heights)


def test_thresholds_temperature_and_all_of_the_model_travel_in_the_file() -> None:
    description = _description(Multilabel(["red", "green"]), probability_thresholds=[0.3, 0.6])
    card = ModelCard.from_description(description, Path("model.json"))
    keys = metadata_of(describe_export(description, card, (), {"output": "logits"}), card)
    assert json.loads(keys["probability_thresholds"]) == {"red": 0.3, "green": 0.6}
    assert json.loads(keys["temperature"]) == 1.5
    assert json.loads(keys["maskwright"]) == description | {"export": {"output": "logits"}}
    again = ModelCard.from_description(json.loads(keys["maskwright"]), Path("model.onnx"))
    assert (again.thresholds, again.temperature, again.sha256) == ((0.3, 0.6), 1.5, "abc")


def test_other_heights_become_those_of_the_file() -> None:
    description = _description(HeightGaps((2.0, 5.0)), input="chm", in_channels=1)
    card = ModelCard.from_description(description, Path("model.json"))
    told = describe_export(description, card, (3.0, 4.0), {})
    assert ModelCard.from_description(told, Path("model.onnx")).heights(None) == (3.0, 4.0)
    assert told["prediction"]["heights_m"] is None
    assert description["task"]["heights_m"] == [2.0, 5.0]  # the model's own stays
    same = describe_export(description, card, (2.0, 5.0), {})
    assert same["prediction"]["heights_m"] == [2.0]
    assert json.loads(metadata_of(told, card)["heights_m"]) == [3.0, 4.0]
