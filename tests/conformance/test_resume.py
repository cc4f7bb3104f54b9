"""Every part of a training, switched on: a run killed again and again ends with the bits of one left alone.

A kill is an exception that nothing handles, after which all objects are thrown away and made anew from the folder;
real signals at random instants are the business of ``tests/faults``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.config.callbacks import CallbacksConfig, EarlyStoppingConfig
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import FilmUNetConfig
from maskwright.config.optim import OptimConfig
from maskwright.config.task import HeightGapsTask
from maskwright.config.training import TrainingConfig
from maskwright.data.loaders import EvalLoader, TrainLoader
from maskwright.data.regions import Region, Split
from maskwright.data.sampling import Augment, HeightChoice, TrainPlan
from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.tiles import tile_grid
from maskwright.tasks import build_task
from maskwright.tracking import RunFolder, read_history
from maskwright.training import Callback, Trainer
from maskwright.types import Place, Window

TILE, TILES = 16, 14  # two tiles in a batch: 7 batches in an epoch
HEIGHTS_M = (5.0, 10.0)


class Strip:
    """A long thin scene held in memory: canopy heights, some not measured."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        rows, columns = TILE, TILE * TILES
        self.scenes = (Scene("strip", Grid(rows, columns, (2.0, 0.0, 0.0, 0.0, -2.0, 0.0), None), "strip", ()),)
        self.in_channels = 1
        self.canopy = rng.uniform(0, 20, (rows, columns)).astype(np.float32)
        self.measured = rng.random((rows, columns)) < 0.9

    def sample(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        (image, valid), (target, _) = self.read(scene, window), self.label(scene, window)
        return image, target, valid

    def read(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        target, valid = self.label(scene, window)
        return target[None] / 30, valid

    def label(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        valid = self._part(self.measured, window)
        return np.where(valid, self._part(self.canopy, window), 0).astype(np.float32), valid

    def valid_share(self, scene: str, tile_px: int) -> np.ndarray:
        return np.ones((1, TILES))

    def split(self) -> Split:
        grid = self.scenes[0].grid
        tiles = tuple(Place("strip", window) for window in tile_grid(grid.height, grid.width, TILE))
        region = Region("strip", "train", grid.window)
        by_part = {"train": tiles, "val": (), "test": ()}
        return Split("lists", 0, (1.0, 0.0, 0.0), TILE, TILE, (region,), by_part, {"strip": grid})

    @staticmethod
    def _part(values: np.ndarray, window: Window) -> np.ndarray:
        out = np.zeros((window.height, window.width), values.dtype)
        left, top = max(window.col, 0), max(window.row, 0)
        part = values[top : max(window.row_stop, 0), left : max(window.col_stop, 0)]
        out[top - window.row : top - window.row + part.shape[0], left - window.col :][:, : part.shape[1]] = part
        return out


@dataclass(frozen=True)
class Case:
    """A run; what is not named is switched off."""

    training: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"kind": "constant"})
    loss: Mapping[str, Any] = field(default_factory=dict)
    stopping: Mapping[str, Any] | None = None
    monitor: str | None = None
    mode: str = "auto"
    augment: Augment | None = None
    workers: int = 0
    epochs: int = 3
    background: bool = True

    def reaches(self, epoch: int, where: str, number: int) -> bool:
        """Whether a run comes by this place."""
        return where != "validation" or (epoch + 1) % self.training.get("validate_every", 1) == 0

    def trainer(self, folder: RunFolder, *callbacks: Callback) -> Trainer:
        torch.set_num_threads(1)
        torch.manual_seed(5)
        source = Strip()
        split = source.split()
        model = FilmUNetConfig(base_channels=4, depth=1, film_hidden=4, dropout=0.3)
        loss = CombinedLossConfig.model_validate(self.loss)
        task = build_task(HeightGapsTask(heights_m=HEIGHTS_M), loss, MetricsConfig(), model)
        plan = TrainPlan(split, HeightChoice(heights_m=HEIGHTS_M), self.augment, seed=3)
        train = TrainLoader(
            source, plan, batch_size=2, workers=self.workers, prefetch=1, scale_m=30.0, surface_bands=(0,)
        )
        return Trainer(
            task,
            task.build_model(model, 1, 2),
            train,
            EvalLoader(source, split.tiles["train"][:6], HEIGHTS_M, 2),
            training=TrainingConfig.model_validate(
                {"epochs": self.epochs, "device": "cpu", "seed": 1, "precision": "fp32", **self.training}
            ),
            optim=OptimConfig.model_validate({"optimizer": {"kind": "adamw", "lr": 0.01}, "schedule": self.schedule}),
            monitoring=CallbacksConfig(
                monitor=self.monitor,
                mode=self.mode,  # type: ignore[arg-type]
                early_stopping=EarlyStoppingConfig.model_validate(self.stopping or {"enabled": False}),
            ),
            checkpoints=CheckpointsConfig(every_steps=2, max_checkpoints=2, background=self.background),
            run_folder=folder,
            callbacks=callbacks,
            quiet=True,
        )


RICH = Augment(rotate_p=0.5, noise_m=0.2, shift_m=1.0, terrain_p=0.5)
FALLING = {"monitor": "train/loss", "mode": "max"}  # falls from the first epoch on, so that is the best
LATE = {"enabled": True, "patience": 3}  # waits for epochs 2, 3 and 4
EMA = {"ema": {"enabled": True, "decay": 0.9}}
PLATEAU = {"kind": "reduce_on_plateau", "patience": 0, "factor": 0.5}

CASES = {
    "nothing more": Case(),
    "saved at once": Case(background=False),
    "bf16": Case(training={"precision": "bf16"}),
    "accumulation of 3, the last group ragged": Case(training={"accumulate": 3}),
    "running average of the weights": Case(training=EMA),
    "running average in bf16 with accumulation": Case(training={**EMA, "precision": "bf16", "accumulate": 3}),
    "adaptive clipping, skipped updates": Case(training={"clip_adaptive": 0.05, "on_nonfinite": "skip"}),
    "restoring after NaN": Case(training={"on_nonfinite": "restore"}),
    "validation in every second epoch": Case(training={"validate_every": 2}, epochs=4),
    "plateau": Case(schedule=PLATEAU, **FALLING),
    "one cycle": Case(schedule={"kind": "one_cycle"}),
    "adaptive rate": Case(schedule={"kind": "adaptive", "patience": 1}),
    "early stop": Case(stopping=LATE, epochs=8, **FALLING),
    "loss weights along a cosine": Case(loss={"schedule": {"kind": "cosine", "max_epochs": 3}}),
    "loss weights by score": Case(loss={"schedule": {"kind": "adaptive", "monitor": "val/iou"}}),
    "augmentation": Case(augment=RICH),
    "one worker": Case(workers=1, augment=RICH, epochs=2),
    "two workers": Case(workers=2, augment=RICH, epochs=2),
    "three workers": Case(workers=3, augment=RICH, epochs=2),
    "all together": Case(
        training={**EMA, "precision": "bf16", "accumulate": 3, "clip_value": 0.5},
        schedule=PLATEAU,
        loss={"schedule": {"kind": "cosine", "max_epochs": 3}},
        stopping=LATE,
        augment=RICH,
        workers=2,
        epochs=8,
        **FALLING,
    ),
}

KILLS = (  # epoch from 0, where, number from 0; in this order, one an attempt
    (0, "batch", 0),  # nothing is saved yet
    (0, "batch", 4),
    (0, "batch", 6),  # the last batch of an epoch
    (0, "validation", 0),
    (1, "batch", 0),  # the first batch of an epoch
    (1, "validation", 2),  # the last batch of a validation
    (1, "epoch end", 0),
    (3, "batch", 0),  # patience 3 has waited for 2 epochs by then
    (3, "validation", 1),
)


class Killed(BaseException):
    """What no part of a training may handle."""


class KillAt(Callback):
    """Ends the run at one place, as if the process were gone."""

    def __init__(self, epoch: int, where: str, number: int) -> None:
        self.place = (epoch, where, number)
        self.validated = 0
        self.trained = 0

    def on_epoch_begin(self, state: Any) -> None:
        self.trained, self.validated = state.position, 0

    def on_batch_end(self, state: Any, loss: Any) -> None:
        self._die(state.epoch, "batch", self.trained)
        self.trained += 1

    def on_validation_batch_end(self, state: Any) -> None:
        self._die(state.epoch, "validation", self.validated)
        self.validated += 1

    def on_epoch_end(self, state: Any, scores: Mapping[str, float]) -> None:
        self._die(state.epoch - 1, "epoch end", 0)

    def _die(self, *place: Any) -> None:
        if place == self.place:
            raise Killed


def assert_same(one: Any, other: Any, where: str = "state") -> None:
    """Equal bit for bit, but for the clock."""
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            if key != "elapsed_s":
                assert_same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{where}[{index}]")
    else:
        assert one == other, where


_LONG = ("two workers", "three workers")  # starting processes after every kill takes a minute


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in _LONG else []) for name in CASES]
)
def test_a_run_killed_wherever_it_hurts_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    untouched, killed = RunFolder.create(tmp_path, "untouched"), RunFolder.create(tmp_path, "killed")
    alone = case.trainer(untouched)
    alone_result = alone.train()
    kills = [kill for kill in KILLS if kill[0] < alone.state.epoch and case.reaches(*kill)]
    survived = 0
    for kill in kills:
        trainer = case.trainer(killed, KillAt(*kill))
        trainer.resume()
        try:
            trainer.train()
        except Killed:
            survived += 1
        assert trainer.store is not None
        trainer.store.wait()  # the thread of a process that is gone does not write on
    last = case.trainer(killed)
    last.resume()
    result = last.train()
    assert survived == len(kills)
    state, alone_state = last.state.state_dict(), alone.state.state_dict()
    assert_same({**state, "callbacks": _told(state)}, {**alone_state, "callbacks": _told(alone_state)})
    assert (result.stop_reason, result.best_epoch, result.best_score) == (
        alone_result.stop_reason,
        alone_result.best_epoch,
        alone_result.best_score,
    )
    assert_same(last.best_model().state_dict(), alone.best_model().state_dict(), "best model")
    assert_same(read_history(killed.history), read_history(untouched.history), "history")


def _told(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: told for name, told in state["callbacks"].items() if name != "KillAt"}


def test_the_cases_reach_what_they_are_for(tmp_path: Path) -> None:
    stopped = CASES["early stop"].trainer(RunFolder.create(tmp_path, "stopped"))
    assert (stopped.train().stop_reason or "").startswith("early stopping")
    assert stopped.state.epoch == 4  # so the kill in the fourth epoch finds patience - 1 epochs waited
    dropped = CASES["plateau"].trainer(RunFolder.create(tmp_path, "dropped"))
    dropped.train()
    assert dropped.state.lrs[0] < 0.01
    ragged = CASES["accumulation of 3, the last group ragged"].trainer(RunFolder.create(tmp_path, "ragged"))
    ragged.train()
    assert ragged.state.global_step == 3 * 3  # 3 + 3 + 1 batches in each of three epochs
