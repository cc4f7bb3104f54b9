"""The operating point: at which probability a pixel should be called a gap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ConfigError, ModelError, ShapeError
from maskwright.metrics.counts import as_bool
from maskwright.metrics.scores import score_named
from maskwright.pixels import require_same_hw

__all__ = ["OperatingPointMeter"]

Counts = NDArray[np.int64]


class OperatingPointMeter:
    """Counts at many probability thresholds at once, for each height, in one pass over the pixels.

    Choose the threshold on the validation part and report scores on the test part; chosen and scored on the same ground
    it flatters the model.

    Args:
        heights_m: Heights in metres; channel k of an update belongs to height k.
        thresholds: Probabilities to try, ascending; unset: 0.01, 0.02 ... 0.99.

    Raises:
        ConfigError: If the thresholds do not rise between 0 and 1.
    """

    def __init__(self, heights_m: Sequence[float], thresholds: Sequence[float] | None = None) -> None:
        self.heights_m = tuple(float(height) for height in heights_m)
        self.thresholds = np.arange(1, 100) / 100 if thresholds is None else np.asarray(thresholds, dtype=np.float64)
        ends = np.concatenate(([0.0], self.thresholds, [1.0]))
        if self.thresholds.size == 0 or not (np.diff(ends) > 0).all():
            raise ConfigError(f"thresholds: {self.thresholds.tolist()} must rise and lie between 0 and 1.")
        self.reset()

    def reset(self) -> None:
        """Forget all pixels."""
        self._histogram = np.zeros((len(self.heights_m), 2, self.thresholds.size + 1), dtype=np.int64)

    def update(self, probs: Tensor, target: Tensor, valid: Tensor) -> None:
        """Count a batch.

        Args:
            probs: (B, K, H, W) float, probabilities 0..1.
            target: (B, K, H, W) bool, True where a gap.
            valid: (B, H, W) bool; other pixels count nowhere.

        Raises:
            ShapeError: If sizes do not fit together.
            ModelError: If a valid pixel holds no probability.
        """
        require_same_hw(probs=probs, target=target, valid=valid)
        if probs.shape != target.shape or probs.shape[1] != len(self.heights_m) or len(valid) != len(probs):
            raise ShapeError(
                f"probs {tuple(probs.shape)}, target {tuple(target.shape)} and valid {tuple(valid.shape)} do not fit "
                f"together: (B, {len(self.heights_m)}, H, W) twice and (B, H, W) are needed."
            )
        values, true = probs.detach().float().cpu().numpy(), as_bool(target).cpu().numpy()
        counts = valid.cpu().numpy()
        edges = self.thresholds.astype(np.float32)  # compared in the precision of the probabilities
        for k in range(len(self.heights_m)):
            said, positive = values[:, k][counts], true[:, k][counts]
            if not ((said >= 0) & (said <= 1)).all():
                raise ModelError(
                    "Values to be scored are not probabilities: some valid pixels lie outside 0..1 or are NaN."
                )
            passed = np.searchsorted(edges, said, side="left")  # thresholds below the probability
            bins = passed + positive * (edges.size + 1)
            self._histogram[k] += np.bincount(bins, minlength=2 * (edges.size + 1)).reshape(2, -1)

    def merge(self, other: OperatingPointMeter) -> None:
        """Add what another meter has counted.

        Raises:
            ConfigError: If it has other heights or thresholds.
        """
        if self.heights_m != other.heights_m or not np.array_equal(self.thresholds, other.thresholds):
            raise ConfigError("Operating points of different heights or thresholds cannot be merged.")
        self._histogram += other._histogram

    @property
    def counts(self) -> Counts:
        """(T, K, 4) int64: TP, FP, FN, TN at each threshold and height."""
        above = np.flip(np.flip(self._histogram, -1).cumsum(-1), -1)[..., 1:]  # (K, 2, T): pixels above each threshold
        total = self._histogram.sum(axis=-1, keepdims=True)
        fp, tp = above[:, 0], above[:, 1]
        fn, tn = total[:, 1] - tp, total[:, 0] - fp
        return np.stack((tp, fp, fn, tn), axis=-1).transpose(1, 0, 2)

    def best(self, criterion: str = "iou") -> list[dict[str, float]]:
        """The best threshold for each height.

        Args:
            criterion: Name of a score with a direction, for example ``iou``, ``f1``, ``mcc``, ``balanced_accuracy``.

        Returns:
            Rows with ``height_m``, ``probability_threshold`` and ``score``; of equal thresholds the one nearest to 0.5;
            nan where the score is never defined.

        Raises:
            ConfigError: If the criterion is no score or has no direction.
        """
        function, higher_is_better = score_named(criterion)
        if higher_is_better is None:
            raise ConfigError(f'criterion: "{criterion}" has no better direction; use for example iou, f1 or mcc.')
        scores = function(self.counts)  # (T, K)
        nearest_first = np.argsort(np.abs(self.thresholds - 0.5), kind="stable")
        rows = []
        for k, height in enumerate(self.heights_m):
            order = nearest_first[~np.isnan(scores[nearest_first, k])]
            ranked = scores[order, k] if higher_is_better else -scores[order, k]
            at = order[ranked.argmax()] if order.size else None
            rows.append(
                {
                    "height_m": height,
                    "probability_threshold": float("nan") if at is None else float(self.thresholds[at]),
                    "score": float("nan") if at is None else float(scores[at, k]),
                }
            )
        return rows
