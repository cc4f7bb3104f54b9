"""How sure a score is: bootstrap over blocks of ground, and a plain verdict on model and baselines.

Neighbouring pixels tell the same story, so pixels are never drawn; whole blocks are. The order of the blocks makes no
difference: they are brought into one order first, and the seed decides the rest.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ConfigError, ShapeError
from maskwright.metrics.scores import ScoreFunction, iou, nan_quantiles

__all__ = [
    "Comparison",
    "Difference",
    "bootstrap",
    "bootstrap_difference",
    "compare_models",
    "group_counts",
    "interval_note",
    "verdict",
]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_FEW_BLOCKS = 10
_CHUNK_CELLS = 4_000_000  # draws times blocks resampled at once: some 30 MB


class Difference(NamedTuple):
    """Score of one answer minus that of another on the same ground, each (K,), with the interval of the difference."""

    value: Floats
    low: Floats
    high: Floats


class Comparison(NamedTuple):
    """Two models on the same blocks, each (K,): score of a minus that of b, its interval, and the p-value.

    The p-value is two-sided: how often a difference at least as large appears if, in each block, it is a coin's toss
    which answer came from which model. It is not corrected for looking at K heights or classes.
    """

    value: Floats
    low: Floats
    high: Floats
    p_value: Floats


def group_counts(counts: NDArray[np.int64], block_ids: Sequence[Hashable]) -> Counts:
    """Add the rows that lie in one block of ground.

    Args:
        counts: (N, K, 4).
        block_ids: N ids; rows with equal ids belong together.

    Returns:
        (blocks, K, 4) int64, in the order in which the ids appear first.

    Raises:
        ShapeError: If there is not one id per row.
    """
    if len(block_ids) != len(counts):
        raise ShapeError(f"{len(block_ids)} block ids do not fit {len(counts)} rows of counts; give one id per row.")
    numbers: dict[Hashable, int] = {}
    rows = np.array([numbers.setdefault(block, len(numbers)) for block in block_ids], dtype=np.intp)
    grouped = np.zeros((len(numbers), *counts.shape[1:]), dtype=np.int64)
    np.add.at(grouped, rows, counts)
    return grouped


def bootstrap(
    counts: NDArray[np.int64], score: ScoreFunction, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[Floats, Floats]:
    """Percentile interval of a score when blocks are drawn again with replacement.

    Args:
        counts: (N, K, 4), one row per block.
        score: A function of counts (..., 4), for example ``scores.iou``.
        draws: How often N blocks are drawn.
        level: Share of the drawn scores inside the interval, 0..1.
        seed: Same seed, same interval, whatever the order of the rows.

    Returns:
        Low and high end, each (K,). nan with fewer than two blocks, see :func:`interval_note`; draws for which the
        score is not defined are left out.
    """
    _check(counts, draws, level)
    if len(counts) < 2:
        nothing = np.full(counts.shape[1:-1], np.nan)
        return nothing, nothing.copy()
    drawn = np.concatenate([score(totals) for totals in _resampled(counts, draws, seed)])
    low, high = nan_quantiles(drawn, _tails(level))
    return low, high


def bootstrap_difference(
    counts_a: NDArray[np.int64],
    counts_b: NDArray[np.int64],
    score: ScoreFunction,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Interval of ``score(a) - score(b)``, both scored on the same blocks in every draw.

    Pairing matters: a hard block pulls both answers down, and the difference is known better than either score.

    Args:
        counts_a: (N, K, 4) of one answer.
        counts_b: (N, K, 4) of the other; row n is the same block.
        score: A function of counts (..., 4).
        draws: How often N blocks are drawn.
        level: Share of the drawn differences inside the interval, 0..1.
        seed: Same seed, same interval, whatever the order of the rows.

    Raises:
        ShapeError: If the two do not have the same shape.
    """
    if counts_a.shape != counts_b.shape:
        raise ShapeError(
            f"Counts of shape {counts_a.shape} and {counts_b.shape} cannot be compared; score both on the same blocks."
        )
    _check(counts_a, draws, level)
    value = score(counts_a.sum(axis=0)) - score(counts_b.sum(axis=0))
    if len(counts_a) < 2:
        nothing = np.full(value.shape, np.nan)
        return Difference(value, nothing, nothing.copy())
    paired = np.stack((counts_a, counts_b), axis=1)  # (N, 2, K, 4)
    scores = np.concatenate([score(totals) for totals in _resampled(paired, draws, seed)])
    low, high = nan_quantiles(scores[:, 0] - scores[:, 1], _tails(level))
    return Difference(value, low, high)


