"""Dividing inside scenes: rectangles of whole tiles by straight cuts, the same ground for all scenes that show it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskwright.data.regions import Region
from maskwright.data.split_search import cut_blocks
from maskwright.data.split_units import edges_in, group_scenes, outwards, seen_from, share_frame, too_close
from maskwright.data.split_wish import Ground, Wish, seeded

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Scene

__all__ = ["regions_by_blocks"]

_MOST_CELLS = 4_000_000  # of the grid that is cut


def regions_by_blocks(
    ground: Ground,
    wish: Wish,
    scenes: Sequence[Scene] | None = None,
    shares: Mapping[str, float] | None = None,
) -> tuple[list[Region], list[str]]:
    """Rectangles for each part inside every scene.

    The blocks of scenes that overlap or nearly touch are cut as one and depend on the seed and those scenes alone.

    Args:
        ground: What there is.
        wish: What is asked.
        scenes: Those to divide; None: all.
        shares: Part to its share; None: those of the wish.

    Returns:
        The rectangles and what a person should know.
    """
    scenes = ground.scenes if scenes is None else scenes
    shares = wish.share_by_part if shares is None else shares
    kept, notes = ground.kept_regions(wish.previous)
    regions: list[Region] = []
    for unit in group_scenes(scenes, wish.buffer, whole_grounds=False):
        known = {scene: kept[scene.name] for scene in unit if scene.name in kept}
        if known:
            regions += [region for scene in unit for region in kept.get(scene.name, [])]
            found, more = _adopted([scene for scene in unit if scene not in known], known, wish)
        else:
            found, more = _cut(unit, ground, wish, shares)
        regions += found
        notes += more
    order = {scene.name: index for index, scene in enumerate(scenes)}
    return sorted(regions, key=lambda region: (order[region.scene], region)), notes


# --- new cuts ---------------------------------------------------------------------------------------------------------


def _cut(
    unit: tuple[Scene, ...], ground: Ground, wish: Wish, shares: Mapping[str, float]
) -> tuple[list[Region], list[str]]:
    names = ", ".join(scene.name for scene in unit)
    largest = max(shares, key=lambda part: shares[part])
    whole = [Region(scene.name, largest, scene.grid.window) for scene in unit]
    if not share_frame(unit):
        return whole, [
            f"{names} show the same ground in coordinates that cannot be compared (CRS, or rotated rasters): "
            f"they are not cut and belong to {largest} as a whole"
        ]
    lead = min(unit, key=lambda scene: (max(scene.grid.pixel_size), scene.name))
    row, col, rows, cols = _frame(unit, lead, wish.tile_px)
    if rows * cols > _MOST_CELLS:
        return whole, [f"{names} reach too far to be cut together: they belong to {largest} as a whole"]
    weights = np.zeros((rows, cols), dtype=np.int64)
    for scene in unit:
        centres = _tile_centres(scene, lead, ground, wish)  # (N, 2) in pixels of the lead scene
        cells = ((centres - (row, col)) // wish.tile_px).astype(np.int64)
        np.add.at(weights, tuple(np.clip(cells, 0, (rows - 1, cols - 1)).T), 1)
    blocks = cut_blocks(
        weights,
        shares,
        _gap_cells(unit, lead, wish),
        seeded(wish.seed, "blocks", lead.ground),
        least_tiles=wish.least_tiles,
    )
    regions = []
    for block in blocks:
        edges = (
            -math.inf if block.row == 0 else row + block.row * wish.tile_px,
            math.inf if block.row_stop == rows else row + block.row_stop * wish.tile_px,
            -math.inf if block.col == 0 else col + block.col * wish.tile_px,
            math.inf if block.col_stop == cols else col + block.col_stop * wish.tile_px,
        )
        for scene in unit:
            window = seen_from(edges, lead.grid, scene.grid)
            if window is not None:
                regions.append(Region(scene.name, block.part, window))
    return regions, []


def _frame(unit: Sequence[Scene], lead: Scene, tile_px: int) -> tuple[int, int, int, int]:
    """First row and column (pixels of the lead scene), rows and columns (tiles) of the grid that covers all scenes."""
    outlines = np.array([_outline(scene, lead) for scene in unit])
    row = math.floor(outlines[:, 0].min() / tile_px) * tile_px
    col = math.floor(outlines[:, 2].min() / tile_px) * tile_px
    rows = math.ceil((outlines[:, 1].max() - row) / tile_px)
    cols = math.ceil((outlines[:, 3].max() - col) / tile_px)
    return row, col, rows, cols


def _outline(scene: Scene, lead: Scene) -> tuple[float, float, float, float]:
    edges = edges_in((0, scene.grid.height, 0, scene.grid.width), scene.grid, lead.grid)
    return tuple(round(edge, 5) for edge in edges)  # type: ignore[return-value]  # rounding must not add a row of cells


def _tile_centres(scene: Scene, lead: Scene, ground: Ground, wish: Wish) -> np.ndarray:
    windows = ground.kept(scene.name, scene.grid.window, wish.tile_px, 0, wish.min_valid)
    centres = np.array([(w.row + w.height / 2, w.col + w.width / 2) for w in windows]).reshape(-1, 2)
    if scene is lead:
        return centres
    row, row_1, col, col_1 = edges_in((0, 1, 0, 1), scene.grid, lead.grid)
    flip_rows = scene.grid.transform[4] * lead.grid.transform[4] < 0
    flip_cols = scene.grid.transform[0] * lead.grid.transform[0] < 0
    step = np.array([(row - row_1) if flip_rows else (row_1 - row), (col - col_1) if flip_cols else (col_1 - col)])
    start = np.array([row_1 if flip_rows else row, col_1 if flip_cols else col])
    return np.asarray(start + centres * step)


def _gap_cells(unit: Sequence[Scene], lead: Scene, wish: Wish) -> int:
    coarser = max(
        size / lead_size
        for scene in unit
        for size, lead_size in zip(scene.grid.pixel_size, lead.grid.pixel_size, strict=True)
    )
    return math.ceil(wish.buffer * coarser / wish.tile_px - 1e-6)


# --- new scenes on ground that is divided already ---------------------------------------------------------------------


def _adopted(
    newcomers: Sequence[Scene], known: Mapping[Scene, Sequence[Region]], wish: Wish
) -> tuple[list[Region], list[str]]:
    """Regions of scenes that joined: the ground their nearest neighbour of the earlier split gives to each part."""
    taken = [(scene, region) for scene, regions in known.items() for region in regions]
    found, notes = [], []
    for scene in newcomers:
        if not share_frame((scene, *known)):
            notes.append(f"{scene.name} shows ground of the earlier split in other coordinates and has no part in it")
            continue
        neighbour = min(known, key=lambda other: (_distance(scene, other), other.name))
        notes.append(
            f"{scene.name} takes over the blocks of {neighbour.name}, which shows the same ground or lies beside it"
        )
        for region in known[neighbour]:
            window = seen_from(outwards(region.window, neighbour.grid), neighbour.grid, scene.grid)
            if window is None:
                continue
            mine = Region(scene.name, region.part, window)
            if all(_may_stand(scene, mine, other, theirs, wish.buffer) for other, theirs in taken):
                found.append(mine)
            else:
                notes.append(f"{scene.name}: its {region.part} block lies too close to another part and is not used")
        taken += [(scene, region) for region in found if region.scene == scene.name]
    return found, notes


def _may_stand(scene: Scene, region: Region, other: Scene, theirs: Region, buffer_px: int) -> bool:
    if region.part == theirs.part:
        return True
    return not too_close((scene.grid, region.window), (other.grid, theirs.window), buffer_px)


def _distance(first: Scene, second: Scene) -> float:
    """How far two scenes lie apart; negative if they overlap, the more the deeper."""
    a, b = first.grid.bounds, second.grid.bounds
    return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3])
