"""What more costs: images, raster pixels, heights, classes and workers against time of the processor and memory.

Run: ``.venv-bench/bin/python benchmarks/scaling.py [--axes images pixels] [--draw]``: minutes. It writes
``docs/images/scaling.png``; ``--draw`` draws it anew from what earlier runs kept in ``outputs/benchmarks``.

Every point is a process of its own. Time is that of the processor, of all threads, so that other work on the machine
counts little; memory is the peak of the process.

* images: ``train``, one epoch of a small network on so many invented photographs of 128 px, from files to the report.
* pixels: one square raster of so many million pixels through a light U-Net, tiles of 512 px, overlap 25 %.
* heights: the same raster of 1024 px a side, asked so many heights.
* classes: a step of Trainer with so many classes, 4 x 256 px.
* workers: a raster of 4096 px a side with so many processes; a thread each.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import prediction
from rows import FOLDER, machine

PLOT = Path(__file__).resolve().parents[1] / "docs" / "images" / "scaling.png"
AXES: dict[str, tuple[int, ...]] = {
    "images": (50, 100, 200, 400),
    "pixels": (1, 4, 9, 16),
    "heights": (1, 2, 4, 8),
    "classes": (2, 4, 8, 16, 32),
    "workers": (1, 2),
}
SIDE_PX = 1024  # of a million pixels, about
STEPS = 6

Point = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--draw", action="store_true", help="only draw what earlier runs kept")
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measured(options.point[0], int(options.point[1]))))
        return
    kept = FOLDER / "scaling.json"
    found: dict[str, dict[str, Point]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for axis in () if options.draw else options.axes:
        found[axis] = {}
        for size in AXES[axis]:
            found[axis][str(size)] = in_own_process(axis, size)
            print(axis, size, told(found[axis][str(size)]), flush=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found, indent=1))
    print(machine())
    draw(found)


def in_own_process(axis: str, size: int) -> Point:
    command = [sys.executable, __file__, "--point", axis, str(size)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr[-3000:])
    point: Point = json.loads(ended.stdout.splitlines()[-1])
    return point


def told(point: Point) -> str:
    return f"{point['seconds']:.1f} s, {point['cpu_seconds']:.1f} s of the processor, peak {point['peak_mb']:.0f} MB"


# --- a point ----------------------------------------------------------------------------------------------------------


def measured(axis: str, size: int) -> Point:
    with tempfile.TemporaryDirectory() as folder:
        if axis == "images":
            return of_images(Path(folder), size)
        if axis == "classes":
            return of_classes(Path(folder), size)
        return of_raster(Path(folder), axis, size)


def of_raster(folder: Path, axis: str, size: int) -> Point:
    side = {"pixels": round(SIDE_PX * size**0.5), "heights": SIDE_PX, "workers": 4 * SIDE_PX}[axis]
    heights = tuple(5.0 * n for n in range(1, size + 1)) if axis == "heights" else (5.0,)
    options = SimpleNamespace(
        folder=str(folder), contestant="maskwright", size=side, tile=512, overlap=0.25, batch_size=4,
        heights=list(heights), workers=size if axis == "workers" else 1, threads=1 if axis == "workers" else None,
    )  # fmt: skip
    prediction.prepare(folder, side, heights)
    return prediction.in_own_process("maskwright", options)


def of_classes(folder: Path, size: int) -> Point:
    import torch
    from training import Turns, light_unet

    from maskwright.config.callbacks import CallbacksConfig, EarlyStoppingConfig
    from maskwright.config.loss import CombinedLossConfig
    from maskwright.config.metrics import MetricsConfig
    from maskwright.config.task import MulticlassTask
    from maskwright.config.training import TrainingConfig
    from maskwright.devices import prepare_process
    from maskwright.tasks import build_task
    from maskwright.tracking import RunFolder
    from maskwright.training import Trainer
    from maskwright.types import Batch, Place, Window

    prepare_process()
    names = tuple(f"class_{number}" for number in range(size))
    task = build_task(MulticlassTask(), CombinedLossConfig(), MetricsConfig(), light_unet(), names)
    image = torch.randn(4, 1, 256, 256)
    where = tuple(Place("invented", Window(0, 256 * n, 256, 256)) for n in range(4))
    target, valid = torch.randint(0, size, (4, 256, 256)), torch.ones(4, 256, 256, dtype=torch.bool)
    turns = Turns(Batch(image, target, valid, None, where), STEPS)
    trainer = Trainer(
        task,
        task.build_model(light_unet(), 1, 4),
        turns,
        training=TrainingConfig(epochs=1, device="cpu"),
        monitoring=CallbacksConfig(early_stopping=EarlyStoppingConfig(enabled=False)),
        run_folder=RunFolder.create(folder, "classes"),
        quiet=True,
    )
    point = clocked(trainer.train)
    return point | {name: point[name] / STEPS for name in ("seconds", "cpu_seconds")}


def of_images(folder: Path, size: int) -> Point:
    from maskwright.cli.main import main as maskwright
    from maskwright.config import load_experiment
    from maskwright.data.synthetic_images import write_pictures
    from maskwright.devices import prepare_process
    from maskwright.workflows.train import train

    prepare_process()
    write_pictures(folder / "pictures", "cracks", size, size_px=128, difficulty="easy")
    settings = folder / "pictures.yaml"
    if maskwright(["init", str(folder / "pictures"), "--out", str(settings)]):
        raise SystemExit("maskwright init failed")
    small = ["training.epochs=1", "model.kind=unet", "model.base_channels=4", "model.depth=2", "training.device=cpu"]
    places = [f"tracking.output_dir={folder / 'outputs'}", f"data.cache.folder={folder / 'cache'}"]
    experiment = load_experiment([settings], [*small, *places, "tracking.quiet=true"])
    return clocked(lambda: train(experiment, say=lambda line: None))


def clocked(work: Any) -> Point:
    began_s, busy_s = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - began_s,
        "cpu_seconds": time.process_time() - busy_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


# --- the picture ------------------------------------------------------------------------------------------------------


def draw(found: dict[str, dict[str, Point]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    labels = {
        "images": "photographs of 128 px", "pixels": "million raster pixels", "heights": "heights asked",
        "classes": "classes, one step", "workers": "processes, seconds by the clock",
    }  # fmt: skip
    shown = [axis for axis in AXES if axis in found]
    figure, rows = pyplot.subplots(2, len(shown), figsize=(3 * len(shown), 5), squeeze=False, sharex="col")
    for column, axis in enumerate(shown):
        sizes = [int(size) for size in found[axis]]
        clock = "seconds" if axis == "workers" else "cpu_seconds"
        for row, name, word in ((0, clock, "seconds"), (1, "peak_mb", "peak MB")):
            values = [point[name] for point in found[axis].values()]
            plot = rows[row][column]
            plot.plot(sizes, values, marker="o", color="#1f6f8b" if row == 0 else "#b5651d")
            plot.set_ylim(0, 1.15 * max(values))
            plot.set_xlim(0, None)
            plot.grid(alpha=0.3)
            if column == 0:
                plot.set_ylabel(word)
        rows[1][column].set_xlabel(labels[axis])
    figure.tight_layout()
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT, dpi=90)
    print(f"{PLOT.relative_to(PLOT.parents[2])} is written.")


if __name__ == "__main__":
    main()
