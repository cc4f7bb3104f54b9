"""Dividing the ground into training, validation and test so that neighbours stay apart.

Whole sites where there are enough of them, else blocks inside sites with unused ground between them, or lists by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from maskwright.data.regions import PARTS, Region, Split
from maskwright.data.split_blocks import regions_by_blocks
from maskwright.data.split_check import assert_apart
from maskwright.data.split_lists import regions_by_lists
from maskwright.data.split_manifest import read_manifest, write_manifest
from maskwright.data.split_search import LEAST_TILES, assign_units
from maskwright.data.split_units import group_scenes
from maskwright.data.split_wish import Ground, Wish, seeded
from maskwright.errors import DataError
from maskwright.types import Place

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Scene

__all__ = ["Region", "Split", "assert_apart", "build_split", "read_manifest", "write_manifest"]

_SITES_ENOUGH = 6  # from so many on, whole sites are divided


def build_split(
    scenes: Sequence[Scene],
    valid_share: Callable[[str, int], np.ndarray],
    *,
    tile_px: int,
    overlap_px: int = 0,
    min_valid: float = 0.7,
    by: str = "auto",
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 42,
    buffer_px: int | None = None,
    train: Sequence[str] = (),
    val: Sequence[str] = (),
    test: Sequence[str] = (),
    previous: Split | None = None,
) -> Split:
    """Divide the ground of several scenes.

    Shares are counted on kept tiles. Scenes of one ground, and scenes closer together than the buffer, are divided as
    one. The same input always gives the same split.

    Args:
        scenes: What is to be divided.
        valid_share: (scene, cell size in pixels) to the (rows, cols) share of measured pixels in each cell.
        tile_px: Side of the tiles.
        overlap_px: Overlap of training tiles; those of val and test never overlap.
        min_valid: A tile is kept if at least this share of its pixels was measured.
        by: ``site``, ``blocks``, ``lists``, or ``auto``: sites if there are six or more that lie apart, else blocks.
        shares: Shares of train, val and test; they add up to 1. A part with share 0 gets nothing.
        seed: Chooses among divisions that are about equally near the shares.
        buffer_px: Least distance between parts in pixels of the coarser scene; None: one tile. Between blocks it is
            rounded up to whole tiles.
        train: Names of training scenes, with ``lists``.
        val: Names of validation scenes, with ``lists``; empty: blocks out of the training scenes.
        test: Names of test scenes, with ``lists``.
        previous: An earlier split; scenes it holds keep their part (or their blocks), new ones go where they are
            needed. It decides ``auto``. Not used with ``lists``.

    Raises:
        DataError: If no tile has enough measured pixels, a part would hold fewer than four tiles, or the lists do not
            fit the scenes.
    """
    wish = Wish(
        tile_px=tile_px,
        overlap_px=overlap_px,
        min_valid=min_valid,
        by=by,
        shares=shares,
        seed=seed,
        buffer_px=buffer_px,
        train=tuple(train),
        val=tuple(val),
        test=tuple(test),
        previous=previous,
    )
    ground = Ground(tuple(scenes), valid_share)
    _refuse_empty(ground, wish)
    split = _attempt(ground, wish)
    if _is_short(split, wish):
        raise DataError(_shortage_text(split, ground, wish))
    return split


def _attempt(ground: Ground, wish: Wish) -> Split:
    """The split with shares as near as can be; if a part gets too few tiles so, with enough of them for each."""
    wish, notes = _settled(ground, wish)
    split = _divided(ground, wish, notes)
    if _is_short(split, wish) and wish.by != "site":
        split = _divided(ground, replace(wish, least_tiles=True), notes)
    return split


def _divided(ground: Ground, wish: Wish, notes: Sequence[str]) -> Split:
    make = {"site": _regions_by_site, "blocks": regions_by_blocks, "lists": regions_by_lists}
    regions, more_notes = make[wish.by](ground, wish)
    tiles = {part: tuple(_tiles(ground, wish, regions, part)) for part in PARTS}
    used = {place.scene for places in tiles.values() for place in places}
    more_notes += _scene_notes(ground, wish, used)
    return Split(
        by=wish.by,
        seed=wish.seed,
        shares=wish.shares,
        tile_px=wish.tile_px,
        buffer_px=wish.buffer,
        regions=tuple(regions),
        tiles=tiles,
        grids={scene.name: scene.grid for scene in ground.scenes},
        notes=(*notes, *more_notes),
    )


def _tiles(ground: Ground, wish: Wish, regions: Sequence[Region], part: str) -> list[Place]:
    overlap_px = wish.overlap_px if part == "train" else 0
    return [
        Place(region.scene, window)
        for region in regions
        if region.part == part
        for window in ground.kept(region.scene, region.window, wish.tile_px, overlap_px, wish.min_valid)
    ]


# --- which way --------------------------------------------------------------------------------------------------------


def _settled(ground: Ground, wish: Wish) -> tuple[Wish, list[str]]:
    """The wish with ``by`` decided and an earlier split dropped if it cannot be kept, which is said."""
    if wish.by not in ("auto", "site", "blocks", "lists"):
        raise DataError(f"data.split.by: {wish.by!r} is not known. Known: auto, site, blocks, lists.")
    previous, by = wish.previous, wish.by
    if previous is not None and by == "auto" and previous.by in ("site", "blocks"):
        by = previous.by
    if by == "auto":
        by = "site" if len(_site_units(ground, wish)) >= _SITES_ENOUGH else "blocks"
    why = None if previous is None else _why_not_kept(previous, replace(wish, by=by))
    if why is None:
        return replace(wish, by=by), []
    return replace(wish, by=by, previous=None), [f"the earlier split is not kept: {why}"]


def _why_not_kept(previous: Split, wish: Wish) -> str | None:
    if wish.by == "lists":
        return "the lists of sites decide alone"
    if previous.by != wish.by:
        return f"it was made by {previous.by}, this one is made by {wish.by}"
    if wish.by == "blocks" and previous.buffer_px < wish.buffer:
        return f"its parts are {previous.buffer_px} px apart, {wish.buffer} px are asked (data.split.buffer_px)"
    return None


# --- by site ----------------------------------------------------------------------------------------------------------


def _site_units(ground: Ground, wish: Wish) -> dict[tuple[Scene, ...], int]:
    """Groups of scenes that stay together, and their tiles; those without any are left out."""
    units = group_scenes(ground.scenes, wish.buffer, whole_grounds=True)
    counts = {unit: sum(ground.count(scene, wish) for scene in unit) for unit in units}
    return {unit: count for unit, count in counts.items() if count}


def _regions_by_site(ground: Ground, wish: Wish) -> tuple[list[Region], list[str]]:
    shares = wish.share_by_part
    kept, notes = ground.kept_regions(wish.previous)
    part_of = {name: regions[0].part for name, regions in kept.items()}
    base = dict.fromkeys(PARTS, 0)
    free: list[tuple[Scene, ...]] = []
    units = _site_units(ground, wish)
    for unit, count in units.items():
        earlier = sorted({(region.part, scene.name) for scene in unit for region in kept.get(scene.name, [])})
        if len({part for part, _ in earlier}) > 1:
            raise DataError(_joined_text(unit, earlier))
        if not earlier:
            free.append(unit)
            continue
        base[earlier[0][0]] += count
        part_of.update({scene.name: earlier[0][0] for scene in unit})
    needed = sum(share > 0 for share in wish.shares)
    if len(units) < needed:
        raise DataError(
            f"data.split.by: site needs at least {needed} sites with tiles that lie more than {wish.buffer} px apart, "
            f"and there are {len(units)}. Use data.split.by: blocks, or add sites."
        )
    if free:
        counts = np.array([units[unit] for unit in free])
        for unit, part in zip(free, assign_units(counts, shares, base, seeded(wish.seed, "site")), strict=True):
            part_of.update({scene.name: part for scene in unit})
    return [Region(scene.name, part_of.get(scene.name, "train"), scene.grid.window) for scene in ground.scenes], notes


def _joined_text(unit: Sequence[Scene], earlier: Sequence[tuple[str, str]]) -> str:
    old = {name for _, name in earlier}
    new = ", ".join(scene.name for scene in unit if scene.name not in old) or "the buffer asked now"
    was = " and ".join(f"{name} ({part})" for part, name in earlier)
    return (
        f"In the earlier split {was} belong to different parts; {new} makes them one site: they share ground or "
        "lie closer together than the buffer. Leave it out, or start afresh with data.split.keep: none."
    )


# --- what a person should know ----------------------------------------------------------------------------------------


def _scene_notes(ground: Ground, wish: Wish, used: set[str]) -> list[str]:
    notes = []
    for scene in ground.scenes:
        grid = scene.grid
        if scene.name not in used:
            best = ground.best_share(scene.name, wish.tile_px)
            why = (
                f"its best tile is {best:.0%} measured, data.tiles.min_valid asks {wish.min_valid:.0%}"
                if best < wish.min_valid
                else f"no tile of {wish.tile_px} px fits into its share of the ground"
            )
            notes.append(f"{scene.name} is not used: {why}")
        elif min(grid.height, grid.width) < wish.tile_px:
            notes.append(
                f"{scene.name} is {grid.height} x {grid.width} px, smaller than a tile of {wish.tile_px} px: "
                "it is padded with pixels that do not count"
            )
    return notes


# --- refusals ---------------------------------------------------------------------------------------------------------


def _refuse_empty(ground: Ground, wish: Wish) -> None:
    if not ground.scenes:
        raise DataError("There is no scene to divide. Name sites in data.sites or a folder in data.folder.")
    if any(ground.count(scene, wish) for scene in ground.scenes):
        return
    best, name = max((ground.best_share(scene.name, wish.tile_px), scene.name) for scene in ground.scenes)
    advice = f"Set data.tiles.min_valid to {math.floor(best * 100) / 100:g} or lower, or use smaller tiles"
    if best < 0.01:
        advice = "Check the nodata value (data.nodata), or use smaller tiles"
    raise DataError(
        f"No tile of {wish.tile_px} px has at least {wish.min_valid:.0%} measured pixels; the best, in {name}, has "
        f"{best:.1%}. {advice} (data.tiles.size_px)."
    )


def _is_short(split: Split, wish: Wish) -> bool:
    counts = split.counts()
    return any(counts[part] < LEAST_TILES for part in wish.needed_parts)


def _shortage_text(split: Split, ground: Ground, wish: Wish) -> str:
    counts = ", ".join(f"{part} {count}" for part, count in split.counts().items())
    text = (
        f"The split leaves too few tiles of {wish.tile_px} px: {counts}; each part needs at least {LEAST_TILES} "
        f"(tiles at least {wish.min_valid:.0%} measured, parts {wish.buffer} px apart)."
    )
    for size_px in _smaller_sizes(wish.tile_px):
        smaller = replace(wish, tile_px=size_px, overlap_px=wish.overlap_px * size_px // wish.tile_px)
        try:
            works = not _is_short(_attempt(ground, smaller), smaller)
        except DataError:  # this size fails in another way, so it is no advice
            continue
        if works:
            return f"{text} The largest tile that would work is {size_px} px: set data.tiles.size_px: {size_px}."
    return (
        f"{text} No smaller tile would work either. Add ground, lower data.tiles.min_valid or data.split.buffer_px, "
        "or name the sites of each part with data.split.by: lists."
    )


def _smaller_sizes(tile_px: int) -> list[int]:
    """Multiples of 16 below a size, largest first; of very large sizes about sixteen of them."""
    step = max(16, tile_px // 16 // 16 * 16)
    return [size for size in range(tile_px // step * step, 15, -step) if size < tile_px]
