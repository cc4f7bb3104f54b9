"""How far a training step scales: a model of its time on 1 to 64 GPUs from bytes, network and samples.

Run: ``.venv/bin/python benchmarks/scale_model.py [--batch 16] [--tflops 40] [--json FILE]``. Nothing is measured:
weights and multiply-adds are counted from the networks themselves, the speed of GPU and network are assumptions that
stand in the table and may be given. What the model says of two processes on one machine can be held against
``benchmarks/ranks.py``, which measures them.

The model. A rank computes its batch in ``compute`` seconds; a third of it is the forward pass. Gradients are added by a
ring in buckets of 25 MB while the backward pass still runs, so only what is left at its end is waited for, at least the
last bucket. On several hosts the sum goes through each host first, then between hosts. All ranks wait for the slowest,
whose step is longer by the expected maximum of as many normal deviations. What rank 0 alone does (checkpoints,
pages) and the uneven last step of an epoch are added as they are.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist

BUCKET_BYTES = 25e6  # of DistributedDataParallel
FORWARD_SHARE = 1 / 3
FEWER_SUMS = 4  # batches between two sums, in the last column
PASSES = 3  # multiply-adds of a training step in forward passes


@dataclass(frozen=True)
class Machine:
    """What the ranks run on.

    Attributes:
        tflops: Reached by one GPU in such networks, 10^12 operations a second.
        per_host: GPUs in a host.
        inside_gbs: Between the GPUs of a host, GB/s.
        between_gbs: Between hosts, GB/s for the whole host.
        inside_us: Latency of a message inside a host, microseconds.
        between_us: Between hosts, microseconds.
        spread: Standard deviation of the time of a step, as a share of it.
    """

    tflops: float = 40.0
    per_host: int = 8
    inside_gbs: float = 150.0
    between_gbs: float = 3.1
    inside_us: float = 8.0
    between_us: float = 30.0
    spread: float = 0.02


@dataclass(frozen=True)
class Work:
    """What a rank does in a step.

    Attributes:
        name: For the table.
        parameters: Weights.
        multiply_adds: Of one image, forward.
        batch: Images of a rank in a step.
        gradient_bytes: For each weight: 4 in fp32, 2 in bf16.
        accumulate: Batches of a rank before gradients are added over the ranks, once.
        images: In an epoch.
        serial_s: Seconds in an epoch in which only rank 0 works.
    """

    name: str
    parameters: int
    multiply_adds: int
    batch: int = 16
    gradient_bytes: int = 4
    accumulate: int = 1
    images: int = 100_000
    serial_s: float = 0.3


@dataclass(frozen=True)
class Step:
    """An update of ``ranks`` GPUs, in seconds.

    Attributes:
        ranks: GPUs.
        compute_s: One rank alone.
        sum_s: Adding the gradients, whether waited for or not.
        waited_s: What of it is waited for.
        slowest_s: Waiting for the slowest rank.
        serial_s: Rank 0 alone, by step.
        uneven: Share of the last step of an epoch that nobody fills, of the whole epoch.
        efficiency: Images a second of a rank, against one rank alone.
    """

    ranks: int
    compute_s: float
    sum_s: float
    waited_s: float
    slowest_s: float
    serial_s: float
    uneven: float
    efficiency: float


def ring_s(size: float, ranks: int, gbs: float, latency_us: float) -> float:
    """Seconds of a ring that adds ``size`` bytes: each of n ranks sends 2 (n - 1) / n of them in 2 (n - 1) messages."""
    if ranks == 1:
        return 0.0
    return 2 * (ranks - 1) / ranks * size / (gbs * 1e9) + 2 * (ranks - 1) * latency_us * 1e-6


def sum_s(size: float, ranks: int, machine: Machine) -> float:
    """Seconds to add ``size`` bytes over all ranks: inside each host, then between hosts, one bucket after another."""
    inside, hosts = min(ranks, machine.per_host), math.ceil(ranks / machine.per_host)
    buckets = [BUCKET_BYTES] * int(size // BUCKET_BYTES) + ([size % BUCKET_BYTES] if size % BUCKET_BYTES else [])
    return sum(
        ring_s(bucket, inside, machine.inside_gbs, machine.inside_us)
        + ring_s(bucket, hosts, machine.between_gbs, machine.between_us)
        for bucket in buckets
    )


def slowest(ranks: int) -> float:
    """Expected maximum of as many standard normal deviations (Blom's approximation)."""
    return 0.0 if ranks == 1 else NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))


