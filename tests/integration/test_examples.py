"""The scripts and experiments under examples/ work as they stand, and a short training beats what needs none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maskwright.cli.main import main
from maskwright.config import load_experiment
from maskwright.data.synthetic_images import write_pictures
from maskwright.tracking.folder import RunFolder, find_runs

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PICTURES = ("cracks", "defects", "vessels")
TINY = {
    "training.epochs": "1",
    "training.threads": "1",
    "data.loader.samples_per_epoch": "16",
    "model.base_channels": "4",
    "metrics.bootstrap": "100",
    "tracking.quiet": "true",
}


def trained(config: Path, out: Path, **settings: str) -> RunFolder:
    """The run of the train command, with settings said after the file."""
    said = {**settings, "tracking.output_dir": str(out)}
    words = [word for path, value in said.items() for word in ("--set", f"{path}={value}")]
    assert main(["train", str(config), *words]) == 0
    (run,) = find_runs(out)
    assert run.record.status() == "finished"
    return run


def numbers_of(run: RunFolder) -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads((run.path / "evaluation.json").read_text("utf-8"))
    return numbers


@pytest.mark.real
def test_the_forest_example_trains_on_real_rasters(real_data: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("MASKWRIGHT_DATA", str(real_data))
    run = trained(EXAMPLES / "forest_gaps" / "experiment.yaml", tmp_path, **TINY)
    said = capsys.readouterr().err
    assert "no CRS" in said  # Cauaxi: allowed, and said
    sites = run.record.load()["sites"]
    assert sites["laselva_2009"]["pixel_size_m"] == pytest.approx(1.25)
    assert sites["cauaxi_2012"]["ground"] == sites["cauaxi_2014"]["ground"]


def test_every_experiment_under_examples_is_valid(monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_DATA", "/data")
    for path in sorted(EXAMPLES.glob("*/*.yaml")):
        assert load_experiment([path]).name


@pytest.mark.real
@pytest.mark.parametrize("example", PICTURES)
def test_the_check_finds_no_error_in_an_example_on_pictures(example, real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_DATA", str(real_data))
    config = EXAMPLES / example / "experiment.yaml"
    assert main(["check", str(config), "--out", str(tmp_path / "check"), "--json"]) == 0


@pytest.mark.real
@pytest.mark.parametrize("example", PICTURES)
def test_an_example_on_pictures_trains_on_the_real_ones(example, real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_DATA", str(real_data))
    settings = TINY | ({"data.resize_px": "[384, 576]"} if example == "vessels" else {})  # fewer tiles to score
    run = trained(EXAMPLES / example / "experiment.yaml", tmp_path, **settings)
    numbers = numbers_of(run)
    assert numbers["unit"] == "image"
    assert set(numbers["baselines"]) == {"nothing", "everything", "a coin with the training share"}


def test_a_minute_of_training_finds_invented_cracks_better_than_any_answer_without_training(tmp_path: Path):
    folder = write_pictures(tmp_path / "data", "cracks", 24, size_px=96, difficulty="easy")
    config = tmp_path / "experiment.yaml"
    config.write_text(
        f"name: invented\ntask: {{kind: binary}}\ndata: {{kind: images, folder: {folder}, tiles: {{size_px: 96}}}}\n"
        "model: {base_channels: 8, depth: 3}\noptim: {optimizer: {kind: adamw, lr: 0.01}}\n",
        "utf-8",
    )
    settings = {"training.epochs": "12", "training.threads": "1", "tracking.quiet": "true"}
    numbers = numbers_of(trained(config, tmp_path / "runs", **settings))
    lowest = numbers["model"][0]["intervals"]["iou"][0]
    for name, rows in numbers["baselines"].items():
        assert lowest > rows[0]["intervals"]["iou"][1] + 0.1, name
