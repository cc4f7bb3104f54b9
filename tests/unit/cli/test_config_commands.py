from __future__ import annotations

import json
from pathlib import Path

import pytest

from maskwright.cli.main import main
from maskwright.config import Experiment, TrainingConfig, load_experiment, presets


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text("name: demo\ndata: {folder: rasters}\n", "utf-8")
    return path


def test_show_prints_yaml_that_loads_back_equal(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", str(demo), "--set", "training.epochs=3"]) == 0
    (tmp_path / "shown.yaml").write_text(capsys.readouterr().out, "utf-8")
    shown = load_experiment(tmp_path / "shown.yaml")
    assert shown == load_experiment(demo, ["training.epochs=3"])
    assert shown.training.epochs == 3


def test_show_merges_presets_and_files(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "preset:quick", str(demo)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("name: demo\n")
    assert "  epochs: 5\n" in shown


def test_validate_says_valid_or_tells_every_fault(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "validate", str(demo)]) == 0
    assert capsys.readouterr().out == f'{demo}: valid, experiment "demo".\n'
    assert main(["config", "validate", str(demo), "--set", "training.epochs=0", "--set", "training.epoch=0"]) == 2
    heading, *faults = capsys.readouterr().err.splitlines()
    assert heading == "Error:"
    assert [fault.partition(" (--set")[0] for fault in faults] == [
        "training.epoch: unknown setting",
        "training.epochs: 0 is below the minimum 1",
    ]


def test_schema_is_json_schema_of_an_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(Experiment.model_fields)
    assert schema["$defs"]["TrainingConfig"]["properties"]["epochs"]["minimum"] == 1


def test_explain_tells_meaning_unit_range_default_and_neighbours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "explain", "training.epochs"]) == 0
    *meaning, neighbours = capsys.readouterr().out.splitlines()
    assert meaning == [
        "training.epochs",
        "  meaning  Passes over the training tiles.",
        "  values   a whole number from 1 to 100000 epochs",
        "  unit     epochs",
        "  default  50",
    ]
    others = [f"training.{name}" for name in TrainingConfig.model_fields if name != "epochs"]
    assert neighbours == f"Neighbours: {', '.join(others)}"


def test_explain_tells_when_a_setting_exists_and_when_it_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "explain", "film_hidden"]) == 0
    assert capsys.readouterr().out.startswith("model.film_hidden  (with model.kind = film_unet or ")
    assert main(["config", "explain", "data.sites[].name"]) == 0
    assert "  default  none, must be given\n" in capsys.readouterr().out
    assert main(["config", "explain", "data.folder"]) == 0
    assert "  default  null (unset)\n" in capsys.readouterr().out


def test_explain_of_a_section_lists_what_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "explain", "optim.schedule"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("optim.schedule  The learning rate over the run.\n")
    assert "optim.schedule.max_lr" in shown


def test_explain_of_an_unknown_name_suggests(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "explain", "epoch"]) == 2
    assert capsys.readouterr().err == "Error: epoch: unknown setting. Did you mean training.epochs?\n"


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "presets"]) == 0
    shown = capsys.readouterr().out
    for name, text in presets().items():
        assert f"preset:{name}" in shown
        assert text in shown
