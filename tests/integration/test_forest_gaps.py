"""The whole way, by the real commands: rasters, one file, a run folder, numbers, a map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from scipy import ndimage

from maskwright.cli.main import main
from maskwright.data.splits import read_manifest
from maskwright.data.synthetic import write_forest
from maskwright.tracking.folder import RunFolder, find_runs

HEIGHTS = (5.0, 10.0, 15.0)
EXPERIMENT = """
name: small
task: {{kind: height_gaps, heights_m: [5, 10, 15], train_range_m: [2, 20]}}
data:
  kind: height_rasters
  folder: {folder}
  tiles: {{size_px: 32}}
  loader: {{batch_size: 8, samples_per_epoch: 64}}
model: {{kind: film_unet, base_channels: 8, depth: 2}}
optim: {{optimizer: {{kind: adamw, lr: 0.01}}}}
training: {{epochs: 2, threads: 1}}
metrics: {{bootstrap: 100}}
tracking: {{output_dir: {out}, quiet: true}}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder of the rasters and the run trained on them by the command."""
    folder = tmp_path_factory.mktemp("forest")
    write_forest(folder / "data", size_px=448, seed=4)
    config = folder / "experiment.yaml"
    config.write_text(EXPERIMENT.format(folder=folder / "data", out=folder / "outputs"), encoding="utf-8")
    assert main(["train", str(config)]) == 0
    (run,) = find_runs(folder / "outputs")
    return folder, run.path


def test_the_run_folder_holds_all_that_was_promised(trained):
    run = RunFolder(trained[1])
    for path in (run.config, run.events, run.report, run.log, run.manifest, run.splits, run.model / "model.json"):
        assert path.stat().st_size > 0, path
    for folder in (run.control, run.tensorboard, run.samples):
        assert folder.is_dir()
    assert run.record.status() == "finished"
    history = json.loads(run.history.read_text())
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert {"train/loss", "val/loss", "val/iou", "val/iou@10m", "lr/0"} <= history[0].keys()
    assert (run.samples / "epoch_0001.png").is_file()


def test_the_saved_experiment_is_literal_and_loads_back(trained):
    text = RunFolder(trained[1]).config.read_text()
    assert "patience: 10" in text  # a default nobody wrote
    assert "${" not in text
    assert main(["config", "validate", str(RunFolder(trained[1]).config)]) == 0


def test_the_numbers_stand_beside_every_baseline(trained):
    numbers = json.loads((trained[1] / "evaluation.json").read_text())
    assert [row["height_m"] for row in numbers["model"]] == list(HEIGHTS)
    assert len(numbers["baselines"]) == 4
    nothing, everything = numbers["baselines"]["nothing is a gap"], numbers["baselines"]["everything is a gap"]
    for none, all_, model in zip(nothing, everything, numbers["model"], strict=True):
        assert none["scores"]["iou"] == 0
        assert all_["scores"]["iou"] == pytest.approx(model["gap_share_true"])  # IoU of "everything" is the gap share
        low, high = model["intervals"]["iou"]
        assert low <= model["scores"]["iou"] <= high
    assert numbers["sentences"]


def test_scores_are_those_of_the_counts_over_the_whole_part(trained):
    """The table of the run is recomputed from the map of the same tiles, pixel by pixel."""
    from maskwright.config import load_experiment
    from maskwright.data.build import build_source
    from maskwright.prediction import Predictor

    run = RunFolder(trained[1])
    experiment = load_experiment([run.config])
    source = build_source(experiment.data)
    predictor = Predictor.load(run.path)
    hits, said_only, true_only = 0, 0, 0
    for place in read_manifest(run.splits).tiles["test"]:
        image, canopy, valid = source.sample(place.scene, place.window)
        with torch.inference_mode():
            logits = predictor.logits(torch.from_numpy(image)[None], HEIGHTS).numpy()[0]
        said = (np.maximum.accumulate(logits, axis=0)[1] > 0) & valid
        true = (canopy < 10) & valid
        hits += int((said & true).sum())
        said_only += int((said & ~true).sum())
        true_only += int((true & ~said).sum())
    numbers = json.loads((run.path / "evaluation.json").read_text())
    row = numbers["model"][1]
    assert row["scores"]["iou"] == pytest.approx(hits / (hits + said_only + true_only), abs=1e-4)


def test_evaluate_repeats_the_numbers_of_the_training(trained, capsys, tmp_path):
    assert main(["evaluate", str(trained[1]), "--out", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    first = json.loads((trained[1] / "evaluation.json").read_text())
    for one, other in zip(again["model"], first["model"], strict=True):
        assert one["scores"]["iou"] == pytest.approx(other["scores"]["iou"], abs=1e-3)
    assert "10 m" in capsys.readouterr().out


def test_evaluate_answers_heights_that_were_never_listed(trained, tmp_path):
    out = tmp_path / "other.json"
    assert main(["evaluate", str(trained[1]), "--heights", "7", "12.5", "--part", "val", "--out", str(out)]) == 0
    assert [row["height_m"] for row in json.loads(out.read_text())["model"]] == [7.0, 12.5]


def test_predict_writes_maps_that_keep_the_place_and_are_nested(trained, tmp_path):
    dsm = trained[0] / "data" / "forest_DSM.tif"
    out = tmp_path / "maps"
    command = ["predict", str(trained[1]), str(dsm), "--heights", "5", "10", "15", "--out", str(out), "--quiet"]
    assert main(command) == 0
    with rasterio.open(dsm) as raster, rasterio.open(out / "forest_DSM_gaps.tif") as gaps:
        assert gaps.crs == raster.crs
        assert gaps.transform == raster.transform
        assert gaps.nodata == 255
        masks, measured = gaps.read(), raster.read_masks(1) > 0
    assert ((masks == 255).all(axis=0) == ~measured).all()
    gap = masks == 1
    assert (gap[0] <= gap[1]).all()
    assert (gap[1] <= gap[2]).all()
    meta, _, geometry, fields = pyogrio.raw.read(out / "forest_DSM_gaps.gpkg")
    columns = dict(zip(meta["fields"], fields, strict=True))
    assert {"gap_id", "height_m", "area_m2", "perimeter_m"} <= columns.keys()
    for k, height in enumerate(HEIGHTS):
        assert columns["area_m2"][columns["height_m"] == height].sum() == pytest.approx(gap[k].sum())
    assert len(geometry) == len(columns["gap_id"])
    assert (out / "forest_DSM_quicklook.png").is_file()


def test_prepare_writes_masks_and_statistics_without_training(trained, tmp_path, capsys):
    out = tmp_path / "gaps"
    assert main(["prepare", "gaps", str(trained[0] / "data"), "--heights", "5", "10", "--out", str(out)]) == 0
    with rasterio.open(trained[0] / "data" / "forest_CHM.tif") as raster:
        canopy, measured = raster.read(1), raster.read_masks(1) > 0
        place = raster.crs, raster.transform
    with rasterio.open(out / "forest_gap_mask_10m.tif") as file:
        mask = file.read(1)
        assert (file.crs, file.transform) == place
        assert file.nodata == 255
    assert (mask == np.where(measured, canopy < 10, 255)).all()
    rows = json.loads((out / "forest_gap_statistics.json").read_text())["heights"]
    assert rows[1]["gap_share"] == pytest.approx((canopy < 10)[measured].mean())
    assert (out / "forest_gaps_5m.geojson").is_file()
    assert "forest" in capsys.readouterr().out


def test_runs_lists_the_run_with_its_status(trained, capsys):
    assert main(["runs", str(trained[0] / "outputs")]) == 0
    said = capsys.readouterr().out
    assert trained[1].name in said
    assert "finished" in said


def test_new_sites_keep_the_ground_of_old_ones_in_its_part(trained, tmp_path):
    from maskwright.config import load_experiment
    from maskwright.workflows.assemble import assemble

    folder, run = trained
    write_forest(folder / "data", name="later", size_px=448, seed=5)
    try:
        parts = assemble(load_experiment([folder / "experiment.yaml"]))
    finally:
        for path in (folder / "data").glob("later_*.tif"):
            path.unlink()
    old = {region for region in read_manifest(RunFolder(run).splits).regions if region.scene == "forest"}
    assert {region for region in parts.split.regions if region.scene == "forest"} == old
    assert any(region.scene == "later" for region in parts.split.regions)


@pytest.fixture(scope="module")
def fixed_run(trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network without condition, in an experiment that says how it is to be applied."""
    out = tmp_path_factory.mktemp("fixed")
    wishes = {
        "name": "fixed",
        "model": "{kind: unet, base_channels: 4, depth: 2}",
        "task.train_range_m": "null",
        "training.epochs": "1",
        "data.split.keep": "none",
        "prediction.heights_m": "[10]",
        "prediction.polygons": "geojson",
        "prediction.quicklook": "false",
        "prediction.probability_threshold": "0.9",
        "tracking.output_dir": str(out),
    }
    words = [word for path, value in wishes.items() for word in ("--set", f"{path}={value}")]
    assert main(["train", str(trained[0] / "experiment.yaml"), *words]) == 0
    return find_runs(out)[0].path


