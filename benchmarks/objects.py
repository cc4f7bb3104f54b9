"""From maps to trees: seconds to group a tile with a thousand crowns, and memory and seconds for thousands of trees.

    python benchmarks/objects.py

Times are those of one thread and the least of several repeats; memory is the most that numpy and its kin held beyond
the maps themselves.
"""

from __future__ import annotations

import argparse
import resource
import time
import tracemalloc

import numpy as np
from rows import Row, add_json_option, keep_rows

from maskwright.models.grouping import GroupSettings, group

GOAL_S = 0.3  # 1,000 crowns in a tile of 1024 px


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=1024, help="rows and columns of the tile")
    parser.add_argument("--crowns", type=int, nargs="+", default=[100, 1000, 5000], help="crowns in the tile")
    parser.add_argument("--repeats", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args()
    rows = [row for crowns in options.crowns for row in _measured(options.size, crowns, options.repeats)]
    keep_rows(options.json, rows)


def make_maps(size: int, crowns: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Perfect maps of round crowns on a grid, a little displaced, with two classes: what a good network answers."""
    rng = np.random.default_rng(seed)
    across = int(np.ceil(np.sqrt(crowns)))
    step = size / across
    corner = np.stack(np.meshgrid(np.arange(across), np.arange(across), indexing="ij"), axis=-1).reshape(-1, 2)[:crowns]
    places = np.clip((corner + 0.5) * step + rng.uniform(-0.1, 0.1, (crowns, 2)) * step, 1, size - 2)
    maps = {
        "semantic": np.zeros((3, size, size), np.float32),
        "centre": np.full((2, size, size), 1e-3, np.float32),
        "offset": np.zeros((2, size, size), np.float32),
        "diameter": np.zeros((1, size, size), np.float32),
    }
    maps["semantic"][0] = 1
    radius = 0.45 * step
    reach = int(radius) + 1
    for number, (y, x) in enumerate(places):
        kind = number % 2
        rows = slice(max(int(y) - reach, 0), min(int(y) + reach + 1, size))
        cols = slice(max(int(x) - reach, 0), min(int(x) + reach + 1, size))
        down, right = np.mgrid[rows, cols]
        far = np.hypot(down - y, right - x)
        inside = far <= radius
        np.maximum(
            maps["centre"][kind, rows, cols], np.exp(-0.5 * (far / 2) ** 2), out=maps["centre"][kind, rows, cols]
        )
        maps["semantic"][0, rows, cols][inside] = 0
        maps["semantic"][1 + kind, rows, cols][inside] = 1
        maps["offset"][0, rows, cols][inside] = (x - right)[inside]
        maps["offset"][1, rows, cols][inside] = (y - down)[inside]
        maps["diameter"][0, rows, cols][inside] = 2 * radius
    return maps


def _measured(size: int, crowns: int, repeats: int) -> list[Row]:
    maps, settings = make_maps(size, crowns), GroupSettings(object_ids=(1, 2))
    found = group(maps, settings)
    seconds = []
    for _ in range(repeats):
        start = time.thread_time()
        group(maps, settings)
        seconds.append(time.thread_time() - start)
    tracemalloc.start()
    group(maps, settings)
    held = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    name = f"group {crowns} crowns, {size} px"
    print(f"{name}: {len(found)} found in {min(seconds):.3f} s, {held:.0f} MiB beyond the maps; process {peak:.0f} MiB")
    goal = GOAL_S if crowns <= 1000 and size <= 1024 else None
    return [Row(name, min(seconds), "s", goal=goal, at_most=True), Row(f"{name}, memory", held, "MiB", at_most=True)]


if __name__ == "__main__":
    main()
