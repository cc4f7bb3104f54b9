"""Searching for a division that comes near the shares asked: of whole units, and of a grid of cells by straight cuts.

Pure: counts of tiles in, parts out. Among divisions that are about equally near, the random generator chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

__all__ = ["LEAST_TILES", "Block", "assign_units", "cut_blocks"]

LEAST_TILES = 4  # a part with fewer says nothing about anything

_NEAR = 0.02  # divisions whose scores differ by less are taken as equally good
_LOSS_WEIGHT = 0.5  # losing a tile to a buffer costs half as much as having it in the wrong part
_EXHAUSTIVE = 60_000  # assignments of units tried one by one; beyond that at random
_RANDOM_DRAWS = 20_000
_RANDOM_VALUES = 4_000_000  # draws times units held at once
_MOST_CUTS = 32  # positions tried along an axis
_STAND_CELLS = 20  # a grid this many buffers long is divided into several stands, so that each part sees more ground
_MOST_STANDS = 4


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of cells that belongs to a part; stops are exclusive."""

    part: str
    row: int
    row_stop: int
    col: int
    col_stop: int


# --- whole units ------------------------------------------------------------------------------------------------------


def assign_units(
    counts: np.ndarray, shares: Mapping[str, float], base: Mapping[str, int], rng: np.random.Generator
) -> list[str]:
    """Give each unit to a part, so that the shares come out as near as can be.

    Args:
        counts: (N,) tiles of each unit.
        shares: Part to the share asked; those above 0 get at least ``LEAST_TILES`` tiles where that can be done.
        base: Part to tiles it already has.
        rng: Chooses among assignments that are about equally good.

    Returns:
        The part of each unit, (N,).
    """
    parts = [part for part, share in shares.items() if share > 0]
    wanted = np.array([shares[part] for part in parts])
    start = np.array([base.get(part, 0) for part in parts], dtype=np.float64)
    if len(parts) ** len(counts) <= _EXHAUSTIVE:
        choices = np.array(list(product(range(len(parts)), repeat=len(counts))), dtype=np.int8)
    else:
        choices = _random_choices(counts, wanted, start, rng)
    tiles = start + np.stack([(choices == index) @ counts for index in range(len(parts))], axis=1)
    chosen = choices[_pick(_unevenness(tiles, wanted) + _shortage(tiles), rng)]
    return [parts[index] for index in chosen]