def step_of(work: Work, machine: Machine, ranks: int, *, compute_s: float | None = None) -> Step:
    """The step of ``ranks`` GPUs; ``compute_s`` is the measured step of one of them, in place of the assumption."""
    batch_s = compute_s or 2 * PASSES * work.multiply_adds * work.batch / (machine.tflops * 1e12)
    alone = work.accumulate * batch_s
    size = work.parameters * work.gradient_bytes
    whole = sum_s(size, ranks, machine)
    last = sum_s(min(size, BUCKET_BYTES), ranks, machine)
    waited = max(last, whole - (1 - FORWARD_SHARE) * batch_s) if ranks > 1 else 0.0
    late = slowest(ranks) * machine.spread * math.sqrt(work.accumulate) * batch_s
    images = work.batch * work.accumulate
    steps = math.ceil(work.images / (images * ranks))
    uneven = 1 - work.images / (steps * images * ranks)
    serial = work.serial_s / steps
    speed = work.images / (steps * (alone + waited + late) + work.serial_s)
    one = math.ceil(work.images / images)
    speed_of_one = work.images / (one * alone + work.serial_s)
    return Step(ranks, alone, whole, waited, late, serial, uneven, speed / ranks / speed_of_one)


def limit(step: Step) -> str:
    """What costs most of a step."""
    costs = {
        "network": step.waited_s,
        "slowest rank": step.slowest_s,
        "rank 0 alone": step.serial_s,
        "last step": step.uneven * step.compute_s,
    }
    return max(costs, key=lambda name: costs[name])


def works(batch: int, images: int) -> Iterator[Work]:
    """Networks of different weight, counted, not run."""
    from maskwright.config.model import DeepLabV3PlusConfig, SmpConfig, UNetConfig
    from maskwright.models.summary import model_facts

    networks = {
        "light U-Net": (UNetConfig(base_channels=16, depth=4), 1),
        "SMP U-Net R34": (SmpConfig(encoder="resnet34"), 3),
        "DeepLabV3+": (DeepLabV3PlusConfig(), 3),
        "SMP U-Net R101": (SmpConfig(encoder="resnet101"), 3),
    }
    for name, (config, channels) in networks.items():
        facts = model_facts(config, in_channels=channels)
        yield Work(name, facts.parameters, facts.multiply_adds, batch=batch, images=images)


def rows(found: Sequence[Work], machines: dict[str, Machine], counts: Sequence[int]) -> Iterator[list[str]]:
    """The table: a row for each network and machine."""
    for work in found:
        for name, machine in machines.items():
            steps = [step_of(work, machine, count) for count in counts]
            fewer = step_of(replace(work, accumulate=FEWER_SUMS), machine, counts[-1])
            yield [
                work.name,
                f"{work.parameters / 1e6:.1f} M",
                f"{steps[-1].compute_s * 1e3:.1f} ms",
                name,
                *(f"{step.efficiency:.2f}" for step in steps),
                limit(steps[-1]),
                f"{fewer.efficiency:.2f}",
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16, help="images of a rank in a step")
    parser.add_argument("--images", type=int, default=100_000, help="images in an epoch")
    parser.add_argument("--tflops", type=float, default=40.0, help="reached by one GPU, 10^12 operations a second")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--json", type=Path, help="write every figure here")
    given = parser.parse_args()
    machines = {
        "8 a host, NVLink, 25 GbE": Machine(given.tflops),
        "8 a host, NVLink, 200 Gb/s": Machine(given.tflops, between_gbs=25.0, between_us=5.0),
        "2 a host, PCIe, 10 GbE": Machine(given.tflops, per_host=2, inside_gbs=12.0, between_gbs=1.2),
    }
    found = [*works(given.batch, given.images)]
    head = [
        "network",
        "weights",
        "step alone",
        "machine",
        *(f"{count} GPUs" for count in given.ranks),
        "limit",
        f"accumulate {FEWER_SUMS}",
    ]
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows(found, machines, given.ranks):
        print("| " + " | ".join(row) + " |")
    if given.json is not None:
        figures = [
            {"work": asdict(work), "machine": name, "steps": [asdict(step_of(work, one, n)) for n in (1, *given.ranks)]}
            for work in found
            for name, one in machines.items()
        ]
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
