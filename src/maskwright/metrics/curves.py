"""ROC and precision-recall curves with the areas under them, streamed with bounded memory and bounded error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, expit
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.metrics.streams import channels_of, require_probabilities, with_means

__all__ = ["Area", "CurveMeter"]

Floats = NDArray[np.float64]

_REACH = 17.0  # float32 has no probability between sigmoid(17) and 1


class Area(NamedTuple):
    """An area under a curve, and the ends between which the area of the unbinned values is certain to lie."""

    value: float
    low: float
    high: float


class CurveMeter:
    """Counts positive and negative pixels in bins of probability, narrow near 0 and 1 (equal width in logits).

    Memory does not grow with the pixels. Pixels in one bin cannot be told apart; what that can change at most is given
    with each area (:class:`Area`). The points of the curves themselves are exact. Values are brought to the CPU: for
    evaluation only.

    Args:
        names: Names of the K channels in results, for example ``5m`` or ``road``.
        bins: Number of bins.

    Raises:
        ConfigError: If there are fewer than two bins, no names, or a name twice.
    """

    def __init__(self, names: Sequence[str], bins: int = 4096) -> None:
        self.names, self.bins = tuple(names), bins
        if bins < 2 or not self.names or len(set(self.names)) != len(self.names):
            raise ConfigError(f"Curves of {list(self.names)} in {bins} bins cannot be made; names must differ.")
        self.reset()

    def reset(self) -> None:
        """Forget all pixels."""
        self._histogram = np.zeros((len(self.names), 2, self.bins), dtype=np.int64)

    def update(self, probs: Tensor, target: Tensor, valid: Tensor) -> None:
        """Count a batch.

        Args:
            probs: (B, K, H, W) float, probabilities 0..1.
            target: (B, K, H, W) bool, or numbers 0 and 1.
            valid: (B, H, W) bool; other pixels count nowhere.

        Raises:
            ShapeError: If sizes do not fit together.
            ModelError: If a valid pixel holds no probability.
        """
        counted = np.zeros_like(self._histogram)
        edges = self.edges[1:-1]
        for k, said, positive in channels_of(probs, target, valid, len(self.names), "probs"):
            require_probabilities(said)
            bins = np.searchsorted(edges, said.astype(np.float64), side="right")
            counted[k] += np.bincount(bins + positive * self.bins, minlength=2 * self.bins).reshape(2, -1)
        self._histogram += counted

    def merge(self, other: CurveMeter) -> None:
        """Add what another meter has counted.

        Raises:
            ConfigError: If it has other names or bins.
        """
        if (self.names, self.bins) != (other.names, other.bins):
            raise ConfigError("Curves of different names or bins cannot be merged.")
        self._histogram += other._histogram

    @property
    def edges(self) -> Floats:
        """(bins + 1,) probabilities 0..1; a bin holds its lower edge."""
        inner = expit(np.linspace(-_REACH, _REACH, self.bins + 1)[1:-1])
        return np.concatenate(([0.0], inner, [1.0]))

    def roc(self, name: str) -> tuple[Floats, Floats, Floats]:
        """False positive rate, true positive rate and probability of each point, (bins + 1,), from (0, 0) to (1, 1).

        A point calls positive what is at or above its probability; the first calls nothing.
        """
        negative, positive = self._descending(name)
        fpr, tpr = (_shares(np.concatenate(([0], side.cumsum()))) for side in (negative, positive))
        return fpr, tpr, self.edges[::-1]

    def precision_recall(self, name: str) -> tuple[Floats, Floats, Floats]:
        """Precision, recall and probability of each point, (bins,), by rising recall; nan where not defined."""
        negative, positive = self._descending(name)
        tp, fp = positive.cumsum(), negative.cumsum()
        called = (tp + fp).astype(np.float64)
        precision = np.divide(tp, called, out=np.full(self.bins, np.nan), where=called > 0)
        return precision, _shares(tp), self.edges[-2::-1]

    def roc_auc(self, name: str) -> Area:
        """Chance that a positive pixel has a higher probability than a negative one, ties counting one half, 0..1."""
        negative, positive = (_shares_of_all(side) for side in self._descending(name))
        above = positive.cumsum() - positive / 2
        value, unsure = float(negative @ above), float(negative @ positive) / 2
        return Area(value, value - unsure, value + unsure)

    def pr_auc(self, name: str) -> Area:
        """Average precision: precision at each positive pixel, averaged; 0..1, without interpolation."""
        negative, positive = (side.astype(np.float64) for side in self._descending(name))
        total = positive.sum()
        if total == 0:
            return Area(math.nan, math.nan, math.nan)
        tp, fp = positive.cumsum(), negative.cumsum()
        here = positive > 0
        p, tp, fp, before = positive[here], tp[here], fp[here], (fp - negative)[here]
        value = p @ (tp / (tp + fp)) / total
        high = p @ (tp / (tp + before)) / total  # all positives of a bin first, and tied
        start = tp - p + fp  # all negatives first, positives one by one: sum of (tp - p + i) / (start + i)
        low = (p - fp * (digamma(start + p + 1) - digamma(start + 1))).sum() / total
        return Area(float(value), float(min(low, value)), float(high))

    def compute(self) -> dict[str, float]:
        """Areas of all channels.

        Returns:
            ``roc_auc`` and ``pr_auc``: the mean over channels; ``roc_auc@name`` and so on for each; nan where nothing
            is positive, or for ROC nothing negative.
        """
        areas = {name: (self.roc_auc(name).value, self.pr_auc(name).value) for name in self.names}
        return with_means({name: {"roc_auc": roc, "pr_auc": pr} for name, (roc, pr) in areas.items()})

    def _descending(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Negative and positive pixels per bin, the highest probability first."""
        if name not in self.names:
            raise ConfigError(f'There is no curve of "{name}". Available: {", ".join(self.names)}.')
        negative, positive = self._histogram[self.names.index(name), :, ::-1]
        return negative, positive


def _shares(running: NDArray[np.int64]) -> Floats:
    total = running[-1]
    return running / total if total else np.full(running.shape, np.nan)


def _shares_of_all(counts: NDArray[np.int64]) -> Floats:
    total = counts.sum()
    return counts / total if total else np.full(counts.shape, np.nan)
