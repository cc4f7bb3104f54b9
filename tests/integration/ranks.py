"""Runs functions of this file in several processes that train together, for the tests beside it.

As a script it imports torch once and forks: a test of two processes then costs what its work costs. Each scenario is a
function of the folder it may write to; what it returns in each process is kept for the tests.

    python ranks.py OUT steps:2 steps:3 ...
"""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import socket
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskwright.config.callbacks import CallbacksConfig
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import UNetConfig
from maskwright.config.optim import AdamWConfig, ConstantSchedule, OptimConfig, OptimizerConfig, SGDConfig
from maskwright.config.task import BinaryTask
from maskwright.config.training import EmaConfig, TrainingConfig
from maskwright.distributed import from_main, joined, largest, rank, require_alike, world_size
from maskwright.distributed.shards import own_share, whole
from maskwright.errors import MaskwrightError
from maskwright.prediction.crew import answer_for_main, in_order, rank_crew, thread_crew
from maskwright.tasks import build_task
from maskwright.tracking import RunFolder
from maskwright.training import Callback, Trainer
from maskwright.types import Batch, Place, Window

SIDE = 16
LOSSES: dict[str, dict[str, Any]] = {
    "pixels and samples": {"bce": 0.5, "dice": 0.3, "focal": 0.2, "dice_reduction": "sample"},
    "overlap of the batch": {"bce": 0.5, "dice": 0.5, "focal": 0.0, "dice_reduction": "batch"},
    "lovasz and tversky": {"bce": 0.0, "dice": 0.0, "focal": 0.0, "lovasz": 0.5, "tversky": 0.5},
    "learned weights": {"bce": 0.5, "dice": 0.5, "focal": 0.0, "dice_reduction": "sample", "learn_weights": True},
}


@dataclass
class Invented:
    """Blobs and images that show them, a pure function of the epoch and the position; the last batch is smaller."""

    sizes: tuple[int, ...] = (3, 3, 3, 1)
    seed: int = 0

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return (self._batch(epoch, position) for position in range(start, len(self)))

    def _batch(self, epoch: int, position: int) -> Batch:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + 1009 * epoch + position)
        count = self.sizes[position]
        coarse = (torch.rand(count, 1, 4, 4, generator=generator) > 0.6).float()
        target = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="nearest")
        image = target + 0.3 * torch.randn(target.shape, generator=generator)
        valid = torch.rand(count, SIDE, SIDE, generator=generator) > 0.2
        valid[0, :, : position + 4] = False  # samples with more and with fewer valid pixels
        where = tuple(Place("invented", Window(position, SIDE * n, SIDE, SIDE)) for n in range(count))
        return Batch(image * valid.unsqueeze(1), target[:, 0].long() * valid, valid, None, where)


def trainer_for(
    *callbacks: Callback,
    folder: RunFolder | None = None,
    loss: dict[str, Any] | None = None,
    lr: float = 0.1,
    optimizer: OptimizerConfig | None = None,
    **more: Any,
) -> Trainer:
    torch.set_num_threads(1)
    torch.manual_seed(5)
    model_config = UNetConfig(base_channels=4, depth=1, norm="group", dropout=more.pop("dropout", 0.0))
    loss_config = CombinedLossConfig(**(LOSSES["pixels and samples"] if loss is None else loss))
    task = build_task(BinaryTask(), loss_config, MetricsConfig(), model_config, classes=("blob",))
    train, val = more.pop("train", Invented()), more.pop("val", Invented((2, 3, 1, 2, 2), seed=9))
    checkpoints = more.pop("checkpoints", CheckpointsConfig())
    settings = {"epochs": 2, "accumulate": 2, "seed": 1, "device": "cpu", "clip_norm": 0.5} | more
    return Trainer(
        task,
        task.build_model(model_config, 1, 3),
        train,
        val,
        training=TrainingConfig(**settings),
        optim=OptimConfig(optimizer=optimizer or SGDConfig(lr=lr), schedule=ConstantSchedule()),
        monitoring=CallbacksConfig(),
        checkpoints=checkpoints,
        run_folder=folder,
        callbacks=callbacks,
        quiet=True,
    )


def outcome_of(trainer: Trainer) -> dict[str, Any]:
    result = trainer.train()
    told = [{key: value for key, value in entry.items() if key != "elapsed_s"} for entry in result.history]
    return {
        "weights": {name: value.clone() for name, value in trainer.state.weights().items()},
        "history": told,
        "stop_reason": result.stop_reason,
        "steps": trainer.state.global_step,
        "position": (trainer.state.epoch, trainer.state.position),
    }


