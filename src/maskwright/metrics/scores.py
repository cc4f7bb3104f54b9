"""Scores from confusion counts: pure functions of arrays (..., 4) that hold TP, FP, FN, TN.

Every score is a ratio. Where it asks for 0 / 0 it is not defined and comes back as ``nan``: the IoU of ground without
gaps on which none was called, the precision of a prediction without any gap. Nothing is smoothed. Counts may be whole
numbers or floats (expected or resampled counts); results are float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskwright.errors import ConfigError, ShapeError

__all__ = [
    "SCORES",
    "Score",
    "ScoreFunction",
    "accuracy",
    "balanced_accuracy",
    "dice",
    "distribution",
    "error_rate",
    "f1",
    "f_beta",
    "gap_share_predicted",
    "gap_share_true",
    "iou",
    "kappa",
    "mcc",
    "nan_quantiles",
    "per_image",
    "precision",
    "recall",
    "score_named",
    "specificity",
]

Floats = NDArray[np.float64]
ScoreFunction = Callable[[ArrayLike], Floats]


class Score(NamedTuple):
    """A score and its direction. ``higher_is_better`` is None for plain facts such as the share of gaps."""

    function: ScoreFunction
    higher_is_better: bool | None


def iou(counts: ArrayLike) -> Floats:
    """Intersection over union, TP / (TP + FP + FN), 0..1; undefined if nothing is positive or called so."""
    tp, fp, fn, _ = _split(counts)
    return _ratio(tp, tp + fp + fn)


def dice(counts: ArrayLike) -> Floats:
    """Dice overlap, 2 TP / (2 TP + FP + FN), 0..1; the same number as :func:`f1`."""
    return f1(counts)


def precision(counts: ArrayLike) -> Floats:
    """Share of called pixels that are positive, TP / (TP + FP); undefined if none was called."""
    tp, fp, _, _ = _split(counts)
    return _ratio(tp, tp + fp)


def recall(counts: ArrayLike) -> Floats:
    """Share of positive pixels that were called, TP / (TP + FN); undefined if none is positive."""
    tp, _, fn, _ = _split(counts)
    return _ratio(tp, tp + fn)


def f1(counts: ArrayLike) -> Floats:
    """Harmonic mean of precision and recall, 0..1; undefined if nothing is positive or called so."""
    return f_beta(counts, beta=1.0)


def f_beta(counts: ArrayLike, *, beta: float) -> Floats:
    """F score that weighs recall ``beta`` times as much as precision, 0..1."""
    tp, fp, fn, _ = _split(counts)
    weight = beta * beta
    return _ratio((1 + weight) * tp, (1 + weight) * tp + weight * fn + fp)


def specificity(counts: ArrayLike) -> Floats:
    """Share of negative pixels left alone, TN / (TN + FP); undefined if none is negative."""
    _, fp, _, tn = _split(counts)
    return _ratio(tn, tn + fp)


def accuracy(counts: ArrayLike) -> Floats:
    """Share of pixels called rightly, 0..1; undefined without pixels."""
    tp, fp, fn, tn = _split(counts)
    return _ratio(tp + tn, tp + fp + fn + tn)


def error_rate(counts: ArrayLike) -> Floats:
    """Share of pixels called wrongly, 0..1; lower is better."""
    tp, fp, fn, tn = _split(counts)
    return _ratio(fp + fn, tp + fp + fn + tn)


def balanced_accuracy(counts: ArrayLike) -> Floats:
    """Mean of recall and specificity, 0..1; undefined if either is."""
    return (recall(counts) + specificity(counts)) / 2


def mcc(counts: ArrayLike) -> Floats:
    """Matthews correlation coefficient, -1..1; undefined if truth or prediction has only one class.

    Source: doi:10.1186/s12864-019-6413-7.
    """
    tp, fp, fn, tn = _split(counts)
    spread = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))  # two roots: no overflow
    return _ratio(tp * tn - fp * fn, spread)


def kappa(counts: ArrayLike) -> Floats:
    """Cohen's kappa, agreement beyond chance, at most 1; undefined if both have one and the same class only."""
    tp, fp, fn, tn = _split(counts)
    return _ratio(2 * (tp * tn - fn * fp), (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn))


def gap_share_true(counts: ArrayLike) -> Floats:
    """Share of valid pixels that are positive, 0..1."""
    tp, fp, fn, tn = _split(counts)
    return _ratio(tp + fn, tp + fp + fn + tn)