def compare_models(
    counts_a: NDArray[np.int64],
    counts_b: NDArray[np.int64],
    score: ScoreFunction,
    *,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two models scored on the same blocks: difference, interval (bootstrap) and p-value (permutation test).

    Args:
        counts_a: (N, K, 4) of one model.
        counts_b: (N, K, 4) of the other; row n is the same block.
        score: A function of counts (..., 4), for example ``scores.iou``.
        draws: Draws of the bootstrap, and of the permutation test unless all 2^N exchanges are fewer: then each is
            tried once and the p-value is exact.
        level: Level of the interval, 0..1.
        seed: Same seed, same result, whatever the order of the rows.

    Returns:
        nan as p-value where a score is not defined or there is no block; 1 with one block, which proves nothing.

    Raises:
        ShapeError: If the two do not have the same shape.
    """
    difference = bootstrap_difference(counts_a, counts_b, score, draws=draws, level=level, seed=seed)
    p_value = np.full(difference.value.shape, np.nan)
    if not len(counts_a):
        return Comparison(*difference, p_value)
    pairs = np.stack((counts_a, counts_b), axis=1)
    flat = pairs.reshape(len(pairs), -1)
    pairs = pairs[np.lexsort(flat.T[::-1])].astype(np.float64)
    least = np.abs(difference.value) - 1e-12  # of equal differences none is lost to rounding
    extreme, tried, exact = np.zeros(difference.value.shape), 0, 2 ** len(pairs) <= draws
    for exchanged in _exchanges(len(pairs), draws, seed):
        moved = np.tensordot(exchanged, pairs[:, 1] - pairs[:, 0], axes=1)  # whole numbers: exact
        drawn = np.abs(score(pairs[:, 0].sum(axis=0) + moved) - score(pairs[:, 1].sum(axis=0) - moved))
        extreme += (~(drawn < least)).sum(axis=0)  # a draw without a score speaks for chance
        tried += len(exchanged)
    known = ~np.isnan(difference.value)
    p_value[known] = (extreme[known] + (not exact)) / (tried + (not exact))  # what was seen is one of the draws
    return Comparison(*difference, p_value)


def interval_note(blocks: int) -> str | None:
    """What a reader must know about intervals over so few blocks; None if there is nothing to say."""
    if blocks == 0:
        return "There is no block of ground to score."
    if blocks == 1:
        return "Only one block of ground: no interval can be given. Add test ground, or use smaller blocks."
    if blocks < _FEW_BLOCKS:
        return f"Only {blocks} blocks of ground: the intervals are rough. Add test ground, or use smaller blocks."
    return None


def verdict(
    model_counts: NDArray[np.int64],
    baseline_counts: Mapping[str, NDArray[np.int64]],
    heights_m: Sequence[float],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[str]:
    """Say in plain words at which heights the model is worth more than answers that need no training.

    Args:
        model_counts: (N, K, 4), one row per block.
        baseline_counts: The same for each baseline, by a name a reader understands.
        heights_m: The K heights in metres.
        draws: Draws of the paired bootstrap of the IoU difference.
        level: Level of its interval.
        seed: Seed of the draws.

    Returns:
        Sentences: for each height one if the model beats all baselines, else one for each baseline it loses to or
        cannot be told apart from; and a note if there are too few blocks to be sure.
    """
    differences = {
        name: bootstrap_difference(model_counts, counts, iou, draws=draws, level=level, seed=seed)
        for name, counts in baseline_counts.items()
    }
    model_iou = iou(model_counts.sum(axis=0))
    baseline_iou = {name: iou(counts.sum(axis=0)) for name, counts in baseline_counts.items()}
    gaps = model_counts[..., (0, 2)].sum(axis=(0, 2))
    sentences = []
    for k, height in enumerate(heights_m):
        if gaps[k] == 0:
            sentences.append(f"At {height:g} m this ground holds no gap, so nothing can be said about the model there.")
            continue
        at_height = {name: Difference(*(part[k] for part in each)) for name, each in differences.items()}
        others = {name: float(values[k]) for name, values in baseline_iou.items()}
        sentences += _sentences(height, float(model_iou[k]), others, at_height, level)
    note = interval_note(len(model_counts))
    return sentences if note is None else [*sentences, note]


def _sentences(
    height: float, model: float, others: Mapping[str, float], differences: Mapping[str, Difference], level: float
) -> list[str]:
    lost, unclear = [], []
    for name, (value, low, high) in differences.items():
        known = not np.isnan(low)
        interval = f", {level:.0%} interval {low:+.3f} to {high:+.3f}" if known else ""
        figures = f"IoU {model:.3f} against {others[name]:.3f} (difference {value:+.3f}{interval})"
        if (known and high < 0) or (not known and value < 0):
            lost.append(
                f'At {height:g} m the model loses to the baseline "{name}": {figures}. '
                "Do not use it at this height; the baseline is better and needs no training."
            )
        elif (known and low <= 0) or value <= 0:
            unclear.append(
                f'At {height:g} m the model cannot be told apart from the baseline "{name}": {figures}. '
                "More test ground would decide."
            )
    if lost or unclear:
        return lost + unclear
    if not others:
        return [f"At {height:g} m the model reaches IoU {model:.3f}; there is no baseline beside it."]
    best = max(others, key=lambda name: others[name])
    return [
        f"At {height:g} m the model beats every baseline: IoU {model:.3f}; "
        f'the best of them, "{best}", reaches {others[best]:.3f}.'
    ]


def _resampled(counts: NDArray[np.int64], draws: int, seed: int) -> Iterator[Floats]:
    """Summed counts (chunk, ..., 4) of resampled blocks, chunk by chunk; whole numbers kept exactly in float64."""
    flat = counts.reshape(len(counts), -1)
    ordered = flat[np.lexsort(flat.T[::-1])].astype(np.float64)  # equal rows are the same, so the order is the only one
    blocks = len(ordered)
    rng = np.random.Generator(np.random.Philox(seed))
    chunk = max(1, _CHUNK_CELLS // blocks)
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        picked = rng.integers(blocks, size=(rows, blocks)) + np.arange(rows)[:, None] * blocks
        times = np.bincount(picked.ravel(), minlength=rows * blocks).reshape(rows, blocks)
        yield (times.astype(np.float64) @ ordered).reshape(rows, *counts.shape[1:])


def _exchanges(blocks: int, draws: int, seed: int) -> Iterator[Floats]:
    """In which blocks the two answers change places, (chunk, blocks) of 0 and 1: all ways, or ``draws`` random ones."""
    ways = 2**blocks
    chunk = max(1, _CHUNK_CELLS // blocks)
    rng = np.random.Generator(np.random.Philox(seed))
    for start in range(0, min(ways, draws), chunk):
        rows = np.arange(start, min(start + chunk, ways, draws))
        if ways <= draws:
            yield (rows[:, None] >> np.arange(blocks) & 1).astype(np.float64)
        else:
            yield rng.integers(2, size=(len(rows), blocks)).astype(np.float64)


def _tails(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2


def _check(counts: NDArray[np.int64], draws: int, level: float) -> None:
    if counts.ndim < 2 or counts.shape[-1] != 4:
        raise ShapeError(f"Counts of shape {counts.shape} are not (blocks, K, 4).")
    if draws < 1 or not 0 < level < 1:
        raise ConfigError(
            f"A bootstrap with draws {draws} and level {level:g} cannot be made; draws >= 1, level inside 0..1."
        )
