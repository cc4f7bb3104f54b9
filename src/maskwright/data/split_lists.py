"""Dividing by hand: the names of the scenes of each part."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from maskwright.data.regions import PARTS, Region
from maskwright.data.split_blocks import regions_by_blocks
from maskwright.data.split_units import group_scenes
from maskwright.data.split_wish import Ground, Wish
from maskwright.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maskwright.data.sources.interface import Scene

__all__ = ["regions_by_lists"]


def regions_by_lists(ground: Ground, wish: Wish) -> tuple[list[Region], list[str]]:
    """Whole scenes for the parts that name them; without names for val, blocks out of the training scenes.

    Returns:
        The rectangles and what a person should know.

    Raises:
        DataError: With all faults of the lists at once.
    """
    lists = {"train": wish.train, "val": wish.val, "test": wish.test}
    faults = _faults(ground, wish, lists)
    if faults:
        raise DataError("\n".join(faults))
    part_of = {name: part for part, names in lists.items() for name in names}
    cut = [scene for scene in ground.scenes if part_of[scene.name] == "train"] if _cuts_val(wish) else []
    regions = [
        Region(scene.name, part_of[scene.name], scene.grid.window) for scene in ground.scenes if scene not in cut
    ]
    if not cut:
        return regions, []
    train, val, _ = wish.shares
    blocks, notes = regions_by_blocks(ground, wish, cut, {"train": train / (train + val), "val": val / (train + val)})
    order = {scene.name: index for index, scene in enumerate(ground.scenes)}
    return sorted(regions + blocks, key=lambda region: (order[region.scene], region)), notes


def _cuts_val(wish: Wish) -> bool:
    return not wish.val and wish.shares[1] > 0


def _faults(ground: Ground, wish: Wish, lists: Mapping[str, Sequence[str]]) -> list[str]:
    known = [scene.name for scene in ground.scenes]
    faults = []
    for part, names in lists.items():
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(known)}."
                faults.append(f"data.split.{part}: there is no site {name}. {hint}")
    parts_of = {name: [part for part in PARTS if name in lists[part]] for name in known}
    for name, parts in parts_of.items():
        if len(parts) > 1:
            faults.append(f"data.split: {name} is named in {' and in '.join(parts)}. Name it once.")
    unnamed = [name for name, parts in parts_of.items() if not parts]
    if unnamed:
        faults.append(
            f"data.split: {', '.join(unnamed)} {'is' if len(unnamed) == 1 else 'are'} named in no part. Name each site "
            "in train, val or test, or take it out of the data."
        )
    for unit in group_scenes(ground.scenes, wish.buffer, whole_grounds=True):
        named = {scene.name: parts_of[scene.name][0] for scene in unit if len(parts_of[scene.name]) == 1}
        if len(set(named.values())) > 1:
            faults.append(_unit_fault(unit, named, wish.buffer))
    return faults


def _unit_fault(unit: Sequence[Scene], named: Mapping[str, str], buffer_px: int) -> str:
    grounds = {scene.ground for scene in unit if scene.name in named}
    why = "show the same ground" if len(grounds) == 1 else f"share ground or lie closer together than {buffer_px} px"
    where = ", ".join(f"{name} ({part})" for name, part in named.items())
    return f"data.split: {where} {why}. Name them in one part."
