"""How fast training data comes: random windows of a compressed raster, and random changes of photographs.

Contestants take turns inside one process; medians over the rounds. Ratios inside one run are safe to compare, seconds
are not. The peers live in an environment of their own: ``make bench-setup``, then

    .venv-bench/bin/python benchmarks/data.py windows --size 8192
    .venv-bench/bin/python benchmarks/data.py augment

Measured 2026-11-21 on 2 cores of an AMD EPYC (Zen 5), other work below a fifth of a core; torchgeo 0.8.1,
albumentations 2.0.8, kornia 0.9; 8192 x 8192 px, windows and tiles of 256 px. DEFLATE without predictor, with GDAL's
predictor for floats (3), and without predictor where GDAL may keep a quarter of the raster (GDAL_CACHEMAX=64): by
default it keeps all of it, as it could not with a raster that is larger than the memory. TorchGeo's speed varies most
from run to run; earlier ones gave 110 to 161 for bare windows.

    windows/s, predictor 1 / 3 / 1 with 64 MB    ratio            images/s, 1 and 3 bands            ratio
    TorchGeo            156 /   201 /   271        1 /   1 /   1  albumentations     1598 / 619   1.00 / 1.00
    rasterio, opened    362 /   209 /   381      2.3 / 1.0 / 1.4  torchvision v2      490 / 356   0.31 / 0.57
    rasterio, kept open 571 /   489 /   669      3.7 / 2.4 / 2.5  kornia              257 / 188   0.16 / 0.30
    numpy memory map  35020 / 35561 / 40044      225 / 177 / 148  Maskwright         1766 / 794   1.10 / 1.28
    bare windows      36553 / 35354 / 39543      234 / 176 / 146
    finished batches   7754 /  7522 / 12851       50 /  37 /  47  decoding, once: 94 / 73 / 104 Mpx/s (117 alone)
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rows import Row, add_json_option, keep_rows

WINDOW_PX = 256
BATCH = 8

Contestants = dict[str, Callable[[int], None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("windows", "augment"))
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of the raster")
    parser.add_argument("--predictor", type=int, choices=(1, 3), default=1, help="of DEFLATE; 3 is GDAL's for floats")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of torch and OpenCV, for augment")
    add_json_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.what == "windows":
        with tempfile.TemporaryDirectory() as folder:
            rows = _windows(Path(folder), options.size, options.rounds, options.predictor)
    else:
        rows = _augment(options.rounds, options.threads)
    keep_rows(options.json, rows)


# --- windows ----------------------------------------------------------------------------------------------------------


def _windows(folder: Path, size: int, rounds: int, predictor: int) -> list[Row]:
    paths = [_write(folder / f"site_{kind}.tif", size, seed, predictor) for seed, kind in enumerate(("DSM", "CHM"))]
    from maskwright.data.cache import Cache
    from maskwright.data.sources.rasters import HeightRasters, Site

    started = time.perf_counter()
    site = Site(name="site", dsm=paths[0], chm=paths[1], dtm=None, nodata=None, chm_nodata=None, ground=None)
    source = HeightRasters([site], cache=Cache(folder / "cache"))
    elapsed = time.perf_counter() - started
    decoded = 2 * size * size / 1e6 / elapsed
    print(f"decoding two rasters of {size} x {size}: {decoded:.0f} Mpx/s, once")
    batches = _batches(source, size)
    started = time.perf_counter()
    batches(1 + BATCH * (size * size // (BATCH * WINDOW_PX * WINDOW_PX) + 1))
    print(f"first finished batches, until the surface lies levelled: {time.perf_counter() - started:.1f} s, once")
    contestants = {
        "TorchGeo RandomGeoSampler": _torchgeo(paths[0]),
        "rasterio, opened each time": _rasterio_each(paths[0], size),
        "rasterio, kept open": _rasterio_kept(paths[0], size),
        "numpy memory map": _memory_map(folder, source, size),
        "Maskwright, bare windows": _bare(source, size),
        "Maskwright, finished batches": batches,
    }
    medians = _race(
        contestants,
        {name: 64 if "Maskwright" not in name and "numpy" not in name else 1024 for name in contestants},
        rounds,
        "windows",
        # a scene is levelled once as many pixels were read as it has; that is timed apart
        {"Maskwright, bare windows": 1024, "numpy memory map": 1024},
    )
    first, kept = medians["TorchGeo RandomGeoSampler"], medians["rasterio, kept open"]
    bare, mapped = medians["Maskwright, bare windows"], medians["numpy memory map"]
    work = f"random {WINDOW_PX} px windows of a {size} x {size} DEFLATE GeoTIFF"
    sampler, others = f"TorchGeo sampler ({first:.0f}/s)", f"rasterio kept open {kept / first:.1f}"
    whole = medians["Maskwright, finished batches"]
    return [
        Row(f"{work}: bare", bare / first, "x", sampler, others, 150.0),
        Row(f"{work}: bare", mapped / bare, "x", "numpy memory map, its time", goal=1.5, at_most=True),
        Row(f"{work}: finished batches", whole / first, "x", sampler, goal=25.0),
        Row("decoding it, once", decoded, "Mpx/s", goal=100.0),
    ]


def _write(path: Path, size: int, seed: int, predictor: int = 1) -> Path:
    import rasterio
    from affine import Affine

    generator = np.random.default_rng(seed)
    profile = {
        "driver": "GTiff", "height": size, "width": size, "count": 1, "dtype": "float32", "crs": "EPSG:32633",
        "transform": Affine(1, 0, 400_000, 0, -1, 5_000_000), "nodata": -9999.0,
        "compress": "deflate", "predictor": predictor, "tiled": True, "blockxsize": 256, "blockysize": 256,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        for row in range(0, size, 1024):
            rows = min(1024, size - row)
            hills = 20 + 15 * np.sin(np.arange(size) / 90.0)[None] + generator.normal(0, 2, (rows, size))
            raster.write(
                np.round(hills * 100).astype(np.float32) / np.float32(100), 1, window=((row, row + rows), (0, size))
            )
    return path


def _places(size: int) -> Iterator[tuple[int, int]]:
    generator = np.random.default_rng(7)
    while True:
        row, col = generator.integers(0, size - WINDOW_PX, 2)
        yield int(row), int(col)


def _torchgeo(path: Path) -> Callable[[int], None]:
    from torchgeo.datasets import RasterDataset
    from torchgeo.samplers import RandomGeoSampler

    class Surface(RasterDataset):  # type: ignore[misc]
        filename_glob = path.name
        is_image = True

    dataset = Surface(str(path.parent))

    def run(count: int) -> None:
        for query in RandomGeoSampler(dataset, size=WINDOW_PX, length=count):
            assert dataset[query]["image"].shape[-2:] == (WINDOW_PX, WINDOW_PX)

    return run


def _rasterio_each(path: Path, size: int) -> Callable[[int], None]:
    import rasterio

    places = _places(size)

    def run(count: int) -> None:
        for _ in range(count):
            row, col = next(places)
            with rasterio.open(path) as raster:
                raster.read(1, window=((row, row + WINDOW_PX), (col, col + WINDOW_PX)))

    return run


def _rasterio_kept(path: Path, size: int) -> Callable[[int], None]:
    import rasterio

    raster, places = rasterio.open(path), _places(size)

    def run(count: int) -> None:
        for _ in range(count):
            row, col = next(places)
            raster.read(1, window=((row, row + WINDOW_PX), (col, col + WINDOW_PX)))

    return run


def _memory_map(folder: Path, source: Any, size: int) -> Callable[[int], None]:
    from maskwright.types import Window

    np.save(folder / "plain.npy", source.surface("site", Window(0, 0, size, size)))
    plain, places = np.load(folder / "plain.npy", mmap_mode="r"), _places(size)

    def run(count: int) -> None:
        for _ in range(count):
            row, col = next(places)
            np.array(plain[row : row + WINDOW_PX, col : col + WINDOW_PX])

    return run


def _bare(source: Any, size: int) -> Callable[[int], None]:
    from maskwright.types import Window

    places = _places(size)

    def run(count: int) -> None:
        for _ in range(count):
            source.surface("site", Window(*next(places), WINDOW_PX, WINDOW_PX))

    return run


def _batches(source: Any, size: int) -> Callable[[int], None]:
    """Valid mask, heights in metres normalised, canopy height as target, stacked."""
    from maskwright.data.loaders import EvalLoader
    from maskwright.types import Place, Window

    places = _places(size)

    def run(count: int) -> None:
        tiles = [Place("site", Window(*next(places), WINDOW_PX, WINDOW_PX)) for _ in range(count)]
        for batch in EvalLoader(source, tiles, (5.0,), BATCH):
            assert batch.image.shape[-2:] == (WINDOW_PX, WINDOW_PX)

    return run


# --- the race ---------------------------------------------------------------------------------------------------------


def _race(
    contestants: Contestants, counts: dict[str, int], rounds: int, unit: str, warm: dict[str, int] | None = None
) -> dict[str, float]:
    """Medians of the speeds, by contestant."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for name, run in contestants.items():
        run(max(8, counts[name] // 8) if warm is None else warm.get(name, 8))
    for _ in range(rounds):
        for name, run in contestants.items():
            started = time.perf_counter()
            run(counts[name])
            speeds[name].append(counts[name] / (time.perf_counter() - started))
    first = statistics.median(next(iter(speeds.values())))
    print(f"{'':32s}{unit + '/s':>12s}{'ratio':>10s}")
    for name, values in speeds.items():
        median = statistics.median(values)
        print(f"{name:32s}{median:12.0f}{median / first:10.2f}")
    return {name: statistics.median(values) for name, values in speeds.items()}


# --- changes of images ------------------------------------------------------------------------------------------------


def _augment(rounds: int, threads: int) -> list[Row]:
    """Mirror image, quarter turn, affine, brightness and contrast, noise: each always, on one float32 tile and mask."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads if threads > 1 else 0)
    kept = []
    for bands in (1, 3):
        generator = np.random.default_rng(bands)
        image = generator.random((WINDOW_PX, WINDOW_PX, bands), np.float32)
        mask = (generator.random((WINDOW_PX, WINDOW_PX)) < 0.3).astype(np.uint8)
        makers = {
            "albumentations": _albumentations,
            "torchvision v2": _torchvision,
            "kornia": _kornia,
            "Maskwright": _changer,
        }
        contestants: Contestants = {}
        for name, make in makers.items():
            try:
                contestants[name] = make(image, mask)
            except ImportError as error:
                print(f"{name} is left out: {error}")
        print(f"{bands} bands, {WINDOW_PX} x {WINDOW_PX} px")
        counts = {name: 256 if name in ("Maskwright", "albumentations") else 64 for name in contestants}
        medians = _race(contestants, counts, rounds, "images")
        first = medians["albumentations"]
        others = ", ".join(
            f"{peer} {medians[peer] / first:.2f}" for peer in medians if peer not in ("albumentations", "Maskwright")
        )
        plural = "s" if bands > 1 else ""
        work = f"augmentation chain, float32 {WINDOW_PX} px, {bands} band{plural} + mask, {threads} thread"
        kept.append(Row(work, medians["Maskwright"] / first, "x", f"albumentations ({first:.0f}/s)", others, 1.1))
    return kept


def _albumentations(image: np.ndarray, mask: np.ndarray) -> Callable[[int], None]:
    import albumentations as chain

    change = chain.Compose(
        [
            chain.HorizontalFlip(p=1),
            chain.RandomRotate90(p=1),
            chain.Affine(rotate=(-15, 15), scale=(0.9, 1.1), translate_percent=(-0.1, 0.1), p=1),
            chain.RandomBrightnessContrast(p=1),
            chain.GaussNoise(std_range=(0.005, 0.02), p=1),
        ]
    )

    def run(count: int) -> None:
        for _ in range(count):
            change(image=image, mask=mask)

    return run


def _torchvision(image: np.ndarray, mask: np.ndarray) -> Callable[[int], None]:
    import torch
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    change = v2.Compose(
        [
            v2.RandomHorizontalFlip(p=1),
            v2.RandomChoice([v2.RandomRotation((turn, turn)) for turn in (90, 180, 270)]),
            v2.RandomAffine(15, translate=(0.1, 0.1), scale=(0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
            v2.GaussianNoise(sigma=0.01),
        ]
    )
    pair = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)), tv_tensors.Mask(torch.from_numpy(mask))

    def run(count: int) -> None:
        for _ in range(count):
            change(*pair)

    return run


def _kornia(image: np.ndarray, mask: np.ndarray) -> Callable[[int], None]:
    import kornia.augmentation as chain
    import torch

    change = chain.AugmentationSequential(
        chain.RandomHorizontalFlip(p=1.0),
        chain.RandomRotation90((1, 3), p=1.0),
        chain.RandomAffine(15.0, translate=(0.1, 0.1), scale=(0.9, 1.1), p=1.0),
        chain.RandomBrightness((0.8, 1.2), p=1.0),
        chain.RandomContrast((0.8, 1.2), p=1.0),
        chain.RandomGaussianNoise(std=0.01, p=1.0),
        data_keys=["input", "mask"],
    )
    images = torch.from_numpy(image).permute(2, 0, 1)[None].repeat(BATCH, 1, 1, 1)
    masks = torch.from_numpy(mask)[None, None].float().repeat(BATCH, 1, 1, 1)

    def run(count: int) -> None:
        for _ in range(count // BATCH):
            change(images, masks)

    return run


def _changer(image: np.ndarray, mask: np.ndarray) -> Callable[[int], None]:
    """What a training loader does with a batch of images, the draws included."""
    import torch

    from maskwright.data.balance import rng
    from maskwright.data.image_augment import ImageChanger
    from maskwright.data.sampling import Draw, ImageAugment, draw_change
    from maskwright.types import Batch, Place, Window

    augment = ImageAugment(flip_p=1, turn_p=1, rotate_p=1, brightness_p=1, noise_p=1)
    bands, place = image.shape[-1], Place("tile", Window(0, 0, WINDOW_PX, WINDOW_PX))
    change = ImageChanger(augment, in_channels=bands)
    batch = Batch(
        torch.from_numpy(image).permute(2, 0, 1)[None].repeat(BATCH, 1, 1, 1),
        torch.from_numpy(mask).long()[None].repeat(BATCH, 1, 1),
        torch.ones(BATCH, WINDOW_PX, WINDOW_PX, dtype=torch.bool),
        None,
        (place,) * BATCH,
    )
    numbers = iter(range(2**62))

    def drawn() -> Draw:
        generator = rng(0, 0, next(numbers))
        changes, rotate_deg, zoom = draw_change(generator, augment)
        turns, seed = 1 + int(generator.random() * 3), int(generator.integers(2**62))
        return Draw(place, (), flip_cols=True, turns=turns, rotate_deg=rotate_deg, zoom=zoom, seed=seed, image=changes)

    def run(count: int) -> None:
        for _ in range(count // BATCH):
            change(batch, [drawn() for _ in range(BATCH)])

    return run


if __name__ == "__main__":
    main()