def gap_share_predicted(counts: ArrayLike) -> Floats:
    """Share of valid pixels called positive, 0..1."""
    tp, fp, fn, tn = _split(counts)
    return _ratio(tp + fp, tp + fp + fn + tn)


SCORES: dict[str, Score] = {
    "accuracy": Score(accuracy, True),
    "balanced_accuracy": Score(balanced_accuracy, True),
    "dice": Score(dice, True),
    "error_rate": Score(error_rate, False),
    "f0.5": Score(partial(f_beta, beta=0.5), True),
    "f1": Score(f1, True),
    "f2": Score(partial(f_beta, beta=2.0), True),
    "gap_share_predicted": Score(gap_share_predicted, None),
    "gap_share_true": Score(gap_share_true, None),
    "iou": Score(iou, True),
    "kappa": Score(kappa, True),
    "mcc": Score(mcc, True),
    "precision": Score(precision, True),
    "recall": Score(recall, True),
    "specificity": Score(specificity, True),
}


def score_named(name: str) -> Score:
    """The score of that name.

    Raises:
        ConfigError: If there is none; the message lists all.
    """
    if name not in SCORES:
        raise ConfigError(f'There is no score "{name}". Available: {", ".join(sorted(SCORES))}.')
    return SCORES[name]


def per_image(counts: ArrayLike, score: ScoreFunction, *, empty: Literal["skip", "zero", "one"] = "skip") -> Floats:
    """A score for each image on its own.

    Args:
        counts: (N, ..., 4).
        score: A function of this module.
        empty: The score of an image where nothing is positive and nothing was called so, if the score is not defined
            there: left out as nan, 0 or 1.

    Returns:
        (N, ...) float64. Images without valid pixels are nan whatever ``empty`` says.
    """
    if empty not in ("skip", "zero", "one"):
        raise ConfigError(f'empty: "{empty}" is not known. Use skip, zero or one.')
    values = score(counts)
    if empty == "skip":
        return values
    tp, fp, fn, tn = _split(counts)
    empty_pair = (tp + fp + fn == 0) & (tn > 0) & np.isnan(values)
    return np.where(empty_pair, 0.0 if empty == "zero" else 1.0, values)


def distribution(values: ArrayLike) -> dict[str, Floats]:
    """How scores of single images spread, each channel on its own.

    Args:
        values: (N, ...) as :func:`per_image` gives; nan is left out.

    Returns:
        ``images`` (how many count), ``mean``, ``std`` (of the sample), ``median``, ``p10``, ``p90``: each (...)
        float64, nan where too few images count.
    """
    table = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(table)
    images = known.sum(axis=0).astype(np.float64)
    mean = _ratio(np.where(known, table, 0.0).sum(axis=0), images)
    squares = np.where(known, table - mean, 0.0) ** 2
    variance = _ratio(squares.sum(axis=0), np.maximum(images - 1, 0))
    p10, median, p90 = nan_quantiles(table, (0.1, 0.5, 0.9))
    return {"images": images, "mean": mean, "std": np.sqrt(variance), "median": median, "p10": p10, "p90": p90}


def nan_quantiles(values: Floats, shares: tuple[float, ...]) -> Floats:
    """Quantiles over the first axis with nan left out; nan, without a warning, where nothing is left."""
    silent = np.isnan(values).all(axis=0) if len(values) else np.ones(values.shape[1:], dtype=np.bool_)
    if not len(values):
        return np.full((len(shares), *values.shape[1:]), np.nan)
    found: Floats = np.nanquantile(np.where(silent, 0.0, values), shares, axis=0)
    return np.where(silent, np.nan, found)


def _split(counts: ArrayLike) -> Any:
    array = np.asarray(counts, dtype=np.float64)  # exact for whole numbers up to 2**53
    if array.ndim == 0 or array.shape[-1] != 4:
        raise ShapeError(f"Counts of shape {array.shape} do not end in 4: TP, FP, FN, TN.")
    return np.moveaxis(array, -1, 0)


def _ratio(above: Floats, below: Floats) -> Floats:
    result = np.full(np.broadcast_shapes(np.shape(above), np.shape(below)), np.nan)
    np.divide(above, below, out=result, where=np.not_equal(below, 0))
    return result
