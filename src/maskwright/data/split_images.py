"""Dividing whole images into training, validation and test: by files, folders, lists, groups, or at random.

Images of one group, and images whose ground overlaps, always stay together. At random, images with each class are
divided in the same shares, the rarest class first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maskwright.data.regions import PARTS, Region, Split
from maskwright.data.split_names import NamedParts, some
from maskwright.data.split_units import TOLERANCE_PX, frame_of
from maskwright.data.split_wish import seeded
from maskwright.data.tiles import tiles_within, window_shares
from maskwright.errors import DataError
from maskwright.types import Place

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Scene

__all__ = ["IMAGE_WAYS", "build_image_split"]

IMAGE_WAYS = ("image", "group", "folders", "files", "lists")
"""Ways to divide whole images; blocks inside rasters are cut by :func:`maskwright.data.splits.build_split`."""

_AT_RANDOM = ("image", "group")
_ROUNDING = 1e-9  # of a share

ValidShare = Callable[[str, int], np.ndarray]
_Unit = tuple[int, ...]


@dataclass(frozen=True)
class _Wish:
    """The arguments of :func:`build_image_split` that say what the split should be."""

    by: str
    shares: tuple[float, float, float]
    seed: int
    tile_px: int
    overlap_px: int
    min_valid: float

    @property
    def share_by_part(self) -> dict[str, float]:
        return dict(zip(PARTS, self.shares, strict=True))


def build_image_split(
    scenes: Sequence[Scene],
    valid_share: ValidShare,
    *,
    tile_px: int,
    overlap_px: int = 0,
    min_valid: float = 0.02,
    by: str = "image",
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 42,
    named: NamedParts | None = None,
    ids_of: Callable[[str], Sequence[int]] | None = None,
    previous: Split | None = None,
    copies: Sequence[tuple[int, int]] = (),
) -> Split:
    """Divide whole images. The same input always gives the same split.

    Args:
        scenes: The images; those of one ``ground`` stay together, and so do those whose footprints overlap.
        valid_share: (scene, cell size in pixels) to the (rows, cols) share of pixels that count in each cell.
        tile_px: Side of the tiles.
        overlap_px: Overlap of training tiles; those of val and test never overlap.
        min_valid: A tile is kept if at least this share of its pixels counts.
        by: ``image`` or ``group``: at random; ``folders``, ``files`` or ``lists``: as ``named`` says.
        shares: Shares of train, val and test, counted in images; they add up to 1. A part with share 0 gets nothing.
        seed: Of the random division.
        named: The part of each image, for ``folders``, ``files`` and ``lists``. Where it names none for val, images
            of train are divided between the two in their shares.
        ids_of: Scene to the classes found in it, so that each class is divided in the same shares; None: any image
            is as good as any other.
        previous: An earlier split; images it holds keep their part. Not used where parts are named.
        copies: Pairs of indices of images that show the same. They stay together where images are divided at random,
            unless the earlier split has them in different parts.

    Raises:
        DataError: If there are too few images, no tile with enough pixels, or the named parts do not fit the images.
    """
    wish = _Wish(by, shares, seed, tile_px, overlap_px, min_valid)
    if not scenes:
        raise DataError("There is no image to divide. Set data.folder or data.images.")
    notes: list[str] = []
    least = _least_share(wish)
    if not any((valid_share(scene.name, tile_px) >= least).any() for scene in scenes):
        raise DataError(_no_tile_text(wish))
    if named is not None:
        part_of, more = _by_name(scenes, _units(scenes), named, wish, ids_of)
        notes += [*named.notes, *more]
    else:
        part_of, notes = _at_random(scenes, copies, wish, ids_of, previous)
    regions = [Region(scene.name, part_of[scene.name], scene.grid.window) for scene in scenes if scene.name in part_of]
    tiles, unused = _tiles(scenes, valid_share, part_of, wish)
    if unused:
        notes.append(
            f"{len(unused)} images are not used, since no tile of {tile_px} px has {min_valid:.0%} of its pixels that "
            f"count: {some(unused)}"
        )
    _refuse_empty(tiles, part_of, wish, named)
    return Split(
        by=by,
        seed=seed,
        shares=shares,
        tile_px=tile_px,
        buffer_px=0,
        regions=tuple(regions),
        tiles=tiles,
        grids={scene.name: scene.grid for scene in scenes},
        notes=tuple(notes),
    )


def _tiles(
    scenes: Sequence[Scene], valid_share: ValidShare, part_of: Mapping[str, str], wish: _Wish
) -> tuple[dict[str, tuple[Place, ...]], list[str]]:
    """Kept tiles of each part, and images of which none is kept."""
    tiles: dict[str, list[Place]] = {part: [] for part in PARTS}
    unused = []
    least = _least_share(wish)
    for scene in scenes:
        part = part_of.get(scene.name)
        if part is None:
            continue
        grid, name = scene.grid, scene.name
        overlap_px = wish.overlap_px if part == "train" else 0
        windows = tiles_within(grid.window, grid.height, grid.width, wish.tile_px, overlap_px)
        if overlap_px:
            found = window_shares(lambda cell_px, name=name: valid_share(name, cell_px), windows)  # type: ignore[misc]
        else:
            found = valid_share(name, wish.tile_px).ravel()  # these tiles are the cells themselves
        kept = np.flatnonzero(found >= least)
        tiles[part] += [Place(name, windows[index]) for index in kept]
        if not len(kept):
            unused.append(name)
    return {part: tuple(places) for part, places in tiles.items()}, unused


# --- what stays together ----------------------------------------------------------------------------------------------


def _units(scenes: Sequence[Scene], copies: Sequence[tuple[int, int]] = ()) -> list[_Unit]:
    """Indices of images that no split may treat apart, in the order of their first images."""
    group = list(range(len(scenes)))

    def root(index: int) -> int:
        while group[index] != index:
            group[index] = group[group[index]]
            index = group[index]
        return index

    first_of: dict[str, int] = {}
    pairs = [(first_of.setdefault(scene.ground, index), index) for index, scene in enumerate(scenes)]
    for first, second in [*pairs, *_overlapping(scenes), *copies]:
        low, high = sorted((root(first), root(second)))
        group[high] = low
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index in range(len(scenes)):
        members[root(index)].append(index)
    return [tuple(members[index]) for index in sorted(members)]


def _overlapping(scenes: Sequence[Scene]) -> list[tuple[int, int]]:
    """Pairs of images that share ground, more than a rounding error of it."""
    import shapely

    by_frame: defaultdict[object, list[int]] = defaultdict(list)
    for index, scene in enumerate(scenes):
        if scene.grid.is_georeferenced:
            by_frame[frame_of(scene)].append(index)
    pairs: list[tuple[int, int]] = []
    for indices in by_frame.values():
        boxes = np.array([scenes[index].grid.bounds for index in indices])
        pixel = np.array([scenes[index].grid.pixel_size for index in indices])
        tree = shapely.STRtree(shapely.box(*boxes.T))
        first, second = tree.query(shapely.box(*boxes.T), predicate="intersects")
        ahead = first < second
        first, second = first[ahead], second[ahead]
        apart = np.maximum(boxes[first, :2] - boxes[second, 2:], boxes[second, :2] - boxes[first, 2:])
        shared = (apart < -TOLERANCE_PX * np.maximum(pixel[first], pixel[second])).all(axis=1)
        pairs += [(indices[a], indices[b]) for a, b in zip(first[shared], second[shared], strict=True)]
    return pairs


# --- at random --------------------------------------------------------------------------------------------------------


def _at_random(
    scenes: Sequence[Scene],
    copies: Sequence[tuple[int, int]],
    wish: _Wish,
    ids_of: Callable[[str], Sequence[int]] | None,
    previous: Split | None,
) -> tuple[dict[str, str], list[str]]:
    kept, notes = _kept(scenes, previous)
    together, apart = _not_parted(copies, [kept.get(scene.name) for scene in scenes])
    if apart:
        notes.append(
            f"{len(apart)} pairs of copies lie in different parts of the earlier split and stay there: "
            f"{some(f'{scenes[a].name} and {scenes[b].name}' for a, b in apart)}; data.split.keep: none divides afresh"
        )
    units = _units(scenes, together)
    if together:
        alike = len({index for pair in together for index in pair})
        notes.append(
            f"{alike} images are copies or near copies of others; those that show the same stay in one part "
            "(data.split.copies)"
        )
    needed = sum(share > 0 for share in wish.shares)
    if len(units) < needed:
        raise DataError(_too_few_text(len(units), len(scenes), needed, bool(together)))
    part_of_unit: dict[_Unit, str] = {}
    for unit in units:
        earlier = sorted({(kept[name], name) for index in unit if (name := scenes[index].name) in kept})
        if len({part for part, _ in earlier}) > 1:
            raise DataError(_joined_text(scenes, unit, earlier))
        if earlier:
            part_of_unit[unit] = earlier[0][0]
    strata = _strata(scenes, units, ids_of)
    part_of_unit.update(_divided(strata, wish.share_by_part, part_of_unit, seeded(wish.seed, "images")))
    return {scenes[index].name: part for unit, part in part_of_unit.items() for index in unit}, notes


def _not_parted(
    copies: Sequence[tuple[int, int]], part_of: Sequence[str | None]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Pairs that may be joined, and those that an earlier split has in different parts, also over a third image."""
    known: dict[int, set[str]] = {}  # of each image that was met, the parts of all joined with it; one set for all
    members: dict[int, list[int]] = {}
    together, apart = [], []
    for first, second in copies:
        for index in (first, second):
            part = part_of[index]
            known.setdefault(index, set() if part is None else {part})
            members.setdefault(index, [index])
        joined = known[first] | known[second]
        if len(joined) > 1:
            apart.append((first, second))
            continue
        together.append((first, second))
        if members[first] is not members[second]:
            everyone = members[first] + members[second]
            for index in everyone:
                members[index], known[index] = everyone, joined
    return together, apart


