"""One training step of the light U-Net on 8 x 1 x 256 x 256: a plain PyTorch loop beside our choices.

Run: ``.venv/bin/python benchmarks/training_step.py [--rounds 8] [--threads 2]``. Memory settings belong to a whole
process, so each contestant lives in one of its own; they take turns, a step each, so ratios hold on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.devices import prepare_model, prepare_process
from maskwright.losses import CombinedLoss
from maskwright.models import FilmUNet, UNet
from maskwright.optim.optimizers import adamw

CONTESTANTS = ("plain", "unet", "film_unet", "unet bf16")


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


def plain_step() -> Callable[[], None]:
    network = PlainUNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    image = torch.randn(8, 1, 256, 256)
    target = (image < 0).float()

    def step() -> None:
        optimizer.zero_grad()
        logits = network(image)
        ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        probs = torch.sigmoid(logits)
        right = torch.where(target == 1, probs, 1 - probs)
        focal = (torch.where(target == 1, 0.25, 0.75) * (1 - right) ** 2 * ce).mean()
        overlap = (probs * target).sum((2, 3))
        dice = (1 - (2 * overlap + 1) / (probs.sum((2, 3)) + target.sum((2, 3)) + 1)).mean()
        (0.5 * ce.mean() + 0.3 * dice + 0.2 * focal).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def our_step(name: str) -> Callable[[], None]:
    kind, _, precision = name.partition(" ")
    network: nn.Module = (UNet if kind == "unet" else _film)(1, 1, base_channels=16, upsampling="transpose")
    network = prepare_model(network, torch.device("cpu"))
    optimizer, loss = adamw(network), CombinedLoss({"bce": 0.5, "dice": 0.3, "focal": 0.2})
    image, heights = torch.randn(8, 1, 256, 256), torch.rand(8, 1) * 30
    target, valid = (image < 0).float(), torch.ones(8, 256, 256, dtype=torch.bool)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = network(image, heights)
        loss(logits, target, valid).total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def _film(in_channels: int, _: int, **options: object) -> FilmUNet:
    return FilmUNet(in_channels, **options)  # type: ignore[arg-type]


def serve(name: str, threads: int) -> None:
    """In a process of its own: a step for each line that comes in, its seconds written out."""
    if name == "plain":
        torch.set_num_threads(threads)
    else:
        prepare_process(threads)
    torch.manual_seed(0)
    step = plain_step() if name == "plain" else our_step(name)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.threads)
        return
    command = [sys.executable, __file__, "--threads", str(arguments.threads), "--serve"]
    processes = {
        name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in CONTESTANTS
    }
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(arguments.rounds + 1):
        for name, process in processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("step\n")
            process.stdin.flush()
            seconds[name].append(float(process.stdout.readline()))
    print(f"{'contestant':<12}{'first step s':>14}{'step ms':>10}{'times plain':>13}")
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name:<12}{seconds[name][0]:>14.2f}{median * 1e3:>10.0f}{medians['plain'] / median:>13.2f}")
    for process in processes.values():
        process.communicate()


if __name__ == "__main__":
    main()
