"""One walk through a part of the split: everything that is counted while the model answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maskwright.config import EXCLUSIVE, MetricsConfig
from maskwright.distributed import gathered, share_of, world_size
from maskwright.errors import DataError
from maskwright.metrics import (
    CalibrationMeter,
    CurveMeter,
    GridMeter,
    SkeletonMeter,
    SurfaceMeter,
    confusion_counts,
    confusion_matrix,
)
from maskwright.tasks.object_task import ObjectMeter, ObjectTask
from maskwright.training.validation import evaluation_mode
from maskwright.types import Batch, Place, Prediction
from maskwright.workflows.operating_point import OperatingPoint, answer

if TYPE_CHECKING:
    from maskwright.data.loaders import EvalLoader
    from maskwright.tasks.build import AnyTask

__all__ = ["Tally", "Watch", "count"]

Progress = Callable[[int, int, str], None]
Watch = Callable[[NDArray[Any], NDArray[Any], NDArray[np.bool_], Sequence[Place]], None]
"""Called with what is said and what is true (B, K, H, W), of classes and gaps bool, of heights metres; which pixels
count (B, H, W); and the tiles."""

_MOST_THIN_PX = 30_000_000  # skeletons and outlines of so many pixels are drawn in about a minute
_TOLERANCE_PX = 2.0


@dataclass
class Tally:
    """What was counted.

    Attributes:
        counts: (N, K, 4) TP, FP, FN, TN of each tile and column.
        places: The N tiles.
        matrix: (K, K) pixels, row = true, for classes that exclude each other.
        curves: Areas under curves.
        calibration: Whether probabilities mean what they say.
        grid: Gap shares in cells of the ground, for heights.
        skeletons: For one class: are thin things followed.
        outlines: For one class: do outlines agree, within 2 px.
        thin_step: Every so many-th tile is in these two.
        first: Tiles of the part before those that are counted here; others count them.
        violations: Pixels likelier a gap at the lower of two heights.
        objects: Of tasks of objects: what was found one by one.
    """

    curves: CurveMeter
    calibration: CalibrationMeter
    grid: GridMeter | None = None
    skeletons: SkeletonMeter | None = None
    outlines: SurfaceMeter | None = None
    thin_step: int = 1
    first: int = 0
    matrix: NDArray[np.int64] | None = None
    violations: int = 0
    objects: ObjectMeter | None = None
    places: list[Place] = field(default_factory=list)
    _chunks: list[NDArray[np.int64]] = field(default_factory=list)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(N, K, 4) int64."""
        return np.concatenate(self._chunks)

    def add(self, prediction: Prediction, called: Tensor, target: Tensor, batch: Batch) -> None:
        """Count a batch."""
        self._chunks.append(confusion_counts(called, target, batch.valid).cpu().numpy())
        self.curves.update(prediction.probs, target, batch.valid)
        self.calibration.update(prediction.probs, target, batch.valid)
        if self.grid is not None:
            self.grid.update(called, target, batch.valid, batch.where)
        if self.matrix is not None:
            ids = called.int().argmax(dim=1), target.int().argmax(dim=1)
            self.matrix += confusion_matrix(*ids, batch.valid, called.shape[1]).sum(dim=0).cpu().numpy()
        if self.skeletons is not None and self.outlines is not None:
            first = -(self.first + len(self.places)) % self.thin_step
            thin = slice(first, None, self.thin_step)
            if first < len(batch):
                self.skeletons.update(called[thin], target[thin], batch.valid[thin])
                self.outlines.update(called[thin], target[thin], batch.valid[thin])
        if prediction.violations is not None:
            self.violations += int(prediction.violations.sum())
        self.places += batch.where

    def merge(self, other: Tally) -> None:
        """Add what another one has counted of the tiles behind these."""
        self._chunks += other._chunks
        self.places += other.places
        self.violations += other.violations
        self.curves.merge(other.curves)
        self.calibration.merge(other.calibration)
        if self.grid is not None and other.grid is not None:
            self.grid.merge(other.grid)
        if self.skeletons is not None and other.skeletons is not None:
            self.skeletons.merge(other.skeletons)
        if self.outlines is not None and other.outlines is not None:
            self.outlines.merge(other.outlines)
        if self.matrix is not None and other.matrix is not None:
            self.matrix += other.matrix
        if self.objects is not None and other.objects is not None:
            self.objects.merge(other.objects)

    def thin(self) -> dict[str, float]:
        """Scores of thin things and outlines: clDice, Betti errors, boundary F1, distances in pixels."""
        if self.skeletons is None or self.outlines is None:
            return {}
        scores: dict[str, Any] = self.skeletons.compute() | self.outlines.compute()
        return {name: value for name, value in scores.items() if "@" not in name}


