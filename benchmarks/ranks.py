"""What several processes cost: images a second of one process with two threads, and of two with one thread each.

Run: ``.venv/bin/python benchmarks/ranks.py [--rounds 3] [--steps 8]``.

Both train the light U-Net (16 base channels, depth 4) with updates of 8 images of 256 x 256 px, by the loop of Trainer.
They take turns, a fresh start each; the first steps of each are not counted. Speeds change with the machine and its
neighbours; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from maskwright.config.callbacks import CallbacksConfig, EarlyStoppingConfig
from maskwright.config.loss import CombinedLossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import UNetConfig
from maskwright.config.task import BinaryTask
from maskwright.config.training import TrainingConfig
from maskwright.devices import prepare_process
from maskwright.distributed import is_main, joined
from maskwright.distributed.launch import launch
from maskwright.tasks import build_task
from maskwright.training import Callback, Trainer
from maskwright.types import Batch, Place, Window

SAMPLES, SIDE_PX, WARM_UP = 8, 256, 4
GOAL = 0.9


class Turns:
    """One batch, given again and again."""

    def __init__(self, steps: int) -> None:
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(SAMPLES, 1, SIDE_PX, SIDE_PX, generator=generator)
        where = tuple(Place("invented", Window(0, SIDE_PX * n, SIDE_PX, SIDE_PX)) for n in range(SAMPLES))
        valid = torch.ones(SAMPLES, SIDE_PX, SIDE_PX, dtype=torch.bool)
        self.steps = steps
        self.batch = Batch(image, (image[:, 0] < 0).long(), valid, None, where)

    def __len__(self) -> int:
        return self.steps

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return (self.batch for _ in range(start, self.steps))


class Clock(Callback):
    """When each update was done."""

    def __init__(self) -> None:
        self.done_s: list[float] = []

    def on_step_end(self, state: Any, outcome: Any) -> None:
        self.done_s.append(time.perf_counter())


def work(steps: int, out: Path) -> None:
    """Train in this process, beside the others if there are any; the first one writes images a second."""
    prepare_process()
    clock = Clock()
    with joined():
        torch.manual_seed(0)
        config = UNetConfig(base_channels=16, depth=4, norm="group")
        loss = CombinedLossConfig(dice_reduction="sample", overlap_reduction="sample")
        task = build_task(BinaryTask(), loss, MetricsConfig(), config, ("dark",))
        Trainer(
            task,
            task.build_model(config, 1, SAMPLES),
            Turns(WARM_UP + steps),
            training=TrainingConfig(epochs=1, device="cpu"),
            monitoring=CallbacksConfig(early_stopping=EarlyStoppingConfig(enabled=False)),
            callbacks=[clock],
            quiet=True,
        ).train()
        if is_main():
            passed_s = clock.done_s[-1] - clock.done_s[WARM_UP - 1]
            out.write_text(f"{SAMPLES * steps / passed_s}")


def images_per_s(processes: int, threads: int, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "speed")
        os.environ["OMP_NUM_THREADS"] = str(threads)
        command = [sys.executable, __file__, "--work", str(out), "--steps", str(steps)]
        if launch(command, processes, restarts=0, say=print):
            raise SystemExit("a process failed")
        return float(out.read_text())


def main(options: Mapping[str, Any]) -> None:
    if options["work"] is not None:
        work(options["steps"], options["work"])
        return
    ways = {"1 process, 2 threads": (1, 2), "2 processes, 1 thread": (2, 1)}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options["rounds"]):
        for name, (processes, threads) in ways.items():
            speeds[name].append(images_per_s(processes, threads, options["steps"]))
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    for name, found in speeds.items():
        print(f"{name}: {medians[name]:.1f} images/s ({', '.join(f'{speed:.1f}' for speed in found)})")
    one, two = medians.values()
    print(f"ratio {two / one:.2f}, goal {GOAL} or more; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    main(vars(parser.parse_args()))
