"""Parts of a network that begin to learn one after another, through whole runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import UNetConfig
from maskwright.config.optim import AdamWConfig, ConstantSchedule, OptimConfig, OptimGroup
from maskwright.config.task import BinaryTask
from maskwright.config.training import TrainingConfig, UnfreezeConfig
from maskwright.errors import ConfigError, ModelError
from maskwright.tasks import build_task
from maskwright.tracking import RunFolder
from maskwright.training import Callback, Trainer
from maskwright.types import Batch, Place, Window

SIDE = 8


class Invented:
    """Three batches, a function of epoch and position."""

    def __len__(self) -> int:
        return 3

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for position in range(start, len(self)):
            image = torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(10 * epoch + position))
            where = tuple(Place("invented", Window(position, SIDE * n, SIDE, SIDE)) for n in range(2))
            yield Batch(image, (image[:, 0] > 0).long(), torch.ones(2, SIDE, SIDE, dtype=torch.bool), None, where)


class Watch(Callback):
    """Remembers the weights after each epoch, and may stop a run."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.weights: list[dict[str, Tensor]] = []

    def on_train_begin(self, state: Any) -> None:
        self.weights.append({name: value.clone() for name, value in state.model.state_dict().items()})

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == self.stop:
            state.request_stop("enough")

    def on_epoch_end(self, state: Any, scores: Mapping[str, float]) -> None:
        self.weights.append({name: value.clone() for name, value in state.model.state_dict().items()})

    def moved(self, part: str) -> list[bool]:
        """For each epoch whether anything in a part has changed."""
        pairs = zip(self.weights, self.weights[1:], strict=False)
        return [any(not torch.equal(a[n], b[n]) for n in a if n.startswith(f"{part}.")) for a, b in pairs]


def trainer_for(watch: Watch, folder: RunFolder | None = None, *groups: OptimGroup, **unfreeze: Any) -> Trainer:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    config = UNetConfig(base_channels=4, depth=1, dropout=0.1)
    task = build_task(BinaryTask(), CombinedLossConfig(), MetricsConfig(), config, ("crack",))
    steps = {"parts": ("head", "decoder", "encoder"), "start_epoch": 1, "every": 2} | unfreeze
    return Trainer(
        task,
        task.build_model(config, 1, 2),
        Invented(),
        training=TrainingConfig(epochs=4, seed=1, device="cpu", unfreeze=UnfreezeConfig(**steps)),
        optim=OptimConfig(optimizer=AdamWConfig(lr=0.01), schedule=ConstantSchedule(), groups=groups),
        run_folder=folder,
        callbacks=[watch],
        quiet=True,
    )


def test_parts_begin_to_learn_one_after_another_and_each_slower() -> None:
    watch = Watch()
    trainer = trainer_for(watch)
    trainer.train()
    assert watch.moved("head") == [True, True, True, True]
    assert watch.moved("decoder") == [False, True, True, True]
    assert watch.moved("encoder") == [False, False, False, True]
    rates = {group["name"]: group["lr"] for group in trainer.state.optimizer.param_groups}
    assert (rates["head"], rates["decoder"], rates["encoder"]) == (0.01, 0.005, 0.0025)


@pytest.mark.parametrize("stop", [2, 5, 10])
def test_a_run_that_thaws_continues_bit_for_bit(tmp_path: Path, stop: int) -> None:
    through = trainer_for(Watch())
    through.train()
    folder = RunFolder.create(tmp_path, "stopped")
    trainer_for(Watch(stop), folder).train()
    second = trainer_for(Watch(), folder)
    second.resume()
    second.train()
    for name, value in through.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_rates_said_for_a_part_go_before_those_of_the_thaw() -> None:
    trainer = trainer_for(Watch(), None, OptimGroup(name="encoder", lr=0.123))
    rates = {group["name"]: group["lr"] for group in trainer.state.optimizer.param_groups}
    assert (rates["encoder"], rates["decoder"]) == (0.123, 0.005)


def test_parts_that_do_not_exist_or_come_twice_are_refused_before_the_run() -> None:
    with pytest.raises(ModelError, match="the network has no part 'tail'"):
        trainer_for(Watch(), parts=("head", "tail"))
    with pytest.raises(ConfigError, match="head comes twice"):
        UnfreezeConfig(parts=("head", "head"))
