"""What the bootstrap draws."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from maskwright.config import MetricsConfig
from maskwright.data.sources.interface import Grid, Scene
from maskwright.types import Place, Window
from maskwright.workflows.evaluate import block_ids, pixel_sizes_m

SCENE = Scene("a", Grid(100, 100, (2.0, 0.0, 0.0, 0.0, -2.0, 0.0), None), "a", ())
SOURCE: Any = SimpleNamespace(scenes=[SCENE])
SPLIT: Any = SimpleNamespace(by="site")
PLACES = [Place("a", Window(row, 0, 20, 20)) for row in (0, 20, 60)]


def test_tiles_are_blocks_unless_a_size_is_said() -> None:
    assert block_ids(SOURCE, SPLIT, PLACES, MetricsConfig(block_m=None)) == ("block of ground", [0, 1, 2])


def test_blocks_of_a_size_hold_the_tiles_whose_middle_lies_in_them() -> None:
    unit, ids = block_ids(SOURCE, SPLIT, PLACES, MetricsConfig(block_m=80))  # 40 px: middles 10, 30 and 70
    assert unit == "block of ground"
    assert ids == [("a", 0, 0), ("a", 0, 0), ("a", 1, 0)]
    assert pixel_sizes_m(SOURCE) == {"a": 2.0}
