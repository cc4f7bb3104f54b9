"""Scores of thin things such as vessels and cracks: are they followed along their length, and in one piece."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.metrics.streams import masks_of, with_means

__all__ = ["SkeletonMeter", "betti_numbers", "thinned"]

Bools = NDArray[np.bool_]

_AROUND = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))  # counter-clockwise from the right
_EIGHT = ndimage.generate_binary_structure(2, 2)


def thinned(mask: NDArray[np.bool_]) -> Bools:
    """Thin a mask to lines one pixel wide, keeping ends, pieces and holes.

    Layer by layer, boundary pixels are removed that are neither ends of lines nor hold anything together (simple
    points). They are removed in four turns, by even and odd row and column, so no two neighbours go at once and the
    topology is kept exactly.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool, part of the mask. Lines are 8-connected.
    """
    thin = np.pad(mask, 1)
    flat, width = thin.ravel(), thin.shape[1]  # a view: indices are quicker than shifted images, for lines are few
    around = np.array([row * width + col for row, col in _AROUND])
    active = _outermost(flat, np.flatnonzero(flat), around)
    while active.size:
        rows, cols = np.divmod(active, width)
        turns = rows % 2 * 2 + cols % 2
        removed = [_remove(flat, active[turns == turn], around) for turn in (3, 0, 2, 1)]
        near = np.unique(np.concatenate(removed)[:, None] + around)  # elsewhere nothing has changed
        active = _outermost(flat, near[flat[near]], around)
    return thin[1:-1, 1:-1].copy()


def betti_numbers(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Pieces and holes of a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        Number of 8-connected pieces, and of holes: 4-connected background that does not reach the edge of the image.
    """
    pieces = ndimage.label(mask, _EIGHT)[1]
    background = ndimage.label(np.pad(~mask, 1, constant_values=True))[1]
    return int(pieces), int(background) - 1


class SkeletonMeter:
    """clDice and Betti errors over a data set.

    Skeleton pixels are counted over all images before the share is taken; Betti errors are means over images. Pixels
    that are not valid are background in both masks.

    Args:
        names: Names of the K channels in results.

    Raises:
        ConfigError: If names are missing or one is given twice.

    Source: arXiv:2003.07311 (clDice).
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        if not self.names or len(set(self.names)) != len(self.names):
            raise ConfigError(f"names: {list(self.names)} must be different names, at least one.")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        # skeleton of the called mask: inside the true one, whole; of the true mask likewise; Betti errors; images
        self._sums = np.zeros((len(self.names), 7), dtype=np.int64)

    def update(self, pred: Tensor, target: Tensor, valid: Tensor) -> None:
        """Add a batch of images.

        Args:
            pred: (B, K, H, W) bool, True where called.
            target: (B, K, H, W) bool, or numbers 0 and 1.
            valid: (B, H, W) bool; other pixels count nowhere. Images without a valid pixel are left out.

        Raises:
            ShapeError: If sizes do not fit together.
            DataError: If a mask holds something else than 0 and 1.
        """
        for k, called, true, counted in masks_of(pred, target, valid, len(self.names)):
            if not counted.any():
                continue
            called_lines, true_lines = thinned(called), thinned(true)
            betti = np.abs(np.subtract(betti_numbers(called), betti_numbers(true)))
            lines = ((called_lines & true).sum(), called_lines.sum(), (true_lines & called).sum(), true_lines.sum())
            self._sums[k] += np.array([*lines, *betti, 1], dtype=np.int64)

    def merge(self, other: SkeletonMeter) -> None:
        """Add the images of another meter.

        Raises:
            ConfigError: If it has other names.
        """
        if self.names != other.names:
            raise ConfigError(f"Skeletons of {other.names} and {self.names} cannot be merged.")
        self._sums += other._sums

    def compute(self) -> dict[str, float]:
        """Scores of the whole data set.

        Returns:
            ``topology_precision`` (share of the called skeleton inside the true mask), ``topology_recall`` (share of
            the true skeleton inside the called mask), ``cldice`` their harmonic mean; ``betti0_error`` and
            ``betti1_error``: mean difference in the number of pieces and of holes per image. The mean over channels,
            and each as ``cldice@name``; nan where not defined.
        """
        return with_means({name: _scores(*sums) for name, sums in zip(self.names, self._sums.tolist(), strict=True)})


def _scores(
    called_inside: int, called: int, true_inside: int, true: int, pieces: int, holes: int, images: int
) -> dict[str, float]:
    precision, recall = _share(called_inside, called), _share(true_inside, true)
    if called and true:
        cldice = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    else:
        cldice = 0.0 if called or true else math.nan
    return {
        "topology_precision": precision,
        "topology_recall": recall,
        "cldice": cldice,
        "betti0_error": _share(pieces, images),
        "betti1_error": _share(holes, images),
    }


@cache
def _removable() -> Bools:
    """(256,) by the code of the eight neighbours: a simple point (Hilditch's crossing number is 1), and no end."""
    table = np.zeros(256, dtype=np.bool_)
    for code in range(256):
        x = [bool(code >> n & 1) for n in range(8)]
        crossings = sum(not x[n] and (x[n + 1] or x[(n + 2) % 8]) for n in (0, 2, 4, 6))
        table[code] = crossings == 1 and sum(x) > 1
    return table


def _outermost(flat: Bools, pixels: NDArray[np.intp], around: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those pixels of the mask that share a side with the background."""
    inside: Bools = flat[pixels[:, None] + around[::2]].all(axis=1)
    return np.asarray(pixels[~inside])


def _remove(flat: Bools, pixels: NDArray[np.intp], around: NDArray[np.intp]) -> NDArray[np.intp]:
    """Clear the removable ones of pixels that are no neighbours of each other, and return them."""
    codes = flat[pixels[:, None] + around] @ (1 << np.arange(8))
    gone: NDArray[np.intp] = pixels[_removable()[codes]]
    flat[gone] = False
    return gone


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
