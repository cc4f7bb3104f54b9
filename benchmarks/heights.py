"""Which network answers heights best: the same ground, seeds and minutes for four ways of asking.

One U-Net for each height; ``film_unet`` on tiles stretched to 0..1, as in the scientific method behind this kind of
network; ``film_unet`` in metres; ``height_cdf`` in metres. All are trained at 5, 10 and 20 m and asked 15 and 25 m too.

    MASKWRIGHT_DATA=/folder/of/the/data python benchmarks/heights.py --minutes 4 --seeds 1 2 --out heights.json

The speed of an epoch is measured first, contestants in turns, the fastest of several epochs in time of the processor,
so that other work on the machine counts little; each then gets as many epochs as fit the minutes.
Every training runs in a process of its own. A finished one is kept in the JSON and not run again.
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
from pathlib import Path
from typing import Any

TRAINED_M = (5.0, 10.0, 20.0)
ASKED_M = (5.0, 10.0, 15.0, 20.0, 25.0)
CONTESTANTS = (
    "one U-Net per height",
    "film_unet, tiles 0..1",
    "film_unet, metres",
    "height_cdf, metres",
    "height_cdf, metres + likelihood",
)
LIKELIHOOD = {"bce": 0.45, "dice": 0.27, "focal": 0.18, "likelihood": 0.1}  # the default terms and the log density
WORLDS = ("real", "invented")
SAMPLES = 128  # in an epoch: 16 steps


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="of the processor, for training each contestant, seed and world"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="CONTESTANT")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("heights.json"))
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(_run(json.loads(options.job))))
        return
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        _compare(options, Path(folder))


def _compare(options: argparse.Namespace, folder: Path) -> None:
    done: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for world in options.worlds:
        _write_world(folder / world, world)
        if f"speed {world}" not in done:
            done[f"speed {world}"] = _speeds(folder, world)
            options.out.write_text(json.dumps(done, indent=1))
        for seed in options.seeds:
            for name in options.only:
                key = f"{world}, seed {seed}, {name}"
                if key in done:
                    continue
                epochs = max(3, round(options.minutes * 60 / done[f"speed {world}"][name]))
                done[key] = _in_own_process(folder, world, name, seed, epochs)
                options.out.write_text(json.dumps(done, indent=1))
                print(key, _line(done[key]), flush=True)
    _report(done, options)


def _in_own_process(folder: Path, world: str, name: str, seed: int, epochs: int) -> dict[str, Any]:
    job = {"folder": str(folder), "world": world, "name": name, "seed": seed, "epochs": epochs}
    finished = subprocess.run(
        [sys.executable, __file__, "--job", json.dumps(job)], capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise SystemExit(finished.stderr[-3000:])
    result: dict[str, Any] = json.loads(finished.stdout.strip().splitlines()[-1])
    return result


def _speeds(folder: Path, world: str) -> dict[str, float]:
    """Seconds of the processor for an epoch of each contestant, from two short trainings in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(2):
        for name in CONTESTANTS:
            seconds[name].append(_in_own_process(folder, world, name, 99, 6)["seconds_per_epoch"])
    return {name: min(values) for name, values in seconds.items()}


# --- one training -----------------------------------------------------------------------------------------------------


