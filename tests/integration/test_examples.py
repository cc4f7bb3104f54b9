"""The scripts and experiments under examples/ work as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.cli.main import main
from maskwright.config import load_experiment
from maskwright.tracking.folder import find_runs

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.real
def test_the_forest_example_trains_on_real_rasters(real_data: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("MASKWRIGHT_DATA", str(real_data))
    settings = {
        "training.epochs": "1",
        "training.threads": "1",
        "data.loader.samples_per_epoch": "16",
        "model.base_channels": "4",
        "metrics.bootstrap": "100",
        "tracking.output_dir": str(tmp_path),
        "tracking.quiet": "true",
    }
    words = [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]
    assert main(["train", str(EXAMPLES / "forest_gaps" / "experiment.yaml"), *words]) == 0
    said = capsys.readouterr().err
    assert "no CRS" in said  # Cauaxi: allowed, and said
    (run,) = find_runs(tmp_path)
    assert run.record.status() == "finished"
    sites = run.record.load()["sites"]
    assert sites["laselva_2009"]["pixel_size_m"] == pytest.approx(1.25)
    assert sites["cauaxi_2012"]["ground"] == sites["cauaxi_2014"]["ground"]


def test_every_experiment_under_examples_is_valid(monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_DATA", "/data")
    for path in sorted(EXAMPLES.glob("*/*.yaml")):
        assert load_experiment([path]).name
