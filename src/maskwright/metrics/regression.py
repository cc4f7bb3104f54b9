"""Errors of predicted values, for example heights in metres: streamed, over all images and by group."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ConfigError, DataError, ModelError, ShapeError
from maskwright.metrics.streams import require_fitting, with_means

__all__ = ["RegressionMeter"]

Floats = NDArray[np.float64]

_PARTS = 6  # pixels; sums of errors, |errors|, squared errors; mean of the target, squared deviations from it


class RegressionMeter:
    """Errors per image, added over the data set before any mean or root is taken.

    A few float64 sums are kept per image and added without rounding, so batches, order and merging change no bit.
    Values are brought to the CPU: for evaluation only.

    Args:
        names: Names of the K channels in results, for example ``height`` or ``5m``.

    Raises:
        ConfigError: If names are missing or one is given twice.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        if not self.names or len(set(self.names)) != len(self.names):
            raise ConfigError(f"names: {list(self.names)} must be different names, at least one.")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._images: list[tuple[Hashable, Floats]] = []  # group and (K, 6) of each

    def update(self, pred: Tensor, target: Tensor, valid: Tensor, groups: Sequence[Hashable] | None = None) -> None:
        """Add a batch.

        Args:
            pred: (B, K, H, W) float, predicted values.
            target: (B, K, H, W) float, true values in the same unit.
            valid: (B, H, W) bool; other pixels count nowhere and may hold anything.
            groups: B ids, for example the site of each image; unset: one group named ``all``.

        Raises:
            ShapeError: If sizes do not fit together.
            ModelError: If a predicted value on a valid pixel is not finite.
            DataError: If a true value on a valid pixel is not finite.
        """
        require_fitting(pred, target, valid, len(self.names), "pred")
        if groups is not None and len(groups) != len(pred):
            raise ShapeError(f"{len(groups)} groups do not fit {len(pred)} images; give one for each.")
        said, true = (values.detach().double().cpu().numpy() for values in (pred, target))
        counted = valid.cpu().numpy()
        added = []
        for b in range(len(said)):
            parts = np.array([_parts(said[b, k][counted[b]], true[b, k][counted[b]]) for k in range(len(self.names))])
            added.append(("all" if groups is None else groups[b], parts))
        self._images += added

    def merge(self, other: RegressionMeter) -> None:
        """Add the images of another meter.

        Raises:
            ConfigError: If it has other names.
        """
        if self.names != other.names:
            raise ConfigError(f"Errors of {other.names} and {self.names} cannot be merged.")
        self._images += list(other._images)

    def compute(self) -> dict[str, float]:
        """Errors of the whole data set.

        Returns:
            ``mse``, ``rmse``, ``mae``, ``bias`` (mean of predicted minus true) and ``r2`` (1 - squared errors / squared
            deviations of the true values from their mean; nan where those are all the same): the mean over channels,
            and each as ``rmse@name``. nan without pixels.
        """
        return with_means(self._scores([parts for _, parts in self._images]))

    def by_group(self) -> list[dict[str, Any]]:
        """Errors of each group and channel.

        Returns:
            Rows sorted by group with ``group``, ``name``, ``pixels`` and the errors of :meth:`compute`.
        """
        groups: dict[Hashable, list[Floats]] = {}
        for group, parts in self._images:
            groups.setdefault(group, []).append(parts)
        rows = []
        for group in sorted(groups, key=str):
            for k, (name, scores) in enumerate(self._scores(groups[group]).items()):
                pixels = int(sum(parts[k, 0] for parts in groups[group]))
                rows.append({"group": group, "name": name, "pixels": pixels, **scores})
        return rows

    def _scores(self, images: Sequence[Floats]) -> dict[str, dict[str, float]]:
        table = np.stack([np.zeros((len(self.names), _PARTS)), *images])  # (images, K, 6)
        return {name: _errors(table[:, k]) for k, name in enumerate(self.names)}


def _parts(said: Floats, true: Floats) -> tuple[float, ...]:
    if not np.isfinite(said).all():
        raise ModelError("A predicted value on a valid pixel is not finite: training went wrong.")
    if not np.isfinite(true).all():
        raise DataError("A true value on a valid pixel is not finite; mark such pixels as not valid.")
    if not said.size:
        return (0.0,) * _PARTS
    errors, mean = said - true, float(true.mean())
    deviations = true - mean
    sums = float(errors.sum()), float(np.abs(errors).sum()), float(errors @ errors)
    return float(said.size), *sums, mean, float(deviations @ deviations)


def _errors(images: Floats) -> dict[str, float]:
    """Errors from (images, 6) sums; deviations within and between images add up to those of the whole."""
    pixels, errors, absolute, squares = (math.fsum(column) for column in images[:, :4].T)
    if not pixels:
        return dict.fromkeys(("mse", "rmse", "mae", "bias", "r2"), math.nan)
    counts, means, within = images[:, 0], images[:, 4], math.fsum(images[:, 5])
    mean = math.fsum(counts * means) / pixels
    spread = within + math.fsum(counts * (means - mean) ** 2)
    return {
        "mse": squares / pixels,
        "rmse": math.sqrt(squares / pixels),
        "mae": absolute / pixels,
        "bias": errors / pixels,
        "r2": 1 - squares / spread if spread else math.nan,
    }
