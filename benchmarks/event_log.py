"""Opens event logs of a million and of ten million steps as the dashboard does: seconds, and memory at its peak.

    python benchmarks/event_log.py --steps 1000000 10000000

Every log is opened by a process of its own, which loads what the dashboard needs of a run and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import Row, add_json_option, keep_rows

GOALS = {1_000_000: (3.0, 500.0), 10_000_000: (10.0, None)}  # steps: seconds, MB
_OPEN = """
import json, resource, sys, time
began = time.perf_counter()
from maskwright.devices import keep_memory
from maskwright.tracking.overview import EventOverview
keep_memory()
log = EventOverview(sys.argv[1])
log.update()
curve = log.steps.curve("loss")
seconds = time.perf_counter() - began
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "cpu": time.process_time(), "memory_mb": memory, "rows": log.steps.rows,
                  "points": len(curve), "resources": len(log.rows("resources")), "low": float(curve.low.min())}))
"""


def write_log(path: Path, steps: int, *, epoch_steps: int = 10_000) -> None:
    """A log with a row for every step, a sample of resources for every hundred, an epoch for every ``epoch_steps``."""
    draw = random.Random(1)
    losses = [(0.6 + 0.4 * draw.random(), draw.random()) for _ in range(10_007)]
    head = '{"time": "2026-11-21T%02d:%02d:%02d.%06d+00:00", "kind": "%s", "attempt": 1, "global_step": %d, '
    scores = {f"val/{name}@{height}m": draw.random() for name in ("iou", "dice", "f1") for height in (5, 10, 15)}
    with open(path, "w") as file:
        for step in range(1, steps + 1):
            seconds = step // 20
            clock = (seconds // 3600 % 24, seconds // 60 % 60, seconds % 60, step % 1_000_000)
            loss, norm = losses[step % len(losses)]
            epoch, position = divmod(step, epoch_steps)
            file.write(
                f'{head % (*clock, "step", step)}"epoch": {epoch + 1}, "position": {position}, '
                f'"batches_per_epoch": {epoch_steps}, "loss": {loss / (1 + step / 1e5)!r}, "grad_norm": {norm!r}, '
                f'"lr": {3e-4 / (1 + step / 1e6)!r}, "images": 8, "stepped": true}}\n'
            )
            if step % 100 == 0:
                file.write(
                    f'{head % (*clock, "resources", step)}"cpu_percent": 99.8, "process_cpu_percent": 44.1, '
                    f'"process_memory_mb": {1300 + norm!r}, "memory_used_mb": 3853.7578125, "memory_total_mb": '
                    f'24105.55859375, "disk_free_mb": 58359.609375, "images_per_s": {160 * loss!r}, '
                    f'"data_wait_share": 0.011, "epoch_s": 107.25, "left_s": 847.9}}\n'
                )
            if position == 0:
                file.write(f'{head % (*clock, "epoch", step)}"epoch": {epoch}, "scores": {json.dumps(scores)}}}\n')


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--steps", type=int, nargs="+", default=[1_000_000, 10_000_000])
    options.add_argument("--repeats", type=int, default=3)
    add_json_option(options)
    wanted = options.parse_args()
    rows = []
    print(f"load average {os.getloadavg()[0]:.1f}")
    for steps in wanted.steps:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "events.jsonl"
            began = time.perf_counter()
            write_log(path, steps)
            print(
                f"{steps:,} steps: {path.stat().st_size / 1e6:.0f} MB, written in {time.perf_counter() - began:.0f} s"
            )
            taken = []
            for _ in range(wanted.repeats):
                command = [sys.executable, "-c", _OPEN, str(path)]
                found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                assert found["rows"] == steps
                seconds, memory_mb = GOALS.get(steps, (None, None))
                print(
                    f"  opened in {found['seconds']:.2f} s (goal {seconds}; processor {found['cpu']:.2f} s), "
                    f"{found['memory_mb']:.0f} MB (goal {memory_mb}), {found['points']} points"
                )
                taken.append((found["seconds"], found["memory_mb"]))
            goal_s, goal_mb = GOALS.get(steps, (None, None))
            median_s, median_mb = (statistics.median(column) for column in zip(*taken, strict=True))
            work = f"opening an event log of {steps:,} steps"
            rows.append(Row(work, median_s, "s", goal=goal_s, at_most=True))
            rows.append(Row(f"{work}: memory", median_mb, "MB", goal=goal_mb, at_most=True))
    keep_rows(wanted.json, rows)


if __name__ == "__main__":
    main()