def _kept(scenes: Sequence[Scene], previous: Split | None) -> tuple[dict[str, str], list[str]]:
    """Parts that an earlier split gave to images that are still there."""
    if previous is None:
        return {}, []
    if previous.by not in IMAGE_WAYS:
        return {}, [f"the earlier split is not kept: it was made by {previous.by}, this one divides whole images"]
    part_of = {region.scene: region.part for region in previous.regions}
    kept, changed = {}, []
    for scene in scenes:
        grid = previous.grids.get(scene.name)
        if scene.name in part_of and grid is not None:
            if (grid.height, grid.width, grid.transform) == (
                scene.grid.height,
                scene.grid.width,
                scene.grid.transform,
            ):
                kept[scene.name] = part_of[scene.name]
            else:
                changed.append(scene.name)
    if not changed:
        return kept, []
    return kept, [
        f"{len(changed)} images have another size than in the earlier split and count as new: {some(changed)}"
    ]


def _strata(
    scenes: Sequence[Scene], units: Sequence[_Unit], ids_of: Callable[[str], Sequence[int]] | None
) -> list[list[_Unit]]:
    """Units by the rarest class found in them, those with the rarest first; those without any last."""
    if ids_of is None:
        return [list(units)]
    ids = [frozenset(found for index in unit for found in ids_of(scenes[index].name)) for unit in units]
    counts = Counter(found for of_unit in ids for found in of_unit)
    strata: defaultdict[tuple[float, int], list[_Unit]] = defaultdict(list)
    for unit, of_unit in zip(units, ids, strict=True):
        rarest = min(of_unit, key=lambda found: (counts[found], found), default=None)
        strata[(np.inf, -1) if rarest is None else (counts[rarest], rarest)].append(unit)
    return [strata[key] for key in sorted(strata)]


