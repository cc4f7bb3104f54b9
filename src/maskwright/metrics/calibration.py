"""Whether probabilities mean what they say, and at which of them a pixel should be called a gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.metrics.scores import gap_share_predicted, gap_share_true, precision, recall, score_named
from maskwright.metrics.streams import channels_of, require_probabilities, with_means

__all__ = ["CalibrationMeter", "OperatingPointMeter"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_UNIT = 1 << 30  # sums are whole multiples of 1 / _UNIT, so that no order of adding changes them
_LEAST = 2.0**-24  # log-loss of a pixel is at most that of this probability, as float32 has it next to 1


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
        counted = np.zeros_like(self._histogram)  # a refused batch leaves nothing behind
        edges = self.thresholds.astype(np.float32)  # compared in the precision of the probabilities
        for k, said, positive in channels_of(probs, target, valid, len(self.heights_m), "probs"):
            require_probabilities(said)
            passed = np.searchsorted(edges, said, side="left")  # thresholds below the probability
            bins = passed + positive * (edges.size + 1)
            counted[k] += np.bincount(bins, minlength=2 * (edges.size + 1)).reshape(2, -1)
        self._histogram += counted

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
        return self._rows(scores if higher_is_better else -scores, scores)

    def choose(
        self, rule: Literal["f1", "precision", "recall", "area"] = "f1", minimum: float | None = None
    ) -> list[dict[str, float]]:
        """The threshold a rule asks for, for each height.

        Args:
            rule: ``f1``: the highest F1. ``precision``: the highest recall among thresholds with a precision of at
                least ``minimum``. ``recall``: the highest precision among those with a recall of at least ``minimum``.
                ``area``: called area nearest to the true area, so that shares of the whole are not biased.
            minimum: For ``precision`` and ``recall``, inside 0..1.

        Returns:
            Rows as :meth:`best` gives, ``score`` being F1, recall, precision, or called minus true share of the area.
            The threshold is nan where no threshold reaches the minimum, or nothing is positive.

        Raises:
            ConfigError: If the rule is not known, or ``minimum`` is missing or not asked for.
        """
        if rule not in ("f1", "precision", "recall", "area"):
            raise ConfigError(f'rule: "{rule}" is not known. Use f1, precision, recall or area.')
        if (minimum is not None) != (rule in ("precision", "recall")):
            raise ConfigError(f'rule "{rule}" with minimum {minimum}: precision and recall need one, f1 and area none.')
        if rule == "f1":
            return self.best("f1")
        counts = self.counts
        if rule == "area":
            bias = gap_share_predicted(counts) - gap_share_true(counts)
            known = np.where(gap_share_true(counts) > 0, bias, np.nan)
            return self._rows(-np.abs(known), known)
        if minimum is None or not 0 < minimum < 1:
            raise ConfigError(f"minimum: {minimum} is not between 0 and 1.")
        held, sought = (precision, recall) if rule == "precision" else (recall, precision)
        allowed = np.where(held(counts) >= minimum, sought(counts), np.nan)
        return self._rows(allowed, allowed)

    def _rows(self, ranked: Floats, scores: Floats) -> list[dict[str, float]]:
        """A row per height for the threshold ranked highest, (T, K); nan is never taken."""
        nearest_first = np.argsort(np.abs(self.thresholds - 0.5), kind="stable")
        rows = []
        for k, height in enumerate(self.heights_m):
            order = nearest_first[~np.isnan(ranked[nearest_first, k])]
            at = order[ranked[order, k].argmax()] if order.size else None
            rows.append(
                {
                    "height_m": height,
                    "probability_threshold": math.nan if at is None else float(self.thresholds[at]),
                    "score": math.nan if at is None else float(scores[at, k]),
                }
            )
        return rows


class CalibrationMeter:
    """Whether a share p of the pixels with probability p is positive, streamed with a few numbers per channel.

    Sums are whole multiples of 2^-30, so any batches, order and merging give the same bits; a mean is off by at most
    2^-31. For the calibration of K classes give the largest probability as one channel, and as target whether the
    class it belongs to is right. Values are brought to the CPU: for evaluation, not for training steps.

    Args:
        names: Names of the K channels in results, for example ``5m`` or ``road``.
        bins: Bins of equal width of the reliability curve; each holds its lower edge, the last also 1.

    Raises:
        ConfigError: If there are no bins, no names, or a name twice.
    """

    def __init__(self, names: Sequence[str], bins: int = 15) -> None:
        self.names, self.bins = tuple(names), bins
        if bins < 1 or not self.names or len(set(self.names)) != len(self.names):
            raise ConfigError(f"A calibration of {list(self.names)} in {bins} bins cannot be made; names must differ.")
        self.reset()

    def reset(self) -> None:
        """Forget all pixels."""
        # pixels, positive pixels, sum of probabilities, of squared errors, of log-losses; whole numbers of any size
        self._sums: NDArray[Any] = np.zeros((len(self.names), self.bins, 5), dtype=object)

    def update(self, probs: Tensor, target: Tensor, valid: Tensor) -> None:
        """Add a batch.

        Args:
            probs: (B, K, H, W) float, probabilities 0..1.
            target: (B, K, H, W) bool, or numbers 0 and 1.
            valid: (B, H, W) bool; other pixels count nowhere.

        Raises:
            ShapeError: If sizes do not fit together.
            ModelError: If a valid pixel holds no probability.
        """
        added = np.zeros_like(self._sums)
        for k, said, positive in channels_of(probs, target, valid, len(self.names), "probs"):
            require_probabilities(said)
            exact = said.astype(np.float64)
            chosen = np.where(positive, exact, 1 - exact)
            parts = (np.ones_like(exact), positive, exact, (1 - chosen) ** 2, -np.log(np.maximum(chosen, _LEAST)))
            where = np.minimum((exact * self.bins).astype(np.intp), self.bins - 1)
            for part, values in enumerate(parts):
                whole = np.rint(values * (_UNIT if part > 1 else 1))  # a piece's sums stay below 2^53, hence exact
                sums = np.bincount(where, weights=whole, minlength=self.bins)
                added[k, :, part] += [int(number) for number in sums]
        self._sums += added

    def merge(self, other: CalibrationMeter) -> None:
        """Add what another meter has seen.

        Raises:
            ConfigError: If it has other names or bins.
        """
        if (self.names, self.bins) != (other.names, other.bins):
            raise ConfigError("Calibrations of different names or bins cannot be merged.")
        self._sums = self._sums + other._sums

    def reliability(self) -> list[dict[str, Any]]:
        """The reliability curve.

        Returns:
            A row per channel and bin: ``name``, ``low`` and ``high`` edge, ``pixels``, ``mean_probability`` and
            ``positive_share`` (nan in an empty bin).
        """
        rows = []
        for k, name in enumerate(self.names):
            for b, (pixels, positive, total, *_) in enumerate(self._sums[k]):
                rows.append(
                    {
                        "name": name,
                        "low": b / self.bins,
                        "high": (b + 1) / self.bins,
                        "pixels": pixels,
                        "mean_probability": total / _UNIT / pixels if pixels else math.nan,
                        "positive_share": positive / pixels if pixels else math.nan,
                    }
                )
        return rows

    def compute(self) -> dict[str, float]:
        """Errors of the probabilities; lower is better, nan without pixels.

        Returns:
            ``calibration_error`` (expected calibration error: gap between mean probability and positive share, averaged
            over bins by their pixels), ``max_calibration_error`` (the largest such gap), ``brier_error`` (mean squared
            error) and ``log_loss`` (natural logarithm; a probability counts as at least 2^-24): the mean over channels,
            and each as ``calibration_error@name``.

        Source: doi:10.1609/aaai.v29i1.9602 (expected and maximum calibration error).
        """
        return with_means({name: self._errors(self._sums[k]) for k, name in enumerate(self.names)})

    def _errors(self, sums: NDArray[Any]) -> dict[str, float]:
        names = ("calibration_error", "max_calibration_error", "brier_error", "log_loss")
        pixels = int(sums[:, 0].sum())
        if pixels == 0:
            return dict.fromkeys(names, math.nan)
        gaps = [(abs(total - positive * _UNIT), count) for count, positive, total, *_ in sums if count]
        squares, logs = (int(sums[:, part].sum()) for part in (3, 4))
        expected, largest = sum(gap for gap, _ in gaps), max(gap / count for gap, count in gaps)
        values = (expected / pixels, largest, squares / pixels, logs / pixels)
        return dict(zip(names, (value / _UNIT for value in values), strict=True))
