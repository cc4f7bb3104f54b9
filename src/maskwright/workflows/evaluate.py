"""Honest numbers: the model beside naive baselines, per height, with intervals over blocks of ground."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.config import MetricsConfig
from maskwright.errors import DataError
from maskwright.metrics import SCORES, bootstrap, group_counts, verdict
from maskwright.metrics.baselines import everything_counts, nothing_counts, prevalence_counts, pseudo_canopy
from maskwright.metrics.grid import GridMeter
from maskwright.workflows.assemble import gap_shares

if TYPE_CHECKING:
    from torch import nn

    from maskwright.data.loaders import EvalLoader
    from maskwright.data.sources.rasters import HeightRasters
    from maskwright.data.splits import Split
    from maskwright.tasks.height_gaps import HeightGaps
    from maskwright.types import Place

__all__ = ["Evaluation", "HeightRow", "evaluate_part"]

log = logging.getLogger("maskwright")

_TABLE_SCORES = ("precision", "recall", "f1", "iou", "mcc")
_IOU = SCORES["iou"][0]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class HeightRow:
    """Scores at one height. Intervals are (low, high); ``nan`` where a score is not defined."""

    height_m: float
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    gap_share_true: float
    gap_share_predicted: float


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one part of the split."""

    part: str
    heights_m: tuple[float, ...]
    model: list[HeightRow]
    baselines: dict[str, list[HeightRow]]
    grid: list[dict[str, float]]
    sentences: list[str]
    sites: dict[str, list[HeightRow]]
    tiles: int
    blocks: int
    valid_pixels: int
    confidence: float
    violations: int
    elapsed_s: float
    notes: list[str] = field(default_factory=list)

    @property
    def mean_iou(self) -> float:
        """Mean over heights of the IoU; heights without any gap are left out."""
        values = [row.scores["iou"] for row in self.model if not math.isnan(row.scores["iou"])]
        return float(np.mean(values)) if values else math.nan

    def at_heights(self, heights_m: Sequence[float]) -> Evaluation:
        """The same numbers at some of the heights."""
        kept = [k for k, height in enumerate(self.heights_m) if height in heights_m]
        if len(kept) == len(self.heights_m):
            return self

        def pick(rows: Sequence[Any]) -> list[Any]:
            return [rows[k] for k in kept]

        named = tuple(f"At {self.heights_m[k]:g} m " for k in kept)
        return replace(
            self,
            heights_m=tuple(pick(self.heights_m)),
            model=pick(self.model),
            baselines={name: pick(rows) for name, rows in self.baselines.items()},
            grid=pick(self.grid),
            sites={site: pick(rows) for site, rows in self.sites.items()},
            sentences=[text for text in self.sentences if text.startswith(named) or not text.startswith("At ")],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``evaluation.json``; what is not defined is None."""
        plain: dict[str, Any] = _plain(asdict(self) | {"mean_iou": self.mean_iou})
        return plain


def evaluate_part(
    model: nn.Module,
    task: HeightGaps,
    loader: EvalLoader,
    source: HeightRasters,
    split: Split,
    *,
    part: str,
    heights_m: Sequence[float],
    metrics: MetricsConfig,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model on one part of the split.

    Args:
        model: Network; its mode is restored afterwards.
        task: What its outputs mean.
        loader: Batches of the part's tiles, each asking all heights.
        source: Where surfaces and heights come from, for the baselines.
        split: Which tile belongs where; the prevalence comes from the training part, the window of the
            pseudo-CHM from the validation part.
        part: ``val`` or ``test``.
        heights_m: Heights to score, ascending.
        metrics: Number of draws, level, block and cell sizes.
        progress: Called with (done, total, what).
    """
    started = time.monotonic()
    heights = tuple(float(h) for h in heights_m)
    pixel_size_m = {scene.name: scene.grid.pixel_size_m for scene in source.scenes}
    counts, places, grid, violations = _run_model(model, task, loader, heights, metrics, pixel_size_m, progress)
    blocks = _block_ids(places, metrics.block_m, pixel_size_m)
    train_share = gap_shares(source, split.tiles["train"], heights)
    baseline_counts: dict[str, np.ndarray] = {
        "nothing is a gap": nothing_counts(counts),
        "everything is a gap": everything_counts(counts),
        "a coin with the training share": prevalence_counts(counts, train_share),
    }
    windows, pseudo = _pseudo_canopy_counts(source, split, part, places, heights, metrics, pixel_size_m, progress)
    baseline_counts["surface minus its opening"] = pseudo

    grouped = {name: group_counts(value, blocks) for name, value in baseline_counts.items()}
    model_grouped = group_counts(counts, blocks)
    notes = [f"The pseudo-CHM opens with {', '.join(f'{w:g} m for {h:g} m' for h, w in windows.items())}."]
    sites = sorted({place.scene for place in places})
    return Evaluation(
        part=part,
        heights_m=heights,
        model=_rows(model_grouped, heights, metrics),
        baselines={name: _rows(value, heights, metrics) for name, value in grouped.items()},
        grid=grid.compute(),
        sentences=verdict(model_grouped, grouped, heights, draws=metrics.bootstrap, level=metrics.confidence, seed=0),
        sites={site: _site_rows(counts, places, blocks, site, heights, metrics) for site in sites},
        tiles=len(places),
        blocks=len(model_grouped),
        valid_pixels=int(counts[:, 0].sum()),
        confidence=metrics.confidence,
        violations=violations,
        elapsed_s=time.monotonic() - started,
        notes=notes,
    )


def _run_model(
    model: nn.Module,
    task: HeightGaps,
    loader: EvalLoader,
    heights: tuple[float, ...],
    metrics: MetricsConfig,
    pixel_size_m: Mapping[str, float],
    progress: Progress | None,
) -> tuple[np.ndarray, list[Place], GridMeter, int]:
    import torch

    meter = task.meters()
    grid = GridMeter(metrics.grid_m, pixel_size_m, heights)
    violations = 0
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for done, batch in enumerate(loader, start=1):
                batch = batch.to(device)
                prediction = task.decode(model(batch.image, batch.condition), heights, valid=batch.valid)
                target = task.target(batch)
                meter.update(prediction.probs, target, batch.valid, batch.where)
                grid.update(prediction.probs > metrics.probability_threshold, target, batch.valid, batch.where)
                if prediction.violations is not None:
                    violations += int(prediction.violations.sum())
                if progress is not None:
                    progress(done, len(loader), "scoring")
    finally:
        model.train(was_training)
    if not meter.places:
        raise DataError("There is no tile to score: the part of the split is empty.")
    return meter.counts, list(meter.places), grid, violations


def _rows(grouped: np.ndarray, heights: Sequence[float], metrics: MetricsConfig) -> list[HeightRow]:
    total = grouped.sum(axis=0)  # (K, 4)
    scores = {name: SCORES[name][0](total) for name in _TABLE_SCORES}
    intervals = {
        name: bootstrap(grouped, SCORES[name][0], draws=metrics.bootstrap, level=metrics.confidence, seed=0)
        for name in _TABLE_SCORES
    }
    share_true, share_predicted = SCORES["gap_share_true"][0](total), SCORES["gap_share_predicted"][0](total)
    return [
        HeightRow(
            height_m=height,
            scores={name: float(values[k]) for name, values in scores.items()},
            intervals={name: (float(low[k]), float(high[k])) for name, (low, high) in intervals.items()},
            gap_share_true=float(share_true[k]),
            gap_share_predicted=float(share_predicted[k]),
        )
        for k, height in enumerate(heights)
    ]


def _site_rows(
    counts: np.ndarray,
    places: Sequence[Place],
    blocks: Sequence[Any],
    site: str,
    heights: Sequence[float],
    metrics: MetricsConfig,
) -> list[HeightRow]:
    mine = [index for index, place in enumerate(places) if place.scene == site]
    return _rows(group_counts(counts[mine], [blocks[index] for index in mine]), heights, metrics)


def _block_ids(places: Sequence[Place], block_m: float | None, pixel_size_m: Mapping[str, float]) -> list[Any]:
    if block_m is None:
        return list(range(len(places)))
    ids = []
    for place in places:
        side = max(1.0, block_m / pixel_size_m[place.scene])
        centre_row = place.window.row + place.window.height / 2
        centre_col = place.window.col + place.window.width / 2
        ids.append((place.scene, int(centre_row // side), int(centre_col // side)))
    return ids


def _pseudo_canopy_counts(
    source: HeightRasters,
    split: Split,
    part: str,
    places: Sequence[Place],
    heights: tuple[float, ...],
    metrics: MetricsConfig,
    pixel_size_m: Mapping[str, float],
    progress: Progress | None,
) -> tuple[dict[float, float], np.ndarray]:
    """Counts of the pseudo-CHM with, for each height, the window that did best on the validation part."""
    candidates = metrics.baseline_windows_m
    tuning = np.zeros((len(candidates), len(heights), 4), dtype=np.int64)
    tuned_on = split.tiles["val"]
    total = len(tuned_on) + len(places)
    for done, place in enumerate(tuned_on, start=1):
        tuning += _pseudo_counts(source, place, heights, candidates, pixel_size_m)
        if progress is not None:
            progress(done, total, "baselines")
    iou = np.nan_to_num(_IOU(tuning), nan=-1.0)  # (windows, K)
    best = iou.argmax(axis=0)
    counts = np.empty((len(places), len(heights), 4), dtype=np.int64)
    for index, place in enumerate(places):
        both = _pseudo_counts(source, place, heights, candidates, pixel_size_m)
        counts[index] = both[best, np.arange(len(heights))]
        if progress is not None:
            progress(len(tuned_on) + index + 1, total, "baselines")
    return {height: candidates[best[k]] for k, height in enumerate(heights)}, counts


def _pseudo_counts(
    source: HeightRasters,
    place: Place,
    heights: Sequence[float],
    windows_m: Sequence[float],
    pixel_size_m: Mapping[str, float],
) -> np.ndarray:
    """Counts (windows, K, 4) of one tile; the opening sees the ground around the tile too."""
    _, canopy, valid = source.sample(place.scene, place.window)
    sizes = [max(3, round(window / pixel_size_m[place.scene])) for window in windows_m]
    margin = max(sizes)
    surface = source.surface(place.scene, place.window.grown(margin))
    counts = np.empty((len(sizes), len(heights), 4), dtype=np.int64)
    for index, size in enumerate(sizes):
        pseudo = pseudo_canopy(surface, size)[margin:-margin, margin:-margin]
        for k, height in enumerate(heights):
            said, true = (pseudo < height) & valid, (canopy < height) & valid
            hits = np.count_nonzero(said & true)
            said_pixels, true_pixels = np.count_nonzero(said), np.count_nonzero(true)
            rest = np.count_nonzero(valid) - said_pixels - true_pixels + hits
            counts[index, k] = (hits, said_pixels - hits, true_pixels - hits, rest)
    return counts


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if math.isnan(value) else float(value)
    return value
