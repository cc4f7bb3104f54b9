"""Objects one by one: boxes, classes, crowns, and masks that are painted only when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from maskwright.data.sources.paint import LabelObject, burn, painting_order
from maskwright.data.sources.shapes import Shape, box_shape
from maskwright.types import Window

__all__ = ["Instances", "crown_diameter_from_area", "crown_map", "gather_instances"]


@dataclass(frozen=True, eq=False)
class Instances:
    """The N objects of an image, or of a window of it.

    Attributes:
        window: The pixels looked at; boxes and masks are told from its upper left corner.
        boxes: (N, 4) float32: x0, y0, x1, y1 in pixels from that corner, cut at the window.
        labels: (N,) int64: class id (binary 1) or number of the bit; -1 for objects that do not count.
        crown_diameter: (N,) float32 as the label says it, in its unit; NaN where it does not.
        crowd: (N,) bool: stands for several objects, or does not count; never matched, never missed.
        shapes: N outlines in pixels of the whole image; None where only the box is known.
    """

    window: Window
    boxes: np.ndarray
    labels: np.ndarray
    crown_diameter: np.ndarray
    crowd: np.ndarray
    shapes: tuple[Shape | None, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def has_outline(self) -> np.ndarray:
        """(N,) bool: False where only the box is known."""
        return np.array([shape is not None for shape in self.shapes], bool)

    def mask(self, index: int) -> np.ndarray:
        """(H, W) bool: the pixels of one object, overlaps included; of its box where that is all there is."""
        out = np.zeros((self.window.height, self.window.width), np.uint8)
        burn(out, [self._outline(index)], [1], origin=(self.window.row, self.window.col))
        return out.view(np.bool_)

    def masks(self) -> np.ndarray:
        """(N, H, W) bool: every object's pixels."""
        out = np.zeros((len(self), self.window.height, self.window.width), bool)
        for index in range(len(self)):
            out[index] = self.mask(index)
        return out

    def id_map(self) -> np.ndarray:
        """(H, W) int32: 0, or 1 + the position of the object seen there, the smaller on top. Crowds are left out."""
        out = np.zeros((self.window.height, self.window.width), np.int32)
        members = [int(index) for index in np.flatnonzero(~self.crowd)]
        outlines = [self._outline(index) for index in members]
        turns = painting_order(outlines, "small_on_top")
        burn(
            out,
            [outlines[turn] for turn in turns],
            [1 + members[turn] for turn in turns],
            origin=(self.window.row, self.window.col),
        )
        return out

    def areas(self) -> np.ndarray:
        """(N,) float64 square pixels of the whole outlines, parts outside the window included."""
        return np.array([self._outline(index).area for index in range(len(self))], np.float64)

    def crop(self, window: Window) -> Instances:
        """The objects whose boxes reach into a window of these pixels; boxes are cut at it.

        Args:
            window: Rows and columns from the upper left corner of the present window; may reach past it.
        """
        corner = np.array([window.col, window.row] * 2, np.float32)
        boxes = _cut(self.boxes - corner, window.height, window.width)
        kept = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
        place = Window(self.window.row + window.row, self.window.col + window.col, window.height, window.width)
        return replace(self.pick(kept), window=place, boxes=boxes[kept])

    def pick(self, indices: Sequence[int] | np.ndarray) -> Instances:
        """Some of the objects, in the order given."""
        chosen = np.asarray(indices, np.int64)
        return replace(
            self,
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            crown_diameter=self.crown_diameter[chosen],
            crowd=self.crowd[chosen],
            shapes=tuple(self.shapes[index] for index in chosen),
        )

    def _outline(self, index: int) -> Shape:
        shape = self.shapes[index]
        if shape is not None:
            return shape
        corner = np.array([self.window.col, self.window.row] * 2)
        x0, y0, x1, y1 = (float(value) for value in self.boxes[index] + corner)
        return box_shape((x0, y0, x1, y1))


def gather_instances(objects: Sequence[LabelObject], height: int, width: int) -> Instances:
    """The objects of a label as arrays; boxes are cut at the image of ``height`` by ``width`` pixels."""
    boxes = np.array([entry.box for entry in objects], np.float32).reshape(-1, 4)
    return Instances(
        window=Window(0, 0, height, width),
        boxes=_cut(boxes, height, width),
        labels=np.array([entry.label for entry in objects], np.int64),
        crown_diameter=np.array([entry.crown_diameter for entry in objects], np.float32),
        crowd=np.array([entry.crowd or entry.label < 0 for entry in objects], bool),
        shapes=tuple(None if entry.is_box else entry.shape for entry in objects),
    )


def crown_diameter_from_area(instances: Instances) -> np.ndarray:
    """Diameter in pixels of a circle as large as each object: ``sqrt(4 area / pi)``, (N,) float32.

    For objects whose label says no crown diameter; of boxes the whole box counts, so it is too large by an eighth.
    """
    return np.sqrt(4.0 * instances.areas() / np.pi).astype(np.float32)


def crown_map(instances: Instances) -> np.ndarray:
    """The crown diameter of the object seen at each pixel, the smaller object on top; 0 where there is none.

    The diameter is what the label says, and where it says none :func:`crown_diameter_from_area`, in pixels: labels that
    say some of them should say them in pixels.

    Returns:
        (H, W) float32.
    """
    said = instances.crown_diameter
    diameters = np.where(np.isnan(said), crown_diameter_from_area(instances), said)
    mapped: np.ndarray = np.concatenate([np.zeros(1, np.float32), diameters.astype(np.float32)])[instances.id_map()]
    return mapped


def _cut(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    limits = np.array([width, height, width, height], np.float32)
    cut: np.ndarray = np.minimum(np.maximum(boxes, np.float32(0)), limits)
    return cut
