"""Trees one by one, with land cover, crown diameter and density, from one network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from maskwright.losses.instances import crown_by_sample, density_by_sample
from maskwright.models.heads import split_heads
from maskwright.tasks.object_task import ObjectTask
from maskwright.types import Batch

if TYPE_CHECKING:
    from maskwright.losses import CombinedLoss

__all__ = ["Agroforestry"]


class Agroforestry(ObjectTask):
    """As ``ObjectTask``, with two heads more: ``diameter`` in units of ``scale_px``, and ``density`` in peaks of one
    object.

    Args:
        class_names: As of ``ObjectTask``.
        loss: As of ``ObjectTask``.
        density_sigma_px: Width of the bells of the density map.
        options: As of ``ObjectTask``.
    """

    kind: ClassVar[str] = "agroforestry"
    extra_heads: ClassVar[tuple[str, ...]] = ("diameter", "density")

    def __init__(
        self,
        class_names: Sequence[str],
        loss: CombinedLoss | None = None,
        *,
        density_sigma_px: float = 6.0,
        **options: Any,
    ) -> None:
        super().__init__(class_names, loss, **options)
        self.density_sigma_px = float(density_sigma_px)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``model.json``."""
        return {**super().to_dict(), "density_sigma_px": self.density_sigma_px}

    def maps(self, outputs: Tensor) -> dict[str, Tensor]:
        """As of ``ObjectTask``, with ``diameter`` in pixels (0 or more) and ``density`` in objects per pixel.

        Density may lie a little below 0: its sum over any area is the expected count there, and cutting it off would
        add trees where there are none.
        """
        heads = split_heads(outputs.float(), self.heads)
        return {
            **super().maps(outputs),
            "diameter": heads["diameter"].clamp(min=0) * self.scale_px,
            "density": heads["density"] * self._peak,
        }

    @property
    def _peak(self) -> float:
        """Density at the centre of a lone object."""
        return 1.0 / (2.0 * math.pi * self.density_sigma_px**2)

    def _sums(self, name: str, heads: Mapping[str, Tensor], maps: Mapping[str, Tensor], batch: Batch) -> Tensor:
        if name == "crown":
            known = maps["has_diameter"] & batch.valid
            return crown_by_sample(heads["diameter"], maps["diameter"] / self.scale_px, known)
        if name == "density":
            counts = maps["has_objects"][:, None, None] & batch.valid
            return density_by_sample(heads["density"] * self._peak, maps["density"], counts, self.density_sigma_px)
        return super()._sums(name, heads, maps, batch)
