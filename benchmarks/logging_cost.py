"""What watching a run costs: the same steps with and without what the product logs, in turns.

A training step is replaced by a pause, in which the threads that feed TensorBoard do their work, and the processor time
of the watchers' hooks is counted: that of the training's own thread, which a step waits for, and that of the feeding
threads apart. Processor time, so that the figure holds on a busy machine too. Both ways run in turns, block by block;
told is the median of the pairs, in microseconds a step and as a share of steps of 10, 30 and 100 ms.

Run: ``python benchmarks/logging_cost.py [--steps 400] [--blocks 9]``
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rows import Row, add_json_option, keep_rows

from maskwright.config import TrackingConfig
from maskwright.tracking import EventLog, RunFolder
from maskwright.tracking.writers import Outcome, RunFacts, Tracker
from maskwright.training import CallbackList, EventsCallback, ProgressCallback
from maskwright.training.callbacks.track import Resources, Track, build_writers

STEP_MS = (10.0, 30.0, 100.0)


class Terminal:
    """A terminal nobody looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""


class State(SimpleNamespace):
    """What the watchers ask of a run."""

    def __init__(self) -> None:
        super().__init__(
            epoch=0, epochs=10, position=0, batches_per_epoch=10**6, global_step=0, images=0, images_per_step=8,
            lrs=[1e-3], scores={"val/iou": 0.5}, best=None, stop_reason=None, device=SimpleNamespace(type="cpu"),
            monitor=SimpleNamespace(name="val/iou"), updater=SimpleNamespace(accumulate=1, precision="fp32"),
        )  # fmt: skip
        self.watchers: Any = None

    def note(self, kind: str, **fields: Any) -> None:
        self.watchers.on_note(self, SimpleNamespace(kind=kind, fields=fields))


def watchers_of(folder: RunFolder, every_steps: int, terminal: bool) -> tuple[Any, Tracker]:
    """The callbacks a run has for the log, the trackers and the screen, with TensorBoard on."""
    settings = TrackingConfig(log_every_steps=every_steps)
    tracker = Tracker(build_writers(settings))
    progress = ProgressCallback(Terminal() if terminal else open("/dev/null", "w"))  # type: ignore[arg-type]  # noqa: SIM115
    return CallbackList(
        [
            EventsCallback(EventLog(folder.events), every_steps=every_steps),
            Resources(folder.path, every_s=settings.resources_every_s),
            Track(tracker, RunFacts(folder, "bench", {}, "name: bench\n"), every_steps=every_steps),
            progress,
        ]
    ), tracker


def block(state: State, watchers: Any, steps: int, pause_s: float) -> tuple[float, float]:
    """Processor seconds of some steps: of the hooks in this thread, and of all other threads."""
    outcome = SimpleNamespace(stepped=True, loss=0.5, grad_norm=1.0)
    hooks_s, all_s, own_s = 0.0, time.process_time(), time.thread_time()
    for _ in range(steps):
        began_s = time.thread_time()
        watchers.on_batch_begin(state)
        hooks_s += time.thread_time() - began_s
        time.sleep(pause_s)
        began_s = time.thread_time()
        watchers.on_batch_end(state, None)
        state.global_step += 1
        state.position += 1
        state.images += 8
        watchers.on_step_end(state, outcome)
        hooks_s += time.thread_time() - began_s
    return hooks_s, (time.process_time() - all_s) - (time.thread_time() - own_s)


def measure(steps: int, blocks: int, pause_s: float, every_steps: int, terminal: bool) -> dict[str, Any]:
    """Microseconds a step that the watchers cost: the median of the pairs of blocks, and its ends."""
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder.create(Path(path), "bench")
        watched, plain = State(), State()
        watchers, tracker = watchers_of(folder, every_steps, terminal)
        watched.watchers = watchers
        none = CallbackList([])
        watchers.on_train_begin(watched)
        watchers.on_epoch_begin(watched)
        time.sleep(2.0)  # TensorBoard is loaded in its thread
        block(watched, watchers, steps, pause_s)
        hooks_us, others_us = [], []
        for number in range(blocks):
            order = [("with", watched, watchers), ("without", plain, none)]
            times = {name: block(state, those, steps, pause_s) for name, state, those in order[:: 1 - 2 * (number % 2)]}
            hooks_us.append((times["with"][0] - times["without"][0]) / steps * 1e6)
            others_us.append((times["with"][1] - times["without"][1]) / steps * 1e6)
        watchers.on_train_end(watched)
        tracker.finish(Outcome("finished", watched.global_step))
        size = folder.events.stat().st_size / watched.global_step
    cost_us = statistics.median(hooks_us)
    return {
        "screen": "terminal" if terminal else "log file",
        "log_every_steps": every_steps,
        "us_a_step": round(cost_us, 1),
        "lowest_us": round(min(hooks_us), 1),
        "highest_us": round(max(hooks_us), 1),
        "other_threads_us_a_step": round(statistics.median(others_us), 1),
        "log_bytes_a_step": round(size, 1),
        "share_of_step": {f"{ms:g} ms": f"{cost_us / ms / 10:.3f} %" for ms in STEP_MS},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print one line of JSON for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400, help="steps in a block")
    parser.add_argument("--blocks", type=int, default=9, help="pairs of blocks")
    parser.add_argument("--pause-ms", type=float, default=5.0, help="the pause that stands for the work of a step")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    rows = []
    for every_steps, terminal in ((10, False), (10, True), (1, False)):
        found = measure(options.steps, options.blocks, options.pause_ms / 1000, every_steps, terminal)
        print(json.dumps(found), flush=True)
        work = f"watching a run: {found['screen']}, a row every {every_steps} step{'s' if every_steps > 1 else ''}"
        rows.append(Row(work, found["us_a_step"], "us a step"))
    keep_rows(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
