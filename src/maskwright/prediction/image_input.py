"""Pixels of an image to the network's input, in rows: the same steps as in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from maskwright.data.normalise import PerTileBands
from maskwright.data.sources.interface import Grid
from maskwright.types import Window

__all__ = ["ImageInput", "ImageRows", "Watch"]


class ImageRows(Protocol):
    """What is read: an image, or one seen at another pixel size."""

    @property
    def grid(self) -> Grid: ...

    @property
    def band_names(self) -> tuple[str, ...]: ...

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]: ...


Watch = Callable[[int, npt.NDArray[Any], npt.NDArray[np.bool_]], None]


class ImageInput:
    """The input of one image, read and normalised in rows.

    Args:
        reader: The open image, read as the training read its images.
        normaliser: Of the training.
        watch: Called with (first row, values (C, h, W), valid (h, W)) of rows as they are read, before normalisation.
    """

    def __init__(
        self,
        reader: ImageRows,
        normaliser: Any,
        watch: Watch | None = None,
    ) -> None:
        self._reader, self._normaliser, self._watch = reader, normaliser, watch
        self._by_window = isinstance(normaliser, PerTileBands)

    @property
    def channels(self) -> int:
        """Bands of the network's input."""
        return len(self._reader.band_names)

    def rows(self, start: int, stop: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Rows start..stop: values (C, h, W), 0 where not valid, and valid (h, W).

        Values are the network's input, or raw where every window is stretched on its own, in :meth:`window`.
        """
        values, valid = self._reader.read(Window(start, 0, stop - start, self._reader.grid.width))
        if self._watch is not None:
            self._watch(start, values, valid)
        if self._by_window:
            return values.astype(np.float32), valid
        return np.asarray(self._normaliser.normalise(values, valid), np.float32), valid

    def window(self, values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """The network's input (C, h, w) of one window of :meth:`rows`."""
        return np.asarray(self._normaliser.normalise(values, valid), np.float32) if self._by_window else values
