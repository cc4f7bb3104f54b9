"""Losses whose weights move during a run: by a schedule, or learned beside the network. Data is invented in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.config import (
    AdamWConfig,
    CallbacksConfig,
    CombinedLossConfig,
    EarlyStoppingConfig,
    FilmUNetConfig,
    HeightGapsTask,
    HeightTask,
    MetricsConfig,
    MulticlassTask,
    OptimConfig,
    RegressionLossConfig,
    RegressionUNetConfig,
    TrainingConfig,
    UNetConfig,
)
from maskwright.errors import ConfigError
from maskwright.losses import LossScheduler
from maskwright.tasks import build_task
from maskwright.tracking import RunFolder, read_events, read_history
from maskwright.training import Callback, Trainer
from maskwright.types import Batch, Mixed, Place, Window

SIDE = 8


@dataclass
class Invented:
    """Batches as a pure function of epoch and position: heights, or classes where ``classes`` is larger than 0."""

    classes: int = 0
    count: int = 4
    mixed: bool = False

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return (self.batch(epoch, position) for position in range(start, self.count))

    def batch(self, epoch: int, position: int) -> Batch:
        generator = torch.Generator().manual_seed(1009 * epoch + position)
        image = torch.rand(2, 1, SIDE, SIDE, generator=generator)
        valid = torch.rand(2, SIDE, SIDE, generator=generator) > 0.2
        where = tuple(Place(f"image{position}", Window(0, SIDE * n, SIDE, SIDE)) for n in range(2))
        if not self.classes:
            return Batch(image, 20 * image[:, 0] * valid, valid, torch.full((2, 1), 10.0), where)
        target = (image[:, 0] * self.classes).long() * valid
        mix = Mixed(target.flip(0), valid.flip(0), torch.tensor([0.7, 1.0])) if self.mixed else None
        return Batch(image, target, valid, None, where, mix=mix)


class StopAfter(Callback):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == self.steps:
            state.request_stop("enough")


def trainer(
    loss: Any, folder: RunFolder | None = None, *callbacks: Callback, kind: str = "gaps", **options: Any
) -> Trainer:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    tiny = {"base_channels": 4, "depth": 1}
    section, model, data, names = {
        "gaps": (HeightGapsTask(heights_m=(10,)), FilmUNetConfig(**tiny, film_hidden=4), Invented(), ()),
        "height": (HeightTask(), RegressionUNetConfig(**tiny), Invented(), ()),
        "classes": (MulticlassTask(), UNetConfig(**tiny), Invented(3), ("a", "b", "c")),
        "mixed": (MulticlassTask(), UNetConfig(**tiny), Invented(3, mixed=True), ("a", "b", "c")),
    }[kind]
    task = build_task(section, loss, MetricsConfig(), model, names)
    return Trainer(
        task,
        task.build_model(model, 1),
        data,
        options.pop("val", Invented(data.classes, 2)),
        training=TrainingConfig(epochs=5, accumulate=2, seed=1, device="cpu"),
        monitoring=CallbacksConfig(early_stopping=EarlyStoppingConfig(enabled=False)),
        run_folder=folder,
        callbacks=callbacks,
        quiet=True,
        **options,
    )


def everything(run: Trainer) -> dict[str, Tensor]:
    weights = dict(run.model.state_dict())
    if run.task.loss_module is not None:
        weights |= run.task.loss_module.state_dict()
    return weights


def history_of(run: Trainer) -> list[dict[str, str]]:
    """As texts, so that a score without a value equals itself."""
    return [
        {name: str(value) for name, value in entry.items() if name != "elapsed_s"} for entry in run._history.entries
    ]


COSINE = CombinedLossConfig(bce=0.2, dice=0.8, focal=0, schedule={"kind": "cosine", "max_epochs": 4})
ADAPTIVE = CombinedLossConfig(schedule={"kind": "adaptive", "high": 0.2, "low": 0.1, "lead": "bce"})
LEARNED = CombinedLossConfig(learn_weights=True)


def test_the_weights_of_each_epoch_follow_the_schedule_and_stand_in_history_and_events(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "cosine")
    trainer(COSINE, folder).train()
    by_hand = [0.8, *(0.5 + 0.2 * (1 + c) for c in (1.0, 2**-0.5, 0.0, -(2**-0.5)))]
    entries = read_history(folder.history)
    assert [entry["train/loss_weight/dice"] for entry in entries] == pytest.approx(by_hand)
    assert [entry["train/loss_weight/bce"] for entry in entries] == pytest.approx([1 - w for w in by_hand])
    for entry in entries:
        terms = sum(entry[f"train/loss_weight/{name}"] * entry[f"train/loss/{name}"] for name in ("bce", "dice"))
        assert entry["train/loss"] == pytest.approx(terms)
    rows = [event for event in read_events(folder.events) if event["kind"] == "epoch"]
    assert rows[1]["scores"]["train/loss_weight/dice"] == pytest.approx(0.9)


@pytest.mark.parametrize("steps", [3, 4])
@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (COSINE, "gaps"),
        (ADAPTIVE, "gaps"),
        (LEARNED, "gaps"),
        (LEARNED, "mixed"),
        (ADAPTIVE, "classes"),
        (RegressionLossConfig(absolute=0.5, huber=0.5, learn_weights=True), "height"),
    ],
)
def test_a_stopped_run_goes_on_with_the_same_weights_bit_for_bit(
    loss: Any, kind: str, steps: int, tmp_path: Path
) -> None:
    through = trainer(loss, RunFolder.create(tmp_path, "through"), kind=kind)
    through.train()
    folder = RunFolder.create(tmp_path, "stopped")
    assert trainer(loss, folder, StopAfter(steps), kind=kind).train().stopped
    resumed = trainer(loss, folder, kind=kind)
    assert resumed.resume() is not None
    resumed.train()
    theirs = everything(resumed)
    assert all(torch.equal(value, theirs[name]) for name, value in everything(through).items())
    assert resumed.task.moving_weights == through.task.moving_weights
    assert history_of(resumed) == history_of(through)


def test_learned_factors_are_trained_in_exactly_one_group_and_without_decay() -> None:
    run = trainer(LEARNED)
    module = run.task.loss_module
    assert module is not None
    (factors,) = module.parameters()
    groups = [group for group in run.state.optimizer.param_groups if any(p is factors for p in group["params"])]
    assert [group["weight_decay"] for group in groups] == [0.0]
    trained = [p for group in run.state.optimizer.param_groups for p in group["params"]]
    assert len({id(p) for p in trained}) == len(trained) == len(list(run.model.parameters())) + 1
    result = run.train()
    assert torch.count_nonzero(factors) == 3
    last = result.history[-1]
    assert last["train/loss_weight/dice"] != pytest.approx(0.3)
    assert last["train/loss"] == pytest.approx(
        0.5 * last["train/loss/bce"] + 0.3 * last["train/loss/dice"] + 0.2 * last["train/loss/focal"]
    )


def test_the_score_of_a_schedule_must_be_computed() -> None:
    wrong = CombinedLossConfig(schedule={"kind": "adaptive", "monitor": "val/dise"})
    with pytest.raises(ConfigError, match=r'monitor "val/dise" is never computed \(loss\.schedule\.monitor\)'):
        trainer(wrong)
    with pytest.raises(ConfigError, match=r"loss\.schedule\.monitor"):
        trainer(ADAPTIVE, val=None)
    schedule = trainer(ADAPTIVE).task.loss_schedule
    assert isinstance(schedule, LossScheduler)
    assert schedule.monitor == "val/f1"  # the same number under the name this task has


def test_weights_that_stay_are_in_no_history() -> None:
    result = trainer(CombinedLossConfig()).train()
    assert not [name for name in result.history[-1] if "loss_weight" in name]


@pytest.mark.parametrize("kind", ["height", "classes", "mixed"])
def test_every_kind_of_task_trains_and_gets_better(kind: str) -> None:
    loss = RegressionLossConfig() if kind == "height" else CombinedLossConfig()
    run = trainer(loss, kind=kind, optim=OptimConfig(optimizer=AdamWConfig(lr=0.03)))
    result = run.train()
    losses = [entry["train/loss"] for entry in result.history]
    assert losses[-1] < losses[0]
    assert result.best_score is not None
    assert run.monitor.name == ("val/rmse" if kind == "height" else "val/miou")
    assert run.predict(torch.rand(1, 1, SIDE, SIDE)).probs.shape == (1, 1 if kind == "height" else 3, SIDE, SIDE)