# --- scenarios --------------------------------------------------------------------------------------------------------


def steps(folder: Path) -> dict[str, Any]:
    """Trained weights for several losses, with and without accumulation."""
    found: dict[str, Any] = {}
    for name, loss in LOSSES.items():
        for accumulate in (1, 2):
            trainer = trainer_for(loss=loss, accumulate=accumulate, epochs=1)
            found[f"{name}, {accumulate}"] = outcome_of(trainer) | {"factors": factors_of(trainer)}
    found["average"] = outcome_of(trainer_for(ema=EmaConfig(enabled=True, decay=0.5)))
    found["pieces"] = outcome_of(trainer_for(out_of_memory="smaller"))
    return found


def factors_of(trainer: Trainer) -> list[Tensor]:
    module = trainer.state.loss_module
    return [] if module is None else [parameter.detach().clone() for parameter in module.parameters()]


def scores(folder: Path) -> dict[str, float]:
    """Losses and scores of a network that does not move."""
    return outcome_of(trainer_for(lr=1e-30, epochs=1, clip_norm=None))["history"][0]


class StopAfter(Callback):
    def __init__(self, steps: int, only: int) -> None:
        self.steps, self.only = steps, only

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == self.steps and rank() == self.only:
            state.request_stop(f"process {self.only} has enough")


def resumed(folder: Path) -> dict[str, Any]:
    """A run that the last process stops inside an epoch and that is continued, beside one that ran through."""
    options: dict[str, Any] = {"epochs": 3, "dropout": 0.3, "accumulate": 1}
    through = outcome_of(trainer_for(**options))
    run = from_main(lambda: RunFolder.create(folder / "runs", f"stopped{world_size()}"))
    first = outcome_of(trainer_for(StopAfter(6, world_size() - 1), folder=run, **options))
    second = trainer_for(folder=run, **options)
    second.resume()
    return {"through": through, "first": first, "second": outcome_of(second), "run": str(run.path)}


class Shortage(Callback):
    """Memory that is short in one process, once."""

    def __init__(self, only: int) -> None:
        self.only, self.has_failed = only, False

    def on_train_begin(self, state: Any) -> None:
        forward = state.model.forward

        def short(image: Tensor, *rest: Any) -> Tensor:
            if rank() == self.only and len(image) > 1 and state.model.training and not self.has_failed:
                self.has_failed = True
                raise torch.OutOfMemoryError("out of memory")
            return forward(image, *rest)

        state.model.forward = short


def short_of_memory(folder: Path) -> dict[str, Any]:
    """Memory is short in the last process alone; all go on in smaller pieces."""
    trainer = trainer_for(Shortage(1), train=Invented((4, 4, 3)), out_of_memory="smaller", epochs=1)
    return outcome_of(trainer) | {"micro_batch": trainer.state.micro_batch}


class Poison(Invented):
    """One sample of the second batch, the last one, is not a number."""

    def _batch(self, epoch: int, position: int) -> Batch:
        batch = super()._batch(epoch, position)
        if position == 1:
            batch.image[-1, 0, 0, 0] = float("nan")
            batch.valid[-1, 0, 0] = True
        return batch


def not_finite(folder: Path) -> dict[str, Any]:
    """A bad sample in the share of the last process: skipped by all, or an error in all."""
    skipped = outcome_of(trainer_for(train=Poison(), on_nonfinite="skip", accumulate=1, epochs=1))
    try:
        trainer_for(train=Poison(), on_nonfinite="stop", accumulate=1, epochs=1).train()
    except MaskwrightError as error:
        return skipped | {"error": str(error)}
    return skipped


def windows(folder: Path) -> list[float] | str:
    """Seven windows, doubled by whoever gets them."""
    given = ((number, np.full((1, 1, 2, 2), number, np.float32)) for number in range(7))
    with thread_crew(lambda images: 2 * images, 1) as own:
        if rank() != 0:
            answer_for_main(own)
            return "served"
        with rank_crew(own) as crew:
            return [float(answer.sum()) for _, answer in in_order(crew, given) if answer is not None]


def disagreeing(folder: Path) -> str:
    """Processes with other settings."""
    try:
        require_alike({"optim.optimizer.lr": 0.1 + rank(), "name": "forest"}, "the experiment")
    except MaskwrightError as error:
        return str(error)
    return ""


