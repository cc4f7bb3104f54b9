"""What the training loop and its checkpoints cost beside bare PyTorch: the loop, saving, loading.

Run: ``.venv/bin/python benchmarks/training.py [--part loop|saving|loading] [--rounds 12] [--threads 2]``.

* loop: a step of Trainer, with run folder, events and history, beside a loop written by hand with the same network,
  loss, batch and precision. They take turns in one process, a step each.
* saving: how long training waits for a checkpoint of about 280 MiB, beside ``torch.save``, fsync and rename of the same
  state; and how much slower steps are while it is written.
* loading: the same checkpoint mapped into memory, without and with comparing its hash.

Seconds change with the machine and its neighbours; the ratios are of medians of turns taken one after another.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from rows import Row, add_json_option, keep_rows, machine
from torch import nn

from maskwright.config.callbacks import CallbacksConfig, EarlyStoppingConfig
from maskwright.config.checkpoints import CheckpointsConfig
from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import ModelConfig, UNetConfig
from maskwright.config.task import BinaryTask
from maskwright.config.training import TrainingConfig
from maskwright.devices import prepare_model, prepare_process
from maskwright.optim.optimizers import adamw
from maskwright.tasks import build_task
from maskwright.tracking import RunFolder
from maskwright.training import Trainer
from maskwright.training.loop import TrainBatches
from maskwright.types import Batch, Place, Window

PARTS = ("loop", "saving", "loading")
MIB = 2**20


class Scene:
    """The parts of a run on invented pixels: one network, one batch given again and again."""

    def __init__(
        self, model: ModelConfig, *, samples: int, side_px: int, channels: int = 1, precision: str = "fp32"
    ) -> None:
        self.model_config, self.channels = model, channels
        self.task = build_task(BinaryTask(), CombinedLossConfig(), MetricsConfig(), self.model_config, ("dark",))
        self.precision = precision
        image = torch.randn(samples, channels, side_px, side_px)
        where = tuple(Place("invented", Window(0, side_px * n, side_px, side_px)) for n in range(samples))
        valid = torch.ones(samples, side_px, side_px, dtype=torch.bool)
        self.batch = Batch(image, (image[:, 0] < 0).long(), valid, None, where)

    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return self.task.build_model(self.model_config, self.channels, 1)

    def trainer(self, folder: Path, loader: TrainBatches) -> Trainer:
        return Trainer(
            self.task,
            self.network(),
            loader,
            training=TrainingConfig(epochs=1, precision=self.precision, device="cpu"),
            monitoring=CallbacksConfig(early_stopping=EarlyStoppingConfig(enabled=False)),
            checkpoints=CheckpointsConfig(every_minutes=None),
            run_folder=RunFolder.create(folder, "benchmark"),
            quiet=True,
        )

    def bare_step(self) -> Callable[[], None]:
        """The same step as anybody would write it."""
        network = prepare_model(self.network(), torch.device("cpu")).train()
        optimizer = adamw(network)
        batch, weights = self.batch, self.task.loss_weights([self.batch])

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
                logits = network(batch.image, batch.condition)
                loss = self.task.loss(logits, batch, weights)
            loss.total.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            loss.total.item()

        return step


class Turns:
    """A loader whose every batch is preceded by a step of somebody else; both are timed."""

    def __init__(self, batch: Batch, count: int, other: Callable[[], None] | None = None) -> None:
        self.batch, self.count, self.other = batch, count, other
        self.own_s: list[float] = []
        self.other_s: list[float] = []

    def __len__(self) -> int:
        return self.count

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for _ in range(start, self.count):
            if self.other is not None:
                self.other_s.append(seconds(self.other))
            began_s = time.perf_counter()
            yield self.batch  # from here to the next request the loop does all that belongs to a step
            self.own_s.append(time.perf_counter() - began_s)


# --- the parts --------------------------------------------------------------------------------------------------------


def loop_part(rounds: int, folder: Path, kept: list[Row]) -> Iterator[str]:
    for precision in ("fp32", "bf16"):
        scene = Scene(light_unet(), samples=8, side_px=256, precision=precision)
        turns = Turns(scene.batch, 3 + 4 * rounds, scene.bare_step())
        scene.trainer(folder, turns).train()
        ours, bare = turns.own_s[3:], turns.other_s[3:]  # the first steps warm up
        ratio = statistics.median(one / other for one, other in zip(ours, bare, strict=True))
        yield row(f"loop {precision}: bare step", statistics.median(bare))
        yield row(f"loop {precision}: Trainer step", statistics.median(ours), ratio, 1.02)
        kept.append(Row(f"step of Trainer, {precision}", ratio, "x", "the same step bare", goal=1.02, at_most=True))


def saving_part(rounds: int, folder: Path, state_mib: int, kept: list[Row]) -> Iterator[str]:
    scene, trainer = trained(folder, state_mib)
    assert trainer.store is not None
    step, store = scene.bare_step(), trainer.store
    content = trainer.state.state_dict() | {"description": trainer.description}
    store.prepare(content)
    plain, blocked, written, during, alone = [], [], [], [], []
    for turn in range(1, rounds + 1):
        plain.append(seconds(partial(save_plainly, folder / "plain.pt", content)))
        alone += [seconds(step) for _ in range(4)]
        began_s = time.perf_counter()
        content = trainer.state.state_dict() | {"description": trainer.description}
        writing = store.save_later(content, epoch=turn, global_step=turn, scores={})
        blocked.append(time.perf_counter() - began_s)
        while True:
            took_s = seconds(step)
            if writing.is_done:
                break
            during.append(took_s)  # the write was under way from its beginning to its end
        writing.result()
        written.append(time.perf_counter() - began_s)
        alone += [seconds(step) for _ in range(4)]
    size = sum(tensor.nbytes for tensor in tensors_of(content)) / MIB
    yield f"state: {size:.0f} MiB in {len(tensors_of(content))} tensors; {len(during)} steps during {rounds} writes"
    yield row("saving: torch.save + fsync + rename", statistics.median(plain))
    ratio = statistics.median(blocked) / statistics.median(plain)
    yield row("saving: training waits", statistics.median(blocked), ratio, 0.1)
    work, plainly = f"saving {size:.0f} MiB of state", f"torch.save + fsync ({statistics.median(plain) * 1e3:.0f} ms)"
    kept.append(Row(f"{work}: time training is blocked", ratio, "x", plainly, goal=0.1, at_most=True))
    yield row("saving: on disk and verified after", statistics.median(written))
    yield row("saving: a step alone", statistics.median(alone))
    if during:
        slower = statistics.median(during) / statistics.median(alone)
        yield row("saving: a step during a write", statistics.median(during), slower, 1.3)
        kept.append(Row(f"{work}: steps meanwhile", slower, "x", "a step alone", goal=1.3, at_most=True))


def loading_part(rounds: int, folder: Path, state_mib: int, kept: list[Row]) -> Iterator[str]:
    _, trainer = trained(folder, state_mib)
    assert trainer.store is not None
    store, path = trainer.store, trainer.store.folder / "checkpoint_latest.pt"
    ways: dict[str, Callable[[], object]] = {
        "loading: torch.load": lambda: torch.load(path, weights_only=True),
        "loading: mapped into memory": lambda: store.load_latest(mmap=True, verify=False),
        "loading: mapped into memory, verified": lambda: store.load_latest(mmap=True),
        "loading: read and verified": store.load_latest,
    }
    taken = {name: [seconds(way) for _ in range(rounds)] for name, way in ways.items()}
    goals = {"loading: mapped into memory": 0.05, "loading: mapped into memory, verified": 0.4}
    for name, times in taken.items():
        goal = f"   goal {goals[name] * 1e3:.0f} ms" if name in goals else ""
        yield row(name, statistics.median(times)) + goal
        if name in goals:
            kept.append(Row(f"{name}, {state_mib} MiB", statistics.median(times), "s", goal=goals[name], at_most=True))


# --- tools ------------------------------------------------------------------------------------------------------------


def trained(folder: Path, state_mib: int) -> tuple[Scene, Trainer]:
    """A run whose weights and optimizer state take about so much, after two steps, saved."""
    base = round(16 * (state_mib * MIB / 12 / 1.94e6) ** 0.5)  # base_channels 16: 1.94 M weights, times 12 bytes
    scene = Scene(light_unet(base), samples=1, side_px=64)
    trainer = scene.trainer(folder, Turns(scene.batch, 2))
    trainer.train()
    return scene, trainer


def light_unet(base_channels: int = 16) -> UNetConfig:
    return UNetConfig(base_channels=base_channels, depth=4)


def save_plainly(path: Path, content: object) -> None:
    """What people do who mean it."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def tensors_of(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for item in items for tensor in tensors_of(item)]


def seconds(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def row(what: str, median_s: float, ratio: float | None = None, goal: float | None = None) -> str:
    compared = "" if ratio is None else f"{ratio:>9.3f} x   goal {goal:g}"
    return f"{what:<44}{median_s * 1e3:>10.1f} ms{compared}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="one part only; may be given again")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--state-mib", type=int, default=280)
    parser.add_argument("--folder", type=Path, help="where to write; unset: the system's place for temporary files")
    add_json_option(parser)
    arguments = parser.parse_args()
    prepare_process(arguments.threads)
    print(machine())
    kept: list[Row] = []
    for part in arguments.part or PARTS:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            if part == "loop":
                lines = loop_part(arguments.rounds, Path(folder), kept)
            elif part == "saving":
                lines = saving_part(arguments.rounds, Path(folder), arguments.state_mib, kept)
            else:
                lines = loading_part(arguments.rounds, Path(folder), arguments.state_mib, kept)
            for line in lines:
                print(line, flush=True)
    keep_rows(arguments.json, kept)


if __name__ == "__main__":
    main()
