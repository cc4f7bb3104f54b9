"""How fluid the desktop window is: a real training runs in its own process while the window follows it.

Told are three things. Start: seconds from Qt's import to the main window and to the training dialog on show, memory
after each, and whether torch stayed out. Plots: a curve of 100,000 points is given new values, moved and zoomed; what
each frame took. Training: every event the window's thread handled while a training ran (the event itself with all that
it called), as 50th and 99th percentile and largest in milliseconds, in processor time of that thread, which a busy
machine does not change, and by the clock; the goal is 50 ms at the 99th percentile. The peak of the memory is that of
all three together.

Run: ``python benchmarks/desktop.py [--epochs 3] [--json FILE]``
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import maskwright.desktop  # noqa: F401  before the first call of Qt

GOAL_MS = 50.0
GOAL_START_S = 2.0
GOAL_MEMORY_MB = 300.0
POINTS = 100_000
GIVE_UP_S = 900.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3, help="of the training that is watched")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    from PySide6.QtWidgets import QApplication

    class Application(QApplication):
        """Takes the time of everything the window's thread does."""

        def __init__(self) -> None:
            super().__init__(["maskwright"])
            self.handled: list[tuple[float, float]] = []
            self._depth = 0

        def notify(self, receiver: Any, event: Any) -> bool:
            self._depth += 1
            clock_s, processor_s = time.perf_counter(), time.thread_time()
            try:
                return bool(super().notify(receiver, event))
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.handled.append((time.thread_time() - processor_s, time.perf_counter() - clock_s))

    begun_s = time.perf_counter()
    application = Application()
    application.setQuitOnLastWindowClosed(False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {"start": measure_start(application, folder, begun_s)}
        show(figures["start"])
        figures["plots"] = measure_plots(application)
        show(figures["plots"])
        figures["training"] = measure_training(application, folder, options.epochs)
        show(figures["training"])
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def measure_start(application: Any, folder: Path, begun_s: float) -> dict[str, Any]:
    """Main window and training dialog, each until its first picture has been drawn."""
    from maskwright.desktop.app import open_window

    window = open_window(None, folder / "runs")
    until(application, window.isVisible)
    window.grab()
    figures: dict[str, Any] = {"main window s": time.perf_counter() - begun_s, "its memory mb": memory_mb()}
    begun_s = time.perf_counter()
    dialog = window.train()
    until(application, dialog.isVisible)
    dialog.grab()
    figures["training dialog s"] = time.perf_counter() - begun_s
    until(application, lambda: dialog.monitoring.is_drawn)
    figures |= {"with plots s": time.perf_counter() - begun_s, "all memory mb": memory_mb()}
    figures["goal"] = f"{GOAL_START_S:g} s, {GOAL_MEMORY_MB:g} MB"
    figures["torch loaded"] = "torch" in sys.modules
    dialog.close()
    window.close()
    return figures


def measure_plots(application: Any) -> dict[str, Any]:
    """What a frame of a curve with many points costs."""
    import numpy as np

    from maskwright.desktop.plots import CurvePlot
    from maskwright.desktop.watching import Line

    rng = np.random.default_rng(0)
    plot = CurvePlot("Loss", "step")
    plot.resize(700, 400)
    plot.show()
    x, values = np.arange(POINTS, dtype=np.float64), rng.normal(size=POINTS).cumsum()
    frames: dict[str, list[float]] = {"new values": [], "moved": [], "zoomed": []}

    def frame(kind: str, act: Any) -> None:
        begun_s = time.thread_time()
        act()
        plot.grab()
        application.processEvents()
        frames[kind].append(1000 * (time.thread_time() - begun_s))

    view = plot._plot.getViewBox()
    for turn in range(30):
        line = Line("steps", x, values + turn)
        frame("new values", lambda line=line: plot.set_lines([line]))
    for turn in range(30):
        frame("moved", lambda turn=turn: view.setXRange(1000 * turn, 1000 * turn + 50_000, padding=0))
        frame("zoomed", lambda turn=turn: view.setXRange(0, POINTS / (turn + 1), padding=0))
    plot.close()
    return {f"{kind} ms": spread(times) for kind, times in frames.items()} | {"points": POINTS}


def measure_training(application: Any, folder: Path, epochs: int) -> dict[str, Any]:
    """What the window's thread did while a training ran beside it."""
    from maskwright.desktop.app import open_window
    from maskwright.desktop.train_dialog import TrainConfigDialog

    heard: list[str] = []
    window, dialog = open_window(None, folder / "runs"), TrainConfigDialog(experiment_of(folder, epochs))
    dialog.training_completed.connect(lambda outcome: heard.append(str(outcome["status"])))
    dialog.training_failed.connect(heard.append)
    dialog.show()
    until(application, lambda: dialog.monitoring.is_drawn)
    application.handled.clear()
    begun_s = time.perf_counter()
    dialog.start()
    until(application, lambda: dialog.thread_at_work is not None)
    thread = dialog.thread_at_work
    thread.batch_progress.connect(lambda *values: heard.append("batch"))
    thread.epoch_completed.connect(lambda *values: heard.append("epoch"))
    until(application, lambda: dialog.thread_at_work is None)
    until(application, lambda: dialog.monitoring.sample.has_picture)
    taken = list(application.handled)
    figures: dict[str, Any] = {
        "ended": heard[-1],
        "epochs told": heard.count("epoch"),
        "batches told": heard.count("batch"),
        "seconds": time.perf_counter() - begun_s,
        "events": len(taken),
        "processor ms": spread([1000 * processor for processor, _ in taken]),
        "clock ms": spread([1000 * clock for _, clock in taken]),
        "goal ms": f"{GOAL_MS:g} at the 99th percentile",
        "memory mb": memory_mb(),
        "peak memory mb": peak_memory_mb(),
        "torch loaded": "torch" in sys.modules,
    }
    dialog.close()
    window.close()
    return figures


def experiment_of(folder: Path, epochs: int) -> Any:
    """Cracks in invented photographs, written by another process: what invents them brings torch."""
    import subprocess

    code = (
        "import sys; from maskwright.data.synthetic_images import write_pictures as write; from pathlib import Path; "
    )
    subprocess.run(
        [sys.executable, "-c", code + f"write(Path({str(folder / 'data')!r}), 'cracks', 24, size_px=96)"], check=True
    )
    from maskwright.config import load_experiment

    data = {"kind": "images", "folder": str(folder / "data"), "tiles": {"size_px": 64}, "loader": {"batch_size": 2}}
    settings = {
        "name": "watched",
        "task": {"kind": "binary"},
        "data": data,
        "model": {"kind": "unet", "base_channels": 8, "depth": 2},
        "training": {"epochs": epochs, "device": "cpu"},
        "tracking": {"output_dir": str(folder / "runs"), "log_every_steps": 1, "tensorboard": False},
    }
    path = folder / "watched.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    return load_experiment([path])


def until(application: Any, is_so: Any) -> None:
    """Let the window work until something is so, as its own event loop does."""
    from PySide6.QtCore import QEventLoop

    end_s = time.perf_counter() + GIVE_UP_S
    while not is_so():
        if time.perf_counter() > end_s:
            raise SystemExit(f"Nothing more happened within {GIVE_UP_S:g} s.")
        application.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents, 20)


def spread(values: Sequence[float]) -> dict[str, float]:
    """50th and 99th percentile and the largest."""
    import numpy as np

    low, high = np.percentile(values, (50, 99))
    return {"50th": round(float(low), 2), "99th": round(float(high), 2), "max": round(max(values), 2)}


def memory_mb() -> float:
    """What this process holds of the main memory."""
    import psutil

    return round(psutil.Process().memory_info().rss / 2**20, 1)


def peak_memory_mb() -> float:
    """The most that this process ever held of the main memory."""
    import psutil

    facts = psutil.Process().memory_info()
    if hasattr(facts, "peak_wset"):  # Windows
        return round(facts.peak_wset / 2**20, 1)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        if isinstance(value, dict):
            value = ", ".join(f"{part} {number:g}" for part, number in value.items())
        print(f"{name:>18}: {value if not isinstance(value, float) else round(value, 2)}")
    print(flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
