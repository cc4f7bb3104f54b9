"""Ours, the public path and nothing else: ``maskwright init``, ``maskwright train --minutes``, ``maskwright predict``.

Set by hand is only what no program can know: the heights asked, and the split that all contestants share. Photographs
lie in folders train and val, which init finds by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.ground import HEIGHTS_M, SITES, Sample
from accuracy.job import Job, Masks, run_contestant

__all__ = ["train"]


def train(job: Job) -> tuple[Callable[[Sample], Masks], str]:
    out = Path(job.out)
    file = out / "experiment.yaml"
    _maskwright("init", str(Path(job.folder) / "learn"), "--out", str(file), "--force")
    settings: dict[str, Any] = {"training.seed": job.seed}
    if job.data.is_heights:
        settings |= {"task.heights_m": list(HEIGHTS_M), "data.split.by": "lists"}
        settings |= {f"data.split.{part}": list(names) for part, names in SITES.items()}
    given = [word for name, value in settings.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    _maskwright(
        "train", str(file), *given, "--minutes", f"{job.left_s / 60:.3f}", "--output-dir", str(out / "runs"), "--quiet"
    )
    (run,) = [path.parent for path in (out / "runs").glob("*/run.json")]
    record = json.loads((run / "run.json").read_text())

    target = out / "predicted"

    def answer(sample: Sample) -> Masks:
        if not target.exists():  # all at once: what starts a process counts for each otherwise
            inputs = [str(sample.path) for sample in job.samples("test")]
            heights = ["--heights", *(f"{height:g}" for height in HEIGHTS_M)] if job.data.is_heights else []
            _maskwright("predict", str(run), *inputs, "--out", str(target), *heights, "--quiet")
        return _masks(target, sample, job.data.is_heights)

    return answer, f"{record['budget']['epochs']} epochs of {record['budget']['updates_per_epoch']} steps"


def _masks(folder: Path, sample: Sample, is_heights: bool) -> Masks:
    if is_heights:
        import rasterio

        with rasterio.open(folder / f"{sample.path.stem}_gaps.tif") as raster:
            return (raster.read() == 1).astype(np.uint8)
    from PIL import Image

    return (np.asarray(Image.open(folder / f"{sample.name}_mask.png").convert("L"))[None] == 255).astype(np.uint8)


def _maskwright(*words: str) -> None:
    finished = subprocess.run([sys.executable, "-m", "maskwright", *words], capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"maskwright {' '.join(words)}\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}")


if __name__ == "__main__":
    run_contestant(train)