def _run(job: dict[str, Any]) -> dict[str, Any]:
    from maskwright.devices import prepare_environment, prepare_process

    prepare_environment()
    prepare_process()
    if job["name"] == CONTESTANTS[0]:
        share = max(1, job["epochs"] // len(TRAINED_M))
        parts = [_train(job, (height,), share) for height in TRAINED_M]
        return {
            "iou": {key: value for part in parts for key, value in part["iou"].items()},
            "violation_share": None,
            "seconds_per_megapixel": sum(part["seconds_per_megapixel"] for part in parts),
            "seconds_per_epoch": statistics.mean(part["seconds_per_epoch"] for part in parts),
            "epochs": share * len(TRAINED_M),
        }
    return _train(job, TRAINED_M, job["epochs"])


def _train(job: dict[str, Any], heights_m: tuple[float, ...], epochs: int) -> dict[str, Any]:
    from maskwright.config import Experiment
    from maskwright.training import Callback
    from maskwright.workflows.evaluate_run import evaluate_run
    from maskwright.workflows.train import train

    class Clock(Callback):
        """Notes the time of the processor at the end of each epoch."""

        def __init__(self) -> None:
            self.ends_s: list[float] = []

        def on_epoch_end(self, state: Any, scores: Any) -> None:
            self.ends_s.append(time.process_time())

    clock = Clock()
    experiment = Experiment.model_validate(_experiment(job, heights_m, epochs))
    outcome = train(experiment, say=lambda line: None, callbacks=[clock], own_process=True)
    asked = heights_m if experiment.model.kind == "unet" else ASKED_M
    evaluation = evaluate_run(outcome.folder.path, heights_m=asked)
    compared = evaluation.valid_pixels * (len(asked) - 1)
    return {
        "iou": {f"{row.height_m:g}": row.scores["iou"] for row in evaluation.model},
        "violation_share": evaluation.violations / compared if compared else None,
        "seconds_per_megapixel": _seconds_per_megapixel(outcome.folder.path, asked),
        "seconds_per_epoch": min(later - sooner for sooner, later in zip(clock.ends_s, clock.ends_s[1:], strict=False)),
        "epochs": epochs,
    }


def _experiment(job: dict[str, Any], heights_m: tuple[float, ...], epochs: int) -> dict[str, Any]:
    folder, name = Path(job["folder"]), job["name"]
    kind = "unet" if name == CONTESTANTS[0] else name.partition(",")[0]
    per_tile = name.endswith("0..1")
    task: dict[str, Any] = {"heights_m": heights_m}
    if kind != "unet":
        task["heights_per_sample"] = len(heights_m)
    sites, split = _sites(folder / job["world"], job["world"])
    return {
        "name": "heights",
        **({"loss": LIKELIHOOD} if name.endswith("likelihood") else {}),
        "task": task,
        "data": {
            "sites": sites,
            "terrain": {"simulate": True, "amplitude_m": 15, "wavelength_m": 400, "seed": 7},
            "tiles": {"size_px": 96, "min_valid": 0.5},
            "split": {"by": "lists", **split},
            "normalise": {"kind": "per_tile" if per_tile else "metres"},
            "loader": {"batch_size": 8, "samples_per_epoch": SAMPLES},
            "cache": {"folder": str(folder / "cache")},
        },
        "model": {"kind": kind, "base_channels": 16, "depth": 4},
        "optim": {"optimizer": {"lr": 3e-3}},
        "training": {"epochs": epochs, "seed": job["seed"]},
        "callbacks": {"early_stopping": {"enabled": False}},
        "tracking": {"output_dir": str(folder / f"outputs_{os.getpid()}"), "quiet": True},
    }


def _seconds_per_megapixel(run: Path, heights_m: tuple[float, ...]) -> float:
    import torch

    from maskwright.prediction import Predictor

    model = Predictor.load(run).model
    image = torch.zeros(4, 1, 512, 512)
    condition = torch.tensor([heights_m] * 4)
    times = []
    with torch.inference_mode():
        for _ in range(6):
            started = time.process_time()
            model(image, condition)
            times.append(time.process_time() - started)
    return min(times) / (image.numel() / 1e6)


# --- ground -----------------------------------------------------------------------------------------------------------


def _sites(folder: Path, world: str) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    data = Path(os.environ.get("MASKWRIGHT_DATA", "../shared/data")).resolve() / "forest_chm"
    if world == "invented":
        names = ("a", "b", "c")
        sites = [{"name": name, "dsm": folder / f"{name}_DSM.tif", "chm": folder / f"{name}_CHM.tif"} for name in names]
        return sites, {"train": ["a", "b"], "test": ["c"]}
    return [
        {"name": "laselva_west", "chm": folder / "laselva_west.tif"},
        {"name": "laselva_east", "chm": folder / "laselva_east.tif"},
        {"name": "cauaxi_2012", "chm": data / "cauaxi_chm_2012_1m.tif"},
        {"name": "cauaxi_2014", "chm": data / "cauaxi_chm_2014_1m.tif"},
        {
            "name": "new_zealand",
            "dsm": data / "nz_forest_dsm_1m.tif",
            "chm": data / "nz_forest_chm_1m.tif",
            "chm_nodata": "none",
        },
    ], {"train": ["laselva_west", "cauaxi_2012", "cauaxi_2014"], "test": ["laselva_east", "new_zealand"]}  # fmt: skip


def _write_world(folder: Path, world: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if world == "invented":
        from maskwright.data.synthetic import write_forest

        for seed, name in enumerate("abc"):
            write_forest(folder, name=name, size_px=768, seed=seed)
        return
    import rasterio
    from rasterio.windows import Window

    data = Path(os.environ.get("MASKWRIGHT_DATA", "../shared/data")).resolve() / "forest_chm"
    with rasterio.open(data / "laselva_west_chm_2009_125cm.tif") as raster:
        for name, first, stop in (("west", 0, 650), ("east", 780, 1000)):
            window = Window(first, 0, stop - first, raster.height)
            profile = raster.profile | {
                "width": stop - first, "transform": raster.window_transform(window), "tiled": False, "blockysize": 1,
            }  # fmt: skip
            profile.pop("blockxsize", None)
            with rasterio.open(folder / f"laselva_{name}.tif", "w", **profile) as part:
                part.write(raster.read(window=window))


# --- the table --------------------------------------------------------------------------------------------------------


def _line(result: dict[str, Any]) -> str:
    iou = " ".join(f"{height:g} m {result['iou'].get(f'{height:g}', float('nan')):.3f}" for height in ASKED_M)
    share = result["violation_share"]
    broken = "-" if share is None else f"{share:.2%}"
    return f"{iou}  broken {broken}  {result['seconds_per_megapixel']:.2f} s/Mpx  {result['epochs']} epochs"


def _report(done: dict[str, Any], options: argparse.Namespace) -> None:
    for world in options.worlds:
        print(f"\n{world} ground, {options.minutes:g} minutes of the processor each, mean over seeds {options.seeds}")
        for name in options.only:
            rows = [done[f"{world}, seed {seed}, {name}"] for seed in options.seeds]
            shares = [row["violation_share"] for row in rows if row["violation_share"] is not None]
            heights = [f"{height:g}" for height in ASKED_M]
            mean = {
                "iou": {h: statistics.mean(r["iou"][h] for r in rows) for h in heights if h in rows[0]["iou"]},
                "violation_share": statistics.mean(shares) if shares else None,
                "seconds_per_megapixel": min(row["seconds_per_megapixel"] for row in rows),
                "epochs": rows[0]["epochs"],
            }
            print(f"{name:24s} {_line(mean)}")


if __name__ == "__main__":
    main()
