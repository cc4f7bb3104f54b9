from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maskwright.desktop.model_facts import ModelFacts, model_facts
from maskwright.errors import CheckpointError, PredictionError


def _model(folder: Path, **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format_version": 1,
        "weights": {"sha256": "abc"},
        "task": {"kind": "binary"},
        "input": "image",
        "classes": ["crack"],
        "heights_m": [],
        "probability_threshold": 0.4,
        "prediction": {"tta": 2},
        **fields,
    }
    (folder / "model.json").write_text(json.dumps(content))
    return folder


def test_a_model_of_photographs(tmp_path: Path) -> None:
    facts = model_facts(_model(tmp_path / "model"))
    assert facts == ModelFacts("binary", ("crack",), (), 0.4, True, False, {"tta": 2})
    assert facts.sentence == "Finds crack in photographs and rasters of their bands; cuts at 0.4."


def test_a_model_of_gaps_and_one_of_heights(tmp_path: Path) -> None:
    task = {"kind": "height_gaps"}
    gaps = model_facts(_model(tmp_path, task=task, input="chm", classes=[], heights_m=[5.0, 10.0]))
    assert gaps.sentence == "Finds gaps below 5, 10 m in rasters of heights; cuts at 0.4."
    metres = model_facts(_model(tmp_path, task={"kind": "height"}, input="dsm", classes=[], heights_m=[5.0]))
    assert metres.heights_m == ()
    assert metres.sentence.startswith("Finds heights in metres in rasters of heights")


def test_of_classes_that_exclude_each_other_the_background_is_not_found(tmp_path: Path) -> None:
    classes = {"task": {"kind": "multiclass"}, "classes": ["background", "red"]}
    assert "Finds red in" in model_facts(_model(tmp_path, **classes)).sentence
    without = model_facts(_model(tmp_path, **classes, class_table={"background": None}))
    assert "Finds background, red in" in without.sentence


@pytest.mark.parametrize("thresholds", [[0.3, 0.6], {"a": 0.3, "b": 0.6}])
def test_of_several_thresholds_the_first_is_shown(tmp_path: Path, thresholds: object) -> None:
    assert model_facts(_model(tmp_path, probability_thresholds=thresholds)).threshold == 0.3


def test_a_run_its_model_its_file_and_its_checkpoint_name_one_model(tmp_path: Path) -> None:
    run = tmp_path / "run"
    model = _model(run / "model")
    (run / "run.json").write_text("{}")
    (run / "checkpoints").mkdir()
    checkpoint = run / "checkpoints" / "checkpoint_best.pt"
    checkpoint.write_bytes(b"")
    for path in (run, model, model / "model.json", checkpoint):
        assert model_facts(path).classes == ("crack",)


def test_what_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match=r"does not exist\. Choose the folder of a run"):
        model_facts(tmp_path / "nowhere")
    with pytest.raises(PredictionError, match="is no run, no model folder and no checkpoint of a run"):
        model_facts(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(PredictionError, match="has no model yet: none of its epochs was completed"):
        model_facts(tmp_path)


def test_a_newer_or_a_foreign_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"newer Maskwright: model format 9.*Upgrade Maskwright"):
        model_facts(_model(tmp_path, format_version=9))
    with pytest.raises(CheckpointError, match=r"model\.json cannot be understood \(TypeError"):
        model_facts(_model(tmp_path, probability_threshold=None))
