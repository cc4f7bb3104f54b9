"""Honest numbers: the model beside naive baselines, per height or class, with intervals over blocks or images."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.config import EXCLUSIVE, MetricsConfig
from maskwright.data.sources.images import ImageScenes
from maskwright.data.sources.rasters import HeightRasters
from maskwright.metrics import SCORES, bootstrap, group_counts, sample_counts, verdict
from maskwright.tasks.height import Height
from maskwright.tasks.object_task import ObjectTask
from maskwright.workflows.assemble import AnySource, column_shares
from maskwright.workflows.baselines import Progress, class_baselines, gap_baselines, pseudo_counts
from maskwright.workflows.evaluation import Evaluation, ImageRow, ScoreRow
from maskwright.workflows.operating_point import OperatingPoint
from maskwright.workflows.tally import Tally, Watch, count
from maskwright.workflows.verdicts import class_verdict, sample_sentences

if TYPE_CHECKING:
    from torch import nn

    from maskwright.data.loaders import EvalLoader
    from maskwright.data.splits import Split
    from maskwright.tasks.build import AnyTask
    from maskwright.types import Place

__all__ = ["Evaluation", "Progress", "ScoreRow", "block_ids", "evaluate_part", "pixel_sizes_m"]

_TABLE_SCORES = ("precision", "recall", "f1", "iou", "mcc")
_SAMPLE_SCORES = ("precision", "recall", "f1", "accuracy")
_IOU = SCORES["iou"][0]
_SHOWN = 4  # worst and best tiles drawn on the page
Counts = NDArray[np.int64]


def evaluate_part(
    model: nn.Module,
    task: AnyTask,
    loader: EvalLoader,
    source: AnySource,
    split: Split,
    *,
    part: str,
    heights_m: Sequence[float] = (),
    metrics: MetricsConfig,
    point: OperatingPoint | None = None,
    tuned_on: tuple[AnySource, Split] | None = None,
    watch: Watch | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model on one part of the split.

    Args:
        model: Network; its mode is restored afterwards.
        task: What its outputs mean; its columns are scored.
        loader: Batches of the part's tiles, each asking all heights where heights are asked.
        source: Where images and truth come from, for the baselines.
        split: Which tile belongs where; shares come from the training part, the window of the pseudo-CHM from the
            validation part.
        part: ``val`` or ``test``.
        heights_m: Heights to score, ascending; empty for tasks that are not asked for heights.
        metrics: Number of draws, level, block and cell sizes.
        point: Where probabilities are cut; unset: at the threshold of ``metrics``.
        tuned_on: Data and split from which the baselines learn, where they are others than those that are scored.
        watch: Called with what is said and what is true of every batch, see :data:`~maskwright.workflows.tally.Watch`.
        progress: Called with (done, total, what).
    """
    teacher = tuned_on or (source, split)
    if isinstance(task, Height) and isinstance(source, HeightRasters):
        from maskwright.workflows.height_evaluation import evaluate_heights

        return evaluate_heights(
            model,
            task,
            loader,
            source,
            split,
            part=part,
            metrics=metrics,
            teacher=teacher,
            watch=watch,
            progress=progress,
        )
    started = time.monotonic()
    heights = tuple(float(h) for h in heights_m)
    point = point or OperatingPoint.fixed(task, metrics.probability_threshold)
    task = task.cut_at(point.objects) if isinstance(task, ObjectTask) else task
    sizes = pixel_sizes_m(source) if heights else None
    tally = count(model, task, loader, heights, metrics, point, pixel_size_m=sizes, watch=watch, progress=progress)
    counts, places = tally.counts, tally.places
    unit, ids = block_ids(source, split, places, metrics)
    baselines, notes = _baselines(task, source, teacher, counts, places, heights, metrics, progress)
    naive, more = _object_baselines(task, source, teacher, places)
    model_grouped = group_counts(counts, ids)
    grouped = {name: group_counts(value, ids) for name, value in baselines.items()}
    options: dict[str, Any] = {"draws": metrics.bootstrap, "level": metrics.confidence}
    sentences = (
        verdict(model_grouped, grouped, heights, seed=0, **options)
        if heights
        else class_verdict(model_grouped, grouped, task.columns, unit=unit, **options)
    )
    present = model_grouped[..., (0, 2)].sum(axis=(0, 2)) > 0
    worst, best = _extremes(counts, places, _foreground(task, source))
    return Evaluation(
        part=part,
        task=task.kind,
        columns=task.columns,
        heights_m=heights,
        score="iou",
        model=_rows(model_grouped, task.columns, heights, metrics),
        baselines={name: _rows(value, task.columns, heights, metrics) for name, value in grouped.items()},
        sentences=sentences,
        sites=_by_site(task, source, counts, places, ids, heights, metrics),
        tiles=len(places),
        unit=unit,
        blocks=len(model_grouped),
        valid_pixels=int(counts[:, 0].sum()),
        confidence=metrics.confidence,
        elapsed_s=time.monotonic() - started,
        **_mean(model_grouped, metrics),
        absent=tuple(name for name, here in zip(task.columns, present, strict=True) if not here),
        grid=[] if tally.grid is None else tally.grid.compute(),
        violations=tally.violations,
        confusion=None if tally.matrix is None else tally.matrix.tolist(),
        **_whole_images(task, source, counts, places, metrics, notes),
        probabilities=tally.curves.compute() | tally.calibration.compute(),
        reliability=tally.calibration.reliability(),
        thin=tally.thin(),
        operating_point=point.to_dict(),
        worst=worst,
        best=best,
        notes=[*notes, *more, *point.notes, *_about_thin(tally)],
        **_objects(tally),
        objects_baselines=naive,
        block_counts=dict(zip(_names_of(ids, places), model_grouped.tolist(), strict=True)),
    )


