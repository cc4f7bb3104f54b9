"""Whole raster through a light U-Net: Maskwright against a plain MONAI sliding window, TorchGeo, and the bare network.

Each contestant runs in a process of its own, in turn, so that neither allocator nor caches are shared. Ratios inside
one run are safe to compare, seconds are not.

    python benchmarks/prediction.py --size 1024 --overlap 0.5 --repeats 3

Memory on a large raster, which is made row by row: three heights, the peak beyond what the process has after loading.

    python benchmarks/prediction.py --size 20000 --overlap 0.25 --heights 5 10 15 --only maskwright --repeats 1

How memory grows with the raster, one process for each size:

    python benchmarks/prediction.py --growth 2048 8192 --overlap 0.25 --repeats 1
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rows import Row, add_json_option, keep_rows

CONTESTANTS = ("maskwright", "bare", "monai", "torchgeo")
GOALS = {0.25: 4.0, 0.5: 4.0}  # times MONAI, by overlap

_Measured = dict[str, list[dict[str, float]]]


def main() -> None:
    options = _options()
    if options.contestant:
        print(json.dumps(_measured(options)))
        return
    keep_rows(options.json, _report_growth(options) if options.growth else _report(_measure_all(options), options))


def _measure_all(options: argparse.Namespace) -> _Measured:
    with tempfile.TemporaryDirectory() as folder:
        options.folder = folder
        prepare(Path(folder), options.size, tuple(options.heights))
        rows: _Measured = {name: [] for name in options.only}
        for _ in range(options.repeats):
            for name in options.only:
                rows[name].append(in_own_process(name, options))
    return rows


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=1024, help="rows and columns of the raster")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--heights", type=float, nargs="+", default=[5.0], help="heights in metres")
    parser.add_argument("--workers", type=int, default=1, help="processes of maskwright")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--growth", type=int, nargs=2, metavar=("SMALL", "LARGE"), help="memory of two sizes instead")
    add_json_option(parser)
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(folder: Path, size: int, heights_m: tuple[float, ...]) -> None:
    """A surface as a compressed, tiled GeoTIFF, and a network nobody trained."""
    import numpy as np
    import rasterio
    import torch

    from maskwright.checkpoints import save_model
    from maskwright.config.model import UNetConfig
    from maskwright.data.normalise import MetresNormaliser
    from maskwright.tasks.height_gaps import HeightGaps

    torch.manual_seed(0)
    task, architecture = HeightGaps(heights_m, fixed=True), UNetConfig(base_channels=16, depth=4)
    description = {
        "task": task.to_dict(),
        "model": architecture.model_dump(mode="json"),
        "in_channels": 1,
        "batch_size": 8,
        "input": "dsm",
        "normaliser": MetresNormaliser().to_dict(),
        "trained_range_m": [heights_m[0], heights_m[-1]],
        "pixel_size_m": [1.0, 1.0],
        "tile_px": 512,
        "prediction": {},
        "nodata": {},
    }
    save_model(folder / "model", task.build_model(architecture, 1), description)
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "tiled": True, "compress": "deflate", "predictor": 3}
    place = {"crs": "EPSG:32611", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)}
    with rasterio.open(folder / "dsm.tif", "w", height=size, width=size, **profile, **place) as dataset:
        for row in range(0, size, 256):
            rows = min(256, size - row)
            noise = np.random.default_rng(row).normal(100, 5, (rows, size)).astype(np.float32)
            dataset.write(noise, 1, window=((row, row + rows), (0, size)))


def in_own_process(name: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--contestant", name, "--folder", options.folder, "--size", str(options.size)]
    command += ["--tile", str(options.tile), "--overlap", str(options.overlap), "--batch-size", str(options.batch_size)]
    command += ["--workers", str(options.workers), "--heights", *(str(height) for height in options.heights)]
    if options.threads:
        command += ["--threads", str(options.threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _measured(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of one contestant after its imports, and the growth of its memory meanwhile."""
    work = {"maskwright": _maskwright, "bare": _bare, "monai": _monai, "torchgeo": _torchgeo}[options.contestant](
        options
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, busy = time.perf_counter(), time.process_time()
    work()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - busy
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "growth_mb": (after - before) / 1024,
        "peak_mb": after / 1024,
    }


def _maskwright(options: argparse.Namespace) -> Callable[[], object]:
    from maskwright.config.prediction import PredictionConfig
    from maskwright.devices import prepare_process
    from maskwright.prediction import Predictor

    prepare_process(options.threads)
    folder = Path(options.folder)
    predictor = Predictor.load(folder / "model", device="cpu")
    settings = PredictionConfig(
        tile_px=options.tile,
        overlap=options.overlap,
        batch_size=options.batch_size,
        polygons="none",
        quicklook=False,
        gap_sizes=False,
        workers=options.workers,
    )
    return lambda: predictor.predict_raster(folder / "dsm.tif", folder / "maps", settings=settings)


def _bare(options: argparse.Namespace) -> Callable[[], object]:
    """The network alone on as many windows of the same size, in the same process settings."""
    import torch

    from maskwright.devices import prepare_process
    from maskwright.prediction import Predictor
    from maskwright.prediction.blending import plan_axis

    prepare_process(options.threads)
    predictor = Predictor.load(Path(options.folder) / "model", device="cpu")
    axis = plan_axis(options.size, options.tile, options.overlap, "hann", multiple_px=16)
    image = torch.randn(1, 1, axis.tile_px, axis.tile_px)

    def work() -> None:
        with torch.inference_mode():
            for _ in range(len(axis.starts) ** 2):
                predictor.logits(image, tuple(options.heights))

    return work


