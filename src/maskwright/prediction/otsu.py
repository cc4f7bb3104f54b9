"""A threshold taken from the probabilities themselves: the cut that best tells two heaps of them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from maskwright.prediction.geotiff import open_raster

__all__ = ["otsu_of_raster", "otsu_threshold"]

_BINS = 1024
_BAND_PX = 2**20


def otsu_threshold(counts: npt.NDArray[np.int64]) -> float | None:
    """The cut between two bins that maximises the variance between what lies below and above it.

    Args:
        counts: (n,) values in each of n bins of equal width from 0 to 1.

    Returns:
        The cut, between 0 and 1: the middle of the cuts that are as good; None if all values lie in one bin.

    Source: Otsu 1979, A threshold selection method from gray-level histograms.
    """
    if np.count_nonzero(counts) < 2:
        return None
    middles = (np.arange(len(counts)) + 0.5) / len(counts)
    below, total = np.cumsum(counts)[:-1], counts.sum()
    above = total - below
    sums = np.cumsum(counts * middles)
    both = (below > 0) & (above > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
    between = np.where(both, below * (above / total) * np.square(np.nan_to_num(apart)), -1.0)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float((best.mean() + 1) / len(counts))


def otsu_of_raster(probabilities: Path) -> list[float | None]:
    """Otsu's threshold for each band of a raster of probabilities, and last the one of all bands together.

    Args:
        probabilities: NaN where not valid.
    """
    with open_raster(probabilities) as raster:
        counts = np.zeros((raster.count, _BINS), np.int64)
        rows = max(1, _BAND_PX // raster.width)
        for start in range(0, raster.height, rows):
            window = ((start, min(start + rows, raster.height)), (0, raster.width))
            for band in range(raster.count):
                values = raster.read(band + 1, window=window)
                bins = np.minimum((values[np.isfinite(values)] * _BINS).astype(np.int64), _BINS - 1)
                counts[band] += np.bincount(bins, minlength=_BINS)
    return [otsu_threshold(each) for each in (*counts, counts.sum(axis=0))]