def count(
    model: nn.Module,
    task: AnyTask,
    loader: EvalLoader,
    heights_m: Sequence[float],
    metrics: MetricsConfig,
    point: OperatingPoint,
    *,
    pixel_size_m: Mapping[str, float] | None,
    watch: Watch | None = None,
    progress: Progress | None,
) -> Tally:
    """Walk through a part; the model's mode is restored afterwards.

    Several processes divide the part, and all get the counts of all of it, the same as one process has. Where each
    batch is to be watched, each walks through the whole part.

    Args:
        model: The network.
        task: What its outputs mean.
        loader: The tiles, each asking all heights where heights are asked.
        heights_m: The heights.
        metrics: Size of the grid's cells.
        point: Where probabilities are cut.
        pixel_size_m: Of each scene, for the grid; None: no grid.
        watch: Called with every batch.
        progress: Called with (done, total, what).

    Raises:
        DataError: If the part is empty.
    """
    numbers = range(len(loader)) if watch is not None else share_of(len(loader))
    tally = _empty(task, loader, heights_m, metrics, pixel_size_m)
    tally.first = numbers.start * loader.batch_size
    device = next(model.parameters()).device
    with evaluation_mode(model), torch.inference_mode():
        for done, batch in enumerate(loader.some(numbers), start=1):
            batch = batch.to(device)
            prediction = answer(model, task, batch, heights_m, point.temperature)
            called, target = point.called(task, prediction), task.target(batch)
            tally.add(prediction, called, target, batch)
            if isinstance(task, ObjectTask) and tally.objects is not None:
                task.count(tally.objects, prediction, batch)
            if watch is not None:
                arrays = called.bool().cpu().numpy(), target.bool().cpu().numpy(), batch.valid.cpu().numpy()
                watch(*arrays, batch.where)
            if progress is not None:
                progress(done, len(numbers), "scoring")
    if watch is None and world_size() > 1:
        counted, tally = gathered(tally), _empty(task, loader, heights_m, metrics, pixel_size_m)
        for each in counted:
            tally.merge(each)
    if not tally.places:
        raise DataError("There is no tile to score: the part of the split is empty.")
    return tally


def _empty(
    task: AnyTask,
    loader: EvalLoader,
    heights_m: Sequence[float],
    metrics: MetricsConfig,
    pixel_size_m: Mapping[str, float] | None,
) -> Tally:
    columns = task.columns
    tally = Tally(CurveMeter(columns), CalibrationMeter(columns))
    if pixel_size_m is not None and heights_m:
        tally.grid = GridMeter(metrics.grid_m, pixel_size_m, heights_m)
    if task.kind in EXCLUSIVE:
        tally.matrix = np.zeros((len(columns), len(columns)), dtype=np.int64)
    if isinstance(task, ObjectTask):
        tally.objects = task.meters()
    if task.kind == "binary":
        pixels = sum(place.window.height * place.window.width for place in loader.places)
        tally.thin_step = max(1, -(-pixels // _MOST_THIN_PX))
        tally.skeletons, tally.outlines = SkeletonMeter(columns), SurfaceMeter(columns, _TOLERANCE_PX)
    return tally
