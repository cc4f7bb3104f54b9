"""A training step beside plain PyTorch, Lightning, accelerate and torch.compile: a light U-Net, a U-Net over ResNet-34.

Run: ``.venv-bench/bin/python benchmarks/training_step.py [--rounds 8] [--threads 2] [--networks light r34]``.

Ours is what ``maskwright train`` runs: Trainer with its run folder and its watchers. Each contestant is given its
batches one by one; a step is the time from a batch handed over to the next one asked for. Memory settings belong to a
whole process, so each contestant lives in one of its own; they take turns, a step each, so ratios hold on a busy
machine. The first step is told apart: compiling, or memory taken for the first time.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from rows import Row, add_json_option, keep_rows
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from training import Scene

from maskwright.config.model import SmpConfig, UNetConfig
from maskwright.devices import prepare_environment, prepare_process
from maskwright.types import Batch

CONTESTANTS = ("plain", "lightning", "accelerate", "compiled", "maskwright", "maskwright bf16")
NETWORKS = {"light": "light U-Net, 8x1x256x256", "r34": "SMP U-Net R34, 8x3x256x256"}
GOALS = {("light", "fp32"): 2.1, ("r34", "fp32"): 1.6, ("light", "bf16"): 3.8, ("r34", "bf16"): 3.3}


class Asked:
    """Batches handed out when the other process writes a line; the seconds until the next is wanted are written back.

    It promises one more than will be asked for, so that nobody stops before the last time was told.
    """

    def __init__(self, batch: Batch, count: int) -> None:
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return self.count + 1

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for _ in sys.stdin:
            began_s = time.perf_counter()
            yield self.batch
            print(f"step {time.perf_counter() - began_s}", flush=True)


class PlainUNet(nn.Module):
    """The textbook network: double convolutions, concatenated skips, transposed convolutions. 1.94 M parameters."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128, 256)) -> None:
        super().__init__()
        self.down = nn.ModuleList(double(a, b) for a, b in zip((1, *widths), widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[-2::-1])
        self.merge = nn.ModuleList(double(2 * width, width) for width in widths[-2::-1])
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        features: list[Tensor] = []
        for level in self.down:
            features.append(level(F.max_pool2d(features[-1], 2) if features else image))
        deep = features.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            deep = merge(torch.cat([features.pop(), up(deep)], dim=1))
        return self.head(deep)


def double(a: int, b: int) -> nn.Sequential:
    def single(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]

    return nn.Sequential(*single(a, b), *single(b, b))


# --- the contestants --------------------------------------------------------------------------------------------------


def plain_network(network: str) -> nn.Module:
    if network == "light":
        return PlainUNet()
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet34", encoder_weights=None, in_channels=3, classes=1)


def plain_loss(logits: Tensor, target: Tensor) -> Tensor:
    """0.5 BCE + 0.3 Dice + 0.2 focal, as anybody would write it."""
    ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probs = torch.sigmoid(logits)
    right = torch.where(target == 1, probs, 1 - probs)
    focal = (torch.where(target == 1, 0.25, 0.75) * (1 - right) ** 2 * ce).mean()
    overlap = (probs * target).sum((2, 3))
    dice = (1 - (2 * overlap + 1) / (probs.sum((2, 3)) + target.sum((2, 3)) + 1)).mean()
    return 0.5 * ce.mean() + 0.3 * dice + 0.2 * focal


def train_plainly(network: str, asked: Asked, compiled: bool) -> None:
    model = plain_network(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    forward = torch.compile(model) if compiled else model
    for batch in asked.batches(0):
        optimizer.zero_grad()
        plain_loss(forward(batch.image), batch.target[:, None].float()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def train_with_accelerate(network: str, asked: Asked) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = plain_network(network)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-3))
    for batch in asked.batches(0):
        optimizer.zero_grad()
        accelerator.backward(plain_loss(model(batch.image), batch.target[:, None].float()))
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def train_with_lightning(network: str, asked: Asked) -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = plain_network(network)

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return plain_loss(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    class Given(IterableDataset[tuple[Tensor, Tensor]]):
        def __len__(self) -> int:
            return len(asked)

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return ((batch.image, batch.target[:, None].float()) for batch in asked.batches(0))

    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, gradient_clip_val=1.0,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(Given(), batch_size=None))


def scene_of(network: str, precision: str) -> Scene:
    if network == "light":
        return Scene(UNetConfig(base_channels=16, depth=4), samples=8, side_px=256, precision=precision)
    return Scene(SmpConfig(encoder="resnet34"), channels=3, samples=8, side_px=256, precision=precision)


def serve(network: str, name: str, threads: int, count: int) -> None:
    """In a process of its own: a step for each line that comes in, its seconds written out."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    kind, _, precision = name.partition(" ")
    if kind == "maskwright":
        prepare_process(threads)
    else:
        torch.set_num_threads(threads)
    scene = scene_of(network, precision or "fp32")
    asked = Asked(scene.batch, count)
    if kind == "maskwright":
        with tempfile.TemporaryDirectory() as folder:
            scene.trainer(Path(folder), asked).train()
    elif kind == "lightning":
        train_with_lightning(network, asked)
    elif kind == "accelerate":
        train_with_accelerate(network, asked)
    else:
        train_plainly(network, asked, compiled=kind == "compiled")


# --- the race ---------------------------------------------------------------------------------------------------------


def race(network: str, names: list[str], rounds: int, threads: int) -> dict[str, list[float]]:
    """Seconds of every step of every contestant, the first included."""
    command = [sys.executable, __file__, "--threads", str(threads), "--rounds", str(rounds), "--serve", network]
    processes = {
        name: subprocess.Popen(
            [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in names
    }
    seconds: dict[str, list[float]] = {name: [] for name in names}
    try:
        for _ in range(rounds + 1):
            for name, process in processes.items():
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("step\n")
                process.stdin.flush()
                line = process.stdout.readline()
                while line and not line.startswith("step "):
                    line = process.stdout.readline()
                if not line:
                    raise SystemExit(f"{name} ended: {process.communicate()[1][-2000:]}")
                seconds[name].append(float(line.split()[1]))
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return seconds


def report(network: str, seconds: dict[str, list[float]]) -> list[Row]:
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    times_plain = {name: medians["plain"] / median for name, median in medians.items()}
    print(f"{NETWORKS[network]:<28}{'first step s':>14}{'step ms':>10}{'times plain':>13}")
    for name, median in medians.items():
        print(f"{name:<28}{seconds[name][0]:>14.2f}{median * 1e3:>10.0f}{times_plain[name]:>13.2f}", flush=True)
    others = [f"{name.capitalize()} {times_plain[name]:.2f}" for name in ("lightning", "accelerate") if name in medians]
    if "compiled" in medians:
        others.append(f"torch.compile {times_plain['compiled']:.2f} after {seconds['compiled'][0]:.0f} s")
    rows = []
    for name, precision in (("maskwright", "fp32"), ("maskwright bf16", "bf16")):
        if name not in medians:
            continue
        against = "plain PyTorch loop" + (", fp32" if precision == "bf16" else "")
        told = ", ".join(others) if precision == "fp32" else ""
        work = f"training step {precision}, {NETWORKS[network]}"
        rows.append(Row(work, times_plain[name], "x", against, told, GOALS[network, precision]))
    if "maskwright" in medians:
        first, later = seconds["maskwright"][0], medians["maskwright"]
        others = f"a later one {later:.2f} s, the first of the plain loop {seconds['plain'][0]:.2f} s"
        rows.append(Row(f"its first step, {NETWORKS[network]}", first, "s", "", others, goal=1.0, at_most=True))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    add_json_option(parser)
    arguments = parser.parse_args()
    prepare_environment()
    if arguments.serve:
        serve(*arguments.serve, arguments.threads, arguments.rounds + 1)
        return
    names = ["plain", *(name for name in arguments.only if name != "plain")]
    rows = []
    for network in arguments.networks:
        rows += report(network, race(network, names, arguments.rounds, arguments.threads))
    keep_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
