"""The score and the least size from which an object counts, and how much two may overlap, chosen on validation data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maskwright.config import MetricsConfig
from maskwright.data.instance_targets import InstanceTruth
from maskwright.metrics.canopy import optimal_pairs
from maskwright.metrics.instance_meter import TrueObjects, crop_ious
from maskwright.models.duplicates import without_duplicates
from maskwright.models.grouping import group
from maskwright.objects import FoundObjects
from maskwright.tasks.object_task import ObjectTask, true_objects

if TYPE_CHECKING:
    from torch import nn

    from maskwright.data.loaders import EvalLoader

__all__ = ["ObjectPoint", "choose_object_point", "find_object_point"]

_SCORES = tuple(float(score) for score in np.round(np.arange(0.1, 0.95, 0.1), 2))
_SHARES = (0.1, 0.25, 0.5)  # of a small true object: least sizes that are tried
_SMALL = 5  # percentile of true areas that is called small
_OVERLAPS = (0.3, 0.5, 0.7)  # of discs; grouped objects share no pixel
_SAME = 0.5  # IoU from which two are one object
_MOST_TILES = 64  # settle two numbers; each is grouped once for every score
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ObjectPoint:
    """What is asked of an object before it counts.

    Attributes:
        min_score: Objects of a lower score are left out.
        min_area_px: Smaller ones are left out.
        duplicate_iou: Of two that overlap by more the better one is kept.
        f1: Of objects on the validation part, so cut.
        called: Objects found there.
        true: Objects there.
    """

    min_score: float
    min_area_px: int
    duplicate_iou: float
    f1: float
    called: int
    true: int


def find_object_point(
    model: nn.Module, task: ObjectTask, batches: EvalLoader, metrics: MetricsConfig
) -> tuple[ObjectPoint | None, tuple[str, ...]]:
    """The point by the rule of the settings, and what a person must know about the choice.

    Args:
        model: The trained network, in evaluation mode.
        task: What its outputs mean.
        batches: The validation part.
        metrics: Its fields ``operating_point`` (``max_f1``; ``precision`` or ``recall``; ``area``: as many objects as
            there are) and ``operating_value``.
    """
    tiles = list(_tiles(model, task, batches))
    true = sum(int(there.counts.sum()) for _, there in tiles)
    if not true:
        return None, ("The validation part holds no objects, so nothing could be chosen there: scores stay as set.",)
    chosen = choose_object_point(
        [found for found, _ in tiles],
        [there for _, there in tiles],
        rule=metrics.operating_point,
        least=metrics.operating_value or 0.0,
        match_distance_m=task.match_distance_m,
        min_area_px=task.grouping.min_area_px,
        duplicate_ious=_OVERLAPS if task.grouping.shapes == "discs" else (task.grouping.duplicate_iou,),
    )
    if chosen is not None and not chosen.f1:
        return None, ("No object of the validation part is found at any score, so scores stay as set.",)
    if chosen is None:
        rule = f"{metrics.operating_point} of {metrics.operating_value:g}"
        return None, (f"No score reaches a {rule} of objects on validation data, so scores stay as set.",)
    return chosen, ()


def choose_object_point(
    found: list[dict[float, FoundObjects]],
    there: list[TrueObjects],
    *,
    rule: str = "max_f1",
    least: float = 0.0,
    match_distance_m: float = 2.0,
    min_area_px: int = 1,
    duplicate_ious: Sequence[float] = (0.5,),
) -> ObjectPoint | None:
    """The best of all scores and sizes that are tried.

    Args:
        found: For each tile what is found at each least score.
        there: For each tile what is there.
        rule: ``max_f1``, ``precision`` or ``recall`` (the other one is highest while this is at least ``least``), or
            ``area``: the number found is nearest to that there.
        least: See ``rule``.
        match_distance_m: A centre this near has found an object of which a point alone is known.
        min_area_px: The least size that is set; only larger ones are tried beside it.
        duplicate_ious: Overlaps that are tried, from which two are one.

    Returns:
        None if nothing fulfils the rule. Of equals the higher F1, then the lower score and size.
    """
    known = [np.array([np.count_nonzero(crop.pixels) for crop in truth.masks])[truth.counts] for truth in there]
    areas = np.concatenate(known) if known else np.zeros(0)
    small = float(np.percentile(areas, _SMALL)) if len(areas) else 0.0
    sizes = sorted({min_area_px, *(size for share in _SHARES if (size := int(share * small)) > min_area_px)})
    best: tuple[tuple[float, ...], ObjectPoint] | None = None
    for score, overlap in itertools.product(sorted(set().union(*found)), duplicate_ious):
        single = [tile[score].pick(without_duplicates(tile[score], overlap)) for tile in found]
        tiles = [(one, truth, _meets(one, truth, match_distance_m)) for one, truth in zip(single, there, strict=True)]
        for size in sizes:
            matched, called, true = np.sum([_counts(*tile, size) for tile in tiles], axis=0).tolist()
            f1 = 2 * matched / (called + true) if called + true else 0.0
            worth = _worth(rule, least, matched, called, true, f1)
            if worth is not None and (best is None or worth > best[0]):
                best = worth, ObjectPoint(score, size, overlap, f1, called, true)
    return None if best is None else best[1]


def _worth(rule: str, least: float, matched: int, called: int, true: int, f1: float) -> tuple[float, ...] | None:
    precision, recall = matched / called if called else 0.0, matched / true if true else 0.0
    if rule == "area":
        return (-abs(called - true), f1)
    if rule == "precision":
        return (recall, f1) if called and precision >= least else None
    if rule == "recall":
        return (precision, f1) if recall >= least else None
    return (f1, -abs(called - true))


def _tiles(
    model: nn.Module, task: ObjectTask, batches: EvalLoader
) -> Iterator[tuple[dict[float, FoundObjects], TrueObjects]]:
    """What is found at each score and what is there, of every so many-th tile."""
    import torch

    device = next(model.parameters()).device
    step = max(1, -(-len(batches.places) // _MOST_TILES))
    index = 0
    with torch.inference_mode():
        for batch in batches:
            maps = task.maps(model(batch.image.to(device), None))
            arrays = {name: values.cpu().numpy() for name, values in maps.items()}
            for place, truth in enumerate(batch.instances or ()):
                index += 1
                if (index - 1) % step or not isinstance(truth, InstanceTruth):
                    continue
                one, valid = {name: values[place] for name, values in arrays.items()}, batch.valid[place].cpu().numpy()
                cuts = {
                    score: replace(task.grouping, min_score=score, min_area_px=1, duplicate_iou=1.0)
                    for score in _SCORES
                }
                yield {score: group(one, cut, valid) for score, cut in cuts.items()}, true_objects(truth, valid)


def _meets(found: FoundObjects, there: TrueObjects, match_distance_m: float) -> NDArray[np.float64]:
    """(P, T) IoU of masks; where only points are known, how near centres are, 0.5 at the largest distance allowed."""
    values = crop_ious(found.masks, there.masks, ~there.counts)
    points = np.isnan(there.diameter)
    if points.any() and len(found):
        reach = match_distance_m / (there.pixel_size_m or 1.0)
        apart = np.hypot(*np.moveaxis(found.centres[:, None] - there.centres[None, points], -1, 0))
        values[:, points] = np.where(apart <= reach, 1.0 - 0.5 * apart / reach, 0.0)
    return values


def _counts(found: FoundObjects, there: TrueObjects, meets: NDArray[np.float64], size: int) -> tuple[int, int, int]:
    """Matched, called and true objects; what meets only such that count neither way is not called."""
    kept = found.areas() >= size
    mine = meets[kept]
    pairs = optimal_pairs(mine[:, there.counts], _SAME)
    aside = np.asarray((mine[:, ~there.counts] >= _SAME).any(axis=1), np.bool_)
    aside[pairs[:, 0]] = False
    return len(pairs), int(len(mine) - aside.sum()), int(there.counts.sum())
