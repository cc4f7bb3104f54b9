"""BCE + Dice + focal loss, forward and backward, on (8, 1, 512, 512) float32 logits: time and memory beside peers.

Run: ``.venv/bin/python benchmarks/losses.py [--rounds 15] [--threads 2]``. Contestants take turns, so ratios hold on a
busy machine too; seconds do not. Memory is the growth of the process's peak during one step, in units of the logits.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from rows import Row, add_json_option, keep_rows
from torch import Tensor

from maskwright.losses import CombinedLoss

SHAPE = (8, 1, 512, 512)
FACTORS = {"bce": 0.5, "dice": 0.3, "focal": 0.2}
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def maskwright() -> Loss:
    loss = CombinedLoss(FACTORS)
    return lambda logits, target, valid: loss(logits, target, valid).total


def plain_torch() -> Loss:
    def loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        probs = torch.sigmoid(logits)
        right = torch.where(target == 1, probs, 1 - probs)
        focal = (torch.where(target == 1, 0.25, 0.75) * (1 - right) ** 2 * ce).mean()
        overlap = (probs * target).sum((2, 3))
        dice = 1 - (2 * overlap + 1) / (probs.sum((2, 3)) + target.sum((2, 3)) + 1)
        return 0.5 * ce.mean() + 0.3 * dice.mean() + 0.2 * focal

    return loss


def monai() -> Loss:
    from monai.losses import DiceLoss, FocalLoss

    dice, focal = DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1), FocalLoss(alpha=0.25, gamma=2.0)
    return lambda x, y, valid: 0.5 * F.binary_cross_entropy_with_logits(x, y) + 0.3 * dice(x, y) + 0.2 * focal(x, y)


def segmentation_models_pytorch() -> Loss:
    from segmentation_models_pytorch.losses import DiceLoss, FocalLoss

    dice, focal = DiceLoss(mode="binary", smooth=0.5), FocalLoss(mode="binary", alpha=0.25, gamma=2.0)
    return lambda x, y, valid: 0.5 * F.binary_cross_entropy_with_logits(x, y) + 0.3 * dice(x, y) + 0.2 * focal(x, y)


CONTESTANTS: dict[str, Callable[[], Loss]] = {
    "monai": monai,
    "segmentation_models_pytorch": segmentation_models_pytorch,
    "plain_torch": plain_torch,
    "maskwright": maskwright,
    "maskwright, 10 % ignored": maskwright,
}


def inputs(shape: tuple[int, ...], ignored: float) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    valid = torch.rand(shape[0], *shape[2:]) >= ignored
    return torch.randn(shape) * 3, (torch.rand(shape) < 0.3).float(), valid


def step(loss: Loss, logits: Tensor, target: Tensor, valid: Tensor) -> float:
    logits = logits.detach().requires_grad_()
    start = time.perf_counter()
    loss(logits, target, valid).backward()
    return time.perf_counter() - start


def share_ignored(name: str) -> float:
    return 0.1 if "ignored" in name else 0.0


def measure_memory(name: str) -> None:
    """In a process of its own: print the growth of the peak during one step, in units of the logits."""
    loss, tensors = CONTESTANTS[name](), inputs(SHAPE, share_ignored(name))
    step(loss, *inputs((1, 1, 16, 16), 0.0))
    ctypes.CDLL(None).malloc_trim(0)  # memory freed already must not serve the step unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = peak_kib()
    step(loss, *tensors)
    print((peak_kib() - before) * 1024 / tensors[0].nbytes)


def peak_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def memory_of(name: str, threads: int) -> float:
    """NaN where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return math.nan
    command = [sys.executable, __file__, "--threads", str(threads), "--memory", name]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    add_json_option(parser)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    if arguments.memory:
        measure_memory(arguments.memory)
        return
    losses = {name: build() for name, build in CONTESTANTS.items()}
    tensors = {name: inputs(SHAPE, share_ignored(name)) for name in CONTESTANTS}
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(arguments.rounds + 1):
        for name, loss in losses.items():
            seconds[name].append(step(loss, *tensors[name]))
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    print(f"{'contestant':<30}{'ms':>8}{'times monai':>13}{'memory / logits':>17}")
    faster = {name: medians["monai"] / median for name, median in medians.items()}
    memory = {name: memory_of(name, arguments.threads) for name in medians}
    for name, median in medians.items():
        print(f"{name:<30}{median * 1e3:>8.1f}{faster[name]:>13.2f}{memory[name]:>17.1f}")
    work = "BCE + Dice + focal, forward and backward, (8, 1, 512, 512)"
    others = f"SMP {faster['segmentation_models_pytorch']:.2f}, plain torch {faster['plain_torch']:.2f}"
    rows = [Row(work, faster["maskwright"], "x", "MONAI", others, 2.2)]
    if not math.isnan(memory["maskwright"]):
        others = f"MONAI {memory['monai']:.1f}, plain torch {memory['plain_torch']:.1f}"
        rows.append(Row("its memory", memory["maskwright"], "x", "the logits", others, 4.0, at_most=True))
    keep_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
