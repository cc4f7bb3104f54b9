"""Overlapping windows to one seamless scene: where windows lie, how much each counts, and the buffer that sums them.

The weight of a window is an outer product of two vectors, one for each axis, so everything here is said for one axis.
Along an axis the weights of all windows add up to 1 at every pixel: sums need no division afterwards, and a network
that answers the same everywhere leaves no trace of its windows. What is blended is probabilities, not logits: a window
that is very sure cannot outvote its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["BLENDS", "RingBuffer", "WindowAxis", "plan_axis", "undivided"]

_GAUSSIAN_SIGMA = 0.125  # of the window's side, as MONAI has it


def _hann(size: int) -> npt.NDArray[np.float64]:
    """Sampled at pixel centres: positive at both ends, and two windows half a side apart add up to a constant."""
    wave: npt.NDArray[np.float64] = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    return wave * wave


def _gaussian(size: int) -> npt.NDArray[np.float64]:
    offset = (np.arange(size) + 0.5 - size / 2) / (_GAUSSIAN_SIGMA * size)
    weight: npt.NDArray[np.float64] = np.exp(-0.5 * offset * offset)
    return weight


def _linear(size: int) -> npt.NDArray[np.float64]:
    position = np.arange(size) + 0.5
    weight: npt.NDArray[np.float64] = np.minimum(position, size - position) / (size / 2)
    return weight


def _mean(size: int) -> npt.NDArray[np.float64]:
    return np.ones(size)


BLENDS: dict[str, Callable[[int], npt.NDArray[np.float64]]] = {
    "gaussian": _gaussian,
    "hann": _hann,
    "linear": _linear,
    "mean": _mean,
}


@dataclass(frozen=True)
class WindowAxis:
    """The windows along one axis of a raster.

    Attributes:
        length: Pixels of the raster along this axis.
        starts: First pixel of each window, rising from 0.
        weights: For each window (size,) float32; over all windows they add up to 1 at every pixel.
        halo_px: Pixels at a window's inner sides that do not count, because they see the window's end.
    """

    length: int
    starts: tuple[int, ...]
    weights: tuple[npt.NDArray[np.float32], ...]
    halo_px: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels of each window: the same for all, save the last, which may be smaller."""
        return tuple(len(weight) for weight in self.weights)

    @property
    def tile_px(self) -> int:
        """Pixels of the largest window."""
        return len(self.weights[0])

    def finished(self) -> Iterator[tuple[int, int]]:
        """For each window the pixels (start, stop) that no later window touches."""
        yield from zip(self.starts, (*self.starts[1:], self.length), strict=True)


def plan_axis(
    length: int,
    tile_px: int,
    overlap: float,
    blend: str,
    *,
    multiple_px: int = 1,
    receptive_field_px: int | None = None,
) -> WindowAxis:
    """Lay windows along one axis and weigh them.

    The first window begins at the raster's edge and the last ends there, so that the network meets the edge as it would
    in one pass over the whole raster, with the padding it makes itself. Starts are multiples of ``multiple_px``: then a
    network that halves its input sees the same pixels together in every window. If twice the receptive field fits in
    the overlap, the part of a window that sees its inner ends counts nothing, and the result equals one pass over the
    whole raster up to rounding.

    Args:
        length: Pixels of the raster along the axis.
        tile_px: Wanted size of a window; rounded up to the multiple, at least twice of it. A raster that is not longer
            than that is one window of its own size.
        overlap: Share of a window that its neighbour covers too, 0 <= overlap < 1; rounded to the multiple.
        blend: A key of ``BLENDS``.
        multiple_px: What the network pads its input to, for a U-Net 2**depth.
        receptive_field_px: How far the network looks to each side; None if there is no end to it.
    """
    tile = max(_round_up(tile_px, multiple_px), 2 * multiple_px)
    if length <= tile:
        return WindowAxis(length, (0,), (np.ones(length, np.float32),), 0)
    step = max(multiple_px, (tile - round(overlap * tile)) // multiple_px * multiple_px)
    last = _round_up(length, multiple_px) - tile
    starts = (*range(0, last, step), last)
    fits = receptive_field_px is not None and 2 * receptive_field_px <= tile - step
    halo = receptive_field_px if receptive_field_px is not None and fits else 0
    return WindowAxis(length, starts, _weights(length, starts, BLENDS[blend](tile - 2 * halo), halo), halo)


def undivided(axis: WindowAxis) -> WindowAxis:
    """The same windows, each pixel given whole to the one that weighs most there: for answers that have no mean."""
    all_weights = np.zeros((len(axis.starts), axis.length), np.float32)
    for row, start, weight in zip(all_weights, axis.starts, axis.weights, strict=True):
        row[start : start + len(weight)] = weight
    best = all_weights.argmax(axis=0)
    weights = tuple(
        (best[start : start + len(weight)] == number).astype(np.float32)
        for number, (start, weight) in enumerate(zip(axis.starts, axis.weights, strict=True))
    )
    return replace(axis, weights=weights)


def _weights(
    length: int, starts: tuple[int, ...], profile: npt.NDArray[np.float64], halo: int
) -> tuple[npt.NDArray[np.float32], ...]:
    """The profile of each window between halos, divided by the sum over all windows."""
    raw = []
    for start in starts:
        before = profile[0] if start == 0 else 0.0  # the raster's edge is no end of a window
        after = profile[-1] if start == starts[-1] else 0.0
        weight = np.concatenate([np.full(halo, before), profile, np.full(halo, after)])
        raw.append(weight[: length - start])
    total = np.zeros(length)
    for start, weight in zip(starts, raw, strict=True):
        total[start : start + len(weight)] += weight
    return tuple(
        (weight / total[start : start + len(weight)]).astype(np.float32)
        for start, weight in zip(starts, raw, strict=True)
    )


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class RingBuffer:
    """Weighted sums of a few rows of a scene: as high as one window, whatever the scene's height.

    Row r of the scene lives in slot r modulo the number of slots. Rows must be taken in order, and before windows are
    added that begin below them.

    Attributes:
        shape: (K, slots, columns): what is allocated.
    """

    def __init__(self, channels: int, rows: int, columns: int, device: torch.device | str = "cpu") -> None:
        self._sums = torch.zeros((channels, rows, columns), dtype=torch.float32, device=device)
        self.shape = (channels, rows, columns)

    def add(self, row: int, col: int, values: Tensor, weight: Tensor) -> None:
        """Add ``values`` (K, h, w) times ``weight`` (h, w) with the upper left corner at (row, col) of the scene."""
        columns = slice(col, col + values.shape[2])
        for slots, rows in self._pieces(row, row + values.shape[1]):
            self._sums[:, slots, columns].addcmul_(values[:, rows], weight[rows])

    def take(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """The sums of rows start..stop as (K, stop - start, columns); their slots are free for later rows."""
        taken = np.empty((self.shape[0], stop - start, self.shape[2]), np.float32)
        for slots, rows in self._pieces(start, stop):
            torch.from_numpy(taken[:, rows]).copy_(self._sums[:, slots])
            self._sums[:, slots] = 0
        return taken

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Scene rows start..stop as slices of slots and the matching slices of the rows asked for."""
        row = start
        while row < stop:
            slot = row % self.shape[1]
            count = min(stop - row, self.shape[1] - slot)
            yield slice(slot, slot + count), slice(row - start, row - start + count)
            row += count
