"""Parts by the names of their sites."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.data.sources.interface import Grid, Scene
from maskwright.data.split_lists import regions_by_lists
from maskwright.data.split_wish import Ground, Wish
from maskwright.errors import DataError


def ground(*names: str, apart: float = 1e6) -> Ground:
    scenes = [
        Scene(name, Grid(128, 128, (1.0, 0.0, apart * place, 0.0, -1.0, 9.0), None), name, ())
        for place, name in enumerate(names)
    ]
    return Ground(tuple(scenes), lambda scene, cell_px: np.ones((128 // cell_px, 128 // cell_px)))


def wish(shares: tuple[float, float, float] = (1.0, 0.0, 0.0), **parts: tuple[str, ...]) -> Wish:
    return Wish(32, 0, 0.5, "lists", shares, 1, None, **parts)


def test_whole_sites_go_to_the_part_that_names_them() -> None:
    regions, notes = regions_by_lists(ground("a", "b", "c"), wish(train=("a", "c"), val=("b",)))
    assert [(region.scene, region.part) for region in regions] == [("a", "train"), ("b", "val"), ("c", "train")]
    assert notes == []
    assert all(region.window.height == 128 for region in regions)


def test_without_names_validation_is_cut_out_of_training_sites() -> None:
    regions, _ = regions_by_lists(ground("a", "b"), wish((0.5, 0.5, 0.0), train=("a",), test=("b",)))
    assert {region.part for region in regions if region.scene == "a"} == {"train", "val"}
    assert {region.part for region in regions if region.scene == "b"} == {"test"}


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(DataError) as caught:
        regions_by_lists(ground("north", "south", "east"), wish(train=("norht", "south"), val=("south",)))
    first, second, third = str(caught.value).splitlines()
    assert first == "data.split.train: there is no site norht. Did you mean north?"
    assert second == "data.split: south is named in train and in val. Name it once."
    assert third.startswith("data.split: north, east are named in no part.")


def test_neighbours_cannot_lie_in_different_parts() -> None:
    with pytest.raises(DataError, match=r"a \(train\), b \(val\) share ground or lie closer together than 32 px"):
        regions_by_lists(ground("a", "b", apart=140), wish(train=("a",), val=("b",)))
