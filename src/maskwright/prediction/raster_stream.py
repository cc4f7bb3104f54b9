"""A scene of any height through the network: rows of windows in, finished rows out.

At any time memory holds one row of windows: the input of these rows (:class:`InputStrip`) and the weighted sums of
their probabilities (:class:`~maskwright.prediction.blending.RingBuffer`). Both are as wide as the raster and as high as
a window, whatever the raster's height. Windows are added row by row, left to right, so every pixel sums its windows in
one order and a result does not depend on how windows are grouped into batches, nor on who computed them.

A thread reads the next rows while a :class:`~maskwright.prediction.crew.Crew` computes windows of these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from maskwright.prediction.blending import RingBuffer, WindowAxis
from maskwright.prediction.crew import Crew, in_order

__all__ = ["Band", "InputStrip", "SceneRows", "stream"]

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_PORTION_PX = 2**18  # read or finished at once; several of them wait, and small ones leave no holes in the memory
_PORTION_ROWS = (8, 64)
_PORTIONS_AHEAD = 3


class SceneRows(Protocol):
    """What the stream asks of a scene."""

    @property
    def channels(self) -> int:
        """Bands of the network's input."""

    def rows(self, start: int, stop: int) -> tuple[FloatArray, BoolArray]:
        """Rows start..stop over the full width: values (C, h, W), 0 where not valid; valid (h, W)."""

    def window(self, values: FloatArray, valid: BoolArray) -> FloatArray:
        """Values (C, h, w) of one window as the network takes them; for what depends on the window alone."""


@dataclass(frozen=True)
class Band:
    """Finished rows of a scene.

    Attributes:
        row: The first of them.
        probs: (K, h, W) float32, blended, before any order over heights; meaningless where not valid.
        valid: (h, W) bool.
    """

    row: int
    probs: FloatArray
    valid: BoolArray


class InputStrip:
    """The input of one row of windows. Moving down reads only rows that are new, ahead of time and in a thread.

    Used inside ``with``, which ends the thread.

    Args:
        scene: What is read; by one thread only, and from top to bottom.
        rows: The most that are held.
        width: Columns of the scene.
        moves: (start, stop) of all that will be asked of :meth:`move_to`, in order.

    Attributes:
        values: (C, rows, W) float32; 0 where not valid.
        valid: (rows, W) bool.
    """

    def __init__(self, scene: SceneRows, rows: int, width: int, moves: Sequence[tuple[int, int]]) -> None:
        self.values: FloatArray = np.zeros((scene.channels, rows, width), np.float32)
        self.valid: BoolArray = np.zeros((rows, width), np.bool_)
        self._scene = scene
        self._start = self._stop = 0
        self._thread = ThreadPoolExecutor(1, "reader")
        stops = [0, *(stop for _, stop in moves)]
        self._ahead = (portion for start, stop in pairwise(stops) for portion in _portions(start, stop, width))
        self._coming: deque[tuple[int, int, Future[tuple[FloatArray, BoolArray]]]] = deque()
        self._read_ahead()

    def __enter__(self) -> InputStrip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def move_to(self, start: int, stop: int) -> None:
        """Hold rows start..stop of the scene, at or below the rows held before and no more of them than at first."""
        first = start - self._start
        kept = max(0, self._stop - start)
        for row in range(kept if first else 0):  # row by row: source and target overlap
            self.values[:, row] = self.values[:, row + first]
            self.valid[row] = self.valid[row + first]
        while self._stop < stop:
            above, below, coming = self._coming.popleft()
            values, valid = coming.result()
            self._read_ahead()
            self._stop = below
            new = slice(above - start, below - start)
            self.values[:, new], self.valid[new] = values, valid
        self._start = start

    def _read_ahead(self) -> None:
        while len(self._coming) < _PORTIONS_AHEAD and (portion := next(self._ahead, None)) is not None:
            self._coming.append((*portion, self._thread.submit(self._scene.rows, *portion)))


