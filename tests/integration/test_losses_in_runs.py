"""Settings of the loss that need the data, through the real command: measured weights, schedules, mixed samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.cli.main import main
from maskwright.data.synthetic import write_forest
from maskwright.data.synthetic_images import write_pictures
from maskwright.tracking import read_history
from maskwright.tracking.folder import find_runs

SMALL = {
    "training.epochs": "2",
    "training.threads": "1",
    "model.base_channels": "4",
    "model.depth": "2",
    "data.tiles.size_px": "32",
    "data.loader.samples_per_epoch": "16",
    "metrics.bootstrap": "100",
    "tracking.quiet": "true",
}
CLASSES = (
    "[{name: scratch, values: [1]}, {name: pit, values: [2]}, {name: stain, values: [3]}]"  # of the invented defects
)


def train(folder: Path, **settings: str) -> list[dict[str, float]]:
    """Train as the command does, and return the history."""
    path = folder / "run.yaml"
    path.write_text("name: run\n", "utf-8")
    everything = {**SMALL, **{name.replace("__", "."): value for name, value in settings.items()}}
    everything["tracking.output_dir"] = str(folder / "runs")
    words = [word for name, value in everything.items() for word in ("--set", f"{name}={value}")]
    assert main(["train", str(path), *words]) == 0
    (run,) = find_runs(folder / "runs")
    assert run.record.status() == "finished"
    return read_history(run.history)


def test_measured_class_weights_a_schedule_and_mixed_samples_work_together(tmp_path: Path) -> None:
    photographs = write_pictures(tmp_path / "defects", "defects", 8, size_px=96)
    history = train(
        tmp_path,
        task__kind="multiclass",
        data__folder=str(photographs),
        data__labels__classes=CLASSES,
        data__split__by="image",
        data__split__shares="[0.5, 0.25, 0.25]",
        data__augment__mixup_p="0.5",
        loss__class_weights="auto",
        loss__schedule__kind="cosine",
    )
    assert history[1]["train/loss_weight/dice"] == pytest.approx(0.9)
    assert "val/miou" in history[1]
    assert "val/iou@pit" in history[1]


def test_a_measured_weight_of_the_foreground_and_learned_factors_work_together(tmp_path: Path) -> None:
    photographs = write_pictures(tmp_path / "cracks", "cracks", 8, size_px=96)
    history = train(
        tmp_path,
        task__kind="binary",
        data__folder=str(photographs),
        data__split__by="image",
        data__split__shares="[0.5, 0.25, 0.25]",
        loss__pos_weight="auto",
        loss__learn_weights="true",
    )
    assert history[1]["train/loss_weight/bce"] != 0.5


def test_gaps_are_trained_with_weights_by_height(tmp_path: Path) -> None:
    write_forest(tmp_path / "forest", name="a", size_px=320, seed=0)
    history = train(
        tmp_path,
        data__folder=str(tmp_path / "forest"),
        task__heights_m="[5, 10]",
        loss__height_weights="rare_gaps",
    )
    assert history[1]["val/loss"] > 0


def test_heights_are_trained(tmp_path: Path) -> None:
    write_forest(tmp_path / "forest", name="a", size_px=320, seed=0)
    history = train(tmp_path, task__kind="height", data__folder=str(tmp_path / "forest"))
    assert history[1]["val/rmse"] > 0
