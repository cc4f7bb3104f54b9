"""What an experiment file says of objects, from the sizes annotations tell."""

from __future__ import annotations

from typing import Any

import pytest
from rasterio.crs import CRS

from maskwright.data.sources.interface import Grid
from maskwright.workflows.init_draft import Draft
from maskwright.workflows.init_objects import ObjectsSeen, objects_seen, put_objects

QUARTER_METRE = Grid(64, 64, (0.25, 0.0, 450_000.0, 0.0, -0.25, 8_290_000.0), CRS.from_epsg(31984).to_wkt())
IN_DEGREES = Grid(64, 64, (1e-6, 0.0, -39.0, 0.0, -1e-6, -14.0), CRS.from_epsg(4326).to_wkt())
PHOTOGRAPH = Grid(64, 64, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)


def said(seen: ObjectsSeen | None, grid: Grid | None = QUARTER_METRE, *, are_points: bool = False) -> dict[str, Any]:
    draft = Draft()
    put_objects(draft, seen, are_points=are_points, grid=grid)
    return {entry.path: entry.value for entry in draft.entries}


def test_sizes_are_medians_over_boxes_that_have_one() -> None:
    boxes: list[dict[str, Any]] = [
        {"bbox": [0, 0, 4, 9], "crown_diameter": 3.0},
        {"bbox": [0, 0, 20, 20], "crown_diameter": 10.0},
        {"bbox": [5, 5, 10, 10]},
        {"bbox": [5, 5, 0, 10], "crown_diameter": 7.0},
        {"segmentation": []},
    ]
    assert objects_seen(boxes) == ObjectsSeen(10.0, 0.5)
    assert objects_seen(boxes[2:]) == ObjectsSeen(10.0, None)
    assert objects_seen(boxes[3:]) is None


@pytest.mark.parametrize(
    ("ratio", "grid", "unit"),
    [
        (0.27, QUARTER_METRE, "m"),
        (1.05, QUARTER_METRE, "px"),
        (0.27, PHOTOGRAPH, "px"),
        (0.27, IN_DEGREES, "px"),
        (0.27, None, "px"),
    ],
)
def test_the_unit_of_diameters_is_the_one_that_fits_the_boxes(ratio: float, grid: Grid | None, unit: str) -> None:
    assert said(ObjectsSeen(20.0, ratio), grid)["task.crown_unit"] == unit


def test_wide_objects_are_learned_from_blocks_of_pixels_and_small_ones_from_pixels() -> None:
    assert said(ObjectsSeen(20.0))["model.shrink"] == 2
    assert "model.shrink" not in said(ObjectsSeen(8.0))
    assert "task.crown_unit" not in said(ObjectsSeen(20.0))


def test_points_become_discs_and_the_score_is_chosen_on_validation() -> None:
    settings = said(None, are_points=True)
    assert settings["task.shapes"] == "discs"
    assert settings["metrics.operating_point"] == "max_f1"
    assert "model.shrink" not in settings
