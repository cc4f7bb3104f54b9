from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.data.split_search import assign_units, cut_blocks

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3), st.integers(0, 999), st.booleans())
def test_blocks_lie_in_the_grid_and_keep_the_gap(rows: int, cols: int, gap: int, seed: int, least: bool) -> None:
    rng = np.random.default_rng(seed)
    weights = (rng.random((rows, cols)) < 0.8).astype(int)
    blocks = cut_blocks(weights, SHARES, gap, rng, least_tiles=least)
    for block in blocks:
        assert 0 <= block.row < block.row_stop <= rows
        assert 0 <= block.col < block.col_stop <= cols
    for one, other in combinations(blocks, 2):
        between = max(
            one.row - other.row_stop, other.row - one.row_stop, one.col - other.col_stop, other.col - one.col_stop
        )
        assert between >= (gap if one.part != other.part else 0)


def test_a_grid_too_small_to_cut_goes_to_the_largest_part() -> None:
    (block,) = cut_blocks(np.ones((2, 2), dtype=int), SHARES, 1, np.random.default_rng(0))
    assert (block.part, block.row_stop, block.col_stop) == ("train", 2, 2)


def test_two_parts_are_cut_once() -> None:
    blocks = cut_blocks(np.ones((11, 4), dtype=int), {"train": 0.8, "val": 0.2}, 1, np.random.default_rng(0))
    assert {block.part: (block.row_stop - block.row) * (block.col_stop - block.col) for block in blocks} == {
        "train": 32,
        "val": 8,
    }


def test_cuts_follow_what_was_measured_and_not_the_outline() -> None:
    weights = np.zeros((20, 40), dtype=int)
    weights[:, 20:] = 1
    blocks = cut_blocks(weights, SHARES, 1, np.random.default_rng(3))
    tiles = {block.part: weights[block.row : block.row_stop, block.col : block.col_stop].sum() for block in blocks}
    for part, share in SHARES.items():
        assert tiles[part] / sum(tiles.values()) == pytest.approx(share, abs=0.06)


def test_assignment_fills_up_what_parts_already_have() -> None:
    chosen = assign_units(np.array([10, 10]), SHARES, {"train": 70, "val": 15, "test": 0}, np.random.default_rng(0))
    assert chosen == ["test", "test"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=12, max_size=60), st.integers(0, 99))
def test_many_units_come_near_the_shares(counts: list[int], seed: int) -> None:
    sizes = np.array(counts)
    chosen = np.array(assign_units(sizes, SHARES, {}, np.random.default_rng(seed)))
    for part, share in SHARES.items():
        real = sizes[chosen == part].sum() / sizes.sum()
        assert real == pytest.approx(share, abs=max(0.05, sizes.max() / sizes.sum()))


def test_every_part_gets_four_tiles_where_that_can_be_done() -> None:
    chosen = assign_units(np.array([1, 1, 1, 1, 4, 90]), SHARES, {}, np.random.default_rng(0))
    tiles = {part: sum(n for n, p in zip([1, 1, 1, 1, 4, 90], chosen, strict=True) if p == part) for part in SHARES}
    assert min(tiles.values()) == 4