# --- what both kinds of evaluation share ------------------------------------------------------------------------------


def pixel_sizes_m(source: AnySource) -> dict[str, float]:
    """Side of a pixel in metres, by scene."""
    return {scene.name: scene.grid.pixel_size_m for scene in source.scenes}


def block_ids(
    source: AnySource, split: Split, places: Sequence[Place], metrics: MetricsConfig
) -> tuple[str, list[Hashable]]:
    """What the bootstrap draws, in words, and the id of each tile: blocks of ground, tiles, or whole images.

    Pictures are whole images unless they are so few and large that the split divides them into blocks.
    """
    if metrics.block_m is not None:
        return "block of ground", _ground_blocks(places, metrics.block_m, pixel_sizes_m(source))
    if isinstance(source, ImageScenes) and split.by != "blocks":
        return "image", [place.scene for place in places]
    return "block of ground", list(range(len(places)))


def _names_of(ids: Sequence[Hashable], places: Sequence[Place]) -> list[str]:
    """A name for each image or block, in the order in which they appear: that of its first tile."""
    first: dict[Hashable, str] = {}
    for block, place in zip(ids, places, strict=True):
        where = place.scene if block == place.scene else f"{place.scene} {place.window.row} {place.window.col}"
        first.setdefault(block, where)
    return list(first.values())


