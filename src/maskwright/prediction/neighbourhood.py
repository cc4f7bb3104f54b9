"""What looks at the pixels around each pixel of a mask: opening, closing and the vote of a window, in row bands.

Pixels that are not valid, and what lies outside the scene, neither open nor close anything and have no vote. Where a
mask lies inside another one (gaps at 5 m inside those at 10 m) it still does so afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from maskwright.pixels import IGNORE_INDEX

__all__ = ["closed", "opened", "voted", "with_rim"]

Codes = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
ReadCodes = Callable[[int, int], Codes]
WriteCodes = Callable[[int, Codes], None]

_BAND_PX = 2**22


def opened(read: ReadCodes, write: WriteCodes, height: int, width: int, codes: Sequence[int], radius_px: int) -> None:
    """Copy a plane; parts of objects into which no disc of this radius fits become 0."""

    def change(around: Codes) -> Codes:
        plane, valid = around.copy(), around != IGNORE_INDEX
        for code in codes:
            here = around == code
            plane[here & ~_opening(here, valid, radius_px)] = 0
        return plane

    _in_bands(read, write, height, width, 2 * radius_px, change)


def closed(read: ReadCodes, write: WriteCodes, height: int, width: int, codes: Sequence[int], radius_px: int) -> None:
    """Copy a plane; pixels of 0 where no disc of this radius fits beside an object take its code, the first wins."""

    def change(around: Codes) -> Codes:
        plane, valid = around.copy(), around != IGNORE_INDEX
        for code in codes:
            kept = _opening((around != code) & valid, valid, radius_px)
            plane[(plane == 0) & ~kept] = code
        return plane

    _in_bands(read, write, height, width, 2 * radius_px, change)


def voted(read: ReadCodes, write: WriteCodes, height: int, width: int, codes: Sequence[int], side_px: int) -> None:
    """Copy a plane; every pixel takes the code most common in the window around it: the median of a mask of 0 and 1.

    Args:
        read: The plane.
        write: Where it goes.
        height: Its rows.
        width: Its columns.
        codes: Codes of objects; 0 votes too. Where several are as common the pixel keeps its own, else the first.
        side_px: Side of the window, odd.
    """
    known = (0, *codes)

    def change(around: Codes) -> Codes:
        best = np.full(around.shape, -1.0, np.float32)
        winner = around.copy()
        for code in known:
            here = around == code
            votes = cv2.boxFilter(
                here.astype(np.float32), -1, (side_px, side_px), normalize=False, borderType=cv2.BORDER_CONSTANT
            )
            votes = np.rint(votes) + np.where(here, np.float32(0.5), np.float32(0))  # of equals its own
            more = votes > best
            winner[more] = code
            np.copyto(best, votes, where=more)
        winner[around == IGNORE_INDEX] = IGNORE_INDEX
        return winner

    _in_bands(read, write, height, width, side_px // 2, change)


def with_rim(read: ReadCodes, start: int, stop: int, height: int, width: int, rim_px: int = 1) -> Codes:
    """Rows start..stop and ``rim_px`` more pixels on each side; outside of the scene is not valid."""
    rim = np.full((stop - start + 2 * rim_px, width + 2 * rim_px), IGNORE_INDEX, np.uint8)
    first, last = max(start - rim_px, 0), min(stop + rim_px, height)
    inside = slice(rim_px, rim_px + width)
    rim[first - start + rim_px : last - start + rim_px, inside] = read(first, last)
    return rim


def _in_bands(
    read: ReadCodes, write: WriteCodes, height: int, width: int, rim_px: int, change: Callable[[Codes], Codes]
) -> None:
    rows = max(1, 2 * rim_px, _BAND_PX // width)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        changed = change(with_rim(read, start, stop, height, width, rim_px))
        write(start, np.ascontiguousarray(changed[rim_px : rim_px + stop - start, rim_px : rim_px + width]))


def _opening(here: BoolArray, valid: BoolArray, radius_px: int) -> BoolArray:
    """What of ``here`` a disc covers that fits into it; what is not valid is no obstacle."""
    steps = np.arange(-radius_px, radius_px + 1)
    disc = (steps[:, None] ** 2 + steps**2 <= radius_px**2).astype(np.uint8)
    free = (here | ~valid).astype(np.uint8)
    fits = cv2.erode(free, disc, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    covered = cv2.dilate(fits, disc, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    found: BoolArray = (covered > 0) & here
    return found
