"""Scores of one batch in one call, and their mean and spread over an epoch: for people who keep their own loop."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.metrics.by_class import SegmentationMetrics
from maskwright.metrics.scores import SCORES, distribution, per_image
from maskwright.pixels import IGNORE_INDEX

__all__ = [
    "MetricsTracker",
    "compute_all_metrics",
    "compute_dice",
    "compute_iou",
    "compute_pixel_accuracy",
    "compute_precision_recall_f1",
]

Empty = Literal["skip", "zero", "one"]

_ALL = ("iou", "dice", "accuracy", "precision", "recall", "f1")


def compute_all_metrics(
    probs: Tensor,
    target: Tensor,
    valid: Tensor | None = None,
    *,
    probability_threshold: float = 0.5,
    empty: Empty = "one",
    ignore_index: int = IGNORE_INDEX,
) -> dict[str, float]:
    """Scores of a batch of one class, from counts over all its pixels that count.

    Args:
        probs: (B, H, W) or (B, 1, H, W), probabilities 0..1 or bool.
        target: Same shape; bool, or 0, 1 and ``ignore_index``.
        valid: (B, H, W) bool; other pixels count nowhere. Unset: all that are not ``ignore_index``.
        probability_threshold: Called positive above this probability.
        empty: The overlap scores where nothing is positive and nothing was called so: ``one`` for 1, ``zero`` for 0,
            ``skip`` for nan. Where only one of the two is empty, a score of 0 / 0 is 0.
        ignore_index: Target id of pixels that do not count.

    Returns:
        ``iou``, ``dice``, ``accuracy``, ``precision``, ``recall``, ``f1``, each 0..1; all nan if no pixel counts.

    Raises:
        ShapeError: If shapes differ; nothing is broadcast.
        ModelError: If values are not probabilities, for example logits.
        ConfigError: If ``empty`` is not known.
    """
    if empty not in ("skip", "zero", "one"):
        raise ConfigError(f'empty: "{empty}" is not known. Use skip, zero or one.')
    meter = SegmentationMetrics(probability_threshold=probability_threshold, ignore_index=ignore_index, scores=_ALL)
    meter.update(probs, target, valid)
    tp, fp, fn, tn = counts = meter.counts.sum(axis=(0, 1))
    if tp + fp + fn + tn == 0:
        return dict.fromkeys(_ALL, math.nan)
    fallback = {"skip": math.nan, "zero": 0.0, "one": 1.0}[empty] if tp + fp + fn == 0 else 0.0
    values = {name: float(SCORES[name].function(counts)) for name in _ALL}
    return {name: fallback if math.isnan(value) else value for name, value in values.items()}


def compute_iou(
    probs: Tensor,
    target: Tensor,
    valid: Tensor | None = None,
    *,
    probability_threshold: float = 0.5,
    empty: Empty = "one",
    ignore_index: int = IGNORE_INDEX,
) -> float:
    """Intersection over union of a batch; arguments and errors as :func:`compute_all_metrics`."""
    return compute_all_metrics(
        probs, target, valid, probability_threshold=probability_threshold, empty=empty, ignore_index=ignore_index
    )["iou"]


def compute_dice(
    probs: Tensor,
    target: Tensor,
    valid: Tensor | None = None,
    *,
    probability_threshold: float = 0.5,
    empty: Empty = "one",
    ignore_index: int = IGNORE_INDEX,
) -> float:
    """Dice overlap of a batch; arguments and errors as :func:`compute_all_metrics`."""
    return compute_all_metrics(
        probs, target, valid, probability_threshold=probability_threshold, empty=empty, ignore_index=ignore_index
    )["dice"]


def compute_pixel_accuracy(
    probs: Tensor,
    target: Tensor,
    valid: Tensor | None = None,
    *,
    probability_threshold: float = 0.5,
    ignore_index: int = IGNORE_INDEX,
) -> float:
    """Share of pixels called rightly in a batch; arguments and errors as :func:`compute_all_metrics`."""
    return compute_all_metrics(
        probs, target, valid, probability_threshold=probability_threshold, ignore_index=ignore_index
    )["accuracy"]


def compute_precision_recall_f1(
    probs: Tensor,
    target: Tensor,
    valid: Tensor | None = None,
    *,
    probability_threshold: float = 0.5,
    empty: Empty = "one",
    ignore_index: int = IGNORE_INDEX,
) -> tuple[float, float, float]:
    """Precision, recall and F1 of a batch; arguments and errors as :func:`compute_all_metrics`."""
    scores = compute_all_metrics(
        probs, target, valid, probability_threshold=probability_threshold, empty=empty, ignore_index=ignore_index
    )
    return scores["precision"], scores["recall"], scores["f1"]


class MetricsTracker:
    """Mean and spread of scores over the images of an epoch, whatever batches they came in.

    Args:
        probability_threshold: Called positive above this probability, 0..1.
        empty: What an image scores where nothing is positive and nothing was called so: left out, 0 or 1.
        ignore_index: Target id of pixels that do not count.
    """

    def __init__(
        self, probability_threshold: float = 0.5, *, empty: Empty = "skip", ignore_index: int = IGNORE_INDEX
    ) -> None:
        if empty not in ("skip", "zero", "one"):
            raise ConfigError(f'empty: "{empty}" is not known. Use skip, zero or one.')
        self.empty: Empty = empty
        self._meter = SegmentationMetrics(
            probability_threshold=probability_threshold, ignore_index=ignore_index, scores=_ALL
        )

    def update(self, probs: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch of one class; arguments and errors as :func:`compute_all_metrics`."""
        self._meter.update(probs, target, valid)

    def merge(self, other: MetricsTracker) -> None:
        """Add what another tracker has counted."""
        self._meter.merge(other._meter)

    def reset(self) -> None:
        """Forget everything; a new epoch begins."""
        self._meter.reset()

    def get_summary(self) -> dict[str, dict[str, float]]:
        """Scores by name.

        Returns:
            For each score: ``mean`` and ``std`` (of the sample) over single images, ``images`` how many count, and
            ``pooled`` the score of all pixels together. nan where not defined.
        """
        pooled, counts = self._meter.compute(), self._meter.counts[:, 0]
        summary = {}
        for name in _ALL:
            values = np.sort(per_image(counts, SCORES[name].function, empty=self.empty))  # order changes no bit
            spread = distribution(values)
            summary[name] = {key: float(spread[key]) for key in ("mean", "std", "images")} | {"pooled": pooled[name]}
        return summary

    def __str__(self) -> str:
        rows = self.get_summary().items()
        return "\n".join(
            f"{name}: {row['mean']:.4f} ± {row['std']:.4f} ({row['images']:.0f} images, pooled {row['pooled']:.4f})"
            for name, row in rows
        )
