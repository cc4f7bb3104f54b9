"""Temperature scaling: one number per channel that makes probabilities mean what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from maskwright.errors import ConfigError, ModelError
from maskwright.metrics.streams import channels_of

__all__ = ["Temperature", "TemperatureMeter"]

Floats = NDArray[np.float64]

_REACH = 32.0  # logits beyond are counted at the end: sigmoid(-32) is 1e-14
_BINS = 8192


class Temperature(NamedTuple):
    """Divide logits by ``temperature`` before the sigmoid.

    ``loss_before`` and ``loss_after`` are the mean log-loss per pixel. ``bounded``: the best value lies outside the
    range that was searched, for example because all pixels are called rightly.
    """

    temperature: float
    loss_before: float
    loss_after: float
    bounded: bool


class TemperatureMeter:
    """Finds the temperature with the lowest log-loss on the validation part, with bounded memory.

    Logits are counted in 8192 bins over -32..32, so a logit is off by at most 1/256. The order of pixels, and with it
    every score that only ranks them, stays as it was. Values are brought to the CPU: for evaluation only.

    Args:
        names: Names of the K channels.

    Source: arXiv:1706.04599.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        if not self.names or len(set(self.names)) != len(self.names):
            raise ConfigError(f"names: {list(self.names)} must be different names, at least one.")
        self.reset()

    def reset(self) -> None:
        """Forget all pixels."""
        self._histogram = np.zeros((len(self.names), 2, _BINS), dtype=np.int64)

    def update(self, logits: Tensor, target: Tensor, valid: Tensor) -> None:
        """Count a batch.

        Args:
            logits: (B, K, H, W) float, before the sigmoid.
            target: (B, K, H, W) bool, or numbers 0 and 1.
            valid: (B, H, W) bool; other pixels count nowhere.

        Raises:
            ShapeError: If sizes do not fit together.
            ModelError: If a valid pixel holds NaN.
        """
        counted = np.zeros_like(self._histogram)
        for k, values, positive in channels_of(logits, target, valid, len(self.names), "logits"):
            if np.isnan(values).any():
                raise ModelError("Logits to be scaled are NaN on some valid pixels: training went wrong.")
            inside = np.clip(values.astype(np.float64), -_REACH, _REACH)
            bins = np.minimum(((inside + _REACH) * (_BINS / (2 * _REACH))).astype(np.intp), _BINS - 1)
            counted[k] += np.bincount(bins + positive * _BINS, minlength=2 * _BINS).reshape(2, -1)
        self._histogram += counted

    def merge(self, other: TemperatureMeter) -> None:
        """Add what another meter has counted.

        Raises:
            ConfigError: If it has other names.
        """
        if self.names != other.names:
            raise ConfigError(f"Temperatures of {other.names} and {self.names} cannot be merged.")
        self._histogram += other._histogram

    def fit(self, *, least: float = 0.05, most: float = 20.0) -> dict[str, Temperature]:
        """The best temperature of each channel.

        Args:
            least: Smallest temperature that is tried.
            most: Largest temperature that is tried.

        Returns:
            By name; temperature 1 with losses nan without pixels.

        Raises:
            ConfigError: If the range does not hold 1.
        """
        if not 0 < least < 1 < most:
            raise ConfigError(f"Temperatures {least:g}..{most:g} do not hold 1, which changes nothing.")
        return {name: _fit(self._histogram[k], least, most) for k, name in enumerate(self.names)}


def _fit(histogram: NDArray[np.int64], least: float, most: float) -> Temperature:
    """The log-loss is convex in 1 / T: halve the interval where its slope changes sign."""
    negative, positive = histogram
    pixels = int(negative.sum() + positive.sum())
    if pixels == 0:
        return Temperature(1.0, math.nan, math.nan, False)
    logits = (np.arange(_BINS) + 0.5) * (2 * _REACH / _BINS) - _REACH
    every = (negative + positive).astype(np.float64)

    def slope(factor: float) -> float:
        return float(logits @ (every * expit(factor * logits) - positive))

    def loss(factor: float) -> float:
        wrong = positive @ np.logaddexp(0, -factor * logits) + negative @ np.logaddexp(0, factor * logits)
        return float(wrong) / pixels

    low, high = 1 / most, 1 / least
    bounded = slope(low) >= 0 or slope(high) <= 0
    if bounded:
        factor = low if slope(low) >= 0 else high
    else:
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if slope(middle) < 0 else (low, middle)
        factor = (low + high) / 2
    return Temperature(1 / factor, loss(1.0), loss(factor), bounded)
