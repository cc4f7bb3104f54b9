"""How good a model is after the same minutes on the same machine: our defaults beside three peers in their usual form.

    MASKWRIGHT_DATA=/folder/of/the/data .venv-bench/bin/python benchmarks/time_to_accuracy.py \\
        [--rows cracks,tiles,vessels,heights] [--only CONTESTANT ...] [--minutes 10] [--seeds 1] [--out FILE]

Each contestant learns from the same pictures, steers by the same and is scored on the same held-out ones at full size
by one scorer: the IoU over all their pixels together; of heights the mean of three. Its clock starts with its process,
imports included, and stops when the model is trained; answering for the held-out pictures is outside. Everything a peer
was given, with its source, stands at the head of its file in ``accuracy/``; data and split in ``accuracy/ground.py``.

One after the other, each in a process of its own. What is finished is kept in the JSON, so that a stopped run goes on
where it was; the table, as markdown, is written beside it. A peer that is not installed is left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from accuracy.ground import HEIGHTS_M, ROWS, prepare, read_samples
from accuracy.job import Job
from accuracy.scoring import score
from rows import FOLDER, machine

CONTESTANTS = {  # name: (module in accuracy/, the packages it needs)
    "Maskwright": ("maskwright_defaults", ("maskwright",)),
    "SMP + Lightning": ("smp_lightning", ("segmentation_models_pytorch", "lightning", "albumentations")),
    "MONAI": ("monai_tutorial", ("monai",)),
    "nnU-Net 2D": ("nnunet_2d", ("nnunetv2",)),
}
MINUTES = 10.0  # a coffee: what someone waits who wants to know whether their data can be learned from
SEEDS = 1
PATIENCE = 8  # times the minutes, and a quarter of an hour, until a contestant counts as stuck


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default=",".join(ROWS), help="of " + ", ".join(ROWS))
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="CONTESTANT")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 1")
    parser.add_argument("--out", type=Path, default=FOLDER / "time_to_accuracy.json")
    options = parser.parse_args()
    rows = options.rows.split(",")
    if unknown := [row for row in rows if row not in ROWS]:
        parser.error(f"--rows: there is no row {', '.join(unknown)}. There are {', '.join(ROWS)}.")
    data = Path(os.environ.get("MASKWRIGHT_DATA", "../shared/data")).resolve()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    with tempfile.TemporaryDirectory(prefix="time_to_accuracy_") as folder:
        for row in rows:
            prepare(ROWS[row], data, Path(folder) / row)
            for seed in range(1, options.seeds + 1):
                for name in options.only:
                    key = key_of(row, name, seed, options.minutes)
                    if key not in done and (result := contest(name, row, seed, options.minutes, Path(folder))):
                        done[key] = result
                        options.out.write_text(json.dumps(done, indent=1))
                        print(key, "-", line_of(result), flush=True)
    text = table(done, rows, options.minutes, options.seeds)
    print(f"\n{text}")
    options.out.with_suffix(".md").write_text(text)


def key_of(row: str, name: str, seed: int, minutes: float) -> str:
    return f"{row}, {name}, seed {seed}, {minutes:g} min"


def contest(name: str, row: str, seed: int, minutes: float, folder: Path) -> dict[str, Any] | None:
    """Train and score one contestant; None, with the reason on the screen, if it could not."""
    module, packages = CONTESTANTS[name]
    if missing := [package for package in packages if find_spec(package) is None]:
        print(f"{name} is left out: {', '.join(missing)} is not installed (make bench-setup).", flush=True)
        return None
    job = Job(row, str(folder / row), tempfile.mkdtemp(dir=folder), minutes, seed, 0.0)
    command = [sys.executable, "-m", f"accuracy.{module}"]
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    limit_s = PATIENCE * 60 * minutes + 900
    try:
        finished = subprocess.run(
            [*command, replace(job, began_s=time.time()).to_json()], capture_output=True, text=True, check=False,
            timeout=limit_s, env=os.environ | {"PYTHONPATH": paths},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"{name} on {row} was stopped: not ready after {limit_s / 60:.0f} minutes.", flush=True)
        return None
    if finished.returncode:
        print(f"{name} on {row} failed:\n{finished.stderr[-3000:]}", flush=True)
        return None
    out = Path(job.out)
    pairs = [(np.load(out / "masks" / f"{s.name}.npy"), s.masks) for s in read_samples(ROWS[row], folder / row, "test")]
    told: dict[str, Any] = json.loads((out / "done.json").read_text())
    return score(pairs) | told | {"pictures": len(pairs), "date": f"{datetime.now(UTC):%Y-%m-%d}", "load": load()}


def load() -> float:
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else float("nan")


# --- the table --------------------------------------------------------------------------------------------------------


def line_of(result: dict[str, Any]) -> str:
    each = " ".join(f"{height:g} m {value:.3f}" for height, value in zip(HEIGHTS_M, result["each"], strict=False))
    heights = f" ({each})" if len(result["each"]) > 1 else ""
    return f"IoU {result['iou']:.3f}{heights}, {result['minutes']:.1f} min, {result['about']}"


def table(done: dict[str, Any], rows: list[str], minutes: float, seeds: int) -> str:
    """Rows against contestants: mean IoU over the seeds and the minutes that were taken; the best in bold."""
    lines = [
        f"{minutes:g} minutes each, {seeds} seed{'s' * (seeds > 1)}; {machine()}; {versions()}.",
        "",
        f"| row | held-out pictures | {' | '.join(CONTESTANTS)} |",
        "|---|---|" + "---|" * len(CONTESTANTS),
    ]
    for row in rows:
        runs = {
            name: [
                done[key] for seed in range(1, seeds + 1) if (key := key_of(row, name, seed, minutes)) in done
            ]
            for name in CONTESTANTS
        }  # fmt: skip
        scores = {name: statistics.mean(run["iou"] for run in found) for name, found in runs.items() if found}
        if not scores:
            continue
        cells = [_cell(runs[name], max(scores.values())) for name in CONTESTANTS]
        pictures = next(found[0]["pictures"] for found in runs.values() if found)
        lines.append(f"| {row} | {pictures} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cell(runs: list[dict[str, Any]], best: float) -> str:
    if not runs:
        return "-"
    mean = statistics.mean(run["iou"] for run in runs)
    mark = "**" if mean == best else ""
    return f"{mark}{mean:.3f}{mark} ({statistics.mean(run['minutes'] for run in runs):.1f} min)"


def versions() -> str:
    names = ("torch", "segmentation_models_pytorch", "lightning", "monai", "nnunetv2")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names if find_spec(name) is not None)


if __name__ == "__main__":
    main()
