"""Average precision of objects by the rules of the COCO evaluation, boxes or masks alike.

Only what the scores need is kept of an image: for every called object its score and, at each IoU asked, whether it met
an object. Rules as in the COCO evaluation (Lin et al. 2014, arXiv:1405.0312): objects are called in the order of their
scores, each takes the free true object it overlaps most, crowds take any number and count neither way, and precision is
read at 101 recalls from its envelope.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ConfigError, ShapeError

__all__ = ["AveragePrecisionMeter", "box_ious", "mask_ious"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_SIZES = {"": (0.0, math.inf), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, math.inf)}


def box_ious(called: NDArray[Any], true: NDArray[Any], crowd: NDArray[Any] | None = None) -> Floats:
    """Intersection over union of boxes; over the called box alone where the true one is a crowd.

    Args:
        called: (P, 4) x0, y0, x1, y1.
        true: (T, 4) likewise.
        crowd: (T,) bool; None: none is.

    Returns:
        (P, T) 0..1.
    """
    called, true = _boxes(called), _boxes(true)
    low = np.maximum(called[:, None, :2], true[None, :, :2])
    high = np.minimum(called[:, None, 2:], true[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=-1)
    return _over_union(shared, np.prod(called[:, 2:] - called[:, :2], axis=-1), _areas(true), crowd)


def mask_ious(called: NDArray[Any], true: NDArray[Any], crowd: NDArray[Any] | None = None) -> Floats:
    """Intersection over union of masks; over the called mask alone where the true one is a crowd.

    Args:
        called: (P, H, W) bool.
        true: (T, H, W) bool.
        crowd: (T,) bool; None: none is.

    Returns:
        (P, T) 0..1.
    """
    if called.shape[1:] != true.shape[1:] and len(called) and len(true):
        raise ShapeError(f"Masks of {called.shape[1:]} and of {true.shape[1:]} pixels do not show the same image.")
    if not len(called) or not len(true):
        return np.zeros((len(called), len(true)))
    flat_called = called.reshape(len(called), -1).astype(np.float32)
    flat_true = true.reshape(len(true), -1).astype(np.float32)
    shared = (flat_called @ flat_true.T).astype(np.float64)  # whole numbers, exact below 2**24 pixels
    return _over_union(shared, flat_called.sum(1, dtype=np.float64), flat_true.sum(1, dtype=np.float64), crowd)


@dataclass
class _Seen:
    """What is kept of one class and range of sizes: a part for each image."""

    scores: list[Floats] = field(default_factory=list)
    met: list[Bools] = field(default_factory=list)
    ignored: list[Bools] = field(default_factory=list)
    true: int = 0


class AveragePrecisionMeter:
    """AP over a data set.

    Args:
        class_names: Names of the classes, in the order of their numbers.
        first_class: Number of the first of them.
        most: Called objects of a class and an image that count, the best ones.
        sizes: Whether APs of small, medium and large objects (below 32 px and 96 px squared) are made too.

    Raises:
        ConfigError: If there is no class.
    """

    def __init__(
        self, class_names: Sequence[str], *, first_class: int = 1, most: int = 100, sizes: bool = True
    ) -> None:
        if not class_names:
            raise ConfigError("Average precision needs at least one class name.")
        self.class_names = tuple(class_names)
        self.first_class = first_class
        self.most = most
        self._ranges = _SIZES if sizes else {"": _SIZES[""]}
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._seen = [{name: _Seen() for name in self._ranges} for _ in self.class_names]

    def update(
        self,
        scores: NDArray[Any],
        labels: NDArray[Any],
        called_areas: NDArray[Any],
        true_labels: NDArray[Any],
        true_areas: NDArray[Any],
        ious: NDArray[Any],
        crowd: NDArray[Any] | None = None,
    ) -> None:
        """Count one image.

        Args:
            scores: (P,) of the called objects.
            labels: (P,) their classes.
            called_areas: (P,) in pixels.
            true_labels: (T,) classes.
            true_areas: (T,) in pixels.
            ious: (P, T), from :func:`box_ious` or :func:`mask_ious`.
            crowd: (T,) bool, objects that count neither way; None: none is.

        Raises:
            ShapeError: If the arrays do not fit.
        """
        count, true_count = len(scores), len(true_labels)
        if np.shape(ious) != (count, true_count) or len(labels) != count or len(true_areas) != true_count:
            raise ShapeError(
                f"{count} called and {true_count} true objects need IoUs ({count}, {true_count}), not {np.shape(ious)}."
            )
        crowds = np.zeros(true_count, np.bool_) if crowd is None else np.asarray(crowd, np.bool_)
        for index, seen in enumerate(self._seen):
            mine = np.flatnonzero(np.asarray(labels) == self.first_class + index)
            truth = np.flatnonzero(np.asarray(true_labels) == self.first_class + index)
            mine = mine[np.argsort(-np.asarray(scores, np.float64)[mine], kind="stable")][: self.most]
            if not len(mine) and not len(truth):
                continue
            for name, (low, high) in self._ranges.items():
                areas = np.asarray(true_areas, np.float64)[truth]
                ignored = crowds[truth] | (areas < low) | (areas > high)
                order = np.argsort(ignored, kind="stable")
                met, passed = _matched(
                    np.asarray(ious, np.float64)[np.ix_(mine, truth[order])], ignored[order], crowds[truth[order]]
                )
                called = np.asarray(called_areas, np.float64)[mine]
                passed |= ~met & ((called < low) | (called > high))
                part = seen[name]
                part.scores.append(np.asarray(scores, np.float64)[mine])
                part.met.append(met)
                part.ignored.append(passed)
                part.true += int(np.count_nonzero(~ignored))

    def merge(self, other: AveragePrecisionMeter) -> None:
        """Add what another meter of the same classes has seen."""
        for mine, theirs in zip(self._seen, other._seen, strict=True):
            for name, part in mine.items():
                part.scores += theirs[name].scores
                part.met += theirs[name].met
                part.ignored += theirs[name].ignored
                part.true += theirs[name].true

    def compute(self) -> dict[str, float]:
        """Scores 0..1; nan where no true object decides.

        Returns:
            ``mAP`` (IoU .50 to .95), ``mAP_50``, ``mAP_75``, ``recall`` (mean over the same IoUs), ``mAP_small`` and so
            on, and ``AP/NAME``, ``AP_50/NAME`` for each class.
        """
        tables = {name: [_precision(seen[name]) for seen in self._seen] for name in self._ranges}
        whole = np.stack([precision.mean(axis=1) for precision, _ in tables[""]])  # (classes, IoUs)
        recall = np.stack([recalls for _, recalls in tables[""]])
        scores = {
            "mAP": _mean(whole),
            "mAP_50": _mean(whole[:, 0]),
            "mAP_75": _mean(whole[:, 5]),
            "recall": _mean(recall),
        }
        for name in filter(None, self._ranges):
            scores[f"mAP_{name}"] = _mean(np.stack([precision.mean(axis=1) for precision, _ in tables[name]]))
        for name, row in zip(self.class_names, whole, strict=True):
            scores[f"AP/{name}"], scores[f"AP_50/{name}"] = _mean(row), float(row[0])
        return scores


def _matched(ious: Floats, ignored: Bools, crowd: Bools) -> tuple[Bools, Bools]:
    """(IoUs, P) whether each called object met a true one, and whether that one counts neither way.

    ``ious`` (P, T): called objects with the best score first, true ones that count first.
    """
    least = np.minimum(_IOUS, 1 - 1e-10)[:, None]
    met, passed = (np.zeros((len(_IOUS), len(ious)), np.bool_) for _ in range(2))
    if not ious.shape[1]:
        return met, passed
    free = np.ones((len(_IOUS), ious.shape[1]), np.bool_)
    rows = np.arange(len(_IOUS))
    last = ious.shape[1] - 1
    for index, row in enumerate(ious):
        fits = (row >= least) & (free | crowd)
        counting = fits & ~ignored
        chosen = np.where(counting.any(axis=1, keepdims=True), counting, fits)
        # Of equals the last one, as the reference has it.
        best = last - np.argmax(np.where(chosen, row, -1.0)[:, ::-1], axis=1)
        found = chosen.any(axis=1)
        met[:, index] = found
        passed[:, index] = found & ignored[best]
        free[rows[found], best[found]] = False
    return met, passed


def _precision(seen: _Seen) -> tuple[Floats, Floats]:
    """(IoUs, 101) precision at each recall, and (IoUs,) the recall reached; nan without true objects."""
    if not seen.true:
        return np.full((len(_IOUS), len(_RECALLS)), np.nan), np.full(len(_IOUS), np.nan)
    if not seen.scores:
        return np.zeros((len(_IOUS), len(_RECALLS))), np.zeros(len(_IOUS))
    order = np.argsort(-np.concatenate(seen.scores), kind="stable")
    met, ignored = (np.concatenate(parts, axis=1)[:, order] for parts in (seen.met, seen.ignored))
    true_positive = np.cumsum(met & ~ignored, axis=1)
    called = true_positive + np.cumsum(~met & ~ignored, axis=1)
    recall = true_positive / seen.true
    precision = true_positive / np.maximum(called, np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    read = np.zeros((len(_IOUS), len(_RECALLS)))
    for row in range(len(_IOUS)):
        places = np.searchsorted(recall[row], _RECALLS, side="left")
        inside = places < recall.shape[1]
        read[row, inside] = envelope[row, places[inside]]
    reached = recall[:, -1] if recall.shape[1] else np.zeros(len(_IOUS))
    return read, reached


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _boxes(values: NDArray[Any]) -> Floats:
    return np.asarray(values, np.float64).reshape(-1, 4)


def _areas(boxes: Floats) -> Floats:
    return np.asarray(np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1))


def _over_union(shared: Floats, called: Floats, true: Floats, crowd: NDArray[Any] | None) -> Floats:
    union = called[:, None] + true[None] - shared
    if crowd is not None:
        union = np.where(np.asarray(crowd, np.bool_)[None], called[:, None], union)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