def _ground_blocks(places: Sequence[Place], block_m: float, pixel_size_m: Mapping[str, float]) -> list[Hashable]:
    ids: list[Hashable] = []
    for place in places:
        side = max(1.0, block_m / pixel_size_m[place.scene])
        centre_row = place.window.row + place.window.height / 2
        centre_col = place.window.col + place.window.width / 2
        ids.append((place.scene, int(centre_row // side), int(centre_col // side)))
    return ids


# --- inside -----------------------------------------------------------------------------------------------------------


def _baselines(
    task: AnyTask,
    source: AnySource,
    teacher: tuple[AnySource, Split],
    counts: Counts,
    places: Sequence[Place],
    heights: tuple[float, ...],
    metrics: MetricsConfig,
    progress: Progress | None,
) -> tuple[dict[str, Counts], list[str]]:
    """Counts of answers that need no training, and notes on how they were made."""
    known, split = teacher
    train_share = column_shares(task, known, split.tiles["train"])
    if not heights:
        return class_baselines(counts, train_share, exclusive=task.kind in EXCLUSIVE), []
    assert isinstance(source, HeightRasters)  # heights are asked of height rasters alone
    assert isinstance(known, HeightRasters)
    tuning = known, split.tiles["val"]
    windows, pseudo = pseudo_counts(source, tuning, places, heights, metrics.baseline_windows_m, progress)
    note = f"The pseudo-CHM opens with {', '.join(f'{w:g} m for {h:g} m' for h, w in windows.items())}."
    return gap_baselines(counts, train_share, pseudo), [note]


def _rows(
    grouped: Counts,
    columns: Sequence[str],
    heights: Sequence[float],
    metrics: MetricsConfig,
    names: Sequence[str] = _TABLE_SCORES,
) -> list[ScoreRow]:
    total = grouped.sum(axis=0)  # (K, 4)
    scores = {name: SCORES[name][0](total) for name in names}
    intervals = {
        name: bootstrap(grouped, SCORES[name][0], draws=metrics.bootstrap, level=metrics.confidence, seed=0)
        for name in names
    }
    true, called = SCORES["gap_share_true"][0](total), SCORES["gap_share_predicted"][0](total)
    return [
        ScoreRow(
            column=column,
            height_m=heights[k] if heights else None,
            scores={name: float(values[k]) for name, values in scores.items()},
            intervals={name: (float(low[k]), float(high[k])) for name, (low, high) in intervals.items()},
            share_true=float(true[k]),
            share_called=float(called[k]),
        )
        for k, column in enumerate(columns)
    ]


def _mean(grouped: Counts, metrics: MetricsConfig) -> dict[str, Any]:
    """Mean IoU of the columns that occur, with its interval; a single column counts though it does not occur."""
    total = grouped.sum(axis=0)
    kept = ~np.isnan(_IOU(total)) & ((total[:, (0, 2)].sum(axis=1) > 0) | (len(total) == 1))

    def mean(counts: Any) -> NDArray[np.float64]:
        scores = _IOU(counts)[..., kept]
        means: NDArray[np.float64] = np.nan_to_num(scores).mean(axis=-1, keepdims=True)
        return means

    if not kept.any():
        return {"mean": math.nan, "mean_interval": (math.nan, math.nan)}
    low, high = bootstrap(grouped, mean, draws=metrics.bootstrap, level=metrics.confidence, seed=0)
    return {"mean": float(mean(total)[0]), "mean_interval": (float(low[0]), float(high[0]))}


def _by_site(
    task: AnyTask,
    source: AnySource,
    counts: Counts,
    places: Sequence[Place],
    ids: Sequence[Hashable],
    heights: Sequence[float],
    metrics: MetricsConfig,
) -> dict[str, list[ScoreRow]]:
    """Rows by site; of pictures by group, where groups were made of them."""
    is_imagery = isinstance(source, ImageScenes)
    site_of = {scene.name: scene.ground if is_imagery else scene.name for scene in source.scenes}
    mine: dict[str, list[int]] = {}
    for index, place in enumerate(places):
        mine.setdefault(site_of[place.scene], []).append(index)
    if is_imagery and len(mine) == len({place.scene for place in places}):
        return {}
    return {
        site: _rows(group_counts(counts[rows], [ids[index] for index in rows]), task.columns, heights, metrics)
        for site, rows in sorted(mine.items())
    }


def _foreground(task: AnyTask, source: AnySource) -> list[int]:
    """Columns that are things, not the background."""
    if not isinstance(source, ImageScenes) or task.kind not in EXCLUSIVE:
        return list(range(len(task.columns)))
    return list(range(int(source.classes.background is not None), len(task.columns)))


def _whole_images(
    task: AnyTask,
    source: AnySource,
    counts: Counts,
    places: Sequence[Place],
    metrics: MetricsConfig,
    notes: list[str],
) -> dict[str, Any]:
    """Images as right or wrong, and a row for each; nothing for height rasters and rasters divided into blocks."""
    names = [place.scene for place in places]
    if not isinstance(source, ImageScenes) or len(set(names)) < 2:
        return {}
    columns = _foreground(task, source)
    named = [task.columns[k] for k in columns]
    images = group_counts(counts, names)[:, columns]
    decided = sample_counts(images)
    true: NDArray[np.bool_] = np.any(decided[..., (0, 2)], axis=-1)
    called: NDArray[np.bool_] = np.any(decided[..., (0, 1)], axis=-1)
    notes += sample_sentences(true, called, named)
    if len(named) > 1:
        said, has = called.any(axis=1), true.any(axis=1)
        either = np.stack((has & said, ~has & said, has & ~said, ~has & ~said), axis=-1).astype(np.int64)
        decided, named = np.concatenate((decided, either[:, None]), axis=1), [*named, "any of them"]
    rows = _image_rows(list(dict.fromkeys(names)), images, true, called, [task.columns[k] for k in columns])
    return {"samples": _rows(decided, named, (), metrics, _SAMPLE_SCORES), "images": rows}


def _image_rows(
    names: Sequence[str],
    images: Counts,
    true: NDArray[np.bool_],
    called: NDArray[np.bool_],
    columns: Sequence[str],
) -> list[ImageRow]:
    """A row for each image, the lowest overlap first; images without a class, where none was called, last."""
    together = images.sum(axis=1)  # (N, 4): all classes of an image
    iou = _IOU(together)
    pixels = images[:, 0].sum(axis=-1)
    rows = [
        ImageRow(
            image=name,
            true=tuple(column for column, here in zip(columns, true[n], strict=True) if here),
            called=tuple(column for column, here in zip(columns, called[n], strict=True) if here),
            iou=float(iou[n]),
            share_true=float((together[n, 0] + together[n, 2]) / max(pixels[n], 1)),
            share_called=float((together[n, 0] + together[n, 1]) / max(pixels[n], 1)),
        )
        for n, name in enumerate(names)
    ]
    return sorted(rows, key=lambda row: (math.isnan(row.iou), row.iou, -row.share_called, row.image))


def _extremes(
    counts: Counts, places: Sequence[Place], columns: Sequence[int]
) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """The tiles with the lowest and the highest overlap; of equals those with more wrong pixels are worse."""
    together = counts[:, columns].sum(axis=1)
    iou, wrong = _IOU(together), together[:, 1] + together[:, 2]
    known = np.flatnonzero(~np.isnan(iou))
    ordered = known[np.lexsort((-wrong[known], iou[known]))]
    worst = ordered[: min(_SHOWN, (len(ordered) + 1) // 2)]
    best = ordered[::-1][: min(_SHOWN, len(ordered) // 2)]
    return tuple(places[n] for n in worst), tuple(places[n] for n in best)


def _object_baselines(
    task: AnyTask, source: AnySource, teacher: tuple[AnySource, Split], places: Sequence[Place]
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Scores of trees found without training, and notes; nothing for tasks that find no objects."""
    known, split = teacher
    if not isinstance(task, ObjectTask) or not isinstance(source, ImageScenes) or not isinstance(known, ImageScenes):
        return {}, []
    from maskwright.workflows.tree_baselines import tree_baselines  # loads all of prediction, which few trainings need

    return tree_baselines(task, source, places, (known, split.tiles["train"]))


def _objects(tally: Tally) -> dict[str, Any]:
    """Scores of objects and their unit, for tasks that find some."""
    if tally.objects is None:
        return {}
    return {"objects": tally.objects.objects.compute(), "objects_unit": tally.objects.objects.unit}


def _about_thin(tally: Tally) -> list[str]:
    if tally.thin_step == 1:
        return []
    return [f"Outlines and skeletons were drawn on every {tally.thin_step}th tile, since there are so many."]
