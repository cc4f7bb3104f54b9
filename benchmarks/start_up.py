"""How long people wait: for ``maskwright --help``, and from ``maskwright train`` to its first step.

Run: ``.venv-bench/bin/python benchmarks/start_up.py [--rounds 7]``. Each is a process of its own; they take turns.

The first step is that of a light U-Net on 8 tiles of 256 x 256 px of an invented forest, decoded by an earlier run; the
time is read from the event log. What torch's own import takes in the same turn is subtracted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from rows import FOLDER, Row, add_json_option, keep_rows

PEERS_HELP = ("nnUNetv2_train", "mlflow", "yolo")  # those that are installed
IMPORTS = ("torch", "segmentation_models_pytorch", "lightning", "monai")
HELP, TRAIN = "maskwright --help", "maskwright train, until its first step"
GIVE_UP_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    add_json_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = race(Path(folder), options.rounds)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name:<42}{median:8.3f} s   ({min(seconds[name]):.3f} to {max(seconds[name]):.3f})")
    behind = [train - torch for train, torch in zip(seconds[TRAIN], seconds["import torch"], strict=True)]
    print(f"{'first step behind the import of torch':<42}{statistics.median(behind):8.3f} s")
    others = ", ".join(f"{name} {median:.1f}" for name, median in medians.items() if name.startswith("import "))
    helps = [f"{name} {median:.1f}" for name, median in medians.items() if name.endswith("--help") and name != HELP]
    keep_rows(
        options.json,
        [
            Row(HELP, medians[HELP], "s", others=", ".join(helps), goal=0.2, at_most=True),
            Row(
                "from `train` to the first step, less the import of torch", statistics.median(behind), "s",
                others=others, goal=1.0, at_most=True,
            ),
        ],
    )  # fmt: skip


def race(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of every turn of every contestant."""
    settings = write_experiment(folder)
    contestants: dict[str, Callable[[], float]] = {HELP: lambda: waited([sys.executable, "-m", "maskwright", "--help"])}
    for name in PEERS_HELP:
        if path := which(name):
            contestants[f"{name} --help"] = lambda path=path: waited([path, "--help"])
    for name in filter(find_spec, IMPORTS):
        command = [sys.executable, "-c", f"import {name}"]
        contestants[f"import {name}"] = lambda command=command: waited(command)
    contestants[TRAIN] = lambda: first_step(settings)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            taken = run()
            if turn:  # the first turn fills caches: of files, of bytecode, of decoded rasters
                seconds[name].append(taken)
    return seconds


def which(name: str) -> str | None:
    """A command of this environment or of those below it."""
    folders = [str(Path(sys.executable).parent), str(FOLDER.parents[1] / ".venv" / "bin"), os.environ.get("PATH", "")]
    return shutil.which(name, path=os.pathsep.join(folders))


def waited(command: list[str]) -> float:
    began_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began_s


def first_step(settings: Path) -> float:
    """Seconds from the start of the process to the first row of a step in the log; the run is then ended."""
    folder = settings.parent / "outputs"
    before = set(folder.glob("*/events.jsonl"))
    began_s = time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "maskwright", "train", str(settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while time.time() - began_s < GIVE_UP_S:
            for log in set(folder.glob("*/events.jsonl")) - before:
                for line in log.read_text().splitlines(keepends=True):
                    if line.endswith("\n") and (row := json.loads(line))["kind"] == "step":
                        return datetime.fromisoformat(row["time"]).timestamp() - began_s
            if process.poll() not in (None, 0):
                raise SystemExit(f"maskwright train ended: {process.communicate()[1][-2000:]}")
            time.sleep(0.02)
        raise SystemExit(f"No step within {GIVE_UP_S:g} s.")
    finally:
        process.kill()
        process.wait()


def write_experiment(folder: Path) -> Path:
    from maskwright.data.synthetic import write_forest

    for seed, name in enumerate("ab"):
        write_forest(folder, name=name, size_px=1280, seed=seed)
    settings = {
        "name": "start",
        "task": {"heights_m": [5.0]},
        "data": {
            "sites": [
                {"name": name, "dsm": str(folder / f"{name}_DSM.tif"), "chm": str(folder / f"{name}_CHM.tif")}
                for name in "ab"
            ],
            "tiles": {"size_px": 256, "min_valid": 0.5},
            "split": {"by": "lists", "train": ["a"], "test": ["b"]},
            "loader": {"batch_size": 8, "samples_per_epoch": 64},
            "cache": {"folder": str(folder / "cache")},
        },
        "model": {"kind": "unet", "base_channels": 16, "depth": 4},
        "training": {"epochs": 1},
        "tracking": {"output_dir": str(folder / "outputs"), "quiet": True, "log_every_steps": 1},
    }
    path = folder / "start.yaml"
    path.write_text(json.dumps(settings))  # YAML reads JSON
    return path


if __name__ == "__main__":
    main()