def _monai(options: argparse.Namespace) -> Callable[[], object]:
    """The usual script: the whole raster in memory, sliding window, sigmoid, one compressed GeoTIFF."""
    import numpy as np
    import rasterio
    import torch
    from monai.inferers import sliding_window_inference

    folder, model = Path(options.folder), _plain_model(options)

    def work() -> None:
        with rasterio.open(folder / "dsm.tif") as source:
            heights, profile = source.read(1), source.profile
        image = torch.from_numpy((heights - np.percentile(heights, 5)) / 30.0)[None, None].float()
        with torch.no_grad():
            logits = sliding_window_inference(
                image, (options.tile,) * 2, options.batch_size, model, overlap=options.overlap, mode="gaussian"
            )
            probs = torch.sigmoid(logits)[0].numpy()
        with rasterio.open(folder / "monai.tif", "w", **profile) as target:
            target.write(probs)

    return work


def _plain_model(options: argparse.Namespace) -> Any:
    """The network as torch has it."""
    import torch

    from maskwright.checkpoints import load_weights
    from maskwright.prediction.model_card import ModelCard

    if options.threads:
        torch.set_num_threads(options.threads)
    folder = Path(options.folder)
    card = ModelCard.load(folder / "model")
    model = card.task.build_model(card.architecture, 1, card.batch_size)
    load_weights(folder / "model", model)
    return model.eval()


def _torchgeo(options: argparse.Namespace) -> Callable[[], object]:
    """A grid sampler and a loader as in its tutorials; windows are written over each other, nothing is blended."""
    import rasterio
    import torch
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    class Surface(RasterDataset):  # type: ignore[misc]
        filename_glob = "dsm.tif"
        is_image = True

    folder, model = Path(options.folder), _plain_model(options)
    tile = options.tile
    step = round(tile * (1 - options.overlap))

    def work() -> None:
        dataset = Surface(str(folder))
        loader = DataLoader(
            dataset,
            batch_size=options.batch_size,
            sampler=GridGeoSampler(dataset, size=tile, stride=step),
            collate_fn=stack_samples,
        )
        with rasterio.open(folder / "dsm.tif") as source:
            profile = source.profile
        probs = torch.zeros(options.size, options.size)
        starts = [min(start, options.size - tile) for start in range(0, options.size - tile + step, step)]
        places = [(row, col) for row in reversed(starts) for col in starts]  # it begins at the lower left
        done = 0
        with torch.inference_mode():
            for batch in loader:
                answer = torch.sigmoid(model((batch["image"] - 100) / 30))[:, 0]
                for one in answer:
                    row, col = places[min(done, len(places) - 1)]
                    probs[row : row + tile, col : col + tile] = one[:tile, :tile]
                    done += 1
        with rasterio.open(folder / "torchgeo.tif", "w", **profile) as target:
            target.write(probs.numpy(), 1)

    return work


def _report(measured_all: _Measured, options: argparse.Namespace) -> list[Row]:
    print(f"{options.size} x {options.size} px, windows of {options.tile}, overlap {options.overlap:.0%}")
    median = {name: statistics.median(row["seconds"] for row in measured) for name, measured in measured_all.items()}
    for name, measured in measured_all.items():
        growth = statistics.median(row["growth_mb"] for row in measured)
        peak = statistics.median(row["peak_mb"] for row in measured)
        busy = statistics.median(row["cpu_seconds"] for row in measured)
        against = f", {median['monai'] / median[name]:.2f} of MONAI's speed" if "monai" in median else ""
        told = f"{busy:.2f} s of CPU{against}, memory + {growth:.0f} MB to a peak of {peak:.0f} MB"
        print(f"{name:>11}: {median[name]:7.2f} s, {told}")
    work, rows = f"whole raster {options.size} x {options.size}, overlap {options.overlap:.0%}", []
    if {"monai", "maskwright"} <= median.keys():
        faster, peer = median["monai"] / median["maskwright"], f"MONAI sliding window ({median['monai']:.0f} s)"
        others = f"TorchGeo, no blending {median['monai'] / median['torchgeo']:.2f}" if "torchgeo" in median else ""
        rows.append(Row(work, faster, "x", peer, others, goal=GOALS.get(options.overlap)))
    if {"bare", "maskwright"} <= median.keys():
        share = median["bare"] / median["maskwright"]
        print(f"{share:.0%} of the bare network's speed")
        rows.append(Row(work, share, "x", "the bare network on the same windows", goal=0.9))
    return rows


def _report_growth(options: argparse.Namespace) -> list[Row]:
    """By how much the memory taken for a large raster exceeds that for a small one."""
    options.only = [name for name in options.only if name in ("maskwright", "monai")]
    peaks: dict[str, list[float]] = {name: [] for name in options.only}
    for size in options.growth:
        options.size = size
        for name, measured in _measure_all(options).items():
            peaks[name].append(statistics.median(row["peak_mb"] for row in measured))
    growth = {name: large - small for name, (small, large) in peaks.items()}
    small, large = options.growth
    for name, (before, after) in peaks.items():
        print(f"{name:>11}: peak {before:.0f} MiB at {small} px, {after:.0f} MiB at {large} px: + {after - before:.0f}")
    others = f"MONAI +{growth['monai']:.0f} MiB" if "monai" in growth else ""
    if "maskwright" not in growth:
        return []
    work = f"memory growth of a raster prediction from {small} to {large} px a side"
    return [Row(work, growth["maskwright"], "MiB", others=others, goal=60.0, at_most=True)]


if __name__ == "__main__":
    main()
