"""Connected gaps of a mask of any size: found in row bands, joined across them, counted, sieved.

Gaps are joined over corners (8 neighbours), as everywhere in Maskwright; so a hole is bounded over sides.

Leaving out small gaps keeps the order over heights. A gap at 5 m lies inside one gap at 10 m, which is at least as
large; so if the inner one is large enough to stay, the outer one is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph

__all__ = ["BAND_PX", "Gaps", "find_gaps", "keep_where"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

BAND_PX = 2**20
_NEIGHBOURS = np.ones((3, 3), np.bool_)


@dataclass(frozen=True)
class Gaps:
    """The connected gaps of one mask, numbered from 0 in the order in which a reader of the map meets them.

    Attributes:
        height: Rows of the mask.
        band_rows: Rows labelled at a time.
        number_of: For each band, the gap each of the band's own labels belongs to; its label 0 is no gap and has -1.
        area_px: (n,) pixels of each gap.
        mean_probability: (n,) mean probability over each gap's pixels; None if none were given.
    """

    height: int
    band_rows: int
    number_of: tuple[IntArray, ...]
    area_px: IntArray
    mean_probability: npt.NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.area_px)

    def bands(self) -> Iterator[tuple[int, int]]:
        """(first row, row after the last) of each band."""
        for start in range(0, self.height, self.band_rows):
            yield start, min(start + self.band_rows, self.height)

    def numbers(
        self, read: Callable[[int, int], BoolArray], *, corners: bool = True
    ) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
        """For each band its first row and the number of each pixel's gap (h, W), -1 where there is none.

        Args:
            read: The reader the gaps were found with.
            corners: As they were found.
        """
        for (start, stop), number_of in zip(self.bands(), self.number_of, strict=True):
            labels, _ = ndimage.label(read(start, stop), _NEIGHBOURS if corners else None)
            yield start, number_of.astype(np.int32)[labels]


def find_gaps(
    read: Callable[[int, int], BoolArray],
    height: int,
    width: int,
    *,
    probabilities: Callable[[int, int], FloatArray] | None = None,
    band_rows: int | None = None,
    corners: bool = True,
) -> Gaps:
    """Find the connected gaps of a mask in one pass.

    Args:
        read: (start, stop) to rows start..stop of the mask, (h, W), True in gaps.
        height: Rows of the mask.
        width: Columns of the mask.
        probabilities: The same for probabilities, for their mean over each gap.
        band_rows: Rows labelled at a time; unset: about a million pixels. The result does not depend on it.
        corners: False: only pixels that share a side are joined, as for holes.
    """
    band_rows = band_rows or max(1, BAND_PX // width)
    sizes: list[IntArray] = []
    sums: list[npt.NDArray[np.float64]] = []
    seams: list[IntArray] = []
    found, last = 0, np.zeros(width, np.int64)
    counts: list[int] = []
    for start in range(0, height, band_rows):
        mask = read(start, min(start + band_rows, height))
        labels, count = ndimage.label(mask, _NEIGHBOURS if corners else None)
        inside = labels[mask]
        sizes.append(np.bincount(inside, minlength=count + 1)[1:])
        if probabilities is not None:
            weights = probabilities(start, min(start + band_rows, height))[mask]
            sums.append(np.bincount(inside, weights, minlength=count + 1)[1:].astype(np.float64, copy=False))
        offset_labels = np.where(labels[[0, -1]] > 0, labels[[0, -1]] + np.int64(found), 0)
        seams.append(_touching(last, offset_labels[0], corners=corners))
        last = offset_labels[1]
        counts.append(count)
        found += count
    return _joined(height, band_rows, counts, sizes, sums if probabilities is not None else None, seams)


def _touching(above: IntArray, below: IntArray, *, corners: bool) -> IntArray:
    """(n, 2) pairs of labels, from 1, that meet across a border between two bands."""
    meeting = [(above, below)]
    if corners:
        meeting += [(above[:-1], below[1:]), (above[1:], below[:-1])]
    pairs = np.concatenate([np.stack(pair, axis=1) for pair in meeting])
    return np.unique(pairs[(pairs > 0).all(axis=1)], axis=0)


def _joined(
    height: int,
    band_rows: int,
    counts: list[int],
    sizes: list[IntArray],
    sums: list[npt.NDArray[np.float64]] | None,
    seams: list[IntArray],
) -> Gaps:
    pieces = sum(counts)
    pairs = np.concatenate(seams) - 1
    links = sparse.coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(pieces, pieces))
    gaps, number = csgraph.connected_components(links, directed=False)
    number = _in_order_of_appearance(number)
    area = np.zeros(gaps, np.int64)
    np.add.at(area, number, np.concatenate(sizes))
    mean = None
    if sums is not None:
        mean = np.bincount(number, np.concatenate(sums), minlength=gaps) / area
    ends = np.cumsum([0, *counts])
    nothing = np.array([-1], np.int64)
    number_of = tuple(np.concatenate([nothing, number[low:high]]) for low, high in pairwise(ends))
    return Gaps(height, band_rows, number_of, area, mean)


def _in_order_of_appearance(number: npt.NDArray[np.int32]) -> IntArray:
    """Renumbered so that new numbers rise from the first to the last entry."""
    _, first, inverse = np.unique(number, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def keep_where(gaps: Gaps, keep: BoolArray) -> Gaps:
    """Only the gaps where ``keep`` (n,) is True, renumbered in the same order."""
    new = np.where(keep, np.cumsum(keep) - 1, -1)
    renumber = np.append(new, -1)  # the last entry answers for -1, no gap
    return replace(
        gaps,
        number_of=tuple(renumber[number_of] for number_of in gaps.number_of),
        area_px=gaps.area_px[keep],
        mean_probability=None if gaps.mean_probability is None else gaps.mean_probability[keep],
    )
