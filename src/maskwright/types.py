"""The nouns the layers hand to each other: Window, Place, Batch, LossOutput, Prediction.

Torch is imported for type checking only, so that light processes (command line help, dashboard) can read this file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from maskwright.objects import FoundObjects

__all__ = ["Batch", "LossOutput", "Mixed", "Place", "Prediction", "Window"]


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of pixels in a scene. ``row`` and ``col`` may be negative or reach past the scene: padding."""

    row: int
    col: int
    height: int
    width: int

    @property
    def row_stop(self) -> int:
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        return self.col + self.width

    def grown(self, margin_px: int) -> Window:
        """The same rectangle with ``margin_px`` more pixels on each side."""
        return Window(
            self.row - margin_px, self.col - margin_px, self.height + 2 * margin_px, self.width + 2 * margin_px
        )

    def intersection(self, other: Window) -> Window | None:
        """The pixels both rectangles hold, or None."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = min(self.row_stop, other.row_stop) - row
        width = min(self.col_stop, other.col_stop) - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sample comes from: the scene's name and the window in its pixels."""

    scene: str
    window: Window


@dataclass(frozen=True, slots=True)
class Mixed:
    """The second truth of samples whose images were mixed from two (mixup); masks are never blended.

    Attributes:
        target: (B, H, W) as ``Batch.target``.
        valid: (B, H, W) bool.
        share: (B,) float32 in 0..1, how much of the image comes from the first sample; 1 where nothing was mixed.
    """

    target: Tensor
    valid: Tensor
    share: Tensor


@dataclass(slots=True)
class Batch:
    """What a loader gives and a task understands.

    Attributes:
        image: (B, C, H, W) float32, normalised; 0 where not valid.
        target: (B, H, W) int64 class ids, int64 sets of labels (bit k means label k), or float32 values (metres for
            height tasks); 0 where not valid.
        valid: (B, H, W) bool; only these pixels count, anywhere.
        condition: (B, K) float32 or None. For height tasks the K heights in metres asked of each sample.
        where: One Place per sample.
        instances: One object per sample for instance tasks, else None.
        mix: The second truth of mixed samples, else None.
        maps: What else is learned of each sample, (B, ...) by name, for instance tasks; else None.
    """

    image: Tensor
    target: Tensor
    valid: Tensor
    condition: Tensor | None
    where: tuple[Place, ...]
    instances: list[object] | None = None
    mix: Mixed | None = None
    maps: Mapping[str, Tensor] | None = None

    def __len__(self) -> int:
        return int(self.image.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on ``device``; nothing is copied if they are there already."""
        return replace(
            self,
            image=self.image.to(device, non_blocking=True),
            target=self.target.to(device, non_blocking=True),
            valid=self.valid.to(device, non_blocking=True),
            condition=None if self.condition is None else self.condition.to(device, non_blocking=True),
            mix=None
            if self.mix is None
            else Mixed(
                self.mix.target.to(device, non_blocking=True),
                self.mix.valid.to(device, non_blocking=True),
                self.mix.share.to(device, non_blocking=True),
            ),
            maps=None
            if self.maps is None
            else {name: values.to(device, non_blocking=True) for name, values in self.maps.items()},
        )

    def part(self, where: slice) -> Batch:
        """Some of the samples, their tensors views of these."""
        return replace(
            self,
            image=self.image[where],
            target=self.target[where],
            valid=self.valid[where],
            condition=None if self.condition is None else self.condition[where],
            where=self.where[where],
            instances=None if self.instances is None else self.instances[where],
            mix=None
            if self.mix is None
            else Mixed(self.mix.target[where], self.mix.valid[where], self.mix.share[where]),
            maps=None if self.maps is None else {name: values[where] for name, values in self.maps.items()},
        )


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A loss and its parts. ``total`` carries the gradient; ``terms`` are detached scalars by name, unweighted."""

    total: Tensor
    terms: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Decoded output.

    Attributes:
        probs: (B, K, H, W) float32 in 0..1. For height tasks channel k belongs to ``heights_m[k]``, monotone in it.
        heights_m: The K heights in metres, ascending; empty for class tasks.
        violations: (K - 1,) int64: pixels where the raw output at height k lay above that at k + 1; None if unknown.
        objects: What was found in each of the B samples, for tasks of objects; else None.
        density: (B, 1, H, W) float32 objects per pixel, for tasks that tell it; else None.
        maps: Raw maps (B, C, H, W) float32 by name from which objects are grouped; None where there are none.
    """

    probs: Tensor
    heights_m: tuple[float, ...] = ()
    violations: Tensor | None = None
    objects: tuple[FoundObjects, ...] | None = None
    density: Tensor | None = None
    maps: Mapping[str, Tensor] | None = None
