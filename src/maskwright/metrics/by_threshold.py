"""One row of counts per image and height: scores by height, their mean, their spread and their intervals."""

from __future__ import annotations

import csv
import io
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ConfigError, ModelError, ShapeError
from maskwright.metrics.breakdown import score_groups
from maskwright.metrics.confidence import bootstrap, group_counts
from maskwright.metrics.counts import as_bool, probability_counts
from maskwright.metrics.scores import SCORES, distribution, per_image, score_named
from maskwright.types import Place, Window

__all__ = ["REPORTED", "ThresholdMeter", "height_key", "match_heights"]

REPORTED = ("iou", "precision", "recall", "f1", "mcc", "gap_share_true", "gap_share_predicted")
"""Scores a meter computes unless told otherwise; the first is the default monitor."""

Counts = NDArray[np.int64]
Heights = Sequence[float] | NDArray[Any] | Tensor


class ThresholdMeter:
    """Counts per image and height, summed over the data set before any score is taken.

    Results do not depend on batch size or order, and meters of several processes are merged without loss. Heights that
    are not listed may be scored too; they extend the table, are marked as extrapolated, and stay out of the means.

    Args:
        heights_m: Heights in metres the means are taken over; channel k of an update belongs to height k.
        probability_threshold: A pixel is called a gap above this probability, 0..1.
        scores: Names of :data:`~maskwright.metrics.scores.SCORES` to compute.

    Raises:
        ConfigError: If a score does not exist, no height is given or one twice, or the threshold is not inside 0..1.
    """

    def __init__(
        self,
        heights_m: Sequence[float],
        probability_threshold: float = 0.5,
        *,
        scores: Sequence[str] = REPORTED,
    ) -> None:
        if not 0 < probability_threshold < 1:
            raise ConfigError(f"probability_threshold: {probability_threshold:g} is not between 0 and 1.")
        self.probability_threshold = float(probability_threshold)
        self.scores = tuple(scores)
        for name in self.scores:
            score_named(name)
        self.listed_heights_m = tuple(float(height) for height in heights_m)
        if not self.listed_heights_m:
            raise ConfigError("heights_m: empty; name at least one height in metres, for example 5.")
        self._columns = {height_key(height): column for column, height in enumerate(self.listed_heights_m)}
        if len(self._columns) != len(self.listed_heights_m):
            raise ConfigError(f"heights_m: {list(self.listed_heights_m)} names a height twice; name each once.")
        self._chunks: list[tuple[NDArray[np.intp], Tensor, Tensor, tuple[Place, ...]]] = []
        self._table: tuple[Counts, tuple[Place, ...]] | None = None
        self._unplaced = 0

    # --- counting -----------------------------------------------------------------------------------------------------

    def update(
        self,
        probs: Tensor,
        target: Tensor,
        valid: Tensor | None = None,
        where: Sequence[Place] | None = None,
        heights_m: Heights | None = None,
    ) -> None:
        """Count a batch.

        Args:
            probs: (B, K, H, W) float, probabilities 0..1 (after the sigmoid).
            target: (B, K, H, W) bool, True where a gap; numbers 0 and 1 are taken as well.
            valid: (B, H, W) bool; other pixels count nowhere. Unset: all count.
            where: B places on the ground; without them images are numbered as they come.
            heights_m: (K,) or (B, K) heights in metres of the channels; unset: the listed ones, in their order.

        Raises:
            ShapeError: If sizes do not fit together.
            ModelError: If probabilities on valid pixels are not inside 0..1, for example because logits were given.
            DataError: If the target holds something else than 0 and 1.
        """
        columns = self._columns_of(probs, heights_m)
        places = self._numbered(probs) if where is None else tuple(where)
        if len(places) != len(probs):
            raise ShapeError(f"{len(places)} places do not fit {len(probs)} images; give one for each.")
        if valid is None:
            valid = torch.ones((len(probs), *probs.shape[2:]), dtype=torch.bool, device=probs.device)
        counts, refused = probability_counts(probs, as_bool(target), valid, self.probability_threshold)
        if refused.is_cpu:
            _refuse(refused)
        self._chunks.append((columns, counts, refused, places))
        self._table = None

    def merge(self, other: ThresholdMeter) -> None:
        """Add what another meter has counted, for example that of another process.

        Give places to updates that are to be merged: images numbered by two meters would share their numbers.

        Raises:
            ConfigError: If the other has other listed heights or cuts at another probability.
        """
        mine, theirs = self._identity(), other._identity()
        if mine != theirs:
            raise ConfigError(f"Meters of {theirs} and {mine} (heights_m, probability_threshold) cannot be merged.")
        counts, places = other.counts, other.places
        columns = np.array([self._column(height) for height in other.heights_m], dtype=np.intp)
        chunk = np.broadcast_to(columns, counts.shape[:2])
        self._chunks.append((chunk, torch.from_numpy(counts), torch.zeros((), dtype=torch.bool), places))
        self._table = None

    def reset(self) -> None:
        """Forget all counts, and the heights that were not listed."""
        self._chunks.clear()
        self._columns = {height_key(height): column for column, height in enumerate(self.listed_heights_m)}
        self._table = None
        self._unplaced = 0

    # --- what was counted ---------------------------------------------------------------------------------------------

    @property
    def heights_m(self) -> tuple[float, ...]:
        """The listed heights in their order, then those met besides, ascending; metres."""
        extra = sorted(height for height in self._columns if self._columns[height] >= len(self.listed_heights_m))
        return self.listed_heights_m + tuple(extra)

    @property
    def counts(self) -> Counts:
        """(N, K, 4) int64: TP, FP, FN, TN of each of :attr:`places` at each of :attr:`heights_m`."""
        return self._consolidated()[0]

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the N images lie, by scene, row and column."""
        return self._consolidated()[1]

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which :meth:`load_state_dict` continues exactly."""
        return {
            "listed_heights_m": list(self.listed_heights_m),
            "heights_m": list(self.heights_m),
            "probability_threshold": self.probability_threshold,
            "unplaced": self._unplaced,
            "counts": torch.from_numpy(self.counts.copy()),
            "places": [[p.scene, p.window.row, p.window.col, p.window.height, p.window.width] for p in self.places],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of another meter; what was here is forgotten.

        Raises:
            ConfigError: If the state belongs to other listed heights or another probability threshold.
        """
        theirs = (tuple(state["listed_heights_m"]), state["probability_threshold"])
        if theirs != self._identity():
            raise ConfigError(f"State of a meter {theirs} does not fit this one: {self._identity()}.")
        self.reset()
        columns = np.array([self._column(height) for height in state["heights_m"]], dtype=np.intp)
        places = tuple(Place(scene, Window(*numbers)) for scene, *numbers in state["places"])
        counts = state["counts"].clone()
        chunk = np.broadcast_to(columns, tuple(counts.shape[:2]))
        self._chunks.append((chunk, counts, torch.zeros((), dtype=torch.bool), places))
        self._unplaced = int(state["unplaced"])

    # --- scores -------------------------------------------------------------------------------------------------------

    def compute(self) -> dict[str, float]:
        """Scores of the whole data set.

        Returns:
            ``iou@10m`` and so on for each score and height, from counts summed over all images; and ``iou`` and so on,
            the mean over the listed heights. Not defined is nan (see :mod:`maskwright.metrics.scores`) and left out of
            the means. Gap shares have no mean.
        """
        totals = self.counts.sum(axis=0)
        results: dict[str, float] = {}
        for name in self.scores:
            function, higher_is_better = SCORES[name]
            values = function(totals)
            if higher_is_better is not None:
                results[name] = _mean(values[: len(self.listed_heights_m)])
            for height, value in zip(self.heights_m, values, strict=True):
                results[f"{name}@{height_key(height):g}m"] = float(value)
        return results

    def table(
        self,
        *,
        intervals: bool = True,
        draws: int = 1000,
        level: float = 0.95,
        seed: int = 0,
        block_ids: Sequence[Hashable] | None = None,
    ) -> list[dict[str, Any]]:
        """One row per height for reports.

        Args:
            intervals: Add ``<score>_low`` and ``<score>_high`` from a bootstrap over blocks.
            draws: Draws of the bootstrap.
            level: Level of the intervals.
            seed: Seed of the draws.
            block_ids: Block of each of :attr:`places`; unset: each place is a block.

        Returns:
            Rows with ``height_m``, ``extrapolated``, ``images``, ``valid_px``, ``tp``, ``fp``, ``fn``, ``tn`` and the
            scores.
        """
        counts, places = self._consolidated()
        blocks = group_counts(counts, places if block_ids is None else block_ids)
        totals = counts.sum(axis=0)
        rows = [self._facts(k, height, counts) for k, height in enumerate(self.heights_m)]
        for name in self.scores:
            function = SCORES[name].function
            _write(rows, name, function(totals))
            if intervals:
                low, high = bootstrap(blocks, function, draws=draws, level=level, seed=seed)
                _write(rows, f"{name}_low", low)
                _write(rows, f"{name}_high", high)
        return rows

    def to_csv(self, **options: Any) -> str:
        """:meth:`table` as comma-separated text with a head line; what is not defined is an empty cell."""
        rows = self.table(**options)
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: "" if value != value else value for name, value in row.items()} for row in rows)
        return text.getvalue()

    def spread(self, name: str = "iou", *, empty: Literal["skip", "zero", "one"] = "skip") -> list[dict[str, float]]:
        """How a score spreads over single images, one row per height.

        Args:
            name: Name of the score.
            empty: What an image without any gap, true or called, scores: left out, 0 or 1.

        Returns:
            Rows with ``height_m``, ``images`` (how many count), ``mean``, ``std``, ``median``, ``p10``, ``p90``.
        """
        spread = distribution(per_image(self.counts, score_named(name).function, empty=empty))
        return [
            {"height_m": height, **{key: float(values[k]) for key, values in spread.items()}}
            for k, height in enumerate(self.heights_m)
        ]

    def by_scene(self) -> list[dict[str, Any]]:
        """Scores of each scene at each height beside those of all scenes.

        Returns:
            Rows of :func:`~maskwright.metrics.breakdown.score_groups`; ``group`` is the scene, ``name`` for example
            ``5m``.
        """
        names = [f"{height_key(height):g}m" for height in self.heights_m]
        return score_groups(self.counts, [place.scene for place in self.places], names, self.scores)

    def summary(self) -> dict[str, dict[str, float]]:
        """What the heights have in common, by score.

        Returns:
            For each score with a direction: ``mean`` over the listed heights, ``best_height_m`` and ``worst_height_m``
            among them, and ``trend_per_m``, the slope of a straight line through the scores by height (nan with fewer
            than two heights that have a score).
        """
        totals = self.counts.sum(axis=0)[: len(self.listed_heights_m)]
        heights = np.array(self.listed_heights_m)
        summary = {}
        for name in self.scores:
            function, higher_is_better = SCORES[name]
            if higher_is_better is not None:
                summary[name] = _summarise(heights, function(totals), higher_is_better)
        return summary

    # --- inside -------------------------------------------------------------------------------------------------------

    def _identity(self) -> tuple[tuple[float, ...], float]:
        return self.listed_heights_m, self.probability_threshold

    def _column(self, height: float) -> int:
        return self._columns.setdefault(height_key(height), len(self._columns))

    def _columns_of(self, probs: Tensor, heights_m: Heights | None) -> NDArray[np.intp]:
        """Column of the table for each sample and channel, (B, K); new heights get new columns."""
        if probs.ndim != 4:
            raise ShapeError(f"probs has shape {tuple(probs.shape)}; (B, K, H, W) is needed.")
        asked = match_heights(self.listed_heights_m if heights_m is None else heights_m, *probs.shape[:2])
        if heights_m is None:
            return np.broadcast_to(np.arange(asked.shape[1]), asked.shape)
        columns = [[self._column(height) for height in row] for row in asked]
        return np.array(columns, dtype=np.intp).reshape(asked.shape)

    def _numbered(self, probs: Tensor) -> tuple[Place, ...]:
        first = self._unplaced
        self._unplaced += len(probs)
        window = Window(0, 0, *probs.shape[-2:])
        return tuple(Place(f"image_{number:06d}", window) for number in range(first, self._unplaced))

    def _consolidated(self) -> tuple[Counts, tuple[Place, ...]]:
        """All chunks as one table, sorted by place, so that the order of updates is forgotten."""
        if self._table is None:
            places = [place for *_, chunk in self._chunks for place in chunk]
            order = sorted(range(len(places)), key=lambda n: (places[n].scene, places[n].window))
            counts = np.zeros((len(places), len(self._columns), 4), dtype=np.int64)
            start = 0
            for columns, chunk_counts, refused, chunk_places in self._chunks:
                _refuse(refused)
                rows = np.arange(start, start + len(chunk_places))[:, None]
                np.add.at(counts, (rows, columns), chunk_counts.cpu().numpy())
                start += len(chunk_places)
            columns_ascending = [self._columns[height_key(height)] for height in self.heights_m]
            self._table = counts[order][:, columns_ascending], tuple(places[n] for n in order)
        return self._table

    def _facts(self, k: int, height: float, counts: Counts) -> dict[str, Any]:
        totals = counts[:, k].sum(axis=0)
        names = zip(("tp", "fp", "fn", "tn"), totals.tolist(), strict=True)
        return {
            "height_m": height,
            "extrapolated": k >= len(self.listed_heights_m),
            "images": int(np.count_nonzero(counts[:, k].sum(axis=1))),
            "valid_px": int(totals.sum()),
            **dict(names),
        }


def height_key(height_m: float) -> float:
    """A height to the millimetre, so that 0.3 in float32 and in float64 are one height."""
    return round(float(height_m), 3)


def match_heights(heights_m: Heights, batch: int, channels: int) -> NDArray[np.float64]:
    """Heights of each sample and channel, (B, K) metres, from (K,) for all samples or (B, K) for each.

    Raises:
        ShapeError: If they do not fit the channels.
    """
    array = heights_m.detach().cpu().numpy() if isinstance(heights_m, Tensor) else np.asarray(heights_m)
    heights = array.astype(np.float64)
    if heights.shape not in ((channels,), (batch, channels)):
        raise ShapeError(
            f"Heights of shape {heights.shape} do not fit {batch} samples of {channels} channels; "
            f"({channels},) or ({batch}, {channels}) is needed, one height per channel."
        )
    return np.broadcast_to(heights, (batch, channels))


def _refuse(refused: Tensor) -> None:
    if bool(refused):
        raise ModelError(
            "Values to be scored are not probabilities: some valid pixels lie outside 0..1 or are NaN. "
            "Logits need one sigmoid first; NaN means that training went wrong."
        )


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _write(rows: Iterable[dict[str, Any]], name: str, values: NDArray[np.float64]) -> None:
    for row, value in zip(rows, values, strict=True):
        row[name] = float(value)


def _summarise(heights: NDArray[np.float64], values: NDArray[np.float64], higher_is_better: bool) -> dict[str, float]:
    known = ~np.isnan(values)
    x, y = heights[known], values[known]
    ranked = y if higher_is_better else -y
    deviations = x - x.mean() if x.size else x
    return {
        "mean": _mean(values),
        "best_height_m": float(x[ranked.argmax()]) if x.size else float("nan"),
        "worst_height_m": float(x[ranked.argmin()]) if x.size else float("nan"),
        "trend_per_m": float(deviations @ y / (deviations @ deviations)) if x.size > 1 else float("nan"),
    }
