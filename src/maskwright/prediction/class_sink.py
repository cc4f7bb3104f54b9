"""Finished rows of classes to their files: codes, probabilities, uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from maskwright.data.sources.image_file import resize_nearest
from maskwright.prediction.class_masks import class_codes
from maskwright.prediction.class_outputs import ClassPlan
from maskwright.prediction.geotiff import RowWriter
from maskwright.prediction.raster_stream import Band
from maskwright.prediction.uncertainty import entropy_bits

__all__ = ["ClassSink"]

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


class ClassSink:
    """Writes finished rows of classes.

    Args:
        plan: Classes and thresholds.
        files: For codes, then those of probabilities and of uncertainty that are written.
        uncertainty: What is told: ``none``, ``entropy`` or ``spread``.
        with_probs: There is a file of probabilities.
        resized: Rows are of an image that the training resized: they are kept for :meth:`finish`.

    Attributes:
        valid_px: Pixels that count.
    """

    def __init__(
        self, plan: ClassPlan, files: Sequence[RowWriter], uncertainty: str, *, with_probs: bool, resized: bool
    ) -> None:
        self.files, self._plan, self._uncertainty = files, plan, uncertainty
        self._probs = files[1] if with_probs else None
        self._resized = resized
        self._whole: list[Band] = []
        self.valid_px = 0

    def write(self, band: Band) -> None:
        """Take the next rows."""
        self.valid_px += int(np.count_nonzero(band.valid))
        np.clip(band.probs, 0.0, 1.0, out=band.probs)
        if self._resized:
            self._whole.append(band)
            return
        probs = band.probs[: self._plan.num_classes]
        codes = class_codes(probs, band.valid, self._plan.thresholds, exclusive=self._plan.exclusive)
        self.files[0].write(band.row, codes)
        for file, planes in self._planes(band.probs):
            np.copyto(planes, np.nan, where=~band.valid)
            file.write(band.row, planes)

    def finish(self, size: tuple[int, int]) -> None:
        """Of a resized image: codes by the nearest pixel, all else bilinearly, in the rows and columns it has."""
        if not self._whole:
            return
        answer = np.concatenate([band.probs for band in self._whole], axis=1)
        valid = np.concatenate([band.valid for band in self._whole])
        probs = answer[: self._plan.num_classes]
        codes = class_codes(probs, valid, self._plan.thresholds, exclusive=self._plan.exclusive)
        self.files[0].write(0, np.stack([resize_nearest(plane, size) for plane in codes]))
        missing = ~resize_nearest(valid, size)
        for file, planes in self._planes(answer):
            linear = np.stack([cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in planes])
            np.copyto(linear, np.nan, where=missing)
            file.write(0, linear)

    def facts(self) -> dict[str, Any]:
        """What was counted so far."""
        return {"valid_px": self.valid_px}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.valid_px = int(facts["valid_px"])

    def _planes(self, answer: FloatArray) -> list[tuple[RowWriter, FloatArray]]:
        """Files of floats, each with its planes (K, h, w) of ``answer``: probabilities, and the spread behind them."""
        probs, found = answer[: self._plan.num_classes], []
        if self._uncertainty == "spread":
            found.append((self.files[-1], answer[self._plan.num_classes :]))
        elif self._uncertainty == "entropy":
            found.append((self.files[-1], entropy_bits(probs, exclusive=self._plan.exclusive)))
        if self._probs is not None:
            found.append((self._probs, probs))
        return found
