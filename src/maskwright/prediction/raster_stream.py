"""A scene of any height through the network: rows of windows in, finished rows out.

At any time memory holds one row of windows: the input of these rows (:class:`InputStrip`) and the weighted sums of
their probabilities (:class:`~maskwright.prediction.blending.RingBuffer`). Both are as wide as the raster and as high as
a window, whatever the raster's height. Windows are added row by row, left to right, so every pixel sums its windows in
one order and a result does not depend on how windows are grouped into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskwright.prediction.blending import RingBuffer, WindowAxis

__all__ = ["PORTION_ROWS", "Band", "InputStrip", "SceneRows", "stream"]

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

PORTION_ROWS = 128


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
    """Finished rows of a scene; ``valid`` is a view that the next rows overwrite.

    Attributes:
        row: The first of them.
        probs: (K, h, W) float32, blended, before any order over heights; meaningless where not valid.
        valid: (h, W) bool.
    """

    row: int
    probs: FloatArray
    valid: BoolArray


class InputStrip:
    """The input of one row of windows. Moving down reads only rows that are new.

    Attributes:
        values: (C, rows, W) float32; 0 where not valid.
        valid: (rows, W) bool.
    """

    def __init__(self, scene: SceneRows, rows: int, width: int) -> None:
        self.values: FloatArray = np.zeros((scene.channels, rows, width), np.float32)
        self.valid: BoolArray = np.zeros((rows, width), np.bool_)
        self._scene = scene
        self._start = self._stop = 0

    def move_to(self, start: int, stop: int) -> None:
        """Hold rows start..stop of the scene, at or below the rows held before and no more of them than at first."""
        first = start - self._start
        kept = max(0, self._stop - start)
        for row in range(kept if first else 0):  # row by row: source and target overlap
            self.values[:, row] = self.values[:, row + first]
            self.valid[row] = self.valid[row + first]
        for first, last in _portions(start + kept, stop):
            new = slice(first - start, last - start)
            self.values[:, new], self.valid[new] = self._scene.rows(first, last)
        self._start, self._stop = start, stop


def stream(
    scene: SceneRows,
    rows: WindowAxis,
    cols: WindowAxis,
    answer: Callable[[Tensor], Tensor],
    *,
    channels: int,
    batch_size: int,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Band]:
    """Finished rows from top to bottom; together they cover the scene once.

    Args:
        scene: The input.
        rows: Windows down the scene.
        cols: Windows across it.
        answer: (B, C, h, w) float32 on the CPU to probabilities (B, K, h, w) on ``device``. Windows of one size always
            come with the same B, so that the arithmetic is the same for every window; spare places hold old windows.
        channels: K.
        batch_size: Windows in one pass.
        device: Where probabilities are summed.
        progress: Called with (windows done, windows in all).
    """
    ring = RingBuffer(channels, rows.tile_px, cols.length, device)
    strip = InputStrip(scene, rows.tile_px, cols.length)
    row_weights = [torch.from_numpy(weight).to(device) for weight in rows.weights]
    col_weights = [torch.from_numpy(weight).to(device) for weight in cols.weights]
    images: dict[int, FloatArray] = {}
    across, total = len(cols.starts), len(rows.starts) * len(cols.starts)
    for index, (start, stop) in enumerate(rows.finished()):
        height = rows.sizes[index]
        strip.move_to(start, start + height)
        for batch in _batches(strip, cols, height, batch_size):
            image = _filled(images, scene, strip, cols, batch, height, batch_size)
            probs = answer(torch.from_numpy(image))
            for place, column in enumerate(batch):
                weight = torch.outer(row_weights[index], col_weights[column])
                ring.add(start, cols.starts[column], probs[place], weight)
            if progress is not None:
                progress(index * across + batch[-1] + 1, total)
        for first, last in _portions(start, stop):
            yield Band(first, ring.take(first, last), strip.valid[first - start : last - start])
        if progress is not None:
            progress((index + 1) * across, total)


def _portions(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The rows in portions: what is read or finished at once is a copy, and copies of whole windows would add up."""
    for first in range(start, stop, PORTION_ROWS):
        yield first, min(first + PORTION_ROWS, stop)


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


def _filled(
    images: dict[int, FloatArray],
    scene: SceneRows,
    strip: InputStrip,
    cols: WindowAxis,
    batch: Sequence[int],
    height: int,
    batch_size: int,
) -> FloatArray:
    """The windows of a batch in an array that is kept for the next batch of this width."""
    width = cols.sizes[batch[0]]
    image = images.get(width)
    if image is None or image.shape[2] != height:
        places = batch_size if width == cols.tile_px and len(cols.starts) > 1 else 1
        image = images[width] = np.zeros((places, scene.channels, height, width), np.float32)
    for place, index in enumerate(batch):
        columns = slice(cols.starts[index], cols.starts[index] + width)
        image[place] = scene.window(strip.values[:, :height, columns], strip.valid[:height, columns])
    return image
