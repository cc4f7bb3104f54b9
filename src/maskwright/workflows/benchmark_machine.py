"""What this machine can do at most, and what share of it a training step reaches.

Ceilings are measured, a few seconds each: matrix products in fp32 and bf16, copying in memory, taking fresh memory from
the kernel, writing to and reading from a disk. A step is trained on noise, as a run trains it; its operations are
counted from the network, three forward passes a step: the share says how far its time is from the mathematics alone.
"""

from __future__ import annotations

import mmap
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from maskwright.config.model import SmpConfig, UNetConfig
from maskwright.devices import choose_device, prepare_model, settle_process
from maskwright.errors import RunError
from maskwright.files import check_writable, explain_os_error, temporary_path
from maskwright.losses import CombinedLoss
from maskwright.models import build_model
from maskwright.models.summary import model_facts
from maskwright.optim.optimizers import adamw
from maskwright.tracking.environment import describe_environment
from maskwright.workflows.report_tables import Table

if TYPE_CHECKING:
    from maskwright.config.model import ModelConfig

__all__ = ["Ceiling", "MachineReport", "Sizes", "TrainingStep", "benchmark_machine", "machine_rows"]

_PASSES = 3  # multiply-adds of a training step, in forward passes
_NETWORKS: dict[str, tuple[ModelConfig, int]] = {
    "light U-Net": (UNetConfig(base_channels=16, depth=4), 1),
    "SMP U-Net R34": (SmpConfig(encoder="resnet34"), 3),
}

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Sizes:
    """How large the pieces are that are measured.

    Attributes:
        gemm: Rows and columns of the matrices.
        copy_mb: Megabytes that are copied.
        fault_mb: Megabytes of fresh memory that are touched.
        disk_mb: Megabytes that are written and read.
        batch: Images of a training step.
        size_px: Side of them.
        repeats: Times each piece is measured; the median counts.
    """

    gemm: int = 2048
    copy_mb: int = 256
    fault_mb: int = 256
    disk_mb: int = 512
    batch: int = 8
    size_px: int = 256
    repeats: int = 5


@dataclass(frozen=True)
class Ceiling:
    """The most of one thing.

    Attributes:
        name: What it is.
        value: How much.
        unit: ``GFLOP/s``, ``GB/s`` or ``ns a page``.
        seconds: Median time of a piece.
    """

    name: str
    value: float
    unit: str
    seconds: float


@dataclass(frozen=True)
class TrainingStep:
    """A training step against the ceiling of its precision.

    Attributes:
        network: Its name.
        precision: ``fp32`` or ``bf16``.
        seconds: Median time.
        gflop: Operations of a step, 10^9.
        gflops: 10^9 operations a second.
        share: Of the matrix products' rate in the same precision, 0..1.
        images_per_s: Images a second.
    """

    network: str
    precision: str
    seconds: float
    gflop: float
    gflops: float
    share: float
    images_per_s: float


@dataclass(frozen=True)
class MachineReport:
    """Everything measured, and on what."""

    device: str
    threads: int
    ceilings: tuple[Ceiling, ...]
    steps: tuple[TrainingStep, ...]
    environment: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def benchmark_machine(
    folder: Path,
    *,
    sizes: Sizes | None = None,
    device: str = "auto",
    threads: int | None = None,
    own_process: bool = False,
    networks: Mapping[str, tuple[ModelConfig, int]] | None = None,
    progress: Progress | None = None,
) -> MachineReport:
    """Measure the ceilings and the steps.

    Args:
        folder: On the disk that is measured; nothing stays there.
        sizes: Of the pieces; unset: as above.
        device: Where matrix products, copies and steps run.
        threads: CPU threads; unset: all cores.
        own_process: True if the process exists for this alone, so that its memory may be settled as a run settles it.
        networks: Name to network and image channels; unset: a light U-Net and a U-Net over ResNet-34.
        progress: Called with (done, total, what).

    Raises:
        ConfigError: If the device is not there.
        RunError: If the disk refuses.
    """
    sizes = sizes or Sizes()
    chosen = choose_device(device)
    faults = _page_faults(sizes)  # before the process is told to keep its memory
    process = settle_process(threads, own_process)
    networks = _NETWORKS if networks is None else networks
    jobs: list[Callable[[], list[Ceiling]]] = [
        lambda: [_gemm(chosen, precision, sizes) for precision in ("fp32", "bf16")],
        lambda: [_copy(chosen, sizes), faults],
        lambda: _disk(folder, sizes),
    ]
    total, ceilings, steps = len(jobs) + 2 * len(networks), list[Ceiling](), list[TrainingStep]()
    for number, job in enumerate(jobs):
        if progress is not None:
            progress(number, total, "measuring")
        ceilings += job()
    rates = {one.name: one.value for one in ceilings}
    for name, (config, channels) in networks.items():
        for precision in ("fp32", "bf16"):
            if progress is not None:
                progress(len(jobs) + len(steps), total, "measuring")
            seconds = _step_s(config, channels, chosen, precision, sizes)
            facts = model_facts(config, in_channels=channels, size_px=sizes.size_px)
            steps.append(
                _against(name, precision, seconds, facts.multiply_adds, sizes.batch, rates[_gemm_name(precision)])
            )
    if progress is not None:
        progress(total, total, "measuring")
    return MachineReport(
        str(chosen), int(str(process["threads"])), tuple(ceilings), tuple(steps), describe_environment()
    )