def test_predict_starts_from_what_the_experiment_says(trained, fixed_run, tmp_path):
    dsm = str(trained[0] / "data" / "forest_DSM.tif")
    assert main(["predict", str(fixed_run), dsm, "--out", str(tmp_path), "--quiet"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "forest_DSM_probability.tif",
        "forest_DSM_gaps.tif",
        "forest_DSM_gaps.geojson",
        "forest_DSM_summary.json",
        "forest_DSM_gap_sizes.csv",
        "forest_DSM_gap_sizes.png",
        "forest_DSM_gaps.qml",
        "forest_DSM_probability.qml",
    }
    with (
        rasterio.open(tmp_path / "forest_DSM_gaps.tif") as gaps,
        rasterio.open(tmp_path / "forest_DSM_probability.tif") as probs,
    ):
        assert gaps.descriptions == ("10 m",)
        measured = gaps.read(1) != 255
        assert ((gaps.read(1) == 1) == (probs.read(1) > 0.9))[measured].all()


def test_options_of_the_command_go_before_the_experiment(trained, fixed_run, tmp_path):
    dsm = str(trained[0] / "data" / "forest_DSM.tif")
    words = ["--heights", "5", "15", "--set", "polygons=none", "--quiet"]
    assert main(["predict", str(fixed_run), dsm, *words, "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "forest_DSM_gaps.geojson").exists()
    with rasterio.open(tmp_path / "forest_DSM_gaps.tif") as gaps:
        assert gaps.descriptions == ("5 m", "15 m")


def test_evaluate_shows_the_heights_that_were_asked_for(fixed_run, tmp_path):
    out = tmp_path / "numbers.json"
    assert main(["evaluate", str(fixed_run), "--heights", "5", "--out", str(out)]) == 0
    numbers = json.loads(out.read_text())
    assert [row["height_m"] for row in numbers["model"]] == [5.0]
    assert all(len(rows) == 1 for rows in numbers["baselines"].values())
    assert all("10 m" not in sentence for sentence in numbers["sentences"])


def test_a_largest_gap_size_is_refused_for_several_heights_at_once(trained, tmp_path, capsys):
    words = ["prepare", "gaps", str(trained[0] / "data"), "--max-gap-px", "200", "--out", str(tmp_path / "gaps")]
    assert main([*words, "--heights", "5", "10"]) == 2
    assert "one height at a time" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "gaps").exists()
    assert main([*words, "--heights", "5"]) == 0


def test_a_page_that_cannot_be_written_costs_neither_the_run_nor_the_numbers(trained, tmp_path, monkeypatch, capsys):
    from maskwright.errors import RunError

    def full(*_: object, **__: object) -> None:
        raise RunError("The disk is full.")

    monkeypatch.setattr("maskwright.workflows.run_pages._write_report", full)
    words = ["--set", "training.epochs=1", "--set", f"tracking.output_dir={tmp_path}", "--set", "data.split.keep=none"]
    assert main(["train", str(trained[0] / "experiment.yaml"), *words]) == 0
    assert "Best: test IoU" in capsys.readouterr().out
    (run,) = find_runs(tmp_path)
    assert run.record.status() == "finished"
    assert "The page was not written" in run.log.read_text()


def test_prepare_takes_a_canopy_raster_by_its_name(trained, tmp_path):
    raster = trained[0] / "data" / "forest_CHM.tif"
    words = ["--heights", "5", "--min-gap-px", "10", "--polygons", "gpkg", "--out", str(tmp_path)]
    assert main(["prepare", "gaps", str(raster), *words]) == 0
    with rasterio.open(tmp_path / "forest_CHM_gap_mask_5m.tif") as file:
        gap = file.read(1) == 1
    sizes = np.bincount(ndimage.label(gap, structure=np.ones((3, 3)))[0].ravel())[1:]
    assert sizes.min() >= 10
    _, _, geometry, _ = pyogrio.raw.read(tmp_path / "forest_CHM_gaps_5m.gpkg")
    assert len(geometry) == len(sizes)
