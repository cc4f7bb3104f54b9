"""What an experiment file says beside the usual where objects are found one by one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskwright.data.sources.interface import Grid
from maskwright.errors import GridError
from maskwright.workflows.init_draft import Draft

__all__ = ["ObjectsSeen", "objects_seen", "put_objects"]

_WIDE_PX = 16.0  # objects from here on are learned from blocks of 2 x 2 pixels as well, four times faster


@dataclass(frozen=True, slots=True)
class ObjectsSeen:
    """What annotations tell of the size of objects.

    Attributes:
        side_px: Median of the sides of squares as large as the boxes.
        diameter: Median of the field ``crown_diameter`` over that side; None where no annotation has it.
    """

    side_px: float
    diameter: float | None = None


def objects_seen(annotations: Sequence[Mapping[str, Any]]) -> ObjectsSeen | None:
    """Sizes in COCO annotations; None if none of them has a box."""
    sides, said = [], []
    for entry in annotations:
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
            continue
        side = math.sqrt(max(float(box[2]) * float(box[3]), 0.0))
        if side <= 0:
            continue
        sides.append(side)
        diameter = entry.get("crown_diameter")
        if isinstance(diameter, int | float) and diameter > 0:
            said.append(float(diameter) / side)
    if not sides:
        return None
    return ObjectsSeen(statistics.median(sides), statistics.median(said) if said else None)


def put_objects(draft: Draft, seen: ObjectsSeen | None, *, are_points: bool, grid: Grid | None) -> None:
    """Add settings of objects: their shapes, the unit of their diameters, a network as fine as they need, a cut.

    Args:
        draft: The settings so far, those of the network among them.
        seen: Sizes of the labels; None if they tell none.
        are_points: Whether labels are points.
        grid: Of an image.
    """
    if are_points:
        draft.put("task.shapes", "discs", "points tell no outlines, so discs around them are found")
    if seen is not None and seen.diameter is not None:
        size = None if grid is None else _pixel_size_m(grid)
        in_metres = size is not None and abs(math.log(seen.diameter / size)) < abs(math.log(seen.diameter))
        why = "the unit of crown_diameter, by the size of the boxes"
        draft.put("task.crown_unit", "m" if in_metres else "px", why)
    draft.put("model.head_channels", 16, "inside each head; more learn more and take longer")
    if seen is not None and seen.side_px >= _WIDE_PX:
        why = f"objects are about {seen.side_px:.0f} px wide: blocks of 2 x 2 px show them, four times faster than 1"
        draft.put("model.shrink", 2, why)
        draft.put("model.depth", 3, "times these blocks are halved; more sees farther")
    draft.put("metrics.operating_point", "max_f1", "the score from which an object counts is chosen on validation")


def _pixel_size_m(grid: Grid) -> float | None:
    if not grid.is_georeferenced or grid.crs is None:
        return None
    try:
        return grid.pixel_size_m
    except GridError:  # angles have no metres
        return None
