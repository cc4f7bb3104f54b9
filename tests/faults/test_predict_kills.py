"""Predictions that are killed or stumble: what is finished stands, and nothing half made has a final name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.crs import CRS

from maskwright.checkpoints import save_model
from maskwright.config.model import UNetConfig
from maskwright.data.normalise import MetresNormaliser
from maskwright.errors import DataError, PredictionError
from maskwright.prediction import banded
from maskwright.prediction import journal as journal_module
from maskwright.prediction.raster_stream import Band
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.workflows.predict import predict

SETTINGS = {"polygons": "none", "gap_sizes": False, "tile_px": 32, "uncertainty": "entropy"}

CHILD = """
import sys, time
from maskwright.prediction import journal, map_raster
from maskwright.workflows.predict import predict

journal.EVERY_S = 0.0
write = map_raster._GapSink.write

def slow(self, band):
    if band.row >= 128:
        print("far", flush=True)
        time.sleep(600)
    write(self, band)

map_raster._GapSink.write = slow
if __name__ == "__main__":
    predict(sys.argv[1], sys.argv[2], sys.argv[3], settings=eval(sys.argv[4]))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    task, architecture = HeightGaps((5.0, 10.0), fixed=True), UNetConfig(base_channels=4, depth=2)
    description = {
        "task": task.to_dict(),
        "model": architecture.model_dump(mode="json"),
        "in_channels": 1,
        "batch_size": 8,
        "input": "dsm",
        "normaliser": MetresNormaliser().to_dict(),
        "trained_range_m": [5.0, 10.0],
        "prediction": {},
        "nodata": {},
        "pixel_size_m": [1.0, 1.0],
        "tile_px": 32,
    }
    save_model(tmp_path / "model", task.build_model(architecture, 1), description)
    return tmp_path / "model"


def _raster(path: Path, height: int = 200, **options: object) -> Path:
    surface = np.random.default_rng(0).normal(100, 5, (height, 70)).astype(np.float32)
    surface[150:160, 10:30] = -9999.0
    place = {"crs": CRS.from_epsg(32611), "transform": rasterio.Affine(1, 0, 500_000, 0, -1, 4_000_000)} | options
    with rasterio.open(path, "w", "GTiff", 70, height, 1, dtype="float32", nodata=-9999.0, **place) as dataset:
        dataset.write(surface, 1)
    return path


def _killed(model: Path, raster: Path, out: Path) -> Path:
    """Kill a prediction in the middle; returns its hidden folder."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(model), str(raster), str(out), repr(SETTINGS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "far\n"
        child.send_signal(signal.SIGKILL)
    hidden = out / f".{raster.stem}.part"
    assert [path.name for path in out.iterdir()] == [hidden.name]
    assert (hidden / journal_module.NAME).is_file()
    return hidden


def test_after_a_kill_the_same_command_goes_on_and_other_settings_begin_anew(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raster = _raster(tmp_path / "north.tif")
    (whole,) = predict(model, raster, tmp_path / "whole", settings=SETTINGS)
    _killed(model, raster, tmp_path / "maps")
    written: list[int] = []
    original = banded.stream

    def counting(*args: object, **options: object):
        for band in original(*args, **options):
            written.append(band.row)
            yield band

    monkeypatch.setattr(banded, "stream", counting)
    (result,) = predict(model, raster, tmp_path / "maps", settings=SETTINGS)
    assert written
    assert min(written) > 0  # rows that stood there were not computed again
    for name in ("probability", "gaps", "uncertainty", "quicklook"):
        assert result.files[name].read_bytes() == whole.files[name].read_bytes()
    assert result.per_height == whole.per_height
    assert (result.violations, result.valid_px, result.notes) == (whole.violations, whole.valid_px, whole.notes)
    assert not (tmp_path / "maps" / ".north.part").exists()

    _killed(model, raster, tmp_path / "others")
    written.clear()
    (other,) = predict(model, raster, tmp_path / "others", settings=SETTINGS | {"overlap": 0.25})
    assert min(written) == 0
    assert any("begun anew: changed since then: overlap" in note for note in other.notes)


def test_work_that_was_stopped_after_its_last_row_is_not_computed_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raster = _raster(tmp_path / "north.tif")
    (whole,) = predict(model, raster, tmp_path / "whole", settings=SETTINGS)
    monkeypatch.setattr(journal_module, "EVERY_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr("maskwright.prediction.map_raster.copy_to_cog", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            predict(model, raster, tmp_path / "maps", settings=SETTINGS)

    def none(self: object, band: Band) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("maskwright.prediction.map_raster._GapSink.write", none)
    (result,) = predict(model, raster, tmp_path / "maps", settings=SETTINGS)
    assert result.files["probability"].read_bytes() == whole.files["probability"].read_bytes()
    assert result.files["quicklook"].read_bytes() == whole.files["quicklook"].read_bytes()


def _interrupt(*args: object, **options: object) -> None:
    raise KeyboardInterrupt


def test_a_raster_that_is_torn_in_the_middle_leaves_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "EVERY_S", 0.0)
    raster = _raster(tmp_path / "north.tif", 600)
    content = raster.read_bytes()
    raster.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataError, match=r"north\.tif cannot be read at rows .* damaged or cut short"):
        predict(model, raster, tmp_path / "maps", settings=SETTINGS)
    assert not (tmp_path / "maps").exists()


def test_a_disk_that_fills_up_keeps_what_is_finished(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "EVERY_S", 0.0)
    raster = _raster(tmp_path / "north.tif")

    def full(self: object, row: int, values: object) -> None:
        if row >= 128:
            raise PredictionError("the disk is full.")
        write(self, row, values)

    from maskwright.prediction.geotiff import RowWriter

    write = RowWriter.write
    with monkeypatch.context() as patch:
        patch.setattr(RowWriter, "write", full)
        with pytest.raises(PredictionError, match=r"the disk is full\. What is finished is kept"):
            predict(model, raster, tmp_path / "maps", settings=SETTINGS)
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [".north.part"]
    predict(model, raster, tmp_path / "maps", settings=SETTINGS)
    assert not (tmp_path / "maps" / ".north.part").exists()


# --- told before any work ---------------------------------------------------------------------------------------------


def test_a_turned_raster_is_mapped_on_its_own_grid_or_told(model: Path, tmp_path: Path) -> None:
    turned = rasterio.Affine(0.8, 0.6, 500_000, 0.6, -0.8, 4_000_000)
    (result,) = predict(model, _raster(tmp_path / "north.tif", transform=turned), tmp_path / "maps", settings=SETTINGS)
    with rasterio.open(result.files["gaps"]) as dataset:
        assert dataset.transform == turned


def test_an_empty_folder_a_damaged_model_and_several_bands_are_told(model: Path, tmp_path: Path) -> None:
    raster = _raster(tmp_path / "north.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PredictionError, match="empty holds no file ending in"):
        predict(model, tmp_path / "empty", tmp_path / "maps")
    with rasterio.open(tmp_path / "three.tif", "w", "GTiff", 20, 20, 3, dtype="float32") as dataset:
        dataset.write(np.ones((3, 20, 20), np.float32))
    with pytest.raises(DataError, match="3 bands"):
        predict(model, tmp_path / "three.tif", tmp_path / "maps")
    (model / "model.json").write_text("{")
    with pytest.raises(Exception, match=r"model\.json"):
        predict(model, raster, tmp_path / "maps")
    assert not (tmp_path / "maps").exists()
