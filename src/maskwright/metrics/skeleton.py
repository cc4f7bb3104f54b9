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

    Layer by layer, boundary pixels are removed that are neither ends of lines nor hold anything together, those that
    face right or down before those that face left or up.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool, part of the mask. Lines are 8-connected.

    Source: Guo and Hall, "Parallel thinning with two-subiteration algorithms", Communications of the ACM 32 (1989).
    """
    thin = np.pad(mask, 1)
    flat, width = thin.ravel(), thin.shape[1]  # a view: indices are quicker than shifted images, for lines are few
    around = np.array([row * width + col for row, col in _AROUND])
    active = _outermost(flat, np.flatnonzero(flat), around)
    while active.size:
        first = _remove(flat, active, around, _removable()[0])
        uncovered = _outermost(flat, _beside(flat, first, around), around)
        second = _remove(flat, np.union1d(active[flat[active]], uncovered), around, _removable()[1])
        active = _outermost(flat, _beside(flat, np.concatenate([first, second]), around), around)  # the rest is settled
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
    """(2, 256) by turn and code of the eight neighbours: simple (Hilditch's crossing number is 1), no end, facing so.

    Ends are told by pairs of neighbours, not single ones, so that the end of a line two pixels wide is one as well.
    """
    table = np.zeros((2, 256), dtype=np.bool_)
    for code in range(256):
        x = [bool(code >> n & 1) for n in range(8)]
        crossings = sum(not x[n] and (x[n + 1] or x[(n + 2) % 8]) for n in (0, 2, 4, 6))
        pairs = min(sum(x[n] or x[(n + turn) % 8] for n in (0, 2, 4, 6)) for turn in (1, -1))
        if crossings == 1 and 2 <= pairs <= 3:
            table[0, code] = not ((x[1] or x[2] or not x[7]) and x[0])
            table[1, code] = not ((x[5] or x[6] or not x[3]) and x[4])
    return table


def _outermost(flat: Bools, pixels: NDArray[np.intp], around: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those pixels of the mask that share a side with the background."""
    inside: Bools = flat[pixels[:, None] + around[::2]].all(axis=1)
    return np.asarray(pixels[~inside])


def _beside(flat: Bools, pixels: NDArray[np.intp], around: NDArray[np.intp]) -> NDArray[np.intp]:
    """The pixels of the mask next to some of those given."""
    near: NDArray[np.intp] = np.unique(pixels[:, None] + around)
    return near[flat[near]]


def _remove(flat: Bools, pixels: NDArray[np.intp], around: NDArray[np.intp], removable: Bools) -> NDArray[np.intp]:
    """Clear those pixels whose neighbours allow it, all at once, and return them."""
    codes = flat[pixels[:, None] + around] @ (1 << np.arange(8))
    gone: NDArray[np.intp] = pixels[removable[codes]]
    flat[gone] = False
    return gone


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
