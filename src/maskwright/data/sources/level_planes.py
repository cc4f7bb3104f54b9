"""Surfaces as the network sees them, kept on disk beside the heights once a scene is read again and again.

To take the reference away from a window costs more than to read the window. A scene of which as many pixels were asked
for as it has is therefore levelled whole, once, into one more memory-mapped plane; the numbers are the same, bit for
bit. Where the cache has no room for it, every window is levelled when it is read.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from typing import Any

import numpy as np

from maskwright.data.cache import Cache, recipe_key, release
from maskwright.data.normalise import MetresNormaliser, ReferenceSurface
from maskwright.errors import DataError
from maskwright.types import Window

__all__ = ["LevelPlanes"]

_BAND_BYTES = 8 * 2**20
_FORMAT = 1  # raise it when the same recipe gives other numbers


class LevelPlanes:
    """One levelled plane for each scene that is read often. Objects may be pickled and forked.

    Args:
        cache: Where the planes lie.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._asked: Counter[tuple[str, MetresNormaliser]] = Counter()
        self._planes: dict[tuple[str, MetresNormaliser], np.ndarray | None] = {}
        self._process = os.getpid()

    def plane(
        self,
        key: str,
        normaliser: MetresNormaliser,
        surface: np.ndarray,
        reference: ReferenceSurface,
        pixels: int,
    ) -> np.ndarray | None:
        """The levelled plane (H, W) float32, NaN where not measured; None if there is none, or none yet.

        Args:
            key: Of the surface in the cache.
            normaliser: What levels it.
            surface: (H, W) float32 metres, NaN where not measured.
            reference: What is taken away.
            pixels: How many pixels are asked for now.
        """
        if self._process != os.getpid():
            self._planes, self._process = {}, os.getpid()
        wanted = key, normaliser
        if wanted in self._planes:
            return self._planes[wanted]
        self._asked[wanted] += pixels
        if self._asked[wanted] > surface.size:
            self._planes[wanted] = self._levelled(key, normaliser, surface, reference)
        return self._planes.get(wanted)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_planes": {}}

    def _levelled(
        self, key: str, normaliser: MetresNormaliser, surface: np.ndarray, reference: ReferenceSurface
    ) -> np.ndarray | None:
        height, width = surface.shape
        rows = max(1, _BAND_BYTES // (4 * width))

        def fill(plane: np.ndarray) -> None:
            for row in range(0, height, rows):
                window = Window(row, 0, min(rows, height - row), width)
                part = slice(row, window.row_stop)
                normaliser.level(surface[part], reference.window(window), out=plane[part])
                release(surface)
                release(plane)

        recipe = recipe_key({"level_of": key, "normaliser": normaliser.to_dict(), "format": _FORMAT})
        with contextlib.suppress(DataError):  # full or read-only: then each window is levelled when it is read
            if self._cache.fits(surface.nbytes):
                return np.asarray(self._cache.array(recipe, surface.shape, np.float32, fill, f"level of {key[:12]}"))
        return None
