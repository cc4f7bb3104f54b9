"""Whether a model is worth more than answers that need no training, class by class, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from maskwright.metrics import SCORES, bootstrap_difference

__all__ = ["class_verdict", "few_note", "sample_sentences"]

_IOU = SCORES["iou"][0]
_FEW = 10


def class_verdict(
    model_counts: NDArray[np.int64],
    baseline_counts: Mapping[str, NDArray[np.int64]],
    columns: Sequence[str],
    *,
    unit: str,
    draws: int,
    level: float,
) -> list[str]:
    """One sentence a class: the model beside the best of the answers that need no training.

    Args:
        model_counts: (N, K, 4), one row per image or block.
        baseline_counts: The same for each baseline, by a name a reader understands.
        columns: Names of the K classes.
        unit: What a row is: ``image``, ``block of ground``.
        draws: Draws of the paired bootstrap.
        level: Level of its interval.
    """
    scores = _IOU(model_counts.sum(axis=0))
    others = {name: np.nan_to_num(_IOU(counts.sum(axis=0))) for name, counts in baseline_counts.items()}
    true = model_counts[..., (0, 2)].sum(axis=(0, 2))
    sentences = []
    for k, column in enumerate(columns):
        if not true[k]:
            sentences.append(f"{column}: it does not occur here, so nothing can be said about it.")
            continue
        best = max(others, key=lambda name: float(others[name][k]))
        pair = model_counts[:, k : k + 1], baseline_counts[best][:, k : k + 1]
        value, low, high = (float(part[0]) for part in bootstrap_difference(*pair, _IOU, draws=draws, level=level))
        figures = f"IoU {scores[k]:.3f} against {others[best][k]:.3f} (difference {value:+.3f}"
        figures += ")" if math.isnan(low) else f", {level:.0%} interval {low:+.3f} to {high:+.3f})"
        sentences.append(f"{column}: {_judgement(value, low, high, best, unit)}: {figures}.")
    note = few_note(len(model_counts), unit)
    return sentences if note is None else [*sentences, note]


def few_note(rows: int, unit: str) -> str | None:
    """What a reader must know about intervals drawn over so few images or blocks; None if there is nothing."""
    if rows >= _FEW:
        return None
    if rows < 2:
        return f"Only one {unit}: no interval can be given. Add test data."
    return f"Only {rows} {_plural(unit)}: the intervals are rough. Add test data."


def sample_sentences(
    true: NDArray[np.bool_], called: NDArray[np.bool_], columns: Sequence[str], unit: str = "image"
) -> list[str]:
    """What the model says of whole images: found in how many that hold a class, called in how many that do not.

    Args:
        true: (N, K) bool, which images hold which class.
        called: (N, K) bool, in which it was called.
        columns: Names of the K classes.
        unit: What a row is.
    """
    sentences = []
    for k, column in enumerate(columns):
        has, said = true[:, k], called[:, k]
        if has.any():
            sentences.append(
                f"{column} was called in {int((has & said).sum())} of {int(has.sum())} {_plural(unit)} that hold it, "
                f"and in {int((~has & said).sum())} of {int((~has).sum())} that do not."
            )
    return sentences


def _judgement(value: float, low: float, high: float, best: str, unit: str) -> str:
    known = not math.isnan(low)
    if (known and high < 0) or (not known and value < 0):
        return f'the model loses to the baseline "{best}"; do not use it for this class'
    if (known and low <= 0) or value <= 0:
        return (
            f'the model cannot be told apart from the baseline "{best}"; more {_plural(unit)} to test on, or a better '
            "model, would decide"
        )
    return f'the model beats every baseline; the best of them is "{best}"'


def _plural(unit: str) -> str:
    first, of, rest = unit.partition(" of ")
    return f"{first}s{of}{rest}"
