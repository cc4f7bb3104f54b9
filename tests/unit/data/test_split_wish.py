"""What a split is asked to be."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.split_wish import Ground, Wish, seeded
from maskwright.errors import DataError
from maskwright.types import Window

GRID = Grid(64, 64, (1.0, 0.0, 0.0, 0.0, -1.0, 64.0), None)
SCENE = Scene("north", GRID, "north", ())


def wish(**options: object) -> Wish:
    return Wish(
        **{"tile_px": 32, "overlap_px": 0, "min_valid": 0.5, "by": "site"}
        | {"shares": (0.7, 0.3, 0.0), "seed": 1, "buffer_px": None}
        | options  # type: ignore[arg-type]
    )


def test_the_buffer_is_a_tile_unless_it_is_said() -> None:
    assert wish().buffer == 32
    assert wish(buffer_px=0).buffer == 0


def test_parts_with_a_share_are_needed_and_of_lists_those_that_are_named() -> None:
    assert wish().share_by_part == {"train": 0.7, "val": 0.3, "test": 0.0}
    assert wish().needed_parts == ("train", "val")
    assert wish(by="lists", test=("north",), shares=(1.0, 0.0, 0.0)).needed_parts == ("train", "test")


def test_tiles_with_too_little_ground_are_left_out() -> None:
    asked = []

    def valid_share(scene: str, cell_px: int) -> np.ndarray:
        asked.append(cell_px)
        share = np.ones((64 // cell_px, 64 // cell_px))
        share[0] = 0.0  # the upper rows were not measured
        return share

    ground = Ground((SCENE,), valid_share)
    kept = ground.kept("north", GRID.window, 32, 0, 0.5)
    assert kept == [Window(32, 0, 32, 32), Window(32, 32, 32, 32)]
    assert ground.count(SCENE, wish()) == 2
    assert ground.best_share("north", 32) == 1.0
    assert len(asked) == len(set(asked))  # each size is measured once


def test_two_sites_cannot_have_one_name() -> None:
    with pytest.raises(DataError, match="Several scenes are named north"):
        Ground((SCENE, SCENE), lambda scene, cell_px: np.ones((2, 2)))


def test_random_numbers_depend_on_the_seed_and_the_words() -> None:
    first = seeded(1, "blocks", "north").random(3)
    assert np.array_equal(first, seeded(1, "blocks", "north").random(3))
    for other in (seeded(2, "blocks", "north"), seeded(1, "blocks", "south"), seeded(1, "blocks")):
        assert not np.array_equal(first, other.random(3))