def _divided(
    strata: Sequence[Sequence[_Unit]],
    shares: Mapping[str, float],
    known: Mapping[_Unit, str],
    rng: np.random.Generator,
) -> dict[_Unit, str]:
    """Each unit to the part that lacks most; what rounding leaves over in one stratum is made good in the next."""
    parts = [part for part in PARTS if shares[part] > 0]
    wanted = np.array([shares[part] for part in parts])
    lacking = np.zeros(len(parts))
    chosen: dict[_Unit, str] = {}
    for units in strata:
        lacking += wanted * sum(map(len, units))
        for unit in units:
            if known.get(unit) in parts:
                lacking[parts.index(known[unit])] -= len(unit)
        free = [unit for unit in units if unit not in known]
        order = rng.permutation(len(free))
        for place in sorted(order, key=lambda place: -len(free[place])):  # the largest first, others as drawn
            part = int(np.argmax(lacking))
            chosen[free[place]] = parts[part]
            lacking[part] -= len(free[place])
    _give_to_empty({**known, **chosen}, chosen, parts, rng)
    return chosen


def _give_to_empty(
    everyone: dict[_Unit, str], free: dict[_Unit, str], parts: Sequence[str], rng: np.random.Generator
) -> None:
    """A part that rounding left empty gets a unit of the part with most units, the smallest of them."""
    for part in parts:
        if part in everyone.values():
            continue
        counts = Counter(everyone.values())
        for donor, _ in counts.most_common():
            spare = [unit for unit, of in free.items() if of == donor]
            if spare and counts[donor] > 1:
                smallest = min(map(len, spare))
                fitting = [unit for unit in spare if len(unit) == smallest]
                unit = fitting[int(rng.integers(len(fitting)))]
                free[unit] = everyone[unit] = part
                break


