"""Straight cuts through scenes."""

from __future__ import annotations

import itertools

import numpy as np

from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.split_blocks import regions_by_blocks
from maskwright.data.split_wish import Ground, Wish

GRID = Grid(256, 256, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None)


def ground(*scenes: Scene) -> Ground:
    return Ground(scenes, lambda scene, cell_px: np.ones((256 // cell_px, 256 // cell_px)))


def wish(seed: int = 1, **options: object) -> Wish:
    return Wish(16, 0, 0.5, "blocks", (0.6, 0.2, 0.2), seed, None, **options)  # type: ignore[arg-type]


def test_blocks_of_all_parts_lie_a_buffer_apart() -> None:
    regions, notes = regions_by_blocks(ground(Scene("a", GRID, "a", ())), wish())
    assert {region.part for region in regions} == {"train", "val", "test"}
    assert notes == []
    for one, other in itertools.combinations(regions, 2):
        if one.part != other.part:
            a, b = one.window, other.window
            rows = max(a.row - b.row_stop, b.row - a.row_stop)
            cols = max(a.col - b.col_stop, b.col - a.col_stop)
            assert max(rows, cols) >= 16


def test_the_cuts_depend_on_the_seed_alone() -> None:
    one = ground(Scene("a", GRID, "a", ()))
    assert regions_by_blocks(one, wish(3)) == regions_by_blocks(one, wish(3))
    assert len({tuple(regions_by_blocks(one, wish(seed))[0]) for seed in range(6)}) > 1


def test_two_rasters_of_one_ground_are_cut_alike() -> None:
    regions, _ = regions_by_blocks(ground(Scene("then", GRID, "g", ()), Scene("now", GRID, "g", ())), wish())
    then, now = ({(r.part, r.window) for r in regions if r.scene == name} for name in ("then", "now"))
    assert then == now


def test_what_cannot_be_compared_is_not_cut() -> None:
    turned = Grid(256, 256, (1.0, 0.1, 0.0, 0.1, -1.0, 0.0), None)
    regions, (note,) = regions_by_blocks(ground(Scene("a", GRID, "g", ()), Scene("b", turned, "g", ())), wish())
    assert [(region.scene, region.part) for region in regions] == [("a", "train"), ("b", "train")]
    assert note.startswith("a, b show the same ground in coordinates that cannot be compared")
