"""Mean, deviation, range and percentiles of every band of a data set, in one pass and in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskwright.errors import DataError

__all__ = ["PERCENTILES", "BandStatistics", "band_statistics"]

PERCENTILES = (0.0, 0.1, 0.5, *(float(percent) for percent in range(1, 100)), 99.5, 99.9, 100.0)
_BINS = 65_536
_KEPT = 2**20  # values of a band kept as they are; until then percentiles are exact
_CHUNK = 2**22  # values looked at together, so that a large piece needs little memory


@dataclass(frozen=True)
class BandStatistics:
    """What the values of each band look like; every tuple has one entry for each band.

    Attributes:
        count: Values counted.
        mean: Their mean.
        std: Their standard deviation (of the whole, not of a sample).
        min: Least value.
        max: Largest value.
        percentiles: For each band the values at :data:`PERCENTILES`, as numpy's ``linear`` method gives them.
        outlier_share: Share 0..1 of values beyond 1.5 times the distance of the quartiles outside them.
    """

    count: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    percentiles: tuple[tuple[float, ...], ...]
    outlier_share: tuple[float, ...]

    @property
    def bands(self) -> int:
        return len(self.count)

    def percentile(self, percent: float) -> tuple[float, ...]:
        """The value at a percentile 0..100 of each band; on a line between two of :data:`PERCENTILES`."""
        return tuple(float(np.interp(percent, PERCENTILES, band)) for band in self.percentiles)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON takes."""
        return {
            name: [list(item) if isinstance(item, tuple) else item for item in getattr(self, name)] for name in _FIELDS
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BandStatistics:
        """The inverse of :meth:`to_dict`.

        Raises:
            DataError: If something is missing or of another length.
        """
        try:
            columns = {name: list(values[name]) for name in _FIELDS}
            rows = [tuple(float(value) for value in row) for row in columns["percentiles"]]
            lengths = {len(column) for column in columns.values()}
            if len(lengths) != 1 or any(len(row) != len(PERCENTILES) for row in rows):
                raise ValueError("lists of different lengths")
            numbers = {name: tuple(float(value) for value in columns[name]) for name in _NUMBERS}
            return cls(count=tuple(int(value) for value in columns["count"]), percentiles=tuple(rows), **numbers)
        except (KeyError, TypeError, ValueError) as cause:
            raise DataError(
                f"Statistics of bands cannot be understood ({cause}). They are damaged or of another version; "
                "remove them, they are computed again."
            ) from cause


_NUMBERS = ("mean", "std", "min", "max", "outlier_share")
_FIELDS = ("count", "mean", "std", "min", "max", "percentiles", "outlier_share")


def band_statistics(pieces: Iterable[tuple[np.ndarray, np.ndarray]]) -> BandStatistics:
    """Statistics of the pixels that count.

    Whole numbers of up to 16 bits are counted value by value: everything is exact. Other types: count, least, largest,
    mean and deviation are exact to rounding; percentiles are exact up to 1,048,576 values of a band and beyond that
    off by at most 1/16,000 of the distance between the least and the largest value.

    Args:
        pieces: Values (C, H, W) and valid (H, W) bool, one after the other; the same C and type throughout. Values
            that are not finite never count.

    Raises:
        DataError: If no pixel of a band counts, or the pieces differ in bands or type.
    """
    counters: list[_Whole | _Real] | None = None
    dtype = np.dtype(np.uint8)
    for values, valid in pieces:
        if counters is None:
            dtype = values.dtype
            make: type[_Whole] | type[_Real] = _Whole if dtype.kind in "iub" and dtype.itemsize <= 2 else _Real
            counters = [make(dtype) for _ in values]
        if len(values) != len(counters or ()) or values.dtype != dtype:
            raise DataError(
                f"A piece has {len(values)} bands of type {values.dtype}, those before it had {len(counters or ())} of "
                f"type {dtype}. Images of one data set need the same bands and type; choose them in data.bands."
            )
        for band, counter in zip(values, counters or (), strict=True):
            for chunk in _chunks(band, valid):
                counter.add(chunk)
    results = [counter.result() for counter in counters or ()]
    if not results or any(result is None for result in results):
        raise DataError(
            "No pixel of the training part counts, so there is nothing to take statistics of. Check the nodata value "
            "and the split."
        )
    rows = [result for result in results if result is not None]
    return BandStatistics(**{name: tuple(row[name] for row in rows) for name in _FIELDS})


def _chunks(band: np.ndarray, valid: np.ndarray) -> Iterator[np.ndarray]:
    """The values that count, flat, a few rows at a time."""
    rows = max(1, _CHUNK // max(1, band.shape[1]))
    for row in range(0, len(band), rows):
        mask = valid[row : row + rows]
        values = band[row : row + rows]
        yield values.ravel() if mask.all() else values[mask]


class _Whole:
    """Counts of every value of a type of at most 16 bits."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._lowest = 0 if dtype.kind == "b" else int(np.iinfo(dtype).min)
        size = 2 if dtype.kind == "b" else int(np.iinfo(dtype).max) - self._lowest + 1
        self._counts = np.zeros(size, np.int64)

    def add(self, values: np.ndarray) -> None:
        indices = values if self._lowest == 0 else values.astype(np.int32) - self._lowest
        found = np.bincount(indices)
        self._counts[: len(found)] += found

    def result(self) -> dict[str, Any] | None:
        present = np.flatnonzero(self._counts)
        if not present.size:
            return None
        counts, values = self._counts[present], present + self._lowest
        count = int(counts.sum())
        mean = int((values * counts).sum()) / count  # whole numbers until here
        std = math.sqrt(float((counts * (values - mean) ** 2).sum()) / count)
        ends = np.cumsum(counts)

        def value_at(rank: int) -> float:
            return float(values[np.searchsorted(ends, rank, side="right")])

        percentiles = [_between_ranks(value_at, percent, count) for percent in PERCENTILES]
        low, high = _fences(percentiles)
        outliers = int(counts[(values < low) | (values > high)].sum())
        return _row(count, mean, std, float(values[0]), float(values[-1]), percentiles, outliers / count)


class _Real:
    """Moments merged piece by piece (Chan), and values kept, then counted in bins that double their width as needed."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._low, self._high = math.inf, -math.inf
        self._kept: list[np.ndarray] = []
        self._bins = np.zeros(0, np.int64)
        self._start = self._width = 0.0

    def add(self, values: np.ndarray) -> None:
        values = values[np.isfinite(values)].astype(np.float64)
        if not values.size:
            return
        mean = float(values.mean())
        squares = float(np.square(values - mean).sum())
        total = self._count + values.size
        step = mean - self._mean
        self._mean += step * values.size / total
        self._squares += squares + step * step * self._count * values.size / total
        self._count = total
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        if self._bins.size:
            self._sort(values)
            return
        self._kept.append(values)
        if self._count > _KEPT:
            self._begin_bins()

    def result(self) -> dict[str, Any] | None:
        if self._count == 0:
            return None
        if self._bins.size:
            percentiles = self._from_bins()
            low, high = _fences(percentiles)
            edges = self._start + np.arange(_BINS + 1) * self._width
            outliers = int(self._bins[(edges[1:] < low) | (edges[:-1] > high)].sum())
        else:
            values = np.concatenate(self._kept)
            percentiles = [float(value) for value in np.percentile(values, PERCENTILES)]
            low, high = _fences(percentiles)
            outliers = int(np.count_nonzero((values < low) | (values > high)))
        std = math.sqrt(self._squares / self._count)
        return _row(self._count, self._mean, std, self._low, self._high, percentiles, outliers / self._count)

    def _begin_bins(self) -> None:
        values = np.concatenate(self._kept)
        self._kept.clear()
        least = max(abs(self._low), abs(self._high), 1.0) * 1e-12  # bins of no width for a constant band
        self._start, self._width = self._low, max((self._high - self._low) / (_BINS - 1), least)
        self._bins = np.zeros(_BINS, np.int64)
        self._sort(values)

    def _sort(self, values: np.ndarray) -> None:
        while self._high >= self._start + self._width * _BINS:
            self._bins = self._halved(self._bins, upwards=True)
            self._width *= 2.0
        while self._low < self._start:
            self._bins = self._halved(self._bins, upwards=False)
            self._start -= self._width * _BINS
            self._width *= 2.0
        places = ((values - self._start) / self._width).astype(np.int64)
        self._bins += np.bincount(np.clip(places, 0, _BINS - 1), minlength=_BINS)

    @staticmethod
    def _halved(bins: np.ndarray, *, upwards: bool) -> np.ndarray:
        pairs, rest = bins.reshape(-1, 2).sum(axis=1), np.zeros(_BINS // 2, np.int64)
        return np.concatenate([pairs, rest] if upwards else [rest, pairs])

    def _from_bins(self) -> list[float]:
        ends = np.cumsum(self._bins)

        def value_at(rank: int) -> float:
            place = int(np.searchsorted(ends, rank, side="right"))
            inside = (rank - (ends[place] - self._bins[place]) + 0.5) / self._bins[place]
            return float(min(max(self._start + (place + inside) * self._width, self._low), self._high))

        percentiles = [_between_ranks(value_at, percent, self._count) for percent in PERCENTILES]
        percentiles[0], percentiles[-1] = self._low, self._high
        return percentiles


def _between_ranks(value_at: Callable[[int], float], percent: float, count: int) -> float:
    """The percentile on the line between the two values around its rank, as numpy's ``linear`` method has it."""
    rank = percent / 100.0 * (count - 1)
    low, high = value_at(math.floor(rank)), value_at(math.ceil(rank))
    return low + (high - low) * (rank - math.floor(rank))


def _fences(percentiles: list[float]) -> tuple[float, float]:
    lower, upper = percentiles[PERCENTILES.index(25.0)], percentiles[PERCENTILES.index(75.0)]
    return lower - 1.5 * (upper - lower), upper + 1.5 * (upper - lower)


def _row(
    count: int, mean: float, std: float, low: float, high: float, percentiles: list[float], outlier_share: float
) -> dict[str, Any]:
    return {
        "count": count,
        "mean": mean,
        "std": std,
        "min": low,
        "max": high,
        "percentiles": tuple(percentiles),
        "outlier_share": outlier_share,
    }
