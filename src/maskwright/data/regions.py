"""The nouns of a split: Region, a rectangle of a scene that belongs to one part, and Split, all regions and tiles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from maskwright.data.tiles import covered_px
from maskwright.errors import DataError
from maskwright.types import Place, Window

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Grid

__all__ = ["PARTS", "Region", "Split", "crs_name"]

PARTS = ("train", "val", "test")

_WAYS = {
    "site": "whole sites",
    "blocks": "blocks inside sites",
    "lists": "lists of sites",
    "image": "whole images",
    "group": "groups of images",
    "folders": "folders of images",
    "files": "files that list images",
}
_OF_IMAGES = ("image", "group", "folders", "files")
_NAMED = ("lists", "folders", "files")
_MOST_LINES = 40  # scenes listed one by one in a summary


@dataclass(frozen=True, slots=True, order=True)
class Region:
    """A rectangle of a scene that one part may use; it lies inside the scene.

    Attributes:
        scene: Name of the scene.
        part: ``train``, ``val`` or ``test``.
        window: The rectangle in pixels of the scene.
    """

    scene: str
    part: str
    window: Window


@dataclass(frozen=True)
class Split:
    """Which ground belongs to which part.

    Attributes:
        by: ``site``, ``blocks`` or ``lists``, or for whole images ``image``, ``group``, ``folders``, ``files`` or
            ``lists``: how it was made.
        seed: Seed it was made with.
        shares: Shares asked for train, val and test; they add up to 1.
        tile_px: Side of the tiles.
        buffer_px: Least distance between parts, in pixels of the coarser of two scenes.
        regions: Where each part may take its samples from; rectangles of different parts keep the buffer.
        tiles: Part to its kept tiles. Those of train may overlap, those of val and test never do within a scene.
        grids: Scene to the grid it had when the split was made.
        notes: What a person should know about the split, a sentence each.
    """

    by: str
    seed: int
    shares: tuple[float, float, float]
    tile_px: int
    buffer_px: int
    regions: tuple[Region, ...]
    tiles: dict[str, tuple[Place, ...]]
    grids: dict[str, Grid] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def region_of(self, place: Place) -> Region:
        """The region that holds a tile of this split.

        Raises:
            DataError: If the place is no tile of the split.
        """
        try:
            return self._region_by_place[place]
        except KeyError:
            raise DataError(f"{place} is no tile of this split.") from None

    def counts(self) -> dict[str, int]:
        """Part to its number of tiles."""
        return {part: len(self.tiles[part]) for part in PARTS}

    def real_shares(self) -> dict[str, float]:
        """Part to its share of all that is kept; pixels in overlapping tiles count once."""
        pixels = {part: sum(self._covered_px(part, scene) for scene in self.scene_names) for part in PARTS}
        total = max(1, sum(pixels.values()))
        return {part: count / total for part, count in pixels.items()}

    def area_ha(self, part: str) -> float:
        """Hectares of scene under the tiles of a part; ground seen in several scenes counts in each."""
        total = 0.0
        for scene in self.scene_names:
            grid = self.grids[scene]
            total += self._covered_px(part, scene, grid.window) * grid.pixel_size_m**2
        return total / 10_000

    def images(self, part: str) -> int:
        """Scenes of which a part has tiles."""
        return len({place.scene for place in self.tiles[part]})

    @property
    def scene_names(self) -> tuple[str, ...]:
        """The scenes that were divided, in order."""
        return tuple(self.grids)

    def summary(self) -> str:
        """One block of text: tiles, shares and hectares of each part, and the tiles of each scene."""
        real, counts = self.real_shares(), self.counts()
        measure = "images" if self.by in _OF_IMAGES else "hectares"
        lines = [
            f"Split by {_WAYS.get(self.by, self.by)}: tiles of {self.tile_px} px, seed {self.seed}, "
            f"parts at least {self.buffer_px} px apart",
            f"  {'part':<5} {'tiles':>7} {'share':>7} {'asked':>7} {measure:>10}",
        ]
        for part, share in zip(PARTS, self.shares, strict=True):
            asked = "listed" if self.by in _NAMED else f"{share:.1%}"
            size = f"{self.images(part)}" if self.by in _OF_IMAGES else f"{self.area_ha(part):.2f}"
            lines.append(f"  {part:<5} {counts[part]:>7} {real[part]:>7.1%} {asked:>7} {size:>10}")
        width = max([5, *(len(name) for name in self.scene_names)])
        lines.append(f"  {'scene':<{width}} " + " ".join(f"{part:>7}" for part in PARTS))
        for name in self.scene_names[:_MOST_LINES]:
            tiles = (len(self._windows.get((part, name), [])) for part in PARTS)
            lines.append(f"  {name:<{width}} " + " ".join(f"{count:>7}" for count in tiles))
        if len(self.scene_names) > _MOST_LINES:
            lines.append(f"  and {len(self.scene_names) - _MOST_LINES} more scenes")
        return "\n".join(lines)

    @cached_property
    def _region_by_place(self) -> dict[Place, Region]:
        by_scene: dict[tuple[str, str], list[Region]] = {}
        for region in self.regions:
            by_scene.setdefault((region.scene, region.part), []).append(region)
        return {
            place: _holder(place, by_scene.get((place.scene, part), [])) for part in PARTS for place in self.tiles[part]
        }

    @cached_property
    def _windows(self) -> dict[tuple[str, str], list[Window]]:
        windows: dict[tuple[str, str], list[Window]] = {}
        for part in PARTS:
            for place in self.tiles[part]:
                windows.setdefault((part, place.scene), []).append(place.window)
        return windows

    def _covered_px(self, part: str, scene: str, inside: Window | None = None) -> int:
        windows: Iterable[Window | None] = self._windows.get((part, scene), [])
        if inside is not None:
            windows = [window.intersection(inside) for window in windows if window is not None]
        return covered_px([window for window in windows if window is not None])


def _holder(place: Place, regions: list[Region]) -> Region:
    """The region in which a tile begins; regions of one scene do not meet."""
    window = place.window
    for region in regions:
        area = region.window
        if area.row <= window.row < area.row_stop and area.col <= window.col < area.col_stop:
            return region
    raise DataError(
        f"The tile at row {window.row}, column {window.col} of {place.scene} lies in no region of its part."
    )


@lru_cache(maxsize=256)
def crs_name(wkt: str | None) -> str | None:
    """A short name for a coordinate reference system: ``EPSG:n`` where it has a code, else its WKT; None stays None."""
    if wkt is None:
        return None
    from rasterio.crs import CRS

    code = CRS.from_wkt(wkt).to_epsg()
    return wkt if code is None else f"EPSG:{code}"