def machine_rows(report: MachineReport) -> Table:
    """The report as one table: what, how much, and for steps the share of the matrix products' rate."""
    head = ["what", "reached", "time", "of the ceiling", "images/s"]
    rows = [[one.name, f"{one.value:.4g} {one.unit}", f"{one.seconds * 1e3:.1f} ms", "", ""] for one in report.ceilings]
    rows += [
        [
            f"step, {one.network}, {one.precision}",
            f"{one.gflops:.4g} GFLOP/s",
            f"{one.seconds * 1e3:.1f} ms",
            f"{one.share:.0%}",
            f"{one.images_per_s:.1f}",
        ]
        for one in report.steps
    ]
    return head, rows


def _against(name: str, precision: str, seconds: float, multiply_adds: int, batch: int, rate: float) -> TrainingStep:
    """A step of known time, held against the rate of matrix products in GFLOP/s."""
    gflop = 2 * _PASSES * multiply_adds * batch / 1e9
    gflops = gflop / seconds
    return TrainingStep(name, precision, seconds, gflop, gflops, gflops / rate, batch / seconds)


def _median_s(piece: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median seconds of a piece of work after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        _wait(device)
        start = time.perf_counter()
        piece()
        _wait(device)
        times.append(time.perf_counter() - start)
    return max(statistics.median(times[1:]), 1e-9)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _gemm_name(precision: str) -> str:
    return f"matrix product {precision}"


def _gemm(device: torch.device, precision: str, sizes: Sizes) -> Ceiling:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(sizes.gemm, sizes.gemm, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    seconds = _median_s(lambda: torch.mm(a, b, out=out), sizes.repeats, device)
    return Ceiling(_gemm_name(precision), 2 * sizes.gemm**3 / seconds / 1e9, "GFLOP/s", seconds)


def _copy(device: torch.device, sizes: Sizes) -> Ceiling:
    """Bytes read and written both count."""
    source = torch.zeros(sizes.copy_mb * 10**6 // 4, device=device)
    target = torch.empty_like(source).zero_()
    seconds = _median_s(lambda: target.copy_(source), sizes.repeats, device)
    return Ceiling("memory copy", 2 * source.nbytes / seconds / 1e9, "GB/s", seconds)


def _page_faults(sizes: Sizes) -> Ceiling:
    """Nanoseconds until the kernel has given a fresh page."""
    size = sizes.fault_mb * 10**6 // mmap.PAGESIZE * mmap.PAGESIZE
    pages = size // mmap.PAGESIZE

    def touch() -> None:
        with mmap.mmap(-1, size) as memory:
            memory[:: mmap.PAGESIZE] = bytes(pages)

    seconds = _median_s(touch, sizes.repeats, torch.device("cpu"))
    return Ceiling("fresh memory", seconds / pages * 1e9, "ns a page", seconds)


def _disk(folder: Path, sizes: Sizes) -> list[Ceiling]:
    """Writing with fsync, and reading what the system does not hold in memory any more, where it can be told so."""
    size = sizes.disk_mb * 10**6
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise RunError(explain_os_error(cause, folder)) from cause
    check_writable(folder, need_bytes=size)
    path = temporary_path(folder / "benchmark")
    chunk = os.urandom(10**6)
    times: dict[str, list[float]] = {"disk write": [], "disk read": []}
    try:
        for _ in range(max(1, sizes.repeats // 2)):
            start = time.perf_counter()
            with open(path, "wb") as file:
                for _ in range(sizes.disk_mb):
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            times["disk write"].append(time.perf_counter() - start)
            with open(path, "rb", buffering=0) as file:
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                start = time.perf_counter()
                while file.read(8 * 2**20):
                    pass
            times["disk read"].append(time.perf_counter() - start)
    except OSError as cause:
        raise RunError(explain_os_error(cause, path)) from cause
    finally:
        path.unlink(missing_ok=True)
    medians = {name: max(statistics.median(found), 1e-9) for name, found in times.items()}
    return [Ceiling(name, size / seconds / 1e9, "GB/s", seconds) for name, seconds in medians.items()]


def _step_s(config: ModelConfig, channels: int, device: torch.device, precision: str, sizes: Sizes) -> float:
    """Seconds of a forward and backward pass with an update, on noise."""
    torch.manual_seed(0)
    network = prepare_model(build_model(config.bare(), channels, 1), device).train()
    loss, optimizer = CombinedLoss({"bce": 0.5, "dice": 0.5}), adamw(network)
    image = torch.randn(sizes.batch, channels, sizes.size_px, sizes.size_px, device=device)
    image = image.contiguous(memory_format=torch.channels_last)
    target = (image[:, :1] < 0).float()
    valid = torch.ones(sizes.batch, sizes.size_px, sizes.size_px, dtype=torch.bool, device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = network(image, None)
        loss(logits.float(), target, valid).total.backward()
        optimizer.step()

    return _median_s(step, sizes.repeats, device)
