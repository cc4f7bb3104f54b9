"""The proof that parts lie apart."""

from __future__ import annotations

import pytest

from maskwright.data.regions import PARTS, Region, Split
from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.split_check import assert_apart
from maskwright.errors import DataError
from maskwright.types import Place, Window

GRID = Grid(100, 100, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None)
SCENE = Scene("a", GRID, "a", ())


def split(train: Window, val: Window, buffer_px: int = 10, grid: Grid = GRID) -> Split:
    return Split(
        by="blocks",
        seed=0,
        shares=(0.5, 0.5, 0.0),
        tile_px=20,
        buffer_px=buffer_px,
        regions=(Region("a", "train", train), Region("a", "val", val)),
        tiles=dict.fromkeys(PARTS, ()) | {"train": (Place("a", train),)},
        grids={"a": grid},
    )


def test_parts_at_the_buffers_distance_pass() -> None:
    assert_apart(split(Window(0, 0, 40, 100), Window(50, 0, 50, 100)), [SCENE])


def test_one_pixel_less_is_refused_with_both_rectangles() -> None:
    with pytest.raises(DataError) as caught:
        assert_apart(split(Window(0, 0, 41, 100), Window(50, 0, 50, 100)), [SCENE])
    assert "a rows 0 to 41, columns 0 to 100 (train) and a rows 50 to 100, columns 0 to 100 (val) are 9 px apart" in (
        str(caught.value)
    )


def test_ground_used_twice_is_refused() -> None:
    with pytest.raises(DataError, match="share ground"):
        assert_apart(split(Window(0, 0, 60, 100), Window(50, 0, 50, 100), buffer_px=0), [SCENE])


def test_a_scene_that_is_gone_or_has_another_grid_is_told() -> None:
    good = split(Window(0, 0, 40, 100), Window(50, 0, 50, 100))
    with pytest.raises(DataError, match="names the site a, which is not among the data"):
        assert_apart(good, [])
    moved = Scene("a", Grid(100, 100, (2.0, 0.0, 0.0, 0.0, -2.0, 0.0), None), "a", ())
    with pytest.raises(DataError, match="a has another grid than when the split was made"):
        assert_apart(good, [moved])