def failing(folder: Path) -> str:
    """The last process fails, the first one waits for it."""
    if rank() == world_size() - 1:
        raise MaskwrightError("its data is damaged")
    largest(0)
    return "went on"


FULL = Invented((3, 3, 2, 3))  # a sample for each of two processes in every batch


def divided(folder: Path) -> dict[str, Any]:
    """Trained weights of a network that the processes divide, beside that of one that each holds whole."""
    found: dict[str, Any] = {}
    for name, loss in LOSSES.items():
        found[name] = weights_of(trainer_for(loss=loss, epochs=1, train=FULL, strategy="fsdp"))
    average, short = EmaConfig(enabled=True, decay=0.5), Invented((2, 2, 1), seed=9)
    found["average"] = weights_of(trainer_for(train=FULL, val=short, ema=average, clip_value=0.01, strategy="fsdp"))
    found["checkpointed"] = weights_of(trainer_for(train=FULL, gradient_checkpointing=True, strategy="fsdp"))
    return found


def weights_of(trainer: Trainer) -> dict[str, Any]:
    """As :func:`outcome_of`, with the weights put together."""
    told = outcome_of(trainer)
    shares = {name: own_share(value).numel() for name, value in told["weights"].items()}
    return told | {"weights": whole(told["weights"]), "shares": shares, "factors": factors_of(trainer)}


def adam(*callbacks: Callback, **more: Any) -> Trainer:
    """A trainer whose optimizer and average remember much."""
    options: dict[str, Any] = {"epochs": 3, "accumulate": 1, "dropout": 0.3, "train": FULL, "strategy": "fsdp"}
    return trainer_for(
        *callbacks, ema=EmaConfig(enabled=True, decay=0.5), optimizer=AdamWConfig(lr=0.01), **(options | more)
    )


def divided_and_resumed(folder: Path) -> dict[str, Any]:
    """A run of a divided network that is stopped inside an epoch, and continued by as many processes."""
    if world_size() == 1:  # the run of two, begun below, goes on
        alone = adam(folder=RunFolder(folder / "runs" / "kept"))
        record = alone.resume()
        return {"record": record, "state": copy.deepcopy(alone.state.state_dict()), "second": outcome_of(alone)}
    through = weights_of(adam())
    run = from_main(lambda: RunFolder.create(folder / "runs", "stopped"))
    first = weights_of(adam(StopAfter(6, 1), folder=run))
    if rank() == 0:
        shutil.copytree(run.path, folder / "runs" / "kept")
    second = adam(folder=run)
    second.resume()
    return {"through": through, "first": first, "second": weights_of(second), "run": str(run.path)}


def whole_then_divided(folder: Path) -> dict[str, Any]:
    """What one process, or two that hold it whole, have begun is continued by two that divide it."""
    run = from_main(lambda: RunFolder.create(folder / "runs", "whole"))
    adam(StopAfter(6, 0), folder=run, strategy="ddp").train()
    second = adam(folder=run)
    second.resume()
    return weights_of(second)


class LrAfter(Callback):
    """Process 0 is told of another learning rate, as by a command."""

    def on_batch_begin(self, state: Any) -> None:
        if rank() == 0 and (state.epoch, state.position) == (0, 2):
            state.set_lr(0.02)


def told_a_rate(folder: Path) -> dict[str, Any]:
    trainer = trainer_for(LrAfter(), accumulate=1, epochs=1)
    return outcome_of(trainer) | {"lr": trainer.state.lrs[0]}


# --- running them -----------------------------------------------------------------------------------------------------


def run(name: str, processes: int, out: Path) -> None:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port = asked.getsockname()[1]
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            os._exit(_work(name, number, processes, port, out))
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def _work(name: str, number: int, processes: int, port: int, out: Path) -> int:
    told = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": processes, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in told.items()} | {"MASTER_ADDR": "127.0.0.1"})
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    file = out / f"{name}_{processes}_{number}"
    try:
        with joined():
            result = globals()[name](out)
        file.with_suffix(".pkl").write_bytes(pickle.dumps(result))
        return 0
    except BaseException:
        file.with_suffix(".err").write_text(traceback.format_exc())
        return 1


if __name__ == "__main__":
    for each in sys.argv[2:]:
        scenario, _, size = each.partition(":")
        run(scenario, int(size), Path(sys.argv[1]))
