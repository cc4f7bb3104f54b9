"""Heights of a scene to the network's input, in rows: the same steps as in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from maskwright.data.context import MARGIN_PX, context_bands, context_channels
from maskwright.data.normalise import (
    MetresNormaliser,
    Normaliser,
    PerTileNormaliser,
    ReferenceSurface,
    build_reference,
    normalise_heights,
)
from maskwright.types import Window

__all__ = ["SceneInput"]

Read = Callable[[Window], npt.NDArray[np.float32]]


class SceneInput:
    """The input of one scene, read and normalised in rows.

    Building one reads the surface once, for its reference. A pixel is valid where every band was measured; whatever the
    files hold elsewhere plays no part.

    Args:
        bands: For each channel ``dsm`` or ``chm``. A CHM is height above ground already; its reference is 0.
        reads: For each channel a window to heights (H, W) float32 metres, NaN where not measured.
        height: Rows of the scene.
        width: Columns of the scene.
        normaliser: Of the training.
        pixel_size_m: Side of a pixel in metres.
        context: Bands derived from the first of ``bands``, as in training.

    Raises:
        DataError: If nothing was measured in a surface.
    """

    def __init__(
        self,
        bands: Sequence[str],
        reads: Sequence[Read],
        height: int,
        width: int,
        normaliser: Normaliser,
        pixel_size_m: float,
        context: Sequence[str] = (),
    ) -> None:
        self._context, self._pixel_size_m = tuple(context), pixel_size_m
        self._reads, self._width, self._normaliser = tuple(reads), width, normaliser
        self._references: list[ReferenceSurface | None] = [None] * len(self._reads)
        if not isinstance(normaliser, MetresNormaliser):
            return
        for channel, (band, read) in enumerate(zip(bands, reads, strict=True)):
            if band == "dsm":
                self._references[channel] = build_reference(
                    read,
                    height,
                    width,
                    cell_px=normaliser.reference_cell_m / pixel_size_m,
                    percentile=normaliser.reference_percentile,
                )

    @property
    def channels(self) -> int:
        """Bands of the network's input."""
        return len(self._reads) + context_channels(self._context)

    def rows(self, start: int, stop: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Rows start..stop: values (C, h, W), 0 where not valid, and valid (h, W).

        Values are the network's input where the normalisation depends on the place alone, else heights in metres that
        :meth:`window` turns into input.
        """
        part = Window(start, 0, stop - start, self._width)
        planes = [read(part) for read in self._reads]
        valid: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(planes), axis=0)
        values = np.empty((self.channels, *valid.shape), np.float32)
        bands = values[: len(planes)]
        if isinstance(self._normaliser, PerTileNormaliser):
            np.copyto(bands, 0.0)
            np.copyto(bands, planes, where=valid)
        else:
            levels = [0.0 if reference is None else reference.window(part) for reference in self._references]
            normalise_heights(self._normaliser, planes, valid, levels, bands)
        if self._context:
            around = self._reads[0](part.grown(MARGIN_PX))
            context_bands(around, self._context, self._pixel_size_m, valid, values[len(planes) :])
        return values, valid

    def window(self, values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """The network's input (C, h, w) of one window of :meth:`rows`."""
        if not isinstance(self._normaliser, PerTileNormaliser):
            return values
        image, bands = values.copy(), len(self._reads)
        normalise_heights(self._normaliser, list(values[:bands]), valid, [0.0] * bands, image[:bands])
        return image
