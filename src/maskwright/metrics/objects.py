"""Scores of objects instead of pixels: which gaps or defects were found, and how well their sizes agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from maskwright.errors import ConfigError, ShapeError
from maskwright.metrics.streams import masks_of, with_means

__all__ = ["Matches", "ObjectMeter", "match_objects", "sample_counts"]

Floats = NDArray[np.float64]
Sizes = NDArray[np.int64]

_STRUCTURES = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}


class Matches(NamedTuple):
    """Objects of one image.

    ``true_px`` (T,) and ``called_px`` (P,) are their sizes; ``pairs`` (M, 2) the matched ones, a row and column into
    the former two; ``ious`` (M,) their intersection over union.
    """

    true_px: Sizes
    called_px: Sizes
    pairs: NDArray[np.intp]
    ious: Floats


def match_objects(
    pred: NDArray[np.bool_], target: NDArray[np.bool_], *, min_iou: float = 0.5, connectivity: Literal[4, 8] = 8
) -> Matches:
    """Find the objects of two masks and pair them, each with at most one of the other mask.

    The rule: pairs with an IoU of at least ``min_iou`` are taken from the highest IoU down (of equals the one nearer to
    the first row), unless one of the two is taken already. Above an IoU of 0.5 no object has two partners, so the rule
    is the only possible one there.

    Args:
        pred: (H, W) bool, True where called.
        target: (H, W) bool, True where true.
        min_iou: 0..1; 0 pairs whatever shares a pixel.
        connectivity: 8 if pixels that touch at a corner belong to one object, 4 if not.
    """
    true_labels, true_count = ndimage.label(target, _STRUCTURES[connectivity])
    called_labels, called_count = ndimage.label(pred, _STRUCTURES[connectivity])
    true_px = np.bincount(true_labels.ravel(), minlength=true_count + 1)[1:].astype(np.int64)
    called_px = np.bincount(called_labels.ravel(), minlength=called_count + 1)[1:].astype(np.int64)
    both = (true_labels > 0) & (called_labels > 0)
    keys = (true_labels[both].astype(np.int64) - 1) * called_count + called_labels[both] - 1
    overlaps, shared = np.unique(keys, return_counts=True)
    rows, cols = np.divmod(overlaps, max(called_count, 1))
    ious = shared / (true_px[rows] + called_px[cols] - shared)
    taken_true, taken_called = np.zeros(true_count, dtype=np.bool_), np.zeros(called_count, dtype=np.bool_)
    kept = []
    for at in np.argsort(-ious, kind="stable"):
        if ious[at] < min_iou:
            break
        if not taken_true[rows[at]] and not taken_called[cols[at]]:
            taken_true[rows[at]] = taken_called[cols[at]] = True
            kept.append(at)
    pairs = np.stack((rows[kept], cols[kept]), axis=-1).astype(np.intp).reshape(-1, 2)
    return Matches(true_px, called_px, pairs, ious[kept].astype(np.float64))


def sample_counts(counts: NDArray[np.int64], min_px: int = 1) -> NDArray[np.int64]:
    """Whole images as right or wrong: does it hold a defect, and was one called anywhere in it.

    Args:
        counts: (N, K, 4) TP, FP, FN, TN in pixels, as meters keep them.
        min_px: Pixels that make an image positive, at least 1.

    Returns:
        (N, K, 4) int64 with a single 1 per image and class, so that every score of
        :data:`~maskwright.metrics.scores.SCORES` is that of samples; all 0 for an image without valid pixels.

    Raises:
        ShapeError: If counts do not end in 4.
        ConfigError: If ``min_px`` is below 1.
    """
    if counts.ndim < 1 or counts.shape[-1] != 4:
        raise ShapeError(f"Counts of shape {counts.shape} do not end in 4: TP, FP, FN, TN.")
    if min_px < 1:
        raise ConfigError(f"min_px: {min_px} is below the minimum 1.")
    tp, fp, fn, _ = np.moveaxis(counts, -1, 0)
    true, called = tp + fn >= min_px, tp + fp >= min_px
    kinds = np.stack((true & called, ~true & called, true & ~called, ~true & ~called), axis=-1)
    return np.asarray(kinds & (counts.sum(axis=-1, keepdims=True) > 0), dtype=np.int64)


class ObjectMeter:
    """Objects found, missed and invented over a data set, and how the sizes of matched ones agree.

    An object is a connected piece of valid positive pixels of one image; the rule of matching is that of
    :func:`match_objects`. Objects are cut at the edges of tiles, so give whole scenes where that matters. Memory grows
    with the objects, not the pixels.

    Args:
        names: Names of the K channels in results, for example ``5m`` or ``scratch``.
        min_iou: Smallest IoU of a match, 0..1; 0 takes any shared pixel.
        connectivity: 8 or 4 neighbours.

    Raises:
        ConfigError: If an argument does not fit.
    """

    def __init__(self, names: Sequence[str], *, min_iou: float = 0.5, connectivity: Literal[4, 8] = 8) -> None:
        self.names, self.min_iou, self.connectivity = tuple(names), float(min_iou), connectivity
        if not self.names or len(set(self.names)) != len(self.names):
            raise ConfigError(f"names: {list(self.names)} must be different names, at least one.")
        if not 0 <= min_iou <= 1:
            raise ConfigError(f"min_iou: {min_iou:g} is not inside 0..1.")
        if connectivity not in _STRUCTURES:
            raise ConfigError(f"connectivity: {connectivity} is not known. Use 4 or 8.")
        self.reset()

    def reset(self) -> None:
        """Forget all objects."""
        self._tables: list[list[Floats]] = [[] for _ in self.names]  # rows: true size, called size, IoU; 0 = no such

    def update(self, pred: Tensor, target: Tensor, valid: Tensor, pixel_area_m2: float = 1.0) -> None:
        """Add a batch of images.

        Args:
            pred: (B, K, H, W) bool, True where called.
            target: (B, K, H, W) bool, or numbers 0 and 1.
            valid: (B, H, W) bool; other pixels belong to no object.
            pixel_area_m2: Area of a pixel; sizes are in pixels if it is left at 1.

        Raises:
            ShapeError: If sizes do not fit together.
            DataError: If a mask holds something else than 0 and 1.
        """
        for k, called, true, _ in masks_of(pred, target, valid, len(self.names)):
            found = match_objects(called, true, min_iou=self.min_iou, connectivity=self.connectivity)
            self._tables[k].append(_rows(found, pixel_area_m2))

    def merge(self, other: ObjectMeter) -> None:
        """Add the objects of another meter.

        Raises:
            ConfigError: If it has other names or another rule.
        """
        mine, theirs = ((m.names, m.min_iou, m.connectivity) for m in (self, other))
        if mine != theirs:
            raise ConfigError(f"Objects of {theirs} and {mine} (names, min_iou, connectivity) cannot be merged.")
        for table, more in zip(self._tables, other._tables, strict=True):
            table.extend(list(more))

    def compute(self) -> dict[str, float]:
        """Scores of the whole data set.

        Returns:
            ``object_precision``, ``object_recall``, ``object_f1``; of matched objects ``object_iou`` (mean),
            ``size_bias`` (mean of called minus true size), ``size_median_bias``, ``size_mae``, ``size_rmse`` and
            ``size_correlation`` (Pearson): the mean over channels, and each as ``object_f1@name``. nan where not
            defined.
        """
        return with_means({name: _scores(self._sorted(k)) for k, name in enumerate(self.names)})

    def by_size(self, edges: Sequence[float]) -> list[dict[str, Any]]:
        """Which sizes are found.

        Args:
            edges: Rising sizes in the unit of ``pixel_area_m2``; a class holds its lower edge. Classes below the first
                and from the last edge on are added.

        Returns:
            A row per channel and class of size: ``name``, ``low``, ``high``, ``true`` objects of that size, ``found``
            of them, ``recall``; ``called`` objects of that size, ``right`` of them, ``precision``.

        Raises:
            ConfigError: If the edges do not rise from above 0.
        """
        ends = np.array([0.0, *edges, math.inf])
        if not (np.diff(ends) > 0).all():
            raise ConfigError(f"edges: {list(edges)} must rise from above 0.")
        rows = []
        for k, name in enumerate(self.names):
            true, called, _ = self._sorted(k).T
            matched = (true > 0) & (called > 0)
            for low, high in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
                row: dict[str, Any] = {"name": name, "low": low, "high": high}
                for sizes, whole, part, share in (
                    (true, "true", "found", "recall"),
                    (called, "called", "right", "precision"),
                ):
                    here = (sizes > 0) & (sizes >= low) & (sizes < high)
                    total, good = int(here.sum()), int((here & matched).sum())
                    row |= {whole: total, part: good, share: good / total if total else math.nan}
                rows.append(row)
        return rows

    def sizes(self, name: str) -> Floats:
        """(M, 2) true and called size of the matched objects of a channel, by rising size.

        Raises:
            ConfigError: If there is no channel of that name.
        """
        if name not in self.names:
            raise ConfigError(f'There are no objects of "{name}". Available: {", ".join(self.names)}.')
        table = self._sorted(self.names.index(name))
        return table[(table[:, :2] > 0).all(axis=1), :2]

    def _sorted(self, k: int) -> Floats:
        """All objects in one order, so that the order of images changes no bit."""
        table = np.concatenate([np.zeros((0, 3)), *self._tables[k]])
        return table[np.lexsort(table.T[::-1])]


def _rows(found: Matches, pixel_area_m2: float) -> Floats:
    """(objects, 3) of one image: true size, called size and IoU; missed and invented ones with a 0."""
    matched = np.column_stack((found.true_px[found.pairs[:, 0]], found.called_px[found.pairs[:, 1]]))
    missed = np.delete(found.true_px, found.pairs[:, 0])
    invented = np.delete(found.called_px, found.pairs[:, 1])
    sizes = np.concatenate(
        (
            matched,
            np.column_stack((missed, np.zeros_like(missed))),
            np.column_stack((np.zeros_like(invented), invented)),
        )
    )
    ious = np.concatenate((found.ious, np.zeros(len(missed) + len(invented))))
    return np.column_stack((sizes * pixel_area_m2, ious))


def _scores(table: Floats) -> dict[str, float]:
    true, called, ious = table.T
    pair = (true > 0) & (called > 0)
    tp, fp, fn = int(pair.sum()), int((true == 0).sum()), int((called == 0).sum())
    errors = called[pair] - true[pair]
    known = bool(tp)
    return {
        "object_precision": tp / (tp + fp) if tp + fp else math.nan,
        "object_recall": tp / (tp + fn) if tp + fn else math.nan,
        "object_f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan,
        "object_iou": float(ious[pair].mean()) if known else math.nan,
        "size_bias": float(errors.mean()) if known else math.nan,
        "size_median_bias": float(np.median(errors)) if known else math.nan,
        "size_mae": float(np.abs(errors).mean()) if known else math.nan,
        "size_rmse": math.sqrt(float((errors**2).mean())) if known else math.nan,
        "size_correlation": _correlation(true[pair], called[pair]),
    }


def _correlation(x: Floats, y: Floats) -> float:
    if x.size < 2 or x.min() == x.max() or y.min() == y.max():
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / math.sqrt(float(x @ x) * float(y @ y)))
