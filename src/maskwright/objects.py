"""Objects a model has found in an image or a raster, one by one: trees, defects. Plain arrays, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from maskwright.errors import ShapeError

__all__ = ["Crop", "FoundObjects", "id_map_of", "join_objects", "paint_crops"]


class Crop(NamedTuple):
    """The pixels of one object: a small bool array and where its upper left pixel lies. Both may lie outside."""

    row: int
    col: int
    pixels: np.ndarray


@dataclass(frozen=True, eq=False)
class FoundObjects:
    """N objects with their classes, scores and pixels. Coordinates are pixels from the upper left corner.

    Attributes:
        boxes: (N, 4) float32 x0, y0, x1, y1, edges: the first pixel reaches from 0 to 1.
        labels: (N,) int64 class ids, from 1.
        scores: (N,) float32 in 0..1.
        centres: (N, 2) float32 x, y.
        diameter: (N,) float32 crown diameter in pixels; NaN where it is not known.
        masks: N crops; they may overlap.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    centres: np.ndarray
    diameter: np.ndarray
    masks: tuple[Crop, ...]

    def __post_init__(self) -> None:
        count = len(self.masks)
        sizes = {"boxes": (count, 4), "labels": (count,), "scores": (count,), "centres": (count, 2)}
        for name, shape in {**sizes, "diameter": (count,)}.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(f"{count} objects need {name} {shape}, not {getattr(self, name).shape}.")

    @classmethod
    def none(cls) -> FoundObjects:
        """No object."""
        zero = np.zeros(0, np.float32)
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), zero, np.zeros((0, 2), np.float32), zero, ())

    def __len__(self) -> int:
        return len(self.masks)

    def pick(self, indices: Sequence[int] | np.ndarray) -> FoundObjects:
        """Some of the objects, by position in the order given, or by an (N,) bool array."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        return FoundObjects(
            self.boxes[chosen],
            self.labels[chosen],
            self.scores[chosen],
            self.centres[chosen],
            self.diameter[chosen],
            tuple(self.masks[index] for index in chosen),
        )

    def shifted(self, row: int, col: int) -> FoundObjects:
        """The same objects told from a corner that lies ``row`` rows above and ``col`` columns left of the present."""
        moved = np.array([col, row], np.float32)
        return replace(
            self,
            boxes=self.boxes + np.tile(moved, 2),
            centres=self.centres + moved,
            masks=tuple(Crop(crop.row + row, crop.col + col, crop.pixels) for crop in self.masks),
        )

    def id_map(self, height: int, width: int) -> np.ndarray:
        """(height, width) int32: 0, or 1 + the position of the object there; where several are, the best score."""
        order = np.argsort(self.scores, kind="stable")
        return id_map_of([self.masks[index] for index in order], order, height, width)

    def areas(self) -> np.ndarray:
        """(N,) int64 pixels of each object."""
        return np.array([np.count_nonzero(crop.pixels) for crop in self.masks], np.int64)


def id_map_of(crops: Sequence[Crop], numbers: Sequence[int] | np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) int32: 0, or 1 + the number of the crop there, later ones on top; what lies outside is cut."""
    out = np.zeros((height, width), np.int32)
    paint_crops(out, crops, [number + 1 for number in numbers])
    return out


def paint_crops(out: np.ndarray, crops: Sequence[Crop], values: Sequence[int] | np.ndarray) -> None:
    """Write a value into (H, W) where each crop is, later ones on top; what lies outside is cut."""
    height, width = out.shape
    for crop, value in zip(crops, values, strict=True):
        rows, cols = crop.pixels.shape
        top, left = max(crop.row, 0), max(crop.col, 0)
        bottom, right = min(crop.row + rows, height), min(crop.col + cols, width)
        if bottom > top and right > left:
            inside = crop.pixels[top - crop.row : bottom - crop.row, left - crop.col : right - crop.col]
            out[top:bottom, left:right][inside] = value


def join_objects(parts: Sequence[FoundObjects]) -> FoundObjects:
    """The objects of all parts, in their order."""
    if not parts:
        return FoundObjects.none()
    return FoundObjects(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.centres for part in parts]),
        np.concatenate([part.diameter for part in parts]),
        tuple(crop for part in parts for crop in part.masks),
    )