def _random_choices(counts: np.ndarray, wanted: np.ndarray, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(draws, N) assignments: units in random order fill one part after the other up to what it lacks."""
    draws = min(_RANDOM_DRAWS, _RANDOM_VALUES // len(counts))
    order = np.argsort(rng.random((max(1, draws), len(counts))), axis=1)
    lacks = np.maximum(0.0, wanted * (start.sum() + counts.sum()) - start)
    ends = np.cumsum(lacks / max(lacks.sum(), 1e-9)) * counts.sum()
    middles = np.cumsum(counts[order], axis=1) - counts[order] / 2
    filled = np.minimum(np.searchsorted(ends, middles.ravel()), len(wanted) - 1).reshape(order.shape)
    choices = np.empty(order.shape, dtype=np.int8)
    np.put_along_axis(choices, order, filled.astype(np.int8), axis=1)
    return choices


# --- straight cuts ----------------------------------------------------------------------------------------------------


def cut_blocks(
    weights: np.ndarray,
    shares: Mapping[str, float],
    gap: int,
    rng: np.random.Generator,
    *,
    least_tiles: bool = False,
) -> list[Block]:
    """Cut a grid of cells into rectangles, one or a few for each part, with unused cells between different parts.

    One straight cut along either axis, a second one across one of its sides. A long grid is first divided into stands
    that are cut one by one, so that each part sees ground from all of it.

    Args:
        weights: (rows, cols) kept tiles in each cell.
        shares: Part to the share asked; parts with share 0 get nothing.
        gap: Cells left unused between rectangles of different parts.
        rng: Chooses among cuts that are about equally good.
        least_tiles: Prefer cuts that leave at least ``LEAST_TILES`` tiles to each part over the nearest shares.

    Returns:
        The rectangles. One rectangle of the largest part if the grid is too small to be cut.
    """
    blocks = []
    for row, row_stop, col, col_stop in _stands(weights.shape, gap):
        for block in _cut_stand(weights[row:row_stop, col:col_stop], shares, gap, rng, least_tiles):
            blocks.append(
                Block(block.part, block.row + row, block.row_stop + row, block.col + col, block.col_stop + col)
            )
    return blocks


def _stands(shape: tuple[int, ...], gap: int) -> list[tuple[int, int, int, int]]:
    rows, cols = shape
    longer = max(rows, cols)
    count = max(1, min(_MOST_STANDS, longer // (_STAND_CELLS * max(1, gap))))
    usable = longer - gap * (count - 1)
    edges = [round(usable * index / count) for index in range(count + 1)]
    spans = [(edges[index] + gap * index, edges[index + 1] + gap * index) for index in range(count)]
    if rows >= cols:
        return [(start, stop, 0, cols) for start, stop in spans]
    return [(0, rows, start, stop) for start, stop in spans]


def _cut_stand(
    weights: np.ndarray, shares: Mapping[str, float], gap: int, rng: np.random.Generator, least_tiles: bool
) -> list[Block]:
    parts = [part for part, share in shares.items() if share > 0]
    wanted = np.array([shares[part] for part in parts])
    largest = parts[int(np.argmax(wanted))]
    rows, cols = weights.shape
    whole = Block(largest, 0, rows, 0, cols)
    cuts = _cuts(np.array([[0, rows, 0, cols]]), gap, len(parts))
    if len(parts) == 1 or not len(cuts) or not weights.any():
        return [whole]
    sums = np.zeros((rows + 1, cols + 1))
    sums[1:, 1:] = weights.cumsum(axis=0).cumsum(axis=1)
    row, row_stop, col, col_stop = np.moveaxis(cuts, -1, 0)  # each (candidates, parts)
    tiles = sums[row_stop, col_stop] - sums[row, col_stop] - sums[row_stop, col] + sums[row, col]
    orders = list(permutations(range(len(parts))))
    scores = np.concatenate([_score(tiles[:, order], wanted, float(weights.sum()), least_tiles) for order in orders])
    best = _pick(scores, rng)
    if scores[best] > float(_unevenness(np.eye(len(parts))[parts.index(largest)][None], wanted)[0]) and not least_tiles:
        return [whole]  # cutting would leave next to nothing
    order, candidate = orders[best // len(cuts)], cuts[best % len(cuts)]
    return [Block(part, *(int(edge) for edge in candidate[slot])) for part, slot in zip(parts, order, strict=True)]


def _cuts(rects: np.ndarray, gap: int, pieces: int) -> np.ndarray:
    """All ways to cut each rectangle (N, 4: row, row_stop, col, col_stop) into pieces: (candidates, pieces, 4)."""
    if pieces == 1:
        return rects[:, None, :]
    found = []
    for axis in (0, 2):
        first, second = _halves(rects, axis, gap)
        for kept in range(1, pieces):
            left, right = _cuts_each(first, gap, kept), _cuts_each(second, gap, pieces - kept)
            found += [_paired(one, other) for one, other in zip(left, right, strict=True)]
    return np.concatenate([np.zeros((0, pieces, 4), dtype=np.int64), *found])


def _halves(rects: np.ndarray, axis: int, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of every cut along an axis of every rectangle, (M, 4) each."""
    firsts, seconds = [np.zeros((0, 4), dtype=np.int64)], [np.zeros((0, 4), dtype=np.int64)]
    for rect in rects:
        start, stop = int(rect[axis]), int(rect[axis + 1])
        positions = np.arange(start + 1, stop - gap)
        if len(positions) > _MOST_CUTS:
            positions = positions[np.linspace(0, len(positions) - 1, _MOST_CUTS).round().astype(np.int64)]
        first, second = np.tile(rect, (len(positions), 1)), np.tile(rect, (len(positions), 1))
        first[:, axis + 1] = positions
        second[:, axis] = positions + gap
        firsts.append(first)
        seconds.append(second)
    return np.concatenate(firsts), np.concatenate(seconds)


def _cuts_each(rects: np.ndarray, gap: int, pieces: int) -> list[np.ndarray]:
    return [_cuts(rect[None], gap, pieces) for rect in rects]


def _paired(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Every way to cut the one side (N, pieces, 4) with every way to cut the other."""
    repeated, tiled = np.repeat(left, len(right), axis=0), np.tile(right, (len(left), 1, 1))
    return np.concatenate([repeated, tiled], axis=1)


# --- scores -----------------------------------------------------------------------------------------------------------


def _score(tiles: np.ndarray, wanted: np.ndarray, total: float, least_tiles: bool) -> np.ndarray:
    lost = 1.0 - tiles.sum(axis=1) / total
    score = _unevenness(tiles, wanted) + _LOSS_WEIGHT * lost
    return np.asarray(score + _shortage(tiles) if least_tiles else score)


def _unevenness(tiles: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Sum over parts of how far its share lies from the one asked; tiles (N, parts)."""
    kept = np.maximum(tiles.sum(axis=1, keepdims=True), 1e-9)
    return np.asarray(np.abs(tiles / kept - wanted).sum(axis=1))


def _shortage(tiles: np.ndarray) -> np.ndarray:
    """Sum over parts of the share of ``LEAST_TILES`` that it lacks."""
    return np.asarray(np.maximum(0.0, 1.0 - tiles / LEAST_TILES).sum(axis=1))


def _pick(scores: np.ndarray, rng: np.random.Generator) -> int:
    good = np.flatnonzero(scores <= scores.min() + _NEAR)
    return int(good[rng.integers(len(good))])
