"""Probabilities of classes to masks of codes, and what may be cleaned up in them: objects, holes.

A mask is one plane of class ids (binary: 0 and 1), or, for classes that may overlap, a plane of 0 and 1 for each class;
255 is not valid anywhere. Cleaning works in row bands, so masks may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from maskwright.pixels import IGNORE_INDEX
from maskwright.prediction.neighbourhood import with_rim
from maskwright.prediction.postprocess import Gaps, find_gaps, keep_where

__all__ = ["Choice", "class_codes", "filled_holes", "kept_objects"]

Codes = npt.NDArray[np.uint8]
ReadCodes = Callable[[int, int], Codes]
WriteCodes = Callable[[int, Codes], None]
Choice = Callable[[Gaps, Callable[[int, int], npt.NDArray[np.bool_]]], npt.NDArray[np.bool_]]
"""Objects, and the reader they were found with, to which of them stay: (n,) bool."""


def class_codes(
    probs: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], thresholds: Sequence[float], *, exclusive: bool
) -> Codes:
    """(P, h, W) codes.

    Args:
        probs: (K, h, W).
        valid: (h, W); 255 elsewhere.
        thresholds: K; a class is called above its own. Not asked of classes that exclude each other.
        exclusive: One plane with the id of the largest probability, of equals the first.
    """
    if exclusive:
        codes: Codes = probs.argmax(axis=0).astype(np.uint8)[None]
    else:
        codes = (probs > np.asarray(thresholds, np.float32)[:, None, None]).astype(np.uint8)
    np.copyto(codes, IGNORE_INDEX, where=~valid)
    return codes


def kept_objects(
    read: ReadCodes, write: WriteCodes, height: int, width: int, codes: Sequence[int], choose: Choice
) -> None:
    """Copy a plane; objects of the given codes that are not chosen become 0."""
    finders = []
    for code in codes:
        reader = _where(read, code)
        gaps = find_gaps(reader, height, width)
        finders.append(keep_where(gaps, choose(gaps, reader)).numbers(reader))
    for parts in zip(*finders, strict=True):
        row, count = parts[0][0], len(parts[0][1])
        plane = read(row, row + count).copy()
        left_out = np.zeros(plane.shape, np.bool_)
        for code, (_, numbers) in zip(codes, parts, strict=True):
            left_out |= (plane == code) & (numbers < 0)
        plane[left_out] = 0
        write(row, plane)


def filled_holes(read: ReadCodes, write: WriteCodes, height: int, width: int, most_px: float) -> None:
    """Copy a plane; holes take the code around them.

    A hole is a piece of 0, joined over sides, of at most ``most_px`` pixels that one single code surrounds; what
    touches the border, or pixels that are not valid, is none.
    """
    reader = _where(read, 0)
    pieces = find_gaps(reader, height, width, corners=False)
    low, high = np.full(len(pieces), IGNORE_INDEX, np.uint8), np.zeros(len(pieces), np.uint8)
    for row, numbers in pieces.numbers(reader, corners=False):
        around = with_rim(read, row, row + len(numbers), height, width)
        for side in (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]):
            meets = (numbers >= 0) & (side != 0)
            np.minimum.at(low, numbers[meets], side[meets])
            np.maximum.at(high, numbers[meets], side[meets])
    is_hole = (low == high) & (high != IGNORE_INDEX) & (pieces.area_px <= most_px)
    becomes = np.append(np.where(is_hole, high, 0), 0).astype(np.uint8)  # the last entry answers for -1
    for row, numbers in pieces.numbers(reader, corners=False):
        plane = read(row, row + len(numbers))
        write(row, np.where(numbers >= 0, becomes[numbers], plane))


def _where(read: ReadCodes, code: int) -> Callable[[int, int], npt.NDArray[np.bool_]]:
    def reader(start: int, stop: int) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = read(start, stop) == code
        return found

    return reader
