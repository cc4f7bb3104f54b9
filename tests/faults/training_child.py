"""Trains a small network again and again while being killed; run by test_training_faults.py in a process of its own.

Forking from a process that has imported everything and never started a thread makes an attempt cheap, so that many
instants can be tried. Its arguments are the folder of the runs, the number of kills and the seed of their instants. The
report goes to standard output as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from maskwright.checkpoints import CheckpointStore
from maskwright.checkpoints import format as checkpoint_format
from maskwright.config.callbacks import CallbacksConfig, EarlyStoppingConfig
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import FilmUNetConfig
from maskwright.config.optim import AdamWConfig, OptimConfig
from maskwright.config.task import HeightGapsTask
from maskwright.config.training import TrainingConfig
from maskwright.files import TEMPORARY_SUFFIX
from maskwright.tasks import build_task
from maskwright.tracking import RunFolder, read_events, read_history
from maskwright.training import Trainer
from maskwright.types import Batch, Place, Window

KILLS_PER_RUN = 5
EPOCHS, BATCHES = 4, 20
SIDE = 16


class Loader:
    """Batches as a pure function of (epoch, position)."""

    def __init__(self, count: int, seed: int, heights_m: tuple[float, ...] | None = None) -> None:
        self.count = count
        self.seed = seed
        self.heights_m = heights_m

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return (self.batch(epoch, position) for position in range(start, self.count))

    def batch(self, epoch: int, position: int) -> Batch:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + 1009 * epoch + position)
        canopy = 20 * torch.rand(2, SIDE, SIDE, generator=generator)
        valid = torch.rand(2, SIDE, SIDE, generator=generator) > 0.2
        canopy = canopy * valid
        drawn = 4 + 8 * torch.rand(2, 1, generator=generator)
        condition = drawn if self.heights_m is None else torch.tensor(self.heights_m).repeat(2, 1)
        where = tuple(Place("invented", Window(position, SIDE * n, SIDE, SIDE)) for n in range(2))
        return Batch(canopy.unsqueeze(1) / 30, canopy, valid, condition, where)


VARIANTS: tuple[
    dict[str, Any], ...
] = (  # settings of training, by turns; 20 batches are 6 groups of 3 and a ragged one
    {"accumulate": 2},
    {"accumulate": 3, "ema": {"enabled": True, "decay": 0.9}},
    {"accumulate": 2, "precision": "bf16"},
)


def train(folder: RunFolder, variant: int) -> None:
    """One attempt, as ``maskwright train --resume`` makes it; leaves a digest when the run is finished."""
    folder.record.begin_attempt()
    model = FilmUNetConfig(base_channels=4, depth=1, film_hidden=4, dropout=0.3)
    task = build_task(HeightGapsTask(heights_m=(5.0, 10.0)), CombinedLossConfig(), MetricsConfig(), model)
    torch.manual_seed(1)
    trainer = Trainer(
        task,
        task.build_model(model, 1, 2),
        Loader(BATCHES, seed=1),
        Loader(3, seed=2, heights_m=(5.0, 10.0)),
        training=TrainingConfig(epochs=EPOCHS, device="cpu", seed=1, **VARIANTS[variant]),
        optim=OptimConfig(optimizer=AdamWConfig(lr=0.01)),
        monitoring=CallbacksConfig(early_stopping=EarlyStoppingConfig(patience=EPOCHS)),
        checkpoints=CheckpointsConfig(every_steps=2, max_checkpoints=2),
        run_folder=folder,
        quiet=True,
    )
    trainer.resume()
    result = trainer.train()
    if not result.stopped:
        (folder.path / "digest.txt").write_text(digest(trainer))


def digest(trainer: Trainer) -> str:
    """A hash of weights, statistics and optimizer state, bit for bit."""
    found = hashlib.sha256()
    for name, value in sorted(trainer.model.state_dict().items()):
        found.update(name.encode() + value.contiguous().numpy().tobytes())
    for moments in trainer.state.optimizer.state_dict()["state"].values():
        for value in moments.values():
            found.update(value.contiguous().numpy().tobytes())
    return found.hexdigest()


# --- ways to die ------------------------------------------------------------------------------------------------------


def die_at_disk_event(number: int, count: list[int]) -> None:
    """Kill this process at an event of writing: a piece of a checkpoint, an fsync, a rename, a link, a removal."""

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for name in ("fsync", "replace", "link", "unlink"):
        setattr(os, name, watched(getattr(os, name)))
    writer = checkpoint_format._HashingWriter
    writer.write = watched(writer.write)  # type: ignore[method-assign]


def wait_for_training(folder: RunFolder, attempt_number: int) -> None:
    """Return once this attempt has begun to train."""
    while not any(row["attempt"] == attempt_number for row in rows(folder, "train_begin")):
        time.sleep(0.002)


def attempt(
    folder: RunFolder,
    prepare: Callable[[], None] | None = None,
    delay_s: float | None = None,
    sig: int = signal.SIGKILL,
    variant: int = 0,
) -> int:
    """Train in a forked process; returns its exit code, negative for a signal."""
    number = folder.record.load()["attempt"] + 1
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if prepare is not None:
                prepare()
            train(folder, variant)
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    if delay_s is not None:
        if sig == signal.SIGTERM:  # before that, nothing is there to be saved
            wait_for_training(folder, number)
        time.sleep(delay_s)
        os.kill(child, sig)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# --- scenarios --------------------------------------------------------------------------------------------------------


def undisturbed(output: Path, variant: int) -> tuple[dict[str, Any], int, float]:
    """The run nobody touches: its report, its number of disk events, its seconds."""
    folder = new_run(output, "undisturbed")
    counted = folder.path / "events.txt"

    def count_events() -> None:
        count = [0]
        die_at_disk_event(-1, count)
        original = os._exit

        def leave(code: int) -> None:
            counted.write_text(str(count[0]))
            original(code)

        os._exit = leave  # type: ignore[assignment]

    began_s = time.monotonic()
    code = attempt(folder, count_events, variant=variant)
    elapsed_s = time.monotonic() - began_s
    return describe(folder) | {"code": code}, int(counted.read_text()), elapsed_s


def killed(
    output: Path, kills_wanted: int, seed: int, quiet: list[tuple[dict[str, Any], int, float]]
) -> list[dict[str, Any]]:
    """Runs that are killed at random instants until so many kills are done, and always resumed to their end."""
    draw = random.Random(seed)
    reports: list[dict[str, Any]] = []
    kills = 0
    while kills < kills_wanted:
        folder = new_run(output, "killed")
        variant = len(reports) % len(VARIANTS)
        _, events, elapsed_s = quiet[variant]
        report: dict[str, Any] = {"variant": variant, "kills": [], "loadable": []}
        while len(report["kills"]) < min(KILLS_PER_RUN, kills_wanted - kills):
            if len(report["kills"]) % 2:
                number = draw.randrange(1, events // 3)
                how = f"disk event {number}"
                code = attempt(folder, lambda number=number: die_at_disk_event(number, [0]), variant=variant)
            else:
                delay_s = draw.uniform(0, elapsed_s / 3)
                how = f"after {delay_s:.3f} s"
                code = attempt(folder, delay_s=delay_s, variant=variant)
            if code == 0:
                break
            report["kills"].append({"how": how, "code": code})
            report["loadable"].append(is_loadable(folder))
        kills += len(report["kills"])
        code = attempt(folder, variant=variant)
        reports.append(report | describe(folder) | {"code": code})
    return reports


def terminated(output: Path, elapsed_s: float) -> dict[str, Any]:
    """A run that gets SIGTERM three times at random instants and saves each time."""
    draw = random.Random(11)
    folder = new_run(output, "terminated")
    codes = [attempt(folder, delay_s=draw.uniform(0, elapsed_s / 4), sig=signal.SIGTERM) for _ in range(3)]
    codes.append(attempt(folder))
    return describe(folder) | {"codes": codes, "reasons": [row["reason"] for row in rows(folder, "train_end")]}


def refused(output: Path) -> dict[str, Any]:
    """A run whose disk takes no file larger than 16 KiB: no checkpoint can be saved, the training goes on."""
    folder = new_run(output, "refused")

    def refuse() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, resource.RLIM_INFINITY))

    code = attempt(folder, refuse)
    return describe(folder) | {"code": code, "warnings": [row["message"] for row in rows(folder, "warning")]}


def new_run(output: Path, name: str) -> RunFolder:
    folder = RunFolder.create(output, name)
    folder.record.update(status="interrupted")  # this process makes the folder, another one will train
    return folder


def describe(folder: RunFolder) -> dict[str, Any]:
    digest_file = folder.path / "digest.txt"
    entries = [{name: entry[name] for name in entry if name != "elapsed_s"} for entry in read_history(folder.history)]
    return {
        "digest": digest_file.read_text() if digest_file.exists() else None,
        "history": entries,
        "files": sorted(path.name for path in folder.checkpoints.iterdir()),
        "left_over": [str(path) for path in folder.path.rglob(f"*{TEMPORARY_SUFFIX}")],
    }


def is_loadable(folder: RunFolder) -> bool:
    """Whether the newest checkpoint in the manifest is whole, without falling back to another."""
    store = CheckpointStore(folder)
    return not store.records or store.load_latest().notes == ()


def rows(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    return read_events(folder.events, kinds=[kind])


def main(output: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    os.fsync = lambda handle: None  # guards against power cuts, which nobody can test here, and is slow
    quiet = [undisturbed(output, variant) for variant in range(len(VARIANTS))]
    report = {
        "undisturbed": [told for told, *_ in quiet],
        "killed": killed(output, kills, seed, quiet),
        "terminated": terminated(output, quiet[0][2]),
        "refused": refused(output),
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
