"""Trees one by one by the real commands: from a COCO folder to an experiment, a run and its numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maskwright.cli.main import main
from maskwright.config import load_experiment
from maskwright.data.synthetic_trees import write_trees
from maskwright.tracking.folder import RunFolder, find_runs

SMALL = {
    "model.base_channels": "4",
    "model.depth": "2",
    "model.head_channels": "4",
    "training.epochs": "1",
    "training.threads": "1",
    "data.tiles.size_px": "64",
    "data.loader.samples_per_epoch": "4",
    "data.split.by": "image",
    "data.split.shares": "[0.5, 0.25, 0.25]",
    "metrics.bootstrap": "100",
    "tracking.quiet": "true",
}
TERMS = ("instance", "semantic", "crown", "density")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trees(tmp_path_factory.mktemp("trees"), 4, size_px=96, difficulty="hard")


def _trees_of(data: Path, run: RunFolder, part: str) -> int:
    """How many trees the annotations have on the images of a part."""
    regions = [each["properties"] for each in json.loads(run.splits.read_text("utf-8"))["features"]]
    scenes = {each["scene"] for each in regions if each["kind"] == "region" and each["part"] == part}
    coco = json.loads((data / "annotations.json").read_text("utf-8"))
    images = {each["id"] for each in coco["images"] if Path(each["file_name"]).stem in scenes}
    return sum(each["image_id"] in images for each in coco["annotations"])


def test_a_coco_folder_becomes_a_run_with_objects_counted(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    assert main(["init", str(data), "--task", "agroforestry", "--out", str(file)]) == 0
    drafted = load_experiment(file)
    assert (drafted.task.kind, drafted.model.kind, drafted.data.labels.kind) == (
        "agroforestry",
        "multitask_unet",
        "coco",
    )
    assert (drafted.task.crown_unit, drafted.metrics.operating_point) == ("m", "max_f1")
    settings = {**SMALL, "tracking.output_dir": str(tmp_path / "runs"), "data.cache.folder": str(tmp_path / "cache")}
    words = [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]
    assert main(["train", str(file), *words]) == 0
    (run,) = find_runs(tmp_path / "runs")
    assert run.record.status() == "finished"
    (epoch,) = json.loads(run.history.read_text("utf-8"))
    for part in ("train", "val"):
        assert all(epoch[f"{part}/loss/{term}"] > 0 for term in TERMS)
    assert {"val/mAP_50", "val/AP_50@cacao", "val/count_accuracy", "val/canopy_iou", "val/density_mae"} <= set(epoch)
    page = run.report.read_text("utf-8")
    assert "bjects found one by one" in page
    out = tmp_path / "val.json"
    assert main(["evaluate", str(run.path), "--part", "val", "--out", str(out)]) == 0
    scores = json.loads(out.read_text("utf-8"))
    assert scores["objects_unit"] == "m"
    assert scores["objects"]["count_true"] == _trees_of(data, run, "val") > 0
