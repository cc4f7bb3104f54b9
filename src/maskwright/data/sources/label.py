"""What every kind of label offers: the files it is read from, and what it paints on an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from maskwright.data.sources.classes import ClassTable
from maskwright.data.sources.interface import Grid

if TYPE_CHECKING:
    from maskwright.data.sources.instances import Instances

__all__ = ["Label", "LabelSet", "TellingLabel"]


class Label(Protocol):
    """The label of one image. What it paints depends on its files and its recipe alone."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is read from; the content of these and the recipe name the cache entry."""

    def recipe(self) -> Mapping[str, Any]:
        """Plain values that change what is painted: classes, order, radius."""

    def paint(self, grid: Grid) -> np.ndarray:
        """The label of every pixel, of the image's original size.

        Args:
            grid: Of the image before any resizing.

        Returns:
            (H, W) uint8 class ids, 255 where not to be counted; for labels that may overlap (H, W) uint16 sets of bits
            (bit k: label k), 65535 where not to be counted.

        Raises:
            DataError: Naming the file and what to do.
        """

    def instances(self, grid: Grid) -> Instances | None:
        """The objects one by one; None where the label has none."""


@runtime_checkable
class TellingLabel(Label, Protocol):
    """A label that also tells what it met while painting; kept with the decoded image."""

    def paint_and_tell(self, grid: Grid) -> tuple[np.ndarray, dict[str, Any]]:
        """As :meth:`Label.paint`, and plain values about what was found in the file."""


@dataclass(frozen=True)
class LabelSet:
    """The labels of a whole data set.

    Attributes:
        classes: What the ids mean.
        labels: Name of an image to its label; images without one are left out.
        notes: What a person should know, a sentence each.
        faults: What is wrong, a text each that names the file and what to do. The source raises one error with all.
    """

    classes: ClassTable
    labels: dict[str, Label]
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = field(default=())
