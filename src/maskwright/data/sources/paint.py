"""Objects burned into label arrays: ids of classes that exclude each other, or sets of labels that may overlap.

A pixel belongs to an area if its centre lies inside (``all_touched``: if the area touches it at all). A centre exactly
on an outline goes to one side of it only, so areas that share an outline never both hold a pixel. Lines cover the
pixels they run through, one pixel wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from rasterio.features import rasterize

from maskwright.data.sources.classes import ClassTable, label_dtype, not_counted
from maskwright.data.sources.shapes import Box, Disc, Runs, Shape

__all__ = ["UNCOUNTED", "LabelObject", "Order", "burn", "empty_value", "paint_objects", "painting_order"]

UNCOUNTED = -1
"""Class of objects whose pixels do not count."""

Order = Literal["small_on_top", "as_listed"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelObject:
    """One object of a label.

    Attributes:
        label: What it is: class id (binary 1), or the number of the bit; ``UNCOUNTED`` if it does not count.
        box: x0, y0, x1, y1 in pixels.
        shape: Its outline; None if only the box is known and boxes are not filled.
        ignored: True if its pixels do not count although its class is known (a crowd).
        crowd: True if it stands for several objects.
        crown_diameter: As the label says it; NaN if it does not.
        is_box: True if the shape is the box, since nothing else is known.
    """

    label: int
    box: Box
    shape: Shape | None
    ignored: bool = False
    crowd: bool = False
    crown_diameter: float = float("nan")
    is_box: bool = False

    @property
    def painted_as(self) -> int:
        """Class or bit, or ``UNCOUNTED``."""
        return UNCOUNTED if self.ignored else self.label


def paint_objects(
    objects: Sequence[LabelObject],
    height: int,
    width: int,
    classes: ClassTable,
    *,
    order: Order = "small_on_top",
    all_touched: bool = False,
) -> np.ndarray:
    """The label array of an image.

    Classes that exclude each other: objects that do not count lie at the bottom, then the others in ``order``, later
    ones over earlier ones: ``small_on_top`` from the largest to the smallest area, ``as_listed`` as they come. Where
    every pixel belongs to a named class (no background), pixels under no object do not count.
    Labels that may overlap: each has its bit; pixels under an object that does not count do not count at all, since
    which labels hold there is not known.

    Args:
        objects: In the order listed; those without a shape paint nothing.
        height: Rows.
        width: Columns.
        classes: What the ids mean.
        order: Which of two overlapping objects is seen.
        all_touched: Every pixel an area touches belongs to it.

    Returns:
        (H, W) uint8 ids, 255 where not counted; or uint16 sets of bits, 65535 where not counted.
    """
    out = np.full((height, width), empty_value(classes), label_dtype(classes.form))
    drawn = [entry for entry in objects if entry.shape is not None]
    uncounted = [entry.shape for entry in drawn if entry.painted_as == UNCOUNTED and entry.shape is not None]
    counted = [entry for entry in drawn if entry.painted_as != UNCOUNTED]
    if classes.form == "multilabel":
        for bit in sorted({entry.label for entry in counted}):
            out |= _held_by(_shapes(entry for entry in counted if entry.label == bit), out.shape, all_touched) << bit
        if uncounted:
            out[_held_by(uncounted, out.shape, all_touched) > 0] = not_counted(classes.form)
        return out
    burn(out, uncounted, [not_counted(classes.form)] * len(uncounted), all_touched=all_touched)
    shapes = _shapes(counted)
    turns = painting_order(shapes, order)
    burn(out, [shapes[i] for i in turns], [counted[i].label for i in turns], all_touched=all_touched)
    return out


def empty_value(classes: ClassTable) -> int:
    """What pixels under no object hold: the background, no label, or "does not count" where there is no background."""
    nameless = classes.form == "multiclass" and classes.background is None
    return not_counted(classes.form) if nameless else 0


def painting_order(shapes: Sequence[Shape], order: Order) -> list[int]:
    """Positions in the order they are painted; of equal areas the one listed later lies on top."""
    if order == "as_listed":
        return list(range(len(shapes)))
    areas = np.array([shape.area for shape in shapes])
    return [int(i) for i in np.argsort(-areas, kind="stable")]


def burn(
    out: np.ndarray,
    shapes: Sequence[Shape],
    values: Sequence[int],
    *,
    origin: tuple[int, int] = (0, 0),
    all_touched: bool = False,
) -> None:
    """Paint shapes into an array one after another, later ones over earlier ones.

    Args:
        out: (H, W) uint8, uint16 or int32, changed in place.
        shapes: In pixels of the whole image; what lies outside ``out`` is cut off.
        values: What each paints.
        origin: Row and column of the image where ``out`` begins.
        all_touched: Every pixel an area touches belongs to it.
    """
    if not out.size:
        return
    waiting: list[tuple[Any, int]] = []  # rasterize goes through many at once much faster than one by one
    for shape, value in zip(shapes, values, strict=True):
        if isinstance(shape, Runs | Disc):
            _rasterize(waiting, out, all_touched)
            waiting = []
            shape.burn(out, value, origin)
        else:
            waiting += [(geometry, value) for geometry in shape.geometries(origin)]
    _rasterize(waiting, out, all_touched)


def _rasterize(waiting: list[tuple[Any, int]], out: np.ndarray, all_touched: bool) -> None:
    if waiting:
        rasterize(waiting, out=out, all_touched=all_touched, skip_invalid=False)


def _shapes(entries: Any) -> list[Shape]:
    return [entry.shape for entry in entries]


def _held_by(shapes: Sequence[Shape], size: tuple[int, ...], all_touched: bool) -> np.ndarray:
    held = np.zeros(size, np.uint16)
    burn(held, shapes, [1] * len(shapes), all_touched=all_touched)
    return held
