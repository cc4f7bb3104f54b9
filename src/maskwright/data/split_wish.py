"""What a split is asked to be, and the ground it has to work with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from maskwright.data.regions import PARTS, Region, Split, crs_name
from maskwright.data.tiles import tiles_within, window_shares
from maskwright.errors import DataError
from maskwright.types import Window

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Grid, Scene

__all__ = ["Ground", "Wish", "seeded"]

_ROUNDING = 1e-9  # of a share


@dataclass(frozen=True)
class Wish:
    """The arguments of :func:`maskwright.data.splits.build_split`, and which of two passes this is.

    ``least_tiles``: enough tiles for each part matter more than the nearest shares.
    """

    tile_px: int
    overlap_px: int
    min_valid: float
    by: str
    shares: tuple[float, float, float]
    seed: int
    buffer_px: int | None
    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    previous: Split | None = None
    least_tiles: bool = False

    @property
    def buffer(self) -> int:
        """Least distance between parts in pixels."""
        return self.tile_px if self.buffer_px is None else self.buffer_px

    @property
    def share_by_part(self) -> dict[str, float]:
        return dict(zip(PARTS, self.shares, strict=True))

    @property
    def needed_parts(self) -> tuple[str, ...]:
        """Parts that must not stay (nearly) empty."""
        if self.by == "lists":
            asked = {"train": True, "val": bool(self.val) or self.shares[1] > 0, "test": bool(self.test)}
            return tuple(part for part in PARTS if asked[part])
        return tuple(part for part, share in self.share_by_part.items() if share > 0)


@dataclass(frozen=True)
class Ground:
    """The scenes and what was measured in them.

    Attributes:
        scenes: In the order given.
        valid_share: (scene, cell size in pixels) to the (rows, cols) share of measured pixels in each cell.
    """

    scenes: tuple[Scene, ...]
    valid_share: Callable[[str, int], np.ndarray]
    _cells: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [scene.name for scene in self.scenes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"Several scenes are named {', '.join(twice)}. Give each site a name of its own.")

    def scene(self, name: str) -> Scene:
        return next(scene for scene in self.scenes if scene.name == name)

    def cells(self, scene: str, cell_px: int) -> np.ndarray:
        """Measured shares, asked once for each cell size."""
        key = (scene, cell_px)
        if key not in self._cells:
            self._cells[key] = np.asarray(self.valid_share(scene, cell_px))
        return self._cells[key]

    def kept(self, scene: str, region: Window, tile_px: int, overlap_px: int, min_valid: float) -> list[Window]:
        """The tiles inside a rectangle of a scene with enough measured pixels."""
        grid = self.scene(scene).grid
        windows = tiles_within(region, grid.height, grid.width, tile_px, overlap_px)
        shares = window_shares(lambda cell_px: self.cells(scene, cell_px), windows)
        enough = shares >= max(min_valid - _ROUNDING, _ROUNDING)  # a tile without any measured pixel is of no use
        return [windows[index] for index in np.flatnonzero(enough)]

    def count(self, scene: Scene, wish: Wish) -> int:
        """Kept tiles of a whole scene, without overlap."""
        return len(self.kept(scene.name, scene.grid.window, wish.tile_px, 0, wish.min_valid))

    def best_share(self, scene: str, tile_px: int) -> float:
        return float(self.cells(scene, tile_px).max(initial=0.0))

    def kept_regions(self, previous: Split | None) -> tuple[dict[str, list[Region]], list[str]]:
        """Scene to its regions in an earlier split, for scenes still on the same grid; and what did not fit."""
        if previous is None:
            return {}, []
        kept: dict[str, list[Region]] = {}
        notes = []
        for scene in self.scenes:
            regions = [region for region in previous.regions if region.scene == scene.name]
            if not regions:
                continue
            if not _same_place(previous.grids, scene):
                notes.append(f"{scene.name} has another grid than in the earlier split and counts as new")
                continue
            kept[scene.name] = regions
        return kept, notes


def _same_place(grids: Mapping[str, Grid], scene: Scene) -> bool:
    grid, now = grids[scene.name], scene.grid
    same_pixels = (grid.height, grid.width, grid.transform) == (now.height, now.width, now.transform)
    return same_pixels and crs_name(grid.crs) == crs_name(now.crs)


def seeded(seed: int, *words: str) -> np.random.Generator:
    """A generator that depends on the seed and the words alone."""
    digest = hashlib.sha256("|".join([str(seed), *words]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
