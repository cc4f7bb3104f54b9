"""How fast training data comes: random windows of a compressed raster, and random changes of photographs.

Contestants take turns inside one process; medians over the rounds. Ratios inside one run are safe to compare, seconds
are not. The peers live in an environment of their own: ``make bench-setup``, then

    .venv-bench/bin/python benchmarks/data.py windows --size 8192
    .venv-bench/bin/python benchmarks/data.py augment
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

WINDOW_PX = 256
BATCH = 8

Contestants = dict[str, Callable[[int], None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("windows", "augment"))
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of the raster")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of torch and OpenCV, for augment")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.what == "windows":
        with tempfile.TemporaryDirectory() as folder:
            _windows(Path(folder), options.size, options.rounds)
    else:
        _augment(options.rounds, options.threads)


# --- windows ----------------------------------------------------------------------------------------------------------


def _windows(folder: Path, size: int, rounds: int) -> None:
    paths = [_write(folder / f"site_{kind}.tif", size, seed) for seed, kind in enumerate(("DSM", "CHM"))]
    from maskwright.data.cache import Cache
    from maskwright.data.sources.rasters import HeightRasters, Site

    started = time.perf_counter()
    site = Site(name="site", dsm=paths[0], chm=paths[1], dtm=None, nodata=None, chm_nodata=None, ground=None)
    source = HeightRasters([site], cache=Cache(folder / "cache"))
    elapsed = time.perf_counter() - started
    print(f"decoding two rasters of {size} x {size}: {2 * size * size / 1e6 / elapsed:.0f} Mpx/s, once")
    contestants = {
        "TorchGeo RandomGeoSampler": _torchgeo(paths[0]),
        "rasterio, opened each time": _rasterio_each(paths[0], size),
        "rasterio, kept open": _rasterio_kept(paths[0], size),
        "numpy memory map": _memory_map(folder, source, size),
        "Maskwright, bare windows": _bare(source, size),
        "Maskwright, finished batches": _batches(source, size),
    }
    _race(
        contestants,
        {name: 64 if "Maskwright" not in name and "numpy" not in name else 1024 for name in contestants},
        rounds,
        "windows",
    )


def _write(path: Path, size: int, seed: int) -> Path:
    import rasterio
    from affine import Affine

    generator = np.random.default_rng(seed)
    profile = {
        "driver": "GTiff", "height": size, "width": size, "count": 1, "dtype": "float32", "crs": "EPSG:32633",
        "transform": Affine(1, 0, 400_000, 0, -1, 5_000_000), "nodata": -9999.0,
        "compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256,
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


def _race(contestants: Contestants, counts: dict[str, int], rounds: int, unit: str) -> None:
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for name, run in contestants.items():
        run(max(8, counts[name] // 8))  # warm
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


def _augment(rounds: int, threads: int) -> None:
    raise SystemExit(f"not yet {rounds} {threads}")


if __name__ == "__main__":
    main()