def stream(
    scene: SceneRows,
    rows: WindowAxis,
    cols: WindowAxis,
    crew: Crew,
    *,
    channels: int,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    first_row: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Band]:
    """Finished rows from top to bottom; together they cover the scene once.

    Args:
        scene: The input.
        rows: Windows down the scene.
        cols: Windows across it.
        crew: Answers windows (B, C, h, w) with what is blended, (B, K, h, w). Windows of one size always come with the
            same B, so that the arithmetic is the same for every window; spare places hold zeros.
        channels: K.
        batch_size: Windows in one pass.
        device: Where probabilities are summed.
        first_row: Rows above it are finished already: they are read, for those who watch the reading, and windows that
            reach below it are computed again; what follows is the same bit for bit.
        progress: Called with (windows done, windows in all).
    """
    ring = RingBuffer(channels, rows.tile_px, cols.length, device)
    row_weights = [torch.from_numpy(weight).to(device) for weight in rows.weights]
    col_weights = [torch.from_numpy(weight).to(device) for weight in cols.weights]
    across, total = len(cols.starts), len(rows.starts) * len(cols.starts)
    finished, valids, done = list(rows.finished()), deque[BoolArray](), 0

    def finish(index: int) -> Iterator[Band]:
        (start, stop), valid = finished[index], valids.popleft()
        for first, last in _portions(start, stop, cols.length):
            probs = ring.take(first, last)
            skip = min(max(0, first_row - first), last - first)
            if skip < last - first:
                yield Band(first + skip, probs[:, skip:], valid[first + skip - start : last - start])
        if progress is not None:
            progress((index + 1) * across, total)

    for (index, batch), probs in in_order(crew, _windows(scene, rows, cols, batch_size, first_row, valids)):
        while done < index:
            yield from finish(done)
            done += 1
        for place, column in enumerate(batch):
            assert probs is not None
            weight = torch.outer(row_weights[index], col_weights[column])
            ring.add(rows.starts[index], cols.starts[column], probs[place].to(device), weight)
        if batch and progress is not None:
            progress(index * across + batch[-1] + 1, total)
    yield from finish(done)


def _portions(start: int, stop: int, width: int) -> Iterator[tuple[int, int]]:
    """The rows in portions: what is read or finished at once is a copy, and copies of whole windows would add up."""
    rows = min(max(_PORTION_PX // width, _PORTION_ROWS[0]), _PORTION_ROWS[1])
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)


def _windows(
    scene: SceneRows, rows: WindowAxis, cols: WindowAxis, batch_size: int, first_row: int, valids: deque[BoolArray]
) -> Iterator[tuple[tuple[int, list[int]], FloatArray | None]]:
    """The windows that hold a valid pixel: row of windows, indices across, input (B, C, h, w); each row at least once.

    What is valid in the rows that a row of windows finishes is added to ``valids``.
    """
    moves = [(start, start + size) for start, size in zip(rows.starts, rows.sizes, strict=True)]
    with InputStrip(scene, rows.tile_px, cols.length, moves) as strip:
        for index, (start, stop) in enumerate(rows.finished()):
            strip.move_to(*moves[index])
            valids.append(strip.valid[: stop - start].copy())
            yield (index, []), None
            if moves[index][1] <= first_row:
                continue
            height = rows.sizes[index]
            for batch in _batches(strip, cols, height, batch_size):
                width = cols.sizes[batch[0]]
                places = batch_size if width == cols.tile_px and len(cols.starts) > 1 else 1
                images = np.zeros((places, scene.channels, height, width), np.float32)
                for place, column in enumerate(batch):
                    columns = slice(cols.starts[column], cols.starts[column] + width)
                    images[place] = scene.window(strip.values[:, :height, columns], strip.valid[:height, columns])
                yield (index, batch), images


def _batches(strip: InputStrip, cols: WindowAxis, height: int, batch_size: int) -> Iterator[list[int]]:
    """Indices of the windows that hold a valid pixel, those of one width together.

    What the network would say about the others is never looked at.
    """
    batch: list[int] = []
    for index, (start, size) in enumerate(zip(cols.starts, cols.sizes, strict=True)):
        if batch and (len(batch) == batch_size or size != cols.tile_px):
            yield batch
            batch = []
        if strip.valid[:height, start : start + size].any():
            batch.append(index)
    if batch:
        yield batch
