"""Training as a whole: real networks, a run folder, resume, determinism. Data is invented in memory."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maskwright.config.callbacks import CallbacksConfig, EarlyStoppingConfig
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import FilmUNetConfig, UNetConfig
from maskwright.config.optim import AdamWConfig, ConstantSchedule, OptimConfig
from maskwright.config.task import HeightGapsTask
from maskwright.config.training import TrainingConfig
from maskwright.errors import CheckpointError, ConfigError, DataError, TrainingError
from maskwright.tasks import HeightGaps, build_task
from maskwright.tracking import ControlFolder, RunFolder, read_events, read_history, read_manifest
from maskwright.training import Callback, Trainer
from maskwright.types import Batch, Place, Window

HEIGHTS = (5.0, 10.0)
SIDE = 16


@dataclass
class Invented:
    """Batches as a pure function of (seed, epoch, position): canopy heights, and a surface that hides them a little."""

    count: int = 5
    samples: int = 3
    seed: int = 0
    heights_m: tuple[float, ...] | None = None  # None: drawn for each sample

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return (self.batch(epoch, position) for position in range(start, self.count))

    def batch(self, epoch: int, position: int) -> Batch:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + 1009 * epoch + position)
        coarse = 20 * torch.rand(self.samples, 1, 4, 4, generator=generator)
        canopy = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="nearest")
        image = canopy / 30 + 0.05 * torch.randn(canopy.shape, generator=generator)
        valid = torch.rand(self.samples, SIDE, SIDE, generator=generator) > 0.1
        image, canopy = image * valid.unsqueeze(1), canopy[:, 0] * valid
        if self.heights_m is None:
            condition = 4 + 8 * torch.rand(self.samples, 1, generator=generator)
        else:
            condition = torch.tensor(self.heights_m).repeat(self.samples, 1)
        where = tuple(Place("invented", Window(position, SIDE * n, SIDE, SIDE)) for n in range(self.samples))
        return Batch(image, canopy, valid, condition, where)


VALIDATION = Invented(count=2, seed=9, heights_m=HEIGHTS)


def film_unet(**options: Any) -> FilmUNetConfig:
    return FilmUNetConfig(base_channels=4, depth=1, film_hidden=4, **{"dropout": 0.2, **options})


def task_for(model: UNetConfig) -> HeightGaps:
    return build_task(HeightGapsTask(heights_m=HEIGHTS), CombinedLossConfig(), MetricsConfig(), model)


def trainer_for(
    folder: RunFolder | None = None,
    *callbacks: Callback,
    epochs: int = 4,
    seed: int = 1,
    model: UNetConfig | None = None,
    train: Any = None,
    training: Mapping[str, Any] | None = None,
    patience: int | None = None,
    monitor: str | None = None,
    optim: OptimConfig | None = None,
    **options: Any,
) -> Trainer:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = film_unet() if model is None else model
    task = task_for(model)
    return Trainer(
        task,
        task.build_model(model, 1, 3),
        Invented() if train is None else train,
        options.pop("val", VALIDATION),
        training=TrainingConfig(epochs=epochs, seed=seed, device="cpu", **{"accumulate": 2, **(training or {})}),
        optim=optim or OptimConfig(optimizer=AdamWConfig(lr=0.01)),
        monitoring=CallbacksConfig(
            monitor=monitor,
            early_stopping=EarlyStoppingConfig(enabled=patience is not None, patience=patience or 1),
        ),
        run_folder=folder,
        callbacks=callbacks,
        quiet=True,
        **options,
    )


class StopAfter(Callback):
    def __init__(self, *, epochs: int | None = None, steps: int | None = None) -> None:
        self.epochs = epochs
        self.steps = steps

    def on_epoch_end(self, state: Any, scores: Mapping[str, float]) -> None:
        if state.epoch == self.epochs:
            state.request_stop("enough")

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == self.steps:
            state.request_stop("enough")


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return trainer.model.state_dict()


def assert_same_run(one: Trainer, other: Trainer) -> None:
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name
    assert one.state.best == other.state.best
    assert one.state.global_step == other.state.global_step
    assert one.state.lrs == other.state.lrs


def without_time(entries: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "elapsed_s"} for entry in entries]


# --- exact continuation -----------------------------------------------------------------------------------------------


def test_two_plus_two_epochs_resumed_equal_four(tmp_path: Path) -> None:
    through = trainer_for(RunFolder.create(tmp_path, "through"))
    result = through.train()
    folder = RunFolder.create(tmp_path, "halves")
    first = trainer_for(folder, StopAfter(epochs=2)).train()
    assert (first.stopped, first.stop_reason, len(first.history)) == (True, "enough", 2)
    second = trainer_for(folder)
    record = second.resume()
    assert record is not None
    assert (record.epoch, record.position, record.kind) == (2, 0, "epoch")
    again = second.train()
    assert_same_run(second, through)
    assert without_time(again.history) == without_time(result.history)
    assert (again.best_score, again.best_epoch) == (result.best_score, result.best_epoch)
    assert without_time(read_history(folder.history)) == without_time(result.history)


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_a_run_stopped_inside_an_epoch_continues_there(tmp_path: Path, steps: int) -> None:
    through = trainer_for(epochs=3)
    result = through.train()
    folder = RunFolder.create(tmp_path, "stopped")
    trainer_for(folder, StopAfter(steps=steps), epochs=3).train()
    manifest = read_manifest(folder.manifest)
    assert manifest.latest is not None
    assert (manifest.latest.kind, manifest.latest.global_step) == ("interrupted", steps)
    second = trainer_for(folder, epochs=3)
    second.resume()
    again = second.train()
    assert_same_run(second, through)
    assert without_time(again.history) == without_time(result.history)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_and_ends_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    through = trainer_for(epochs=3)
    through.train()
    folder = RunFolder.create(tmp_path, "damaged")
    trainer_for(folder, StopAfter(epochs=2), epochs=3).train()
    newest = folder.checkpoints / "checkpoint_epoch_0002.pt"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    second = trainer_for(folder, epochs=3)
    record = second.resume()
    assert record is not None
    assert record.epoch == 1
    assert "Passed over checkpoint_epoch_0002.pt" in caplog.text
    second.train()
    assert_same_run(second, through)
    assert [entry["epoch"] for entry in read_history(folder.history)] == [1, 2, 3]


def test_sigterm_saves_and_the_resumed_run_ends_the_same(tmp_path: Path) -> None:
    class Killer(Callback):
        def on_batch_begin(self, state: Any) -> None:
            if state.global_step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    through = trainer_for(epochs=3)
    through.train()
    folder = RunFolder.create(tmp_path, "signal")
    stopped = trainer_for(folder, Killer(), epochs=3).train()
    assert (stopped.stopped, stopped.stop_reason) == (True, "signal SIGTERM")
    second = trainer_for(folder, epochs=3)
    second.resume()
    second.train()
    assert_same_run(second, through)


def test_a_run_without_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    trainer = trainer_for(RunFolder.create(tmp_path, "empty"), epochs=1)
    assert trainer.resume() is None
    trainer.train()
    fresh = trainer_for(epochs=1)
    fresh.train()
    assert_same_run(trainer, fresh)


def test_resuming_with_another_plan_is_refused_but_more_epochs_are_trained(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "plan")
    trainer_for(folder, StopAfter(epochs=2)).train()
    with pytest.raises(CheckpointError, match="2 epochs behind it, and the run is to have 1"):
        trainer_for(folder, epochs=1).resume()
    longer = trainer_for(folder, epochs=5)
    longer.resume()
    assert len(longer.train().history) == 5
    (warning,) = [row["message"] for row in read_events(folder.events, kinds=["warning"])]
    assert warning.startswith("The run was planned for 4 epochs and now has 5: the schedule is laid out over all of")
    again = trainer_for(folder, epochs=5)  # whose checkpoints know the longer plan
    again.resume()
    again.train()
    assert len(read_events(folder.events, kinds=["warning"])) == 1


def test_two_runs_with_one_seed_agree_and_another_seed_differs() -> None:
    runs = [trainer_for(seed=seed, epochs=2) for seed in (3, 3, 4)]
    for trainer in runs:
        torch.rand(len(runs))  # what the process did before does not matter
        trainer.train()
    assert_same_run(runs[0], runs[1])
    assert not all(torch.equal(value, weights(runs[2])[name]) for name, value in weights(runs[0]).items())


def test_accumulation_equals_one_big_batch_with_a_real_network() -> None:
    class Joined(Invented):
        def __len__(self) -> int:
            return 3

        def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
            pieces = list(super().batches(epoch))
            for first in range(2 * start, 5, 2):
                group = pieces[first : first + 2]
                tensors = {name: torch.cat([getattr(b, name) for b in group]) for name in ("image", "target", "valid")}
                condition = torch.cat([b.condition for b in group if b.condition is not None])
                yield Batch(**tensors, condition=condition, where=tuple(p for b in group for p in b.where))

    model = film_unet(norm="group", dropout=0.0)
    gentle = OptimConfig(optimizer=AdamWConfig(lr=1e-3, eps=1e-3), schedule=ConstantSchedule())
    grouped = trainer_for(model=model, epochs=2, optim=gentle)
    at_once = trainer_for(model=model, epochs=2, optim=gentle, train=Joined(), training={"accumulate": 1})
    first, second = grouped.train(), at_once.train()
    assert grouped.state.global_step == at_once.state.global_step == 6
    for name, value in weights(grouped).items():
        torch.testing.assert_close(value, weights(at_once)[name], atol=1e-6, rtol=1e-5)
    for entry, other in zip(first.history, second.history, strict=True):
        assert entry["train/loss"] == pytest.approx(other["train/loss"], abs=1e-6)


# --- the run folder ---------------------------------------------------------------------------------------------------


def test_the_run_folder_is_complete_after_the_first_epoch(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "complete")
    trainer = trainer_for(folder, StopAfter(epochs=1), log_every_steps=1, description={"in_channels": 1})
    trainer.train()
    assert [entry["epoch"] for entry in json.loads(folder.history.read_text())] == [1]
    names = {path.name for path in folder.checkpoints.iterdir()}
    assert {"manifest.json", "checkpoint_epoch_0001.pt", "checkpoint_latest.pt", "checkpoint_best.pt"} <= names
    kinds = [row["kind"] for row in read_events(folder.events)]
    an_epoch = ["epoch_begin", "step", "step", "step", "validation", "validation", "epoch"]
    assert kinds == ["train_begin", *an_epoch, "checkpoint", "train_end"]
    content = torch.load(folder.checkpoints / "checkpoint_latest.pt", weights_only=True)
    assert content["state"]["description"]["in_channels"] == 1
    assert "torch" in content["state"]["description"]["versions"]


def test_checkpoints_inside_epochs_are_saved_and_bounded(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "bounded")
    settings = CheckpointsConfig(every_steps=1, max_checkpoints=2)
    trainer_for(folder, epochs=2, checkpoints=settings).train()
    manifest = read_manifest(folder.manifest)
    assert len(manifest.records) <= 3  # the two newest and the best
    assert manifest.latest is not None
    assert manifest.latest.file == "checkpoint_epoch_0002.pt"


def test_the_best_model_has_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    for folder in (RunFolder.create(tmp_path, "best"), None):
        kept: list[dict[str, Tensor]] = []

        class Keeper(Callback):
            def on_epoch_end(
                self, state: Any, scores: Mapping[str, float], kept: list[dict[str, Tensor]] = kept
            ) -> None:
                kept.append({name: value.clone() for name, value in state.model.state_dict().items()})

        trainer = trainer_for(folder, Keeper(), epochs=5)
        result = trainer.train()
        assert result.best_epoch is not None
        scores = [entry["val/iou"] for entry in result.history]
        assert result.best_score == max(scores) == scores[result.best_epoch - 1]
        best = trainer.best_model()
        assert not best.training
        for name, value in best.state_dict().items():
            assert torch.equal(value, kept[result.best_epoch - 1][name]), name


def test_a_stop_command_in_the_run_folder_stops_and_the_state_is_saved(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "control")

    class Face(Callback):
        def on_epoch_end(self, state: Any, scores: Mapping[str, float]) -> None:
            if state.epoch == 1:
                ControlFolder(folder.control).send("stop")

    result = trainer_for(folder, Face(), epochs=100_000).train()
    assert result.stop_reason == "stop command"
    assert result.stopped
    latest = read_manifest(folder.manifest).latest
    assert latest is not None
    assert latest.global_step == 3 * len(result.history) + -(-latest.position // 2)


def test_a_checkpoint_saved_by_hand_brings_the_run_back(tmp_path: Path) -> None:
    through = trainer_for(epochs=3)
    through.train()
    first = trainer_for(None, StopAfter(steps=4), epochs=3)
    first.train()
    first.save_checkpoint(tmp_path / "mine.pt")
    second = trainer_for(epochs=3)
    second.load_checkpoint(tmp_path / "mine.pt")
    result = second.train()
    assert_same_run(second, through)
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3]


# --- stopping, monitor, schedule --------------------------------------------------------------------------------------


def test_early_stopping_ends_the_run_reports_its_last_epoch_and_stays_ended(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "early")
    still = OptimConfig(optimizer=AdamWConfig(lr=1e-12), schedule=ConstantSchedule())
    options: dict[str, Any] = {"epochs": 50, "patience": 2, "optim": still, "model": film_unet(norm="group")}
    result = trainer_for(folder, **options).train()
    assert len(result.history) == 3
    assert result.stop_reason is not None
    assert result.stop_reason.startswith("early stopping: val/iou is best with")
    assert not result.stopped
    assert read_manifest(folder.manifest).latest.epoch == 3  # type: ignore[union-attr]
    second = trainer_for(folder, **options)
    second.resume()
    assert len(second.train().history) == 3


@pytest.mark.parametrize(
    ("written", "name", "mode"),
    [
        (None, "val/iou", "max"),
        ("val_loss", "val/loss", "min"),
        ("val/f1@5m", "val/f1@5m", "max"),
        ("mcc", "val/mcc", "max"),
        ("train_loss", "train/loss", "min"),
    ],
)
def test_the_monitor_is_resolved_before_training(written: str | None, name: str, mode: str) -> None:
    monitor = trainer_for(monitor=written).monitor
    assert (monitor.name, monitor.mode) == (name, mode)


def test_an_unknown_monitor_fails_at_the_start_with_what_is_available() -> None:
    with pytest.raises(ConfigError, match=r'monitor "val/dise" is never computed.*Available: .*val/iou@10m.*val/loss'):
        trainer_for(monitor="val/dise")


def test_every_available_score_is_really_computed() -> None:
    with pytest.raises(ConfigError) as error:
        trainer_for(monitor="nothing")
    available = str(error.value).partition("Available: ")[2].rstrip(".").split(", ")
    entry = trainer_for(epochs=1).train().history[0]
    assert set(available) <= set(entry)
    shares = {name for name in entry if "gap_share" in name}  # neither better nor worse
    assert set(available) == set(entry) - shares - {"epoch", "global_step", "elapsed_s", "lr/0", "lr/1"}


def test_without_validation_the_training_loss_decides() -> None:
    trainer = trainer_for(val=None, epochs=2)
    result = trainer.train()
    assert trainer.monitor.name == "train/loss"
    assert result.best_score == min(entry["train/loss"] for entry in result.history)


def test_one_cycle_counts_updates_and_ends_at_its_end() -> None:
    seen: list[float] = []

    class Rates(Callback):
        def on_step_end(self, state: Any, outcome: Any) -> None:
            seen.append(state.lrs[0])

    trainer = trainer_for(None, Rates(), epochs=4)
    start = trainer.state.lrs[0]
    trainer.train()
    assert trainer.state.schedule.last_epoch == 12  # three updates an epoch: 5 batches, 2 at a time
    assert start == pytest.approx(0.01 / 25)
    assert max(seen) == pytest.approx(0.01, rel=0.02)
    assert seen[10] == pytest.approx(0.01 / 25 / 1e4, rel=1e-6)  # the rate of the last update


# --- other ------------------------------------------------------------------------------------------------------------


def test_prediction_leaves_the_model_in_training_mode_and_answers_any_heights() -> None:
    trainer = trainer_for(epochs=1)
    trainer.train()
    prediction = trainer.predict(VALIDATION.batch(0, 0).image, (3.0, 7.5, 20.0))
    assert prediction.probs.shape == (3, 3, SIDE, SIDE)
    assert bool((prediction.probs.diff(dim=1) >= 0).all())
    assert trainer.model.training


def test_the_loss_falls_and_the_score_rises() -> None:
    history = trainer_for(epochs=12, model=film_unet(dropout=0.0)).train().history
    assert history[-1]["train/loss"] < 0.7 * history[0]["train/loss"]
    assert history[-1]["val/iou"] > 0.5  # calling everything a gap reaches 0.4


def test_a_network_without_condition_trains_on_exactly_its_heights() -> None:
    model = UNetConfig(base_channels=4, depth=1)
    result = trainer_for(model=model, train=Invented(heights_m=HEIGHTS), epochs=1).train()
    assert math.isfinite(result.history[0]["val/loss"])
    with pytest.raises(DataError, match="where exactly 5, 10 m, in this order, are answered"):
        trainer_for(model=model, train=Invented(heights_m=(5.0, 11.0)), epochs=1).train()


def test_brain_float_training_stays_finite_and_saves_full_precision() -> None:
    trainer = trainer_for(training={"precision": "bf16"}, epochs=1)
    history = trainer.train().history
    assert math.isfinite(history[0]["train/loss"])
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())


def test_empty_parts_are_refused_before_training() -> None:
    with pytest.raises(TrainingError, match="the training part holds no tile"):
        trainer_for(train=Invented(count=0))
    with pytest.raises(TrainingError, match="The validation part holds no tile"):
        trainer_for(val=Invented(count=0))


def test_a_best_model_before_any_epoch_is_refused() -> None:
    with pytest.raises(CheckpointError, match="There is no best model yet"):
        trainer_for().best_model()


def test_resume_without_a_run_folder_is_refused() -> None:
    with pytest.raises(CheckpointError, match="this Trainer has no run folder"):
        trainer_for().resume()
