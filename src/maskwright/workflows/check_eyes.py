"""Looking at the samples of a source, whatever its kind: values as stored, what is marked, pictures for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.preflight_look import Look, look_at
from maskwright.data.regions import PARTS, Split
from maskwright.data.sources.images import ImageScenes
from maskwright.data.sources.rasters import HeightRasters
from maskwright.pictures import RGB, draw_outlines, height_colors, overlay_mask, series_colors, shade
from maskwright.types import Place, Window

__all__ = ["AnySource", "Eyes", "Sample"]

AnySource = HeightRasters | ImageScenes

_ONE_CLASS: RGB = (213, 94, 0)  # stands out from grey and green
_WHOLE_PX = 4_000_000  # scenes up to this size are looked at as a whole
_FEW_SCENES = 12  # of fewer scenes the tiles are looked at


@dataclass(frozen=True, slots=True)
class Sample:
    """What is looked at: a whole image, or one tile.

    Attributes:
        name: For people.
        place: Scene and window.
        part: ``train``, ``val``, ``test``, or empty.
    """

    name: str
    place: Place
    part: str


class Eyes:
    """Reads samples of a source for a person.

    Args:
        source: Height rasters or images.
        heights_m: Heights of gaps, for height rasters.
    """

    def __init__(self, source: AnySource, heights_m: Sequence[float] = ()) -> None:
        self.source = source
        self.heights_m = tuple(heights_m) or (5.0,)
        self._scenes = {scene.name: scene for scene in source.scenes}

    @property
    def band_names(self) -> tuple[str, ...]:
        if isinstance(self.source, ImageScenes):
            return tuple(self.source.band_names)
        return ("canopy",) if self._canopy_only else ("surface", "canopy")

    @property
    def what(self) -> str:
        """What ``class_names`` are."""
        return "classes" if isinstance(self.source, ImageScenes) else "canopy below"

    @property
    def class_names(self) -> tuple[str, ...]:
        """What is marked: classes without the background, or gaps at each height."""
        if isinstance(self.source, ImageScenes):
            table = self.source.classes
            skip = table.form == "multiclass" and table.background is not None
            return tuple(table.names[1:] if skip else table.names)
        return tuple(f"{height:g} m" for height in self.heights_m)

    @property
    def colors(self) -> list[RGB]:
        """A colour for each of ``class_names``."""
        if isinstance(self.source, ImageScenes):
            return [_ONE_CLASS] if len(self.class_names) == 1 else series_colors(list(self.class_names))
        return height_colors(len(self.heights_m))

    def samples(self, split: Split | None, most: int) -> list[Sample]:
        """Whole images, or tiles where images are few or large; evenly picked if there are more than ``most``."""
        scenes = self.source.scenes
        if isinstance(self.source, ImageScenes) and len(scenes) >= _FEW_SCENES:
            small = [scene for scene in scenes if scene.grid.height * scene.grid.width <= _WHOLE_PX]
            if len(small) == len(scenes):
                parts = self.parts(split)
                every = [Sample(s.name, Place(s.name, s.grid.window), parts.get(s.name, "")) for s in scenes]
                return _evenly(every, most)
        if split is None:
            return _evenly([sample for scene in scenes for sample in _tiles_of(scene.name, scene.grid.window)], most)
        placed = [(place, part) for part in PARTS for place in split.tiles[part]]
        return _evenly([Sample(_name(place), place, part) for place, part in placed], most)

    def parts(self, split: Split | None) -> dict[str, str]:
        """Scene to its part; scenes in several parts, or in none, are left out."""
        found: dict[str, set[str]] = {}
        for region in split.regions if split is not None else ():
            found.setdefault(region.scene, set()).add(region.part)
        return {name: next(iter(parts)) for name, parts in found.items() if len(parts) == 1}

    def file(self, scene: str) -> Path | None:
        """The file of a scene."""
        files = self._scenes[scene].files
        return files[0] if files else None

    def look(self, sample: Sample) -> Look:
        """Measure one sample."""
        values, valid = self.values(sample.place)
        target, counted = self.source.label(sample.place.scene, sample.place.window)
        ids: dict[int, int] = {}
        if isinstance(self.source, ImageScenes) and self.source.classes.form != "multilabel":
            numbers, counts = np.unique(target[counted], return_counts=True)
            ids = {int(number): int(count) for number, count in zip(numbers, counts, strict=True)}
        return look_at(
            values,
            valid & counted,
            self.marked(target, counted),
            name=sample.name,
            scene=sample.place.scene,
            file=str(self.file(sample.place.scene) or ""),
            part=sample.part,
            classes=ids,
        )

    def values(self, place: Place) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(C, H, W) values as stored and (H, W) pixels that were measured."""
        if isinstance(self.source, ImageScenes):
            return self.source.pixels(place.scene, place.window)
        canopy = self.source.canopy(place.scene, place.window)
        planes = [canopy] if self._canopy_only else [self.source.surface(place.scene, place.window), canopy]
        stack = np.stack(planes)
        valid = np.isfinite(stack).all(axis=0)
        return np.where(valid, stack, np.float32(0.0)), valid

    def marked(self, target: NDArray[Any], counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(H, W) bool: foreground; of heights the gaps at the middle height."""
        marked: NDArray[np.bool_] = target != 0
        if not isinstance(self.source, ImageScenes):
            marked = target < self.heights_m[len(self.heights_m) // 2]
        return counted & marked

    def masks(self, place: Place) -> NDArray[np.bool_]:
        """(K, H, W) bool: one mask for each of ``class_names``."""
        target, counted = self.source.label(place.scene, place.window)
        if not isinstance(self.source, ImageScenes):
            return np.stack([counted & (target < height) for height in self.heights_m])
        table = self.source.classes
        if table.form == "binary":
            return np.stack([counted & (target == 1)])
        if table.form == "multilabel":
            return np.stack([counted & ((target >> bit) & 1 == 1) for bit in range(len(table.names))])
        first = 1 if table.background is not None else 0
        return np.stack([counted & (target == index) for index in range(first, len(table.names))])

    def picture(self, place: Place, *, alpha: float = 0.35) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: the sample with its masks painted over and outlined."""
        painted = self.plain(place)
        masks = self.masks(place)
        order = range(len(masks)) if isinstance(self.source, ImageScenes) else reversed(range(len(masks)))
        for index in order:
            painted = overlay_mask(painted, masks[index], self.colors[index], alpha)
            painted = draw_outlines(painted, masks[index], self.colors[index])
        return painted

    def plain(self, place: Place) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: the sample alone."""
        if isinstance(self.source, ImageScenes):
            return self.source.picture(place.scene, place.window)
        surface = self.source.surface(place.scene, place.window)
        return shade(surface, self._scenes[place.scene].grid.pixel_size_m)

    @property
    def _canopy_only(self) -> bool:
        return isinstance(self.source, HeightRasters) and all(
            fact["surface"] == "chm" and not fact["terrain"] for fact in self.source.describe().values()
        )


def _name(place: Place) -> str:
    return f"{place.scene} row {place.window.row}, column {place.window.col}"


def _tiles_of(scene: str, window: Window, side_px: int = 512) -> Iterator[Sample]:
    for row in range(0, window.height, side_px):
        for col in range(0, window.width, side_px):
            part = Window(row, col, min(side_px, window.height - row), min(side_px, window.width - col))
            place = Place(scene, part)
            yield Sample(_name(place), place, "")


def _evenly(entries: list[Sample], most: int) -> list[Sample]:
    if len(entries) <= most:
        return entries
    picked = np.unique(np.linspace(0, len(entries) - 1, most).astype(int))
    return [entries[index] for index in picked]
