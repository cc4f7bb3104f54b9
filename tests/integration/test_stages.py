"""Stages of a training by the real command: growing tiles, carried weights, one split; killed and continued exactly."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from maskwright.cli.main import main
from maskwright.config import load_experiment
from maskwright.data.splits import read_manifest
from maskwright.data.synthetic import write_forest
from maskwright.errors import DataError
from maskwright.tracking.folder import RunFolder, find_runs
from maskwright.training import Callback, TrainState
from maskwright.workflows.shape import train_shaped
from maskwright.workflows.train import TrainOutcome

EXPERIMENT = """
name: grown
task: {{kind: binary}}
data:
  kind: images
  folder: {data}
  loader: {{batch_size: 4}}
model: {{base_channels: 4, depth: 2}}
optim: {{optimizer: {{lr: 0.01}}}}
training: {{epochs: 2, threads: 1, device: cpu}}
checkpoints: {{every_steps: 2}}
metrics: {{bootstrap: 100}}
tracking: {{output_dir: {out}, quiet: true, tensorboard: false}}
stages:
  - {{name: coarse, size_px: 32, batch_size: 8, epochs: 3}}
  - {{name: fine, size_px: 64, lr: 0.002, settings: [optim.schedule.kind=constant]}}
"""


def write_pictures(folder: Path, count: int = 14, side: int = 64) -> Path:
    """Grey noise with a bright square in each picture."""
    rng = np.random.Generator(np.random.Philox(5))
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(count):
        picture = rng.integers(60, 120, (side, side, 3), dtype=np.uint8)
        mask = np.zeros((side, side), np.uint8)
        row, col = rng.integers(0, side - 20, 2)
        picture[row : row + 18, col : col + 18] = 200
        mask[row : row + 18, col : col + 18] = 255
        Image.fromarray(picture).save(folder / "images" / f"p{number:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"p{number:02d}.png")
    return folder


def write_experiment(folder: Path, data: Path, more: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "grown.yaml"
    config.write_text(EXPERIMENT.format(data=data, out=folder / "outputs") + more, encoding="utf-8")
    return config


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "data")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> RunFolder:
    folder = tmp_path_factory.mktemp("grown")
    assert main(["train", str(write_experiment(folder, pictures))]) == 0
    (outer,) = find_runs(folder / "outputs")
    return outer


def stages_of(outer: RunFolder) -> tuple[RunFolder, RunFolder]:
    coarse, fine = sorted(find_runs(outer.path), key=lambda run: run.path.name)
    return coarse, fine


def test_each_stage_is_an_ordinary_run_and_the_outer_run_holds_the_outcome(grown: RunFolder) -> None:
    coarse, fine = stages_of(grown)
    assert [run.record.load()["name"] for run in (coarse, fine)] == ["stage_1_coarse", "stage_2_fine"]
    assert [run.record.status() for run in (grown, coarse, fine)] == ["finished"] * 3
    for name in ("model/model.safetensors", "model/model.json", "evaluation.json", "report.html"):
        assert (grown.path / name).read_bytes() == (fine.path / name).read_bytes(), name
    epochs = json.loads(grown.history.read_text())
    assert [(entry["epoch"], entry["part"]) for entry in epochs] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]
    assert [stage["folder"] for stage in grown.record.load()["stages"]] == [coarse.path.name, fine.path.name]
    assert main(["evaluate", str(grown.path)]) == 0


def test_a_stage_has_its_own_settings_and_begins_from_the_best_weights_of_the_one_before(grown: RunFolder) -> None:
    coarse, fine = (load_experiment([run.config]) for run in stages_of(grown))
    assert (coarse.data.tiles.size_px, coarse.data.loader.batch_size, coarse.training.epochs) == (32, 8, 3)
    assert (fine.data.tiles.size_px, fine.data.loader.batch_size, fine.optim.optimizer.lr) == (64, 4, 0.002)
    assert fine.optim.schedule.kind == "constant"
    parent = stages_of(grown)[0].path
    assert fine.model.initial_weights == parent / "model" / "model.safetensors"
    assert stages_of(grown)[1].record.load()["parent"]["folder"] == str(parent)


@dataclass
class Watched:
    """A run of stages with what it said and the weights each stage began with."""

    outcome: TrainOutcome
    said: list[str]
    begun: list[dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Watched:
    said: list[str] = []
    begun: list[dict[str, torch.Tensor]] = []

    class Watch(Callback):
        def on_train_begin(self, state: TrainState) -> None:
            begun.append({name: value.clone() for name, value in state.model.state_dict().items()})

    experiment = load_experiment([write_experiment(tmp_path_factory.mktemp("watched"), pictures)])
    return Watched(train_shaped(experiment, callbacks=[Watch()], say=said.append), said, begun)


def test_weights_at_the_begin_of_a_stage_are_those_of_the_parent_to_the_bit(watched: Watched) -> None:
    best = load_file(stages_of(watched.outcome.folder)[0].model / "model.safetensors")
    first, second = watched.begun
    assert second.keys() == best.keys()
    assert all(torch.equal(second[name], best[name]) for name in best)
    assert not all(torch.equal(first[name], best[name]) for name in best)


def test_the_screen_says_which_stage(watched: Watched) -> None:
    begun = [line for line in watched.said if ", from " in line and line.startswith("Stage")]
    assert begun[0] == "Stage 1 of 2, coarse: tiles of 32 px, batches of 8, 3 epochs, lr 0.01, from new weights."
    assert begun[1].startswith("Stage 2 of 2, fine: tiles of 64 px, batches of 4, 2 epochs, lr 0.002, from the best")
    lines = watched.outcome.lines
    assert lines[0].startswith("Stage 1 of 2, coarse: val/iou ")
    assert lines[1].startswith("Stage 2 of 2, fine: val/iou ")
    assert any(f"maskwright predict {watched.outcome.folder.path} " in line for line in lines)


def test_all_stages_hold_out_the_same_images(grown: RunFolder) -> None:
    coarse, fine = (read_manifest(run.splits) for run in stages_of(grown))
    assert (coarse.tile_px, fine.tile_px) == (32, 64)
    assert set(coarse.regions) == set(fine.regions)
    for part in ("train", "val", "test"):
        assert {place.scene for place in coarse.tiles[part]} == {place.scene for place in fine.tiles[part]}


def test_blocks_of_ground_stay_held_out_whatever_the_tiles(tmp_path: Path) -> None:
    write_forest(tmp_path / "forest", size_px=448, seed=8)
    experiment = load_experiment(
        overrides={
            "name": "blocks",
            "task": {"heights_m": [5]},
            "data": {
                "folder": str(tmp_path / "forest"),
                "split": {"by": "blocks"},
                "loader": {"batch_size": 4, "samples_per_epoch": 8},
            },
            "model": {"base_channels": 4, "depth": 2},
            "training": {"epochs": 1, "threads": 1},
            "metrics": {"bootstrap": 100},
            "tracking": {"output_dir": str(tmp_path / "outputs"), "quiet": True, "tensorboard": False},
            "stages": [{"name": "small", "size_px": 16}, {"name": "large", "size_px": 32}],
        }
    )
    small, large = (read_manifest(run.splits) for run in stages_of(train_shaped(experiment).folder))
    assert set(small.regions) == set(large.regions)
    assert small.buffer_px <= large.buffer_px
    assert len(small.tiles["train"]) > len(large.tiles["train"])


@pytest.mark.parametrize("stage", [pytest.param("stage_1_coarse", marks=pytest.mark.slow), "stage_2_fine"])
def test_a_killed_run_of_stages_goes_on_at_its_stage_to_the_same_weights(
    grown: RunFolder, pictures: Path, tmp_path: Path, stage: str
) -> None:
    config = write_experiment(tmp_path, pictures)
    process = subprocess.Popen([sys.executable, "-m", "maskwright", "train", str(config)])
    deadline = time.monotonic() + 600
    while process.poll() is None and _steps(tmp_path / "outputs", stage) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    (outer,) = find_runs(tmp_path / "outputs")
    assert outer.record.status() == "interrupted"
    finished = [run.path for run in find_runs(outer.path) if run.record.status() == "finished"]
    assert len(finished) == (stage == "stage_2_fine")
    words = ["auto", str(config)] if stage == "stage_1_coarse" else [str(outer.path)]
    before = {path: (path / "checkpoints" / "manifest.json").stat().st_mtime_ns for path in finished}
    assert main(["train", "--resume", *words]) == 0
    assert len(find_runs(tmp_path / "outputs")) == 1
    assert {path: (path / "checkpoints" / "manifest.json").stat().st_mtime_ns for path in finished} == before
    for mine, straight in zip((outer, *stages_of(outer)), (grown, *stages_of(grown)), strict=True):
        assert (mine.model / "model.safetensors").read_bytes() == (straight.model / "model.safetensors").read_bytes()


def test_a_stop_sent_to_the_outer_run_reaches_the_stage_and_it_can_be_continued(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from maskwright.tracking.control import ControlFolder

    class Ask(Callback):
        def on_epoch_begin(self, state: TrainState) -> None:
            (outer,) = find_runs(tmp_path / "outputs")
            if len(find_runs(outer.path)) == 1 and state.epoch == 1:
                file = ControlFolder(outer.control).send("stop")
                give_up = time.monotonic() + 30
                while file.exists() and time.monotonic() < give_up:
                    time.sleep(0.02)
                time.sleep(0.3)  # the stage looks at its folder a few times a second

    config = write_experiment(tmp_path, pictures)
    outcome = train_shaped(load_experiment([config]), callbacks=[Ask()])
    assert not outcome.finished
    assert outcome.lines[0] == "Stage 1 of 2, coarse was stopped."
    assert str(outcome.folder.path) in outcome.lines[-1]
    assert "stage_1" not in outcome.lines[-1]
    assert outcome.folder.record.status() == "stopped"
    assert main(["train", "--resume", str(outcome.folder.path)]) == 0
    assert outcome.folder.record.status() == "finished"


def test_a_dry_run_tells_all_stages_and_makes_no_run(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_experiment(tmp_path, pictures)
    assert main(["train", str(config), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "Stage 1 of 2, coarse: tiles of 32 px" in told
    assert "Stage 2 of 2, fine: tiles of 64 px" in told
    assert told.count("Nothing was trained.") == 1
    assert not find_runs(tmp_path / "outputs")


def test_what_a_later_stage_cannot_do_is_told_before_the_first_begins(pictures: Path, tmp_path: Path) -> None:
    config = write_experiment(tmp_path, pictures)
    measured = load_experiment(
        [config],
        [
            "data.normalise.kind=standard",
            "data.tiles.size_px=32",
            "stages=[{name: a}, {name: b, settings: ['data.resize_px=[32, 32]']}]",
        ],
    )
    with pytest.raises(DataError, match=r"stages\[1\]: data.normalise measures other numbers"):
        train_shaped(measured)
    assert not find_runs(tmp_path / "outputs")


def _steps(outputs: Path, stage: str) -> int:
    """Updates that a stage has saved."""
    try:
        (outer,) = find_runs(outputs)
        (run,) = find_runs(outer.path, stage)
        return max((record["global_step"] for record in json.loads(run.manifest.read_text())["checkpoints"]), default=0)
    except (ValueError, OSError, KeyError):
        return 0