# --- by name ----------------------------------------------------------------------------------------------------------


def _by_name(
    scenes: Sequence[Scene],
    units: Sequence[_Unit],
    named: NamedParts,
    wish: _Wish,
    ids_of: Callable[[str], Sequence[int]] | None,
) -> tuple[dict[str, str], list[str]]:
    faults, notes = list(named.faults), []
    for unit in units:
        parts = sorted(
            {
                (named.parts[scenes[index].name], scenes[index].name)
                for index in unit
                if scenes[index].name in named.parts
            }
        )
        if len({part for part, _ in parts}) > 1:
            where = some(f"{name} ({part})" for part, name in parts)
            faults.append(f"{where} belong to one group or show the same ground. {named.advice} in one part.")
    if faults:
        raise DataError("\n".join(faults))
    unnamed = [scene.name for scene in scenes if scene.name not in named.parts]
    if unnamed:
        notes.append(f"{len(unnamed)} images are in no part and are not used: {some(unnamed)}")
    part_of = {scene.name: named.parts[scene.name] for scene in scenes if scene.name in named.parts}
    has = set(part_of.values())
    if "val" in has or "train" not in has or wish.shares[1] == 0:
        return part_of, notes
    train = [unit for unit in units if part_of.get(scenes[unit[0]].name) == "train"]
    train_share, val_share, _ = wish.shares
    shares = {
        "train": train_share / (train_share + val_share),
        "val": val_share / (train_share + val_share),
        "test": 0.0,
    }
    if len(train) < 2:
        return part_of, notes
    chosen = _divided(_strata(scenes, train, ids_of), shares, {}, seeded(wish.seed, "val"))
    part_of.update({scenes[index].name: part for unit, part in chosen.items() for index in unit})
    count = sum(part == "val" for part in chosen.values())
    notes.append(f"no image is named for validation: {count} of the {len(train)} training images are taken for it")
    return part_of, notes


# --- refusals ---------------------------------------------------------------------------------------------------------


def _refuse_empty(
    tiles: Mapping[str, Sequence[Place]], part_of: Mapping[str, str], wish: _Wish, named: NamedParts | None
) -> None:
    if not any(tiles.values()):
        raise DataError(_no_tile_text(wish))
    needed = {part for part, share in wish.share_by_part.items() if share > 0} if named is None else {"train"}
    for part in PARTS:
        if (part in needed or part in part_of.values()) and not tiles[part]:
            raise DataError(
                f"The part {part} of the split has no tile of {wish.tile_px} px with {wish.min_valid:.0%} of its "
                "pixels that count. Put other images there, or lower data.tiles.min_valid."
            )


def _least_share(wish: _Wish) -> float:
    return max(wish.min_valid - _ROUNDING, _ROUNDING)  # a tile without any pixel that counts is of no use


def _no_tile_text(wish: _Wish) -> str:
    return (
        f"No tile of {wish.tile_px} px has {wish.min_valid:.0%} of its pixels that count. Check data.nodata and "
        "data.alpha, lower data.tiles.min_valid, or use smaller tiles (data.tiles.size_px)."
    )


def _too_few_text(units: int, images: int, needed: int, has_copies: bool) -> str:
    what = f"{images} images" if units == images else f"{images} images in {units} groups that stay together"
    copies = " If they only look like copies of each other, set data.split.copies: ignore." if has_copies else ""
    return (
        f"{what} cannot be divided into {needed} parts. Add images, set a share to 0 (data.split.shares), or cut the "
        f"images themselves with data.split.by: blocks.{copies}"
    )


def _joined_text(scenes: Sequence[Scene], unit: _Unit, earlier: Sequence[tuple[str, str]]) -> str:
    old = {name for _, name in earlier}
    new = [scenes[index].name for index in unit if scenes[index].name not in old]
    was = some(f"{name} ({part})" for part, name in earlier)
    why = f"{some(new)} joins them" if new else "they are one group now, or show the same ground"
    return (
        f"In the earlier split {was} belong to different parts, and {why}. Change data.split.group_pattern, leave the "
        "new images out, or start afresh with data.split.keep: none."
    )
