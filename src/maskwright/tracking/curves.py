"""StepCurves: any number of training steps as a few thousand points, each with mean, least and most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskwright.tracking.step_rows import StepColumns

__all__ = ["Curve", "StepCurves"]

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A number over the run; a point stands for the rows of ``width`` updates.

    Attributes:
        step: (P,) the first of its updates for each point, rising.
        mean: (P,) mean of the finite values; nan if there are none.
        low: (P,) the least finite value.
        high: (P,) the largest finite value.
        missing: (P,) rows whose value is not finite.
        width: Updates to a point.
    """

    step: _Ints
    mean: _Floats
    low: _Floats
    high: _Floats
    missing: _Ints
    width: int

    def __len__(self) -> int:
        return len(self.step)


class StepCurves:
    """Gathers step rows; memory stays the same however many come.

    Points are bins of equal numbers of updates. When the run outgrows them, two and two become one.

    Args:
        names: The values to keep.
        points: Bins at most, an even number; at least half of them are in use once the run is longer than that.
    """

    def __init__(self, names: Sequence[str] = ("loss", "grad_norm", "lr"), points: int = 4096) -> None:
        self.names = tuple(names)
        self.points = points
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.width = 1
        self.rows = 0
        self.attempt = 0
        self._rows = np.zeros(self.points, np.int64)
        shape = (len(self.names), self.points)
        self._count = np.zeros(shape, np.int64)
        self._sum = np.zeros(shape)
        self._low = np.full(shape, np.inf)
        self._high = np.full(shape, -np.inf)

    def add(self, rows: StepColumns) -> None:
        """Take rows in. Where a new attempt begins, what former ones did from that update on is dropped."""
        if not len(rows):
            return
        newest = np.maximum.accumulate(np.maximum(rows.attempt, self.attempt))
        bounds = np.flatnonzero(np.diff(newest, prepend=self.attempt))
        pieces = np.unique(np.concatenate(([0], bounds, [len(rows)])))
        for start, stop in zip(pieces[:-1].tolist(), pieces[1:].tolist(), strict=True):
            if newest[start] > self.attempt:
                self.attempt = int(newest[start])
                self._drop_from(int(rows.global_step[start]))
            piece = slice(start, stop)
            kept = (rows.attempt[piece] == self.attempt) & (rows.global_step[piece] >= 0)
            values = np.stack([rows.values[name][piece][kept] for name in self.names])
            self._put(rows.global_step[piece][kept], values)

    def curve(self, name: str) -> Curve:
        """The points of a value so far."""
        row = self.names.index(name)
        used = np.flatnonzero(self._rows)
        count = self._count[row, used]
        some = count > 0
        mean = np.full(len(used), np.nan)
        mean[some] = self._sum[row, used][some] / count[some]
        return Curve(
            step=used * self.width,
            mean=mean,
            low=np.where(some, self._low[row, used], np.nan),
            high=np.where(some, self._high[row, used], np.nan),
            missing=self._rows[used] - count,
            width=self.width,
        )

    def _put(self, steps: _Ints, values: _Floats) -> None:
        """Add (N,) updates and their (names, N) values to the bins."""
        if not len(steps):
            return
        self.rows += len(steps)
        while steps.max() // self.width >= self.points:
            self._halve()
        bins = steps // self.width
        if np.any(np.diff(bins) < 0):
            order = np.argsort(bins, kind="stable")
            bins, values = bins[order], values[:, order]
        starts = np.flatnonzero(np.diff(bins, prepend=-1))
        at = bins[starts]
        finite = np.isfinite(values)
        self._rows[at] += np.diff(starts, append=len(bins))
        self._count[:, at] += np.add.reduceat(finite, starts, axis=1, dtype=np.int64)
        self._sum[:, at] += np.add.reduceat(np.where(finite, values, 0.0), starts, axis=1)
        low = np.minimum.reduceat(np.where(finite, values, np.inf), starts, axis=1)
        high = np.maximum.reduceat(np.where(finite, values, -np.inf), starts, axis=1)
        self._low[:, at] = np.minimum(self._low[:, at], low)
        self._high[:, at] = np.maximum(self._high[:, at], high)

    def _halve(self) -> None:
        """Two and two bins become one."""
        self.width *= 2
        half = self.points // 2
        for array, join, empty in (
            (self._rows, np.add, 0),
            (self._count, np.add, 0),
            (self._sum, np.add, 0.0),
            (self._low, np.minimum, np.inf),
            (self._high, np.maximum, -np.inf),
        ):
            array[..., :half] = join(array[..., 0::2], array[..., 1::2])
            array[..., half:] = empty

    def _drop_from(self, step: int) -> None:
        """Forget ``step`` and what follows; a bin that also holds updates before it goes whole."""
        first = max(step, 0) // self.width
        self._rows[first:] = 0
        self._count[:, first:] = 0
        self._sum[:, first:] = 0.0
        self._low[:, first:] = np.inf
        self._high[:, first:] = -np.inf
