"""Every preset trains by the real command; made small where its size alone would take minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.cli.main import main
from maskwright.config import presets
from maskwright.data.synthetic import write_forest
from maskwright.tracking.folder import find_runs

SMALL = {
    "training.epochs": "1",
    "training.threads": "1",
    "model.base_channels": "4",
    "model.depth": "2",
    "data.tiles.size_px": "32",
    "data.loader.samples_per_epoch": "16",
    "metrics.bootstrap": "100",
    "task.heights_m": "[5, 10]",
    "tracking.quiet": "true",
}


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rasters")
    for seed in range(3):  # some presets divide by site
        write_forest(folder, name=f"site{seed}", size_px=320, seed=seed)
    return folder


@pytest.mark.parametrize("preset", sorted(presets()))
def test_a_preset_needs_nothing_but_the_data(preset: str, rasters: Path, tmp_path: Path):
    settings = {**SMALL, "data.folder": str(rasters), "tracking.output_dir": str(tmp_path), "name": preset}
    words = [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]
    assert main(["train", f"preset:{preset}", *words]) == 0
    (run,) = find_runs(tmp_path)
    assert run.record.status() == "finished"
    assert (run.path / "evaluation.json").is_file()
