"""Scores by height for a loop of one's own: a height for each sample, rows and a table at the end."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskwright.errors import ConfigError, ShapeError
from maskwright.metrics.by_class import CLASS_SCORES
from maskwright.metrics.by_threshold import ThresholdMeter
from maskwright.pixels import IGNORE_INDEX

__all__ = ["ThresholdMetrics"]


class ThresholdMetrics:
    """Counts per height over an epoch, whatever batches and heights the samples came in.

    A height that is not listed is scored as well: it gets a row of its own, marked as extrapolated, and stays out of
    the means. Results do not depend on batch size or order.

    Args:
        thresholds: Listed heights in metres.
        scores: Names of :data:`~maskwright.metrics.scores.SCORES` to compute.
        ignore_index: Target id of pixels that do not count.

    Raises:
        ConfigError: If no height is given or one twice, or a score does not exist.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        *,
        scores: Sequence[str] = (*CLASS_SCORES, "gap_share_true", "gap_share_predicted"),
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        self.ignore_index = ignore_index
        self._meter = ThresholdMeter(thresholds, scores=scores)
        self._prob_threshold: float | None = None

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The listed heights in metres, then those met besides."""
        return self._meter.heights_m

    def update(
        self,
        pred: Tensor,
        target: Tensor,
        prob_threshold: float = 0.5,
        threshold_value: float | Sequence[float] | Tensor | None = None,
    ) -> None:
        """Count a batch.

        Args:
            pred: (B, 1, H, W) or (B, H, W), probabilities 0..1 of a gap.
            target: Same shape; bool, or 0, 1 and ``ignore_index``.
            prob_threshold: Called a gap above this probability; the same in every update.
            threshold_value: The height in metres the batch answers, or one for each sample; unset: the only one listed.

        Raises:
            ShapeError: If sizes do not fit together; nothing is broadcast.
            ModelError: If values are not probabilities, for example logits.
            DataError: If the target holds something else.
            ConfigError: If the height is left out and several are listed, or ``prob_threshold`` changes.
        """
        if pred.shape != target.shape or pred.ndim not in (3, 4) or (pred.ndim == 4 and pred.shape[1] != 1):
            raise ShapeError(
                f"pred {tuple(pred.shape)} and target {tuple(target.shape)} must both be (B, 1, H, W) or (B, H, W)."
            )
        heights = self._heights(threshold_value, len(pred))
        self._settle(prob_threshold)
        said, true = (each.view(len(each), 1, *each.shape[-2:]) for each in (pred, target))
        valid = torch.ones_like(true, dtype=torch.bool)
        if true.dtype != torch.bool:
            valid = true != self.ignore_index
            true = true.masked_fill(~valid, 0)
        self._meter.update(said if said.is_floating_point() else said.float(), true, valid[:, 0], heights_m=heights)

    def compute(self) -> dict[str, float]:
        """``iou@10m`` and so on for each score and height, and ``iou`` and so on, the mean over the listed heights."""
        return self._meter.compute()

    def rows(self) -> list[dict[str, Any]]:
        """One row per height: ``height_m``, ``extrapolated``, ``images``, ``valid_px``, the four counts, the scores."""
        return self._meter.table(intervals=False)

    def to_dataframe(self) -> Any:
        """:meth:`rows` as a ``pandas.DataFrame``.

        Raises:
            ConfigError: If pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as cause:
            raise ConfigError(
                "to_dataframe needs pandas, which is not installed. Install it: pip install pandas; or use rows() or "
                "to_csv(), which need nothing."
            ) from cause
        return pandas.DataFrame(self.rows())

    def to_csv(self) -> str:
        """:meth:`rows` as comma-separated text with a head line; what is not defined is an empty cell."""
        return self._meter.to_csv(intervals=False)

    def summary(self) -> dict[str, dict[str, float]]:
        """By score: mean over the listed heights, best and worst of them, and the trend per metre."""
        return self._meter.summary()

    def merge(self, other: ThresholdMetrics) -> None:
        """Add what another has counted, for example in another process.

        Raises:
            ConfigError: If it has other listed heights or cuts at another probability.
        """
        if other._prob_threshold is not None:
            self._settle(other._prob_threshold)
            self._meter.merge(other._meter)

    def reset(self) -> None:
        """Forget everything; a new epoch begins."""
        self._meter.reset()
        self._prob_threshold = None

    def _settle(self, prob_threshold: float) -> None:
        """The first update says where probabilities are cut."""
        if self._prob_threshold is None or (prob_threshold != self._prob_threshold and not self._meter.places):
            self._meter = ThresholdMeter(self._meter.listed_heights_m, prob_threshold, scores=self._meter.scores)
            self._prob_threshold = float(prob_threshold)
        elif prob_threshold != self._prob_threshold:
            raise ConfigError(
                f"prob_threshold: {prob_threshold:g} after {self._prob_threshold:g}; counts at two probabilities "
                "cannot be added. Use one ThresholdMetrics for each, or reset it first."
            )

    def _heights(self, threshold_value: float | Sequence[float] | Tensor | None, batch: int) -> Tensor:
        """(B, 1) metres."""
        if threshold_value is None:
            if len(self._meter.listed_heights_m) > 1:
                raise ConfigError(
                    f"threshold_value is missing: which of the heights {list(self._meter.listed_heights_m)} m do these "
                    "samples answer?"
                )
            threshold_value = self._meter.listed_heights_m[0]
        heights = torch.as_tensor(threshold_value, dtype=torch.float64)
        if heights.ndim == 0:
            return heights.expand(batch, 1)
        if heights.numel() != batch or heights.shape not in ((batch,), (batch, 1)):
            raise ShapeError(f"threshold_value of shape {tuple(heights.shape)} does not fit {batch} samples.")
        return heights.reshape(batch, 1)
