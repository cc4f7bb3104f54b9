"""Trains with data workers while one dies or shared memory is full; test_dead_workers.py runs it in its own process.

Arguments: the folder of the runs, and ``killed`` or ``full`` (then ``/dev/shm`` has no room). The report goes to
standard output as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from training_child import SIDE, digest  # a script's own folder is on its path

from maskwright.config.callbacks import CallbacksConfig, EarlyStoppingConfig
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import FilmUNetConfig
from maskwright.config.task import HeightGapsTask
from maskwright.config.training import TrainingConfig
from maskwright.data.loaders import TrainLoader
from maskwright.data.regions import Region, Split
from maskwright.data.sampling import HeightChoice, TrainPlan
from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.tiles import tile_grid
from maskwright.errors import MaskwrightError
from maskwright.tasks import build_task
from maskwright.tracking import RunFolder, read_manifest
from maskwright.training import Callback, Trainer
from maskwright.types import Place, Window

HEIGHTS_M = (5.0, 10.0)
TILES = 12


class Slope:
    """A source held in memory: canopy that rises from left to right."""

    def __init__(self) -> None:
        grid = Grid(SIDE, SIDE * TILES, (2.0, 0.0, 0.0, 0.0, -2.0, 0.0), None)
        self.scenes = (Scene("slope", grid, "slope", ()),)
        self.in_channels = 1

    def sample(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        image, valid = self.read(scene, window)
        return image, self.label(scene, window)[0], valid

    def read(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        canopy, valid = self.label(scene, window)
        return canopy[None] / 30, valid

    def label(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        columns = np.arange(window.col, window.col_stop, dtype=np.float32) % 20
        return np.tile(columns, (window.height, 1)), np.ones((window.height, window.width), bool)

    def valid_share(self, scene: str, tile_px: int) -> np.ndarray:
        return np.ones((1, TILES))

    def split(self) -> Split:
        grid = self.scenes[0].grid
        tiles = tuple(Place("slope", window) for window in tile_grid(grid.height, grid.width, SIDE))
        by_part = {"train": tiles, "val": (), "test": ()}
        region = Region("slope", "train", grid.window)
        return Split("lists", 0, (1.0, 0.0, 0.0), SIDE, SIDE, (region,), by_part, {"slope": grid})


class KillWorker(Callback):
    """Kills one of the processes that read, after so many updates."""

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == 4:
            os.kill(psutil.Process().children()[0].pid, signal.SIGKILL)


def trainer(folder: RunFolder, *callbacks: Callback) -> Trainer:
    torch.manual_seed(1)
    source = Slope()
    model = FilmUNetConfig(base_channels=4, depth=1, film_hidden=4, dropout=0.3)
    task = build_task(HeightGapsTask(heights_m=HEIGHTS_M), CombinedLossConfig(), MetricsConfig(), model)
    plan = TrainPlan(source.split(), HeightChoice(heights_m=HEIGHTS_M), seed=3)
    return Trainer(
        task,
        task.build_model(model, 1, 2),
        TrainLoader(source, plan, batch_size=2, workers=2, prefetch=1),
        training=TrainingConfig(epochs=2, device="cpu", seed=1),
        monitoring=CallbacksConfig(early_stopping=EarlyStoppingConfig(enabled=False)),
        checkpoints=CheckpointsConfig(every_steps=3),
        run_folder=folder,
        callbacks=callbacks,
        quiet=True,
    )


def main(output: Path, what: str) -> None:
    torch.set_num_threads(1)
    told: dict[str, Any] = {"error": None, "kinds": []}
    if what == "killed":
        alone = trainer(RunFolder.create(output, "alone"))
        alone.train()
        told["alone"] = digest(alone)
    folder = RunFolder.create(output, what)
    try:
        trainer(folder, *([KillWorker()] if what == "killed" else [])).train()
    except MaskwrightError as error:
        told["error"] = str(error)
    if what == "killed":
        told["kinds"] = [record.kind for record in read_manifest(folder.checkpoints / "manifest.json").records]
        again = trainer(folder)
        again.resume()
        again.train()
        told["digest"] = digest(again)
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
