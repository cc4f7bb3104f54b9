"""What needs no training, counted on the same ground as the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.metrics import SCORES
from maskwright.metrics.baselines import everything_counts, nothing_counts, prevalence_counts, pseudo_canopy

if TYPE_CHECKING:
    from maskwright.data.sources.rasters import HeightRasters
    from maskwright.types import Place

__all__ = ["Progress", "class_baselines", "gap_baselines", "pseudo_canopies", "pseudo_counts"]

Progress = Callable[[int, int, str], None]
Counts = NDArray[np.int64]
_IOU = SCORES["iou"][0]


def gap_baselines(counts: Counts, train_share: NDArray[np.float64], pseudo: Counts) -> dict[str, Counts]:
    """Counts (N, K, 4) of four answers to where gaps are."""
    return {
        "nothing is a gap": nothing_counts(counts),
        "everything is a gap": everything_counts(counts),
        "a coin with the training share": prevalence_counts(counts, train_share),
        "surface minus its opening": pseudo,
    }


def class_baselines(counts: Counts, train_share: NDArray[np.float64], *, exclusive: bool) -> dict[str, Counts]:
    """Counts (N, K, 4) of answers that look at no image.

    Args:
        counts: Of any answer on the same images; only the true classes are read.
        train_share: (K,) share of the training pixels of each class, 0..1.
        exclusive: True for classes that exclude each other, which have a most common one.
    """
    answers = {
        "nothing": nothing_counts(counts),
        "everything": everything_counts(counts),
        "a coin with the training share": prevalence_counts(counts, train_share),
    }
    if exclusive:
        most = int(np.argmax(train_share))
        common = nothing_counts(counts)
        common[:, most] = everything_counts(counts)[:, most]
        answers["the most common class"] = common
    return answers


def pseudo_counts(
    source: HeightRasters,
    tuned_on: tuple[HeightRasters, Sequence[Place]],
    places: Sequence[Place],
    heights: Sequence[float],
    windows_m: Sequence[float],
    progress: Progress | None,
) -> tuple[dict[float, float], Counts]:
    """Counts (N, K, 4) of the pseudo-CHM with, for each height, the window that did best on other ground.

    Args:
        source: The sites.
        tuned_on: Sites and tiles on which the window is chosen.
        places: N tiles to count.
        heights: K heights in metres.
        windows_m: Sides of the windows to try.
        progress: Called with (done, total, what).

    Returns:
        The window of each height, and the counts.
    """
    tuning = np.zeros((len(windows_m), len(heights), 4), dtype=np.int64)
    teacher, own = tuned_on
    total = len(own) + len(places)
    for done, place in enumerate(own, start=1):
        tuning += _tile_counts(teacher, place, heights, windows_m)
        if progress is not None:
            progress(done, total, "baselines")
    best = np.nan_to_num(_IOU(tuning), nan=-1.0).argmax(axis=0)  # (windows, K) to (K,)
    counts = np.empty((len(places), len(heights), 4), dtype=np.int64)
    for index, place in enumerate(places):
        counts[index] = _tile_counts(source, place, heights, windows_m)[best, np.arange(len(heights))]
        if progress is not None:
            progress(len(own) + index + 1, total, "baselines")
    return {height: windows_m[best[k]] for k, height in enumerate(heights)}, counts


def pseudo_canopies(
    source: HeightRasters, place: Place, windows_m: Sequence[float]
) -> Iterator[NDArray[np.floating[Any]]]:
    """The canopy guessed with each window, (H, W) metres; the opening sees the ground around the tile too."""
    pixel_size_m = _pixel_sizes(source)[place.scene]
    sizes = [max(3, round(window / pixel_size_m)) for window in windows_m]
    margin = max(sizes)
    surface = source.surface(place.scene, place.window.grown(margin))
    for size in sizes:
        yield pseudo_canopy(surface, size)[margin:-margin, margin:-margin]


def _tile_counts(
    source: HeightRasters, place: Place, heights: Sequence[float], windows_m: Sequence[float]
) -> NDArray[np.int64]:
    """Counts (windows, K, 4) of one tile."""
    _, canopy, valid = source.sample(place.scene, place.window)
    valid_pixels = np.count_nonzero(valid)
    counts = np.empty((len(windows_m), len(heights), 4), dtype=np.int64)
    for index, pseudo in enumerate(pseudo_canopies(source, place, windows_m)):
        for k, height in enumerate(heights):
            said, true = (pseudo < height) & valid, (canopy < height) & valid
            hits = np.count_nonzero(said & true)
            said_pixels, true_pixels = np.count_nonzero(said), np.count_nonzero(true)
            rest = valid_pixels - said_pixels - true_pixels + hits
            counts[index, k] = (hits, said_pixels - hits, true_pixels - hits, rest)
    return counts


def _pixel_sizes(source: HeightRasters) -> Mapping[str, float]:
    return {scene.name: scene.grid.pixel_size_m for scene in source.scenes}
